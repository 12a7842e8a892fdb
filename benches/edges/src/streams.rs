//! The rivals that every system has: pipes and Unix sockets, with messages of a length that both sides know.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::Result;
use crate::transport::{Rx, Tx};

pub struct StreamTx {
    to: File,
    buffer: Vec<u8>,
}

pub struct StreamRx {
    from: File,
    buffer: Vec<u8>,
}

/// This process's ends, writing end first, and the other's.
pub fn pair(socket: bool) -> Result<((StreamTx, StreamRx), Vec<OwnedFd>)> {
    let (read_there, write_there, read_back, write_back): (OwnedFd, OwnedFd, OwnedFd, OwnedFd) = if socket {
        let (a, b) = UnixStream::pair()?;
        (b.try_clone()?.into(), a.try_clone()?.into(), a.into(), b.into())
    } else {
        let (there, back) = (std::io::pipe()?, std::io::pipe()?);
        (there.0.into(), there.1.into(), back.0.into(), back.1.into())
    };
    Ok((ends(vec![write_there, read_back])?, vec![write_back, read_there]))
}

pub fn ends(fds: Vec<OwnedFd>) -> Result<(StreamTx, StreamRx)> {
    let [to, from] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| "two descriptors are needed")?;
    Ok((StreamTx { to: File::from(to), buffer: Vec::new() }, StreamRx { from: File::from(from), buffer: Vec::new() }))
}

impl Tx for StreamTx {
    fn send(&mut self, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        self.buffer.resize(len, 0);
        fill(&mut self.buffer);
        Ok(self.to.write_all(&self.buffer)?)
    }

    /// As a buffered writer would.
    fn send_batch(&mut self, count: usize, len: usize, fill: impl FnMut(&mut [u8])) -> Result<()> {
        self.buffer.resize(len * count, 0);
        self.buffer.chunks_mut(len).for_each(fill);
        Ok(self.to.write_all(&self.buffer)?)
    }
}

impl Rx for StreamRx {
    fn recv(&mut self, len: usize, mut look: impl FnMut(&[u8])) -> Result<()> {
        self.buffer.resize(len, 0);
        self.from.read_exact(&mut self.buffer)?;
        look(&self.buffer);
        Ok(())
    }
}
