//! Looks on at the rings of one edge, all in turn, and writes what it sees. It waits for nothing but new messages: the
//! run, which may be stopped or busy, is asked now and then and answers when it likes.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nexusflow_stage::ring::{Missed, OnFull, Shape, Tap, Tapped};
use nexusflow_sys::event::{Epoll, EventFlags, Events};
use nexusflow_sys::signal::{SIGHUP, SIGINT, SIGTERM, SignalFd};

use super::Trouble;
use crate::ctl::{Answer, Blocks, Connection, EdgeState, Error, Request};
use crate::recording::blocks::{self, Framing};
use crate::recording::{Lost, Spool, Why, Writer};

/// What asks it to end.
pub const ASKED_TO_STOP: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// How long it sleeps when there was nothing, at least and at most: it doubles. It is woken only if a consumer is, too.
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(2);
/// Messages taken from one ring before others, signals and the run are looked at.
const TURN_MESSAGES: u32 = 256;
/// Or so many bytes, if those are less.
const TURN_BYTES: u64 = 4 << 20;
/// How often the run is asked whether the edge is still there, and what lies in the buffer is passed on.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// The most rings of one edge that are looked at: each takes address space.
const MAX_RINGS: u32 = 1024;

/// One producer's ring.
pub struct Ring {
    pub producer: String,
    tap: Tap,
    /// If its messages are blocks of messages.
    blocks: Option<Framing>,
    ended: bool,
}

pub struct Recorder<'a> {
    run: &'a Connection,
    edge: &'a str,
    watch: Watch,
    rings: Vec<Ring>,
    /// How often the edge had been made anew when these were made.
    anew: u32,
    pub to: Writer<Spool>,
}

/// What follows once the rings have nothing more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// More may come.
    GoOn,
    /// Nobody writes them any more: it was all.
    End,
    /// The same, and others are there instead.
    Anew,
}

impl<'a> Recorder<'a> {
    pub fn new(
        run: &'a Connection,
        edge: &'a str,
        watch: Watch,
        rings: Vec<Ring>,
        anew: u32,
        to: Writer<Spool>,
    ) -> Self {
        Self { run, edge, watch, rings, anew, to }
    }

    /// Records until there is a reason to end.
    pub fn record(&mut self, messages: Option<u64>, longest: Option<Duration>) -> Result<Why, Trouble> {
        let (begun, mut asked, mut waits) = (Instant::now(), Instant::now(), false);
        let (mut nap, mut then) = (Duration::ZERO, Then::GoOn);
        loop {
            let mut any = false;
            for at in 0..self.rings.len() {
                any |= self.turn(at, messages.unwrap_or(u64::MAX))?;
            }
            let enough = messages.is_some_and(|max| self.to.messages() >= max);
            if enough || longest.is_some_and(|longest| begun.elapsed() >= longest) {
                return Ok(Why::Enough);
            }
            if self.rings.iter().all(|ring| ring.ended) {
                return Ok(Why::EndOfStream);
            }
            match then {
                Then::End if !any => return Ok(Why::RunEnded),
                Then::Anew if !any => match open(self.run, self.edge, &self.watch)? {
                    Some((rings, anew)) => {
                        (self.rings, self.anew, then) = (rings, anew, Then::GoOn);
                        continue;
                    }
                    None => return Ok(Why::RunEnded),
                },
                _ => {}
            }
            nap = if any { Duration::ZERO } else { (nap * 2).clamp(SHORTEST_NAP, LONGEST_NAP) };
            if !any {
                let open = self.rings.iter().filter(|ring| !ring.ended).map(|ring| &ring.tap);
                Tap::wait_any(open, nap).map_err(|e| Trouble::Failed(e.to_string()))?;
            }
            match self.watch.wait(Duration::ZERO).map_err(failed)? {
                Seen::Signal => return Ok(Why::Interrupted),
                Seen::Run if then == Then::GoOn => {
                    then = self.heard()?;
                    waits = false;
                }
                Seen::Run | Seen::Nothing => {}
            }
            if asked.elapsed() >= ASK_EVERY {
                self.to.flush().map_err(failed)?;
                if then == Then::GoOn && !std::mem::replace(&mut waits, true) {
                    self.run.send(&Request::Edge { edge: self.edge.to_owned() })?;
                }
                asked = Instant::now();
            }
        }
    }

