//! The supervisor's side of a store: makes it, hands it out, keeps sealed objects, ends it for the dead, counts.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nexusflow_sys::map::{WriteMap, page_size};
use nexusflow_sys::{futex, memfd, sched};

use super::layout;
use super::{Keeper, Reader, Shape, Writer, entry, find_tail, has_released, is_detached, poisoned};
use crate::error::{Error, Result};
use crate::memory::{Hugepages, Memory, make};
use crate::ring::{MAX_CAPACITY, MAX_CONSUMERS, WaitMode};

/// What a store is to be.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions<'a> {
    /// Of the edge: for messages, and in /proc/PID/maps.
    pub name: &'a str,
    /// Bytes of all objects together; rounded up to whole pages.
    pub capacity: u64,
    /// From 1 to [`MAX_CONSUMERS`].
    pub consumers: usize,
    pub wait: WaitMode,
    /// Each object in a memory file of its own, which nobody can write once it is sealed.
    pub sealed: bool,
    /// Each object to one consumer only.
    pub distribute: bool,
}

/// A store as the supervisor holds it.
#[derive(Debug)]
pub struct Store {
    edge: String,
    shape: Shape,
    head: (OwnedFd, WriteMap),
    /// Where objects lie that have no memory of their own.
    slab: Option<OwnedFd>,
    cursors: Vec<(OwnedFd, WriteMap)>,
    /// By slot: sealed objects that somebody may still ask for.
    kept: Mutex<HashMap<u32, Kept>>,
}

#[derive(Debug)]
struct Kept {
    serial: u64,
    len: u64,
    fd: OwnedFd,
}

/// What has gone through a store so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Sealed.
    pub objects: u64,
    pub bytes: u64,
    /// How long the producer has waited for room.
    pub blocked: Duration,
    /// It waits right now.
    pub producer_sleeps: bool,
    pub consumers: Vec<ReaderStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReaderStats {
    /// Released.
    pub objects: u64,
    pub bytes: u64,
    /// How long it has waited for objects.
    pub waited: Duration,
    /// It waits right now.
    pub sleeps: bool,
    pub detached: bool,
    /// What it has not released: how many, and their bytes.
    pub held: u64,
    pub held_bytes: u64,
}

/// An object that is held, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Counted by its producer from 0.
    pub number: u64,
    pub len: u64,
    /// Since it was sealed.
    pub age: Duration,
    /// The consumers that have not released it.
    pub by: Vec<usize>,
}

impl Store {
    /// Makes a store with all its memory; that of sealed objects comes with them.
    pub fn create(options: &StoreOptions<'_>) -> Result<Self> {
        Self::create_in(options, Memory::default())
    }

