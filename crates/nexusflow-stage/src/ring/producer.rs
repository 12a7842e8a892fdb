//! The writing end of a ring.

mod several;

use std::os::fd::OwnedFd;
use std::time::Duration;

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{ReadMap, WriteMap, page_size};
use nexusflow_sys::{futex, memfd};

use super::counts::{Counter, Counts};
use super::layout::{self, DETACHED, WORD};
use super::records::{self, Place, Record, Tail, find_tail};
use super::slab::{Extent, Extents};
use super::steps::put;
use super::wait::{Patience, Spinner};
use super::{Geometry, MAX_CONSUMERS, MAX_SLEEP, OnFull, Shape, Until, WaitMode, check_magic, is_position, poisoned};
use crate::error::{Error, Result};
pub(crate) use several::{Savepoint, wait_any_room};

/// How long a producer that sleeps for room asks for more than it needs, so that it is not woken for every message.
const GENEROUS_SLEEP: Duration = Duration::from_millis(1);
/// The ring is claimed in so many steps.
const CLAIMS: u64 = 8;
/// How far ahead of its writing it asks for cache lines, which others have read meanwhile: for some messages, and little
/// enough to stay in the nearest cache.
const PREFETCH: u64 = 512;

/// The one writer of a ring.
///
/// Messages are staged, then published together: [`write`](Self::write) does both, [`write_batch`](Self::write_batch)
/// publishes once for all that fit.
#[derive(Debug)]
pub struct Producer {
    edge: String,
    head: WriteMap,
    ring: WriteMap,
    slab: Option<Slab>,
    geometry: Geometry,
    cursors: Vec<Cursor>,
    /// The first of `cursors` that is not known to be detached.
    live: usize,
    /// Longer messages go into the slab, if there is one.
    inline_max: usize,
    max_message: usize,
    /// Behind what is staged, and where in the ring that is.
    position: u64,
    offset: usize,
    staged: Option<Staged>,
    /// Staged messages wait for [`Self::publish`], whatever else happens.
    holds: bool,
    /// What may be written up to: it is claimed, and released by all.
    limit: u64,
    /// The slowest consumer's cursor, when last seen.
    slowest: u64,
    slowest_is: usize,
    claim: u64,
    /// Up to where cache lines were asked for.
    prefetched: u64,
    high_water: u64,
    counts: Counts,
    counter: Counter,
    patience: Patience,
    blocked_ns: u64,
    ended: bool,
    /// There is no room for the message that is about to be reserved: it will be dropped.
    drops: bool,
    /// Some were dropped and are counted with the next publication.
    uncounted: bool,
    /// Where messages go that will be dropped.
    scratch: Vec<u8>,
}

/// The slab, as who allocates it has it.
#[derive(Debug)]
struct Slab {
    map: WriteMap,
    extents: Extents,
    /// How many were taken so far.
    taken: u64,
    /// For the message that is about to be reserved.
    pending: Option<Extent>,
}

/// What is not visible yet: its first header, which makes all of it visible.
#[derive(Debug, Clone, Copy)]
struct Staged {
    offset: usize,
    word: u64,
    position: u64,
    messages: u64,
}

/// A consumer's cursor, as the producer sees it.
#[derive(Debug)]
struct Cursor {
    map: ReadMap,
    /// Where the oldest may be dropped: to move it on.
    own: Option<WriteMap>,
    /// It never goes back.
    seen: u64,
}

/// Room for one message: fill it, then commit. Dropped, nothing is sent.
#[derive(Debug)]
pub struct Reservation<'a> {
    producer: &'a mut Producer,
    len: usize,
    place: Room,
}

/// Where the room is.
#[derive(Debug, Clone, Copy)]
enum Room {
    Ring,
    Slab(Extent),
    /// In memory of one's own: the message will be dropped.
    Scratch,
}

impl Producer {
    /// Attaches to a ring whose descriptors were received: head, ring, slab if it has one, then every consumer's cursor.
    pub fn from_fds(edge: &str, shape: Shape, fds: Vec<OwnedFd>) -> Result<Self> {
        Self::attach(edge, shape, fds, true)
    }

