//! The reading end of a ring.

use std::os::fd::{AsFd, OwnedFd};

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{ReadMap, Shared, Word32, WriteMap, page_size};
use nexusflow_sys::memfd;

use super::counts::{Counter, Counts};
use super::layout::{self, DETACHED, WORD};
use super::records::{self, Place, Record};
use super::steps::put;
use super::wait::Patience;
use super::{Geometry, MAX_SLEEP, OnFull, Shape, Until, WaitMode, check_magic, is_position, poisoned, segment};
use crate::error::{Error, Result};

/// Bytes of a cache line.
const LINE: usize = 64;

/// One reader of a ring.
///
/// It has two places in the ring: where it reads ([`advance`](Self::advance) moves it) and up to where it has
/// released ([`release`](Self::release)). What is not released stays in the ring, and is read again by a process that
/// attaches after this one has died.
#[derive(Debug)]
pub struct Consumer {
    edge: String,
    view: View,
    cursor: WriteMap,
    reader: Reader,
    released: u64,
    /// `released` when it was last made sure that a sleeping producer sees it.
    announced: u64,
    /// As of `released`.
    counts: Counts,
    counter: Counter,
    patience: Patience,
    waited_ns: u64,
    /// Where the oldest may be dropped: the cursor says that it is being read from, so that nothing is taken away.
    reading: bool,
    /// Where the oldest may be dropped: the message that was taken last.
    copy: Option<WriteMap>,
    /// What was dropped behind the last message is counted.
    all_counted: bool,
}

/// What the producer writes.
#[derive(Debug)]
struct View {
    head: ReadMap,
    ring: ReadMap,
    slab: Option<ReadMap>,
    geometry: Geometry,
}

/// Where a consumer reads.
#[derive(Debug)]
struct Reader {
    /// Where it reads, and where in the ring that is.
    position: u64,
    offset: usize,
    /// The message at `position`, once it was seen there: its header is read once.
    current: Option<Place>,
    ended: bool,
    /// As of `position`.
    counts: Counts,
}

/// What a consumer finds.
#[derive(Debug)]
pub enum Next<'a> {
    Message(Bytes<'a>),
    /// Nothing yet.
    Empty,
    /// The end: nothing will follow.
    End,
}

/// A message where it lies in the ring.
///
/// A producer that breaks the protocol may write these bytes while they are looked at. So they are copied out, or
/// handed to the kernel; who trusts the producer may look at them in place.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    map: &'a Shared,
    at: usize,
    len: usize,
}

impl Consumer {
    /// Attaches to a ring whose descriptors were received: head, ring, slab if it has one, then this consumer's own
    /// cursor.
    pub fn from_fds(edge: &str, shape: Shape, fds: Vec<OwnedFd>) -> Result<Self> {
        Self::attach(edge, shape, fds, true)
    }

    pub(super) fn attach(edge: &str, shape: Shape, fds: Vec<OwnedFd>, populate: bool) -> Result<Self> {
        let shape = shape.check(edge)?;
        let (head, ring, slab, cursor) = match &fds[..] {
            [head, ring, cursor] if shape.slab == 0 => (head, ring, None, cursor),
            [head, ring, slab, cursor] if shape.slab > 0 => (head, ring, Some(slab), cursor),
            _ => return Err(poisoned(edge, "a wrong number of descriptors")),
        };
        let page = page_size();
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        let map = |fd: &OwnedFd, head: u64, ring: u64| {
            memfd::check(fd, head + ring, false)?;
            let map = ReadMap::ring(fd, head as usize, ring as usize)?;
            if populate {
                map.populate();
            }
            Ok(map)
        };
        memfd::check(cursor, page as u64, true).map_err(failed)?;
        let head = map(head, page as u64, 0).map_err(failed)?;
        let geometry = Geometry::read(edge, &head, shape)?;
        let ring = map(ring, 0, shape.ring).map_err(failed)?;
        let slab = slab.map(|fd| map(fd, shape.slab, 0)).transpose().map_err(failed)?;
        let cursor = WriteMap::new(cursor, page).map_err(failed)?;
        check_magic(edge, &cursor)?;
        let released = cursor.word64(layout::C_RELEASED).load(Ordering::Relaxed);
        if released == DETACHED || cursor.word32(layout::C_DETACHED).load(Ordering::Relaxed) != 0 {
            return Err(Error::Closed { edge: edge.to_owned() });
        }
        let position = geometry.released(released);
        if !is_position(position) {
            return Err(poisoned(edge, "a cursor between records"));
        }
        let reading = position != released; // one that died reading: so the word is ours alone
        let released = position;
        put(cursor.atomic64(layout::C_SLEEPING), 0, Ordering::SeqCst); // of one that died asleep
        // One of the slots is of there: the other was being written when its writer died.
        let counted = Counts::read_up_to(&cursor, layout::C_COUNTS, released);
        let counted = counted.unwrap_or_else(|| Counts::read(&cursor, layout::C_COUNTS));
        let counts = Counts { position: released, ..counted };
        let waited_ns = cursor.word64(layout::C_WAITED_NS).load(Ordering::Relaxed);
        Ok(Self {
            edge: edge.to_owned(),
            reader: Reader {
                position: released,
                offset: geometry.offset(released),
                current: None,
                ended: false,
                counts,
            },
            view: View { head, ring, slab, geometry },
            counter: Counter::new(&cursor, layout::C_COUNTS, &counted),
            cursor,
            released,
            announced: released,
            counts,
            patience: Patience::default(),
            waited_ns,
            reading,
            copy: None,
            all_counted: false,
        })
    }

