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
    fn this_machine_is_told() {
        let t = topology().unwrap();
        assert!(!t.allowed.is_empty() && t.allowed.is_subset(&t.online()));
        assert!(!t.allowed_nodes.is_empty());
        let m = machine();
        assert!(!m.kernel.is_empty() && !m.hostname.is_empty() && m.memory_bytes > 0);
    }
}
