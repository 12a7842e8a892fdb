//! The reading end of a store: finds what was sealed, in order, beginning with what the last process had not released.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nexusflow_sys::map::{ReadMap, Word32, WriteMap};
use nexusflow_sys::{futex, memfd};

use super::held::Object;
use super::layout::{self, Order};
use super::store::{detach, whole_pages};
use super::{Entry, Keeper, Shape, check_magic, entry, find_tail, has_released, is_detached, order, poisoned};
use crate::error::{Error, Result};
use crate::ring::{MAX_SLEEP, Spinner, Until, WaitMode};

/// One reader of a store.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// The number of the next object in its lane.
    next: u64,
    /// Objects from before it attached.
    pending: VecDeque<(usize, Entry)>,
    waited_ns: u64,
    ended: bool,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Next {
    Object(Object),
    /// Nothing yet.
    Empty,
    /// The end: nothing will follow.
    End,
}

/// What a reader and the objects it gave out share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) edge: String,
    shape: Shape,
    head: ReadMap,
    /// Where objects lie that have no memory of their own.
    pub(super) slab: Option<ReadMap>,
    cursor: WriteMap,
    /// Which consumer this is.
    me: usize,
    keeper: Arc<dyn Keeper>,
}

impl Reader {
    /// Attaches to a store whose descriptors were received: the head, the slab if it has one, this consumer's cursor.
    pub fn from_fds(edge: &str, shape: Shape, fds: Vec<OwnedFd>, keeper: Arc<dyn Keeper>) -> Result<Self> {
        Self::attach(edge, shape, fds, keeper, true)
    }

    pub(super) fn attach(
        edge: &str,
        shape: Shape,
        fds: Vec<OwnedFd>,
        keeper: Arc<dyn Keeper>,
        populate: bool,
    ) -> Result<Self> {
        shape.check(edge)?;
        let (head, slab, cursor) = match &fds[..] {
            [head, cursor] if shape.sealed => (head, None, cursor),
            [head, slab, cursor] if !shape.sealed => (head, Some(slab), cursor),
            _ => return Err(poisoned(edge, "a wrong number of descriptors")),
        };
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        let read = |fd: &OwnedFd, len: usize| {
            memfd::check(fd, len as u64, false)?;
            let map = ReadMap::new(fd, len)?;
            if populate {
                map.populate();
            }
            Ok(map)
        };
        let head = read(head, shape.head_len()).map_err(failed)?;
        shape.check_head(edge, &head)?;
        let slab = slab.map(|fd| read(fd, shape.capacity as usize)).transpose().map_err(failed)?;
        memfd::check(cursor, shape.cursor_len() as u64, true).map_err(failed)?;
        let cursor = WriteMap::new(cursor, shape.cursor_len()).map_err(failed)?;
        check_magic(edge, &cursor)?;
        let me = cursor.word32(layout::C_INDEX).load(Ordering::Relaxed) as usize;
        if me >= shape.consumers as usize {
            return Err(poisoned(edge, "a cursor of nobody"));
        }
        if is_detached(&cursor) {
            return Err(Error::Closed { edge: edge.to_owned() });
        }
        cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst); // of one that died asleep
        let waited_ns = cursor.word64(layout::C_WAITED_NS).load(Ordering::Relaxed);
        let shared = Arc::new(Shared { edge: edge.to_owned(), shape, head, slab, cursor, me, keeper });
        let (next, pending) = shared.unreleased()?;
        Ok(Self { shared, next, pending, waited_ns, ended: false })
    }

    /// What is next, now.
    pub fn try_next(&mut self) -> Result<Next> {
        match self.look()? {
            Order::NotReady => Ok(Next::Empty),
            Order::End => Ok(Next::End),
            Order::Ready { slot } => self.take(slot).map(Next::Object),
        }
    }

    /// The next object, when there is one; `None` at the end.
    pub fn next(&mut self, until: Until<'_>) -> Result<Option<Object>> {
        loop {
            match self.try_next()? {
                Next::Object(object) => return Ok(Some(object)),
                Next::End => return Ok(None),
                Next::Empty => wait_any(std::slice::from_mut(self), until)?,
            }
        }
    }

    /// Takes no part any more. What it had not released is lost to it; others go on.
    pub fn detach(self) {
        detach(&self.shared.cursor);
    }

    /// What is next.
    fn look(&mut self) -> Result<Order> {
        if let Some((slot, _)) = self.pending.front() {
            return Ok(Order::Ready { slot: *slot });
        }
        if self.ended {
            return Ok(Order::End);
        }
        let Shared { edge, shape, head, .. } = &*self.shared;
        let found = order(edge, shape, head, self.shared.lane(), self.next)?;
        self.ended = found == Order::End;
        Ok(found)
    }

    /// The next object, which lies in `slot`.
    fn take(&mut self, slot: usize) -> Result<Object> {
        let found = match self.pending.pop_front() {
            Some((_, found)) => found,
            None => {
                let Shared { edge, shape, head, .. } = &*self.shared;
                let found = entry(edge, shape, head, slot)?;
                let lane = self.shared.lane();
                let found = found.filter(|e| (e.number, e.lane) == (self.next, lane));
                self.next += 1;
                found.ok_or_else(|| poisoned(edge, "another object than announced"))?
            }
        };
        Object::new(&self.shared, slot, found)
    }

    /// The half of the next order word that changes when something is announced there, and what it is until then.
    fn watched(&self) -> (&Word32, u32) {
        let Shared { shape, head, .. } = &*self.shared;
        let at = shape.order_at(self.shared.lane(), self.next);
        (head.word32(at), layout::stale(self.next, shape.slots()))
    }
}