    /// What is next, now.
    #[inline]
    pub fn try_peek(&mut self) -> Result<Next<'_>> {
        Ok(match self.look()? {
            Record::Message(place) => Next::Message(self.view.message(place)),
            Record::NotReady => Next::Empty,
            Record::End => Next::End,
        })
    }

    /// The next message, when there is one; `None` at the end. It stays the next until [`advance`](Self::advance).
    #[inline]
    pub fn peek(&mut self, until: Until<'_>) -> Result<Option<Bytes<'_>>> {
        loop {
            match self.look()? {
                Record::Message(place) => return Ok(Some(self.view.message(place))),
                Record::End => return Ok(None),
                Record::NotReady => wait_any(std::slice::from_mut(self), until)?,
            }
        }
    }

    /// Goes on to the message after the one that was seen last; does nothing if none was.
    #[inline]
    pub fn advance(&mut self) {
        self.reader.advance(&self.view);
    }

    /// The message that was seen last, advanced over. Where the oldest may be dropped it is copied and released, so that
    /// those behind it can be.
    #[inline]
    pub fn take(&mut self) -> Option<Bytes<'_>> {
        let place = self.reader.advance(&self.view)?;
        if self.view.geometry.on_full == OnFull::DropOldest {
            return self.take_copy(place);
        }
        Some(self.view.message(place))
    }

    /// [`Self::take`], and how many messages were dropped right before it.
    #[inline]
    pub(crate) fn take_counted(&mut self) -> (Option<Bytes<'_>>, u64) {
        let missed = self.reader.missed_before(&self.view.geometry);
        (self.take(), missed)
    }

    #[cold]
    fn take_copy(&mut self, place: Place) -> Option<Bytes<'_>> {
        let len = place.len;
        if self.copy.as_ref().is_none_or(|copy| copy.len() < len) {
            let room = len.max(1).next_power_of_two().next_multiple_of(page_size()) as u64;
            let fd = memfd::create("nexusflow:copy", room).ok();
            self.copy = fd.and_then(|fd| WriteMap::new(&fd, room as usize).ok());
        }
        // Without memory for a copy it stays where it is, and held.
        let Some(copy) = &self.copy else { return Some(self.view.message(place)) };
        let to = copy.at(0, len);
        // SAFETY: `at` checked the length; the mapping is ours alone, and nothing else refers to it while `self` is
        // borrowed for this.
        self.view.message(place).copy_to(unsafe { std::slice::from_raw_parts_mut(to.as_ptr(), len) });
        self.release_as(self.reader.counts);
        self.copy.as_deref().map(|map| Bytes { map, at: 0, len })
    }

    /// The copy of the message that was taken last, if there is one, for who needs it longer.
    pub(crate) fn keep_copy(&mut self) -> Option<WriteMap> {
        self.copy.take()
    }

    /// How many messages this consumer, and its predecessors, did not get since they were dropped: up to the message
    /// that was advanced over last, or in all if the end was seen.
    pub fn dropped(&self) -> u64 {
        self.reader.counts.dropped
    }

    /// How many messages were dropped right before the one that was seen last.
    pub fn missed(&self) -> u64 {
        self.reader.missed_before(&self.view.geometry)
    }

    /// Up to `max` messages that are there now, advanced over as they are asked for; nothing is released. What ends it
    /// early, the next look says.
    pub fn batch(&mut self, max: usize) -> Batch<'_> {
        let max = if self.look().is_ok() { max } else { 0 };
        Batch { view: &self.view, reader: &mut self.reader, released: self.released, left: max }
    }

    /// Where it reads: what [`release_to`](Self::release_to) takes, later.
    pub fn position(&self) -> u64 {
        self.reader.position
    }

    /// Whether there is something that was advanced over and is not released.
    pub fn held(&self) -> bool {
        self.reader.position != self.released
    }

    /// Gives back all that was advanced over.
    #[inline]
    pub fn release(&mut self) {
        if self.held() {
            self.release_as(self.reader.counts);
        }
    }

    /// Gives back everything before a [`position`](Self::position) of earlier.
    pub fn release_to(&mut self, position: u64) {
        debug_assert!(position.is_multiple_of(WORD as u64));
        if position <= self.released || position > self.reader.position {
            return;
        }
        let counts = if position == self.reader.position { self.reader.counts } else { self.counts_at(position) };
        self.release_as(counts);
    }

    /// What has been read up to a position that is not released yet: counted again.
    fn counts_at(&self, position: u64) -> Counts {
        let (mut at, mut counts) = (self.released, self.counts);
        while at < position {
            let room = self.view.geometry.capacity - (at - self.released);
            match records::read(&self.view.ring, &self.view.geometry, at, self.view.geometry.offset(at), room) {
                Ok(Record::Message(place)) => {
                    at += place.record as u64;
                    counts.dropped = counts.dropped.wrapping_add(missed(&counts, &place, &self.view.geometry));
                    counts.add(place.len);
                }
                // It was a message: a scribbler has been there. The counts are the least of it.
                _ => break,
            }
        }
        Counts { position, ..counts }
    }

    #[inline(always)]
    fn release_as(&mut self, counts: Counts) {
        self.counter.write(&self.cursor, &counts);
        (self.counts, self.released) = (counts, counts.position);
        self.reading &= self.held() || self.reader.current.is_some();
        let word = if self.reading { self.released | layout::READING } else { self.released };
        // Released: what was read was read before the producer may overwrite it.
        put(self.cursor.atomic64(layout::C_RELEASED), word, Ordering::Release);
        if self.view.geometry.wait != WaitMode::Spin {
            // A plain look catches nearly every sleeper. A full one, for the sleeper whose announcement and our
            // release passed each other, only now and then and before we sleep ourselves.
            let sleeper = self.view.head.word64(layout::H_SLEEPING).load(Ordering::Relaxed);
            if sleeper != 0 || self.released - self.announced > self.view.geometry.capacity / 8 {
                self.announce(false);
            }
        }
    }

    /// Whether the producer sleeps for room right now.
    pub fn producer_sleeps(&self) -> bool {
        self.view.head.word64(layout::H_SLEEPING).load(Ordering::Relaxed) != 0
    }

    /// Makes sure that a producer which sleeps for room learns what was given back: for who may not come again soon,
    /// neither to release more nor to sleep.
    pub(crate) fn settle(&mut self) {
        if self.announced != self.released && self.view.geometry.wait != WaitMode::Spin {
            self.announce(true);
        }
    }

    /// Wakes a producer that sleeps for the room we gave back: for as much as it asked for, or for any.
    #[cold]
    fn announce(&mut self, any: bool) {
        self.announced = self.released;
        fence(Ordering::SeqCst);
        let sleeper = self.view.head.word64(layout::H_SLEEPING).load(Ordering::SeqCst);
        if sleeper != 0 && (any || self.released >= sleeper & !7) {
            super::steps::step();
            segment::wake_producer(&self.cursor);
        }
    }

    pub(crate) fn on_full(&self) -> OnFull {
        self.view.geometry.on_full
    }

    /// How many bytes of the ring it holds, if the producer waits for just them.
    pub(crate) fn starves(&self) -> Option<u64> {
        let held = self.reader.position - self.released;
        let sleeper = self.view.head.word64(layout::H_SLEEPING).load(Ordering::SeqCst);
        let starves = match self.view.geometry.wait {
            // It does not say that it waits. Half the ring always has room for the next message.
            WaitMode::Spin => held > self.view.geometry.capacity / 2,
            WaitMode::Adaptive | WaitMode::Block => sleeper != 0 && self.released < sleeper & !7,
        };
        (held > 0 && starves).then_some(held)
    }

    /// Moves on to where a predecessor had read to, and releases all before. Only right after attaching. Does nothing
    /// if that was released. A position that no message begins at is an error.
    pub fn go_to(&mut self, position: u64) -> Result<()> {
        while self.reader.position < position {
            match self.look()? {
                Record::Message(_) => self.advance(),
                Record::NotReady | Record::End => break,
            }
        }
        if self.reader.position != position && self.held() || self.reader.position < position {
            return Err(poisoned(&self.edge, "a journal of something else"));
        }
        self.release();
        self.settle();
        Ok(())
    }

    /// Whether what is not being read may be taken away to make room.
    pub fn loses_oldest(&self) -> bool {
        self.view.geometry.on_full == OnFull::DropOldest
    }

    /// Takes no part any more. What it had not released is lost to it; others go on.
    pub fn detach(self) {
        segment::detach(&self.cursor);
    }

    /// What lies at the read position, its header read at most once.
    #[inline(always)]
    fn look(&mut self) -> Result<Record> {
        if self.view.geometry.indexed() {
            return self.look_where_some_are_missing();
        }
        match self.reader.look(&self.view, self.released) {
            Ok(record) => Ok(record),
            Err(what) => Err(poisoned(&self.edge, what)),
        }
    }

    fn look_where_some_are_missing(&mut self) -> Result<Record> {
        let may_lose = self.view.geometry.on_full == OnFull::DropOldest;
        if may_lose && !self.reading && !self.reader.ended {
            self.begin_reading()?;
        }
        let record = self.reader.look(&self.view, self.released).map_err(|what| poisoned(&self.edge, what))?;
        if record == Record::End && !self.all_counted {
            self.all_counted = true;
            self.count_the_last();
        }
        if may_lose && !matches!(record, Record::Message(_)) && !self.held() && self.reading {
            self.reading = false;
            put(self.cursor.atomic64(layout::C_RELEASED), self.released, Ordering::Release);
        }
        Ok(record)
    }

    /// Has the cursor say that it reads, where the producer has moved it to.
    fn begin_reading(&mut self) -> Result<()> {
        let word = self.cursor.atomic64(layout::C_RELEASED);
        let mut at = self.released;
        loop {
            super::steps::step();
            match word.compare_exchange(at, at | layout::READING, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(DETACHED) => return Err(Error::Closed { edge: self.edge.clone() }),
                Err(moved) if moved > at && is_position(moved) => at = moved,
                Err(_) => return Err(poisoned(&self.edge, "a cursor between records")),
            }
        }
        if at != self.released {
            (self.released, self.announced) = (at, at);
            (self.reader.position, self.reader.offset) = (at, self.view.geometry.offset(at));
            (self.reader.counts.position, self.counts.position) = (at, at);
        }
        self.reading = true;
        Ok(())
    }

    /// What was dropped behind the last message: the producer has counted it before it ended.
    fn count_the_last(&mut self) {
        let offered = Counts::read(&self.view.head, layout::H_COUNTS).offered();
        let missed = offered.wrapping_sub(self.reader.counts.offered());
        if missed > u64::MAX / 2 {
            return; // a scribbler has been there: the counts are the least of it
        }
        self.reader.counts.dropped = self.reader.counts.dropped.wrapping_add(missed);
        if !self.held() {
            self.counts = self.reader.counts;
            self.counter.write(&self.cursor, &self.counts);
        }
    }

    /// Whether it is not where it has announced to sleep.
    fn was_moved(&self) -> bool {
        let announced = self.cursor.word64(layout::C_SLEEPING).load(Ordering::Relaxed);
        self.view.geometry.indexed() && announced != self.reader.position | 1
    }

    /// A second mapping of the ring, for somebody else to sleep on.
    #[cfg(not(loom))]
    pub(crate) fn ring_again(&self) -> std::io::Result<ReadMap> {
        self.view.ring.again(self.view.geometry.capacity as usize)
    }

    /// Whether its producer wakes nobody.
    #[cfg(not(loom))]
    pub(crate) fn spins(&self) -> bool {
        self.view.geometry.wait == WaitMode::Spin
    }

    /// Asks the producer to wake who sleeps for what comes next, which somebody else will do. Where in the ring, and
    /// what is there until then; `None` if the end was seen.
    #[cfg(not(loom))]
    pub(crate) fn ask_to_be_woken(&mut self) -> Option<(usize, u32)> {
        if self.reader.ended {
            return None;
        }
        put(self.cursor.atomic64(layout::C_SLEEPING), self.reader.position | 1, Ordering::SeqCst);
        self.announce(true);
        Some((self.reader.offset, layout::not_ready(self.reader.position) as u32))
    }

    /// The half of the next header that changes when something is published there, and what it is until then.
    fn watched(&self) -> (&Word32, u32) {
        (self.view.ring.word32(self.reader.offset), layout::not_ready(self.reader.position) as u32)
    }
}

