//! Objects: whole pictures, tables or models, from one process to one or many others, each released on its own.
//!
//! A *store* is what one process writes. It has a head file (who sealed what, in which order) and a cursor file for
//! each consumer (what it has released), as a ring has. The bytes lie in a *slab*, populated once and reused, which
//! consumers cannot write; or each object has a memory file of its own that nobody can write once it is sealed, and
//! which a [`Keeper`] keeps until every consumer has released it.
//!
//! The supervisor makes a [`Store`], the producing process attaches a [`Writer`], each consuming process a [`Reader`].
//! What the producer knows of free memory is its own: it can always be found again from the table of what is sealed and
//! from what consumers have released. So what was not sealed when its creator died is gone, and what was is not.

#[allow(unsafe_code)] // to fill an object in place
mod draft;
pub(crate) mod extents;
#[allow(unsafe_code)] // to look at an object in place
mod held;
mod input;
mod layout;
mod link;
mod output;
mod reader;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use draft::Draft;
pub use held::Object;
pub use input::ObjectInput;
pub use layout::VERSION as LAYOUT_VERSION;
pub(crate) use link::Link;
pub use output::ObjectOutput;
pub use reader::{Next, Reader, wait_any};
pub use store::{Held, ReaderStats, Store, StoreOptions, StoreStats};
pub use writer::Writer;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use nexusflow_sys::map::{Shared, page_size};

use crate::error::{Error, Result};
use crate::ring::{MAX_CAPACITY, MAX_CONSUMERS, WaitMode};
use layout::Order;

/// What a store is, as it is announced to who attaches to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of all objects together; whole pages.
    pub capacity: u64,
    /// How many objects there may be at once.
    pub slots: u32,
    pub consumers: u32,
    pub wait: WaitMode,
    /// Each object in a memory file of its own.
    pub sealed: bool,
    /// Each object to one consumer only.
    pub distribute: bool,
}

/// Keeps the memory files of sealed objects: the supervisor, or a stage's way to it.
pub trait Keeper: Debug + Send + Sync {
    /// Takes over the object that is about to be announced in `slot`.
    fn publish(&self, slot: u32, serial: u64, len: u64, object: OwnedFd) -> Result<()>;
    /// Lets go of what all have released.
    fn sweep(&self) -> Result<()>;
    /// An object that was announced and is not released yet.
    fn take(&self, slot: u32, serial: u64) -> Result<OwnedFd>;
}

impl Shape {
    /// Queues of objects, each in an order of its own: one that everyone reads, or one for each consumer.
    fn lanes(&self) -> usize {
        if self.distribute { self.consumers as usize } else { 1 }
    }

    /// The lane that consumer `i` reads.
    fn lane_of(&self, i: usize) -> usize {
        if self.distribute { i } else { 0 }
    }

    fn slots(&self) -> usize {
        self.slots as usize
    }

    fn head_len(&self) -> usize {
        layout::head_len(self.lanes(), self.slots()).next_multiple_of(page_size())
    }

    fn cursor_len(&self) -> usize {
        layout::cursor_len(self.slots()).next_multiple_of(page_size())
    }

    fn order_at(&self, lane: usize, number: u64) -> usize {
        layout::order(lane, number, self.slots())
    }

    fn slot_at(&self, slot: usize) -> usize {
        layout::slot(slot, self.lanes(), self.slots())
    }

    fn flags(&self) -> u32 {
        let flag = |is, flag| if is { flag } else { 0 };
        flag(self.sealed, layout::FLAG_SEALED) | flag(self.distribute, layout::FLAG_DISTRIBUTE)
    }

    /// What is announced is a store that there can be.
    fn check(&self, edge: &str) -> Result<()> {
        let page = page_size() as u64;
        let consumers = self.consumers as usize;
        if self.capacity == 0 || self.capacity > MAX_CAPACITY || !self.capacity.is_multiple_of(page) {
            return Err(poisoned(edge, "an impossible capacity"));
        }
        if !(1..=MAX_CONSUMERS).contains(&consumers) {
            return Err(poisoned(edge, "an impossible number of consumers"));
        }
        let slots = self.slots();
        if slots != layout::slots(self.capacity, self.lanes(), self.sealed) {
            return Err(poisoned(edge, "an impossible number of slots"));
        }
        Ok(())
    }

