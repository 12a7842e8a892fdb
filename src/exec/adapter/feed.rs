//! From rings into the pipe that a program reads. A message is released when it has been written; or, for a program that
//! may be started again alone, when so much has been written after it that the program must have read it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nexusflow_stage::Error as RingError;
use nexusflow_stage::ring::{Bytes, Consumer, Next, Until, wait_any};
use nexusflow_sys::pipe;

use super::packed::{HEAD, Head, Tallies};
use super::{BLOCK_BYTES, Orders, Problem, ProcessEnd};
use crate::spec::Framing;

/// How soon it is seen that the other end waits for what is held here.
const HOLD_LOOK: Duration = Duration::from_millis(50);
/// The same when so little is held that it is most likely another reader that it waits for.
const HOLD_PATIENCE: Duration = Duration::from_secs(5);

/// What a feed serves.
pub struct Inlet<'a> {
    pub rings: Vec<Consumer>,
    pub framing: Framing,
    /// If they carry blocks: each ring's, and which of its readers this is.
    pub packed: Option<Vec<(Arc<Tallies>, usize)>>,
    pub hold: Option<Hold>,
    /// At the end, to be given what others leave.
    pub ask: Option<&'a dyn Fn()>,
}

/// What is not released at once, so that a program's successor is given it again.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// Bytes written after a message that show that it has been read.
    pub redeliver_bytes: u64,
    /// When the producer waits for room, what is held beyond this is given up.
    pub most_bytes: u64,
}

