//! A thread between a recorder and its file: a disk that stalls for a moment must not cost messages.

use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait for the disk; with one more the recorder waits too.
const MAX_BLOCKS: usize = 64;

/// Passes what is written on to a thread that writes it.
#[derive(Debug)]
pub struct Spool {
    block: Vec<u8>,
    blocks: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Spool {
    pub fn start(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (blocks, received) = sync_channel::<Vec<u8>>(MAX_BLOCKS);
        let thread = Builder::new().name("spool".into()).spawn(move || {
            for block in received {
                to.write_all(&block)?;
                to.flush()?;
            }
            Ok(())
        })?;
        Ok(Self { block: Vec::with_capacity(BLOCK_BYTES), blocks: Some(blocks), thread: Some(thread) })
    }

    /// Waits until all is written.
    pub fn close(mut self) -> io::Result<()> {
        self.flush()?;
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        self.blocks = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(io::Error::other("the thread that writes has died")),
            None => Err(io::ErrorKind::BrokenPipe.into()), // told before
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    /// To the thread: it takes a moment more until it is in the file.
    fn flush(&mut self) -> io::Result<()> {
        // It ends early only for an error, which is told though there be nothing more to write.
        if self.block.is_empty() && !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Ok(());
        }
        let block = mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        match self.blocks.as_ref().map(|blocks| blocks.send(block)) {
            Some(Ok(())) => Ok(()),
            // The thread has ended, which it does only for an error.
            _ => self.join().and(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for Spool {
    /// Waits for the disk, and tells nobody how it went: who wants to know calls [`Spool::close`].
    fn drop(&mut self) {
        let _ = self.flush();
        if self.thread.is_some() {
            let _ = self.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Shared(Arc<Mutex<Vec<u8>>>, usize);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap();
            if all.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            all.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_in_order_and_a_full_disk_is_told() {
        let all = Arc::new(Mutex::new(Vec::new()));
        let mut spool = Spool::start(Shared(all.clone(), usize::MAX)).unwrap();
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|i| ((i * 31) >> 3) as u8).collect();
        spool.write_all(&bytes[..100]).unwrap();
        spool.flush().unwrap();
        spool.write_all(&bytes[100..]).unwrap();
        spool.close().unwrap();
        assert!(*all.lock().unwrap() == bytes);

        let all = Arc::new(Mutex::new(Vec::new()));
        let mut spool = Spool::start(Shared(all.clone(), BLOCK_BYTES)).unwrap();
        let told = loop {
            match spool.write_all(&bytes[..BLOCK_BYTES]) {
                Ok(()) => {}
                Err(e) => break e,
            }
        };
        assert_eq!(told.kind(), io::ErrorKind::StorageFull);
        assert_eq!(all.lock().unwrap().len(), BLOCK_BYTES);
    }
}
