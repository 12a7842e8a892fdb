//! The writing end of a store: finds room, announces what is sealed, takes back what all have released.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nexusflow_sys::atomic::{AtomicU32, Ordering};
use nexusflow_sys::map::{ReadMap, Word32, WriteMap};
use nexusflow_sys::{futex, memfd, sched};

use super::draft::{Draft, Place};
use super::extents::Extents;
use super::layout::{self, ALIGN};
use super::store::{total_bytes, whole_pages};
use super::{Keeper, Shape, check_magic, entry, find_tail, has_released, is_detached, poisoned};
use crate::error::{Error, Result};
use crate::protocol::By;
use crate::ring::{MAX_SLEEP, Spinner, Until, WaitMode};

/// The one writer of a store.
///
/// It can be used by several threads, and several objects can be filled at the same time.
#[derive(Debug, Clone)]
pub struct Writer(pub(super) Arc<Shared>);

/// What a writer and its unsealed objects share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) edge: String,
    pub(super) shape: Shape,
    head: WriteMap,
    /// Where objects lie that have no memory of their own.
    pub(super) slab: Option<WriteMap>,
    cursors: Vec<ReadMap>,
    keeper: Arc<dyn Keeper>,
    /// Changes when something was given back without a consumer: for our own threads that wait for room.
    given: AtomicU32,
    state: Mutex<State>,
}

/// What only the writer knows. All of it can be found again.
#[derive(Debug)]
struct State {
    extents: Extents,
    free_slots: Vec<usize>,
    /// Sealed, and not known to be released by all.
    live: Vec<Live>,
    /// Bytes of objects with memory of their own, unsealed ones counted.
    used: u64,
    /// Of these, released by all, but perhaps not let go by the keeper.
    unswept: u64,
    /// The number of each lane's next object.
    next: Vec<u64>,
    /// Whose turn it is.
    turn: usize,
    by: By,
    /// Of all lanes.
    messages: u64,
    bytes: u64,
    blocked_ns: u64,
    /// Of each cursor, how far it was when last looked at.
    seen: Vec<u64>,
    ended: bool,
}

#[derive(Debug)]
struct Live {
    slot: usize,
    number: u64,
    lane: usize,
    offset: u64,
    /// As it was taken.
    room: u64,
}

impl Writer {
    /// Attaches to a store whose descriptors were received: the head, the slab if it has one, every consumer's cursor.
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
        let own = if shape.sealed { 1 } else { 2 };
        if fds.len() != own + shape.consumers as usize {
            return Err(poisoned(edge, "a wrong number of descriptors"));
        }
        let failed = |source| Error::Io { doing: "attach to an edge", source };
        let write = |fd: &OwnedFd, len: usize| {
            memfd::check(fd, len as u64, true)?;
            let map = WriteMap::new(fd, len)?;
            if populate {
                let _ = map.populate(); // the memory is there already: this saves page faults
            }
            Ok(map)
        };
        let head = write(&fds[0], shape.head_len()).map_err(failed)?;
        shape.check_head(edge, &head)?;
        let slab = match shape.sealed {
            true => None,
            false => Some(write(&fds[1], shape.capacity as usize).map_err(failed)?),
        };
        let cursors = fds[own..].iter().map(|fd| {
            memfd::check(fd, shape.cursor_len() as u64, false).map_err(failed)?;
            let map = ReadMap::new(fd, shape.cursor_len()).map_err(failed)?;
            check_magic(edge, &map)?;
            Ok(map)
        });
        let cursors = cursors.collect::<Result<Vec<_>>>()?;
        head.atomic64(layout::H_SLEEPING).store(0, Ordering::SeqCst); // of one that died asleep
        let state = Mutex::new(State::recover(edge, &shape, &head, &cursors)?);
        let edge = edge.to_owned();
        Ok(Self(Arc::new(Shared { edge, shape, head, slab, cursors, keeper, given: AtomicU32::new(0), state })))
    }

    /// How the consumer of each object is chosen, if only one gets it. There are no keys here.
    pub fn choose_by(&self, by: By) -> Result<()> {
        if by == By::Key {
            return Err(Error::Protocol(format!("announced keys for the objects of edge `{}`", self.0.edge)));
        }
        self.0.lock().by = by;
        Ok(())
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.cursors.iter().all(|c| is_detached(c))
    }

    /// How many objects were sealed so far, whoever sealed them.
    pub fn committed(&self) -> u64 {
        self.0.lock().messages
    }

    /// Bytes of the longest object: all there is.
    pub fn max_object(&self) -> u64 {
        self.0.shape.capacity
    }

    /// Room for an object of `len` bytes, when there is.
    pub fn create(&self, len: usize, until: Until<'_>) -> Result<Draft> {
        let len64 = self.0.fits(len)?;
        let (slot, place) = self.0.wait_for(until, |state| self.0.begin(state, len64))?;
        Draft::new(self.0.clone(), slot, place?, len)
    }

    /// Room for an object of `len` bytes, if there is now.
    pub fn try_create(&self, len: usize) -> Result<Option<Draft>> {
        let len64 = self.0.fits(len)?;
        let Some((slot, place)) = self.0.attempt(true, |state| self.0.begin(state, len64))? else { return Ok(None) };
        Draft::new(self.0.clone(), slot, place?, len).map(Some)
    }

    /// Ends the stream: consumers read what was sealed, then the end. Nothing can follow.
    pub fn finish(&self) {
        let mut state = self.0.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        for (lane, &number) in state.next.iter().enumerate() {
            self.0.announce(lane, number, layout::end(number));
        }
    }
}

