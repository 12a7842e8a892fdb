//! Who is on which CPU while the search goes on.

use crate::topology::NodeSet;

use super::demand::{Demand, Want};
use super::problem::Problem;

pub(super) struct State {
    /// By task: its CPUs, sorted; empty when it is not placed.
    pub placed: Vec<Vec<usize>>,
    /// By stage: its placed tasks.
    pub tasks_of: Vec<Vec<usize>>,
    /// By CPU: tasks on it, one that holds it exclusively, and the sum of their loads.
    pub users: Vec<u32>,
    pub held: Vec<bool>,
    pub load: Vec<f64>,
    /// By core: tasks on it, and whether one keeps its siblings idle.
    pub core_users: Vec<u32>,
    pub core_held: Vec<bool>,
    /// By core: stages on it that must keep apart from some other.
    pub apart_on: Vec<Vec<usize>>,
    /// By stage: the node that `near` has settled on.
    pub node_of: Vec<Option<u32>>,
}

impl State {
    pub fn new(p: &Problem) -> Self {
        let (cpus, cores, stages) = (p.m.cpus.len(), p.m.cores.len(), p.demands.len());
        Self {
            placed: vec![vec![]; p.tasks.len()],
            tasks_of: vec![vec![]; stages],
            users: vec![0; cpus],
            held: vec![false; cpus],
            load: vec![0.0; cpus],
            core_users: vec![0; cores],
            core_held: vec![false; cores],
            apart_on: vec![vec![]; cores],
            node_of: vec![None; stages],
        }
    }

    /// May `stage` use this CPU, as things stand?
    pub fn usable(&self, p: &Problem, stage: usize, demand: &Demand, cpu: usize) -> bool {
        let core = p.m.cpus[cpu].core;
        let clash = |other: &usize| p.apart[stage].iter().any(|t| t.strict && t.with == *other);
        !self.held[cpu]
            && !self.core_held[core]
            && (!demand.exclusive || self.users[cpu] == 0)
            && (!demand.idle_siblings || self.core_users[core] == 0)
            && !self.apart_on[core].iter().any(clash)
    }

    pub fn put(&mut self, p: &Problem, task: usize, demand: &Demand, cpus: Vec<usize>) {
        let stage = p.tasks[task].stage;
        for &cpu in &cpus {
            self.users[cpu] += 1;
            self.held[cpu] |= demand.exclusive;
            self.load[cpu] += demand.load;
        }
        for core in p.m.cores_of(&cpus) {
            self.core_users[core] += 1;
            self.core_held[core] |= demand.idle_siblings;
            if !p.apart[stage].is_empty() {
                self.apart_on[core].push(stage);
            }
        }
        self.tasks_of[stage].push(task);
        self.placed[task] = cpus;
    }

    pub fn take(&mut self, p: &Problem, task: usize, demand: &Demand) {
        let stage = p.tasks[task].stage;
        let cpus = std::mem::take(&mut self.placed[task]);
        for &cpu in &cpus {
            self.users[cpu] -= 1;
            self.held[cpu] &= !demand.exclusive;
            self.load[cpu] -= demand.load;
        }
        for core in p.m.cores_of(&cpus) {
            self.core_users[core] -= 1;
            self.core_held[core] &= !demand.idle_siblings;
            if let Some(at) = self.apart_on[core].iter().rposition(|s| *s == stage) {
                self.apart_on[core].swap_remove(at);
            }
        }
        self.tasks_of[stage].pop();
    }

    /// Where what has no placement may run.
    pub fn floating<'a>(&'a self, p: &'a Problem) -> impl Iterator<Item = usize> + 'a {
        (0..self.held.len()).filter(|&c| !self.held[c] && !self.core_held[p.m.cpus[c].core])
    }

    /// CPUs (for `cores`, whole cores; for `smt: exclusive`, cores) that are open to a stage on these nodes.
    pub fn room(&self, p: &Problem, stage: usize, demand: &Demand, nodes: &NodeSet) -> usize {
        p.m.cores_on(nodes).map(|c| self.units(p, stage, demand, c)).sum()
    }

    fn units(&self, p: &Problem, stage: usize, demand: &Demand, core: usize) -> usize {
        let mut cpus = p.m.cores[core].cpus.clone();
        match demand.want {
            Want::Cores(_) => cpus.all(|c| self.usable(p, stage, demand, c)) as usize,
            _ if demand.idle_siblings => cpus.any(|c| self.usable(p, stage, demand, c)) as usize,
            _ => cpus.filter(|&c| self.usable(p, stage, demand, c)).count(),
        }
    }
}