    pub(super) fn attach(edge: &str, shape: Shape, mut fds: Vec<OwnedFd>, populate: bool) -> Result<Self> {
        let shape = shape.check(edge)?;
        let memory = if shape.slab > 0 { 3 } else { 2 };
        if !(memory + 1..=memory + MAX_CONSUMERS).contains(&fds.len()) {
            return Err(poisoned(edge, "a wrong number of descriptors"));
        }
        let cursors = fds.split_off(memory);
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        let map = |fd: &OwnedFd, head: u64, ring: u64| {
            memfd::check(fd, head + ring, true)?;
            let map = WriteMap::ring(fd, head as usize, ring as usize)?;
            if populate {
                let _ = map.populate(); // the memory is there already: this saves page faults
            }
            Ok(map)
        };
        let head = map(&fds[0], page_size() as u64, 0).map_err(failed)?;
        let geometry = Geometry::read(edge, &head, shape)?;
        let ring = map(&fds[1], 0, shape.ring).map_err(failed)?;
        let slab = fds.get(2).map(|fd| map(fd, shape.slab, 0)).transpose().map_err(failed)?;
        let cursors = cursors.iter().map(|fd| Cursor::attach(edge, fd, shape.on_full)).collect::<Result<Vec<_>>>()?;
        put(head.atomic64(layout::H_SLEEPING), 0, Ordering::SeqCst); // of one that died asleep
        let word = |offset| head.word64(offset).load(Ordering::Relaxed);
        let slab = slab.map(|map| Slab {
            map,
            extents: Extents::new(shape.slab),
            taken: word(layout::H_EXTENT_COUNT),
            pending: None,
        });
        let counts = Counts::read(&head, layout::H_COUNTS);
        let mut producer = Self {
            edge: edge.to_owned(),
            slab,
            geometry,
            cursors,
            live: 0,
            inline_max: match shape.slab {
                0 => shape.max_message() as usize,
                _ => layout::LARGE.min(shape.ring as usize / 4) - 1,
            },
            max_message: shape.max_message() as usize,
            position: 0,
            offset: 0,
            staged: None,
            holds: false,
            limit: 0,
            slowest: 0,
            slowest_is: 0,
            prefetched: 0,
            claim: word(layout::H_CLAIM),
            high_water: word(layout::H_HIGH_WATER),
            counter: Counter::new(&head, layout::H_COUNTS, &counts),
            counts,
            patience: Patience::default(),
            blocked_ns: word(layout::H_BLOCKED_NS),
            ended: false,
            drops: false,
            uncounted: false,
            scratch: Vec::new(),
            head,
            ring,
        };
        producer.recover()?;
        Ok(producer)
    }

    /// Finds the tail: behind the last record that was published, whoever published it. Counts what a predecessor had
    /// not come to count, and finds the extents that are in use.
    fn recover(&mut self) -> Result<()> {
        let live = self.cursors.iter().filter(|c| !c.detached()).map(Cursor::released).filter(|r| *r != DETACHED);
        let mut live: Vec<_> = live.map(|word| self.geometry.released(word)).collect();
        live.sort_unstable();
        // A page is written before it is read: a first read would have the kernel map fifteen neighbours too.
        let first = self.ring.atomic64(self.geometry.offset(self.counts.position & !7));
        let _ = first.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed); // touches, changes nothing
        let nonsense = |what| poisoned(&self.edge, what);
        let found = match find_tail(&self.ring, &self.geometry, self.counts, &live) {
            Err(_) if live.is_empty() => return Ok(()), // nobody is there to whom it would matter
            found => found.map_err(nonsense)?,
        };
        let Tail { position, ended, counts } = found;
        let slowest = live.first().copied().unwrap_or(position);
        if !is_position(slowest) || slowest > position || position - slowest > self.geometry.capacity {
            return Err(nonsense("a cursor where no record is"));
        }
        if let Some(slab) = &mut self.slab {
            let each = |end, place: Place| keep(&mut slab.extents, end, place);
            let tail = records::follow(&self.ring, &self.geometry, slowest, None, each).map_err(nonsense)?;
            if tail.0 != position {
                return Err(nonsense("a cursor where no record is"));
            }
        }
        (self.position, self.offset, self.ended) = (position, self.geometry.offset(position), ended);
        self.slowest = slowest;
        // Conservative if it is nonsense: who looks on takes more for overwritten than was.
        let last = slowest + self.geometry.capacity;
        self.claim = if (position..=last).contains(&self.claim) { self.claim } else { last };
        self.limit = self.claim;
        if counts != self.counts {
            self.counts = counts;
            self.counter.write(&self.head, &counts);
        }
        Ok(())
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// Where the next message will lie: it grows by what records take, headers counted.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Sends one message, when there is room.
    pub fn write(&mut self, message: &[u8], until: Until<'_>) -> Result<()> {
        let mut reservation = self.reserve(message.len(), until)?;
        reservation.as_mut_slice().copy_from_slice(message);
        reservation.commit();
        Ok(())
    }

