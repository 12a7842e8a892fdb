//! Where what lies in a segment, and what the header word of a record says. docs/protocol.md has it for people.

/// `nexusrng`
pub const MAGIC: u64 = u64::from_le_bytes(*b"nexusrng");
/// Head and cursor files say it; another one is refused.
pub const VERSION: u32 = 1;

/// Segments of fewer bytes are made this long; all are rounded up to whole pages.
pub const MIN_CAPACITY: u64 = if cfg!(loom) { 512 } else { 4096 };
/// The longest ring, and the longest slab.
pub const MAX_CAPACITY: u64 = 1 << 36;
/// The most consumers of one ring: their cursors travel in one packet with head, ring and slab.
pub const MAX_CONSUMERS: usize = 128;
const _: () = assert!(MAX_CONSUMERS + 3 <= nexusflow_sys::socket::MAX_FDS);

/// Messages of at least so many bytes lie in the slab, if there is one.
///
/// Measured with `ring_bench throughput`, once as it is (`inline`: all in a ring of 1 MiB) and once with 4 KiB here, between
/// two cores of one L3: in GB/s, ring and slab, 8.0 and 7.3 at 4 KiB, 9.8 and 7.9 at 8 KiB, 11.2 and 8.4 at 16 KiB, 12.1
/// and 8.4 at 32 KiB, 11.7 and 8.9 at 128 KiB: there a ring that fits the L2 is never the worse. Between two CPUs that share
/// an L2 the slab is the better one from about 32 KiB on, 3.3 times as fast as a ring of 8 MiB: so it is kept at that. (The slab
/// was used from its low end then; since messages go round in it, 64 KiB reach 56 GB/s, and it has not been measured anew.)
pub const LARGE: usize = 32 * 1024;
/// The longest ring beside a slab: it holds the small messages, and a reference for each large one.
pub const MAX_RING_BESIDE_SLAB: u64 = 4 << 20;
const _: () = assert!(MAX_CAPACITY / GRAIN < 1 << 32);
/// Extents of the slab begin at multiples of this and take multiples of it.
pub const GRAIN: u64 = 64;

/// Offsets in the head file. Written once by the supervisor:
pub const H_MAGIC: usize = 0;
pub const H_VERSION: usize = 8;
pub const H_WAIT: usize = 12;
pub const H_RING: usize = 16;
pub const H_SLAB: usize = 24;
pub const H_CONSUMERS: usize = 32;
pub const H_ON_FULL: usize = 36;
/// By the producer: 0, or 1 + the position it wants released before it is woken.
pub const H_SLEEPING: usize = 128;
/// By the producer: 0, or 1 + the only CPU it may use.
pub const H_CPU: usize = 136;
/// By the producer: nothing of the ring behind this position has been written over yet.
pub const H_CLAIM: usize = 256;
/// By the producer: how many extents of the slab it has taken so far, and the last two of them: `n` in word `n % 2`.
pub const H_EXTENT_COUNT: usize = 264;
pub const H_EXTENTS: usize = 272;
/// By the producer, to count: two slots, see `counts`.
pub const H_COUNTS: usize = 320;
pub const H_BLOCKED_NS: usize = 288;
pub const H_HIGH_WATER: usize = 296;
/// By the producer: how many publications were of 1, 2–3, 4–7 … messages.
pub const H_BATCHES: usize = 384;
pub const BATCHES: usize = 16;

/// Offsets in a cursor file. Written once by the supervisor:
pub const C_MAGIC: usize = 0;
pub const C_VERSION: usize = 8;
pub const C_INDEX: usize = 12;
/// By the consumer: everything before this position may be overwritten. Where the oldest may be dropped, one more than
/// the position while the consumer reads there; while it does not, the producer may move it on.
pub const C_RELEASED: usize = 128;
/// By whoever wakes the producer: another number each time. A producer sleeps on it.
pub const C_WAKES: usize = 192;
/// By whoever detaches it: not 0 when this consumer takes no part any more.
pub const C_DETACHED: usize = 200;
/// By the consumer: 0, or 1 + the position of the record it waits for.
pub const C_SLEEPING: usize = 256;
/// By the consumer: 0, or 1 + the only CPU it may use.
pub const C_CPU: usize = 208;
/// By the consumer, to count: two slots, see `counts`.
pub const C_COUNTS: usize = 320;
pub const C_WAITED_NS: usize = 384;

/// In a [`C_RELEASED`]: see there.
pub const READING: u64 = 1;
/// A [`C_RELEASED`] that holds nobody back. Not a multiple of 8, so never a position.
pub const DETACHED: u64 = u64::MAX;