/// Until all rings have ended, or the program takes no more.
pub fn feed(inlet: Inlet<'_>, pipe: Arc<File>, orders: &Orders) -> Result<(), Problem> {
    let mut feed = Feed { inlet, block: Vec::new(), written: 0, held: VecDeque::new() };
    let fed = match feed.run(&pipe, orders) {
        Ok(()) => Ok(()),
        // The program wants no more; whether that is well is for its exit to say.
        Err(Problem::Pipe(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        // The program is dead, and somebody else has its end of the pipe.
        Err(Problem::Pipe(e)) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(Problem::Ring(RingError::Interrupted)) => Ok(()),
        Err(e) => Err(e),
    };
    drop(pipe); // the program sees the end
    if fed.is_ok() && !feed.held.is_empty() {
        orders.fed.store(true, Ordering::Release);
        while !orders.stop.rings() {
            pipe::wait_readable([orders.wake.as_fd()], None).map_err(Problem::Pipe)?;
            let _ = orders.wake.drain();
        }
        if orders.process.load(Ordering::Acquire) == ProcessEnd::Well as u8 {
            feed.release(|_| true); // it has read what it wanted
        }
    }
    fed
}

struct Feed<'a> {
    inlet: Inlet<'a>,
    /// Framed messages to be written; most edges are idle for a while: memory comes with the first message.
    block: Vec<u8>,
    written: u64,
    /// In the order they were written.
    held: VecDeque<Held>,
}

/// What has been written and is not released.
struct Held {
    ring: usize,
    /// Where it lies in the ring.
    from: u64,
    to: u64,
    /// Bytes written of it, and of all until then.
    len: u64,
    written: u64,
    /// What it counts as, if it is a block.
    messages: u64,
    bytes: u64,
}

impl Feed<'_> {
    fn run(&mut self, pipe: &File, orders: &Orders) -> Result<(), Problem> {
        let mut open: VecDeque<usize> = (0..self.inlet.rings.len()).collect();
        while !open.is_empty() {
            let mut found = false;
            // One block a ring and turn: producers are served alike, each in its own order.
            for _ in 0..open.len() {
                let Some(at) = open.pop_front() else { break };
                let from = self.inlet.rings[at].position();
                let ended = if self.lies_framed() { self.pass(at, pipe)? } else { self.gather(at, pipe)? };
                found |= ended || self.inlet.rings[at].position() != from;
                if !ended {
                    open.push_back(at);
                }
            }
            if !found {
                self.wait(orders)?;
            }
            if open.is_empty()
                && let Some(ask) = self.inlet.ask
                && let Some(ring) = more(ask, orders)?
            {
                open.push_back(self.inlet.rings.len());
                self.inlet.rings.push(ring);
            }
        }
        Ok(())
    }

    /// Whether what is to be written lies in the ring as it is.
    fn lies_framed(&self) -> bool {
        // What may lose its oldest is copied at once, so that it does while the program is slow.
        let copied = self.inlet.rings.iter().any(Consumer::loses_oldest);
        self.inlet.packed.is_some() || self.inlet.framing == Framing::Raw && !copied
    }

    /// Writes what comes next from where it lies; true at the end of the stream.
    fn pass(&mut self, at: usize, mut pipe: &File) -> Result<bool, Problem> {
        let Inlet { rings, framing, packed, .. } = &mut self.inlet;
        let several = rings.len() > 1;
        let from = rings[at].position();
        let block = match rings[at].try_peek().map_err(Problem::Ring)? {
            Next::Message(block) => block,
            Next::Empty => return Ok(false),
            Next::End => return Ok(true),
        };
        let head = if packed.is_some() { Head::read(&block) } else { Head::default() };
        let skip = if packed.is_some() { HEAD.min(block.len()) } else { 0 };
        write_all(pipe, &block, skip).map_err(Problem::Pipe)?;
        let mut len = block.len() - skip;
        let counts = (head.messages, head.bare(*framing, len));
        if head.unended && several {
            pipe.write_all(b"\n").map_err(Problem::Pipe)?; // what comes next may be another's
            len += 1;
        }
        rings[at].advance();
        self.wrote(at, from, len as u64, counts);
        Ok(false)
    }

    /// Writes what is ready, framed, at least one message if there is one; true at the end of the stream.
    fn gather(&mut self, at: usize, mut pipe: &File) -> Result<bool, Problem> {
        self.block.resize(BLOCK_BYTES, 0);
        let ring = &mut self.inlet.rings[at];
        let from = ring.position();
        let mut len = 0;
        let ended = loop {
            let message = match ring.try_peek().map_err(Problem::Ring)? {
                Next::Message(message) => message,
                Next::Empty => break false,
                Next::End => break true,
            };
            let number = (message.len() as u32).to_le_bytes();
            let (prefix, suffix): (&[u8], &[u8]) = match self.inlet.framing {
                Framing::Raw => (b"", b""),
                Framing::Lines => (b"", b"\n"),
                Framing::U32le => (&number, b""),
            };
            let framed = prefix.len() + message.len() + suffix.len();
            if len == 0 && framed > BLOCK_BYTES {
                pipe.write_all(prefix).map_err(Problem::Pipe)?;
                write_all(pipe, &message, 0).map_err(Problem::Pipe)?;
                pipe.write_all(suffix).map_err(Problem::Pipe)?;
                ring.advance();
                self.wrote(at, from, framed as u64, (0, 0));
                return Ok(false);
            }
            let Some(room) = self.block[len..].get_mut(..framed) else { break false };
            room[..prefix.len()].copy_from_slice(prefix);
            message.copy_to(&mut room[prefix.len()..]);
            room[framed - suffix.len()..].copy_from_slice(suffix);
            len += framed;
            ring.advance();
        };
        if ring.loses_oldest() {
            ring.release();
        }
        pipe.write_all(&self.block[..len]).map_err(Problem::Pipe)?;
        self.wrote(at, from, len as u64, (0, 0));
        Ok(ended)
    }

    /// Releases what has been advanced over, or what may be by now.
    fn wrote(&mut self, ring: usize, from: u64, len: u64, (messages, bytes): (u64, u64)) {
        let to = self.inlet.rings[ring].position();
        if to == from {
            return;
        }
        self.written += len;
        let written = self.written;
        self.held.push_back(Held { ring, from, to, len, written, messages, bytes });
        let redeliver = self.inlet.hold.map_or(0, |hold| hold.redeliver_bytes);
        self.release(|held| written - held.written >= redeliver);
    }

    /// The oldest, as long as `may` says so.
    fn release(&mut self, may: impl Fn(&Held) -> bool) {
        while self.held.front().is_some_and(&may)
            && let Some(held) = self.held.pop_front()
        {
            self.inlet.rings[held.ring].release_to(held.to);
            if let Some(packed) = &self.inlet.packed {
                let (tallies, reader) = &packed[held.ring];
                tallies.read[*reader].add(held.messages, held.bytes);
            }
        }
    }

    /// Waits until there is something to read.
    fn wait(&mut self, orders: &Orders) -> Result<(), Problem> {
        loop {
            let mut needed = self.crowded();
            let until = match (self.held.is_empty(), needed.is_empty()) {
                (true, _) => Until::forever(),
                (false, false) => Until::timeout(HOLD_LOOK),
                (false, true) => {
                    needed = (0..self.inlet.rings.len()).collect();
                    Until::timeout(HOLD_PATIENCE)
                }
            };
            match wait_any(&mut self.inlet.rings, until.or_bell(&orders.stop)) {
                Err(RingError::TimedOut) => {}
                done => return done.map_err(Problem::Ring),
            }
            // All has been read: if the producer waits, then for this.
            if let Some(&needed) = needed.iter().find(|&&ring| self.inlet.rings[ring].producer_sleeps()) {
                let oldest = self.held.iter().find(|held| held.ring == needed).map_or(0, |held| held.written);
                self.release(|held| held.written <= oldest);
            }
        }
    }

    /// Rings of which so much is held that their producers may lack it.
    fn crowded(&self) -> Vec<usize> {
        let Some(hold) = self.inlet.hold else { return Vec::new() };
        let mut sums = vec![0; self.inlet.rings.len()];
        // A large message takes little of the ring itself, a small one more than it has bytes.
        self.held.iter().for_each(|held| sums[held.ring] += held.len.max(held.to - held.from));
        (0..sums.len()).filter(|&ring| sums[ring] > hold.most_bytes).collect()
    }
}

/// Asks for what others have left unread, and waits for the answer.
fn more(ask: &dyn Fn(), orders: &Orders) -> Result<Option<Consumer>, Problem> {
    ask();
    loop {
        if let Some(answer) = orders.more.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(answer);
        }
        if orders.stop.rings() {
            return Err(Problem::Ring(RingError::Interrupted));
        }
        pipe::wait_readable([orders.wake.as_fd()], None).map_err(Problem::Pipe)?;
        let _ = orders.wake.drain();
    }
}

/// All of a message from its byte `skip` on.
fn write_all(pipe: &File, message: &Bytes<'_>, mut skip: usize) -> io::Result<()> {
    while skip < message.len() {
        skip += message.write_to(pipe, skip)?;
    }
    Ok(())
}