    /// The head of a store says what was announced.
    fn check_head(&self, edge: &str, head: &Shared) -> Result<()> {
        check_magic(edge, head)?;
        let half = |offset| head.word32(offset).load(Ordering::Acquire);
        let said = (head.word64(layout::H_CAPACITY).load(Ordering::Acquire), half(layout::H_SLOTS));
        let rest = (half(layout::H_CONSUMERS), half(layout::H_WAIT), half(layout::H_FLAGS));
        if said != (self.capacity, self.slots) || rest != (self.consumers, self.wait as u32, self.flags()) {
            return Err(poisoned(edge, "another store than announced"));
        }
        Ok(())
    }
}

/// What a slot of the table says.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In its lane.
    number: u64,
    lane: usize,
    /// Among those of all lanes.
    serial: u64,
    offset: u64,
    len: u64,
}

/// Reads a slot, each word once; `None` if nothing was ever there. Its offset and length are within the store.
fn entry(edge: &str, shape: &Shape, head: &Shared, slot: usize) -> Result<Option<Entry>> {
    let at = shape.slot_at(slot);
    let word = |offset| head.word64(at + offset).load(Ordering::Relaxed);
    let Some(number) = head.word64(at + layout::S_NUMBER).load(Ordering::Acquire).checked_sub(1) else {
        return Ok(None);
    };
    let (offset, len) = (word(layout::S_OFFSET), word(layout::S_LEN));
    let lane = head.word32(at + layout::S_LANE).load(Ordering::Relaxed) as usize;
    let fits = offset.checked_add(len).is_some_and(|end| end <= shape.capacity);
    if !fits || lane >= shape.lanes() || !offset.is_multiple_of(layout::ALIGN) {
        return Err(poisoned(edge, "an object outside of its store"));
    }
    Ok(Some(Entry { number, lane, serial: word(layout::S_SERIAL), offset, len }))
}

/// How many objects a lane has had so far, and whether its end is there. A hint is kept where the producer was when it
/// last looked; it is behind by one if it died just then.
fn find_tail(edge: &str, shape: &Shape, head: &Shared, lane: usize) -> Result<(u64, bool)> {
    let mut number = head.word64(layout::lane(lane, shape.slots())).load(Ordering::Acquire);
    if number > u64::MAX / 2 {
        return Err(poisoned(edge, "more objects than there can be"));
    }
    for _ in 0..=shape.slots() {
        match order(edge, shape, head, lane, number)? {
            Order::NotReady => return Ok((number, false)),
            Order::End => return Ok((number, true)),
            Order::Ready { .. } => number += 1,
        }
    }
    Err(poisoned(edge, "objects without an end"))
}

/// What there is in the place of object `number`.
fn order(edge: &str, shape: &Shape, head: &Shared, lane: usize, number: u64) -> Result<Order> {
    let word = head.word64(shape.order_at(lane, number)).load(Ordering::SeqCst);
    layout::read(word, number, shape.slots()).map_err(|what| poisoned(edge, what))
}

/// Whether the consumer of this cursor holds nobody back any more.
fn is_detached(cursor: &Shared) -> bool {
    cursor.word32(layout::C_DETACHED).load(Ordering::SeqCst) != 0
}

/// Whether the consumer of this cursor has released object `number` in `slot`. Acquired: what it has read of it, it has
/// read before.
fn has_released(cursor: &Shared, slot: usize, number: u64) -> bool {
    cursor.word64(layout::C_SLOTS + slot * layout::WORD).load(Ordering::Acquire) == number + 1
}

fn check_magic(edge: &str, map: &Shared) -> Result<()> {
    const { assert!(layout::H_MAGIC == layout::C_MAGIC && layout::H_VERSION == layout::C_VERSION) };
    if map.word64(layout::H_MAGIC).load(Ordering::Acquire) != layout::MAGIC {
        return Err(poisoned(edge, "no store of objects at all"));
    }
    if map.word32(layout::H_VERSION).load(Ordering::Acquire) != layout::VERSION {
        return Err(poisoned(edge, "a layout of another version"));
    }
    Ok(())
}

fn poisoned(edge: &str, what: &'static str) -> Error {
    Error::Poisoned { edge: edge.to_owned(), what }
}