impl State {
    /// Finds out what there is: what was announced and is not released by all; everything else is free.
    fn recover(edge: &str, shape: &Shape, head: &WriteMap, cursors: &[ReadMap]) -> Result<Self> {
        let tails = (0..shape.lanes()).map(|lane| find_tail(edge, shape, head, lane)).collect::<Result<Vec<_>>>()?;
        let next: Vec<u64> = tails.iter().map(|(tail, _)| *tail).collect();
        let messages = next.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        let mut state = Self {
            extents: Extents::new(if shape.sealed { 0 } else { shape.capacity }),
            free_slots: Vec::with_capacity(shape.slots()),
            live: Vec::new(),
            used: 0,
            unswept: 0,
            turn: (messages % shape.lanes() as u64) as usize,
            by: By::RoundRobin,
            messages,
            bytes: total_bytes(head, messages),
            blocked_ns: head.word64(layout::H_BLOCKED_NS).load(Ordering::Relaxed),
            seen: vec![u64::MAX; cursors.len()],
            // Of some lanes only: a producer that died while it ended them. The rest is the supervisor's to end.
            ended: tails.iter().any(|(_, ended)| *ended),
            next,
        };
        for slot in (0..shape.slots()).rev() {
            match entry(edge, shape, head, slot)? {
                Some(e) if e.number < state.next[e.lane] && !all_released(shape, cursors, slot, e.lane, e.number) => {
                    let room = if shape.sealed { whole_pages(e.len) } else { e.len.next_multiple_of(ALIGN) };
                    if !shape.sealed && room > 0 && !state.extents.take_at(e.offset, room) {
                        return Err(poisoned(edge, "two objects in one place"));
                    }
                    if shape.sealed {
                        state.used = state.used.saturating_add(room);
                    }
                    state.live.push(Live { slot, number: e.number, lane: e.lane, offset: e.offset, room });
                }
                _ => state.free_slots.push(slot),
            }
        }
        Ok(state)
    }
}

