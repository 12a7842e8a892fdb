//! Which parts of a slab are free: first fit by address, so that what was used last, and is in the cache, is used
//! next. Private to the producer: nothing of it lies in shared memory.

use std::collections::BTreeMap;

/// The free parts of a slab.
#[derive(Debug)]
pub(crate) struct Extents {
    /// By offset: bytes. None touches another.
    free: BTreeMap<u64, u64>,
}

impl Extents {
    pub(crate) fn new(len: u64) -> Self {
        Self { free: BTreeMap::from([(0, len)]) }
    }

    /// The lowest `len` bytes that are free in a row.
    pub(crate) fn take(&mut self, len: u64) -> Option<u64> {
        let (&at, &room) = self.free.iter().find(|&(_, &room)| room >= len)?;
        self.cut(at, room, at, len);
        Some(at)
    }

    /// Takes just these bytes; whether they were free.
    pub(crate) fn take_at(&mut self, at: u64, len: u64) -> bool {
        let Some((&begin, &room)) = self.free.range(..=at).next_back() else { return false };
        let fits = at.checked_add(len).is_some_and(|end| end <= begin + room);
        if fits {
            self.cut(begin, room, at, len);
        }
        fits
    }

    /// Of a free part, takes `len` bytes at `at`.
    fn cut(&mut self, begin: u64, room: u64, at: u64, len: u64) {
        self.free.remove(&begin);
        if at > begin {
            self.free.insert(begin, at - begin);
        }
        let (end, cut_end) = (begin + room, at + len);
        if end > cut_end {
            self.free.insert(cut_end, end - cut_end);
        }
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, mut at: u64, mut len: u64) {
        if len == 0 {
            return;
        }
        if let Some((&before, &room)) = self.free.range(..at).next_back()
            && before + room == at
        {
            self.free.remove(&before);
            at = before;
            len += room;
        }
        if let Some(room) = self.free.remove(&(at + len)) {
            len += room;
        }
        self.free.insert(at, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lowest_is_used_first_and_neighbours_are_joined() {
        let mut e = Extents::new(100);
        assert_eq!([e.take(30), e.take(30), e.take(30)], [Some(0), Some(30), Some(60)]);
        assert_eq!(e.take(20), None);
        e.give(30, 30);
        e.give(0, 30);
        assert_eq!(e.take(60), Some(0));
        assert!(!e.take_at(60, 31) && !e.take_at(95, 6) && e.take_at(95, 5));
        e.give(60, 30);
        assert_eq!(e.free, BTreeMap::from([(60, 35)]));
        assert!(!e.take_at(u64::MAX, 2));
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_all_comes_back(steps in proptest::collection::vec((1u64..40, any::<bool>()), 1..200)) {
            let (mut e, mut taken): (_, Vec<(u64, u64)>) = (Extents::new(256), vec![]);
            for (len, give) in steps {
                if give && !taken.is_empty() {
                    let (at, len) = taken.swap_remove(len as usize % taken.len());
                    e.give(at, len);
                } else if let Some(at) = e.take(len) {
                    prop_assert!(at + len <= 256);
                    prop_assert!(taken.iter().all(|&(a, l)| at + len <= a || a + l <= at));
                    taken.push((at, len));
                }
            }
            taken.into_iter().for_each(|(at, len)| e.give(at, len));
            prop_assert_eq!(e.free, BTreeMap::from([(0, 256)]));
        }
    }
}
