//! What /proc/PID/status says of a process: the kernel's side of an audit.

use std::fs;
use std::io;

use crate::topology::{CpuSet, NodeSet};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub cpus_allowed: CpuSet,
    /// `None` from a kernel without cpusets.
    pub mems_allowed: Option<NodeSet>,
    pub ppid: u32,
    pub threads: u32,
}

/// The error is `NotFound` when there is no such process.
pub fn status_of(pid: u32) -> io::Result<Status> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read(&path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
    // The process's name may be any bytes.
    parse(&String::from_utf8_lossy(&text))
        .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {reason}")))
}

fn parse(text: &str) -> Result<Status, String> {
    let optional = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let field = |key: &str| optional(key).ok_or_else(|| format!("it has no line `{key}:`"));
    let number = |key: &str| field(key)?.parse().map_err(|_| format!("`{key}` is not a number"));
    Ok(Status {
        cpus_allowed: field("Cpus_allowed_list")?.parse()?,
        mems_allowed: optional("Mems_allowed_list").map(str::parse).transpose()?,
        ppid: number("PPid")?,
        threads: number("Threads")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "Name:\tPPid: 9\nPPid:\t12\nThreads:\t3\nCpus_allowed:\tff\nCpus_allowed_list:\t0-1,4\n";
        let s = parse(text).unwrap();
        assert_eq!((s.ppid, s.threads, s.cpus_allowed.to_string(), s.mems_allowed), (12, 3, "0-1,4".into(), None));
        assert!(parse("PPid:\tx\n").is_err());
    }

    #[test]
    fn this_process_has_one_and_no_process_has_none() {
        assert!(status_of(std::process::id()).unwrap().threads > 0);
        assert_eq!(status_of(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
