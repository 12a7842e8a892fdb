//! Reads a [`Topology`] from the files under /sys/devices/system, given as a tree of texts. Pure.
//!
//! What a kernel leaves out has a sensible stand-in (no NUMA: one node; no cache files: a die is an L3); what it says
//! but cannot be is an error that names the file and quotes it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;

use super::{CpuSet, HugePages, IdSet, L3, LOCAL_DISTANCE, Node, NodeSet, Pu, REMOTE_DISTANCE, Topology};

/// As many nodes as a kernel can be built for: a limit, since distances grow with its square.
pub const MAX_NODES: usize = 1024;
/// No CPU has more caches than this.
const MAX_CACHES: usize = 64;

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";

/// Texts by absolute path: the real /sys and /proc, or a test's.
pub trait Tree {
    /// `None` where there is no such file or it cannot be read.
    fn read(&self, path: &str) -> Option<String>;
    /// Names of the entries of a directory; none where there is no such directory.
    fn list(&self, path: &str) -> Vec<String>;
}

/// A file that says what cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub path: String,
    pub content: String,
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.content.trim().chars().take(80).collect();
        write!(f, "{} holds `{}`: {}", self.path, shown.escape_debug(), self.reason)
    }
}

impl std::error::Error for Error {}

pub fn parse(tree: &dyn Tree) -> Result<Topology, Error> {
    let online = online_cpus(tree)?;
    let nodes = nodes(tree, &online)?;
    let node_of = node_of_cpu(&nodes)?;
    let first_node = nodes[0].id;
    let raw = online
        .iter()
        .map(|cpu| raw_pu(tree, cpu, node_of.get(&cpu).copied().unwrap_or(first_node)))
        .collect::<Result<Vec<_>, Error>>()?;
    let offline = match list_file(tree, &format!("{CPU}/present"))? {
        Some(present) => present.difference(&online),
        None => CpuSet::default(),
    };
    // A node without memory can hold none; where no file says a size, believe that each has some.
    let silent = nodes.iter().all(|n| n.memory_bytes == 0);
    let allowed_nodes = nodes.iter().filter(|n| silent || n.memory_bytes > 0).map(|n| n.id).collect();
    let (pus, l3s, cores) = number(raw);
    Ok(Topology { pus, nodes, l3s, cores, offline, allowed: online, allowed_nodes })
}

fn online_cpus(tree: &dyn Tree) -> Result<CpuSet, Error> {
    for name in ["online", "present"] {
        let path = format!("{CPU}/{name}");
        if let Some(cpus) = list_file(tree, &path)? {
            if cpus.is_empty() {
                return Err(Error { path, content: String::new(), reason: "no CPU at all".into() });
            }
            return Ok(cpus);
        }
    }
    let cpus = numbered(tree, CPU, "cpu");
    match cpus.is_empty() {
        true => Err(Error { path: CPU.into(), content: String::new(), reason: "it names no CPU".into() }),
        false => Ok(cpus),
    }
}

