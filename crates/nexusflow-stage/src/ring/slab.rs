//! Who has which part of the slab, as its producer knows it: private memory, no shared word.
//!
//! Each message goes behind the last one, round and round in the low part of the slab: what was read a moment ago may still
//! lie in its reader's cache, from where it is dearer to fetch than from the one that the CPUs share.

use std::collections::{BTreeMap, VecDeque};

use super::layout::GRAIN;

/// A part of the slab: both are multiples of [`GRAIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// The low part of a slab that messages go round in, if they fit: it shall stay in the cache that CPUs share.
const WINDOW_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub struct Extents {
    /// Free parts by offset; no two touch.
    free: BTreeMap<u64, u64>,
    /// Of messages that are not released by all, with where their record ends, in that order.
    used: VecDeque<(u64, Extent)>,
    used_bytes: u64,
    len: u64,
    /// Behind what was taken last.
    next: u64,
}

impl Extents {
    pub fn new(len: u64) -> Self {
        Self { free: BTreeMap::from([(0, len)]), used: VecDeque::new(), used_bytes: 0, len, next: 0 }
    }

    /// In use, reserved ones counted.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Room for `len` bytes, if there is in one piece.
    pub fn take(&mut self, len: u64) -> Option<Extent> {
        let len = len.max(1).checked_next_multiple_of(GRAIN)?;
        let from = if self.next + len <= WINDOW_BYTES { self.next } else { 0 };
        let (offset, at) = self.fit(from, len).or_else(|| self.fit(0, len))?;
        let end = offset + self.free.remove(&offset)?;
        if at > offset {
            self.free.insert(offset, at - offset);
        }
        if end > at + len {
            self.free.insert(at + len, end - at - len);
        }
        self.used_bytes += len;
        self.next = at + len;
        Some(Extent { offset: at, len })
    }

    /// The first place for `len` bytes at or behind `from`, and the free part in which it lies.
    fn fit(&self, from: u64, len: u64) -> Option<(u64, u64)> {
        let around = self.free.range(..=from).next_back().filter(|(offset, there)| *offset + **there >= from + len);
        around.map(|(&offset, _)| (offset, from)).or_else(|| {
            self.free.range(from + 1..).find(|(_, there)| **there >= len).map(|(&offset, _)| (offset, offset))
        })
    }

    /// Takes what a predecessor has left in use. False: it is nonsense, or used already.
    pub fn take_back(&mut self, extent: Extent) -> bool {
        let Some((&offset, &there)) = self.free.range(..=extent.offset).next_back() else { return false };
        let Some(end) = extent.offset.checked_add(extent.len) else { return false };
        if extent.len == 0 || end > offset + there {
            return false;
        }
        self.free.remove(&offset);
        if extent.offset > offset {
            self.free.insert(offset, extent.offset - offset);
        }
        if offset + there > end {
            self.free.insert(end, offset + there - end);
        }
        self.used_bytes += extent.len;
        true
    }

    /// An extent of a record that ends at `end`, which is behind all others.
    pub fn keep(&mut self, end: u64, extent: Extent) {
        self.used.push_back((end, extent));
    }

    /// Gives back what lies behind the first `len` bytes.
    pub fn shrink(&mut self, extent: &mut Extent, len: u64) {
        let keep = len.max(1).next_multiple_of(GRAIN);
        if keep < extent.len {
            self.give_back(Extent { offset: extent.offset + keep, len: extent.len - keep });
            extent.len = keep;
        }
    }

    pub fn give_back(&mut self, extent: Extent) {
        self.used_bytes -= extent.len;
        let Extent { mut offset, mut len } = extent;
        if let Some(behind) = self.free.remove(&(offset + len)) {
            len += behind;
        }
        if let Some((&before, there)) = self.free.range_mut(..offset).next_back()
            && before + *there == offset
        {
            offset = before;
            len += *there;
        }
        self.free.insert(offset, len);
    }

    /// All records that end at or before `released` are done with.
    pub fn reclaim(&mut self, released: u64) {
        while let Some(&(end, extent)) = self.used.front()
            && end <= released
        {
            self.used.pop_front();
            self.give_back(extent);
        }
    }

