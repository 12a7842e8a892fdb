//! The writing end of a ring.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nexusflow_sys::map::{ReadMap, WriteMap, page_size};
use nexusflow_sys::{futex, memfd};

use super::layout::{self, DETACHED, WORD};
use super::wait::Spinner;
use super::{Geometry, MAX_CONSUMERS, MAX_SLEEP, Until, WaitMode, check_capacity, check_magic, find_tail, poisoned};
use crate::error::{Error, Result};

/// How long a producer that sleeps for room asks for more than it needs, so that it is not woken for every message.
const GENEROUS_SLEEP: Duration = Duration::from_millis(1);

/// The one writer of a ring.
///
/// Messages are staged, then published together: [`write`](Self::write) does both, [`write_batch`](Self::write_batch)
/// publishes once for all that fit.
#[derive(Debug)]
pub struct Producer {
    edge: String,
    map: WriteMap,
    cursors: Vec<Cursor>,
    geometry: Geometry,
    /// Behind what is staged, and where in the ring that is.
    position: u64,
    offset: usize,
    /// The first staged record's header, which makes all of them visible: where, and what to write.
    staged: Option<(usize, u64, u64)>,
    /// What may be written up to: the slowest consumer's cursor, when last seen, and a ring further.
    limit: u64,
    messages: u64,
    bytes: u64,
    blocked_ns: u64,
    ended: bool,
}

/// A consumer's cursor, as the producer sees it.
#[derive(Debug)]
struct Cursor {
    map: ReadMap,
    /// It never goes back.
    seen: u64,
}

/// Room for one message: fill it, then commit. Dropped, nothing is sent.
#[derive(Debug)]
pub struct Reservation<'a> {
    producer: &'a mut Producer,
    len: usize,
}

impl Producer {
    /// Attaches to a ring whose descriptors were received: the data, then every consumer's cursor.
    pub fn from_fds(edge: &str, capacity: u64, fds: Vec<OwnedFd>) -> Result<Self> {
        Self::attach(edge, capacity, fds, true)
    }

    pub(super) fn attach(edge: &str, capacity: u64, fds: Vec<OwnedFd>, populate: bool) -> Result<Self> {
        let ring = check_capacity(edge, capacity)?;
        let head = page_size();
        let (data, cursors) = match &fds[..] {
            [data, cursors @ ..] if (1..=MAX_CONSUMERS).contains(&cursors.len()) => (data, cursors),
            _ => return Err(poisoned(edge, "a wrong number of descriptors")),
        };
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        memfd::check(data, head as u64 + capacity, true).map_err(failed)?;
        let map = WriteMap::ring(data, head, ring).map_err(failed)?;
        if populate {
            let _ = map.populate(); // the memory is there already: this saves page faults
        }
        // Of one that died asleep. A page is written before it is read, here and in `recover`: a first read would have the
        // kernel map fifteen neighbours too.
        map.atomic64(layout::D_SLEEPING).store(0, Ordering::SeqCst);
        let geometry = Geometry::read(edge, &map, head, capacity)?;
        let cursors = cursors.iter().map(|fd| Cursor::attach(edge, fd)).collect::<Result<Vec<_>>>()?;
        let word = |offset| map.word64(offset).load(Ordering::Relaxed);
        let (messages, bytes) = (word(layout::D_MESSAGES), word(layout::D_BYTES));
        let blocked_ns = word(layout::D_BLOCKED_NS);
        let (position, offset) = (0, 0);
        let edge = edge.to_owned();
        let (staged, limit, ended) = (None, 0, false);
        let mut producer =
            Self { edge, map, cursors, geometry, position, offset, staged, limit, messages, bytes, blocked_ns, ended };
        producer.recover()?;
        Ok(producer)
    }

