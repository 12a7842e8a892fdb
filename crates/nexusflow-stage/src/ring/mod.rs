//! The ring: one producer, one or more consumers, shared memory between them. docs/protocol.md has the layout.
//!
//! The supervisor makes a [`Segment`] and hands its descriptors out; a [`Producer`] and [`Consumer`]s attach to it,
//! in other processes or in this one. Nobody writes memory that is another's, nobody holds a lock: what was not
//! published was never sent, what was not released is read again by who attaches next.
//!
//! Small messages lie in the ring itself. A large one lies in the slab, where messages follow one another round and
//! round, and its record in the ring refers to it.

#[allow(unsafe_code)] // to look at a message in place
mod consumer;
mod counts;
mod layout;
#[allow(unsafe_code)] // to fill a reservation in place
mod producer;
mod records;
mod segment;
mod slab;
pub(crate) mod steps;
mod tap;
#[cfg(test)]
mod tests;
mod wait;

pub use crate::memory::{Hugepages, Memory};
pub use consumer::{Batch, Bytes, Consumer, Next, wait_any};
pub use layout::{LARGE, MAX_CAPACITY, MAX_CONSUMERS, MIN_CAPACITY, VERSION as LAYOUT_VERSION, max_message};
pub use producer::{Producer, Reservation};
pub(crate) use producer::{Savepoint, wait_any_room};
pub use segment::{ConsumerStats, OnFull, Segment, SegmentOptions, Stats};
pub use tap::{Missed, Tap, Tapped};
pub(crate) use wait::Spinner;
pub use wait::{Bell, MAX_SLEEP, Until, WaitMode};

use nexusflow_sys::atomic::Ordering;
use nexusflow_sys::map::Shared;

use crate::error::{Error, Result};
use layout::WORD;

/// The lengths of a segment's memory, as they are announced with its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Bytes of the ring: whole pages.
    pub ring: u64,
    /// Bytes of the slab: whole pages; 0 if there is none.
    pub slab: u64,
    /// Where messages may be dropped each record has an index.
    pub on_full: OnFull,
}

impl Shape {
    /// How a capacity is split for messages of at most `max_message` bytes: short ones lie in the ring alone.
    pub fn of(capacity: u64, max_message: u64) -> Self {
        let page = page_size();
        let capacity = capacity.clamp(layout::MIN_CAPACITY, layout::MAX_CAPACITY).next_multiple_of(page);
        if max_message < layout::LARGE as u64 {
            return Self { ring: capacity, slab: 0, on_full: OnFull::Block };
        }
        let ring = (capacity / 4).clamp(page, layout::MAX_RING_BESIDE_SLAB).next_multiple_of(page);
        // However small the capacity is, the longest message fits.
        let longest = max_message.min(layout::MAX_CAPACITY).next_multiple_of(page);
        Self { ring, slab: (capacity - ring.min(capacity)).max(longest), on_full: OnFull::Block }
    }

    /// The same with the slab, or the ring if there is no slab, rounded up to huge pages.
    pub fn in_pages(self, pages: Hugepages) -> Self {
        match (pages.bytes(), self.slab) {
            (None, _) => self,
            (Some(page), 0) => Self { ring: self.ring.next_multiple_of(page), ..self },
            (Some(page), slab) => Self { slab: slab.next_multiple_of(page), ..self },
        }
    }

    /// Bytes of all.
    pub fn total(&self) -> u64 {
        self.ring + self.slab
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> u64 {
        let longest = layout::max_message(layout::MAX_CAPACITY);
        if self.slab > 0 { self.slab.min(longest) } else { layout::max_message(self.ring - self.index_len() as u64) }
    }

    /// Bytes of each record's index.
    fn index_len(&self) -> usize {
        if self.on_full == OnFull::Block { 0 } else { layout::INDEX }
    }

    /// What is announced is what a segment can have.
    fn check(self, edge: &str) -> Result<Self> {
        let page = page_size();
        let possible = |n: u64| n <= layout::MAX_CAPACITY && n.is_multiple_of(page);
        match possible(self.ring) && possible(self.slab) && self.ring >= layout::MIN_CAPACITY {
            true => Ok(self),
            false => Err(poisoned(edge, "an impossible capacity")),
        }
    }
}

/// What a segment's head says, checked.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    /// Bytes of the ring.
    capacity: u64,
    slab: u64,
    wait: WaitMode,
    on_full: OnFull,
    /// Bytes of a record before its message, or before its reference into the slab.
    lead: usize,
}

impl Geometry {
    /// What a head file says, held against what was announced.
    fn read(edge: &str, head: &Shared, shape: Shape) -> Result<Self> {
        let word = |offset| head.word64(offset).load(Ordering::Acquire);
        let half = |offset| head.word32(offset).load(Ordering::Acquire);
        check_magic(edge, head)?;
        if word(layout::H_RING) != shape.ring || word(layout::H_SLAB) != shape.slab {
            return Err(poisoned(edge, "another capacity than announced"));
        }
        if half(layout::H_ON_FULL) != shape.on_full as u32 {
            return Err(poisoned(edge, "another thing to do when it is full than announced"));
        }
        let wait =
            WaitMode::from_number(half(layout::H_WAIT)).ok_or_else(|| poisoned(edge, "an unknown way to wait"))?;
        Ok(Self::new(shape, wait))
    }

    fn new(shape: Shape, wait: WaitMode) -> Self {
        let Shape { ring: capacity, slab, on_full } = shape;
        Self { capacity, slab, wait, on_full, lead: WORD + shape.index_len() }
    }

    /// What a message of `len` bytes takes when it lies in the ring.
    fn record_len(&self, len: usize) -> usize {
        self.lead + len.next_multiple_of(WORD)
    }

    /// What a reference takes.
    fn reference_len(&self) -> usize {
        layout::REFERENCE - WORD + self.lead
    }

    /// Whether records have indices, since messages may be dropped.
    fn indexed(&self) -> bool {
        self.on_full != OnFull::Block
    }

    /// The position that the word of a cursor says.
    fn released(&self, word: u64) -> u64 {
        match self.on_full {
            OnFull::DropOldest if word != layout::DETACHED => word & !layout::READING,
            _ => word,
        }
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.capacity) as usize
    }

    fn shape(&self) -> Shape {
        Shape { ring: self.capacity, slab: self.slab, on_full: self.on_full }
    }
}

/// Head and cursor files begin with magic and version.
fn check_magic(edge: &str, map: &Shared) -> Result<()> {
    const { assert!(layout::H_MAGIC == layout::C_MAGIC && layout::H_VERSION == layout::C_VERSION) };
    if map.word64(layout::H_MAGIC).load(Ordering::Acquire) != layout::MAGIC {
        return Err(poisoned(edge, "no ring at all"));
    }
    if map.word32(layout::H_VERSION).load(Ordering::Acquire) != layout::VERSION {
        return Err(poisoned(edge, "a layout of another version"));
    }
    Ok(())
}

#[cold]
fn poisoned(edge: &str, what: &'static str) -> Error {
    Error::Poisoned { edge: edge.to_owned(), what }
}

fn page_size() -> u64 {
    nexusflow_sys::map::page_size() as u64
}

/// Whether a cursor can be true: at a record's begin, and not so far that sums could overflow.
fn is_position(n: u64) -> bool {
    n.is_multiple_of(WORD as u64) && n <= u64::MAX / 2
}
