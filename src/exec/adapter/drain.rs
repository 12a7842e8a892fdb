//! From the pipe that a program writes onto rings: one, or several that it distributes to.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memrchr};
use nexusflow_stage::protocol::By;
use nexusflow_stage::ring::{Producer, Until};
use nexusflow_stage::{Error as RingError, Output};
use nexusflow_sys::{pipe, socket};

use super::packed::{HEAD, Head, Tallies};
use super::{BLOCK_BYTES, LIVES, Orders, PREFIX, Problem, ProcessEnd};
use crate::spec::Framing;

/// How long, in all, a pipe may be silent yet open after its stage has ended and everything known of it is dead.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// What a drain serves.
pub struct Outlet {
    pub rings: Vec<Producer>,
    /// How messages are distributed to them, if they are several.
    pub by: By,
    pub framing: Framing,
    pub max_message: usize,
    /// The ring's, if it carries blocks: then there is one ring.
    pub packed: Option<Arc<Tallies>>,
}

/// Until the program has closed the pipe, or it is told to stop.
pub fn drain(outlet: Outlet, pipe: Arc<File>, orders: &Orders) -> Result<(), Problem> {
    let Outlet { mut rings, by, framing, max_message, packed } = outlet;
    socket::set_nonblocking(&*pipe).map_err(Problem::Pipe)?;
    let mut source = Source { pipe: Some(pipe), orders, framing, max_message, patience: LINGER };
    let done = match (&mut rings[..], packed) {
        ([ring], Some(tallies)) => in_place(&mut source, ring, Some(&tallies)),
        ([ring], None) if framing == Framing::Raw => in_place(&mut source, ring, None),
        _ => one_by_one(&mut source, Output::new("", max_message, by, rings)),
    };
    match done {
        // Nobody reads: closing the pipe tells the program, by SIGPIPE.
        Err(Problem::Ring(RingError::Closed { .. } | RingError::Interrupted)) => Ok(()),
        done => done,
    }
}

/// Reads straight into the ring, whole messages at a time.
fn in_place(source: &mut Source, ring: &mut Producer, packed: Option<&Tallies>) -> Result<(), Problem> {
    let head = if packed.is_some() { HEAD } else { 0 };
    let orders = source.orders;
    let until = Until::forever().or_bell(&orders.stop);
    let mut tail = Vec::new();
    loop {
        let mut room = ring.reserve(head + source.room_for(tail.len()), until).map_err(Problem::Ring)?;
        let (head_room, body) = room.as_mut_slice().split_at_mut(head);
        body[..tail.len()].copy_from_slice(&tail);
        let mut found = Found { len: tail.len(), ..Found::default() };
        let next = source.fill(body, &mut found)?;
        tail.clear();
        tail.extend_from_slice(&body[found.whole..found.len]);
        let last = next == Then::End && !tail.is_empty() && source.is_last(tail.len())?;
        if last {
            found = Found { len: found.len, whole: found.len, messages: found.messages + 1 };
        }
        if found.messages > 0 {
            if let Some(tallies) = packed {
                let all = Head { messages: found.messages, unended: last };
                head_room.copy_from_slice(&all.bytes());
                tallies.written.add(all.messages, all.bare(source.framing, found.whole));
            }
            room.commit_len(head + found.whole);
        }
        if next != Then::Go {
            return Ok(());
        }
    }
}

/// Reads blocks, and sends the messages in them: visible together, but each for itself.
fn one_by_one(source: &mut Source, mut output: Output) -> Result<(), Problem> {
    let mut block = Vec::new();
    let mut found = Found::default();
    loop {
        let room = source.room_for(found.len);
        if block.len() < room {
            block.resize(room, 0); // most edges are idle for a while: memory comes with the first message
        }
        let next = source.fill(&mut block[..room], &mut found)?;
        let until = Until::forever().or_bell(&source.orders.stop);
        let whole = &block[..found.whole];
        match source.framing {
            Framing::Raw if whole.is_empty() => Ok(()),
            Framing::Raw => output.send_batch_until([whole], until),
            Framing::Lines => {
                output.send_batch_until(Lines { block: whole, ends: memchr_iter(b'\n', whole), at: 0 }, until)
            }
            Framing::U32le => output.send_batch_until(Records(whole), until),
        }
        .map_err(Problem::Ring)?;
        block.copy_within(found.whole..found.len, 0);
        found = Found { len: found.len - found.whole, ..Found::default() };
        if next == Then::End && found.len > 0 && source.is_last(found.len)? {
            output.send_until(&block[..found.len], until).map_err(Problem::Ring)?;
        }
        if next != Then::Go {
            return Ok(());
        }
    }
}

/// What is in a block so far.
#[derive(Debug, Default)]
struct Found {
    len: usize,
    /// Up to here there are whole messages,
    whole: usize,
    /// this many.
    messages: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Go,
    /// The program, and all it left behind, have closed the pipe.
    End,
    /// Told to stop, or the pipe is held open by nobody we know.
    Stop,
}

