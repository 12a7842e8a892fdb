//! The supervisor's side of a ring: makes it, hands it out, ends it for the dead, counts.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nexusflow_sys::map::{ReadMap, WriteMap, page_size};
use nexusflow_sys::{futex, memfd};

use super::layout::{self, DETACHED, Header};
use super::{Consumer, Geometry, Producer, WaitMode, find_tail};
use crate::error::{Error, Result};

/// What a ring is to be.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions<'a> {
    /// Of the edge: for messages, and in /proc/PID/maps.
    pub name: &'a str,
    /// Bytes; rounded up to whole pages.
    pub capacity: u64,
    /// From 1 to [`MAX_CONSUMERS`](super::MAX_CONSUMERS).
    pub consumers: usize,
    pub wait: WaitMode,
}

/// A ring as the supervisor holds it: every descriptor, and only the words that are counted mapped.
#[derive(Debug)]
pub struct Segment {
    edge: String,
    data: OwnedFd,
    head: WriteMap,
    geometry: Geometry,
    cursors: Vec<(OwnedFd, WriteMap)>,
}

/// What has gone through a ring so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Sent.
    pub messages: u64,
    pub bytes: u64,
    /// How long the producer has waited for room.
    pub blocked: Duration,
    /// It waits right now.
    pub producer_sleeps: bool,
    pub consumers: Vec<ConsumerStats>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerStats {
    /// Read, as of its last release.
    pub messages: u64,
    pub bytes: u64,
    /// How long it has waited for messages.
    pub waited: Duration,
    /// It waits right now.
    pub sleeps: bool,
    pub detached: bool,
    /// Of the ring, held by what it has not released, headers counted.
    pub backlog_bytes: u64,
}

impl Segment {
    /// Makes a ring with all its memory.
    pub fn create(options: &SegmentOptions<'_>) -> Result<Self> {
        let SegmentOptions { name, capacity, consumers, wait } = *options;
        let page = page_size() as u64;
        if capacity > layout::MAX_CAPACITY || consumers == 0 || consumers > layout::MAX_CONSUMERS {
            let what = format!("{capacity} bytes for {consumers} consumers");
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
            return Err(Error::Io { doing: "make a ring", source });
        }
        let capacity = capacity.max(layout::MIN_CAPACITY).next_multiple_of(page);
        let geometry = Geometry { head: page as usize, capacity, wait };
        let failed = |source| Error::Io { doing: "make a ring", source };
        let data = make(&format!("nexusflow:{name}"), page + capacity, |map| {
            map.atomic64(layout::D_CAPACITY).store(capacity, Ordering::Relaxed);
            map.atomic64(layout::D_OFFSET).store(page, Ordering::Relaxed);
            map.atomic32(layout::D_CONSUMERS).store(consumers as u32, Ordering::Relaxed);
            map.atomic32(layout::D_WAIT).store(wait as u32, Ordering::Relaxed);
        })
        .map_err(failed)?;
        let cursors = (0..consumers)
            .map(|i| {
                let fd = make(&format!("nexusflow:{name}.{i}"), page, |map| {
                    map.atomic32(layout::C_INDEX).store(i as u32, Ordering::Relaxed);
                })?;
                let map = WriteMap::new(&fd, page as usize)?;
                Ok((fd, map))
            })
            .collect::<std::io::Result<_>>()
            .map_err(failed)?;
        let head = WriteMap::new(&data, page as usize).map_err(failed)?;
        Ok(Self { edge: name.to_owned(), data, head, geometry, cursors })
    }

    /// Bytes of the ring, as rounded.
    pub fn capacity(&self) -> u64 {
        self.geometry.capacity
    }

    pub fn consumers(&self) -> usize {
        self.cursors.len()
    }

    /// What is sent to the producer: the data to write, then every cursor to read.
    pub fn producer_fds(&self) -> Result<Vec<OwnedFd>> {
        let data = self.data.try_clone();
        let cursors = self.cursors.iter().map(|(fd, _)| memfd::read_only(fd.as_fd()));
        [data].into_iter().chain(cursors).collect::<std::io::Result<_>>().map_err(Error::io("hand a ring out"))
    }

    /// What is sent to consumer `i`: the data to read, then its own cursor to write.
    pub fn consumer_fds(&self, i: usize) -> Result<Vec<OwnedFd>> {
        let data = memfd::read_only(self.data.as_fd());
        [data, self.cursors[i].0.try_clone()]
            .into_iter()
            .collect::<std::io::Result<_>>()
            .map_err(Error::io("hand a ring out"))
    }

    /// The producer, in this process.
    pub fn producer(&self) -> Result<Producer> {
        Producer::attach(&self.edge, self.geometry.capacity, self.producer_fds()?, false)
    }

    /// Consumer `i`, in this process.
    pub fn consumer(&self, i: usize) -> Result<Consumer> {
        Consumer::attach(&self.edge, self.geometry.capacity, self.consumer_fds(i)?, false)
    }

