//! What is meant: names resolved to indices, the graph checked, gangs found. Pure.

mod types;
pub use types::*;