/// The pipe, and what the loop says of the process.
struct Source<'a> {
    /// Does not wait. `None` once it has ended: who still writes to it learns so.
    pipe: Option<Arc<File>>,
    orders: &'a Orders,
    framing: Framing,
    max_message: usize,
    /// Of [`LINGER`], what is left.
    patience: Duration,
}

impl Source<'_> {
    /// What the longest message takes, framed.
    fn longest(&self) -> usize {
        match self.framing {
            Framing::Raw => self.max_message.max(1),
            Framing::Lines => self.max_message + 1,
            Framing::U32le => self.max_message + PREFIX,
        }
    }

    /// How much to have room for when there is a message of which this much is known.
    fn room_for(&self, tail: usize) -> usize {
        BLOCK_BYTES.max(2 * tail).min(self.longest())
    }

    /// Reads as long as there is something to read, but at least until there is a whole message or the room is full.
    fn fill(&mut self, room: &mut [u8], found: &mut Found) -> Result<Then, Problem> {
        loop {
            if found.len == room.len() {
                return if found.whole > 0 || room.len() < self.longest() { Ok(Then::Go) } else { self.too_long(room) };
            }
            let Some(pipe) = &self.pipe else { return Ok(Then::End) };
            if self.orders.stop.rings() {
                return Ok(Then::Stop);
            }
            match (&**pipe).read(&mut room[found.len..]) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    found.len += n;
                    self.cut(&room[..found.len], found)?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if found.whole > 0 {
                        return Ok(Then::Go);
                    }
                    if !self.wait()? {
                        return Ok(Then::Stop);
                    }
                }
                Err(e) => return Err(Problem::Pipe(e)),
            }
        }
    }

    /// Finds the whole messages behind those that are known.
    fn cut(&self, block: &[u8], found: &mut Found) -> Result<(), Problem> {
        match self.framing {
            Framing::Raw => *found = Found { len: block.len(), whole: block.len(), messages: 1 },
            Framing::Lines => {
                if let Some(end) = memrchr(b'\n', &block[found.whole..]) {
                    let new = &block[found.whole..found.whole + end + 1];
                    found.messages += memchr_iter(b'\n', new).count() as u64;
                    found.whole += new.len();
                }
            }
            Framing::U32le => {
                while let Some(prefix) = block[found.whole..].first_chunk::<PREFIX>() {
                    let len = u32::from_le_bytes(*prefix) as usize;
                    if len > self.max_message {
                        return Err(Problem::TooLong { len, max: self.max_message });
                    }
                    if block.len() - found.whole < PREFIX + len {
                        break;
                    }
                    found.whole += PREFIX + len;
                    found.messages += 1;
                }
            }
        }
        Ok(())
    }

    fn too_long(&self, room: &[u8]) -> Result<Then, Problem> {
        Err(Problem::TooLong { len: room.len(), max: self.max_message })
    }

    /// True: there is something to read, or the end. False: there is nothing to wait for any more.
    fn wait(&mut self) -> Result<bool, Problem> {
        let Some(pipe) = &self.pipe else { return Ok(true) };
        loop {
            if self.orders.stop.rings() {
                return Ok(false);
            }
            let over = self.orders.process.load(Ordering::Acquire) != LIVES;
            // Once the process is over, its order has been taken: only the pipe is left to watch.
            if over {
                let since = Instant::now();
                let [more] = pipe::wait_readable([pipe.as_fd()], Some(self.patience)).map_err(Problem::Pipe)?;
                self.patience = self.patience.saturating_sub(since.elapsed());
                return Ok(more);
            }
            let both = [pipe.as_fd(), self.orders.wake.as_fd()];
            if let [true, _] = pipe::wait_readable(both, None).map_err(Problem::Pipe)? {
                return Ok(true);
            }
            let _ = self.orders.wake.drain();
        }
    }

    /// Whether what is left at the end of the pipe is a message: it is, if the process has ended well. Half a record
    /// never is.
    fn is_last(&self, have: usize) -> Result<bool, Problem> {
        match self.ended_well()? {
            true if self.framing == Framing::U32le => Err(Problem::Truncated { have }),
            well => Ok(well),
        }
    }

    /// Waits until the process has ended.
    fn ended_well(&self) -> Result<bool, Problem> {
        loop {
            match self.orders.process.load(Ordering::Acquire) {
                LIVES if self.orders.stop.rings() => return Ok(false),
                LIVES => {
                    pipe::wait_readable([self.orders.wake.as_fd()], None).map_err(Problem::Pipe)?;
                    let _ = self.orders.wake.drain();
                }
                how => return Ok(how == ProcessEnd::Well as u8),
            }
        }
    }
}

/// Lines of a block, which ends with one, without their newlines.
struct Lines<'m> {
    block: &'m [u8],
    ends: memchr::Memchr<'m>,
    at: usize,
}

impl<'m> Iterator for Lines<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        let end = self.ends.next()?;
        let line = &self.block[self.at..end];
        self.at = end + 1;
        Some(line)
    }
}

/// Records of a block of whole ones, without their lengths.
struct Records<'m>(&'m [u8]);

impl<'m> Iterator for Records<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        let (prefix, rest) = self.0.split_first_chunk::<PREFIX>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        self.0 = rest;
        Some(record)
    }
}
