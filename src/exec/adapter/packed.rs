//! Many messages as one, for an edge with unmodified programs on both ends that frame alike: what one of them wrote is
//! what the other is to read, byte for byte, and nobody in between can tell. So whole blocks move, and a message costs
//! next to nothing. Such a message of the ring is a count, then that many messages as they are framed.

use std::sync::atomic::{AtomicU64, Ordering};

use nexusflow_stage::ring::{Bytes, Stats};

use super::PREFIX;
use crate::spec::Framing;

/// The count before the messages, in bytes.
pub const HEAD: usize = 8;

/// What has gone through one end of a ring, since the ring itself counts a block as one message.
#[derive(Debug, Default)]
pub struct Tally {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Of a ring that carries blocks: what was written, and what each of its readers has released.
#[derive(Debug)]
pub struct Tallies {
    pub written: Tally,
    pub read: Vec<Tally>,
}

impl Tally {
    /// One thread adds, and others look.
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Tallies {
    pub fn new(readers: usize) -> Self {
        Self { written: Tally::default(), read: (0..readers).map(|_| Tally::default()).collect() }
    }

    /// Puts messages where the ring has counted blocks.
    pub fn correct(&self, stats: &mut Stats) {
        stats.messages = self.written.messages.load(Ordering::Relaxed);
        stats.bytes = self.written.bytes.load(Ordering::Relaxed);
        for (consumer, tally) in stats.consumers.iter_mut().zip(&self.read) {
            consumer.messages = tally.messages.load(Ordering::Relaxed);
            consumer.bytes = tally.bytes.load(Ordering::Relaxed);
        }
    }
}

/// What stands before the messages of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    pub messages: u64,
    /// The last line lacks its newline.
    pub unended: bool,
}

impl Head {
    pub fn bytes(self) -> [u8; HEAD] {
        (self.messages << 1 | u64::from(self.unended)).to_le_bytes()
    }

    pub fn read(block: &Bytes<'_>) -> Self {
        let mut bytes = [0; HEAD];
        block.copy_start_to(&mut bytes[..HEAD.min(block.len())]);
        let word = u64::from_le_bytes(bytes);
        Self { messages: word >> 1, unended: word & 1 == 1 }
    }

    /// The bytes of the messages that take `len` bytes, without what frames them.
    pub fn bare(self, framing: Framing, len: usize) -> u64 {
        let frames = match framing {
            Framing::Raw => 0,
            Framing::Lines => self.messages.saturating_sub(u64::from(self.unended)),
            Framing::U32le => self.messages.saturating_mul(PREFIX as u64),
        };
        (len as u64).saturating_sub(frames)
    }
}
