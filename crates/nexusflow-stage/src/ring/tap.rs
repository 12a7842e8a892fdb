//! Looking on at a ring, without a part in it: nobody waits for a [`Tap`], nobody knows of it. All its memory is mapped
//! read-only.
//!
//! It copies, and then looks whether what it has copied was still there. What was overwritten meanwhile is missed, and
//! counted: exactly, since all who count say up to which position they did.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{ReadMap, page_size};
use nexusflow_sys::memfd;

use super::counts::Counts;
use super::layout::{self, DETACHED, GRAIN, WORD};
use super::records::{self, Place, Record};
use super::{Geometry, MAX_CONSUMERS, Shape, Until, check_magic, is_position, poisoned};
use crate::error::{Error, Result};

/// How often a consumer that goes on while it is looked at is looked at again.
const LOOKS: usize = 100;

/// One who looks on at a ring.
#[derive(Debug)]
pub struct Tap {
    edge: String,
    head: ReadMap,
    ring: ReadMap,
    slab: Option<ReadMap>,
    cursors: Vec<ReadMap>,
    geometry: Geometry,
    position: u64,
    /// What had passed up to `position`, if that is known.
    counts: Option<Counts>,
    /// Where messages are dropped: the index of the next one, if none is missed; and whether it went on elsewhere since.
    expected: Option<u64>,
    skipped: bool,
    copy: Vec<u8>,
}

/// What a look finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Tapped<'a> {
    /// The next message, as it was sent.
    Message(&'a [u8]),
    /// Here something was overwritten before it could be copied.
    Missed(Missed),
    /// Nothing yet.
    Empty,
    /// The end: nothing will follow.
    End,
}

/// How much was missed: messages and their bytes; `None` if nobody can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
}

impl Tap {
    /// Looks on at a ring whose descriptors were received: head, ring, slab if it has one, then every consumer's cursor.
    /// It begins with what the slowest consumer has not released: what one who joins now would read.
    pub fn from_fds(edge: &str, shape: Shape, mut fds: Vec<OwnedFd>) -> Result<Self> {
        let shape = shape.check(edge)?;
        let memory = if shape.slab > 0 { 3 } else { 2 };
        if !(memory + 1..=memory + MAX_CONSUMERS).contains(&fds.len()) {
            return Err(poisoned(edge, "a wrong number of descriptors"));
        }
        let cursors = fds.split_off(memory);
        let failed = |source| Error::Io { doing: "look on at an edge", source };
        let map = |fd: &OwnedFd, head: u64, ring: u64| {
            memfd::check(fd, head + ring, false)?;
            ReadMap::ring(fd, head as usize, ring as usize)
        };
        let page = page_size() as u64;
        let head = map(&fds[0], page, 0).map_err(failed)?;
        let geometry = Geometry::read(edge, &head, shape)?;
        let ring = map(&fds[1], 0, shape.ring).map_err(failed)?;
        let slab = fds.get(2).map(|fd| map(fd, shape.slab, 0)).transpose().map_err(failed)?;
        let cursors = cursors
            .iter()
            .map(|fd| {
                let cursor = map(fd, page, 0).map_err(failed)?;
                check_magic(edge, &cursor).map(|()| cursor)
            })
            .collect::<Result<_>>()?;
        let edge = edge.to_owned();
        let mut tap = Self {
            edge,
            head,
            ring,
            slab,
            cursors,
            geometry,
            position: 0,
            counts: None,
            expected: None,
            skipped: false,
            copy: Vec::new(),
        };
        (tap.position, tap.counts) = tap.begin()?;
        Ok(tap)
    }

