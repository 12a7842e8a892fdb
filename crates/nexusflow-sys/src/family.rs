//! Who descends from whom, and reaching one of them by its number.

use std::io;
use std::os::fd::AsFd;

use rustix::process::{Pid, getpgid};

use crate::{children, process};

/// The children of a process, whichever of its threads they belong to; none if it is gone.
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads.flatten().flat_map(|t| listed(&t.path().join("children")).unwrap_or_default()).collect()
}

/// The orphans that this process, a child subreaper, has adopted: the kernel gives them to its first thread. True
/// as long as that thread makes no processes itself.
pub fn adopted() -> Vec<u32> {
    let pid = process::getpid();
    // Mostly there are none, and asking that is much cheaper than /proc.
    if rustix::thread::gettid().as_raw_nonzero().get() as u32 == pid && !process::this_thread_has_children() {
        return Vec::new();
    }
    listed(format!("/proc/self/task/{pid}/children").as_ref())
        // A kernel without CONFIG_PROC_CHILDREN: all of them, and the caller has to look closer.
        .or_else(|| children::children().ok())
        .unwrap_or_default()
}

fn listed(path: &std::path::Path) -> Option<Vec<u32>> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// The process group of a process; None if it is gone.
pub fn group_of(pid: u32) -> Option<u32> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    getpgid(Some(pid)).ok().map(|g| g.as_raw_nonzero().get() as u32)
}

/// Sends a signal to a process known by its number, which may have ended meanwhile.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    process::signal(process::open(pid)?.as_fd(), signal)
}