    /// The same with that memory; a capacity in huge pages is rounded up to them.
    pub fn create_in(options: &StoreOptions<'_>, memory: Memory) -> Result<Self> {
        let StoreOptions { name, capacity, consumers, wait, sealed, distribute } = *options;
        if capacity > MAX_CAPACITY || consumers == 0 || consumers > MAX_CONSUMERS {
            let what = format!("{capacity} bytes for {consumers} consumers");
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
            return Err(Error::Io { doing: "make a store of objects", source });
        }
        let page = memory.hugepages.bytes().filter(|_| !sealed).unwrap_or(page_size() as u64);
        let capacity = capacity.max(1).next_multiple_of(page);
        let small = Memory { hugepages: Hugepages::None, ..memory };
        let lanes = if distribute { consumers } else { 1 };
        let slots = layout::slots(capacity, lanes, sealed) as u32;
        let shape = Shape { capacity, slots, consumers: consumers as u32, wait, sealed, distribute };
        let all = || -> std::io::Result<Self> {
            let head = make(&format!("nexusflow:{name}:objects"), shape.head_len() as u64, small, |_| {})?;
            head.1.atomic64(layout::H_CAPACITY).store(capacity, Ordering::Relaxed);
            head.1.atomic32(layout::H_SLOTS).store(slots, Ordering::Relaxed);
            head.1.atomic32(layout::H_CONSUMERS).store(shape.consumers, Ordering::Relaxed);
            head.1.atomic32(layout::H_WAIT).store(wait as u32, Ordering::Relaxed);
            head.1.atomic32(layout::H_FLAGS).store(shape.flags(), Ordering::Relaxed);
            mark(&head.1);
            let slab =
                if sealed { None } else { Some(make(&format!("nexusflow:{name}"), capacity, memory, |_| {})?.0) };
            let cursors = (0..consumers).map(|i| {
                let cursor = make(&format!("nexusflow:{name}.{i}"), shape.cursor_len() as u64, small, |_| {})?;
                cursor.1.atomic32(layout::C_INDEX).store(i as u32, Ordering::Relaxed);
                mark(&cursor.1);
                Ok(cursor)
            });
            let cursors = cursors.collect::<std::io::Result<_>>()?;
            Ok(Self { edge: name.to_owned(), shape, head, slab, cursors, kept: Mutex::default() })
        };
        all().map_err(Error::io("make a store of objects"))
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What is sent to the producer: the head and the slab to write, then every cursor to read.
    pub fn writer_fds(&self) -> Result<Vec<OwnedFd>> {
        let own = [Some(&self.head.0), self.slab.as_ref()].into_iter().flatten().map(OwnedFd::try_clone);
        let cursors = self.cursors.iter().map(|(fd, _)| memfd::read_only(fd.as_fd()));
        own.chain(cursors).collect::<std::io::Result<_>>().map_err(Error::io("hand a store of objects out"))
    }

    /// What is sent to consumer `i`: the head and the slab to read, then its own cursor to write.
    pub fn reader_fds(&self, i: usize) -> Result<Vec<OwnedFd>> {
        let data =
            [Some(&self.head.0), self.slab.as_ref()].into_iter().flatten().map(|fd| memfd::read_only(fd.as_fd()));
        data.chain([self.cursors[i].0.try_clone()])
            .collect::<std::io::Result<_>>()
            .map_err(Error::io("hand a store of objects out"))
    }

    /// The producer, in this process.
    pub fn writer(self: &Arc<Self>) -> Result<Writer> {
        Writer::attach(&self.edge, self.shape, self.writer_fds()?, self.clone(), false)
    }

    /// Consumer `i`, in this process.
    pub fn reader(self: &Arc<Self>, i: usize) -> Result<Reader> {
        Reader::attach(&self.edge, self.shape, self.reader_fds(i)?, self.clone(), false)
    }

    /// Ends the stream of a producer that is gone for good: consumers read what it had sealed, then the end.
    /// Harmless when it has ended already. Only while no producer lives. A lane that holds nonsense is an error, and does
    /// not keep the end from the others.
    pub fn close(&self) -> Result<()> {
        let mut result = Ok(());
        for lane in 0..self.shape.lanes() {
            match find_tail(&self.edge, &self.shape, &self.head.1, lane) {
                Ok((_, true)) => {}
                Ok((tail, false)) => {
                    let at = self.shape.order_at(lane, tail);
                    self.head.1.atomic64(at).store(layout::end(tail), Ordering::SeqCst);
                    futex::wake_all(self.head.1.word32(at));
                }
                Err(e) => result = result.and(Err(e)),
            }
        }
        self.head.1.atomic64(layout::H_SLEEPING).store(0, Ordering::SeqCst); // it sleeps no more
        result
    }

    /// Consumer `i` takes no part any more: it holds nobody back. The producer fails as closed when it was the last.
    pub fn detach(&self, i: usize) {
        detach(&self.cursors[i].1);
        let _ = self.sweep(); // nothing to do for one that holds nonsense
    }

    /// Wakes everyone who sleeps on this store to look again: for when a process has died, perhaps before it woke whom
    /// it should have.
    pub fn wake_all(&self) {
        for (i, (_, cursor)) in self.cursors.iter().enumerate() {
            futex::wake_all(cursor.word32(layout::C_RELEASED));
            let sleeping = cursor.word64(layout::C_SLEEPING).load(Ordering::SeqCst);
            if let Some(number) = sleeping.checked_sub(1) {
                futex::wake_all(self.head.1.word32(self.shape.order_at(self.shape.lane_of(i), number)));
            }
        }
    }

    /// Whether consumer `i` has released all there will ever be, or is detached.
    pub fn drained(&self, i: usize) -> Result<bool> {
        if is_detached(&self.cursors[i].1) {
            return Ok(true);
        }
        let (tail, ended) = find_tail(&self.edge, &self.shape, &self.head.1, self.shape.lane_of(i))?;
        Ok(ended && !self.table().any(|(slot, e)| e.number < tail && self.holds(i, slot, e.lane, e.number)))
    }

    /// What has gone through so far.
    pub fn stats(&self) -> StoreStats {
        let tails: Vec<_> = (0..self.shape.lanes()).map(|lane| self.tail(lane)).collect();
        let objects = tails.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        let mut consumers: Vec<_> = (self.cursors.iter())
            .map(|(_, cursor)| ReaderStats {
                bytes: cursor.word64(layout::C_BYTES).load(Ordering::Relaxed),
                waited: Duration::from_nanos(cursor.word64(layout::C_WAITED_NS).load(Ordering::Relaxed)),
                sleeps: cursor.word64(layout::C_SLEEPING).load(Ordering::SeqCst) != 0,
                detached: is_detached(cursor),
                ..ReaderStats::default()
            })
            .collect();
        for (slot, e) in self.table().filter(|(_, e)| e.number < tails[e.lane]) {
            for (i, consumer) in consumers.iter_mut().enumerate() {
                if self.holds(i, slot, e.lane, e.number) {
                    consumer.held += 1;
                    consumer.held_bytes = consumer.held_bytes.saturating_add(e.len);
                }
            }
        }
        for (i, consumer) in consumers.iter_mut().enumerate() {
            consumer.objects = tails[self.shape.lane_of(i)].saturating_sub(consumer.held);
        }
        let head = |offset| self.head.1.word64(offset).load(Ordering::SeqCst);
        StoreStats {
            objects,
            bytes: total_bytes(&self.head.1, objects),
            blocked: Duration::from_nanos(head(layout::H_BLOCKED_NS)),
            producer_sleeps: head(layout::H_SLEEPING) != 0,
            consumers,
        }
    }

    /// The objects that are held, by number.
    pub fn held(&self) -> Vec<Held> {
        let now = sched::monotonic_now();
        let tails: Vec<_> = (0..self.shape.lanes()).map(|lane| self.tail(lane)).collect();
        let sealed = self.table().filter(|(_, e)| e.number < tails[e.lane]);
        let all = sealed.map(|(slot, e)| {
            let at = self.shape.slot_at(slot) + layout::S_SEALED_NS;
            let since = Duration::from_nanos(self.head.1.word64(at).load(Ordering::Relaxed));
            let by = (0..self.cursors.len()).filter(|i| self.holds(*i, slot, e.lane, e.number)).collect();
            Held { number: e.serial, len: e.len, age: now.saturating_sub(since), by }
        });
        let mut all: Vec<_> = all.filter(|held: &Held| !held.by.is_empty()).collect();
        all.sort_by_key(|held| held.number);
        all
    }

    /// What the table says, nonsense left out.
    fn table(&self) -> impl Iterator<Item = (usize, super::Entry)> + '_ {
        (0..self.shape.slots()).filter_map(|slot| {
            let entry = entry(&self.edge, &self.shape, &self.head.1, slot).ok().flatten()?;
            Some((slot, entry))
        })
    }