impl View {
    #[inline]
    fn message(&self, place: Place) -> Bytes<'_> {
        let map = match &self.slab {
            Some(slab) if place.large => slab,
            _ => &self.ring,
        };
        Bytes { map, at: place.at, len: place.len }
    }
}

impl Reader {
    #[inline(always)]
    fn look(&mut self, view: &View, released: u64) -> std::result::Result<Record, &'static str> {
        if let Some(place) = self.current {
            return Ok(Record::Message(place));
        }
        if self.ended {
            return Ok(Record::End);
        }
        // All but the shortest messages reach into the next line: it shall come together with this one.
        view.ring.will_read(self.offset + LINE);
        let room = view.geometry.capacity - (self.position - released);
        let record = records::read(&view.ring, &view.geometry, self.position, self.offset, room)?;
        match record {
            Record::Message(place) if missed(&self.counts, &place, &view.geometry) > u64::MAX / 2 => {
                return Err("a message that was there before");
            }
            Record::Message(place) => self.current = Some(place),
            Record::End => self.ended = true,
            Record::NotReady => {}
        }
        Ok(record)
    }

    /// How many messages were dropped right before the one that was seen.
    #[inline]
    fn missed_before(&self, geometry: &Geometry) -> u64 {
        self.current.map_or(0, |place| missed(&self.counts, &place, geometry))
    }

    #[inline]
    fn advance(&mut self, view: &View) -> Option<Place> {
        let place = self.current.take()?;
        self.position += place.record as u64;
        self.offset += place.record;
        if self.offset >= view.geometry.capacity as usize {
            self.offset -= view.geometry.capacity as usize;
        }
        if view.geometry.indexed() {
            let missed = missed(&self.counts, &place, &view.geometry);
            self.counts.dropped = self.counts.dropped.wrapping_add(missed);
        }
        self.counts.add(place.len);
        self.counts.position = self.position;
        Some(place)
    }
}