    /// Sends one message if there is room now: whether it did.
    pub fn try_write(&mut self, message: &[u8]) -> Result<bool> {
        let Some(mut reservation) = self.try_reserve(message.len())? else { return Ok(false) };
        reservation.as_mut_slice().copy_from_slice(message);
        reservation.commit();
        Ok(true)
    }

    /// Sends messages, published together as far as they fit. On an error those before are sent.
    pub fn write_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>, until: Until<'_>) -> Result<()> {
        let all = || {
            for message in messages {
                let mut reservation = self.reserve(message.len(), until)?;
                reservation.as_mut_slice().copy_from_slice(message);
                reservation.stage_len(message.len());
            }
            Ok(())
        };
        let result = all();
        self.publish();
        result
    }

    /// Waits until a message of `len` bytes fits.
    pub fn wait_room(&mut self, len: usize, until: Until<'_>) -> Result<()> {
        self.make_room(len, until)
    }

    /// Room for a message of at most `len` bytes, when there is.
    #[inline]
    pub fn reserve(&mut self, len: usize, until: Until<'_>) -> Result<Reservation<'_>> {
        self.make_room(len, until)?;
        Ok(self.reserved(len))
    }

    /// Room that [`Self::wait_room`] has found.
    #[inline]
    pub(crate) fn reserved(&mut self, len: usize) -> Reservation<'_> {
        if self.drops {
            return self.reserved_to_drop(len);
        }
        let extent = if self.is_large(len) { self.pending() } else { None };
        debug_assert!(self.position + (self.record_len(len) + WORD) as u64 <= self.limit);
        debug_assert!(extent.map_or(!self.is_large(len), |e| e.len >= len as u64));
        Reservation { producer: self, len, place: extent.map_or(Room::Ring, Room::Slab) }
    }

    #[cold]
    fn reserved_to_drop(&mut self, len: usize) -> Reservation<'_> {
        self.drops = false;
        if self.scratch.len() < len {
            self.scratch.resize(len, 0);
        }
        Reservation { producer: self, len, place: Room::Scratch }
    }

    #[cold]
    fn pending(&mut self) -> Option<Extent> {
        self.slab.as_mut()?.pending.take()
    }

    /// Room for a message of at most `len` bytes, if there is now. Where messages may be dropped there always is.
    pub fn try_reserve(&mut self, len: usize) -> Result<Option<Reservation<'_>>> {
        Ok(if self.has_room(len)? { Some(self.reserved(len)) } else { None })
    }

    /// From now on staged messages become visible by [`Self::publish`] alone. Else they do, too, when something must
    /// wait for room, which consumers may make only once they have seen them. Who holds them gets
    /// [`Error::TooLong`] when they and the next do not fit together.
    pub fn hold_staged(&mut self, hold: bool) {
        self.holds = hold;
    }

    /// Makes visible what is staged.
    #[inline]
    pub fn publish(&mut self) {
        let Some(Staged { offset, word, position, messages }) = self.staged.take() else {
            if self.uncounted {
                self.uncounted = false;
                self.counter.write(&self.head, &self.counts);
            }
            return;
        };
        self.uncounted = false;
        self.terminate();
        self.make_visible(offset, word, position);
        self.counts.position = self.position;
        self.counter.write(&self.head, &self.counts);
        self.prefetch();
        let kind = (messages.ilog2() as usize).min(layout::BATCHES - 1);
        let batches = self.head.atomic64(layout::H_BATCHES + 8 * kind);
        put(batches, batches.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Asks for the cache lines of what will be written next, while nobody waits for it.
    #[inline]
    fn prefetch(&mut self) {
        let ahead = (self.position + PREFETCH).min(self.limit);
        let mut at = self.prefetched.max(self.position + 64) & !63;
        while at < ahead {
            let behind = (at - self.position) as usize;
            self.ring.will_write(self.offset + behind);
            at += 64;
        }
        self.prefetched = at;
    }

    /// Where the first staged message lies, and the header that makes it and all others visible: what a journal keeps, to
    /// [`redo`](Self::redo) the publication should this process die before it. Nothing may be staged behind them before
    /// they are published. `None` if nothing is staged.
    pub fn first_staged(&mut self) -> Option<(u64, u64)> {
        let Staged { word, position, .. } = self.staged?;
        self.terminate();
        fence(Ordering::Release); // the journal's entry comes after all of it
        Some((position, word))
    }

    /// Publishes what a predecessor had staged and noted in a journal, if it did not come to it. Whether it was left to
    /// do. Only right after attaching. The entry is held against the ring: one that cannot be is an error.
    pub fn redo(&mut self, position: u64, word: u64) -> Result<bool> {
        // Without consumers there may be no tail to tell. If there is one: what they left unread may be handed on.
        if position < self.position && is_position(position) || position != self.position && self.is_closed() {
            return Ok(false);
        }
        let fresh = position == self.position && self.staged.is_none() && !self.ended;
        let (mut messages, mut counts) = (0, self.counts);
        let mut places = Vec::new();
        let mut follow = || {
            records::follow(&self.ring, &self.geometry, position, Some(word), |end, place| {
                messages += 1;
                counts.add(place.len);
                places.push((end, place));
                Ok(())
            })
        };
        let end = if fresh { follow() } else { Err("a journal for another place") };
        let nonsense = |what| poisoned(&self.edge, what);
        let (end, ended) = end.map_err(nonsense)?;
        if ended || messages == 0 || end + WORD as u64 > self.slowest + self.geometry.capacity {
            return Err(nonsense("a journal of something else"));
        }
        if let Some(slab) = &mut self.slab {
            for (end, place) in places {
                keep(&mut slab.extents, end, place).map_err(|what| poisoned(&self.edge, what))?;
            }
        }
        self.staged = Some(Staged { offset: self.offset, word, position, messages });
        (self.position, self.offset) = (end, self.geometry.offset(end));
        self.limit = self.limit.max(end + WORD as u64); // the predecessor had claimed it
        self.counts = counts;
        self.publish();
        Ok(true)
    }

    /// Ends the stream: consumers read what was sent, then the end. Nothing can follow.
    pub fn finish(&mut self) {
        self.publish();
        // Who hands on what consumers that have left did not read ends it first: here the tail may not be known.
        if !std::mem::replace(&mut self.ended, true) && !self.is_closed() {
            self.make_visible(self.offset, layout::end(self.position), self.position);
        }
    }

    #[inline]
    fn is_large(&self, len: usize) -> bool {
        len > self.inline_max
    }

    /// What a message of `len` bytes takes in the ring.
    #[inline]
    fn record_len(&self, len: usize) -> usize {
        if self.is_large(len) { self.geometry.reference_len() } else { self.geometry.record_len(len) }
    }

    /// How far a message of `len` bytes would reach, the header behind it counted, if it may be sent at all.
    #[inline]
    fn needed(&mut self, len: usize) -> Result<u64> {
        self.drops = false;
        if len > self.max_message() {
            return Err(self.too_long(len, self.max_message()));
        }
        if self.ended {
            return Err(Error::Finished { edge: self.edge.clone() });
        }
        while self.cursors[self.live].detached() {
            if self.live + 1 == self.cursors.len() {
                return Err(self.closed());
            }
            self.live += 1;
        }
        Ok(self.position + (self.record_len(len) + WORD) as u64)
    }

    #[cold]
    fn too_long(&self, len: usize, max: usize) -> Error {
        Error::TooLong { edge: self.edge.clone(), len, max }
    }

    #[cold]
    fn closed(&self) -> Error {
        Error::Closed { edge: self.edge.clone() }
    }

    #[inline]
    fn make_room(&mut self, len: usize, until: Until<'_>) -> Result<()> {
        if self.fits(len) { Ok(()) } else { self.wait_for_room(len, until) }
    }

    /// Looks whether there is room now: claims it, and takes an extent for a large message.
    fn try_room(&mut self, len: usize, needed: u64) -> Result<bool> {
        // Each time for a large message: what was just released is still in the cache.
        self.refresh()?;
        self.note_high_water();
        if needed > self.slowest + self.geometry.capacity {
            return Ok(false);
        }
        if needed > self.limit {
            self.claim_up_to(needed);
        }
        Ok(!self.is_large(len) || self.take_extent(len))
    }

    /// Looks at every cursor again.
    fn refresh(&mut self) -> Result<()> {
        let (mut slowest, visible) = (None, self.visible());
        for (i, cursor) in self.cursors.iter_mut().enumerate() {
            if cursor.detached() {
                continue;
            }
            let released = self.geometry.released(cursor.released());
            if released == DETACHED {
                continue;
            }
            if !released.is_multiple_of(WORD as u64) || released < cursor.seen || released > visible {
                return Err(poisoned(&self.edge, "a cursor where no record is"));
            }
            cursor.seen = released;
            if slowest.is_none_or(|(least, _)| released < least) {
                slowest = Some((released, i));
            }
        }
        let (released, i) = slowest.ok_or_else(|| self.closed())?;
        (self.slowest, self.slowest_is) = (released, i);
        if let Some(slab) = &mut self.slab {
            slab.extents.reclaim(released);
        }
        Ok(())
    }

    /// The tail as consumers see it.
    fn visible(&self) -> u64 {
        self.staged.map_or(self.position, |staged| staged.position)
    }

    /// Says that the ring is going to be written up to `needed`, and a step further, before it is.
    fn claim_up_to(&mut self, needed: u64) {
        let last = self.slowest + self.geometry.capacity;
        let claim = (needed + self.geometry.capacity / CLAIMS).min(last);
        if claim > self.claim {
            self.claim = claim;
            put(self.head.atomic64(layout::H_CLAIM), claim, Ordering::Relaxed);
            fence(Ordering::Release);
        }
        self.limit = self.claim.min(last);
    }

    fn note_high_water(&mut self) {
        let slab = self.slab.as_ref().map_or(0, |slab| slab.extents.used_bytes());
        let used = self.position - self.slowest + slab;
        if used > self.high_water {
            self.high_water = used;
            put(self.head.atomic64(layout::H_HIGH_WATER), used, Ordering::Relaxed);
        }
    }

    fn take_extent(&mut self, len: usize) -> bool {
        let Some(slab) = &mut self.slab else { return false };
        if let Some(unused) = slab.pending.take() {
            slab.extents.give_back(unused);
        }
        let Some(extent) = slab.extents.take(len as u64) else { return false };
        slab.pending = Some(extent);
        slab.taken = slab.taken.wrapping_add(1);
        // Who looks on, and finds this number still the last one, knows what has been overwritten.
        let word = layout::extent_word(extent.offset, extent.len);
        put(self.head.atomic64(layout::H_EXTENTS + 8 * (slab.taken % 2) as usize), word, Ordering::Release);
        put(self.head.atomic64(layout::H_EXTENT_COUNT), slab.taken, Ordering::Release);
        fence(Ordering::Release);
        true
    }

    #[cold]
    fn wait_for_room(&mut self, len: usize, until: Until<'_>) -> Result<()> {
        let needed = self.needed(len)?;
        if self.try_room(len, needed)? {
            return Ok(());
        }
        if self.geometry.indexed() {
            return self.room_or_drop(len, needed);
        }
        if !self.holds {
            self.publish(); // whoever is to make room must see what there is to read
        } else if self.can_never_fit(len, needed) {
            return Err(self.too_long(len, self.max_message()));
        }
        if let Some(cpu) = self.patience.introduce(self.geometry.wait) {
            put(self.head.atomic64(layout::H_CPU), cpu.into(), Ordering::Relaxed);
        }
        let theirs = self.cursors[self.slowest_is].map.word64(layout::C_CPU).load(Ordering::Relaxed) as u32;
        let mut spinner = self.patience.spinner(self.geometry.wait, theirs);
        let result = self.sleep_for_room(len, needed, until, &mut spinner);
        let ns = spinner.elapsed_ns();
        self.patience.learn(&spinner);
        if ns > 0 {
            self.blocked_ns = self.blocked_ns.wrapping_add(ns);
            put(self.head.atomic64(layout::H_BLOCKED_NS), self.blocked_ns, Ordering::Relaxed);
        }
        result
    }

    /// Where messages may be dropped, and there is no room: makes it, or sees to it that the next message is dropped.
    #[cold]
    fn room_or_drop(&mut self, len: usize, needed: u64) -> Result<()> {
        if !self.holds {
            self.publish(); // what is not visible cannot be dropped
        }
        self.drops = !(self.geometry.on_full == OnFull::DropOldest && self.take_away(len, needed)?);
        Ok(())
    }

    /// Takes the oldest messages away from who is the furthest behind, until there is room. Not while it reads: then
    /// there is none.
    fn take_away(&mut self, len: usize, needed: u64) -> Result<bool> {
        // So often at most, whatever a cursor does meanwhile.
        for _ in 0..self.geometry.capacity as usize / WORD * self.cursors.len() {
            if self.try_room(len, needed)? {
                return Ok(true);
            }
            let (at, visible) = (self.slowest, self.visible());
            if at == visible {
                return Ok(false);
            }
            let (offset, room) = (self.geometry.offset(at), self.geometry.capacity);
            let record = records::read(&self.ring, &self.geometry, at, offset, room);
            let Ok(Record::Message(place)) = record else {
                return Err(poisoned(&self.edge, "a cursor where no record is"));
            };
            let Some(own) = &self.cursors[self.slowest_is].own else { return Ok(false) };
            super::steps::step();
            let moved = own.atomic64(layout::C_RELEASED).compare_exchange(
                at,
                at + place.record as u64,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            if moved == Err(at | layout::READING) {
                return Ok(false);
            } // else it has been released, or its consumer has left: one looks again
        }
        Ok(false)
    }

    /// How many messages were dropped since they found no room.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped
    }

    /// A message that found no room: it is counted when all before it are visible.
    fn drop_newest(&mut self) {
        self.counts.dropped = self.counts.dropped.wrapping_add(1);
        match self.staged.is_some() || self.holds {
            true => self.uncounted = true,
            false => self.counter.write(&self.head, &self.counts),
        }
    }

    /// Whether there is no room though everything that is visible were released.
    fn can_never_fit(&self, len: usize, needed: u64) -> bool {
        let visible = self.visible();
        let slab_stuck = |slab: &Slab| slab.extents.wanted(len as u64, visible).is_none();
        needed - visible > self.geometry.capacity
            || needed <= self.slowest + self.geometry.capacity && self.slab.as_ref().is_some_and(slab_stuck)
    }

    fn sleep_for_room(&mut self, len: usize, needed: u64, until: Until<'_>, spinner: &mut Spinner) -> Result<()> {
        let mut generous = true;
        loop {
            if self.try_room(len, needed)? {
                return Ok(());
            }
            if self.holds && self.can_never_fit(len, needed) {
                return Err(self.too_long(len, self.max_message()));
            }
            if spinner.spin(&until)? {
                continue;
            }
            // Announce the sleep, look again, sleep: the consumer moves its cursor, then looks whether we sleep.
            let enough = self.enough(len, needed);
            let plenty = (self.slowest + self.geometry.capacity / 4).min(self.visible());
            let (wanted, longest) = if generous { (enough.max(plenty), GENEROUS_SLEEP) } else { (enough, MAX_SLEEP) };
            put(self.head.atomic64(layout::H_SLEEPING), wanted & !7 | 1, Ordering::SeqCst);
            let slept = self.sleep_on_slowest(len, needed, until, longest);
            put(self.head.atomic64(layout::H_SLEEPING), 0, Ordering::SeqCst);
            if slept? {
                return Ok(());
            }
            generous = false;
        }
    }

    /// The position that must be released before there can be room.
    fn enough(&self, len: usize, needed: u64) -> u64 {
        let in_ring = needed.saturating_sub(self.geometry.capacity);
        let in_slab = || self.slab.as_ref().and_then(|slab| slab.extents.wanted(len as u64, self.visible()));
        if self.is_large(len) && in_ring <= self.slowest { in_slab().unwrap_or(in_ring) } else { in_ring }
    }

    /// True: the last look found room.
    fn sleep_on_slowest(&mut self, len: usize, needed: u64, until: Until<'_>, longest: Duration) -> Result<bool> {
        self.refresh()?;
        let slowest = self.slowest_is;
        let wakes = self.cursors[slowest].map.word32(layout::C_WAKES).load(Ordering::SeqCst);
        // It may have moved before the number was taken.
        if self.try_room(len, needed)? {
            return Ok(true);
        }
        if self.slowest_is == slowest {
            until.sleep(&[(self.cursors[slowest].map.word32(layout::C_WAKES), wakes)], longest)?;
        } // else another one must be watched
        Ok(false)
    }

    /// Puts a header before the bytes that lie ready, visible with the next [`Self::publish`].
    #[inline]
    fn stage(&mut self, len: usize, extent: Option<Extent>) {
        let (word, record) = match extent {
            // Below 2^32, as max_message is.
            None => (layout::ready(self.position, len as u32), self.geometry.record_len(len)),
            Some(extent) => self.refer(len, extent),
        };
        if self.geometry.indexed() {
            put(self.ring.atomic64(self.offset + layout::INDEX), self.counts.offered(), Ordering::Relaxed);
        }
        match &mut self.staged {
            None => {
                self.staged = Some(Staged { offset: self.offset, word, position: self.position, messages: 1 });
            }
            // Only reached through the first one's header, which is not there yet.
            Some(staged) => {
                staged.messages += 1;
                put(self.ring.atomic64(self.offset), word, Ordering::Relaxed);
            }
        }
        self.position += record as u64;
        self.offset += record;
        if self.offset >= self.geometry.capacity as usize {
            self.offset -= self.geometry.capacity as usize;
        }
        self.counts.add(len);
    }

    /// Keeps of an extent what a message takes; nothing of it for an empty one.
    #[cold]
    fn cut(&mut self, mut extent: Extent, len: usize) -> Option<Extent> {
        let slab = self.slab.as_mut()?;
        slab.extents.shrink(&mut extent, len as u64);
        if len > 0 {
            return Some(extent);
        }
        slab.extents.give_back(extent);
        None
    }

    /// Writes a reference behind where its header will be: that header, and the record's length.
    #[cold]
    fn refer(&mut self, len: usize, extent: Extent) -> (u64, usize) {
        let (lead, record) = (self.geometry.lead, self.geometry.reference_len());
        let end = self.position + record as u64;
        let taken = self.slab.as_mut().map_or(0, |slab| {
            slab.extents.keep(end, extent);
            slab.taken
        });
        put(self.ring.atomic64(self.offset + lead), extent.offset, Ordering::Relaxed);
        put(self.ring.atomic64(self.offset + lead + WORD), taken, Ordering::Relaxed);
        (layout::ready_large(self.position, len as u32), record)
    }

    /// Nothing follows what is staged, for now.
    #[inline]
    fn terminate(&self) {
        put(self.ring.atomic64(self.offset), layout::not_ready(self.position), Ordering::Relaxed);
    }

    /// Writes the header that consumers wait for at `position`, and wakes who sleeps there.
    #[inline]
    fn make_visible(&self, offset: usize, word: u64, position: u64) {
        if self.geometry.wait == WaitMode::Spin {
            put(self.ring.atomic64(offset), word, Ordering::Release);
            return;
        }
        // Sequentially consistent with the loads of C_SLEEPING below and, in the consumer, with its store there and
        // its last look here: one of the two sees the other.
        put(self.ring.atomic64(offset), word, Ordering::SeqCst);
        let asleep = |c: &Cursor| c.map.word64(layout::C_SLEEPING).load(Ordering::SeqCst) == position | 1;
        if self.cursors.iter().any(asleep) {
            super::steps::step();
            futex::wake_all(self.ring.word32(offset));
        }
    }
}

/// A message in use: its extent is nobody else's.
fn keep(extents: &mut Extents, end: u64, place: Place) -> std::result::Result<(), &'static str> {
    let Some(extent) = place.extent() else { return Ok(()) };
    if !extents.take_back(extent) {
        return Err("two messages in one place");
    }
    extents.keep(end, extent);
    Ok(())
}