/// What one CPU's files say, in the system's numbers. `core` and `l3` are named by the lowest CPU that shares them.
struct RawPu {
    id: u32,
    package: i64,
    die: i64,
    node: u32,
    l3: L3Key,
    l3_bytes: Option<u64>,
    core: CoreKey,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum CoreKey {
    LowestSibling(u32),
    /// Package, die, core id: where there is no list of siblings.
    Ids(i64, i64, i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum L3Key {
    LowestSharer(u32),
    /// Package, die and node: where no L3 is known.
    Stand(i64, i64, u32),
}

fn raw_pu(tree: &dyn Tree, id: u32, node: u32) -> Result<RawPu, Error> {
    let at = |name: &str| format!("{CPU}/cpu{id}/topology/{name}");
    // -1 is what kernels say where the firmware is silent.
    let package = number_file(tree, &at("physical_package_id"))?.unwrap_or(-1);
    let die = number_file(tree, &at("die_id"))?.unwrap_or(-1);
    let siblings = match own_list(tree, &at("core_cpus_list"), id)? {
        Some(cpus) => Some(cpus),
        None => own_list(tree, &at("thread_siblings_list"), id)?,
    };
    let core = match siblings.and_then(|s| s.first()) {
        Some(lowest) => CoreKey::LowestSibling(lowest),
        None => match number_file(tree, &at("core_id"))? {
            Some(core) if core >= 0 => CoreKey::Ids(package, die, core),
            _ => CoreKey::LowestSibling(id),
        },
    };
    let (l3, l3_bytes) = match l3(tree, id)? {
        Some((lowest, bytes)) => (L3Key::LowestSharer(lowest), bytes),
        None => (L3Key::Stand(package, die, node), None),
    };
    Ok(RawPu { id, package, die, node, l3, l3_bytes, core })
}

/// The lowest sharer of the CPU's L3 and its size.
fn l3(tree: &dyn Tree, cpu: u32) -> Result<Option<(u32, Option<u64>)>, Error> {
    let dir = format!("{CPU}/cpu{cpu}/cache");
    for index in numbered(tree, &dir, "index").iter().take(MAX_CACHES) {
        let at = |name: &str| format!("{dir}/index{index}/{name}");
        if number_file(tree, &at("level"))? != Some(3) || text(tree, &at("type")).is_some_and(|t| t == "Instruction") {
            continue;
        }
        let Some(lowest) = own_list(tree, &at("shared_cpu_list"), cpu)?.and_then(|s| s.first()) else { continue };
        return Ok(Some((lowest, size_file(tree, &at("size"))?)));
    }
    Ok(None)
}

/// Numbers packages, dies, L3s and cores anew, depth first, groups in the order of their lowest CPU.
fn number(mut raw: Vec<RawPu>) -> (Vec<Pu>, Vec<L3>, Vec<CpuSet>) {
    let package = lowest_by(&raw, |p| p.package);
    let die = lowest_by(&raw, |p| (p.package, p.die));
    let node = lowest_by(&raw, |p| p.node);
    let l3 = lowest_by(&raw, |p| p.l3);
    let core = lowest_by(&raw, |p| p.core);
    raw.sort_by_cached_key(|p| {
        (package[&p.package], die[&(p.package, p.die)], node[&p.node], l3[&p.l3], core[&p.core], p.id)
    });
    let (mut packages, mut dies, mut l3s, mut cores) = (Numbers::new(), Numbers::new(), Numbers::new(), Numbers::new());
    let mut l3_bytes = BTreeMap::new();
    let mut pus: Vec<Pu> = raw
        .iter()
        .map(|p| Pu {
            id: p.id,
            package: packages.of(p.package),
            die: dies.of((p.package, p.die)),
            node: p.node,
            l3: l3s.of(p.l3),
            core: cores.of(p.core),
        })
        .collect();
    for (p, r) in pus.iter().zip(&raw) {
        l3_bytes.entry(p.l3).or_insert(r.l3_bytes);
    }
    let members = |count: usize, of: fn(&Pu) -> u32| -> Vec<CpuSet> {
        let mut sets = vec![Vec::new(); count];
        pus.iter().for_each(|p| sets[of(p) as usize].push(p.id));
        sets.into_iter().map(|ids| ids.into_iter().collect()).collect()
    };
    let cores = members(cores.0.len(), |p| p.core);
    let l3s = members(l3s.0.len(), |p| p.l3);
    let l3s = l3s.into_iter().zip(l3_bytes.into_values()).map(|(cpus, size_bytes)| L3 { size_bytes, cpus }).collect();
    pus.sort_by_key(|p| p.id);
    (pus, l3s, cores)
}

/// New numbers in the order of first sight.
struct Numbers<K>(HashMap<K, u32>);

impl<K: Eq + Hash> Numbers<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn of(&mut self, key: K) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(key).or_insert(next)
    }
}

fn lowest_by<K: Eq + Hash>(raw: &[RawPu], key: impl Fn(&RawPu) -> K) -> HashMap<K, u32> {
    let mut lowest = HashMap::new();
    for p in raw {
        let seen = lowest.entry(key(p)).or_insert(p.id);
        *seen = p.id.min(*seen);
    }
    lowest
}

fn nodes(tree: &dyn Tree, online: &CpuSet) -> Result<Vec<Node>, Error> {
    let path = format!("{NODE}/online");
    let ids: NodeSet = match list_file(tree, &path)? {
        Some(ids) => ids,
        None => numbered(tree, NODE, "node"),
    };
    if ids.len() > MAX_NODES {
        let reason = format!("{} nodes are more than the limit of {MAX_NODES}", ids.len());
        return Err(Error { path, content: ids.to_string(), reason });
    }
    if ids.is_empty() {
        let memory_bytes = meminfo(tree, "/proc/meminfo")?.unwrap_or(0);
        let hugepages = hugepages(tree, "/sys/kernel/mm/hugepages")?;
        return Ok(vec![Node {
            id: 0,
            memory_bytes,
            cpus: online.clone(),
            distances: vec![LOCAL_DISTANCE],
            hugepages,
        }]);
    }
    ids.iter().map(|id| node(tree, id, &ids, online)).collect()
}

fn node(tree: &dyn Tree, id: u32, ids: &NodeSet, online: &CpuSet) -> Result<Node, Error> {
    let at = |name: &str| format!("{NODE}/node{id}/{name}");
    // A kernel lists only CPUs that are online here; a container's view may not.
    let cpus = list_file(tree, &at("cpulist"))?.unwrap_or_default().intersection(online);
    let memory_bytes = meminfo(tree, &at("meminfo"))?.unwrap_or(0);
    Ok(Node {
        id,
        memory_bytes,
        cpus,
        distances: distances(tree, id, ids)?,
        hugepages: hugepages(tree, &at("hugepages"))?,
    })
}

fn distances(tree: &dyn Tree, id: u32, ids: &NodeSet) -> Result<Vec<u32>, Error> {
    let path = format!("{NODE}/node{id}/distance");
    let Some(content) = text(tree, &path) else {
        return Ok(ids.iter().map(|other| if other == id { LOCAL_DISTANCE } else { REMOTE_DISTANCE }).collect());
    };
    let numbers: Option<Vec<u32>> = content.split_whitespace().map(|w| w.parse().ok().filter(|d| *d > 0)).collect();
    match numbers {
        Some(d) if d.len() == ids.len() => Ok(d),
        Some(d) => {
            let reason = format!("{} distances for {} nodes", d.len(), ids.len());
            Err(Error { path, content, reason })
        }
        None => Err(Error { path, content, reason: "a distance is a number above 0".into() }),
    }
}

fn node_of_cpu(nodes: &[Node]) -> Result<HashMap<u32, u32>, Error> {
    let mut of = HashMap::new();
    for node in nodes {
        for cpu in node.cpus.iter() {
            if let Some(other) = of.insert(cpu, node.id) {
                return Err(Error {
                    path: format!("{NODE}/node{}/cpulist", node.id),
                    content: node.cpus.to_string(),
                    reason: format!("CPU {cpu} is on node {other} too"),
                });
            }
        }
    }
    Ok(of)
}

/// `MemTotal` in bytes, of /proc/meminfo or of a node's file (there each line begins with `Node N`).
fn meminfo(tree: &dyn Tree, path: &str) -> Result<Option<u64>, Error> {
    let Some(content) = text(tree, path) else { return Ok(None) };
    let Some((_, rest)) = content.split_once("MemTotal:") else { return Ok(None) };
    let line = rest.lines().next().unwrap_or("").trim();
    match line.strip_suffix("kB").and_then(|n| n.trim().parse::<u64>().ok()).and_then(|kb| kb.checked_mul(1024)) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error { path: path.into(), content: line.into(), reason: "MemTotal is not a number of kB".into() }),
    }
}