/// Whether every consumer that was to have it has released an object, or is gone.
fn all_released(shape: &Shape, cursors: &[ReadMap], slot: usize, lane: usize, number: u64) -> bool {
    let meant = |i: &usize| shape.lane_of(*i) == lane;
    (0..cursors.len()).filter(meant).all(|i| has_released(&cursors[i], slot, number) || is_detached(&cursors[i]))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object of this length can be.
    pub(super) fn fits(&self, len: usize) -> Result<u64> {
        let max = self.shape.capacity;
        match u64::try_from(len) {
            Ok(len) if len <= max => Ok(len),
            _ => Err(Error::TooLong { edge: self.edge.clone(), len, max: usize::try_from(max).unwrap_or(usize::MAX) }),
        }
    }

    /// A slot and memory for a new object.
    fn begin(&self, state: &mut State, len: u64) -> Option<(usize, Result<Place>)> {
        let slot = *state.free_slots.last()?;
        let place = self.room(state, len)?;
        if place.is_ok() {
            state.free_slots.pop();
        }
        Some((slot, place))
    }

    /// Memory of at least `len` bytes.
    fn room(&self, state: &mut State, len: u64) -> Option<Result<Place>> {
        if self.shape.sealed {
            return Some(self.account(state, 0, whole_pages(len))?.map(|room| Place { offset: 0, room }));
        }
        let room = len.next_multiple_of(ALIGN);
        let offset = if room == 0 { 0 } else { state.extents.take(room)? };
        Some(Ok(Place { offset, room }))
    }

    /// Memory of at least `len` bytes for what lies at `place`, when there is: there, if it can be; else somewhere else.
    pub(super) fn grow(&self, place: Place, len: u64, until: Until<'_>) -> Result<Place> {
        self.wait_for(until, |state| self.more_room(state, place, len))?
    }

    fn more_room(&self, state: &mut State, place: Place, len: u64) -> Option<Result<Place>> {
        if self.shape.sealed {
            return Some(self.account(state, place.room, whole_pages(len))?.map(|room| Place { offset: 0, room }));
        }
        let room = len.next_multiple_of(ALIGN);
        if place.room > 0 && state.extents.take_at(place.offset + place.room, room - place.room) {
            return Some(Ok(Place { offset: place.offset, room }));
        }
        self.room(state, len)
    }

    /// `new` bytes of an object's own memory instead of `old`.
    fn account(&self, state: &mut State, old: u64, new: u64) -> Option<Result<u64>> {
        let used = state.used - old + new;
        if used > self.shape.capacity {
            return None;
        }
        // What all have released may still be held by who keeps it: the capacity is for that too.
        if used + state.unswept > self.shape.capacity {
            if let Err(e) = self.keeper.sweep() {
                return Some(Err(e));
            }
            state.unswept = 0;
        }
        state.used = used;
        Some(Ok(new))
    }

    /// Gives back what is behind the first `len` bytes.
    fn shrink(&self, state: &mut State, place: &mut Place, len: u64) {
        if self.shape.sealed {
            let room = whole_pages(len);
            state.used -= place.room - room;
            place.room = room;
        } else {
            let room = len.next_multiple_of(ALIGN);
            state.extents.give(place.offset + room, place.room - room);
            place.room = room;
        }
    }

    /// Takes back an object that was never sealed, or its place only.
    pub(super) fn give_back(&self, slot: Option<usize>, place: &Place) {
        let mut state = self.lock();
        state.free_slots.extend(slot);
        if self.shape.sealed {
            state.used -= place.room;
        } else {
            state.extents.give(place.offset, place.room);
        }
        drop(state);
        self.given.fetch_add(1, Ordering::SeqCst);
        futex::wake_all_own(&self.given);
    }

    /// Announces an object: its number. From here on it is its consumers'.
    pub(super) fn publish(&self, slot: usize, mut place: Place, len: u64, own: Option<OwnedFd>) -> Result<u64> {
        let mut state = self.lock();
        if state.ended {
            return Err(Error::Finished { edge: self.edge.clone() });
        }
        let lane = self.choose(&mut state);
        let (number, serial) = (state.next[lane], state.messages);
        if let Some(object) = own {
            self.keeper.publish(slot as u32, serial, len, object)?;
        }
        self.shrink(&mut state, &mut place, len);
        let at = self.shape.slot_at(slot);
        let now = u64::try_from(sched::monotonic_now().as_nanos()).unwrap_or(u64::MAX);
        self.head.atomic64(at + layout::S_OFFSET).store(place.offset, Ordering::Relaxed);
        self.head.atomic64(at + layout::S_LEN).store(len, Ordering::Relaxed);
        self.head.atomic32(at + layout::S_LANE).store(lane as u32, Ordering::Relaxed);
        self.head.atomic64(at + layout::S_SERIAL).store(serial, Ordering::Relaxed);
        self.head.atomic64(at + layout::S_SEALED_NS).store(now, Ordering::Relaxed);
        self.head.atomic64(at + layout::S_NUMBER).store(number + 1, Ordering::Release);
        // They began at what the last producer left there, which may be anything.
        state.messages = state.messages.wrapping_add(1);
        state.bytes = state.bytes.wrapping_add(len);
        let totals = layout::H_TOTALS + (state.messages % 2) as usize * 16;
        self.head.atomic64(totals).store(state.messages, Ordering::Relaxed);
        self.head.atomic64(totals + 8).store(state.bytes, Ordering::Relaxed);
        self.announce(lane, number, layout::ready(number, slot));
        state.next[lane] = number + 1;
        self.head.atomic64(layout::lane(lane, self.shape.slots())).store(number + 1, Ordering::Release);
        state.live.push(Live { slot, number, lane, offset: place.offset, room: place.room });
        Ok(serial)
    }

    /// The lane of the next object: each in turn, or the one with the least to do; those passed over whose consumer has
    /// gone.
    fn choose(&self, state: &mut State) -> usize {
        let lanes = self.shape.lanes();
        let turn = state.turn;
        let mut there = (0..lanes).map(|i| (turn + i) % lanes).filter(|lane| !self.gone(*lane));
        let chosen = match state.by {
            By::RoundRobin | By::Key => there.next(),
            By::LeastBacklog => there.min_by_key(|lane| {
                let held = state.live.iter().filter(|object| object.lane == *lane);
                held.fold((0, 0), |(bytes, count), object| (bytes + object.room, count + 1))
            }),
        };
        let lane = chosen.unwrap_or(0); // where there is nobody, it does not matter
        state.turn = (lane + 1) % lanes;
        lane
    }

    /// Whether nobody reads this lane any more.
    fn gone(&self, lane: usize) -> bool {
        self.shape.distribute && is_detached(&self.cursors[lane])
    }

    /// Writes the order word that consumers wait for, and wakes who sleeps on it.
    fn announce(&self, lane: usize, number: u64, word: u64) {
        let at = self.shape.order_at(lane, number);
        // Sequentially consistent with the loads of C_SLEEPING below and, in the consumer, with its store there and its
        // last look here: one of the two sees the other.
        self.head.atomic64(at).store(word, Ordering::SeqCst);
        if self.shape.wait == WaitMode::Spin {
            return;
        }
        let sleeps = |c: &ReadMap| c.word64(layout::C_SLEEPING).load(Ordering::SeqCst) == number + 1;
        if self.cursors.iter().enumerate().any(|(i, c)| self.shape.lane_of(i) == lane && sleeps(c)) {
            futex::wake_all(self.head.word32(at));
        }
    }

    /// Takes back what all have released. It looks only if somebody has released something, or when `surely`.
    fn sweep(&self, state: &mut State, surely: bool) {
        let mut moved = surely;
        for (cursor, seen) in self.cursors.iter().zip(&mut state.seen) {
            let now = cursor.word64(layout::C_RELEASED).load(Ordering::SeqCst);
            moved |= std::mem::replace(seen, now) != now;
        }
        if !moved {
            return;
        }
        let State { extents, free_slots, live, used, unswept, .. } = state;
        live.retain(|object| {
            let released = all_released(&self.shape, &self.cursors, object.slot, object.lane, object.number);
            if released {
                free_slots.push(object.slot);
                if self.shape.sealed {
                    *used -= object.room;
                    *unswept += object.room;
                } else {
                    extents.give(object.offset, object.room);
                }
            }
            !released
        });
    }

    /// Takes what there is, after a look at what was released.
    fn attempt<T>(&self, surely: bool, mut take: impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>> {
        let mut state = self.lock();
        if state.ended {
            return Err(Error::Finished { edge: self.edge.clone() });
        }
        if self.cursors.iter().all(|c| is_detached(c)) {
            return Err(Error::Closed { edge: self.edge.clone() });
        }
        self.sweep(&mut state, surely);
        Ok(take(&mut state))
    }

    /// Waits until there is what `take` wants.
    fn wait_for<T>(&self, until: Until<'_>, mut take: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        let mut spinner = Spinner::new(self.shape.wait);
        let mut search = || loop {
            if let Some(found) = self.attempt(false, &mut take)? {
                return Ok(found);
            }
            if spinner.spin(&until)? {
                continue;
            }
            if let Some(found) = self.sleep(until, &mut take)? {
                return Ok(found);
            }
        };
        let found = search();
        let ns = spinner.elapsed_ns();
        if ns > 0 {
            let mut state = self.lock();
            state.blocked_ns = state.blocked_ns.wrapping_add(ns);
            self.head.atomic64(layout::H_BLOCKED_NS).store(state.blocked_ns, Ordering::Relaxed);
        }
        found
    }

    /// Announces the sleep, looks again, sleeps. What that look found.
    fn sleep<T>(&self, until: Until<'_>, take: &mut impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>> {
        self.head.atomic64(layout::H_SLEEPING).fetch_add(1, Ordering::SeqCst);
        let mut look_and_sleep = || {
            let given = self.given.load(Ordering::SeqCst);
            let released = |c: &ReadMap| c.word64(layout::C_RELEASED).load(Ordering::SeqCst) as u32;
            let counts: Vec<u32> = self.cursors.iter().map(released).collect();
            // One who died between release and count is not seen by its count.
            if let Some(found) = self.attempt(true, &mut *take)? {
                return Ok(Some(found));
            }
            let words = self.cursors.iter().zip(counts).map(|(c, n)| (c.word32(layout::C_RELEASED), n));
            let words: Vec<_> = [(Word32::of(&self.given), given)].into_iter().chain(words).collect();
            until.sleep(&words, MAX_SLEEP)?;
            Ok(None)
        };
        let result = look_and_sleep();
        self.head.atomic64(layout::H_SLEEPING).fetch_sub(1, Ordering::SeqCst);
        result
    }
}
