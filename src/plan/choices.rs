//! The ways to give one task its CPUs, best first, without those that differ only by swapping like cores.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::topology::NodeSet;

use super::demand::{Demand, Want};
use super::problem::Problem;
use super::state::State;

/// Of a linked stage, as many replicas are looked at.
const MAX_LINKED_TASKS: usize = 8;

/// Walks the combinations lazily: from each core in turn some of its open CPUs, or none.
pub(super) struct Choices {
    slots: Vec<Slot>,
    /// Units in the slots from each one on.
    rest: Vec<usize>,
    frames: Vec<Frame>,
    /// By class: how many frames took nothing of it. Once one did, the like cores after it are not tried.
    skipped: Vec<u32>,
    remaining: usize,
    started: bool,
}

struct Slot {
    /// Open CPUs, the least loaded first.
    cpus: Vec<usize>,
    /// A whole core is one unit; otherwise a CPU is.
    whole: bool,
    most: usize,
    preferred: usize,
    class: usize,
}

struct Frame {
    option: usize,
    taken: usize,
}

impl Choices {
    /// `nodes`: where it may be; those of the demand, or what `near` left of them. Cores that are alike need not be told
    /// from one another where only the `first` choice is asked for.
    pub fn new(p: &Problem, state: &State, task: usize, demand: &Demand, nodes: &NodeSet, first: bool) -> Self {
        let stage = p.tasks[task].stage;
        let (wanted, whole) = match demand.want {
            Want::Cpus(n) => (n, false),
            Want::Cores(n) => (n, true),
            Want::Fixed(_) => unreachable!("fixed CPUs are no choice"),
        };
        let mut classes = HashMap::new();
        let mut slots: Vec<(usize, Slot)> = vec![];
        for core in p.m.cores_on(nodes) {
            let all = &p.m.cores[core].cpus;
            let mut cpus: Vec<usize> = all.clone().filter(|&c| state.usable(p, stage, demand, c)).collect();
            if cpus.is_empty() || (whole && cpus.len() < all.len()) {
                continue;
            }
            let next = classes.len();
            let class = if first { 0 } else { *classes.entry(class(p, state, core, &cpus)).or_insert(next) };
            cpus.sort_by_key(|&c| (thousandths(state.load[c]), state.users[c], c));
            let most = if whole || demand.idle_siblings { 1 } else { cpus.len() };
            slots.push((core, Slot { cpus, whole, most, preferred: 1, class }));
        }
        rank(p, state, stage, demand, wanted, &mut slots);
        let slots: Vec<Slot> = slots.into_iter().map(|(_, slot)| slot).collect();
        let mut rest: Vec<usize> =
            slots.iter().rev().scan(0, |sum, s| Some(*sum + s.most).inspect(|n| *sum = *n)).collect();
        rest.reverse();
        Self { slots, rest, frames: vec![], skipped: vec![0; classes.len().max(1)], remaining: wanted, started: false }
    }

    /// What the `k`-th option of a slot takes: the preferred number, then more to fewer, at last nothing.
    fn option(&self, slot: usize, k: usize) -> Option<usize> {
        let s = &self.slots[slot];
        if self.skipped[s.class] > 0 {
            return (k == 0).then_some(0);
        }
        let most = s.most.min(self.remaining);
        let preferred = s.preferred.min(most);
        match k {
            0 => Some(preferred),
            _ if k > most => None,
            _ if k == most => Some(0),
            _ => (1..=most).rev().filter(|n| *n != preferred).nth(k - 1),
        }
    }

    fn push(&mut self, option: usize, taken: usize) {
        if taken == 0 {
            self.skipped[self.slots[self.frames.len()].class] += 1;
        }
        self.remaining -= taken;
        self.frames.push(Frame { option, taken });
    }

    /// Turns the last slot that has another option to it.
    fn turn(&mut self) -> bool {
        while let Some(Frame { option, taken }) = self.frames.pop() {
            let slot = self.frames.len();
            self.remaining += taken;
            if taken == 0 {
                self.skipped[self.slots[slot].class] -= 1;
            }
            if let Some(taken) = self.option(slot, option + 1) {
                self.push(option + 1, taken);
                return true;
            }
        }
        false
    }
}

impl Iterator for Choices {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        if self.started && !self.turn() {
            return None;
        }
        self.started = true;
        while self.remaining > 0 {
            let slot = self.frames.len();
            if self.rest.get(slot).is_some_and(|rest| *rest >= self.remaining) {
                let taken = self.option(slot, 0)?;
                self.push(0, taken);
            } else if !self.turn() {
                return None;
            }
        }
        let mut cpus: Vec<usize> = vec![];
        for (frame, slot) in self.frames.iter().zip(&self.slots) {
            let count = if slot.whole { frame.taken * slot.cpus.len() } else { frame.taken };
            cpus.extend(&slot.cpus[..count]);
        }
        cpus.sort_unstable();
        Some(cpus)
    }
}

