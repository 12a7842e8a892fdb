//! Threads that put unmodified programs on rings: from a ring into a pipe the program reads, or from a
//! pipe the program writes onto a ring. They run on the stage's own CPUs.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nexusflow_stage::Error as RingError;
use nexusflow_stage::ring::{Bell, Consumer, Next, Producer, Until, wait_any};
use nexusflow_sys::event::EventFd;
use nexusflow_sys::{pipe, sched};

use super::wiring::{Half, Side};
use crate::diag::{Code, codes};
use crate::pipeline::EdgeId;
use crate::plan::TaskId;
use crate::spec::Framing;
use crate::topology::CpuSet;

/// What is read from a pipe, or gathered for one, at a time: what a pipe holds.
const BLOCK_BYTES: usize = 64 * 1024;
/// A thread here holds buffers on the heap and little else.
const STACK_BYTES: usize = 128 * 1024;
/// How long, in all, a pipe may be silent yet open after its stage has ended and everything known of it is dead.
const LINGER: Duration = Duration::from_secs(1);
/// A `u32le` record stands behind this many bytes.
const PREFIX: usize = 4;

/// The end of an adapter's work.
#[derive(Debug)]
pub(super) struct Report {
    pub task: TaskId,
    pub index: usize,
    pub edge: EdgeId,
    pub result: Result<(), Problem>,
}

/// Where adapters report, and what tells the loop to look.
#[derive(Clone)]
pub(super) struct Reporter(Sender<Report>, Arc<EventFd>);

pub(super) fn reports(notify: &Arc<EventFd>) -> (Reporter, Receiver<Report>) {
    let (sender, receiver) = channel();
    (Reporter(sender, notify.clone()), receiver)
}

/// What made an adapter give up.
#[derive(Debug)]
pub(super) enum Problem {
    TooLong { len: usize, max: usize },
    Truncated { have: usize },
    Ring(RingError),
    Pipe(io::Error),
}

impl Problem {
    pub fn code(&self) -> Code {
        match self {
            Self::TooLong { .. } | Self::Truncated { .. } => codes::EDGE_FAILED,
            Self::Ring(_) | Self::Pipe(_) => codes::ADAPTER,
        }
    }

    pub fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => {
                "raise the edge's `max_message` (and `capacity`), or choose the framing that the program really writes"
            }
            Self::Truncated { .. } => "let the program write whole records, or choose another framing",
            Self::Ring(_) => {
                "a stage on this edge wrote where it must not: look for the one that misuses its shared memory"
            }
            Self::Pipe(_) => "this is the system's own error; its reason stands in the message",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(f, "it wrote a message of at least {len} bytes, and the edge takes {max}")
            }
            Self::Truncated { have } => {
                write!(f, "its output ended inside a record: {have} bytes of it were there")
            }
            Self::Ring(e) => write!(f, "{e}"),
            Self::Pipe(e) => write!(f, "its pipe failed: {}", super::launch::reason(e)),
        }
    }
}

/// How the stage's process ended, as far as its streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ProcessEnd {
    /// What it left in the pipe counts in full.
    Well = 1,
    /// By our wish: what it wrote counts, but an unfinished record is none.
    Stopped = 2,
    /// Its gang ends, so that what it left unsent has nobody to go to.
    Badly = 3,
}

/// What the loop tells an adapter.
struct Orders {
    /// [`LIVES`], or a [`ProcessEnd`].
    process: AtomicU8,
    stop: Bell,
    /// Becomes readable with every order.
    wake: EventFd,
}

const LIVES: u8 = 0;

/// A running adapter, as the loop sees it.
pub(super) struct Adapter {
    orders: Arc<Orders>,
    /// What it reads for its stage is of no concern once the stage has ended.
    is_input: bool,
    done: bool,
}

