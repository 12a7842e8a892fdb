//! The supervisor's side of a ring: makes it, hands it out, ends it for the dead, counts.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nexusflow_sys::atomic::Ordering;
use nexusflow_sys::map::{ReadMap, WriteMap, page_size};
use nexusflow_sys::{futex, memfd};

use super::counts::{Counter, Counts};
use super::layout::{self, DETACHED, Header};
use super::records::find_tail;
use super::{Consumer, Geometry, Producer, Shape, Tap, WaitMode, poisoned};
use crate::error::{Error, Result};
use crate::memory::{Hugepages, Memory, make};

/// What a ring is to be.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions<'a> {
    /// Of the edge: for messages, and in /proc/PID/maps.
    pub name: &'a str,
    /// Bytes; rounded up to whole pages.
    pub capacity: u64,
    /// Bytes of the longest message. If that is a [large](super::LARGE) one, the capacity is split into a ring and a
    /// slab, and what fits into the slab can be sent; else what fits into the ring.
    pub max_message: u64,
    /// From 1 to [`MAX_CONSUMERS`](super::MAX_CONSUMERS).
    pub consumers: usize,
    pub wait: WaitMode,
    pub memory: Memory,
    pub on_full: OnFull,
}

impl Default for SegmentOptions<'_> {
    /// The shortest ring, for one consumer.
    fn default() -> Self {
        Self {
            name: "",
            capacity: layout::MIN_CAPACITY,
            max_message: 0,
            consumers: 1,
            wait: WaitMode::default(),
            memory: Memory::default(),
            on_full: OnFull::default(),
        }
    }
}

/// What becomes of a message for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It waits.
    #[default]
    Block = 0,
    DropNewest = 1,
    DropOldest = 2,
}

impl OnFull {
    pub fn from_number(n: u32) -> Option<Self> {
        [Self::Block, Self::DropNewest, Self::DropOldest].into_iter().find(|what| *what as u32 == n)
    }
}

/// A ring as the supervisor holds it: every descriptor, and only the words that are counted mapped.
#[derive(Debug)]
pub struct Segment {
    edge: String,
    head: (OwnedFd, WriteMap),
    ring: OwnedFd,
    slab: Option<OwnedFd>,
    geometry: Geometry,
    cursors: Vec<(OwnedFd, WriteMap)>,
}

/// What has gone through a ring so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Sent.
    pub messages: u64,
    pub bytes: u64,
    pub dropped: u64,
    /// The most of ring and slab that was in use at once, as far as the producer has looked: it looks now and then, and
    /// whenever it finds too little room.
    pub high_water_bytes: u64,
    /// How many publications were of 1, 2–3, 4–7 … messages; the last counts all longer ones too.
    pub batches: [u64; layout::BATCHES],
    /// How long the producer has waited for room.
    pub blocked: Duration,
    /// It waits right now.
    pub producer_sleeps: bool,
    pub consumers: Vec<ConsumerStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerStats {
    /// Released.
    pub messages: u64,
    pub bytes: u64,
    /// Missed, since they were dropped.
    pub dropped: u64,
    /// How long it has waited for messages.
    pub waited: Duration,
    /// It waits right now.
    pub sleeps: bool,
    pub detached: bool,
    /// Sent and not released: bytes of messages.
    pub backlog_bytes: u64,
}

