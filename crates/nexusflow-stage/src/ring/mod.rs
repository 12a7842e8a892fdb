//! The ring: one producer, one or more consumers, shared memory between them. docs/protocol.md has the layout.
//!
//! The supervisor makes a [`Segment`] and hands its descriptors out; a [`Producer`] and [`Consumer`]s attach to it,
//! in other processes or in this one. Nobody writes memory that is another's, nobody holds a lock: what was not
//! published was never sent, what was not released is read again by who attaches next.

#[allow(unsafe_code)] // to look at a message in place
mod consumer;
mod layout;
#[allow(unsafe_code)] // to fill a reservation in place
mod producer;
mod segment;
#[cfg(test)]
mod tests;
mod wait;

pub use consumer::{Bytes, Consumer, Next, wait_any};
pub use layout::{MAX_CAPACITY, MAX_CONSUMERS, MIN_CAPACITY, VERSION as LAYOUT_VERSION, max_message};
pub use producer::{Producer, Reservation};
pub use segment::{ConsumerStats, Segment, SegmentOptions, Stats};
pub(crate) use wait::Spinner;
pub use wait::{Bell, MAX_SLEEP, Until, WaitMode};

use std::sync::atomic::Ordering;

use nexusflow_sys::map::Shared;

use crate::error::{Error, Result};
use layout::{Header, WORD};

/// What a segment's head says, checked.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    /// Where the ring begins in the data file.
    head: usize,
    capacity: u64,
    wait: WaitMode,
}

impl Geometry {
    /// What the head of a data file says, held against what was announced.
    fn read(edge: &str, map: &Shared, head: usize, capacity: u64) -> Result<Self> {
        let word = |offset| map.word64(offset).load(Ordering::Acquire);
        let half = |offset| map.word32(offset).load(Ordering::Acquire);
        check_magic(edge, map)?;
        if word(layout::D_CAPACITY) != capacity || word(layout::D_OFFSET) != head as u64 {
            return Err(poisoned(edge, "another capacity than announced"));
        }
        let wait =
            WaitMode::from_number(half(layout::D_WAIT)).ok_or_else(|| poisoned(edge, "an unknown way to wait"))?;
        Ok(Self { head, capacity, wait })
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.capacity) as usize
    }
}

/// Both kinds of file begin with magic and version.
fn check_magic(edge: &str, map: &Shared) -> Result<()> {
    const { assert!(layout::D_MAGIC == layout::C_MAGIC && layout::D_VERSION == layout::C_VERSION) };
    if map.word64(layout::D_MAGIC).load(Ordering::Acquire) != layout::MAGIC {
        return Err(poisoned(edge, "no ring at all"));
    }
    if map.word32(layout::D_VERSION).load(Ordering::Acquire) != layout::VERSION {
        return Err(poisoned(edge, "a layout of another version"));
    }
    Ok(())
}

fn poisoned(edge: &str, what: &'static str) -> Error {
    Error::Poisoned { edge: edge.to_owned(), what }
}

/// A capacity that is announced is one that a segment can have.
fn check_capacity(edge: &str, capacity: u64) -> Result<usize> {
    let page = page_size();
    let fits = (layout::MIN_CAPACITY..=layout::MAX_CAPACITY).contains(&capacity) && capacity.is_multiple_of(page);
    usize::try_from(capacity).ok().filter(|_| fits).ok_or_else(|| poisoned(edge, "an impossible capacity"))
}

fn page_size() -> u64 {
    nexusflow_sys::map::page_size() as u64
}

/// Whether a cursor can be true: at a record's begin, and not so far that sums could overflow.
fn is_position(n: u64) -> bool {
    n.is_multiple_of(WORD as u64) && n <= u64::MAX / 2
}

/// Follows the records from `from`, which somebody has yet to read, to the tail: where it is, and whether it is the
/// end of the stream. All there is to know of a producer that has died.
fn find_tail(edge: &str, map: &Shared, geometry: &Geometry, from: u64) -> Result<(u64, bool)> {
    if !is_position(from) {
        return Err(poisoned(edge, "a cursor between records"));
    }
    let mut at = from;
    loop {
        let word = map.word64(geometry.head + geometry.offset(at)).load(Ordering::Acquire);
        let header = layout::read(word, at, geometry.capacity - (at - from)).map_err(|what| poisoned(edge, what))?;
        match header {
            Header::NotReady => return Ok((at, false)),
            Header::End => return Ok((at, true)),
            Header::Ready { len } => at += layout::record_len(len) as u64, // ends: each leaves less room
        }
    }
}