    /// Ends the stream of a producer that is gone for good: consumers read what it had published, then the end.
    /// Harmless when it has ended already. Only while no producer lives. A cursor that holds nonsense is an error, and
    /// does not keep the end from the other consumers.
    pub fn close(&self) -> Result<()> {
        let Geometry { head, capacity, .. } = self.geometry;
        let mut nonsense = Ok(());
        for from in self.ways_to_the_tail() {
            let map = WriteMap::ring(&self.data, head, capacity as usize).map_err(Error::io("map a ring"))?;
            match find_tail(&self.edge, &map, &self.geometry, from) {
                Ok((tail, ended)) => {
                    if !ended {
                        let at = head + self.geometry.offset(tail);
                        map.atomic64(at).store(layout::end(tail), Ordering::SeqCst);
                        futex::wake_all(map.word32(at));
                    }
                    break;
                }
                Err(e) => nonsense = nonsense.and(Err(e)),
            }
        }
        self.head.atomic64(layout::D_SLEEPING).store(0, Ordering::SeqCst); // it sleeps no more
        nonsense
    }

    /// Consumer `i` takes no part any more: it holds nobody back. The producer fails as closed when it was the last.
    pub fn detach(&self, i: usize) {
        detach(&self.cursors[i].1);
    }

    /// Wakes everyone who sleeps on this ring to look again: for when a process has died, perhaps before it woke
    /// whom it should have.
    pub fn wake_all(&self) -> Result<()> {
        for (_, cursor) in &self.cursors {
            futex::wake_all(cursor.word32(layout::C_RELEASED));
        }
        let Geometry { head, capacity, .. } = self.geometry;
        let mut data = None;
        for (_, cursor) in &self.cursors {
            let sleeping = cursor.word64(layout::C_SLEEPING).load(Ordering::SeqCst);
            if sleeping != 0 {
                if data.is_none() {
                    let map = ReadMap::ring(&self.data, head, capacity as usize);
                    data = Some(map.map_err(Error::io("map a ring"))?);
                }
                if let Some(data) = &data {
                    futex::wake_all(data.word32(head + self.geometry.offset(sleeping & !7)));
                }
            }
        }
        Ok(())
    }

    /// Whether consumer `i` has released all there will ever be, or is detached.
    pub fn drained(&self, i: usize) -> Result<bool> {
        let Some(released) = released(&self.cursors[i].1) else { return Ok(true) };
        let at = self.geometry.head + self.geometry.offset(released & !7);
        let word = memfd::read_u64(self.data.as_fd(), at as u64).map_err(Error::io("read a ring"))?;
        Ok(layout::read(word, released, self.geometry.capacity) == Ok(Header::End))
    }

    pub fn stats(&self) -> Stats {
        let head = |offset| self.head.word64(offset).load(Ordering::Relaxed);
        let written = head(layout::D_WRITTEN);
        let consumers = self.cursors.iter().map(|(_, cursor)| {
            let word = |offset| cursor.word64(offset).load(Ordering::Relaxed);
            let released = released(cursor);
            ConsumerStats {
                messages: word(layout::C_MESSAGES),
                bytes: word(layout::C_BYTES),
                waited: Duration::from_nanos(word(layout::C_WAITED_NS)),
                sleeps: word(layout::C_SLEEPING) != 0,
                detached: released.is_none(),
                backlog_bytes: released.map_or(0, |r| written.saturating_sub(r)),
            }
        });
        Stats {
            messages: head(layout::D_MESSAGES),
            bytes: head(layout::D_BYTES),
            blocked: Duration::from_nanos(head(layout::D_BLOCKED_NS)),
            producer_sleeps: head(layout::D_SLEEPING) != 0,
            consumers: consumers.collect(),
        }
    }

    /// Where to look for the tail from, the surest first: the cursors, and what the producer has counted, should none of
    /// them be a position. Nothing if nobody reads any more.
    fn ways_to_the_tail(&self) -> Vec<u64> {
        let mut from: Vec<_> = self.cursors.iter().filter_map(|(_, cursor)| released(cursor)).collect();
        from.sort_unstable();
        from.dedup();
        if !from.is_empty() {
            from.push(self.head.word64(layout::D_WRITTEN).load(Ordering::Relaxed));
        }
        from
    }
}

/// What the consumer of this cursor has released; `None` if it is detached.
fn released(cursor: &WriteMap) -> Option<u64> {
    let detached = cursor.word32(layout::C_DETACHED).load(Ordering::SeqCst) != 0;
    let released = cursor.word64(layout::C_RELEASED).load(Ordering::SeqCst);
    (!detached && released != DETACHED).then_some(released)
}

/// The flag is what counts; the cursor is changed so that a producer about to sleep on it does not.
pub(super) fn detach(cursor: &WriteMap) {
    cursor.atomic32(layout::C_DETACHED).store(1, Ordering::SeqCst);
    cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst);
    cursor.atomic64(layout::C_RELEASED).store(DETACHED, Ordering::SeqCst);
    futex::wake_all(cursor.word32(layout::C_RELEASED));
}

/// A memory file with all its memory, magic, version and what `fill` writes, sealed.
fn make(name: &str, len: u64, fill: impl FnOnce(&WriteMap)) -> std::io::Result<OwnedFd> {
    let fd = memfd::create(name, len)?;
    let map = WriteMap::new(&fd, len as usize)?;
    if map.populate().is_err() {
        memfd::allocate(fd.as_fd(), len)?; // an older kernel; or really no memory, and this says so
    }
    map.atomic64(layout::D_MAGIC).store(layout::MAGIC, Ordering::Relaxed);
    map.atomic32(layout::D_VERSION).store(layout::VERSION, Ordering::Relaxed);
    fill(&map);
    memfd::seal(fd.as_fd())?;
    Ok(fd)
}