    /// Whether consumer `i` has yet to release an object.
    fn holds(&self, i: usize, slot: usize, lane: usize, number: u64) -> bool {
        let cursor = &self.cursors[i].1;
        self.shape.lane_of(i) == lane && !is_detached(cursor) && !has_released(cursor, slot, number)
    }

    /// How many objects a lane has had; of one that holds nonsense, none.
    fn tail(&self, lane: usize) -> u64 {
        find_tail(&self.edge, &self.shape, &self.head.1, lane).map_or(0, |(tail, _)| tail)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<u32, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of sealed objects that nobody can ask for any more. One that is not announced yet is about to be.
    fn let_go(&self, kept: &mut HashMap<u32, Kept>) {
        let tails: Vec<_> = (0..self.shape.lanes()).map(|lane| self.tail(lane)).collect();
        let announced = tails.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        kept.retain(|&slot, object| match entry(&self.edge, &self.shape, &self.head.1, slot as usize) {
            Ok(Some(e)) if e.serial == object.serial && e.number < tails[e.lane] => {
                (0..self.cursors.len()).any(|i| self.holds(i, slot as usize, e.lane, e.number))
            }
            _ => object.serial >= announced,
        });
    }
}

impl Keeper for Store {
    fn publish(&self, slot: u32, serial: u64, len: u64, object: OwnedFd) -> Result<()> {
        if !self.shape.sealed || slot >= self.shape.slots {
            return Err(poisoned(&self.edge, "a sealed object where there is none"));
        }
        memfd::check_immutable(&object, whole_pages(len)).map_err(Error::io("take an object over"))?;
        let mut kept = self.kept();
        kept.remove(&slot);
        self.let_go(&mut kept);
        let sum = kept.values().fold(whole_pages(len), |sum, k| sum.saturating_add(whole_pages(k.len)));
        // Twice: what a producer that died had published and not announced is not its successor's to count.
        if sum > 2 * self.shape.capacity {
            return Err(poisoned(&self.edge, "more objects than its capacity"));
        }
        kept.insert(slot, Kept { serial, len, fd: object });
        Ok(())
    }