impl Segment {
    /// Makes a ring with all its memory.
    pub fn create(options: &SegmentOptions<'_>) -> Result<Self> {
        let SegmentOptions { name, capacity, max_message, consumers, wait, memory, on_full } = *options;
        let failed = |source| Error::Io { doing: "make a ring", source };
        let invalid = |what: String| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
        if capacity.max(max_message) > layout::MAX_CAPACITY || !(1..=layout::MAX_CONSUMERS).contains(&consumers) {
            return Err(invalid(format!("{capacity} bytes for {consumers} consumers")));
        }
        let shape = Shape { on_full, ..Shape::of(capacity, max_message) }.in_pages(memory.hugepages);
        let geometry = Geometry::new(shape, wait);
        let small = Memory { hugepages: Hugepages::None, ..memory };
        let (for_ring, for_slab) = match shape.slab {
            0 => (memory, Memory::default()),
            _ => (small, memory),
        };
        let page = page_size() as u64;
        let head = make(&format!("nexusflow:{name}"), page, small, |map| {
            map.atomic64(layout::H_MAGIC).store(layout::MAGIC, Ordering::Relaxed);
            map.atomic32(layout::H_VERSION).store(layout::VERSION, Ordering::Relaxed);
            map.atomic64(layout::H_RING).store(shape.ring, Ordering::Relaxed);
            map.atomic64(layout::H_SLAB).store(shape.slab, Ordering::Relaxed);
            map.atomic32(layout::H_CONSUMERS).store(consumers as u32, Ordering::Relaxed);
            map.atomic32(layout::H_WAIT).store(wait as u32, Ordering::Relaxed);
            map.atomic32(layout::H_ON_FULL).store(on_full as u32, Ordering::Relaxed);
        })
        .map_err(failed)?;
        let ring = make(&format!("nexusflow:{name}.ring"), shape.ring, for_ring, |_| {}).map_err(failed)?.0;
        let slab = match shape.slab {
            0 => None,
            len => Some(make(&format!("nexusflow:{name}.slab"), len, for_slab, |_| {}).map_err(failed)?.0),
        };
        let cursors = (0..consumers)
            .map(|i| {
                make(&format!("nexusflow:{name}.{i}"), page, small, |map| {
                    map.atomic64(layout::C_MAGIC).store(layout::MAGIC, Ordering::Relaxed);
                    map.atomic32(layout::C_VERSION).store(layout::VERSION, Ordering::Relaxed);
                    map.atomic32(layout::C_INDEX).store(i as u32, Ordering::Relaxed);
                })
            })
            .collect::<std::io::Result<_>>()
            .map_err(failed)?;
        Ok(Self { edge: name.to_owned(), head, ring, slab, geometry, cursors })
    }

    /// What its ends are told beside the descriptors.
    pub fn shape(&self) -> Shape {
        self.geometry.shape()
    }

    /// Bytes of ring and slab, as rounded.
    pub fn capacity(&self) -> u64 {
        self.shape().total()
    }

    pub fn consumers(&self) -> usize {
        self.cursors.len()
    }

    /// What is sent to the producer: head, ring and slab (if there is one) to write, then every cursor to read; to write,
    /// where it may drop the oldest.
    pub fn producer_fds(&self) -> Result<Vec<OwnedFd>> {
        let memory = [Some(&self.head.0), Some(&self.ring), self.slab.as_ref()];
        let memory = memory.into_iter().flatten().map(OwnedFd::try_clone);
        let cursors = self.cursors.iter().map(|(fd, _)| match self.geometry.on_full {
            OnFull::DropOldest => fd.try_clone(),
            _ => memfd::read_only(fd.as_fd()),
        });
        memory.chain(cursors).collect::<std::io::Result<_>>().map_err(Error::io("hand a ring out"))
    }

    /// What is sent to consumer `i`: head, ring and slab (if there is one) to read, then its own cursor to write.
    pub fn consumer_fds(&self, i: usize) -> Result<Vec<OwnedFd>> {
        let memory = [Some(&self.head.0), Some(&self.ring), self.slab.as_ref()];
        let memory = memory.into_iter().flatten().map(|fd| memfd::read_only(fd.as_fd()));
        memory
            .chain([self.cursors[i].0.try_clone()])
            .collect::<std::io::Result<_>>()
            .map_err(Error::io("hand a ring out"))
    }