/// How many messages are missing between those that were counted and this one.
fn missed(counts: &Counts, place: &Place, geometry: &Geometry) -> u64 {
    if geometry.indexed() { place.index.wrapping_sub(counts.offered()) } else { 0 }
}

/// See [`Consumer::batch`].
#[derive(Debug)]
pub struct Batch<'a> {
    view: &'a View,
    reader: &'a mut Reader,
    released: u64,
    left: usize,
}

impl<'a> Iterator for Batch<'a> {
    type Item = Bytes<'a>;

    #[inline]
    fn next(&mut self) -> Option<Bytes<'a>> {
        self.left = self.left.checked_sub(1)?;
        let Ok(Record::Message(_)) = self.reader.look(self.view, self.released) else {
            self.left = 0;
            return None;
        };
        self.reader.advance(self.view).map(|place| self.view.message(place))
    }
}

/// Waits until one of these has something new: a message, or the end. Those whose end has been seen before do not
/// count; when that is all of them there is nothing to wait for.
pub fn wait_any(consumers: &mut [Consumer], until: Until<'_>) -> Result<()> {
    let mut modes = consumers.iter().filter(|c| !c.reader.ended).map(|c| c.view.geometry.wait);
    let Some(first) = modes.next() else { return Ok(()) };
    // The producer of a ring that spins wakes nobody: one such ring, and all are spun on.
    let spins = modes.any(|mode| mode == WaitMode::Spin);
    let waiter = &mut consumers[0];
    if let Some(cpu) = waiter.patience.introduce(first) {
        put(waiter.cursor.atomic64(layout::C_CPU), cpu.into(), Ordering::Relaxed);
    }
    let theirs = waiter.view.head.word64(layout::H_CPU).load(Ordering::Relaxed) as u32;
    let mut spinner = waiter.patience.spinner(if spins { WaitMode::Spin } else { first }, theirs);
    let result = loop {
        match any_ready(consumers) {
            Ok(false) => {}
            other => break other.map(|_| ()),
        }
        match spinner.spin(&until) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(e) => break Err(e),
        }
        match sleep(consumers, until) {
            Ok(false) => {}
            other => break other.map(|_| ()),
        }
    };
    let ns = spinner.elapsed_ns();
    // Of several rings of one edge the time is counted once.
    let first = &mut consumers[0];
    first.patience.learn(&spinner);
    if ns > 0 {
        first.waited_ns = first.waited_ns.wrapping_add(ns);
        put(first.cursor.atomic64(layout::C_WAITED_NS), first.waited_ns, Ordering::Relaxed);
    }
    result
}