/// Header words lie at multiples of this, and are this long.
pub const WORD: usize = 8;
/// What a reference takes in the ring: header, offset in the slab, number of the extent; where messages may be dropped,
/// its index too.
pub const REFERENCE: usize = 3 * WORD;
/// Behind the header of each record, where messages may be dropped: how many were offered before this one.
pub const INDEX: usize = WORD;

/// The longest message that lies in a ring of so many bytes: its own header, and the header behind it, must fit too.
pub const fn max_message(ring: u64) -> u64 {
    let room = ring.saturating_sub(2 * WORD as u64);
    let longest = !7u32 as u64;
    if room < longest { room } else { longest }
}

/// What a record of `len` bytes takes, its header counted.
pub const fn record_len(len: usize) -> usize {
    WORD + len.next_multiple_of(WORD)
}

/// An extent as one word, for who looks on: both in [`GRAIN`]s, and both below 2^32.
pub const fn extent_word(offset: u64, len: u64) -> u64 {
    ((offset / GRAIN) << 32) | len.div_ceil(GRAIN)
}

const NOT_READY: u32 = 0;
const READY: u32 = 1;
const END: u32 = 2;
const LARGE_READY: u32 = 3;

/// The header word at `position` before its record is there.
pub const fn not_ready(position: u64) -> u64 {
    low(position, NOT_READY) as u64
}

/// The header word of a record of `len` bytes that can be read.
pub const fn ready(position: u64, len: u32) -> u64 {
    (len as u64) << 32 | low(position, READY) as u64
}

/// The header word of a reference to `len` bytes in the slab that can be read.
pub const fn ready_large(position: u64, len: u32) -> u64 {
    (len as u64) << 32 | low(position, LARGE_READY) as u64
}

/// The word at `position` when nothing will follow.
pub const fn end(position: u64) -> u64 {
    low(position, END) as u64
}

/// The low half, which sleepers watch: what it is, and 30 bits of where, so that a stale word is known for one.
const fn low(position: u64, what: u32) -> u32 {
    ((position >> 3) as u32) << 2 | what
}

/// What a header word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    NotReady,
    Ready {
        len: usize,
    },
    /// A message in the slab; where follows in the record.
    Large {
        len: usize,
    },
    End,
}

/// Reads the word that lies at `position`; `room` bytes are there for its record and the header behind it.
#[inline(always)]
pub fn read(word: u64, position: u64, room: u64) -> Result<Header, &'static str> {
    let (len, what) = ((word >> 32) as usize, word as u32 & 3);
    if word as u32 != low(position, what) {
        return Err("a record out of its turn");
    }
    match what {
        READY if (record_len(len) + WORD) as u64 <= room => Ok(Header::Ready { len }),
        LARGE_READY if len > 0 && (REFERENCE + WORD) as u64 <= room => Ok(Header::Large { len }),
        READY => Err("a record longer than the room for it"),
        LARGE_READY => Err("a reference where none can be"),
        NOT_READY if len == 0 => Ok(Header::NotReady),
        END if len == 0 => Ok(Header::End),
        _ => Err("a header of no kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(position in 0u64..1 << 60, len in 1u32..1 << 31) {
            let position = position & !7;
            let room = 1u64 << 40;
            prop_assert_eq!(read(not_ready(position), position, room), Ok(Header::NotReady));
            prop_assert_eq!(read(end(position), position, room), Ok(Header::End));
            prop_assert_eq!(read(ready(position, len), position, room), Ok(Header::Ready { len: len as usize }));
            let large = ready_large(position, len);
            prop_assert_eq!(read(large, position, room), Ok(Header::Large { len: len as usize }));
            prop_assert!(read(ready(position, len), position + 8, room).is_err());
        }

        #[test]
        fn a_record_never_reaches_past_its_room(word: u64, position: u64, room in 16u64..1 << 30) {
            match read(word, position & !7, room) {
                Ok(Header::Ready { len }) => prop_assert!((record_len(len) + WORD) as u64 <= room),
                Ok(Header::Large { .. }) => prop_assert!((REFERENCE + WORD) as u64 <= room),
                _ => {}
            }
        }
    }

    #[test]
    fn the_longest_message_just_fits() {
        assert_eq!(max_message(4096), 4080);
        assert_eq!(record_len(4080) + WORD, 4096);
        assert_eq!(record_len(0), 8);
        assert_eq!(record_len(1), 16);
        assert_eq!(max_message(8), 0);
        assert!(max_message(MAX_CAPACITY) <= u64::from(u32::MAX));
    }
}
