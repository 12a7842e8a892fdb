//! Unix SEQPACKET sockets: packets with descriptors, between the two ends of a pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The most descriptors one packet may carry; the kernel's own limit (SCM_MAX_FD) is 253.
pub const MAX_FDS: usize = 250;

/// Two ends, both closed on exec, both blocking.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Makes every call on this open file give EAGAIN (`WouldBlock`) instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Sends one packet. `WouldBlock` if it does not fit now and the socket does not wait.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(Errno::TOOBIG.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOBIG.into());
        }
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()), // a packet goes whole or not at all
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buffer`: its length and its descriptors (closed on exec). A length of 0 is the end.
/// A packet that is longer than the buffer or carries more than [`MAX_FDS`] is an error, never cut short.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC,
        );
        let got = match got {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors of a packet were lost"));
        }
        if got.flags.contains(ReturnFlags::TRUNC) || got.bytes > buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet longer than its limit"));
        }
        return Ok((got.bytes, fds));
    }
}

/// Waits until there is something to receive (or the end); false when `timeout` has passed. `None` waits for ever.
pub fn wait_readable(socket: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    let end = timeout.map(|t| Instant::now() + t);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map(|d| rustix::time::Timespec {
            tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: d.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], left.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(n) => return Ok(n > 0),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Descriptors that [`take_inherited`] has given out.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over the socket that this process was started with as descriptor `number`, and keeps it from children.
/// `AlreadyExists` the second time; `InvalidInput` if it is not an open SEQPACKET socket.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().unwrap_or_else(|e| e.into_inner());
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if taken.contains(&number) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: borrowed only for these calls, which are harmless on whatever the number stands for, or on nothing.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let is_ours = rustix::net::sockopt::socket_domain(borrowed) == Ok(AddressFamily::UNIX)
        && rustix::net::sockopt::socket_type(borrowed) == Ok(SocketType::SEQPACKET);
    if !is_ours {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    debug_assert_eq!(borrowed.as_raw_fd(), number);
    taken.push(number);
    // SAFETY: open, and whoever started this process gave it the descriptor to own; it is given out once only.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_bounds_and_carry_descriptors() {
        let (a, b) = pair().unwrap();
        let file = rustix::fs::open("/proc/self/stat", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        send(&a, b"one", &[]).unwrap();
        send(&a, b"two", &vec![file.as_fd(); MAX_FDS]).unwrap();
        let mut buffer = [0; 16];
        assert!(wait_readable(&b, Some(Duration::ZERO)).unwrap());
        let (n, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"one"[..], 0));
        let (n, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"two"[..], MAX_FDS));
        assert!(rustix::io::fcntl_getfd(&fds[0]).unwrap().contains(FdFlags::CLOEXEC));
        assert!(!wait_readable(&b, Some(Duration::ZERO)).unwrap());
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn too_long_and_too_many_are_errors() {
        let (a, b) = pair().unwrap();
        send(&a, &[1; 17], &[]).unwrap();
        assert_eq!(receive(&b, &mut [0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(send(&a, b"x", &vec![b.as_fd(); MAX_FDS + 1]).is_err());
    }

    #[test]
    fn nonblocking_says_so() {
        let (a, b) = pair().unwrap();
        set_nonblocking(&a).unwrap();
        assert_eq!(receive(&a, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(b);
        assert_eq!(send(&a, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_inherited_socket_is_taken_once() {
        use std::os::fd::IntoRawFd;
        let (a, b) = pair().unwrap();
        let number = b.into_raw_fd();
        let taken = take_inherited(number).unwrap();
        assert_eq!(take_inherited(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        send(&a, b"x", &[]).unwrap();
        assert_eq!(receive(&taken, &mut [0; 4]).unwrap().0, 1);
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(take_inherited(file.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(take_inherited(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(take_inherited(999_999).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
