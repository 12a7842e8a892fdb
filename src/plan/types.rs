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
