//! What who writes several rings of one edge needs: to take back what is staged, to see which consumer has the least to
//! do, to wait for the first that has room.

use std::sync::atomic::Ordering;

use super::super::counts::Counts;
use super::super::layout;
use super::super::steps::put;
use super::super::wait::Spinner;
use super::super::{MAX_SLEEP, OnFull, Until};
use super::{Producer, Staged};
use crate::error::{Error, Result};

/// How much is staged at one moment: what [`Producer::back_to`] goes back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Savepoint {
    position: u64,
    offset: usize,
    counts: Counts,
    staged: Option<Staged>,
}

impl Producer {
    /// Messages published so far, by all processes that have written this ring.
    pub fn published(&self) -> u64 {
        self.counts.messages.wrapping_sub(self.staged.map_or(0, |staged| staged.messages))
    }

    /// Bytes of ring and slab.
    pub fn capacity(&self) -> u64 {
        self.geometry.shape().total()
    }

    pub(crate) fn on_full(&self) -> OnFull {
        self.geometry.on_full
    }

    /// Whether all consumers have left for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.cursors[self.live..].iter().all(super::Cursor::detached)
    }

    /// Whether something is staged.
    pub(crate) fn is_staged(&self) -> bool {
        self.staged.is_some()
    }

    pub(crate) fn savepoint(&self) -> Savepoint {
        Savepoint { position: self.position, offset: self.offset, counts: self.counts, staged: self.staged }
    }

    /// Forgets what was staged since, unless it was published.
    pub(crate) fn back_to(&mut self, savepoint: Savepoint) {
        if self.holds {
            self.counts = savepoint.counts; // also what found no room, and so was not staged
        }
        if self.staged.is_none() || self.position <= savepoint.position {
            return;
        }
        let Savepoint { position, offset, counts, staged } = savepoint;
        (self.position, self.offset, self.counts, self.staged) = (position, offset, counts, staged);
        if let Some(slab) = &mut self.slab {
            slab.extents.forget_after(position);
        }
    }

    /// Whether a small message fits without a look at anybody else, but for whether somebody is there.
    #[inline(always)]
    pub(crate) fn fits(&self, len: usize) -> bool {
        let needed = self.position + (self.geometry.record_len(len) + layout::WORD) as u64;
        needed <= self.limit && !self.is_large(len) && !self.drops && !self.ended && !self.cursors[self.live].detached()
    }

    /// Whether there is room for a message of `len` bytes now; if so it is for [`Producer::reserved`] to take. Where
    /// messages may be dropped there always is.
    pub(crate) fn has_room(&mut self, len: usize) -> Result<bool> {
        let needed = self.needed(len)?;
        if needed <= self.limit && !self.is_large(len) || self.try_room(len, needed)? {
            return Ok(true);
        }
        if self.geometry.indexed() {
            self.room_or_drop(len, needed)?;
        }
        Ok(self.geometry.indexed())
    }

    /// Nothing is staged or unreleased, for sure: as of the last look, and nobody else adds to it.
    pub(crate) fn is_idle(&self) -> bool {
        self.position == self.slowest
    }

    /// Bytes that the consumer has not released, headers counted, and what is staged.
    pub(crate) fn backlog(&mut self) -> Result<u64> {
        self.refresh()?;
        let slab = self.slab.as_ref().map_or(0, |slab| slab.extents.used_bytes());
        Ok(self.position - self.slowest + slab)
    }
}

/// Waits until one of the rings has room for `len` bytes, and says which. Rings that are closed do not count; when all
/// are, the edge is.
pub(crate) fn wait_any_room(rings: &mut [Producer], len: usize, until: Until<'_>) -> Result<usize> {
    let mut spinner = None;
    loop {
        if let Some(i) = any_room(rings, len)? {
            return Ok(i);
        }
        if spinner.get_or_insert_with(|| Spinner::new(rings[0].geometry.wait)).spin(&until)? {
            continue;
        }
        let slept = sleep_on_all(rings, len, until);
        for ring in rings.iter() {
            put(ring.head.atomic64(layout::H_SLEEPING), 0, Ordering::SeqCst);
        }
        if let Some(i) = slept? {
            return Ok(i);
        }
    }
}

fn any_room(rings: &mut [Producer], len: usize) -> Result<Option<usize>> {
    let mut refused = None;
    let mut may_come = false;
    for (i, ring) in rings.iter_mut().enumerate() {
        let needed = match ring.needed(len) {
            Ok(needed) => needed,
            Err(e) => {
                refused = Some(e);
                continue;
            }
        };
        match ring.try_room(len, needed) {
            Ok(true) => return Ok(Some(i)),
            Ok(false) if ring.holds && ring.can_never_fit(len, needed) => {
                refused = Some(ring.too_long(len, ring.max_message()));
            }
            Ok(false) => may_come = true,
            Err(e @ Error::Closed { .. }) => refused = Some(e),
            Err(e) => return Err(e),
        }
    }
    match refused {
        Some(e) if !may_come => Err(e),
        _ => Ok(None),
    }
}

/// Announces the sleep to every consumer, looks again, sleeps. What the look has found.
fn sleep_on_all(rings: &mut [Producer], len: usize, until: Until<'_>) -> Result<Option<usize>> {
    let mut numbers = Vec::with_capacity(rings.len());
    for ring in rings.iter_mut().filter(|ring| !ring.is_closed()) {
        let Ok(needed) = ring.needed(len) else { continue };
        let wanted = ring.enough(len, needed);
        put(ring.head.atomic64(layout::H_SLEEPING), wanted & !7 | 1, Ordering::SeqCst);
        let wakes = ring.cursors[ring.slowest_is].map.word32(layout::C_WAKES);
        numbers.push(wakes.load(Ordering::SeqCst));
    }
    if let Some(i) = any_room(rings, len)? {
        return Ok(Some(i));
    }
    let open = rings.iter().filter(|ring| !ring.is_closed());
    let words: Vec<_> = open.map(|ring| ring.cursors[ring.slowest_is].map.word32(layout::C_WAKES)).collect();
    if words.len() == numbers.len() {
        let watched: Vec<_> = words.into_iter().zip(numbers).collect();
        until.sleep(&watched, MAX_SLEEP)?;
    } // else one has left meanwhile
    Ok(None)
}
