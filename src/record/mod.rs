//! What happened: the facts of runs, and the history that keeps them.

mod dir;
pub mod human;
mod id;
mod reader;
mod rows;
mod schema;
pub mod show;
mod summary;
mod types;
mod writer;

pub use dir::{RunDir, is_alive, log_name, parse_log_name};
pub use id::{RUN_ID_MAX, run_id};
pub use reader::{NotFound, Reader};
pub use rows::{Attempt, Edge, Run, RunStatus};
pub use schema::Error;
pub use summary::{Last, StageSummary, Summary};
pub use types::*;
pub use writer::{Loss, Writer};

#[cfg(test)]
pub(crate) mod tests;
