//! Performs the decider's actions and reports its events: processes, edges, logs, signals, time.
//!
//! One thread runs the loop (`executor`); a few make processes (`spawner`), one makes edges (`preparer`); one per bound stream moves
//! bytes between a pipe and a ring (`adapter`). Whoever wants to know what happens is an [`Observer`].

mod adapter;
mod attempt;
mod control;
mod ctl;
mod executor;
mod launch;
mod memory;
mod preparer;
mod program;
mod report;
mod spawner;
mod stores;
mod tree;
mod wiring;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

pub use executor::{Failure, execute, hold_signals};

use crate::diag::Diagnostic;
use crate::pipeline::{Pipeline, Stage};
use crate::plan::{Plan, TaskId};
use crate::record::{Fact, log_name};

/// Everything a run needs to know, fixed before it begins.
#[derive(Debug)]
pub struct Context {
    pub pipeline: Pipeline,
    pub plan: Plan,
    pub run_id: String,
    /// The pipeline file as it goes into the record.
    pub file: String,
    pub log_dir: PathBuf,
    /// Where the run socket may be made: in the first of these that can be used.
    pub runtime: Vec<PathBuf>,
    /// This program's own path: `${self}`, NEXUSFLOW_BIN.
    pub self_path: PathBuf,
    /// What stages inherit of our environment, after `env_inherit`.
    pub base_env: BTreeMap<OsString, OsString>,
    /// The limit on open files, soft and hard, that stages get: ours is raised.
    pub open_files: (u64, u64),
}

/// Is told what happens, in order. Slow ones keep their own queue.
pub trait Observer {
    fn fact(&mut self, fact: &Fact);
    /// A mistake that showed only now; the fact that follows from it comes later.
    fn trouble(&mut self, diagnostic: &Diagnostic);
}

impl Context {
    /// The stage that a task is a replica of.
    pub(crate) fn stage(&self, task: TaskId) -> &Stage {
        self.pipeline.stage(self.plan.task(task).stage)
    }

    pub(crate) fn log_path(&self, stage: &Stage, replica: u32, attempt: u32) -> PathBuf {
        self.log_dir.join(log_name(&stage.name, replica, stage.replicas, attempt))
    }
}