impl Shared {
    fn lane(&self) -> usize {
        self.shape.lane_of(self.me)
    }

    /// What was announced so far, and of that what this consumer has not released, in order.
    fn unreleased(&self) -> Result<(u64, VecDeque<(usize, Entry)>)> {
        let (tail, _) = find_tail(&self.edge, &self.shape, &self.head, self.lane())?;
        let mut all = Vec::new();
        for slot in 0..self.shape.slots() {
            // What a living producer is just writing is not before the tail.
            if let Some(e) = entry(&self.edge, &self.shape, &self.head, slot)?
                && e.lane == self.lane()
                && e.number < tail
                && !has_released(&self.cursor, slot, e.number)
            {
                all.push((slot, e));
            }
        }
        all.sort_by_key(|(_, e)| e.number);
        Ok((tail, all.into()))
    }

    /// An object's own memory.
    pub(super) fn fetch(&self, slot: usize, e: &Entry) -> Result<ReadMap> {
        let object = self.keeper.take(slot as u32, e.serial)?;
        let map = || {
            let len = whole_pages(e.len);
            memfd::check_immutable(&object, len)?;
            let map = ReadMap::new(&object, len as usize)?;
            map.populate();
            Ok(map)
        };
        map().map_err(Error::io("map an object"))
    }

    /// This consumer is done with an object.
    pub(super) fn release(&self, slot: usize, e: &Entry) {
        // Released: what was read was read before the producer may overwrite it.
        self.cursor.atomic64(layout::C_SLOTS + slot * layout::WORD).store(e.number + 1, Ordering::Release);
        self.cursor.atomic64(layout::C_BYTES).fetch_add(e.len, Ordering::Relaxed);
        // Sequentially consistent with the producer's announcement of its sleep and its last look.
        self.cursor.atomic64(layout::C_RELEASED).fetch_add(1, Ordering::SeqCst);
        if self.head.word64(layout::H_SLEEPING).load(Ordering::SeqCst) != 0 {
            futex::wake_all(self.cursor.word32(layout::C_RELEASED));
        }
    }
}

/// Waits until one of these has something new: an object, or the end. Those whose end has been seen before do not
/// count; when that is all of them there is nothing to wait for.
pub fn wait_any(readers: &mut [Reader], until: Until<'_>) -> Result<()> {
    let mut modes = readers.iter().filter(|r| !r.ended).map(|r| r.shared.shape.wait);
    let Some(first) = modes.next() else { return Ok(()) };
    // The producer of a store that spins wakes nobody: one such store, and all are spun on.
    let spins = first == WaitMode::Spin || modes.any(|mode| mode == WaitMode::Spin);
    let mut spinner = Spinner::new(if spins { WaitMode::Spin } else { first });
    let mut wait = || loop {
        if any_ready(readers)? || (!spinner.spin(&until)? && sleep(readers, until)?) {
            return Ok(());
        }
    };
    let result = wait();
    let ns = spinner.elapsed_ns();
    if ns > 0 {
        // Of several stores of one edge the time is counted once.
        let first = &mut readers[0];
        first.waited_ns = first.waited_ns.wrapping_add(ns);
        first.shared.cursor.atomic64(layout::C_WAITED_NS).store(first.waited_ns, Ordering::Relaxed);
    }
    result
}

fn any_ready(readers: &mut [Reader]) -> Result<bool> {
    let mut over = true;
    for reader in readers.iter_mut().filter(|r| !r.ended) {
        if reader.look()? != Order::NotReady {
            return Ok(true);
        }
        over = false;
    }
    Ok(over)
}

/// Announces the sleep to every producer, looks again, sleeps. True: that look found something.
fn sleep(readers: &mut [Reader], until: Until<'_>) -> Result<bool> {
    for reader in &*readers {
        reader.shared.cursor.atomic64(layout::C_SLEEPING).store(reader.next + 1, Ordering::SeqCst);
    }
    let slept = match any_ready(readers) {
        Ok(false) => {
            let words: Vec<_> = readers.iter().filter(|r| !r.ended).map(Reader::watched).collect();
            until.sleep(&words, MAX_SLEEP).map(|()| false)
        }
        other => other,
    };
    for reader in readers {
        reader.shared.cursor.atomic64(layout::C_SLEEPING).store(0, Ordering::SeqCst);
    }
    slept
}