    fn sweep(&self) -> Result<()> {
        self.let_go(&mut self.kept());
        Ok(())
    }

    fn take(&self, slot: u32, serial: u64) -> Result<OwnedFd> {
        match self.kept().get(&slot) {
            Some(kept) if kept.serial == serial => kept.fd.try_clone().map_err(Error::io("hand an object out")),
            _ => Err(poisoned(&self.edge, "an object that nobody has published")),
        }
    }
}

/// What an object of `len` bytes takes when it has its own memory.
pub(super) fn whole_pages(len: u64) -> u64 {
    len.max(1).checked_next_multiple_of(page_size() as u64).unwrap_or(u64::MAX)
}

/// The bytes of the first `messages` objects, all lanes together: written before each is announced, so one of the two
/// pairs is true.
pub(super) fn total_bytes(head: &WriteMap, messages: u64) -> u64 {
    let at = layout::H_TOTALS + (messages % 2) as usize * 16;
    match head.word64(at).load(Ordering::Relaxed) {
        n if n == messages => head.word64(at + 8).load(Ordering::Relaxed),
        _ => 0,
    }
}

/// The flag is what counts; the word is changed so that a producer about to sleep on it does not.
pub(super) fn detach(cursor: &WriteMap) {
    cursor.atomic32(layout::C_DETACHED).store(1, Ordering::SeqCst);
    cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst);
    cursor.atomic64(layout::C_RELEASED).fetch_add(1, Ordering::SeqCst);
    futex::wake_all(cursor.word32(layout::C_RELEASED));
}

fn mark(map: &WriteMap) {
    map.atomic64(layout::H_MAGIC).store(layout::MAGIC, Ordering::Relaxed);
    map.atomic32(layout::H_VERSION).store(layout::VERSION, Ordering::Release);
}
