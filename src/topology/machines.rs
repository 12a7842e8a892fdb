//! Machines for tests: trees of /sys files as real kernels write them, made from a few numbers.

use std::collections::BTreeMap;

use super::sysfs::{Tree, parse};
use super::{CpuSet, IdSet, Topology};

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";

#[derive(Debug, Clone, Default)]
pub struct MapTree {
    files: BTreeMap<String, String>,
}

impl MapTree {
    /// One file a line, `path<TAB>content`, newlines in the content written as `\n`.
    pub fn from_lines(text: &str) -> Self {
        let file = |line: &str| line.split_once('\t').map(|(p, c)| (p.to_string(), c.replace("\\n", "\n")));
        Self { files: text.lines().filter_map(file).collect() }
    }

    pub fn put(&mut self, path: &str, content: impl ToString) {
        self.files.insert(path.to_string(), content.to_string());
    }

    /// Replaces one file, or takes it away.
    pub fn change(&mut self, which: &proptest::sample::Index, content: Option<String>) {
        let path = self.files.keys().nth(which.index(self.files.len())).cloned().expect("an index inside");
        match content {
            Some(content) => self.files.insert(path, content),
            None => self.files.remove(&path),
        };
        if self.files.is_empty() {
            self.put("/", "");
        }
    }
}

impl Tree for MapTree {
    fn read(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let dir = format!("{path}/");
        let inside = self.files.range(dir.clone()..).take_while(|(p, _)| p.starts_with(&dir));
        let mut names: Vec<String> =
            inside.filter_map(|(p, _)| p[dir.len()..].split('/').next()).map(String::from).collect();
        names.dedup();
        names
    }
}

/// A regular machine; every count is per parent.
#[derive(Debug, Clone)]
pub struct Shape {
    pub packages: u32,
    pub nodes: u32,
    pub l3s: u32,
    pub cores: u32,
    pub threads: u32,
    /// CPU 0 and 1 are siblings; else CPU 0 and N.
    pub adjacent: bool,
    /// Of the L3; `None` writes no cache files.
    pub l3_kib: Option<u64>,
    pub node_gib: u64,
    /// Numbers of the nodes are multiples of this.
    pub node_step: u32,
    pub far: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            packages: 1,
            nodes: 1,
            l3s: 1,
            cores: 1,
            threads: 1,
            adjacent: false,
            l3_kib: Some(8192),
            node_gib: 16,
            node_step: 1,
            far: 20,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Machine {
    shape: Shape,
    offline: CpuSet,
    /// Nodes without CPUs behind the others, GiB each.
    extra_gib: Vec<u64>,
    pub tree: MapTree,
}

impl Machine {
    pub fn new(shape: Shape) -> Self {
        let mut machine = Self { shape, offline: IdSet::default(), extra_gib: vec![], tree: MapTree::default() };
        machine.write();
        machine
    }

    pub fn offline(mut self, cpus: &str) -> Self {
        self.offline = cpus.parse().unwrap();
        self.write();
        self
    }

    fn with_cpuless_node(mut self, gib: u64) -> Self {
        self.extra_gib.push(gib);
        self.write();
        self
    }

    pub fn topology(&self) -> Topology {
        parse(&self.tree).unwrap()
    }

    /// A container that may use only these CPUs.
    pub fn allowing(&self, cpus: &str) -> Topology {
        let t = self.topology();
        let nodes = t.node_ids();
        t.restricted(&cpus.parse().unwrap(), &nodes)
    }

