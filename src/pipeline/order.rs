//! The order of stages, for whoever starts and stops them.

use super::graph::Graph;
use super::{Pipeline, StageId};
use crate::spec::Condition;

/// For each stage those that wait for it.
#[derive(Debug, Clone)]
pub struct Dependents {
    first: Vec<u32>,
    list: Vec<(StageId, Condition)>,
}

impl Dependents {
    /// In the order of the file.
    pub fn of(&self, stage: StageId) -> &[(StageId, Condition)] {
        &self.list[self.first[stage.0 as usize] as usize..self.first[stage.0 as usize + 1] as usize]
    }
}

impl Pipeline {
    /// Every stage after all it depends on; among equals in the order of the file.
    pub fn topological(&self) -> Vec<StageId> {
        self.dependents_graph().order().into_iter().map(StageId).collect()
    }

    pub fn dependents(&self) -> Dependents {
        let graph = self.dependents_graph();
        let conditions: Vec<_> = self.stages.iter().flat_map(|s| s.depends_on.iter().map(|d| d.condition)).collect();
        let mut first = Vec::with_capacity(self.stages.len() + 1);
        let mut list = Vec::with_capacity(conditions.len());
        first.push(0);
        for stage in self.stage_ids() {
            list.extend(graph.of(stage.0).iter().map(|a| (StageId(a.to), conditions[a.index as usize])));
            first.push(list.len() as u32);
        }
        Dependents { first, list }
    }

    fn dependents_graph(&self) -> Graph {
        let waits = self.stage_ids().flat_map(|s| self.stage(s).depends_on.iter().map(move |d| (d.stage.0, s.0)));
        Graph::new(self.stages.len(), &waits.collect::<Vec<_>>())
    }
}
