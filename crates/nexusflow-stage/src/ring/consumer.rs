//! The reading end of a ring.

use std::os::fd::{AsFd, OwnedFd};

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{ReadMap, Shared, Word32, WriteMap, page_size};
use nexusflow_sys::{futex, memfd};

use super::layout::{self, DETACHED, Header, WORD};
use super::wait::Spinner;
use super::{Geometry, MAX_SLEEP, Until, WaitMode, check_capacity, check_magic, is_position, poisoned, segment};
use crate::error::{Error, Result};

/// One reader of a ring.
///
/// It has two places in the ring: where it reads ([`advance`](Self::advance) moves it) and up to where it has
/// released ([`release`](Self::release)). What is not released stays in the ring, and is read again by a process that
/// attaches after this one has died.
#[derive(Debug)]
pub struct Consumer {
    edge: String,
    map: ReadMap,
    cursor: WriteMap,
    geometry: Geometry,
    /// Where it reads, and where in the ring that is.
    position: u64,
    offset: usize,
    /// The length of the message at `position`, once it was seen there: its header is read once.
    current: Option<usize>,
    released: u64,
    /// `released` when it was last made sure that a sleeping producer sees it.
    announced: u64,
    messages: u64,
    bytes: u64,
    waited_ns: u64,
    ended: bool,
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
    /// Attaches to a ring whose descriptors were received: the data, then this consumer's own cursor.
    pub fn from_fds(edge: &str, capacity: u64, fds: Vec<OwnedFd>) -> Result<Self> {
        Self::attach(edge, capacity, fds, true)
    }

    pub(super) fn attach(edge: &str, capacity: u64, fds: Vec<OwnedFd>, populate: bool) -> Result<Self> {
        let ring = check_capacity(edge, capacity)?;
        let head = page_size();
        let [data, cursor] = &fds[..] else { return Err(poisoned(edge, "a wrong number of descriptors")) };
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        memfd::check(data, head as u64 + capacity, false).map_err(failed)?;
        memfd::check(cursor, head as u64, true).map_err(failed)?;
        let map = ReadMap::ring(data, head, ring).map_err(failed)?;
        if populate {
            map.populate();
        }
        let cursor = WriteMap::new(cursor, head).map_err(failed)?;
        check_magic(edge, &cursor)?;
        let geometry = Geometry::read(edge, &map, head, capacity)?;
        let word = |offset| cursor.word64(offset).load(Ordering::Relaxed);
        let released = word(layout::C_RELEASED);
        if released == DETACHED || cursor.word32(layout::C_DETACHED).load(Ordering::Relaxed) != 0 {
            return Err(Error::Closed { edge: edge.to_owned() });
        }
        if !is_position(released) {
            return Err(poisoned(edge, "a cursor between records"));
        }
        let (messages, bytes) = (word(layout::C_MESSAGES), word(layout::C_BYTES));
        let waited_ns = word(layout::C_WAITED_NS);
        cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst); // of one that died asleep
        Ok(Self {
            edge: edge.to_owned(),
            map,
            cursor,
            geometry,
            position: released,
            offset: geometry.offset(released),
            current: None,
            released,
            announced: released,
            messages,
            bytes,
            waited_ns,
            ended: false,
        })
    }

    /// What is next, now.
    pub fn try_peek(&mut self) -> Result<Next<'_>> {
        Ok(match self.look()? {
            Header::Ready { len } => Next::Message(self.message(len)),
            Header::NotReady => Next::Empty,
            Header::End => Next::End,
        })
    }

    /// The next message, when there is one; `None` at the end. It stays the next until [`advance`](Self::advance).
    pub fn peek(&mut self, until: Until<'_>) -> Result<Option<Bytes<'_>>> {
        loop {
            match self.look()? {
                Header::Ready { len } => return Ok(Some(self.message(len))),
                Header::End => return Ok(None),
                Header::NotReady => wait_any(std::slice::from_mut(self), until)?,
            }
        }
    }

    /// Goes on to the message after the one that was seen last; does nothing if none was.
    pub fn advance(&mut self) {
        let Some(len) = self.current.take() else { return };
        let record = layout::record_len(len);
        self.position += record as u64;
        self.offset += record;
        if self.offset >= self.geometry.capacity as usize {
            self.offset -= self.geometry.capacity as usize;
        }
        // They began at what the last consumer left there, which may be anything.
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u64);
    }

    /// The message that was seen last, advanced over.
    pub fn take(&mut self) -> Option<Bytes<'_>> {
        let len = self.current?;
        let at = self.geometry.head + self.offset + WORD;
        self.advance();
        Some(Bytes { map: &self.map, at, len })
    }

    /// Where it reads: what [`release_to`](Self::release_to) takes, later.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives back all that was advanced over.
    pub fn release(&mut self) {
        self.release_to(self.position);
    }

    /// Gives back everything before a [`position`](Self::position) of earlier.
    pub fn release_to(&mut self, position: u64) {
        debug_assert!(position.is_multiple_of(WORD as u64));
        if position <= self.released || position > self.position {
            return;
        }
        self.released = position;
        self.cursor.atomic64(layout::C_MESSAGES).store(self.messages, Ordering::Relaxed);
        self.cursor.atomic64(layout::C_BYTES).store(self.bytes, Ordering::Relaxed);
        // Released: what was read was read before the producer may overwrite it.
        self.cursor.atomic64(layout::C_RELEASED).store(position, Ordering::Release);
        if self.geometry.wait != WaitMode::Spin {
            // A plain look catches nearly every sleeper. A full one, for the sleeper whose announcement and our
            // release passed each other, only now and then and before we sleep ourselves.
            let sleeper = self.map.word64(layout::D_SLEEPING).load(Ordering::Relaxed);
            if sleeper != 0 || position - self.announced > self.geometry.capacity / 8 {
                self.announce(false);
            }
        }
    }

    /// Makes sure that a producer which sleeps for room learns what was given back: for who may not come again soon,
    /// neither to release more nor to sleep.
    pub(crate) fn settle(&mut self) {
        if self.announced != self.released && self.geometry.wait != WaitMode::Spin {
            self.announce(true);
        }
    }

    /// Wakes a producer that sleeps for the room we gave back: for as much as it asked for, or for any.
    fn announce(&mut self, any: bool) {
        self.announced = self.released;
        fence(Ordering::SeqCst);
        let sleeper = self.map.word64(layout::D_SLEEPING).load(Ordering::SeqCst);
        if sleeper != 0 && (any || self.released >= sleeper & !7) {
            futex::wake_all(self.cursor.word32(layout::C_RELEASED));
        }
    }

    /// Takes no part any more. What it had not released is lost to it; others go on.
    pub fn detach(self) {
        segment::detach(&self.cursor);
    }

    /// What lies at the read position, its header read at most once.
    #[inline]
    fn look(&mut self) -> Result<Header> {
        if let Some(len) = self.current {
            return Ok(Header::Ready { len });
        }
        if self.ended {
            return Ok(Header::End);
        }
        let word = self.map.word64(self.geometry.head + self.offset).load(Ordering::SeqCst);
        let room = self.geometry.capacity - (self.position - self.released);
        let header = layout::read(word, self.position, room).map_err(|what| poisoned(&self.edge, what))?;
        match header {
            Header::Ready { len } => self.current = Some(len),
            Header::End => self.ended = true,
            Header::NotReady => {}
        }
        Ok(header)
    }

    fn message(&self, len: usize) -> Bytes<'_> {
        Bytes { map: &self.map, at: self.geometry.head + self.offset + WORD, len }
    }

    /// The half of the next header that changes when something is published there, and what it is until then.
    fn watched(&self) -> (&Word32, u32) {
        (self.map.word32(self.geometry.head + self.offset), layout::not_ready(self.position) as u32)
    }
}

