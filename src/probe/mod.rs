//! Reads this machine: its topology, what this process may use of it, limits, and other processes' /proc.

mod cgroup;
mod status;

use std::fmt;
use std::fs;
use std::io;

use serde::Serialize;

use crate::topology::sysfs::{self, Tree};
use crate::topology::{CpuSet, NodeSet, Topology};

pub use cgroup::Cgroup;
pub use status::{Status, status_of};

/// The longest of the files read here is a node's meminfo; no file of /sys is larger than this.
const FILE_LIMIT: u64 = 1 << 20;

#[derive(Debug)]
pub enum Error {
    /// A file of /sys says what cannot be.
    Sysfs(sysfs::Error),
    /// A file of /proc could not be read or understood.
    Proc(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysfs(e) => write!(f, "cannot tell this machine's topology: {e}"),
            Self::Proc(e) => write!(f, "cannot tell what this process may use: {e}"),
        }
    }
}

impl std::error::Error for Error {}

/// The files of this machine.
struct RealTree;

impl Tree for RealTree {
    fn read(&self, path: &str) -> Option<String> {
        read(path)
    }

    fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return vec![] };
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }
}

fn read(path: &str) -> Option<String> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(FILE_LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// This machine, restricted to the CPUs and nodes that affinity and cgroups leave this process.
pub fn topology() -> Result<Topology, Error> {
    let whole = sysfs::parse(&RealTree).map_err(Error::Sysfs)?;
    let (cpus, nodes) = allowed(&whole)?;
    Ok(whole.restricted(&cpus, &nodes))
}

fn allowed(whole: &Topology) -> Result<(CpuSet, NodeSet), Error> {
    let status = status_of(std::process::id()).map_err(Error::Proc)?;
    // A kernel without cpusets has no Mems_allowed_list: nothing restricts it then.
    Ok((status.cpus_allowed, status.mems_allowed.unwrap_or_else(|| whole.node_ids())))
}

/// What is worth knowing of a machine beside its topology.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub hostname: String,
    pub kernel: String,
    pub cgroup: Cgroup,
    /// Of the whole machine; 0 where it could not be read.
    pub memory_bytes: u64,
    /// The tightest limit of the cgroups that this process is in.
    pub memory_limit_bytes: Option<u64>,
}

pub fn machine() -> Machine {
    let line = |path: &str| read(path).unwrap_or_default().trim().to_string();
    let (cgroup, memory_limit_bytes) = cgroup::of_this_process(&read);
    Machine {
        hostname: line("/proc/sys/kernel/hostname"),
        kernel: line("/proc/sys/kernel/osrelease"),
        cgroup,
        memory_bytes: memory_bytes(&line("/proc/meminfo")),
        memory_limit_bytes,
    }
}

/// What can be allocated now without pushing others out: of the machine, and of the cgroups this process is in.
/// `None` where the system does not say.
pub fn memory_available_bytes() -> Option<u64> {
    let free = meminfo(&read("/proc/meminfo")?, "MemAvailable:")?;
    let (_, limit) = cgroup::of_this_process(&read);
    Some(limit.map_or(free, |limit| free.min(limit)))
}

/// The same of one NUMA node, without what the whole machine keeps in reserve.
pub fn node_memory_available_bytes(node: u32) -> Option<u64> {
    let text = read(&format!("/sys/devices/system/node/node{node}/meminfo"))?;
    node_available(&text)
}

/// `Node 0 MemFree: 123 kB`, line by line. What holds files can be taken back.
fn node_available(text: &str) -> Option<u64> {
    let kb = |key: &str| -> Option<u64> {
        text.lines().find_map(|l| l.split_once(key)?.1.trim().strip_suffix("kB")?.trim().parse().ok())
    };
    let files = [" Active(file):", " Inactive(file):", " SReclaimable:"].into_iter().filter_map(kb);
    Some(files.fold(kb("MemFree:")?, u64::saturating_add).saturating_mul(1024))
}

/// Huge pages of one size: reserved ones, and those that can still be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HugePool {
    pub total: u64,
    pub free: u64,
}

/// Of the machine, or of one node. All zero where there are none of this size.
pub fn huge_pages(size_bytes: u64, node: Option<u32>) -> HugePool {
    let folder = huge_pages_folder(size_bytes, node);
    let number = |name: &str| read(&format!("{folder}/{name}")).and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    let (total, free): (u64, u64) = (number("nr_hugepages"), number("free_hugepages"));
    // Nodes do not say what is promised already, or may be had beyond what is reserved.
    let beyond = number("nr_overcommit_hugepages").saturating_sub(number("surplus_hugepages"));
    let promised = number("resv_hugepages");
    let beyond = if node.is_none() { beyond } else { 0 };
    HugePool { total, free: free.saturating_sub(promised) + beyond }
}

/// Where the system tells of them, and takes `nr_hugepages`.
pub fn huge_pages_folder(size_bytes: u64, node: Option<u32>) -> String {
    let place = node.map_or("/sys/kernel/mm".into(), |node| format!("/sys/devices/system/node/node{node}"));
    format!("{place}/hugepages/hugepages-{}kB", size_bytes >> 10)
}

fn memory_bytes(text: &str) -> u64 {
    meminfo(text, "MemTotal:").unwrap_or(0)
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let kb: u64 = text.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())?;
    Some(kb.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_memory_is_what_is_free_and_what_holds_files() {
        let text = "Node 1 MemTotal: 4096 kB\nNode 1 MemFree: 100 kB\nNode 1 Active: 9 kB\nNode 1 Inactive: 9 kB\n\
                    Node 1 Active(file): 20 kB\nNode 1 Inactive(file): 3 kB\nNode 1 SReclaimable: 1 kB\n";
        assert_eq!(node_available(text), Some(124 << 10));
        assert_eq!(node_available(""), None);
        assert_eq!(huge_pages(1 << 21, Some(999)), HugePool::default());
        assert_eq!(huge_pages_folder(1 << 30, None), "/sys/kernel/mm/hugepages/hugepages-1048576kB");
    }

    #[test]
    fn this_machine_is_told() {
        let t = topology().unwrap();
        assert!(!t.allowed.is_empty() && t.allowed.is_subset(&t.online()));
        assert!(!t.allowed_nodes.is_empty());
        let m = machine();
        assert!(!m.kernel.is_empty() && !m.hostname.is_empty() && m.memory_bytes > 0);
    }
}
