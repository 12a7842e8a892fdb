//! Unix SEQPACKET sockets with a name in a folder: listening, connecting, who is at the other end.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The longest path that an address holds, with the zero behind it that others expect.
const MAX_PATH: usize = 107;

/// Makes a socket with this name, mode 0600, that listens. Neither it nor what it accepts waits; both close on exec.
pub fn listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = new()?;
    // The mode of the name that `bind` makes is the socket's own, less the umask: nobody else may ever connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let address = Address::of(path)?;
    rustix::net::bind(&socket, &address.address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// The next who has connected; `None` if nobody waits.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Connects to a socket that listens, without waiting: `ConnectionRefused` if nobody listens any more, `WouldBlock` if too
/// many wait to be accepted. Nothing waits on the socket.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    let address = Address::of(path)?;
    loop {
        match rustix::net::connect(&socket, &address.address) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(|()| socket)?),
        }
    }
}

/// The effective uid of who made the other end: who connected, or who listens.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

/// Receives one packet: its length; 0 is the end. A packet that is longer than the buffer is an error, and so is one with
/// descriptors: the kernel drops them unseen, so that a peer cannot make us wait for the end of a file of its choice.
pub fn receive_bytes(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut none = RecvAncillaryBuffer::default();
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut none, flags) {
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(got) if got.flags.contains(ReturnFlags::CTRUNC) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors where none belong"));
            }
            Ok(got) if got.flags.contains(ReturnFlags::TRUNC) || got.bytes > buffer.len() => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet longer than its limit"));
            }
            Ok(got) => return Ok(got.bytes),
        }
    }
}

fn new() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// An address for a path of any length: one that is too long is reached through its open folder.
struct Address {
    address: SocketAddrUnix,
    _folder: Option<OwnedFd>,
}

impl Address {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(Self { address: SocketAddrUnix::new(path)?, _folder: None });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, folder, flags, Mode::empty())?;
        let mut short = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        short.extend(path.file_name().unwrap_or_default().as_bytes());
        Ok(Self { address: SocketAddrUnix::new(OsStr::from_bytes(&short))?, _folder: Some(folder) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{file, socket};

    #[test]
    fn a_name_is_private_and_reached_however_long_its_folder() {
        let scratch = std::env::temp_dir().join(format!("nexusflow-sys-{:016x}", file::random().unwrap()));
        let deep = scratch.join("x".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        for path in [scratch.join("s"), deep.join("run.sock")] {
            let listener = listen(&path, 4).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            assert!(accept(&listener).unwrap().is_none());
            let theirs = connect(&path).unwrap();
            let ours = accept(&listener).unwrap().unwrap();
            assert_eq!(peer_uid(&ours).unwrap(), peer_uid(&theirs).unwrap());
            socket::send(&theirs, b"hello", &[]).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(receive_bytes(&ours, &mut buffer).unwrap(), 5);
            assert_eq!(receive_bytes(&ours, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            socket::send(&theirs, b"take", &[listener.as_fd()]).unwrap();
            assert_eq!(receive_bytes(&ours, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
            socket::send(&theirs, b"too long a packet", &[]).unwrap();
            assert_eq!(receive_bytes(&ours, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
            drop(theirs);
            assert_eq!(receive_bytes(&ours, &mut buffer).unwrap(), 0);
            assert!(listen(&path, 4).is_err(), "the name is taken");
            drop(listener);
            assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
        std::fs::remove_dir_all(scratch).unwrap();
    }
}