fn any_ready(consumers: &mut [Consumer]) -> Result<bool> {
    let mut over = true;
    for consumer in consumers.iter_mut().filter(|c| !c.reader.ended) {
        if consumer.look()? != Record::NotReady {
            return Ok(true);
        }
        over = false;
    }
    Ok(over)
}

/// Announces the sleep to every producer, looks again, sleeps. True: that look found something.
fn sleep(consumers: &mut [Consumer], until: Until<'_>) -> Result<bool> {
    for consumer in &mut *consumers {
        let sleeping = consumer.cursor.atomic64(layout::C_SLEEPING);
        put(sleeping, consumer.reader.position | 1, Ordering::SeqCst);
        consumer.announce(true); // one who waits for room gets what there is: we may want more from it
    }
    let slept = match any_ready(consumers) {
        // What it waited for was dropped: the producer must know what it waits for now.
        Ok(false) if consumers.iter().any(Consumer::was_moved) => Ok(false),
        Ok(false) => {
            let words: Vec<_> = consumers.iter().filter(|c| !c.reader.ended).map(Consumer::watched).collect();
            until.sleep(&words, MAX_SLEEP).map(|()| false)
        }
        other => other,
    };
    for consumer in consumers {
        put(consumer.cursor.atomic64(layout::C_SLEEPING), 0, Ordering::SeqCst);
    }
    slept
}