    /// The next message, copied; or what became of it.
    pub fn look(&mut self) -> Result<Tapped<'_>> {
        let offset = self.geometry.offset(self.position);
        let room = self.geometry.capacity;
        let record = records::read(&self.ring, &self.geometry, self.position, offset, room);
        let extent = match record {
            Ok(Record::Message(place)) => self.copy_out(place, offset),
            _ => 0,
        };
        // Whatever was read above, it is true only if it had not been written over by then. The producer stores the
        // claim, then a release fence, then writes. If we have read a byte of that, this fence makes the claim visible
        // to the load behind it.
        fence(Ordering::Acquire);
        if self.head.word64(layout::H_CLAIM).load(Ordering::Relaxed) > self.position + self.geometry.capacity {
            return self.skip().map(Tapped::Missed);
        }
        match record.map_err(|what| poisoned(&self.edge, what))? {
            Record::NotReady => Ok(Tapped::Empty),
            Record::End => Ok(match self.missed_before(|tap| Counts::read(&tap.head, layout::H_COUNTS).offered()) {
                Some(missed) => Tapped::Missed(missed),
                None => Tapped::End,
            }),
            Record::Message(place) => {
                if let Some(missed) = self.missed_before(|_| place.index) {
                    return Ok(Tapped::Missed(missed)); // and then this message
                }
                self.expected = Some(place.index.wrapping_add(1));
                let whole = !place.large || self.is_still_there(place, extent);
                self.position += place.record as u64;
                if let Some(counts) = &mut self.counts {
                    counts.add(place.len);
                    counts.position = self.position;
                }
                Ok(match whole {
                    true => Tapped::Message(&self.copy[..place.len]),
                    false => Tapped::Missed(Missed { messages: Some(1), bytes: Some(place.len as u64) }),
                })
            }
        }
    }

    /// Where it reads: what lies before it has been seen, or missed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Sleeps until there may be something new on one of these, or that long. Nobody wakes who looks on; but who wakes a
    /// consumer that sleeps for the same message wakes this one too.
    pub fn wait_any<'t>(taps: impl IntoIterator<Item = &'t Self>, longest: Duration) -> Result<()> {
        let watched = |tap: &'t Self| {
            (tap.ring.word32(tap.geometry.offset(tap.position)), layout::not_ready(tap.position) as u32)
        };
        Until::forever().sleep(&taps.into_iter().map(watched).collect::<Vec<_>>(), longest)
    }

    /// Copies what may be a message; of a large one the number of its extent.
    fn copy_out(&mut self, place: Place, offset: usize) -> u64 {
        if self.copy.len() < place.len {
            self.copy.resize(place.len, 0);
        }
        let to = &mut self.copy[..place.len];
        match &self.slab {
            Some(slab) if place.large => {
                slab.copy_out(place.at, to);
                self.ring.word64(offset + self.geometry.lead + WORD).load(Ordering::Relaxed)
            }
            _ => {
                self.ring.copy_out(place.at, to);
                0
            }
        }
    }

    /// Whether nothing was written into a message's extent, the `number`th, before the fence of [`Self::look`]. It is
    /// the message's own until all have released it. After that, what was taken next is known, and no more than that:
    /// the word of the one before may have been overwritten by that of the one after.
    fn is_still_there(&self, place: Place, number: u64) -> bool {
        // A cursor that is not behind the record now was not when the bytes were copied: the producer writes there after
        // it has seen it behind it, and had we read a byte of that, we would see it there as well.
        if self.released().is_some_and(|released| released <= self.position) {
            return true;
        }
        let taken = || self.head.word64(layout::H_EXTENT_COUNT).load(Ordering::Acquire);
        let count = taken();
        let next = self.head.word64(layout::H_EXTENTS + 8 * (count % 2) as usize).load(Ordering::Acquire);
        let (offset, len) = ((next >> 32) * GRAIN, (next & 0xffff_ffff) * GRAIN);
        let apart = offset + len <= place.at as u64 || place.at as u64 + place.len as u64 <= offset;
        // Taken again since: that word may be another's.
        count == number || (count == number.wrapping_add(1) && apart && taken() == count)
    }

    /// Where messages are dropped, and some were missed: how many, now that the next one's index is seen. Those that were
    /// dropped meanwhile are among them, and nobody knows how long all of them were.
    fn missed_before(&mut self, index: impl FnOnce(&Self) -> u64) -> Option<Missed> {
        if !std::mem::take(&mut self.skipped) {
            return None;
        }
        let index = index(self);
        let messages = self.expected.replace(index).map(|expected| index.wrapping_sub(expected));
        Some(Missed { messages, bytes: None })
    }

    /// Goes on where the slowest consumer stands: it has not released what is there, so it cannot be far from whole.
    fn skip(&mut self) -> Result<Missed> {
        let (position, counts) = self.begin()?;
        if position <= self.position {
            return Err(poisoned(&self.edge, "written over before it was released"));
        }
        if self.geometry.indexed() {
            (self.position, self.skipped) = (position, true);
            return Ok(Missed { messages: Some(0), bytes: None }); // so far: the next record says
        }
        let missed = |of: fn(&Counts) -> u64| Some(of(&counts?).wrapping_sub(of(&self.counts?)));
        let missed = Missed { messages: missed(|c| c.messages), bytes: missed(|c| c.bytes) };
        (self.position, self.counts) = (position, counts);
        Ok(missed)
    }

    /// Where the slowest consumer stands and what had passed up to there; if there is none, the same of the producer.
    fn begin(&self) -> Result<(u64, Option<Counts>)> {
        let mut begin = None;
        for _ in 0..LOOKS {
            let released = |cursor| released(cursor, &self.geometry);
            let slowest = self.cursors.iter().filter_map(|c| Some((released(c)?, c))).min_by_key(|(at, _)| *at);
            let Some((at, cursor)) = slowest else {
                let counts = Counts::read(&self.head, layout::H_COUNTS);
                begin = Some((counts.position, Some(counts)));
                break;
            };
            let counts = Counts::read_up_to(cursor, layout::C_COUNTS, at).filter(|c| c.position == at);
            // A slot is written again only after the cursor has moved on: one that has not moved is whole.
            fence(Ordering::Acquire);
            let exact = counts.filter(|_| released(cursor) == Some(at));
            begin = Some((at, exact));
            if exact.is_some() {
                break;
            }
        }
        let Some((at, counts)) = begin else { return Ok((0, None)) };
        if is_position(at) { Ok((at, counts)) } else { Err(poisoned(&self.edge, "a cursor between records")) }
    }

    /// Up to where all consumers have released; `None` if there are none.
    fn released(&self) -> Option<u64> {
        self.cursors.iter().filter_map(|cursor| released(cursor, &self.geometry)).min()
    }
}

/// What the consumer of this cursor has released; `None` if it is detached.
fn released(cursor: &ReadMap, geometry: &Geometry) -> Option<u64> {
    let detached = cursor.word32(layout::C_DETACHED).load(Ordering::Acquire) != 0;
    let released = cursor.word64(layout::C_RELEASED).load(Ordering::Acquire);
    (!detached && released != DETACHED).then_some(geometry.released(released))
}
