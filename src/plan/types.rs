//! The plan: for each task (one replica of a stage) its CPUs, nodes and memory policy, and why.

use serde::Serialize;

use crate::pipeline::StageId;
use crate::spec::Memory;
use crate::topology::{CpuSet, NodeSet};

/// One replica of one stage; the index of [`Plan::tasks`] and of everything `run` and `exec` keep per task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);

#[derive(Debug, Clone)]
pub struct Plan {
    /// All replicas of the first stage, then of the second, …
    pub tasks: Vec<Task>,
    /// Indexed by [`crate::pipeline::EdgeId`].
    pub edges: Vec<EdgePlan>,
    /// CPUs that no stage holds exclusively: where stages without placement float.
    pub floating: CpuSet,
    /// CPUs this process may use: the default of `parallel`.
    pub usable: CpuSet,
}

#[derive(Debug, Clone)]
pub struct Task {
    pub stage: StageId,
    pub replica: u32,
    /// The affinity its process starts with.
    pub cpus: CpuSet,
    /// False: floats over [`Plan::floating`].
    pub pinned: bool,
    /// Nodes of `cpus`, or those the file names: the argument of the memory policy.
    pub nodes: NodeSet,
    pub memory: MemoryPolicy,
    /// Why here, one reason a line, for people.
    pub why: Vec<String>,
    /// What `policy: prefer` gave up.
    pub gave_up: Vec<String>,
}

/// How the rings of an edge are made.
#[derive(Debug, Clone, Default)]
pub struct EdgePlan {
    /// In the order of [`crate::pipeline::Pipeline::rings`]; a pipe has none.
    pub rings: Vec<RingPlace>,
    /// Why there; empty if there is nothing to say.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPlace {
    /// Where its memory comes from; `None`: from wherever it is made.
    pub node: Option<u32>,
    /// From there or nowhere; else from elsewhere where that node has no room.
    pub strict: bool,
    /// Both its ends share one CPU: who waits must let the other run.
    pub one_cpu: bool,
}

/// As set_mempolicy(2) takes it, with [`Task::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryPolicy {
    Default,
    Local,
    Bind,
    Preferred,
    Interleave,
}

impl From<Memory> for MemoryPolicy {
    fn from(m: Memory) -> Self {
        match m {
            Memory::Default => Self::Default,
            Memory::Local => Self::Local,
            Memory::Bind => Self::Bind,
            Memory::Preferred => Self::Preferred,
            Memory::Interleave => Self::Interleave,
        }
    }
}

impl Plan {
    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.0 as usize]
    }

    pub fn task_ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        (0..self.tasks.len() as u32).map(TaskId)
    }
}
