//! A pipeline that makes sense. Stages, edges and gangs are named by their index.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::diag::Span;
use crate::spec::{
    By, Command, Condition, Delivery, EdgeMemory, EnvInherit, Framing, Kind, OnFailure, OnFull, Placement, Scheduling,
    Scope, Signal, Spanned, Text, Wait, When,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(pub u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(pub u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GangId(pub u32);

#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub description: Option<String>,
    /// The folder of the pipeline file, absolute: relative paths start here.
    pub dir: PathBuf,
    /// Values of `vars`: they reach `shell` stages as environment variables of their own names.
    pub vars: BTreeMap<String, String>,
    pub env_inherit: EnvInherit,
    pub timeout: Option<Duration>,
    pub parallel: Option<u32>,
    pub on_failure: OnFailure,
    /// Indexed by [`StageId`], in the order of the file.
    pub stages: Vec<Stage>,
    /// Indexed by [`EdgeId`], in the order of the file.
    pub edges: Vec<Edge>,
    /// Indexed by [`GangId`]: stages that edges tie together. A stage without edges is a gang of one.
    pub gangs: Vec<Vec<StageId>>,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub name: String,
    /// Where its name stands in the file.
    pub span: Span,
    pub gang: GangId,
    pub command: Command,
    /// Where the program (first word of argv) or the shell text stands.
    pub command_span: Span,
    /// The pipeline's `env` with the stage's own on top.
    pub env: BTreeMap<String, Text>,
    /// As written; relative to [`Pipeline::dir`].
    pub cwd: Option<Text>,
    pub cwd_span: Option<Span>,
    pub user: Option<String>,
    pub user_span: Option<Span>,
    pub replicas: u32,
    /// Declared, or fed by a service.
    pub service: bool,
    pub depends_on: Vec<Dependency>,
    /// Of each attempt.
    pub timeout: Option<Duration>,
    pub restart: Option<Restart>,
    pub stop_signal: Signal,
    pub stop_timeout: Duration,
    /// `None`: floats over the CPUs that nothing holds exclusively.
    pub placement: Option<Placement>,
    pub scheduling: Scheduling,
    pub stdin: Stdin,
    pub stdout: Stdout,
    pub bind: Vec<Bind>,
    /// Edges this stage writes and reads, sorted.
    pub outputs: Vec<EdgeId>,
    pub inputs: Vec<EdgeId>,
}

/// When and how a stage's processes are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub when: When,
    /// This often within `window`.
    pub limit: u32,
    pub window: Duration,
    /// Before the first within `window`; doubled for each further one.
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    pub stage: StageId,
    pub condition: Condition,
}

#[derive(Debug, Clone, Default)]
pub enum Stdin {
    #[default]
    Null,
    /// A ring through an adapter; on a pipe edge the framing has no meaning.
    Edge {
        edge: EdgeId,
        framing: Framing,
    },
    File(Spanned<Text>),
}

#[derive(Debug, Clone, Default)]
pub enum Stdout {
    #[default]
    Log,
    Edge {
        edge: EdgeId,
        framing: Framing,
    },
    File(Spanned<Text>),
}

/// An edge given to an unmodified program as a path, `/dev/fd/N`. Its direction is the edge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    pub edge: EdgeId,
    pub framing: Framing,
    pub direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The stage reads it.
    Input,
    /// The stage writes it.
    Output,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub name: String,
    pub span: Span,
    pub kind: Kind,
    /// Each in the order of the file.
    pub from: Vec<StageId>,
    pub to: Vec<StageId>,
    /// Bytes, per ring, before rounding up to pages.
    pub capacity: u64,
    pub max_message: u64,
    pub delivery: Delivery,
    pub by: By,
    pub on_full: OnFull,
    /// Bytes that an unmodified reader has been given beyond a message before that counts as read.
    pub redeliver: u64,
    pub wait: Wait,
    /// Each object in a memory of its own.
    pub sealed: bool,
    pub memory: EdgeMemory,
    pub rate: Option<f64>,
    pub messages: Option<f64>,
}

impl Pipeline {
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0 as usize]
    }

    pub fn edge(&self, id: EdgeId) -> &Edge {
        &self.edges[id.0 as usize]
    }

    pub fn stage_ids(&self) -> impl Iterator<Item = StageId> + use<> {
        (0..self.stages.len() as u32).map(StageId)
    }

    pub fn edge_ids(&self) -> impl Iterator<Item = EdgeId> + use<> {
        (0..self.edges.len() as u32).map(EdgeId)
    }
}
