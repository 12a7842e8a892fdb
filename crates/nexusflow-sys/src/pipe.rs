//! Kernel pipes: making them, their size, their owner, and waiting until one can be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// (to read, to write), both closed on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Asks for a size in bytes; what is granted, which /proc/sys/fs/pipe-max-size may hold below it.
pub fn set_size(pipe: impl AsFd, bytes: u64) -> io::Result<usize> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match fcntl_setpipe_size(&pipe, bytes) {
        Err(rustix::io::Errno::PERM) => {
            let max = std::fs::read_to_string("/proc/sys/fs/pipe-max-size")?;
            let max = max.trim().parse().map_err(|_| io::Error::other("pipe-max-size is no number"))?;
            Ok(fcntl_setpipe_size(&pipe, bytes.min(max))?)
        }
        result => Ok(result?),
    }
}

/// Gives a pipe to a user: who opens /dev/fd/N opens it anew, with that user's rights.
pub fn set_owner(pipe: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// How many bytes have been written into a pipe and not yet read out of it; through either end.
pub fn unread_bytes(pipe: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(pipe)?)
}

/// Waits until one of these can be read, has hung up or failed: for each whether it has. All false: the time is over.
pub fn wait_readable<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let deadline = timeout.map(|t| std::time::Instant::now() + t);
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
        let left = left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: l.subsec_nanos().into() });
        match poll(&mut polled, left.as_ref()) {
            Ok(_) => return Ok(std::array::from_fn(|i| !polled[i].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Lets nobody wait for room in a pipe through this end any more: EAGAIN (`WouldBlock`) instead, also to a thread that waits
/// right now. For a pipe whose reader is dead: some of what it had not read is lost.
pub fn stop_waiting(write: impl AsFd) -> io::Result<()> {
    crate::socket::set_nonblocking(&write)?;
    let path = format!("/proc/self/fd/{}", write.as_fd().as_raw_fd());
    let read = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // The waiting thread wakes for the room, fills it, and finds that it is not to wait.
    match rustix::io::read(&read, &mut [0; 16 * 1024]) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_can_be_sized_and_waited_for() {
        let (read, write) = pipe().unwrap();
        assert!(set_size(&write, 8192).unwrap() >= 8192);
        assert_eq!(wait_readable([read.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
        let mut write = std::fs::File::from(write);
        assert_eq!(unread_bytes(&write).unwrap(), 0);
        write.write_all(b"x").unwrap();
        assert_eq!([unread_bytes(&write).unwrap(), unread_bytes(&read).unwrap()], [1, 1]);
        drop(write); // hangs up
        assert_eq!(wait_readable([read.as_fd()], None).unwrap(), [true]);
    }
}
