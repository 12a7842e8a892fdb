//! The values of a pipeline file, version 1, after `defaults` were merged and `vars` filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::diag::Span;

/// A value and where the file says it.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

/// Text in which only what is known at the start of a process is still open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    pub pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    /// `${replica}`: 0 … replicas-1.
    Replica,
    /// `${edge.NAME}`: the path of a bound edge, `/dev/fd/N`.
    Edge(String),
    /// `${self}`: this program's own path.
    SelfPath,
}

#[derive(Debug, Clone)]
pub struct Spec {
    /// The whole file, for a diagnostic that has no better place.
    pub span: Span,
    pub name: Spanned<String>,
    pub description: Option<String>,
    /// Resolved values of `vars` (all of them, unless the file is only being validated).
    pub vars: BTreeMap<String, String>,
    pub env: BTreeMap<String, Spanned<Text>>,
    pub env_inherit: EnvInherit,
    pub timeout: Option<Duration>,
    pub parallel: Option<u32>,
    pub on_failure: OnFailure,
    pub stages: Vec<Stage>,
    pub edges: Vec<Edge>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EnvInherit {
    #[default]
    All,
    None,
    Only(Vec<String>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What a failed stage does not touch goes on.
    #[default]
    Continue,
    /// The first failed stage stops the run.
    Stop,
}

#[derive(Debug, Clone)]
pub struct Stage {
    pub name: Spanned<String>,
    pub command: Spanned<Command>,
    pub depends_on: Vec<Dependency>,
    pub env: BTreeMap<String, Spanned<Text>>,
    /// This stage's own `env_inherit` is not in the format; the pipeline's rules.
    pub cwd: Option<Spanned<Text>>,
    pub user: Option<Spanned<String>>,
    pub replicas: Spanned<u32>,
    pub service: Option<Spanned<bool>>,
    pub timeout: Option<Duration>,
    /// `None`: never.
    pub restart: Option<Restart>,
    pub stop_signal: Signal,
    pub stop_timeout: Duration,
    pub placement: Option<Placement>,
    pub scheduling: Option<Scheduling>,
    pub stdin: Option<Spanned<Stream>>,
    pub stdout: Option<Spanned<Stream>>,
    pub bind: Vec<Bind>,
}

#[derive(Debug, Clone)]
pub struct Restart {
    pub span: Span,
    pub when: Spanned<When>,
    pub limit: u32,
    pub window: Duration,
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// `None`: not said.
    pub scope: Option<Spanned<Scope>>,
}

/// After which ends a process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    OnFailure,
    Always,
}

/// What is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Stage,
    /// All that edges tie to it.
    Gang,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// argv, no shell.
    Argv(Vec<Spanned<Text>>),
    /// `run` is given to `with` as its last argument; every `$` in it is the shell's.
    Shell { run: String, with: Vec<String> },
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

#[derive(Debug, Clone)]
pub struct Dependency {
    pub stage: Spanned<String>,
    pub condition: Condition,
    /// Where the condition stands (the stage's name in a plain list).
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Ended, and well.
    Completed,
    /// Ended, well or not.
    Exited,
    /// Its process runs.
    Started,
}

/// A signal by number; written with its name without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub i32);

#[derive(Debug, Clone)]
pub struct Placement {
    pub span: Span,
    pub cpus: Option<Spanned<Cpus>>,
    /// `None` is `auto`.
    pub numa: Option<Spanned<Vec<u32>>>,
    pub memory: Spanned<Memory>,
    pub smt: Spanned<Smt>,
    pub exclusive: Spanned<bool>,
    pub near: Vec<Spanned<String>>,
    pub apart: Vec<Spanned<String>>,
    /// Of each CPU, 0 … 1.
    pub load: f64,
    pub memory_size: Option<u64>,
    /// Bytes per second.
    pub memory_bandwidth: Option<f64>,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    /// `cpus: 2`: logical CPUs.
    Logical(u32),
    /// `cores: 2`: whole cores, one CPU of each is counted, all their CPUs are given.
    Cores(u32),
    /// `cpuset: "0-3,8"`: exactly these, sorted, without duplicates.
    Set(Vec<u32>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Memory {
    /// The system's own default: nothing is set.
    #[default]
    Default,
    Local,
    Bind,
    Preferred,
    Interleave,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Smt {
    #[default]
    Share,
    /// Not two of this stage's own CPUs on one core, nor beside another stage, where that can be had.
    Avoid,
    /// Siblings left idle.
    Exclusive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    Strict,
    Prefer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    pub class: SchedClass,
    pub nice: Option<i32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchedClass {
    #[default]
    Other,
    Batch,
    Idle,
    Fifo {
        priority: u32,
    },
    RoundRobin {
        priority: u32,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stream {
    Edge {
        edge: Spanned<String>,
        framing: Framing,
    },
    /// `stdout: { file: PATH }`, truncated at each attempt. (`stdin: { file }` reads it.)
    File(Spanned<Text>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A message is a line without its newline.
    Lines,
    /// Any piece of a byte stream.
    Raw,
    /// A record behind its length as a little-endian u32.
    U32le,
}

#[derive(Debug, Clone)]
pub struct Bind {
    pub edge: Spanned<String>,
    pub framing: Framing,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub name: Spanned<String>,
    pub from: Vec<Spanned<String>>,
    pub to: Vec<Spanned<String>>,
    pub kind: Spanned<Kind>,
    pub capacity: Spanned<u64>,
    /// `None`: a quarter of the capacity; of objects all of it.
    pub max_message: Option<Spanned<u64>>,
    pub delivery: Spanned<Delivery>,
    /// How `distribute` chooses.
    pub by: Spanned<By>,
    pub on_full: OnFull,
    pub redeliver: Option<Spanned<u64>>,
    pub wait: Wait,
    /// Each object in a memory of its own.
    pub sealed: bool,
    pub memory: EdgeMemory,
    /// Bytes per second, a hint to placement.
    pub rate: Option<f64>,
    /// Messages per second, a hint to placement.
    pub messages: Option<f64>,
}

/// Where an edge's memory lies, and in which pages.
#[derive(Debug, Clone, Default)]
pub struct EdgeMemory {
    /// Where `numa` stands, if it does.
    pub numa_span: Option<Span>,
    pub numa: EdgeNuma,
    pub hugepages: Hugepages,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EdgeNuma {
    #[default]
    Auto,
    Consumer,
    Producer,
    Node(u32),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hugepages {
    #[default]
    None,
    TwoMiB,
    OneGiB,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Ring,
    Pipe,
    Object,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Every consumer sees every message.
    #[default]
    Broadcast,
    /// Each message to one replica.
    Distribute,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// In strict turn.
    #[default]
    RoundRobin,
    /// To the one with the fewest unreleased bytes.
    LeastBacklog,
    /// As the producer says.
    Key,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFull {
    #[default]
    Block,
    DropNewest,
    DropOldest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wait {
    #[default]
    Adaptive,
    Spin,
    Block,
}
