//! Totals that are exact though their writer may be killed between any two stores.
//!
//! They lie in two slots of four words: dropped, messages, bytes and, written last, the position up to which they
//! count. The writer always writes the older slot. So the slot with the greater position (and drops, which may grow
//! alone) is whole: the other one is the one that was being written. Should both be of one position, the one that is
//! about to be written says so first.

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{Shared, WriteMap};

use super::steps::put;

/// Bytes of a slot, and the offsets in it.
const SLOT: usize = 32;
const DROPPED: usize = 0;
const MESSAGES: usize = 8;
const BYTES: usize = 16;
const POSITION: usize = 24;
/// For a position: the slot is being written.
const UNWRITTEN: u64 = u64::MAX;

/// What has passed up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub position: u64,
    pub messages: u64,
    pub bytes: u64,
    pub dropped: u64,
}

impl Counts {
    /// Adds one message. It may have begun at what a scribbler left, hence wrapping.
    #[inline]
    pub fn add(&mut self, len: usize) {
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u64);
    }

    /// How many messages were offered, those that were dropped counted.
    pub fn offered(&self) -> u64 {
        self.messages.wrapping_add(self.dropped)
    }

    fn key(self) -> (u64, u64) {
        (self.position, self.dropped)
    }

    fn load(map: &Shared, at: usize) -> Self {
        let word = |offset| map.word64(at + offset).load(Ordering::Acquire);
        if word(POSITION) == UNWRITTEN {
            return Self::default();
        }
        Self { position: word(POSITION), messages: word(MESSAGES), bytes: word(BYTES), dropped: word(DROPPED) }
    }

    /// The newest whole totals of two slots at `at`; also while they are written.
    pub fn read(map: &Shared, at: usize) -> Self {
        let slots = || [Self::load(map, at), Self::load(map, at + SLOT)];
        let newer = |[a, b]: [Self; 2]| if a.key() >= b.key() { a } else { b };
        // Only the older slot is written: what is still the newer one after it was read was whole. A writer who is that
        // fast twice in a row leaves totals that are off by a message, which is as good for somebody who watches.
        let first = newer(slots());
        let again = newer(slots());
        if again.key() == first.key() { first } else { again }
    }

    /// The last totals up to `position` of two slots: of there, unless the producer has moved the cursor on. A slot of
    /// further on is of what was never released, since its writer died.
    pub fn read_up_to(map: &Shared, at: usize, position: u64) -> Option<Self> {
        let slots = [Self::load(map, at), Self::load(map, at + SLOT)];
        slots.into_iter().filter(|c| c.position <= position).max_by_key(|c| c.key())
    }
}

/// Writes them.
#[derive(Debug)]
pub struct Counter {
    at: usize,
    /// The offset of the older slot.
    older: usize,
    /// Its position, and that of the other one.
    positions: (u64, u64),
}

impl Counter {
    /// Goes on after what lies there: `current` is the slot that is whole.
    pub fn new(map: &Shared, at: usize, current: &Counts) -> Self {
        let first_is_current = Counts::load(map, at).key() == current.key();
        // The older one may be torn: so it is taken for one of the same position.
        Self { at, older: if first_is_current { SLOT } else { 0 }, positions: (current.position, current.position) }
    }

    #[inline(always)]
    pub fn write(&mut self, map: &WriteMap, counts: &Counts) {
        let at = self.at + self.older;
        // Not before the other slot is whole.
        fence(Ordering::Release);
        if self.positions.0 == self.positions.1 {
            put(map.atomic64(at + POSITION), UNWRITTEN, Ordering::Relaxed);
            fence(Ordering::Release);
        }
        put(map.atomic64(at + DROPPED), counts.dropped, Ordering::Relaxed);
        put(map.atomic64(at + MESSAGES), counts.messages, Ordering::Relaxed);
        put(map.atomic64(at + BYTES), counts.bytes, Ordering::Relaxed);
        put(map.atomic64(at + POSITION), counts.position, Ordering::Release);
        self.older ^= SLOT;
        self.positions = (self.positions.1, counts.position);
    }
}
