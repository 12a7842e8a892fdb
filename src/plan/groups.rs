//! Stages that `near` strictly ties together: each such group has to find itself one node.

use crate::topology::NodeSet;

use super::demand::Demand;
use super::problem::Problem;
use super::search::amount;
use super::state::State;

#[derive(Default)]
pub(super) struct Groups {
    pub list: Vec<Group>,
    /// By stage.
    of: Vec<Option<usize>>,
}

pub(super) struct Group {
    /// Stages, in the order of the file; some may only prefer and come later, but must then find the others on one node.
    pub members: Vec<usize>,
    /// Those that are being placed now.
    pub active: Vec<usize>,
}

impl Groups {
    pub fn new(p: &Problem, active: &[bool]) -> Self {
        let mut groups = Self { list: vec![], of: vec![None; p.demands.len()] };
        let member = |s: usize| active[s] || p.demands[s].as_ref().is_some_and(|d| !d.strict);
        let tied = |s: usize| p.near[s].iter().filter(move |t| t.strict && member(t.with)).map(|t| t.with);
        for stage in (0..p.demands.len()).filter(|&s| active[s]) {
            if groups.of[stage].is_some() || tied(stage).next().is_none() {
                continue;
            }
            let index = groups.list.len();
            groups.of[stage] = Some(index);
            let (mut members, mut next) = (vec![], vec![stage]);
            while let Some(s) = next.pop() {
                members.push(s);
                for other in tied(s) {
                    if groups.of[other].replace(index).is_none() {
                        next.push(other);
                    }
                }
            }
            members.sort_unstable();
            let active = members.iter().copied().filter(|&s| active[s]).collect();
            groups.list.push(Group { members, active });
        }
        groups
    }

    pub fn of(&self, stage: usize) -> Option<usize> {
        self.of[stage]
    }
}

impl Group {
    pub fn settle(&self, state: &mut State, node: Option<u32>) {
        self.members.iter().for_each(|&s| state.node_of[s] = node);
    }

    fn demands<'a>(&'a self, p: &'a Problem) -> impl Iterator<Item = (usize, &'a Demand)> {
        self.active.iter().filter_map(|&s| Some((s, p.demands[s].as_ref()?)))
    }

    /// The node that the members with fixed CPUs are on; `Err` when that is more than one.
    pub fn fixed_node(&self, p: &Problem) -> Result<Option<u32>, ()> {
        let nodes: NodeSet = self.demands(p).filter(|(_, d)| d.fixed()).flat_map(|(_, d)| d.nodes.iter()).collect();
        if nodes.len() > 1 { Err(()) } else { Ok(nodes.first()) }
    }

    /// Has every member, looked at alone, room on this node?
    pub fn fits(&self, p: &Problem, state: &State, node: u32) -> bool {
        let only: NodeSet = [node].into_iter().collect();
        self.demands(p).all(|(s, d)| d.nodes.contains(node) && (d.fixed() || state.room(p, s, d, &only) >= amount(d).0))
    }

    /// Nodes to try, the least loaded first; of nodes that are alike to all that is still to come, only one.
    pub fn nodes(&self, p: &Problem, state: &State, settled: &[(u32, usize)], distinct: bool) -> Vec<u32> {
        let load = |node: u32| -> (i64, u32) {
            let cores = (0..p.m.cores.len()).filter(|&c| p.m.cores[c].node == node);
            let cpus = cores.flat_map(|c| p.m.cores[c].cpus.clone());
            let (sum, count) = cpus.fold((0.0, 0), |(sum, n), c| (sum + state.load[c], n + 1));
            ((sum / f64::from(count.max(1)) * 1000.0).round() as i64, node)
        };
        let mut nodes: Vec<u32> = p.m.nodes().iter().filter(|&n| self.fits(p, state, n)).collect();
        nodes.sort_by_cached_key(|&n| load(n));
        if distinct {
            let mut seen = std::collections::BTreeSet::new();
            nodes.retain(|&n| seen.insert(alike(p, state, settled, n)));
        }
        nodes
    }
}

/// Two nodes with the same key can be swapped in every solution: the same cores in the same state, named by the same
/// stages, and no other group is settled on either.
fn alike(p: &Problem, state: &State, settled: &[(u32, usize)], node: u32) -> impl Ord + use<> {
    let cores = (0..p.m.cores.len()).filter(|&c| p.m.cores[c].node == node);
    let mut states: Vec<Vec<_>> = cores
        .map(|core| {
            let apart = state.apart_on[core].iter().map(|s| (true, true, *s as u32));
            let cpus = p.m.cores[core].cpus.clone();
            let mut cpus: Vec<_> = cpus
                .map(|c| (state.held[c] || state.core_held[core], state.users[c] > 0, u32::MAX))
                .chain(apart)
                .collect();
            cpus.sort_unstable();
            cpus
        })
        .collect();
    states.sort_unstable();
    let mut named: Vec<&NodeSet> = p.demands.iter().flatten().map(|d| &d.nodes).collect();
    named.sort_unstable();
    named.dedup();
    let named: Vec<bool> = named.iter().map(|nodes| nodes.contains(node)).collect();
    (states, named, settled.iter().filter(|(n, _)| *n == node).map(|(_, group)| *group).collect::<Vec<_>>())
}
