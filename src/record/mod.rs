//! What happened: the facts of runs, and the history that keeps them.

mod id;
mod types;

pub use id::{RUN_ID_MAX, run_id};
pub use types::*;