    /// What is sent to who looks on: head, ring and slab (if there is one), then every cursor, all to read.
    pub fn tap_fds(&self) -> Result<Vec<OwnedFd>> {
        let memory = [Some(&self.head.0), Some(&self.ring), self.slab.as_ref()];
        let all = memory.into_iter().flatten().chain(self.cursors.iter().map(|(fd, _)| fd));
        all.map(|fd| memfd::read_only(fd.as_fd())).collect::<std::io::Result<_>>().map_err(Error::io("hand a ring out"))
    }

    /// Who looks on, in this process.
    pub fn tap(&self) -> Result<Tap> {
        Tap::from_fds(&self.edge, self.shape(), self.tap_fds()?)
    }

    /// The producer, in this process.
    pub fn producer(&self) -> Result<Producer> {
        Producer::attach(&self.edge, self.shape(), self.producer_fds()?, false)
    }

    /// Consumer `i`, in this process.
    pub fn consumer(&self, i: usize) -> Result<Consumer> {
        Consumer::attach(&self.edge, self.shape(), self.consumer_fds(i)?, false)
    }

    /// Ends the stream of a producer that is gone for good: consumers read what it had published, then the end. What it
    /// had not come to count is counted. Harmless when it has ended already. Only while no producer lives.
    pub fn close(&self) -> Result<()> {
        let map = WriteMap::ring(&self.ring, 0, self.geometry.capacity as usize).map_err(Error::io("map a ring"))?;
        let head = &self.head.1;
        let counted = Counts::read(head, layout::H_COUNTS);
        let mut cursors: Vec<_> = self.cursors.iter().filter_map(|(_, cursor)| self.released(cursor)).collect();
        cursors.sort_unstable();
        let tail = find_tail(&map, &self.geometry, counted, &cursors);
        if let Ok(tail) = tail {
            if tail.counts != counted {
                Counter::new(head, layout::H_COUNTS, &counted).write(head, &tail.counts);
            }
            if !tail.ended {
                let at = self.geometry.offset(tail.position);
                map.atomic64(at).store(layout::end(tail.position), Ordering::SeqCst);
                futex::wake_all(map.word32(at));
            }
        }
        head.atomic64(layout::H_SLEEPING).store(0, Ordering::SeqCst); // it sleeps no more
        tail.map(|_| ()).map_err(|what| poisoned(&self.edge, what))
    }

    /// Consumer `i` takes no part any more: it holds nobody back. The producer fails as closed when it was the last.
    pub fn detach(&self, i: usize) {
        detach(&self.cursors[i].1);
    }

