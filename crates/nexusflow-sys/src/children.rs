//! The children that this process has, spawned or adopted: listing them and killing all. Allocates nothing but for the
//! one function that returns a list, so that a guardian may use it after a fork.

use crate::process;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A buffer for directory entries and for the text of a /proc file.
const BUFFER_BYTES: usize = 4096;
/// How long `kill_all_descendants` looks again before the next pass.
const PASS: Duration = Duration::from_millis(1);

/// The children of this process, whichever of its threads they belong to.
pub fn children() -> io::Result<Vec<u32>> {
    let mut list = Vec::new();
    each_child(&mut |pid| list.push(pid))?;
    Ok(list)
}

/// Kills every descendant with SIGKILL and reaps it, for at most `limit`: true when none is left. Our children's children
/// become ours as they die, so the calling process must be a child subreaper and must have stopped spawning.
pub fn kill_all_descendants(limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        // Without /proc there is nothing to kill by, but those that end by themselves can still be reaped.
        let _ = each_child(&mut kill_child);
        let none_left = loop {
            match process::wait_any_nonblocking() {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if none_left || Instant::now() >= deadline {
            return none_left;
        }
        std::thread::sleep(PASS);
    }
}

/// By pidfd, and only after a look whether it still is our child: another thread may have reaped it meanwhile and its
/// number may be someone else's.
fn kill_child(pid: u32) {
    if let Ok(pidfd) = process::open(pid)
        && process::is_child(pidfd.as_fd())
    {
        let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Calls `f` with each child. Those that come or go meanwhile may be missed.
fn each_child(f: &mut dyn FnMut(u32)) -> io::Result<()> {
    match open(c"/proc/thread-self/children") {
        // The kernel keeps children per thread.
        Ok(_) => each_number(c"/proc/self/task", &mut |folder, tid| {
            if let Some(file) = open_in(folder, tid, b"children") {
                each_listed(&file, f);
            }
        }),
        // A kernel without CONFIG_PROC_CHILDREN: ask everybody for their parent.
        Err(_) => each_with_parent(process::getpid(), f),
    }
}

/// Calls `f` with every number in a `children` file: decimal, a space after each.
fn each_listed(file: &OwnedFd, f: &mut dyn FnMut(u32)) {
    let mut buffer = [0_u8; BUFFER_BYTES];
    let mut pid = 0_u32;
    while let Ok(n) = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer)) {
        if n == 0 {
            return;
        }
        for byte in &buffer[..n] {
            match byte {
                b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
                _ if pid != 0 => f(std::mem::take(&mut pid)),
                _ => {}
            }
        }
    }
}

/// Calls `f` with every process whose parent is `parent`.
fn each_with_parent(parent: u32, f: &mut dyn FnMut(u32)) -> io::Result<()> {
    each_number(c"/proc", &mut |folder, pid| {
        let mut text = [0_u8; 512];
        let Some(file) = open_in(folder, pid, b"stat") else { return };
        let Ok(n) = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut text)) else { return };
        // pid (name) state ppid …, where the name may hold anything, parentheses too.
        let Some(end_of_name) = text[..n].iter().rposition(|b| *b == b')') else { return };
        let field = text[end_of_name..n].split(|b| *b == b' ').nth(2);
        if field.and_then(number) == Some(parent) {
            f(pid);
        }
    })
}

/// Calls `f` with each entry of a folder that is named by a number.
fn each_number(path: &std::ffi::CStr, f: &mut dyn FnMut(&OwnedFd, u32)) -> io::Result<()> {
    let folder = open(path)?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        if let Some(n) = number(entry?.file_name().to_bytes()) {
            f(&folder, n);
        }
    }
    Ok(())
}

fn open(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `number/file` in a folder, without allocating.
fn open_in(folder: &OwnedFd, number: u32, file: &[u8]) -> Option<OwnedFd> {
    use std::io::Write;
    let mut path = [0_u8; 32];
    let mut rest = &mut path[..31];
    write!(rest, "{number}/").and_then(|()| rest.write_all(file)).ok()?;
    let path = std::ffi::CStr::from_bytes_until_nul(&path).ok()?;
    openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// A decimal number and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn both_ways_of_listing_see_a_child() {
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        assert!(children().unwrap().contains(&child.id()));
        let mut found = false;
        each_with_parent(process::getpid(), &mut |pid| found |= pid == child.id()).unwrap();
        assert!(found);
        let mut foreign = false;
        each_with_parent(child.id(), &mut |_| foreign = true).unwrap();
        assert!(!foreign);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