impl Adapter {
    /// `index` in reports is the number of adapters the task had before.
    pub fn start(half: Half, task: TaskId, index: usize, cpus: &CpuSet, reporter: Reporter) -> io::Result<Self> {
        let orders = Arc::new(Orders { process: AtomicU8::new(LIVES), stop: Bell::new(), wake: half.wake });
        let is_input = matches!(half.side, Side::Input(_));
        let (theirs, cpus) = (orders.clone(), cpus.clone());
        let work = move || {
            // Not allowed there any more? Then it serves its stage from elsewhere.
            let _ = sched::set_affinity(0, cpus.as_slice());
            let edge = half.edge;
            let pipe = File::from(half.pipe);
            let result = match half.side {
                Side::Input(rings) => feed(rings, half.framing, pipe, &theirs),
                Side::Output(rings) => Drain::new(rings, half.framing, half.max_message, &theirs).run(pipe),
            };
            let Reporter(sender, notify) = reporter;
            if sender.send(Report { task, index, edge, result }).is_ok() {
                let _ = notify.notify();
            }
        };
        let name = if is_input { "feed" } else { "drain" };
        thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { orders, is_input, done: false })
    }

    /// The stage's process is gone.
    pub fn process_ended(&self, end: ProcessEnd) {
        self.orders.process.store(end as u8, Ordering::Release);
        if self.is_input || end == ProcessEnd::Badly {
            self.orders.stop.ring();
        }
        let _ = self.orders.wake.notify();
    }

    /// Give up now.
    pub fn stop(&self) {
        self.orders.stop.ring();
        let _ = self.orders.wake.notify();
    }

    pub fn done(&mut self) {
        self.done = true;
    }

    pub fn is_input(&self) -> bool {
        self.is_input
    }

    /// Whether the end of the stage has nothing to wait for here.
    pub fn is_done(&self) -> bool {
        self.done || self.is_input
    }
}

/// From rings into the pipe that a program reads. A message is released when it has been written.
fn feed(mut rings: Vec<Consumer>, framing: Framing, mut pipe: File, orders: &Orders) -> Result<(), Problem> {
    let mut block = Vec::new(); // most edges are idle for a while: memory comes with the first message
    let mut open: VecDeque<usize> = (0..rings.len()).collect();
    while !open.is_empty() {
        let mut found = false;
        // One block a ring and turn: producers are served alike, each in its own order.
        for _ in 0..open.len() {
            let Some(at) = open.pop_front() else { break };
            let ended = gather(&mut rings[at], framing, &mut block)?;
            found |= ended || !block.is_empty();
            match pipe.write_all(&block) {
                Ok(()) => rings[at].release(),
                // The program wants no more; whether that is well is for its exit to say.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(e) => return Err(Problem::Pipe(e)),
            }
            block.clear();
            if !ended {
                open.push_back(at);
            }
        }
        if !found {
            match wait_any(&mut rings, Until::forever().or_bell(&orders.stop)) {
                Ok(()) => {}
                Err(RingError::Interrupted) => return Ok(()),
                Err(e) => return Err(Problem::Ring(e)),
            }
        }
    }
    Ok(())
}

/// Frames what is ready into `block`, at least one message if there is one; true at the end of the stream.
fn gather(ring: &mut Consumer, framing: Framing, block: &mut Vec<u8>) -> Result<bool, Problem> {
    while block.len() < BLOCK_BYTES {
        let message = match ring.try_peek().map_err(Problem::Ring)? {
            Next::Message(message) => message,
            Next::Empty => return Ok(false),
            Next::End => return Ok(true),
        };
        if framing == Framing::U32le {
            block.extend_from_slice(&(message.len() as u32).to_le_bytes());
        }
        message.append_to(block);
        if framing == Framing::Lines {
            block.push(b'\n');
        }
        ring.advance();
    }
    Ok(false)
}

/// From the pipe that a program writes onto rings: one, or several in strict turn.
struct Drain<'a> {
    rings: Vec<Producer>,
    turn: usize,
    framing: Framing,
    max_message: usize,
    orders: &'a Orders,
    /// Read and not yet sent: less than one message.
    tail: Vec<u8>,
    /// Of [`LINGER`], what is left.
    patience: Duration,
}

impl<'a> Drain<'a> {
    fn new(rings: Vec<Producer>, framing: Framing, max_message: usize, orders: &'a Orders) -> Self {
        Self { rings, turn: 0, framing, max_message, orders, tail: Vec::new(), patience: LINGER }
    }

    fn run(mut self, mut pipe: File) -> Result<(), Problem> {
        let mut block = Vec::new();
        let ended = loop {
            if !self.more_to_read(&pipe)? {
                break false; // told to stop, or the pipe is held open by nobody we know
            }
            block.resize(BLOCK_BYTES.min(self.max_message.max(1)), 0);
            match pipe.read(&mut block) {
                Ok(0) => break true,
                Ok(n) => match self.take(&block[..n]) {
                    Ok(()) => {}
                    // Nobody reads: closing the pipe tells the program, by SIGPIPE.
                    Err(Problem::Ring(RingError::Closed { .. })) => return Ok(()),
                    Err(Problem::Ring(RingError::Interrupted)) => return Ok(()),
                    Err(e) => return Err(e),
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Problem::Pipe(e)),
            }
        };
        drop(pipe);
        if ended && !self.tail.is_empty() && self.ended_well()? {
            return self.last();
        }
        Ok(())
    }

