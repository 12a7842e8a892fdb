//! The machine as a value: packages, dies, L3 caches, cores, PUs, NUMA nodes and their distances. Pure.

mod idset;
#[cfg(test)]
pub(crate) mod machines;
pub mod show;
pub mod sysfs;

pub use idset::{CpuSet, IdSet, MAX_ID, NodeSet};

/// SLIT's distance of a node to itself, and what is assumed to another where the firmware does not say.
const LOCAL_DISTANCE: u32 = 10;
const REMOTE_DISTANCE: u32 = 20;

/// One logical CPU that is online. All but `id` and `node` are numbered anew, depth first through the whole machine
/// (as hwloc's logical indexes), since the system's own core and die numbers repeat in every package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pu {
    /// The system's number: what an affinity mask and a `cpuset` name.
    pub id: u32,
    pub core: u32,
    pub l3: u32,
    pub die: u32,
    /// The system's number of its NUMA node.
    pub node: u32,
    pub package: u32,
}

/// A NUMA node; it may have no CPUs (memory behind CXL) or no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: u32,
    /// 0 where the system does not say.
    pub memory_bytes: u64,
    pub cpus: CpuSet,
    /// To every node, in the order of [`Topology::nodes`]; 10 is local.
    pub distances: Vec<u32>,
    pub hugepages: Vec<HugePages>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    pub size_bytes: u64,
    pub total: u64,
    pub free: u64,
}

/// CPUs behind one L3 cache; where none is known, the CPUs of one die on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L3 {
    pub size_bytes: Option<u64>,
    pub cpus: CpuSet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Sorted by id.
    pub pus: Vec<Pu>,
    /// Sorted by id.
    pub nodes: Vec<Node>,
    /// Indexed by [`Pu::l3`].
    pub l3s: Vec<L3>,
    /// Indexed by [`Pu::core`]: the SMT siblings.
    pub cores: Vec<CpuSet>,
    /// Present but switched off.
    pub offline: CpuSet,
    /// What this process may use of the CPUs and of the nodes' memory.
    pub allowed: CpuSet,
    pub allowed_nodes: NodeSet,
}

impl Topology {
    pub fn pu(&self, cpu: u32) -> Option<&Pu> {
        self.pus.binary_search_by_key(&cpu, |p| p.id).ok().map(|i| &self.pus[i])
    }

    pub fn node(&self, node: u32) -> Option<&Node> {
        self.node_index(node).map(|i| &self.nodes[i])
    }

    fn node_index(&self, node: u32) -> Option<usize> {
        self.nodes.binary_search_by_key(&node, |n| n.id).ok()
    }

    /// All CPUs that are online.
    pub fn online(&self) -> CpuSet {
        self.pus.iter().map(|p| p.id).collect()
    }

    pub fn node_ids(&self) -> NodeSet {
        self.nodes.iter().map(|n| n.id).collect()
    }

    /// The CPUs of `cpu`'s core, itself among them.
    pub fn siblings(&self, cpu: u32) -> CpuSet {
        self.pu(cpu).map(|p| self.cores[p.core as usize].clone()).unwrap_or_default()
    }

    pub fn cores_of(&self, cpus: &CpuSet) -> IdSet {
        cpus.iter().filter_map(|c| self.pu(c)).map(|p| p.core).collect()
    }

    pub fn nodes_of(&self, cpus: &CpuSet) -> NodeSet {
        cpus.iter().filter_map(|c| self.pu(c)).map(|p| p.node).collect()
    }

    pub fn packages(&self) -> usize {
        self.pus.iter().map(|p| p.package + 1).max().unwrap_or(0) as usize
    }

    /// SLIT's number between two nodes: 10 is local, 20 twice as far. `None` when one of them is not there.
    pub fn distance(&self, a: u32, b: u32) -> Option<u32> {
        self.nodes[self.node_index(a)?].distances.get(self.node_index(b)?).copied()
    }

    /// The same machine for a process that may use only these.
    pub fn restricted(mut self, cpus: &CpuSet, nodes: &NodeSet) -> Self {
        self.allowed = self.allowed.intersection(cpus);
        self.allowed_nodes = self.allowed_nodes.intersection(nodes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::machines;

    #[test]
    fn queries_answer_from_any_numbering() {
        let rome = machines::rome_2p_nps4().topology();
        let last = rome.pus.last().unwrap();
        assert_eq!(rome.siblings(last.id).len(), 2);
        assert!(rome.siblings(last.id).contains(last.id));
        assert_eq!(rome.distance(0, 0), Some(10));
        assert_eq!(rome.distance(0, 7), Some(32));
        assert_eq!(rome.distance(0, 99), None);
        assert!(rome.pu(9999).is_none() && rome.node(99).is_none() && rome.siblings(9999).is_empty());
        assert_eq!(rome.nodes_of(&rome.online()), rome.node_ids());
        assert_eq!(rome.cores_of(&rome.online()).len(), rome.cores.len());
    }

    #[test]
    fn restriction_keeps_the_machine_and_narrows_what_is_allowed() {
        let t = machines::laptop().topology().restricted(&"0-1,77".parse().unwrap(), &"0-3".parse().unwrap());
        assert_eq!((t.allowed.to_string(), t.allowed_nodes.to_string()), ("0-1".into(), "0".into()));
        assert_eq!(t.pus.len(), 8);
    }
}
