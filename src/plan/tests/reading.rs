//! The constraints read once more, from the file's values and nothing of the planner's.

use super::super::Plan;
use crate::pipeline::Pipeline;
use crate::spec::{Cpus, Memory, Placement, Policy, Smt, Spanned};
use crate::topology::{CpuSet, Topology};

/// The constraints as the file format's reference tells them, read from the file's values and nothing of the planner's.
pub(super) struct Reading<'a> {
    pipeline: &'a Pipeline,
    t: &'a Topology,
    /// Stage of each task.
    tasks: Vec<usize>,
}

impl<'a> Reading<'a> {
    pub fn new(pipeline: &'a Pipeline, t: &'a Topology) -> Self {
        let tasks = pipeline.stages.iter().enumerate().flat_map(|(s, x)| (0..x.replicas).map(move |_| s)).collect();
        Self { pipeline, t, tasks }
    }

    fn placement(&self, task: usize) -> Option<&'a Placement> {
        self.pipeline.stages[self.tasks[task]].placement.as_ref()
    }

    /// May this task, looked at alone, have exactly these CPUs?
    fn fits(&self, task: usize, cpus: &CpuSet) -> bool {
        let Some(p) = self.placement(task) else { return true };
        let t = self.t;
        let nodes = t.nodes_of(cpus);
        let numa: Option<CpuSet> = p.numa.as_ref().map(|n| n.value.iter().copied().collect());
        let one_per_core = t.cores_of(cpus).len() == cpus.len();
        let all_of_node = || -> CpuSet {
            let here = |c: &u32| numa.as_ref().is_some_and(|n| n.contains(t.pu(*c).unwrap().node));
            let mine: CpuSet = t.allowed.iter().filter(here).collect();
            let first = |c: &u32| t.siblings(*c).intersection(&mine).first() == Some(*c);
            if p.smt.value == Smt::Share { mine } else { mine.iter().filter(first).collect() }
        };
        let count = match p.cpus.as_ref().map(|c| &c.value) {
            Some(Cpus::Set(ids)) => *cpus == ids.iter().copied().collect(),
            Some(Cpus::Logical(n)) => cpus.len() == *n as usize && (p.smt.value != Smt::Exclusive || one_per_core),
            Some(Cpus::Cores(n)) if p.smt.value == Smt::Exclusive => cpus.len() == *n as usize && one_per_core,
            Some(Cpus::Cores(n)) => {
                let whole = |c: u32| t.siblings(c).intersection(&t.allowed).is_subset(cpus);
                t.cores_of(cpus).len() == *n as usize && cpus.iter().all(whole)
            }
            None if numa.is_some() => *cpus == all_of_node(),
            None => cpus.len() == 1,
        };
        let needs_nodes = !matches!(p.memory.value, Memory::Default | Memory::Local);
        count
            && !cpus.is_empty()
            && cpus.is_subset(&t.allowed)
            && numa.as_ref().is_none_or(|n| nodes.is_subset(n) && n.is_subset(&t.node_ids()))
            && (!needs_nodes || numa.as_ref().unwrap_or(&nodes).is_subset(&t.allowed_nodes))
    }

    /// May these two be where they are at once?
    fn together(&self, (a, x): (usize, &CpuSet), (b, y): (usize, &CpuSet)) -> bool {
        let (Some(p), Some(q)) = (self.placement(a), self.placement(b)) else { return true };
        let names = |list: &[Spanned<String>], task: usize| {
            list.iter().any(|n| n.value == self.pipeline.stages[self.tasks[task]].name)
        };
        let insists = |p: &Placement, q: usize, list: fn(&Placement) -> &Vec<Spanned<String>>| {
            p.policy == Policy::Strict && names(list(p), q)
        };
        let strict = |p: &Placement| p.policy == Policy::Strict;
        let own_core = |p: &Placement| strict(p) && p.smt.value == Smt::Exclusive;
        let one_core = !self.t.cores_of(x).is_disjoint(&self.t.cores_of(y));
        let is_near = insists(p, b, |p| &p.near) || insists(q, a, |p| &p.near);
        let is_apart = insists(p, b, |p| &p.apart) || insists(q, a, |p| &p.apart);
        !((strict(p) && p.exclusive.value || strict(q) && q.exclusive.value) && !x.is_disjoint(y))
            && !((own_core(p) || own_core(q)) && one_core)
            && !(is_near && self.t.nodes_of(&x.union(y)).len() != 1)
            && !(is_apart && one_core)
    }

    fn floating(&self, placed: &[CpuSet]) -> CpuSet {
        let taken = (0..placed.len()).filter_map(|i| Some((self.placement(i)?, &placed[i]))).flat_map(|(p, cpus)| {
            let whole = p.policy == Policy::Strict && p.smt.value == Smt::Exclusive;
            let exclusive = p.policy == Policy::Strict && p.exclusive.value;
            cpus.iter().flat_map(move |c| {
                match (whole, exclusive) {
                    (true, _) => self.t.siblings(c),
                    (_, true) => [c].into_iter().collect(),
                    _ => CpuSet::default(),
                }
                .iter()
                .collect::<Vec<_>>()
            })
        });
        self.t.allowed.difference(&taken.collect())
    }

    /// The first thing that is wrong with a plan.
    pub fn wrong(&self, plan: &Plan) -> Option<String> {
        let cpus: Vec<CpuSet> = plan.tasks.iter().map(|t| t.cpus.clone()).collect();
        if plan.tasks.len() != self.tasks.len() {
            return Some("tasks are missing".into());
        }
        for (i, task) in plan.tasks.iter().enumerate() {
            if task.stage.0 as usize != self.tasks[i] || task.cpus.is_empty() || !task.cpus.is_subset(&self.t.allowed) {
                return Some(format!("task {i} is wrong: {task:?}"));
            }
            match self.placement(i) {
                None if task.pinned || task.cpus != plan.floating => return Some(format!("task {i} does not float")),
                Some(p) if p.policy == Policy::Strict && !self.fits(i, &task.cpus) => {
                    return Some(format!("task {i} has {}", task.cpus));
                }
                _ => {}
            }
            if (0..i).any(|j| !self.together((j, &cpus[j]), (i, &cpus[i]))) {
                return Some(format!("task {i} clashes: {:?}", cpus));
            }
        }
        (!plan.floating.is_subset(&self.floating(&cpus))).then(|| "floats over exclusive CPUs".into())
    }

    /// Is there any placement at all? Tries all of them.
    pub fn possible(&self, placed: &mut Vec<CpuSet>) -> bool {
        let task = placed.len();
        if task == self.tasks.len() {
            let floats = self.pipeline.stages.iter().any(|s| s.placement.is_none());
            return !floats || !self.floating(placed).is_empty();
        }
        let ids: Vec<u32> = self.t.allowed.iter().collect();
        (1u32..1 << ids.len()).any(|mask| {
            let cpus: CpuSet = ids.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, c)| *c).collect();
            // What floats has no CPUs of its own here.
            let ok = match self.placement(task) {
                None => mask == 1,
                Some(_) => {
                    self.fits(task, &cpus)
                        && (0..task).all(|other| self.together((other, &placed[other]), (task, &cpus)))
                }
            };
            ok && {
                placed.push(cpus);
                let found = self.possible(placed);
                placed.pop();
                found
            }
        })
    }
}
