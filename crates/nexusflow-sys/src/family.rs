//! Who descends from whom, and reaching one of them by its number.

use std::io;
use std::os::fd::AsFd;

use rustix::process::{Pid, getpgid};

use crate::{children, process};

const MAX_DEPTH: usize = 4096;

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
    // Without CONFIG_PROC_CHILDREN there is no telling them from others: they stay until the runner ends.
    listed(format!("/proc/self/task/{pid}/children").as_ref()).unwrap_or_default()
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

/// Sends a signal to a descendant of this process known by its number. ESRCH if it is none, or none any more.
pub fn signal_descendant(pid: u32, signal: i32) -> io::Result<()> {
    let pidfd = process::open(pid)?;
    // Only now: what the number stood for when it was read may have ended, and it be another's.
    if descends_from_us(pid) {
        process::signal(pidfd.as_fd(), signal)
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Follows parents up to this process. No tree of processes is deeper than `MAX_DEPTH`.
fn descends_from_us(mut pid: u32) -> bool {
    let us = process::getpid();
    for _ in 0..MAX_DEPTH {
        match parent_of(pid) {
            Some(parent) if parent == us => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state ppid …, where the name may hold anything, parentheses too.
    let end_of_name = stat.iter().rposition(|b| *b == b')')?;
    stat[end_of_name..].split(|b| *b == b' ').nth(2).and_then(children::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descendants_are_reached() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        assert_eq!(signal_descendant(process::getppid(), 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        signal_descendant(child.id(), libc::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
