//! Where what lies in a store of objects, and what an order word says. docs/protocol.md has it for people.

/// `nexusobj`
pub const MAGIC: u64 = u64::from_le_bytes(*b"nexusobj");
/// Head and cursor files of a store say it; another one is refused.
pub const VERSION: u32 = 1;

/// The most objects that a store holds at once, and the least: one for each page of its capacity in between.
pub const MAX_SLOTS: usize = 4096;
pub const MIN_SLOTS: usize = 16;
/// Of a store whose objects have memory files of their own, each a descriptor that the runner keeps.
pub const MAX_SEALED_SLOTS: usize = 512;
/// Order words of all lanes together.
const MAX_ORDER: usize = 1 << 18;
/// Bytes that a slot stands for.
const SLOT_BYTES: u64 = 4096;

/// Offsets in the head file. Written once by the supervisor:
pub const H_MAGIC: usize = 0;
pub const H_VERSION: usize = 8;
pub const H_WAIT: usize = 12;
pub const H_CAPACITY: usize = 16;
pub const H_SLOTS: usize = 24;
pub const H_CONSUMERS: usize = 28;
pub const H_FLAGS: usize = 32;
/// By the producer: how many of its threads sleep for room.
pub const H_SLEEPING: usize = 128;
/// By the producer: nanoseconds it has waited for room; to count, not to rely on.
pub const H_BLOCKED_NS: usize = 136;
/// By the producer, two pairs in turn: objects sealed, and their bytes. The one whose number is true is.
pub const H_TOTALS: usize = 192;
/// Where the lanes begin.
pub const H_LANES: usize = 512;

/// In [`H_FLAGS`].
pub const FLAG_SEALED: u32 = 1;
pub const FLAG_DISTRIBUTE: u32 = 2;

/// A lane is a hint of its tail, then an order word for each slot.
pub const LANE_HEAD: usize = 64;
pub const WORD: usize = 8;

/// A slot of the table: what an object is.
pub const SLOT: usize = 64;
/// 1 + its number in its lane.
pub const S_NUMBER: usize = 0;
pub const S_OFFSET: usize = 8;
pub const S_LEN: usize = 16;
pub const S_LANE: usize = 24;
/// Its number among those of all lanes, by which it is published and taken.
pub const S_SERIAL: usize = 40;
/// When it was sealed: nanoseconds of the monotonic clock.
pub const S_SEALED_NS: usize = 32;

/// Offsets in a cursor file. Written once by the supervisor:
pub const C_MAGIC: usize = 0;
pub const C_VERSION: usize = 8;
pub const C_INDEX: usize = 12;
/// By the consumer: grows with each release. A producer that waits for room sleeps on it.
pub const C_RELEASED: usize = 128;
/// By the consumer: 0, or 1 + the number of the object it waits for.
pub const C_SLEEPING: usize = 256;
/// By whoever detaches it: not 0 when this consumer takes no part any more.
pub const C_DETACHED: usize = 264;
/// By the consumer, for those who count.
pub const C_BYTES: usize = 384;
pub const C_WAITED_NS: usize = 392;
/// By the consumer, one word for each slot: 1 + the number of the object there that it has released last.
pub const C_SLOTS: usize = 512;

/// Objects lie at multiples of this.
pub const ALIGN: u64 = 64;

/// How many objects a store of `capacity` bytes holds at once.
pub fn slots(capacity: u64, lanes: usize, sealed: bool) -> usize {
    let max = if sealed { MAX_SEALED_SLOTS } else { MAX_SLOTS };
    let wanted = usize::try_from(capacity / SLOT_BYTES).unwrap_or(max).clamp(MIN_SLOTS, max);
    let fit = MAX_ORDER / lanes.max(1);
    1 << wanted.min(fit).ilog2()
}

/// Where lane `lane` has the hint of its tail.
pub const fn lane(lane: usize, slots: usize) -> usize {
    H_LANES + lane * (LANE_HEAD + slots * WORD)
}

/// Where lane `at` has the order word of its object `number`.
pub const fn order(at: usize, number: u64, slots: usize) -> usize {
    lane(at, slots) + LANE_HEAD + (number % slots as u64) as usize * WORD
}

/// Where slot `i` of the table lies.
pub const fn slot(i: usize, lanes: usize, slots: usize) -> usize {
    lane(lanes, slots) + i * SLOT
}

/// Bytes of the head file before it is rounded up to pages.
pub const fn head_len(lanes: usize, slots: usize) -> usize {
    slot(slots, lanes, slots)
}

/// Bytes of a cursor file before it is rounded up to pages.
pub const fn cursor_len(slots: usize) -> usize {
    C_SLOTS + slots * WORD
}

const READY: u64 = 1 << 48;
const END: u64 = 2 << 48;
const SLOT_SHIFT: u32 = 32;

/// The order word of object `number`, which lies in `slot`.
pub const fn ready(number: u64, slot: usize) -> u64 {
    READY | (slot as u64) << SLOT_SHIFT | low(number) as u64
}

/// The word in the place of object `number` when none will follow.
pub const fn end(number: u64) -> u64 {
    END | low(number) as u64
}

/// The low half of the order word of object `number`, which sleepers watch.
const fn low(number: u64) -> u32 {
    (number as u32).wrapping_add(1)
}

/// The low half as it is until object `number` is there: of the object one round earlier.
pub const fn stale(number: u64, slots: usize) -> u32 {
    if number < slots as u64 { 0 } else { low(number - slots as u64) }
}

/// What an order word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    NotReady,
    Ready { slot: usize },
    End,
}

/// Reads the word in the place of object `number`.
pub fn read(word: u64, number: u64, slots: usize) -> Result<Order, &'static str> {
    let (high, half) = (word >> SLOT_SHIFT << SLOT_SHIFT, word as u32);
    if half == stale(number, slots) {
        return Ok(Order::NotReady);
    }
    if half != low(number) {
        return Err("an object out of its turn");
    }
    let slot = ((high & !READY) >> SLOT_SHIFT) as usize;
    match high {
        END => Ok(Order::End),
        _ if high & READY != 0 && slot < slots => Ok(Order::Ready { slot }),
        _ => Err("an order of no kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 0u64..1 << 60, slot in 0usize..64) {
            let slots = 64;
            prop_assert_eq!(read(ready(number, slot), number, slots), Ok(Order::Ready { slot }));
            prop_assert_eq!(read(end(number), number, slots), Ok(Order::End));
            prop_assert_eq!(read(ready(number, slot), number + 64, slots), Ok(Order::NotReady));
            prop_assert!(read(ready(number + 1, slot), number, slots).is_err());
        }

        #[test]
        fn a_slot_is_always_one_of_the_table(word: u64, number: u64) {
            if let Ok(Order::Ready { slot }) = read(word, number, 16) {
                prop_assert!(slot < 16);
            }
        }
    }

    #[test]
    fn tables_grow_with_the_capacity_up_to_a_limit() {
        assert_eq!(slots(1, 1, false), 16);
        assert_eq!(slots(16 << 20, 1, false), 4096);
        assert_eq!(slots(1 << 36, 1, false), 4096);
        assert_eq!(slots(1 << 36, 128, false), 2048);
        assert_eq!(slots(1 << 36, 1, true), 512);
        assert_eq!(slots(100 << 12, 1, false), 64);
        assert_eq!(read(0, 0, 16), Ok(Order::NotReady));
    }
}