/// A directory of `hugepages-2048kB`, one per size.
fn hugepages(tree: &dyn Tree, dir: &str) -> Result<Vec<HugePages>, Error> {
    let mut found = Vec::new();
    for name in tree.list(dir) {
        let Some(kb) = name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")) else { continue };
        let Some(size_bytes) = kb.parse::<u64>().ok().and_then(|kb| kb.checked_mul(1024)) else { continue };
        let count = |file: &str| -> Result<u64, Error> {
            Ok(number_file(tree, &format!("{dir}/{name}/{file}"))?.unwrap_or(0).max(0) as u64)
        };
        found.push(HugePages { size_bytes, total: count("nr_hugepages")?, free: count("free_hugepages")? });
    }
    found.sort_by_key(|h| h.size_bytes);
    Ok(found)
}

fn text(tree: &dyn Tree, path: &str) -> Option<String> {
    tree.read(path).map(|t| t.trim().to_string())
}

fn list_file(tree: &dyn Tree, path: &str) -> Result<Option<IdSet>, Error> {
    let Some(content) = text(tree, path) else { return Ok(None) };
    content.parse().map(Some).map_err(|reason| Error { path: path.into(), content, reason })
}

/// A list of the CPUs that share something with `cpu`, itself among them.
fn own_list(tree: &dyn Tree, path: &str, cpu: u32) -> Result<Option<CpuSet>, Error> {
    match list_file(tree, path)? {
        Some(cpus) if !cpus.is_empty() && !cpus.contains(cpu) => {
            let reason = format!("CPU {cpu} is not in its own list");
            Err(Error { path: path.into(), content: cpus.to_string(), reason })
        }
        other => Ok(other.filter(|cpus| !cpus.is_empty())),
    }
}