    /// What the run has answered, or that it has hung up.
    fn heard(&mut self) -> Result<Then, Trouble> {
        match self.run.receive() {
            Ok((Answer::Edge(EdgeState::Ended), _)) | Err(Error::Gone) => Ok(Then::End),
            Ok((Answer::Edge(EdgeState::Open { anew, .. }), _)) if anew != self.anew => Ok(Then::Anew),
            Ok((Answer::Edge(EdgeState::Open { rings, .. }), _)) => {
                // A replica that left has handed on what it had not read.
                for ring in self.rings.len() as u32..rings.min(MAX_RINGS) {
                    self.rings.push(tap(self.run, self.edge, ring)?);
                }
                Ok(Then::GoOn)
            }
            Ok(_) => Ok(Then::GoOn),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes some of what one ring has: whether there was anything.
    fn turn(&mut self, at: usize, messages: u64) -> Result<bool, Trouble> {
        let (ring, number) = (&mut self.rings[at], at as u16);
        let (mut any, mut taken) = (false, 0);
        for _ in 0..TURN_MESSAGES {
            if ring.ended || taken > TURN_BYTES || self.to.messages() >= messages {
                break;
            }
            match ring.tap.look().map_err(|e| Trouble::Failed(e.to_string()))? {
                Tapped::Empty => break,
                Tapped::End => ring.ended = true,
                Tapped::Missed(missed) => {
                    self.to.lost(number, now_ns(), lost(missed, ring.blocks)).map_err(failed)?;
                }
                Tapped::Message(bytes) => {
                    taken += bytes.len() as u64;
                    match ring.blocks {
                        None => self.to.message(number, now_ns(), bytes).map_err(failed)?,
                        Some(framing) => {
                            for message in blocks::messages(bytes, framing) {
                                if self.to.messages() < messages {
                                    self.to.message(number, now_ns(), message).map_err(failed)?;
                                }
                            }
                        }
                    }
                }
            }
            any = true;
        }
        Ok(any)
    }
}

/// Of blocks it is known how long they were, not how many messages were in them.
fn lost(missed: Missed, blocks: Option<Framing>) -> Lost {
    match blocks {
        None => Lost { messages: missed.messages, bytes: missed.bytes },
        Some(_) => {
            let heads = missed.messages.map(|n| n.saturating_mul(blocks::HEAD as u64));
            let bytes = missed.bytes.zip(heads).map(|(bytes, heads)| bytes.saturating_sub(heads));
            Lost { messages: None, bytes }
        }
    }
}

/// The rings of an edge, once its stages run, and how often they have been made anew. `None`: it was told to stop before
/// they did, or they never will.
pub fn open(run: &Connection, edge: &str, watch: &Watch) -> Result<Option<(Vec<Ring>, u32)>, Trouble> {
    loop {
        match run.ask(&Request::Edge { edge: edge.to_owned() }) {
            Ok((Answer::Edge(EdgeState::Open { rings, anew }), _)) => {
                if rings > MAX_RINGS {
                    return Err(Trouble::Failed(format!("edge `{edge}` has {rings} rings, more than {MAX_RINGS}")));
                }
                let rings = (0..rings).map(|ring| tap(run, edge, ring)).collect::<Result<_, _>>()?;
                return Ok(Some((rings, anew)));
            }
            Ok((Answer::Edge(EdgeState::Waiting), _)) => match watch.wait(LONGEST_NAP).map_err(failed)? {
                Seen::Nothing => {}
                Seen::Signal | Seen::Run => return Ok(None),
            },
            Ok((Answer::Edge(EdgeState::Ended), _)) | Err(Error::Gone) => return Ok(None),
            Ok((other, _)) => return Err(Error::Nonsense(format!("{other:?}")).into()),
            Err(e) => return Err(e.into()),
        }
    }
}

fn tap(run: &Connection, edge: &str, ring: u32) -> Result<Ring, Trouble> {
    match run.ask(&Request::Tap { edge: edge.to_owned(), ring })? {
        (Answer::Tap(memory), fds) => {
            let on_full = OnFull::from_number(memory.on_full)
                .ok_or_else(|| Error::Nonsense(format!("{} to do when it is full", memory.on_full)))?;
            let shape = Shape { ring: memory.ring_bytes, slab: memory.slab_bytes, on_full };
            let tap = Tap::from_fds(edge, shape, fds).map_err(|e| Trouble::Failed(e.to_string()))?;
            let blocks = memory.blocks.map(|blocks| match blocks {
                Blocks::Lines => Framing::Lines,
                Blocks::U32le => Framing::U32le,
            });
            Ok(Ring { producer: memory.producer, tap, blocks, ended: false })
        }
        (other, _) => Err(Error::Nonsense(format!("{other:?}")).into()),
    }
}

/// Signals, and what the run says: an answer, or that it has hung up.
pub struct Watch {
    epoll: Epoll,
    signals: SignalFd,
}

pub enum Seen {
    Nothing,
    Signal,
    Run,
}

impl Watch {
    const SIGNALS: u64 = 0;
    const RUN: u64 = 1;

    pub fn new(run: &Connection) -> io::Result<Self> {
        let (epoll, signals) = (Epoll::new()?, SignalFd::new(&ASKED_TO_STOP)?);
        epoll.add(signals.as_fd(), Self::SIGNALS, EventFlags::IN)?;
        epoll.add(run, Self::RUN, EventFlags::IN)?;
        Ok(Self { epoll, signals })
    }

    fn wait(&self, longest: Duration) -> io::Result<Seen> {
        let mut events = Events::default();
        self.epoll.wait(&mut events, Some(longest))?;
        let mut seen = Seen::Nothing;
        for event in events.iter() {
            if event.token == Self::SIGNALS {
                self.signals.read()?;
                return Ok(Seen::Signal);
            }
            seen = Seen::Run;
        }
        Ok(seen)
    }
}

fn failed(e: io::Error) -> Trouble {
    Trouble::Failed(format!("the recording could not be written: {e}"))
}

/// Since 1970.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