    /// True: read. False: there is nothing to wait for any more.
    fn more_to_read(&mut self, from: &File) -> Result<bool, Problem> {
        loop {
            if self.orders.stop.rings() {
                return Ok(false);
            }
            let over = self.orders.process.load(Ordering::Acquire) != LIVES;
            // Once the process is over, its order has been taken: only the pipe is left to watch.
            if over {
                let since = Instant::now();
                let [more] = pipe::wait_readable([from.as_fd()], Some(self.patience)).map_err(Problem::Pipe)?;
                self.patience = self.patience.saturating_sub(since.elapsed());
                return Ok(more);
            }
            let both = [from.as_fd(), self.orders.wake.as_fd()];
            if let [true, _] = pipe::wait_readable(both, None).map_err(Problem::Pipe)? {
                return Ok(true);
            }
            let _ = self.orders.wake.drain();
        }
    }

    /// Waits until the process has ended: how it did decides what an unfinished last record is.
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

    fn take(&mut self, block: &[u8]) -> Result<(), Problem> {
        match self.framing {
            Framing::Raw => self.send(block),
            Framing::Lines => self.take_lines(block),
            Framing::U32le => self.take_records(block),
        }
    }

    fn take_lines(&mut self, mut block: &[u8]) -> Result<(), Problem> {
        if !self.tail.is_empty() {
            let Some(end) = block.iter().position(|b| *b == b'\n') else { return self.keep(block) };
            self.keep(&block[..end])?;
            let line = std::mem::take(&mut self.tail);
            self.send(&line)?;
            block = &block[end + 1..];
        }
        let Some(last) = block.iter().rposition(|b| *b == b'\n') else { return self.keep(block) };
        let max = self.max_message;
        if let Some(line) = block[..last].split(|b| *b == b'\n').find(|line| line.len() > max) {
            return Err(Problem::TooLong { len: line.len(), max });
        }
        self.send_all(block[..last].split(|b| *b == b'\n'))?;
        self.keep(&block[last + 1..])
    }

    fn take_records(&mut self, mut block: &[u8]) -> Result<(), Problem> {
        loop {
            let missing = match self.tail.first_chunk::<PREFIX>() {
                None => PREFIX - self.tail.len(),
                Some(prefix) => {
                    let len = u32::from_le_bytes(*prefix) as usize;
                    if len > self.max_message {
                        return Err(Problem::TooLong { len, max: self.max_message });
                    }
                    PREFIX + len - self.tail.len()
                }
            };
            let (now, later) = block.split_at(missing.min(block.len()));
            self.tail.extend_from_slice(now);
            block = later;
            let is_whole = |prefix: &[u8; PREFIX]| self.tail.len() == PREFIX + u32::from_le_bytes(*prefix) as usize;
            if self.tail.first_chunk().is_some_and(is_whole) {
                let record = std::mem::take(&mut self.tail);
                self.send(&record[PREFIX..])?;
            } else if block.is_empty() {
                return Ok(());
            }
        }
    }

    /// What is left of a stream that has ended well is a message of its own.
    fn last(mut self) -> Result<(), Problem> {
        if self.framing == Framing::U32le {
            return Err(Problem::Truncated { have: self.tail.len() });
        }
        let tail = std::mem::take(&mut self.tail);
        match self.send(&tail) {
            Err(Problem::Ring(RingError::Closed { .. } | RingError::Interrupted)) => Ok(()),
            result => result,
        }
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Problem> {
        let len = self.tail.len() + part.len();
        if len > self.max_message {
            return Err(Problem::TooLong { len, max: self.max_message });
        }
        self.tail.extend_from_slice(part);
        Ok(())
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Problem> {
        self.send_all(std::iter::once(message))
    }

    fn send_all<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>) -> Result<(), Problem> {
        let until = || Until::forever().or_bell(&self.orders.stop);
        if let [ring] = self.rings.as_mut_slice() {
            return ring.write_batch(messages, until()).map_err(Problem::Ring);
        }
        for message in messages {
            while let Err(e) = self.rings[self.turn].write(message, until()) {
                // A replica that has left is passed over; the last one's leaving is the edge's.
                if !e.is_closed() || self.rings.len() == 1 {
                    return Err(Problem::Ring(e));
                }
                self.rings.remove(self.turn);
                self.turn %= self.rings.len();
            }
            self.turn = (self.turn + 1) % self.rings.len();
        }
        Ok(())
    }
}
