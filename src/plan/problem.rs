//! The stages to be placed, what they ask, and what ties them to one another.

use std::collections::HashMap;

use crate::diag::Span;
use crate::pipeline::{Pipeline, StageId};
use crate::spec::Policy;

use super::demand::Demand;
use super::machine::Machine;

/// Enough to know where a stage belongs; a broadcast to thousands has thousands of neighbours.
const MAX_LINKS: usize = 64;
/// `near` and `apart` outweigh every edge.
const NEAR_WEIGHT: f64 = 1e6;
/// An edge whose rate is not known counts as this many bytes per second.
const USUAL_RATE: f64 = 1e8;

#[derive(Clone)]
pub(super) struct Problem<'a> {
    pub pipeline: &'a Pipeline,
    pub m: &'a Machine<'a>,
    /// By stage; `None`: not placed (it floats, or what it insists on was refused already).
    pub demands: Vec<Option<Demand>>,
    /// Every replica of every stage that has a demand.
    pub tasks: Vec<Task>,
    /// By stage: whom it is `near` to, and from whom `apart`, both ways round, with who says so.
    pub near: Vec<Vec<Tie>>,
    pub apart: Vec<Vec<Tie>>,
    /// By stage: neighbours to be close to (or, below zero, far from).
    pub links: Vec<Vec<(usize, f64)>>,
    /// Some stage will float, so a CPU must be left.
    pub floats: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub stage: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Tie {
    pub with: usize,
    /// Insisted on, not only preferred.
    pub strict: bool,
}

impl<'a> Problem<'a> {
    pub fn new(pipeline: &'a Pipeline, m: &'a Machine<'a>, demands: Vec<Option<Demand>>) -> Self {
        let count = pipeline.stages.len();
        let tasks = pipeline
            .stages
            .iter()
            .enumerate()
            .filter(|(stage, _)| demands[*stage].is_some())
            .flat_map(|(stage, s)| (0..s.replicas.max(1)).map(move |_| Task { stage }))
            .collect();
        let floats = pipeline.stages.iter().any(|s| s.placement.is_none());
        let mut problem = Self {
            pipeline,
            m,
            demands,
            tasks,
            near: vec![vec![]; count],
            apart: vec![vec![]; count],
            links: vec![vec![]; count],
            floats,
        };
        problem.tie();
        problem.link();
        problem
    }

    fn tie(&mut self) {
        for Said { a, b, near, strict, .. } in ties(self.pipeline) {
            if self.demands[a].is_none() || self.demands[b].is_none() {
                continue;
            }
            let side = if near { &mut self.near } else { &mut self.apart };
            side[a].push(Tie { with: b, strict });
            let weight = if near { NEAR_WEIGHT } else { -NEAR_WEIGHT };
            self.links[a].push((b, weight));
            if a != b {
                side[b].push(Tie { with: a, strict });
                self.links[b].push((a, weight));
            }
        }
    }

    fn link(&mut self) {
        for edge in &self.pipeline.edges {
            let weight = 1.0 + edge.rate.unwrap_or(USUAL_RATE) / USUAL_RATE;
            let placed = |ids: &[StageId]| -> Vec<usize> {
                let ids = ids.iter().map(|s| s.0 as usize).filter(|&s| self.demands[s].is_some());
                ids.take(MAX_LINKS).collect()
            };
            let (from, to) = (placed(&edge.from), placed(&edge.to));
            for (&a, &b) in from.iter().flat_map(|a| to.iter().map(move |b| (a, b))) {
                for (x, y) in [(a, b), (b, a)] {
                    if self.links[x].len() < MAX_LINKS {
                        self.links[x].push((y, weight));
                    }
                }
            }
        }
    }

    pub fn demand(&self, task: usize) -> &Demand {
        // A task is made only for a stage that has a demand.
        self.demands[self.tasks[task].stage].as_ref().expect("a task's stage has a demand")
    }
}

/// One name in a stage's `near` or `apart`.
pub(super) struct Said<'a> {
    pub a: usize,
    pub b: usize,
    pub near: bool,
    pub strict: bool,
    pub span: &'a Span,
}

pub(super) fn ties(pipeline: &Pipeline) -> Vec<Said<'_>> {
    let placements = || pipeline.stages.iter().enumerate().filter_map(|(a, s)| Some((a, s.placement.as_ref()?)));
    if placements().all(|(_, p)| p.near.is_empty() && p.apart.is_empty()) {
        return vec![];
    }
    let by_name: HashMap<&str, usize> = pipeline.stages.iter().enumerate().map(|(i, s)| (&*s.name, i)).collect();
    let mut ties = vec![];
    for (a, p) in placements() {
        let names = p.near.iter().map(|n| (n, true)).chain(p.apart.iter().map(|n| (n, false)));
        for (name, near) in names {
            if let Some(&b) = by_name.get(&*name.value) {
                ties.push(Said { a, b, near, strict: p.policy == Policy::Strict, span: &name.span });
            }
        }
    }
    ties
}