    /// Finds the tail: behind the last record that was published, whoever published it.
    fn recover(&mut self) -> Result<()> {
        let slowest = self.cursors.iter().filter(|c| !c.detached()).map(Cursor::released).filter(|r| *r != DETACHED);
        if let Some(from) = slowest.min() {
            let first = self.map.atomic64(self.geometry.head + self.geometry.offset(from & !7));
            let _ = first.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed); // touches, changes nothing
            let (tail, ended) = find_tail(&self.edge, &self.map, &self.geometry, from)?;
            self.position = tail;
            self.offset = self.geometry.offset(tail);
            self.ended = ended;
            self.limit = from + self.geometry.capacity;
        }
        Ok(())
    }

    /// Bytes of the longest message.
    pub fn max_message(&self) -> usize {
        layout::max_message(self.geometry.capacity) as usize
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
                self.make_room(message.len(), until)?;
                self.room(message.len()).copy_from_slice(message);
                self.stage(message.len());
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
    pub fn reserve(&mut self, len: usize, until: Until<'_>) -> Result<Reservation<'_>> {
        self.make_room(len, until)?;
        Ok(self.reserved(len))
    }

    /// Room that [`Self::wait_room`] has found.
    pub(crate) fn reserved(&mut self, len: usize) -> Reservation<'_> {
        debug_assert!(self.position + (layout::record_len(len) + WORD) as u64 <= self.limit);
        Reservation { producer: self, len }
    }

    /// Room for a message of at most `len` bytes, if there is now.
    pub fn try_reserve(&mut self, len: usize) -> Result<Option<Reservation<'_>>> {
        let needed = self.needed(len)?;
        if needed > self.limit {
            self.refresh()?;
            if needed > self.limit {
                return Ok(None);
            }
        }
        Ok(Some(Reservation { producer: self, len }))
    }

    /// Ends the stream: consumers read what was sent, then the end. Nothing can follow.
    pub fn finish(&mut self) {
        self.publish();
        if !self.ended {
            self.ended = true;
            self.make_visible(self.offset, layout::end(self.position), self.position);
        }
    }

    /// How far a message of `len` bytes would reach, the header behind it counted, if it may be sent at all.
    fn needed(&self, len: usize) -> Result<u64> {
        if len > self.max_message() {
            return Err(Error::TooLong { edge: self.edge.clone(), len, max: self.max_message() });
        }
        if self.ended {
            return Err(Error::Finished { edge: self.edge.clone() });
        }
        if self.cursors.iter().all(Cursor::detached) {
            return Err(self.closed());
        }
        Ok(self.position + (layout::record_len(len) + WORD) as u64)
    }

    fn closed(&self) -> Error {
        Error::Closed { edge: self.edge.clone() }
    }

    #[inline]
    fn make_room(&mut self, len: usize, until: Until<'_>) -> Result<()> {
        let needed = self.needed(len)?;
        if needed <= self.limit { Ok(()) } else { self.wait_for_room(needed, until) }
    }

    /// Looks at every cursor again. Says whose is the furthest behind.
    fn refresh(&mut self) -> Result<usize> {
        let mut slowest = None;
        for (i, cursor) in self.cursors.iter_mut().enumerate() {
            if cursor.detached() {
                continue;
            }
            let released = cursor.released();
            if released == DETACHED {
                continue;
            }
            if !released.is_multiple_of(WORD as u64) || released < cursor.seen || released > self.position {
                return Err(poisoned(&self.edge, "a cursor where no record is"));
            }
            cursor.seen = released;
            if slowest.is_none_or(|(least, _)| released < least) {
                slowest = Some((released, i));
            }
        }
        let (released, i) = slowest.ok_or_else(|| self.closed())?;
        self.limit = released + self.geometry.capacity;
        Ok(i)
    }

    #[cold]
    fn wait_for_room(&mut self, needed: u64, until: Until<'_>) -> Result<()> {
        self.refresh()?;
        if needed <= self.limit {
            return Ok(());
        }
        self.publish(); // whoever is to make room must see what there is to read
        let mut spinner = Spinner::new(self.geometry.wait);
        let result = self.sleep_for_room(needed, until, &mut spinner);
        let ns = spinner.elapsed_ns();
        if ns > 0 {
            self.blocked_ns = self.blocked_ns.wrapping_add(ns);
            self.map.atomic64(layout::D_BLOCKED_NS).store(self.blocked_ns, Ordering::Relaxed);
        }
        result
    }

    fn sleep_for_room(&mut self, needed: u64, until: Until<'_>, spinner: &mut Spinner) -> Result<()> {
        let mut generous = true;
        loop {
            self.refresh()?;
            if needed <= self.limit {
                return Ok(());
            }
            if spinner.spin(&until)? {
                continue;
            }
            // Announce the sleep, look again, sleep: the consumer moves its cursor, then looks whether we sleep.
            let enough = needed - self.geometry.capacity;
            let plenty = (self.limit - self.geometry.capacity + self.geometry.capacity / 4).min(self.position);
            let (wanted, longest) = if generous { (enough.max(plenty), GENEROUS_SLEEP) } else { (enough, MAX_SLEEP) };
            self.map.atomic64(layout::D_SLEEPING).store(wanted & !7 | 1, Ordering::SeqCst);
            let slept = match self.refresh() {
                Ok(slowest) if needed > self.limit => {
                    let cursor = &self.cursors[slowest];
                    until.sleep(&[(cursor.map.word32(layout::C_RELEASED), cursor.seen as u32)], longest)
                }
                other => other.map(|_| ()),
            };
            self.map.atomic64(layout::D_SLEEPING).store(0, Ordering::SeqCst);
            slept?;
            generous = false;
        }
    }

    /// The bytes of the next record, for which room has been made.
    #[inline]
    fn room(&mut self, len: usize) -> &mut [u8] {
        let at = self.map.at(self.geometry.head + self.offset + WORD, len);
        // SAFETY: `at` checked that the bytes are within the mapping, which lives as long as `self`. They lie between
        // the tail and the slowest cursor: this process's only Producer of the ring is the one who may write there
        // (a second one is handed out when the first process is dead), no consumer reads past the last published
        // header, and nothing else in this process makes a reference to them. Mapped memory is initialised.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) }
    }

    /// Puts a header before the bytes that lie ready, visible with the next [`Self::publish`].
    #[inline]
    fn stage(&mut self, len: usize) {
        let word = layout::ready(self.position, len as u32); // `len` is at most max_message, below 2^32
        match self.staged {
            None => self.staged = Some((self.offset, word, self.position)),
            // Only reached through the first one's header, which is not there yet.
            Some(_) => self.map.atomic64(self.geometry.head + self.offset).store(word, Ordering::Relaxed),
        }
        let record = layout::record_len(len);
        self.position += record as u64;
        self.offset += record;
        if self.offset >= self.geometry.capacity as usize {
            self.offset -= self.geometry.capacity as usize;
        }
        // They began at what the last producer left there, which may be anything.
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u64);
    }

    /// Makes visible what is staged.
    #[inline]
    fn publish(&mut self) {
        let Some((offset, word, position)) = self.staged.take() else { return };
        let tail = self.map.atomic64(self.geometry.head + self.offset);
        tail.store(layout::not_ready(self.position), Ordering::Relaxed);
        self.map.atomic64(layout::D_MESSAGES).store(self.messages, Ordering::Relaxed);
        self.map.atomic64(layout::D_BYTES).store(self.bytes, Ordering::Relaxed);
        self.map.atomic64(layout::D_WRITTEN).store(self.position, Ordering::Relaxed);
        self.make_visible(offset, word, position);
    }

    /// Writes the header that consumers wait for at `position`, and wakes who sleeps there.
    #[inline]
    fn make_visible(&self, offset: usize, word: u64, position: u64) {
        let at = self.geometry.head + offset;
        if self.geometry.wait == WaitMode::Spin {
            self.map.atomic64(at).store(word, Ordering::Release);
            return;
        }
        // Sequentially consistent with the loads of C_SLEEPING below and, in the consumer, with its store there and
        // its last look here: one of the two sees the other.
        self.map.atomic64(at).store(word, Ordering::SeqCst);
        let asleep = |c: &Cursor| c.map.word64(layout::C_SLEEPING).load(Ordering::SeqCst) == position | 1;
        if self.cursors.iter().any(asleep) {
            futex::wake_all(self.map.word32(at));
        }
    }
}

impl Cursor {
    fn attach(edge: &str, fd: &OwnedFd) -> Result<Self> {
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        memfd::check(fd, page_size() as u64, false).map_err(failed)?;
        let map = ReadMap::new(fd, page_size()).map_err(failed)?;
        check_magic(edge, &map)?;
        Ok(Self { map, seen: 0 })
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
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.producer.room(self.len)
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
    pub fn commit_len(self, len: usize) {
        assert!(len <= self.len, "{len} bytes of a reservation of {}", self.len);
        self.producer.stage(len);
        self.producer.publish();
    }
}