fn number_file(tree: &dyn Tree, path: &str) -> Result<Option<i64>, Error> {
    let Some(content) = text(tree, path) else { return Ok(None) };
    match content.parse() {
        Ok(n) => Ok(Some(n)),
        Err(_) => Err(Error { path: path.into(), content, reason: "not a number".into() }),
    }
}

/// `32768K`, `16M`, `1G`; empty where a hypervisor hides it.
fn size_file(tree: &dyn Tree, path: &str) -> Result<Option<u64>, Error> {
    let Some(content) = text(tree, path).filter(|t| !t.is_empty()) else { return Ok(None) };
    let (digits, unit) = match content.as_bytes().last() {
        Some(b'K') => (&content[..content.len() - 1], 1u64 << 10),
        Some(b'M') => (&content[..content.len() - 1], 1 << 20),
        Some(b'G') => (&content[..content.len() - 1], 1 << 30),
        _ => (&content[..], 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error { path: path.into(), content, reason: "not a size such as 32768K".into() }),
    }
}

/// N of the entries `prefixN` of a directory.
fn numbered(tree: &dyn Tree, dir: &str, prefix: &str) -> IdSet {
    let number = |name: &String| name.strip_prefix(prefix)?.parse::<u32>().ok().filter(|n| *n <= super::MAX_ID);
    tree.list(dir).iter().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::super::machines::{self, MapTree};
    use super::*;
    use proptest::prelude::*;

    fn shape(t: &Topology) -> (usize, usize, usize, usize, usize) {
        (t.packages(), t.nodes.len(), t.l3s.len(), t.cores.len(), t.pus.len())
    }

    #[test]
    fn real_layouts_have_their_shape() {
        for (machine, expected) in [
            (machines::laptop(), (1, 1, 1, 4, 8)),
            (machines::ryzen_7950x(), (1, 1, 2, 16, 32)),
            (machines::rome_2p_nps4(), (2, 8, 32, 128, 256)),
            (machines::altra(), (1, 1, 1, 80, 80)),
            (machines::spr_2p_snc4(), (2, 8, 8, 96, 192)),
            (machines::xeon_with_cxl(), (2, 3, 2, 32, 64)),
            (machines::power9(), (2, 2, 2, 32, 128)),
            (machines::one_cpu(), (1, 1, 1, 1, 1)),
        ] {
            assert_eq!(shape(&machine.topology()), expected);
        }
    }

    /// This text was copied from a real virtual machine.
    #[test]
    fn a_real_tree_is_read() {
        let t = parse(&MapTree::from_lines(include_str!("../../tests/topology/vm-2-cpus.txt"))).unwrap();
        assert_eq!(shape(&t), (1, 1, 1, 2, 2));
        assert_eq!(t.l3s[0].size_bytes, Some(32 << 20));
        assert_eq!(t.nodes[0].memory_bytes, 8_218_828 << 10);
        let sizes: Vec<u64> = t.nodes[0].hugepages.iter().map(|h| h.size_bytes).collect();
        assert_eq!(sizes, [2 << 20, 1 << 30]);
    }

    #[test]
    fn core_numbers_that_repeat_per_package_become_unique_and_depth_first() {
        let t = machines::rome_2p_nps4().topology();
        for w in t.cores.windows(2) {
            assert!(t.pu(w[0].first().unwrap()).unwrap().l3 <= t.pu(w[1].first().unwrap()).unwrap().l3);
        }
        assert!(t.cores.iter().all(|c| c.len() == 2));
        assert!(t.l3s.iter().all(|l3| l3.cpus.len() == 8 && t.nodes_of(&l3.cpus).len() == 1));
    }

    #[test]
    fn cpuless_nodes_and_sparse_numbers_are_kept() {
        let cxl = machines::xeon_with_cxl().topology();
        assert!(cxl.node(2).unwrap().cpus.is_empty());
        assert!(cxl.allowed_nodes.contains(2));
        let p9 = machines::power9().topology();
        assert_eq!(p9.node_ids().to_string(), "0,8");
        assert_eq!(p9.distance(0, 8), Some(40));
    }

    #[test]
    fn offline_cpus_are_apart_from_the_rest() {
        let t = machines::laptop().offline("1,6").topology();
        assert_eq!((t.offline.to_string(), t.online().to_string()), ("1,6".into(), "0,2-5,7".into()));
        assert_eq!((t.siblings(2).to_string(), t.siblings(0).to_string()), ("2".into(), "0,4".into()));
    }

    #[test]
    fn bare_trees_get_stand_ins() {
        let mut tree = MapTree::default();
        tree.put("/sys/devices/system/cpu/cpu0/uevent", "");
        tree.put("/sys/devices/system/cpu/cpu3/uevent", "");
        let t = parse(&tree).unwrap();
        assert_eq!(shape(&t), (1, 1, 1, 2, 2));
        assert_eq!((t.online().to_string(), t.allowed_nodes.to_string()), ("0,3".into(), "0".into()));
        tree.put("/sys/devices/system/cpu/cpu3/topology/core_id", "0");
        tree.put("/sys/devices/system/cpu/cpu0/topology/core_id", "0");
        assert_eq!(parse(&tree).unwrap().cores.len(), 1);
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_file() {
        for (path, content) in [
            ("/sys/devices/system/cpu/online", "0-x"),
            ("/sys/devices/system/cpu/online", ""),
            ("/sys/devices/system/cpu/cpu1/topology/physical_package_id", "one"),
            ("/sys/devices/system/cpu/cpu1/topology/core_cpus_list", "0"),
            ("/sys/devices/system/cpu/cpu1/cache/index3/size", "big"),
            ("/sys/devices/system/cpu/cpu1/cache/index3/level", "three"),
            ("/sys/devices/system/node/online", "0-9999"),
            ("/sys/devices/system/node/node0/distance", "10 20"),
            ("/sys/devices/system/node/node0/distance", "0"),
            ("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: lots kB"),
        ] {
            let mut machine = machines::laptop();
            machine.tree.put(path, content);
            let error = parse(&machine.tree).unwrap_err();
            assert_eq!(error.path, path);
            let quoted = content.rsplit(": ").next().unwrap();
            assert!(error.to_string().contains(quoted), "{error}");
        }
        assert!(parse(&MapTree::default()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
        /// A tree with any few of its files replaced or taken away is read or refused, and never panics.
        #[test]
        fn mutated_trees_never_panic(
            machine in 0usize..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(),
                prop_oneof![Just(None), "[0-9,\\-]{0,8}".prop_map(Some), ".{0,6}".prop_map(Some)]), 1..6),
        ) {
            let mut tree = [machines::laptop, machines::xeon_with_cxl, machines::power9, machines::one_cpu][machine]().tree;
            for (which, content) in changes {
                tree.change(&which, content);
            }
            if let Ok(t) = parse(&tree) {
                prop_assert!(t.pus.iter().all(|p| t.node(p.node).is_some()));
                prop_assert!(t.pus.iter().all(|p| t.cores[p.core as usize].contains(p.id)));
                prop_assert!(t.pus.iter().all(|p| t.l3s[p.l3 as usize].cpus.contains(p.id)));
                prop_assert!(t.allowed_nodes.is_subset(&t.node_ids()));
                super::super::show::human(&t);
                super::super::show::json(&t).to_string();
            }
        }
    }
}