    fn write(&mut self) {
        self.tree = MapTree::default();
        let s = self.shape.clone();
        let cores = s.packages * s.nodes * s.l3s * s.cores;
        let all: Vec<(u32, u32)> = (0..cores).flat_map(|c| (0..s.threads).map(move |t| (c, t))).collect();
        let id =
            |(core, thread): (u32, u32)| if s.adjacent { core * s.threads + thread } else { thread * cores + core };
        let online: Vec<(u32, u32)> = all.iter().copied().filter(|&x| !self.offline.contains(id(x))).collect();
        let among =
            |same: &dyn Fn(u32) -> bool| -> IdSet { online.iter().filter(|x| same(x.0)).map(|&x| id(x)).collect() };
        let tree = &mut self.tree;
        tree.put(&format!("{CPU}/present"), all.iter().map(|&x| id(x)).collect::<IdSet>());
        tree.put(&format!("{CPU}/online"), among(&|_| true));
        let (per_l3, per_node) = (s.cores, s.cores * s.l3s);
        let per_package = per_node * s.nodes;
        for &(core, thread) in &online {
            let dir = format!("{CPU}/cpu{}", id((core, thread)));
            tree.put(&format!("{dir}/topology/physical_package_id"), core / per_package);
            tree.put(&format!("{dir}/topology/die_id"), 0);
            tree.put(&format!("{dir}/topology/core_id"), core % per_package);
            tree.put(&format!("{dir}/topology/core_cpus_list"), among(&|c| c == core));
            let Some(kib) = s.l3_kib else { continue };
            for (index, level, kind, sharers, kib) in [
                (0, 1, "Data", among(&|c| c == core), 32),
                (1, 1, "Instruction", among(&|c| c == core), 32),
                (2, 2, "Unified", among(&|c| c == core), 1024),
                (3, 3, "Unified", among(&|c| c / per_l3 == core / per_l3), kib),
            ] {
                let dir = format!("{dir}/cache/index{index}");
                tree.put(&format!("{dir}/level"), level);
                tree.put(&format!("{dir}/type"), kind);
                tree.put(&format!("{dir}/shared_cpu_list"), sharers);
                tree.put(&format!("{dir}/size"), format!("{kib}K"));
            }
        }
        let with_cpus = s.packages * s.nodes;
        let count = with_cpus + self.extra_gib.len() as u32;
        tree.put(&format!("{NODE}/online"), (0..count).map(|n| n * s.node_step).collect::<IdSet>());
        for n in 0..count {
            let dir = format!("{NODE}/node{}", n * s.node_step);
            tree.put(&format!("{dir}/cpulist"), among(&|c| c / per_node == n));
            let distance = |to: u32| match (n == to, n.max(to) < with_cpus) {
                (true, _) => 10,
                (_, true) if n / s.nodes == to / s.nodes => 12,
                (_, true) => s.far,
                (_, false) => 24,
            };
            let row: Vec<String> = (0..count).map(|to| distance(to).to_string()).collect();
            tree.put(&format!("{dir}/distance"), row.join(" "));
            let gib = self.extra_gib.get(n.wrapping_sub(with_cpus) as usize).copied().unwrap_or(s.node_gib);
            tree.put(&format!("{dir}/meminfo"), format!("Node {n} MemTotal: {} kB\nNode {n} MemFree: 1 kB", gib << 20));
        }
    }
}

pub fn laptop() -> Machine {
    Machine::new(Shape { cores: 4, threads: 2, ..Shape::default() })
}

pub fn ryzen_7950x() -> Machine {
    Machine::new(Shape { l3s: 2, cores: 8, threads: 2, l3_kib: Some(32768), node_gib: 64, ..Shape::default() })
}

pub fn rome_2p_nps4() -> Machine {
    let shape = Shape { packages: 2, nodes: 4, l3s: 4, cores: 4, threads: 2, l3_kib: Some(16384), ..Shape::default() };
    Machine::new(Shape { far: 32, node_gib: 64, ..shape })
}

pub fn altra() -> Machine {
    Machine::new(Shape { cores: 80, l3_kib: None, node_gib: 256, ..Shape::default() })
}

pub fn spr_2p_snc4() -> Machine {
    let shape = Shape { packages: 2, nodes: 4, cores: 12, threads: 2, ..Shape::default() };
    Machine::new(Shape { far: 21, node_gib: 64, ..shape })
}

pub fn xeon_with_cxl() -> Machine {
    Machine::new(Shape { packages: 2, cores: 16, threads: 2, node_gib: 128, ..Shape::default() }).with_cpuless_node(256)
}

pub fn power9() -> Machine {
    let shape = Shape { packages: 2, cores: 16, threads: 4, adjacent: true, node_step: 8, ..Shape::default() };
    Machine::new(Shape { far: 40, node_gib: 256, ..shape })
}

pub fn one_cpu() -> Machine {
    Machine::new(Shape::default())
}
