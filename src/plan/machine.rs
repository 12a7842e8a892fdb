//! The usable CPUs, numbered 0 … n-1 with a core's CPUs in a row: what the search works on.

use std::ops::Range;

use crate::topology::{CpuSet, NodeSet, Topology};

pub(super) struct Machine<'a> {
    pub topology: &'a Topology,
    pub cpus: Vec<Cpu>,
    pub cores: Vec<Core>,
}

pub(super) struct Cpu {
    /// The system's number.
    pub id: u32,
    pub core: usize,
}

pub(super) struct Core {
    pub cpus: Range<usize>,
    pub l3: u32,
    pub node: u32,
    /// Of the node, in [`Topology::nodes`].
    pub node_index: usize,
    pub package: u32,
}

impl<'a> Machine<'a> {
    pub fn new(topology: &'a Topology) -> Self {
        let mut pus: Vec<_> = topology.pus.iter().filter(|p| topology.allowed.contains(p.id)).collect();
        pus.sort_by_key(|p| (p.core, p.id));
        let mut machine = Self { topology, cpus: Vec::with_capacity(pus.len()), cores: vec![] };
        for core in pus.chunk_by(|a, b| a.core == b.core) {
            let start = machine.cpus.len();
            machine.cpus.extend(core.iter().map(|p| Cpu { id: p.id, core: machine.cores.len() }));
            let first = core[0];
            let cpus = start..machine.cpus.len();
            let (l3, node, package) = (first.l3, first.node, first.package);
            let node_index = topology.nodes.partition_point(|n| n.id < node);
            machine.cores.push(Core { cpus, l3, node, node_index, package });
        }
        machine
    }

    pub fn ids(&self, cpus: &[usize]) -> CpuSet {
        cpus.iter().map(|&c| self.cpus[c].id).collect()
    }

    pub fn node(&self, cpu: usize) -> u32 {
        self.cores[self.cpus[cpu].core].node
    }

    /// Positions of those of `ids` that may be used.
    pub fn positions(&self, ids: &CpuSet) -> Vec<usize> {
        (0..self.cpus.len()).filter(|&c| ids.contains(self.cpus[c].id)).collect()
    }

    pub fn cpus_on(&self, nodes: &NodeSet) -> impl Iterator<Item = usize> {
        self.cores_on(nodes).flat_map(|c| self.cores[c].cpus.clone())
    }

    pub fn cores_on(&self, nodes: &NodeSet) -> impl Iterator<Item = usize> {
        (0..self.cores.len()).filter(move |&c| nodes.contains(self.cores[c].node))
    }

    /// Nodes that have a CPU to use.
    pub fn nodes(&self) -> NodeSet {
        self.cores.iter().map(|c| c.node).collect()
    }

    /// The distinct cores of a sorted list of CPUs.
    pub fn cores_of<'b>(&'b self, cpus: &'b [usize]) -> impl Iterator<Item = usize> + 'b {
        cpus.chunk_by(|&a, &b| self.cpus[a].core == self.cpus[b].core).map(|same| self.cpus[same[0]].core)
    }
}
