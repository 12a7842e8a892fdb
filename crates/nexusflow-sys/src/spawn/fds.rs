//! The descriptors of a child: which of ours becomes which of its, whatever the overlap, and nothing else left open.

use crate::raw;
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Directory entries are read into this much of the child's stack where close_range is missing.
const LISTING_BYTES: usize = 2048;

/// The moves, planned before the clone so that the child need not allocate.
pub(super) struct Moves {
    moves: Vec<Move>,
    /// Ranges of numbers that are nobody's target, both ends included.
    gaps: Vec<(u32, u32)>,
    /// Above every target.
    above: RawFd,
}

struct Move {
    from: RawFd,
    to: RawFd,
}

impl Moves {
    /// None if a target is no descriptor number.
    pub fn plan(fds: &[(BorrowedFd<'_>, RawFd)]) -> Option<Moves> {
        let moves = fds.iter().map(|(from, to)| Move { from: from.as_raw_fd(), to: *to }).collect::<Vec<_>>();
        let mut targets = moves.iter().map(|m| u32::try_from(m.to).ok()).collect::<Option<Vec<_>>>()?;
        targets.sort_unstable();
        let mut gaps = Vec::new();
        let mut next = 0;
        for target in targets {
            if next < target {
                gaps.push((next, target - 1));
            }
            next = target.checked_add(1)?;
        }
        gaps.push((next, u32::MAX));
        Some(Moves { moves, gaps, above: RawFd::try_from(next).ok()? })
    }

    /// Carries the plan out. Only for a child that shares its parent's memory: allocates nothing.
    pub fn carry_out(&mut self) -> Result<(), i32> {
        // First everything out of the way of all targets, so that no dup destroys what a later one needs.
        for m in self.moves.iter_mut().filter(|m| m.from < self.above) {
            m.from = fcntl(m.from, libc::F_DUPFD_CLOEXEC, self.above)?;
        }
        for m in &self.moves {
            // SAFETY: dup3 of descriptors in this process's own table; clears close-on-exec, and from differs from to.
            unsafe { raw::call(libc::SYS_dup3, [m.from as usize, m.to as usize, 0, 0, 0]) }?;
        }
        self.gaps.iter().try_for_each(|(first, last)| close(*first, *last))
    }
}

/// Closes every descriptor from first to last, however it was opened. Now rather than by execve, which releases the parent
/// before it closes what is marked: when a spawn returns, the child holds what was listed and nothing else.
fn close(first: u32, last: u32) -> Result<(), i32> {
    // SAFETY: changes only this process's own table, which is no longer its parent's.
    match unsafe { raw::call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0]) } {
        Ok(_) => Ok(()),
        // Kernels before 5.9 do not know the call, and some sandboxes refuse it.
        Err(_) => seal_by_listing(first, last),
    }
}

/// Without close_range: goes through /proc/self/fd and has execve close them.
fn seal_by_listing(first: u32, last: u32) -> Result<(), i32> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty()).map_err(|e| e.raw_os_error())?;
    let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| e.raw_os_error())?;
        let Some(fd) = crate::children::number(entry.file_name().to_bytes()) else { continue };
        if (first..=last).contains(&fd) {
            fcntl(fd as RawFd, libc::F_SETFD, libc::FD_CLOEXEC)?;
        }
    }
    Ok(())
}

fn fcntl(fd: RawFd, command: c_int, argument: c_int) -> Result<RawFd, i32> {
    // SAFETY: both commands used take an integer and touch only this process's own table.
    unsafe { raw::call(libc::SYS_fcntl, [fd as usize, command as usize, argument as usize, 0, 0]) }
        .map(|fd| fd as RawFd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

    #[test]
    fn gaps_are_what_no_target_takes() {
        let fd = std::io::stdin();
        let fd = std::os::fd::AsFd::as_fd(&fd);
        let plan = |targets: &[RawFd]| {
            let moves = Moves::plan(&targets.iter().map(|t| (fd, *t)).collect::<Vec<_>>());
            moves.map(|m| (m.gaps, m.above))
        };
        assert_eq!(plan(&[]), Some((vec![(0, u32::MAX)], 0)));
        assert_eq!(plan(&[2, 0, 1]), Some((vec![(3, u32::MAX)], 3)));
        assert_eq!(plan(&[5, 0, 2, 5]), Some((vec![(1, 1), (3, 4), (6, u32::MAX)], 6)));
        assert_eq!(plan(&[-1]), None);
        assert_eq!(plan(&[RawFd::MAX]), None);
    }

    #[test]
    fn sealing_by_listing_marks_exactly_the_range() {
        let open = |from| {
            let fd = fcntl_dupfd_cloexec(std::io::stdin(), from).unwrap();
            fcntl_setfd(&fd, FdFlags::empty()).unwrap();
            fd
        };
        let (low, inside, high) = (open(900), open(910), open(920));
        seal_by_listing(905, 915).unwrap();
        assert_eq!(fcntl_getfd(&low).unwrap(), FdFlags::empty());
        assert_eq!(fcntl_getfd(&inside).unwrap(), FdFlags::CLOEXEC);
        assert_eq!(fcntl_getfd(&high).unwrap(), FdFlags::empty());
    }
}