/// Waits until one of these has something new: a message, or the end. Those whose end has been seen before do not
/// count; when that is all of them there is nothing to wait for.
pub fn wait_any(consumers: &mut [Consumer], until: Until<'_>) -> Result<()> {
    let mut modes = consumers.iter().filter(|c| !c.ended).map(|c| c.geometry.wait);
    let Some(first) = modes.next() else { return Ok(()) };
    // The producer of a ring that spins wakes nobody: one such ring, and all are spun on.
    let spins = modes.any(|mode| mode == WaitMode::Spin);
    let mut spinner = Spinner::new(if spins { WaitMode::Spin } else { first });
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
    if ns > 0 {
        // Of several rings of one edge the time is counted once.
        let first = &mut consumers[0];
        first.waited_ns = first.waited_ns.wrapping_add(ns);
        first.cursor.atomic64(layout::C_WAITED_NS).store(first.waited_ns, Ordering::Relaxed);
    }
    result
}

fn any_ready(consumers: &mut [Consumer]) -> Result<bool> {
    let mut over = true;
    for consumer in consumers.iter_mut().filter(|c| !c.ended) {
        if consumer.look()? != Header::NotReady {
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
        sleeping.store(consumer.position | 1, Ordering::SeqCst);
        consumer.announce(true); // one who waits for room gets what there is: we may want more from it
    }
    let slept = match any_ready(consumers) {
        Ok(false) => {
            let words: Vec<_> = consumers.iter().filter(|c| !c.ended).map(Consumer::watched).collect();
            until.sleep(&words, MAX_SLEEP).map(|()| false)
        }
        other => other,
    };
    for consumer in consumers {
        consumer.cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst);
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