    /// Records that end behind `position` will not be there.
    pub fn forget_after(&mut self, position: u64) {
        while let Some(&(end, extent)) = self.used.back()
            && end > position
        {
            self.used.pop_back();
            self.give_back(extent);
        }
    }

    /// Up to where records must be released before `len` bytes may be free in one piece: at least that many must be
    /// free in all. `None`: what is in use ends at or before `limit` nowhere.
    pub fn wanted(&self, len: u64, limit: u64) -> Option<u64> {
        let mut free = self.len - self.used_bytes;
        let mut wanted = None;
        for &(end, extent) in self.used.iter().take_while(|(end, _)| *end <= limit) {
            wanted = Some(end);
            free += extent.len;
            if free >= len {
                break;
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_follows_the_other_and_neighbours_are_joined() {
        let mut slab = Extents::new(4096);
        let all: Vec<_> = (0..4).map(|_| slab.take(1000).unwrap()).collect();
        assert_eq!(all[1], Extent { offset: 1024, len: 1024 });
        assert_eq!(slab.take(1), None);
        slab.give_back(all[2]);
        slab.give_back(all[0]);
        assert_eq!(slab.take(1500), None, "not in one piece");
        assert_eq!(slab.take(64), Some(Extent { offset: 0, len: 64 }));
        assert_eq!(slab.take(64), Some(Extent { offset: 64, len: 64 }), "behind the last one");
        slab.give_back(all[1]);
        assert_eq!(slab.take(2944), Some(Extent { offset: 128, len: 2944 }));
    }

    #[test]
    fn what_was_left_in_use_is_taken_back_once() {
        let mut slab = Extents::new(4096);
        assert!(slab.take_back(Extent { offset: 1024, len: 1024 }));
        for wrong in [(1024, 64), (960, 128), (1984, 128), (4096, 64), (0, 4160), (64, u64::MAX - 63), (0, 0)] {
            assert!(!slab.take_back(Extent { offset: wrong.0, len: wrong.1 }), "{wrong:?}");
        }
        assert!(slab.take_back(Extent { offset: 0, len: 1024 }));
        assert_eq!(slab.take(2048), Some(Extent { offset: 2048, len: 2048 }));
    }

    proptest! {
        /// Against a map of grains.
        #[test]
        fn no_part_is_anybody_elses(steps in prop::collection::vec((1u64..3000, 0u64..3000, any::<u8>()), 1..200)) {
            let mut slab = Extents::new(16384);
            let mut grains = vec![false; 16384 / GRAIN as usize];
            let mut held: VecDeque<(u64, Extent)> = VecDeque::new();
            let range = |e: Extent| (e.offset / GRAIN) as usize..((e.offset + e.len) / GRAIN) as usize;
            for (n, (len, less, what)) in (1u64..).zip(steps) {
                if what < 160 {
                    let wanted = len.div_ceil(GRAIN) as usize;
                    let Some(mut extent) = slab.take(len) else {
                        let longest = grains.split(|g| *g).map(<[bool]>::len).max().unwrap();
                        prop_assert!(longest < wanted);
                        continue;
                    };
                    slab.shrink(&mut extent, len.min(less));
                    for grain in &mut grains[range(extent)] {
                        prop_assert!(!std::mem::replace(grain, true));
                    }
                    slab.keep(n, extent);
                    held.push_back((n, extent));
                } else if let Some((end, _)) = held.get(held.len() / 2).copied() {
                    slab.reclaim(end);
                    while held.front().is_some_and(|(e, _)| *e <= end) {
                        grains[range(held.pop_front().unwrap().1)].fill(false);
                    }
                }
                prop_assert_eq!(slab.used_bytes(), grains.iter().filter(|g| **g).count() as u64 * GRAIN);
            }
            slab.reclaim(u64::MAX);
            prop_assert_eq!(slab.take(16384), Some(Extent { offset: 0, len: 16384 }));
        }
    }
}