/// Cores with the same key are alike to every hard constraint that is still to come.
fn class(p: &Problem, state: &State, core: usize, open: &[usize]) -> (u32, usize, usize, usize, bool, Vec<usize>) {
    let c = &p.m.cores[core];
    let fresh = open.iter().filter(|&&cpu| state.users[cpu] == 0).count();
    let mut apart = state.apart_on[core].clone();
    apart.sort_unstable();
    apart.dedup();
    (c.node, c.cpus.len(), open.len(), fresh, state.core_users[core] > 0, apart)
}

/// What a group of cores (an L3 or a node) can offer.
#[derive(Default, Clone)]
struct Group {
    id: usize,
    node: u32,
    package: u32,
    units: usize,
    /// Units that this task would not overload.
    calm: usize,
    cores: usize,
    load: f64,
    pull: f64,
}

impl Group {
    fn key(&self, wanted: usize) -> impl Ord + use<> {
        let load = self.load / self.units.max(1) as f64;
        let fits = (self.calm >= wanted, self.units >= wanted);
        Reverse((fits, thousandths(self.pull), Reverse(thousandths(load)), Reverse(self.id)))
    }
}

/// Sorts the cores: a home (an L3, or else a node) that has room and is close to the neighbours, then by distance from it.
fn rank(p: &Problem, state: &State, stage: usize, demand: &Demand, wanted: usize, slots: &mut [(usize, Slot)]) {
    let near = neighbours(p, state, stage);
    let calm =
        |slot: &Slot| slot.cpus.iter().filter(|&&c| state.load[c] + demand.load <= 1.0 + 1e-9).count().min(slot.most);
    let gather = |count: usize, of: &dyn Fn(usize) -> usize| -> Vec<Group> {
        let mut groups: Vec<Group> = vec![Group::default(); count];
        for (core, slot) in slots.iter() {
            let (id, c) = (of(*core), &p.m.cores[*core]);
            let g = &mut groups[id];
            if g.cores == 0 {
                let pull = near.iter().map(|(n, w)| w * closeness(p, *core, *n)).sum();
                *g = Group { id, node: c.node, package: c.package, pull, ..Group::default() };
            }
            g.units += slot.most;
            g.calm += calm(slot);
            g.cores += 1;
            g.load += slot.cpus.iter().map(|&c| state.load[c]).sum::<f64>();
        }
        groups.retain(|g| g.cores > 0);
        groups.sort_by_cached_key(|g| g.key(wanted));
        groups
    };
    let l3s = gather(p.m.topology.l3s.len(), &|core| p.m.cores[core].l3 as usize);
    let Some(mut home) = l3s.first().cloned() else { return };
    let mut home_cores = home.cores;
    if home.calm < wanted {
        let nodes = gather(p.m.topology.nodes.len(), &|core| p.m.cores[core].node_index);
        let node = &nodes[0];
        home = l3s.iter().find(|l3| l3.node == node.node).unwrap_or(&home).clone();
        if home.units < wanted {
            home_cores = if node.units >= wanted { node.cores } else { slots.len() };
        }
    }
    let mut l3_rank = vec![0; p.m.topology.l3s.len()];
    l3s.iter().enumerate().for_each(|(rank, l3)| l3_rank[l3.id] = rank);
    let first_busy = demand.avoid_siblings;
    let distances = p.m.topology.node(home.node).map_or(&[][..], |n| &n.distances);
    slots.sort_by_cached_key(|(core, slot)| {
        let c = &p.m.cores[*core];
        let distance = distances.get(c.node_index).copied().unwrap_or(u32::MAX);
        let overloaded = calm(slot) == 0;
        let busy = overloaded || state.core_users[*core] > 0;
        let load: f64 = p.m.cores[*core].cpus.clone().map(|c| state.load[c]).sum();
        let (node, l3) = ((c.node != home.node, c.package != home.package, distance, c.node), l3_rank[c.l3 as usize]);
        (node, first_busy && busy, c.l3 as usize != home.id, l3, overloaded, busy, thousandths(load), *core)
    });
    // Distinct cores before siblings: within the home where CPUs may share, over all where they should not.
    let over = if demand.avoid_siblings { slots.len() } else { home_cores };
    slots.iter_mut().for_each(|(_, s)| s.preferred = wanted.div_ceil(over.max(1)).min(s.most));
}

/// Cores of placed neighbours and what they weigh.
fn neighbours(p: &Problem, state: &State, stage: usize) -> Vec<(usize, f64)> {
    let mut near = vec![];
    for &(other, weight) in &p.links[stage] {
        for &task in state.tasks_of[other].iter().take(MAX_LINKED_TASKS) {
            near.extend(state.placed[task].first().map(|&cpu| (p.m.cpus[cpu].core, weight)));
        }
    }
    near
}

/// 1 behind the same L3, less the farther, 0 in another package.
pub(super) fn closeness(p: &Problem, a: usize, b: usize) -> f64 {
    let (a, b) = (&p.m.cores[a], &p.m.cores[b]);
    match () {
        _ if a.l3 == b.l3 && a.node == b.node => 1.0,
        _ if a.node == b.node => 0.6,
        _ if a.package == b.package => 0.2,
        _ => 0.0,
    }
}

/// Loads and weights compared as whole numbers: the same order on every run, whatever the order of additions.
fn thousandths(x: f64) -> i64 {
    (x * 1000.0).round() as i64
}
