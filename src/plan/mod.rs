//! What will be done: Pipeline + Topology → Plan, every hard constraint honoured or named. Pure.

mod types;
pub use types::*;