impl<'a> Bytes<'a> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies it to the front of `to`.
    ///
    /// # Panics
    /// If `to` is shorter.
    pub fn copy_to(&self, to: &mut [u8]) {
        self.map.copy_out(self.at, &mut to[..self.len]);
    }

    /// Copies as much of its beginning as `to` takes.
    ///
    /// # Panics
    /// If it is shorter than `to`.
    pub fn copy_start_to(&self, to: &mut [u8]) {
        assert!(to.len() <= self.len);
        self.map.copy_out(self.at, to);
    }

    /// Copies it behind what `to` has.
    pub fn append_to(&self, to: &mut Vec<u8>) {
        let old = to.len();
        to.resize(old + self.len, 0);
        self.map.copy_out(self.at, &mut to[old..]);
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::new();
        self.append_to(&mut all);
        all
    }

    /// write(2) of what lies behind its first `skip` bytes: how many were taken.
    ///
    /// # Panics
    /// If it has fewer than `skip` bytes.
    pub fn write_to(&self, to: impl AsFd, skip: usize) -> std::io::Result<usize> {
        assert!(skip <= self.len);
        self.map.write_out(self.at + skip, self.len - skip, to)
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// No process that can write this ring may change the message while the slice lives. The producers of this crate
    /// do not: they write only where everyone has released. One that breaks the protocol could.
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        let at = self.map.at(self.at, self.len);
        // SAFETY: within the mapping, as `at` has checked, which outlives 'a; that nobody writes is the caller's word.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), self.len) }
    }
}