    /// Consumer `i` has died: it reads no more, so the oldest may be dropped again.
    pub fn stopped_reading(&self, i: usize) {
        let word = self.cursors[i].1.atomic64(layout::C_RELEASED);
        let was = word.load(Ordering::SeqCst);
        if self.geometry.on_full == OnFull::DropOldest && was != DETACHED && was & layout::READING != 0 {
            // Nobody else changes it while the bit is set, so it succeeds.
            let _ = word.compare_exchange(was, was & !layout::READING, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// What the consumer of this cursor has released; `None` if it is detached.
    fn released(&self, cursor: &WriteMap) -> Option<u64> {
        let detached = cursor.word32(layout::C_DETACHED).load(Ordering::SeqCst) != 0;
        let released = cursor.word64(layout::C_RELEASED).load(Ordering::SeqCst);
        (!detached && released != DETACHED).then_some(self.geometry.released(released))
    }

    /// Lets another go on where consumer `i`, who is detached, has left, up to the end: whether there is anything for it.
    /// Only when nothing more is sent on this ring.
    pub fn hand_on(&self, i: usize) -> Result<bool> {
        let cursor = &self.cursors[i].1;
        if self.released(cursor).is_some() {
            return Ok(false);
        }
        // It may have detached itself, or have been detached.
        let at = match cursor.word64(layout::C_RELEASED).load(Ordering::SeqCst) {
            DETACHED => Counts::read(cursor, layout::C_COUNTS).position,
            at => self.geometry.released(at),
        };
        self.close()?;
        let map = ReadMap::ring(&self.ring, 0, self.geometry.capacity as usize).map_err(Error::io("map a ring"))?;
        let counted = Counts::read(&self.head.1, layout::H_COUNTS);
        let tail = find_tail(&map, &self.geometry, counted, &[at]).map_err(|what| poisoned(&self.edge, what))?;
        if at >= tail.position {
            return Ok(false);
        }
        cursor.atomic64(layout::C_RELEASED).store(at, Ordering::SeqCst);
        cursor.atomic32(layout::C_DETACHED).store(0, Ordering::SeqCst);
        Ok(true)
    }

    /// Wakes everyone who sleeps on this ring to look again: for when a process has died, perhaps before it woke
    /// whom it should have.
    pub fn wake_all(&self) -> Result<()> {
        for (_, cursor) in &self.cursors {
            wake_producer(cursor);
        }
        let mut ring = None;
        for (_, cursor) in &self.cursors {
            let sleeping = cursor.word64(layout::C_SLEEPING).load(Ordering::SeqCst);
            if sleeping != 0 {
                if ring.is_none() {
                    let map = ReadMap::ring(&self.ring, 0, self.geometry.capacity as usize);
                    ring = Some(map.map_err(Error::io("map a ring"))?);
                }
                if let Some(ring) = &ring {
                    futex::wake_all(ring.word32(self.geometry.offset(sleeping & !7)));
                }
            }
        }
        Ok(())
    }

    /// Whether consumer `i` has released all there will ever be, or is detached.
    pub fn drained(&self, i: usize) -> Result<bool> {
        let Some(released) = self.released(&self.cursors[i].1) else { return Ok(true) };
        let at = self.geometry.offset(released & !7);
        let word = memfd::read_u64(self.ring.as_fd(), at as u64).map_err(Error::io("read a ring"))?;
        Ok(layout::read(word, released, self.geometry.capacity) == Ok(Header::End))
    }

    pub fn stats(&self) -> Stats {
        let head = |offset| self.head.1.word64(offset).load(Ordering::Relaxed);
        let sent = Counts::read(&self.head.1, layout::H_COUNTS);
        let consumers = self.cursors.iter().map(|(_, cursor)| {
            let released = self.released(cursor);
            let exact = released.and_then(|at| Counts::read_up_to(cursor, layout::C_COUNTS, at));
            let read = exact.unwrap_or_else(|| Counts::read(cursor, layout::C_COUNTS));
            ConsumerStats {
                messages: read.messages,
                bytes: read.bytes,
                dropped: read.dropped,
                waited: Duration::from_nanos(cursor.word64(layout::C_WAITED_NS).load(Ordering::Relaxed)),
                sleeps: cursor.word64(layout::C_SLEEPING).load(Ordering::Relaxed) != 0,
                detached: released.is_none(),
                backlog_bytes: released.map_or(0, |_| sent.bytes.saturating_sub(read.bytes)),
            }
        });
        Stats {
            messages: sent.messages,
            bytes: sent.bytes,
            dropped: sent.dropped,
            high_water_bytes: head(layout::H_HIGH_WATER),
            batches: std::array::from_fn(|i| head(layout::H_BATCHES + 8 * i)),
            blocked: Duration::from_nanos(head(layout::H_BLOCKED_NS)),
            producer_sleeps: head(layout::H_SLEEPING) != 0,
            consumers: consumers.collect(),
        }
    }
}

/// The flag is what counts.
pub(super) fn detach(cursor: &WriteMap) {
    cursor.atomic32(layout::C_DETACHED).store(1, Ordering::SeqCst);
    cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst);
    cursor.atomic64(layout::C_RELEASED).store(DETACHED, Ordering::SeqCst);
    wake_producer(cursor);
}

/// Wakes a producer that sleeps on this cursor, or is about to.
pub(super) fn wake_producer(cursor: &WriteMap) {
    cursor.atomic32(layout::C_WAKES).fetch_add(1, Ordering::SeqCst);
    futex::wake_all(cursor.word32(layout::C_WAKES));
}
