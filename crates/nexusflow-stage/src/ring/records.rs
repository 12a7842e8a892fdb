//! Reads records, and follows them: how a consumer goes on, and how the tail is found after a producer has died.

use nexusflow_sys::atomic::Ordering;
use nexusflow_sys::map::Shared;

use super::counts::Counts;
use super::layout::{self, GRAIN, Header, WORD};
use super::slab::Extent;
use super::{Geometry, is_position};

/// What lies at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    NotReady,
    Message(Place),
    End,
}

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In the slab, else in the ring.
    pub large: bool,
    pub at: usize,
    pub len: usize,
    /// Bytes of its record.
    pub record: usize,
    /// How many messages were offered before it; 0 where none is ever dropped.
    pub index: u64,
}

impl Place {
    /// Its part of the slab.
    pub fn extent(&self) -> Option<Extent> {
        let len = (self.len as u64).next_multiple_of(GRAIN);
        self.large.then_some(Extent { offset: self.at as u64, len })
    }
}

/// Reads the record at `position`, which is `offset` bytes into the ring; `room` bytes are there for it and the header
/// behind it. Each word is read once.
#[inline(always)]
pub fn read(
    ring: &Shared,
    geometry: &Geometry,
    position: u64,
    offset: usize,
    room: u64,
) -> Result<Record, &'static str> {
    let word = ring.word64(offset).load(Ordering::Acquire);
    read_as(word, ring, geometry, position, offset, room)
}

/// [`read`], with this word for its header.
#[inline(always)]
pub fn read_as(
    word: u64,
    ring: &Shared,
    geometry: &Geometry,
    position: u64,
    offset: usize,
    room: u64,
) -> Result<Record, &'static str> {
    let lead = geometry.lead;
    let index = || if lead > WORD { ring.word64(offset + WORD).load(Ordering::Relaxed) } else { 0 };
    Ok(match layout::read(word, position, room.saturating_sub((lead - WORD) as u64))? {
        Header::Ready { len } => {
            let record = geometry.record_len(len);
            Record::Message(Place { large: false, at: offset + lead, len, record, index: index() })
        }
        Header::NotReady => Record::NotReady,
        Header::End => Record::End,
        Header::Large { len } => {
            let at = ring.word64(offset + lead).load(Ordering::Relaxed);
            let there = at.is_multiple_of(GRAIN) && at < geometry.slab && len as u64 <= geometry.slab - at;
            if !there {
                return Err("a reference to where no message can be");
            }
            let record = geometry.reference_len();
            Record::Message(Place { large: true, at: at as usize, len, record, index: index() })
        }
    })
}

/// The first record that is not a message, from `from` on, which somebody has yet to read: where it is and whether it
/// is the end. `first`: takes this for the header at `from`. `each` sees the records on the way, and where they end.
pub fn follow(
    ring: &Shared,
    geometry: &Geometry,
    from: u64,
    first: Option<u64>,
    mut each: impl FnMut(u64, Place) -> Result<(), &'static str>,
) -> Result<(u64, bool), &'static str> {
    if !is_position(from) {
        return Err("a cursor between records");
    }
    let mut at = from;
    let mut word = first;
    loop {
        let (offset, room) = (geometry.offset(at), geometry.capacity - (at - from));
        let record = match word.take() {
            Some(word) => read_as(word, ring, geometry, at, offset, room)?,
            None => read(ring, geometry, at, offset, room)?,
        };
        match record {
            Record::NotReady => return Ok((at, false)),
            Record::End => return Ok((at, true)),
            Record::Message(place) => {
                at += place.record as u64; // ends: each leaves less room
                each(at, place)?;
            }
        }
    }
}

/// What is known of a producer that has died.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    pub position: u64,
    pub ended: bool,
    /// Exact up to there, unless the producer has scribbled over them.
    pub counts: Counts,
}

/// Finds the tail. The surest way is from where the producer has counted to: at most its last publication is behind
/// that. If it has left nonsense there, from a cursor, the furthest behind first: `cursors` is sorted.
pub fn find_tail(ring: &Shared, geometry: &Geometry, counted: Counts, cursors: &[u64]) -> Result<Tail, &'static str> {
    let mut counts = counted;
    let found = follow(ring, geometry, counted.position, None, |_, place| {
        counts.add(place.len);
        if geometry.indexed() {
            counts.dropped = place.index.wrapping_add(1).wrapping_sub(counts.messages);
        }
        Ok(())
    });
    let nonsense = match found {
        Ok((position, ended)) => return Ok(Tail { position, ended, counts: Counts { position, ..counts } }),
        Err(what) => what,
    };
    for &from in cursors {
        if let Ok((position, ended)) = follow(ring, geometry, from, None, |_, _| Ok(())) {
            return Ok(Tail { position, ended, counts: Counts { position, ..counted } });
        }
    }
    Err(nonsense)
}
