//! What is meant: names resolved to indices, the graph checked, gangs found. Pure.

mod bindings;
mod build;
mod edges;
mod files;
mod gangs;
mod graph;
mod names;
mod order;
mod placement;
mod restarts;
mod rings;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod told;
mod types;
mod waits;
pub mod words;

pub use build::build;
pub use edges::{MAX_MESSAGE, longest_message};
pub use order::Dependents;
pub use rings::{MAX_CONSUMERS_PER_RING, MAX_RING_MEMORY, MAX_RINGS_PER_EDGE, Replica, RingPlan};
pub use tasks::MAX_TASKS;
pub use types::*;