impl Cursor {
    fn attach(edge: &str, fd: &OwnedFd, on_full: OnFull) -> Result<Self> {
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        let moves = on_full == OnFull::DropOldest;
        memfd::check(fd, page_size() as u64, moves).map_err(failed)?;
        let map = ReadMap::new(fd, page_size()).map_err(failed)?;
        check_magic(edge, &map)?;
        let own = if moves { Some(WriteMap::new(fd, page_size()).map_err(failed)?) } else { None };
        Ok(Self { map, own, seen: 0 })
    }

    #[inline]
    fn detached(&self) -> bool {
        self.map.word32(layout::C_DETACHED).load(Ordering::Relaxed) != 0
    }

    /// Acquired: what the consumer has read, it has read before it said so.
    fn released(&self) -> u64 {
        self.map.word64(layout::C_RELEASED).load(Ordering::SeqCst)
    }
}

impl Reservation<'_> {
    /// Where the message goes. What was there before may show.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let at = match (self.place, &self.producer.slab) {
            (Room::Scratch, _) => return &mut self.producer.scratch[..self.len],
            (Room::Slab(extent), Some(slab)) => slab.map.at(extent.offset as usize, self.len),
            _ => self.producer.ring.at(self.producer.offset + self.producer.geometry.lead, self.len),
        };
        super::steps::step();
        // SAFETY: `at` checked that the bytes are within the mapping, which lives as long as the producer. In the ring
        // they lie between the tail and the slowest cursor, in the slab in an extent that no unreleased record refers
        // to: this process's only Producer of the ring is the one who may write there (a second one is handed out when
        // the first process is dead), no consumer reads past the last published header or what no record refers to, and
        // nothing else in this process makes a reference to them. Mapped memory is initialised.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), self.len) }
    }

    /// Sends it all.
    pub fn commit(self) {
        let len = self.len;
        self.commit_len(len);
    }

    /// Sends the first `len` bytes.
    ///
    /// # Panics
    /// If that is more than was reserved.
    #[inline]
    pub fn commit_len(mut self, len: usize) {
        self.put_staged(len);
        self.producer.publish();
    }

    /// Stages it all: it is sent with the next commit, or [`Producer::publish`].
    #[inline]
    pub fn stage(self) {
        let len = self.len;
        self.stage_len(len);
    }

    /// Stages the first `len` bytes: they are sent with the next commit, or [`Producer::publish`].
    ///
    /// # Panics
    /// If that is more than was reserved.
    pub fn stage_len(mut self, len: usize) {
        self.put_staged(len);
    }

    #[inline(always)]
    fn put_staged(&mut self, len: usize) {
        assert!(len <= self.len, "{len} bytes of a reservation of {}", self.len);
        let extent = match std::mem::replace(&mut self.place, Room::Ring) {
            Room::Scratch => return self.producer.drop_newest(),
            Room::Ring => None,
            Room::Slab(extent) => self.producer.cut(extent, len),
        };
        self.producer.stage(len, extent);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let (Room::Slab(extent), Some(slab)) = (self.place, &mut self.producer.slab) {
            slab.extents.give_back(extent);
        }
    }
}
