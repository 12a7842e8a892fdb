//! Tasks: each replica of each stage is one process with a name of its own.

use super::{Pipeline, Stage};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::Spec;

/// Processes of one run.
pub const MAX_TASKS: u64 = 100_000;

impl Pipeline {
    /// All replicas of all stages.
    pub fn task_count(&self) -> u32 {
        self.stages.iter().map(|s| s.replicas).sum()
    }
}

impl Stage {
    /// What one replica is called in logs and messages: `hash@3`, or `hash` when there is only one. No name has
    /// an `@`, so no two tasks share one.
    pub fn task_name(&self, replica: u32) -> String {
        if self.replicas == 1 { self.name.clone() } else { format!("{}@{replica}", self.name) }
    }
}

pub(super) fn total(spec: &Spec) -> u64 {
    spec.stages.iter().map(|s| u64::from(s.replicas.value)).sum()
}

pub(super) fn check(spec: &Spec, found: &mut Diagnostics) {
    let total = total(spec);
    if total > MAX_TASKS
        && let Some(most) = spec.stages.iter().min_by_key(|s| std::cmp::Reverse(s.replicas.value))
    {
        let message = format!("the stages of this pipeline are {total} processes, with at most {MAX_TASKS} in one run");
        found.push(
            Diagnostic::error(codes::TOO_MANY_TASKS, message)
                .at(&most.replicas.span, format!("`{}` has the most replicas", most.name.value))
                .help("lower `replicas`, or split the pipeline"),
        );
    }
}
