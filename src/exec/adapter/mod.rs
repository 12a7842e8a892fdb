//! Threads that put unmodified programs on rings: from a ring into a pipe the program reads (`feed`), or from a pipe
//! the program writes onto a ring (`drain`). They run on the stage's own CPUs.

mod drain;
mod feed;
mod objects;
pub(super) mod packed;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use nexusflow_stage::Error as RingError;
use nexusflow_stage::ring::{Bell, Consumer};
use nexusflow_sys::event::EventFd;
use nexusflow_sys::{pipe, sched};

use drain::{Outlet, drain};
pub(super) use feed::Hold;
use feed::{Inlet, feed};

use super::wiring::{Half, Side};
use crate::diag::{Code, codes};
use crate::pipeline::EdgeId;
use crate::plan::TaskId;
use crate::topology::CpuSet;

/// What is read from a pipe, or gathered for one, at a time: what a pipe holds.
const BLOCK_BYTES: usize = 64 * 1024;
/// A thread here holds buffers on the heap and little else.
const STACK_BYTES: usize = 128 * 1024;
/// What a block may take beyond its messages.
pub(super) const MAX_FRAME: u64 = 64;
/// A `u32le` record stands behind this many bytes.
const PREFIX: usize = 4;

/// The end of an adapter's work.
#[derive(Debug)]
pub(super) struct Report {
    pub task: TaskId,
    /// Its process: when only the gang begins anew, nobody waits for the threads of the last one.
    pub attempt: u32,
    pub index: usize,
    pub edge: EdgeId,
    /// `None`: it has read all its rings, and asks for what others leave.
    pub result: Option<Result<(), Problem>>,
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
    /// By the adapter: what it reads has ended, and the program has been given all of it.
    fed: AtomicBool,
    /// What it was given when it asked for more: nothing, if there is nothing.
    more: Mutex<Option<Option<Consumer>>>,
}

const LIVES: u8 = 0;

/// A running adapter, as the loop sees it.
pub(super) struct Adapter {
    pub edge: EdgeId,
    orders: Arc<Orders>,
    /// As long as its thread holds it.
    pipe: Weak<File>,
    /// What it reads for its stage is of no concern once the stage has ended.
    is_input: bool,
    done: bool,
    /// It waits for what others leave; how often it was given something.
    pub asks: bool,
    pub given: usize,
}

impl Adapter {
    /// `index` in reports is the number of adapters the attempt had before. `inherits`: it asks for what others leave.
    pub fn start(
        half: Half,
        (task, attempt): (TaskId, u32),
        index: usize,
        inherits: bool,
        cpus: &CpuSet,
        reporter: Reporter,
    ) -> io::Result<Self> {
        let Half { edge, framing, max_message, packed, hold, side, pipe, wake } = half;
        let process = AtomicU8::new(LIVES);
        let orders =
            Arc::new(Orders { process, stop: Bell::new(), wake, fed: AtomicBool::new(false), more: Mutex::default() });
        let is_input = matches!(side, Side::Input(_) | Side::Objects(_));
        let (theirs, cpus) = (orders.clone(), cpus.clone());
        let pipe = Arc::new(File::from(pipe));
        let watched = if is_input { Arc::downgrade(&pipe) } else { Weak::new() };
        let work = move || {
            // Not allowed there any more? Then it serves its stage from elsewhere.
            let _ = sched::set_affinity(0, cpus.as_slice());
            let Reporter(sender, notify) = reporter;
            let report = |result| {
                if sender.send(Report { task, attempt, index, edge, result }).is_ok() {
                    let _ = notify.notify();
                }
            };
            let ask = || report(None);
            let result = match side {
                Side::Objects(input) => objects::feed(input, pipe, &theirs),
                Side::Object(store) => objects::drain(&store, max_message, pipe, &theirs),
                Side::Input(rings) => {
                    let ask: Option<&dyn Fn()> = if inherits { Some(&ask) } else { None };
                    feed(Inlet { rings, framing, packed, hold, ask }, pipe, &theirs)
                }
                Side::Output(rings, by) => {
                    let packed = packed.and_then(|mut of_rings| of_rings.pop()).map(|(tallies, _)| tallies);
                    drain(Outlet { rings, by, framing, max_message, packed }, pipe, &theirs)
                }
            };
            report(Some(result));
        };
        let name = if is_input { "feed" } else { "drain" };
        thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { edge, orders, pipe: watched, is_input, done: false, asks: false, given: 0 })
    }

    /// The stage's process is gone.
    pub fn process_ended(&self, end: ProcessEnd) {
        self.orders.process.store(end as u8, Ordering::Release);
        if self.is_input || end == ProcessEnd::Badly {
            self.orders.stop.ring();
        }
        let _ = self.orders.wake.notify();
        if let Some(pipe) = self.pipe.upgrade() {
            let _ = pipe::stop_waiting(&*pipe); // then its thread waits until nobody has the pipe open
        }
    }

    /// The answer to one that asks: another ring, or that there is none.
    pub fn give(&mut self, ring: Option<Consumer>) {
        self.asks = false;
        self.given += usize::from(ring.is_some());
        *self.orders.more.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring);
        let _ = self.orders.wake.notify();
    }

    /// Give up now.
    pub fn stop(&self) {
        self.orders.stop.ring();
        let _ = self.orders.wake.notify();
    }

    /// Whether its program has been given all there will ever be, though not all of it is released.
    pub fn has_fed(&self) -> bool {
        self.orders.fed.load(Ordering::Acquire)
    }

    pub fn done(&mut self) {
        self.done = true;
    }

    pub fn is_input(&self) -> bool {
        self.is_input
    }

    /// Whether its thread has let go of pipe and rings.
    pub fn is_done(&self) -> bool {
        self.done
    }
}
