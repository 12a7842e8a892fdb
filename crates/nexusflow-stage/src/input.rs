//! An edge to read: the rings of all its producers as one stream.

#[cfg(not(loom))]
use std::collections::hash_map::Entry;
#[cfg(not(loom))]
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::journal::Mark;
use crate::keep::{Keeper, Kept};
use crate::late::Late;
#[cfg(not(loom))]
use crate::poll::{Poller, Watch};
use crate::ring::{self, Bytes, Consumer, Next, OnFull, Until, wait_any};

/// How often who holds what it has read looks whether its producer waits for just that: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LATER_LOOKS: Duration = Duration::from_secs(1);
/// How often an event loop looks whether the runner has said what others have left unread.
#[cfg(not(loom))]
const LATE_LOOK: Duration = Duration::from_millis(100);

/// An edge that this stage reads.
///
/// The messages of each producer come in the order they were sent; between producers the turn goes round.
///
/// A message is *released* when the next one is asked for: until then it stays in the edge, so that a restarted
/// stage is given again what it had not finished with. In a [`Transfer`](crate::Transfer) it is released when that is
/// committed.
#[derive(Debug)]
pub struct Input {
    edge: String,
    /// Of the producers that have not ended.
    rings: Vec<Consumer>,
    /// Whose turn it is.
    turn: usize,
    held: Held,
    pub(crate) keeper: Keeper,
    /// Nothing is released but by [`Self::commit`], and rings that have ended stay.
    transfers: bool,
    /// In a transfer: which edge of the stage it is.
    number: u32,
    #[cfg(not(loom))]
    poller: Option<Poller>,
    /// Of rings that are not here yet: how far an earlier process has read them.
    pending: Vec<Mark>,
    /// Messages missed in rings that have ended.
    gone: u64,
    /// And right before the message that came last.
    missed: u64,
    /// Where to ask for what others have left unread.
    late: Option<Late>,
}

/// What was given out last, and is not released yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    /// A message of this ring.
    One(usize),
    /// Messages of any.
    Batch,
}

/// Messages that came in one go: see [`Input::recv_batch`].
#[derive(Debug)]
pub struct Incoming<'a> {
    current: ring::Batch<'a>,
    /// The rings that follow, and the number of the next.
    next: std::iter::Chain<std::slice::IterMut<'a, Consumer>, std::slice::IterMut<'a, Consumer>>,
    turn: &'a mut usize,
    left: usize,
}

/// What a look at all rings has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A message, in the ring whose turn it is.
    Message,
    Nothing,
    /// All have ended.
    End,
}

impl Input {
    pub(crate) fn new(edge: &str, rings: Vec<Consumer>) -> Self {
        let keeper = Keeper::new(rings.len());
        Self {
            edge: edge.to_owned(),
            rings,
            turn: 0,
            held: Held::Nothing,
            keeper,
            transfers: false,
            number: 0,
            #[cfg(not(loom))]
            poller: None,
            pending: Vec::new(),
            gone: 0,
            missed: 0,
            late: None,
        }
    }

    pub(crate) fn with_late(self, late: Option<Late>) -> Self {
        Self { late, ..self }
    }

    /// The edge's name.
    pub fn name(&self) -> &str {
        &self.edge
    }

    /// The next message, when there is one; `None` when all producers have ended.
    pub fn recv(&mut self) -> Result<Option<Bytes<'_>>> {
        self.recv_until(Until::forever())
    }

    /// The next message, if one comes in time; else [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Bytes<'_>>> {
        self.recv_until(Until::timeout(timeout))
    }

    /// The next message, if there is one now; else [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn try_recv(&mut self) -> Result<Option<Bytes<'_>>> {
        Ok(if self.look(None)? { self.take() } else { None })
    }

    /// The next message, when there is one before the wait is over.
    pub fn recv_until(&mut self, until: Until<'_>) -> Result<Option<Bytes<'_>>> {
        Ok(if self.look(Some(until))? { self.take() } else { None })
    }

    /// What [`recv`](Self::recv) would give, which stays the next. What came before it is released.
    pub fn peek(&mut self) -> Result<Option<Bytes<'_>>> {
        self.peek_until(Until::forever())
    }

    /// What [`try_recv`](Self::try_recv) would give, which stays the next.
    pub fn try_peek(&mut self) -> Result<Option<Bytes<'_>>> {
        if self.look(None)? { self.seen() } else { Ok(None) }
    }

    /// What [`recv_until`](Self::recv_until) would give, which stays the next.
    pub fn peek_until(&mut self, until: Until<'_>) -> Result<Option<Bytes<'_>>> {
        if self.look(Some(until))? { self.seen() } else { Ok(None) }
    }

    /// The next messages, one at least and `max` at most, when there is one; `None` when all producers have ended.
    ///
    /// It waits for no more than the first, and costs less than asking for each. Producers are served in turn: between
    /// two turns of one, every other gives `max` messages at most. All are released when the next is asked for.
    pub fn recv_batch(&mut self, max: usize) -> Result<Option<Incoming<'_>>> {
        self.recv_batch_until(max, Until::forever())
    }

    /// The next messages, if there are any now; else [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn try_recv_batch(&mut self, max: usize) -> Result<Option<Incoming<'_>>> {
        Ok(if self.look(None)? { Some(self.take_batch(max)) } else { None })
    }

    /// The next messages, when there is one before the wait is over.
    pub fn recv_batch_until(&mut self, max: usize, until: Until<'_>) -> Result<Option<Incoming<'_>>> {
        Ok(if self.look(Some(until))? { Some(self.take_batch(max)) } else { None })
    }

    /// Releases what was given out, then looks for a message until there is one; once, if there is nothing to wait for.
    /// False: all producers have ended.
    #[inline]
    fn look(&mut self, until: Option<Until<'_>>) -> Result<bool> {
        self.give_back();
        loop {
            match (self.find()?, until) {
                (Found::Message, _) => return Ok(true),
                (Found::End, until) => match self.more(until) {
                    Ok(true) => {}
                    #[cfg(not(loom))]
                    Err(Error::TimedOut) if until.is_none() => {
                        if let Some(poller) = &self.poller {
                            poller.clear().map_err(Error::io("watch an edge for an event loop"))?;
                            poller.arm_after(LATE_LOOK); // the runner's answer wakes nobody
                        }
                        return Err(Error::TimedOut);
                    }
                    other => return other,
                },
                (Found::Nothing, Some(until)) => self.wait(until)?,
                (Found::Nothing, None) => {
                    self.rings.iter_mut().for_each(Consumer::settle); // who only polls never sleeps, which would do it
                    #[cfg(not(loom))]
                    if self.poller.is_some() && self.arm()? {
                        continue;
                    }
                    return Err(Error::TimedOut);
                }
            }
        }
    }

    /// A descriptor for an event loop (poll, epoll, asyncio). It is readable at first, and from the moment something has
    /// come, a message or the end, until [`try_recv`](Self::try_recv) or another that does not wait gives
    /// [`Error::TimedOut`]. So: when it is readable, ask until you are told so, then wait for it again; level- or
    /// edge-triggered. Do not read it.
    ///
    /// A thread that sleeps in the loop's place comes with it. An edge with `wait: spin` wakes nobody, and has none.
    #[cfg(not(loom))]
    pub fn poll_fd(&mut self) -> Result<std::os::fd::BorrowedFd<'_>> {
        let failed = Error::io("make a descriptor for an event loop");
        if self.rings.iter().any(Consumer::spins) {
            return Err(failed(std::io::Error::other(format!("edge `{}` has `wait: spin`", self.edge))));
        }
        let poller = match self.poller.take() {
            Some(poller) => poller,
            None => Poller::new().map_err(failed)?,
        };
        Ok(self.poller.insert(poller).fd())
    }

    /// Nothing was found: has the descriptor become readable when something comes. True: it has just come.
    #[cfg(not(loom))]
    fn arm(&mut self) -> Result<bool> {
        let Some(mut poller) = self.poller.take() else { return Ok(false) };
        let armed = self.arm_with(&mut poller);
        self.poller = Some(poller);
        armed
    }

    #[cfg(not(loom))]
    fn arm_with(&mut self, poller: &mut Poller) -> Result<bool> {
        let failed = |source| Error::Io { doing: "watch an edge for an event loop", source };
        poller.clear().map_err(failed)?;
        let mut watched = Vec::with_capacity(self.rings.len());
        for (i, ring) in self.rings.iter_mut().enumerate() {
            let Some((at, expected)) = ring.ask_to_be_woken() else { continue };
            let map = match poller.maps.entry(self.keeper.name(i)) {
                Entry::Occupied(made) => Arc::clone(made.get()),
                Entry::Vacant(none) => Arc::clone(none.insert(Arc::new(ring.ring_again().map_err(failed)?))),
            };
            watched.push(Watch { map, at, expected });
        }
        if self.find()? != Found::Nothing {
            return Ok(true);
        }
        poller.arm(watched);
        Ok(false)
    }

    /// Goes round once, to a ring that has a message. Rings that have ended leave.
    #[inline]
    fn find(&mut self) -> Result<Found> {
        let mut ended = 0;
        for _ in 0..self.rings.len() {
            if self.turn >= self.rings.len() {
                self.turn = 0;
            }
            match self.rings[self.turn].try_peek()? {
                Next::Message(_) => return Ok(Found::Message),
                Next::Empty => self.turn += 1,
                Next::End if self.transfers => {
                    ended += 1;
                    self.turn += 1;
                }
                Next::End => {
                    let ended = self.rings.remove(self.turn);
                    self.gone += ended.dropped();
                    self.keeper.ended(self.turn, ended);
                }
            }
        }
        Ok(if ended == self.rings.len() { Found::End } else { Found::Nothing })
    }

    /// All rings have ended: is there another, with what someone else has left unread?
    #[cold]
    fn more(&mut self, until: Option<Until<'_>>) -> Result<bool> {
        let Some(late) = &mut self.late else { return Ok(false) };
        self.rings.iter_mut().for_each(Consumer::settle);
        let Some((number, mut ring)) = late.next(until)? else {
            self.late = None;
            return Ok(false);
        };
        if let Some(at) = self.pending.iter().position(|mark| mark.ring == number) {
            ring.go_to(self.pending.swap_remove(at).position)?;
        }
        self.rings.push(ring);
        self.keeper.joined(number);
        Ok(true)
    }

    #[cold]
    fn wait(&mut self, until: Until<'_>) -> Result<()> {
        if !self.transfers {
            return wait_any(&mut self.rings, until);
        }
        // What is held until the transfer is committed may be the very room that the producer waits for.
        let (mut patience, mut starved) = (FIRST_LOOK, false);
        loop {
            match wait_any(&mut self.rings, until.at_most(patience)) {
                Err(Error::TimedOut) => until.check()?,
                other => return other,
            }
            // Seen twice: a producer that has just begun to wait asks for more than it needs.
            if let Some(held) = self.rings.iter().find_map(Consumer::starves) {
                if starved {
                    return Err(Error::Uncommitted { edge: self.edge.clone(), held });
                }
                starved = true;
            } else {
                (patience, starved) = ((patience * 2).min(LATER_LOOKS), false);
            }
        }
    }

    /// The message that was found.
    #[inline]
    fn take(&mut self) -> Option<Bytes<'_>> {
        let turn = self.turn;
        self.turn += 1;
        self.held = Held::One(turn);
        self.keeper.taken(self.rings[turn].position());
        let (message, missed) = self.rings[turn].take_counted();
        self.missed = missed;
        message
    }

    fn seen(&mut self) -> Result<Option<Bytes<'_>>> {
        match self.rings[self.turn].try_peek()? {
            Next::Message(message) => Ok(Some(message)),
            Next::Empty | Next::End => Ok(None), // it was found: it is there
        }
    }

    fn take_batch(&mut self, max: usize) -> Incoming<'_> {
        self.held = Held::Batch;
        let (before, from) = self.rings.split_at_mut(self.turn);
        self.turn += 1;
        let mut next = from.iter_mut().chain(before);
        let max = max.max(1);
        let current = next.next().map(|ring| ring.batch(max)).expect("a message was found there");
        Incoming { current, next, turn: &mut self.turn, left: max }
    }

    /// All messages, copied. Each is released when the next is asked for.
    pub fn messages(&mut self) -> Messages<'_> {
        Messages { input: self }
    }

    /// Gives back what came last, for who will not ask for more soon. In a transfer its commit does.
    pub fn release(&mut self) {
        self.give_back();
        self.rings.iter_mut().for_each(Consumer::settle);
    }

    /// Keeps the message that came last, whatever is asked for next: it, and what came after it from the same
    /// producer, stays in the edge and in place until it is [let go](Self::let_go); where the oldest may be dropped, it
    /// alone. `None` if none is held.
    ///
    /// An edge that is full of kept messages takes no more: keep few, and not for long.
    pub fn keep(&mut self) -> Option<Kept> {
        match self.held {
            Held::One(ring) => Some(self.keeper.keep(ring, self.rings[ring].keep_copy())),
            Held::Nothing | Held::Batch => None,
        }
    }

    /// Lets a kept message go: it is released as if it had not been kept.
    pub fn let_go(&mut self, kept: Kept) {
        let held = match self.held {
            Held::One(ring) => Some(ring),
            Held::Nothing => None,
            Held::Batch => return self.keeper.forget(&kept), // released with the batch
        };
        match self.transfers {
            true => self.keeper.forget(&kept),
            false => self.keeper.let_go(kept, &mut self.rings, held),
        }
    }

    #[inline]
    fn give_back(&mut self) {
        if self.transfers {
            return;
        }
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::One(ring) => self.keeper.release(ring, &mut self.rings[ring]),
            Held::Batch => self.release_all(),
        }
    }

    fn release_all(&mut self) {
        for (i, ring) in self.rings.iter_mut().enumerate().filter(|(_, ring)| ring.held()) {
            self.keeper.release(i, ring);
        }
    }

    /// Finishes what an earlier process committed to and had not come to. From now on messages are released by
    /// [`Self::commit`] alone.
    pub(crate) fn transfer<'m>(&mut self, number: u32, marks: impl Iterator<Item = &'m Mark>) -> Result<()> {
        // There the producer moves the cursor too.
        if self.rings.iter().any(|ring| ring.on_full() == OnFull::DropOldest) {
            return Err(Error::Dropping { edge: self.edge.clone() });
        }
        for mark in marks {
            match self.rings.get_mut(mark.ring as usize) {
                Some(ring) => ring.go_to(mark.position)?,
                None => self.pending.push(*mark),
            }
        }
        (self.transfers, self.number) = (true, number);
        Ok(())
    }

    /// What a transfer that is committed now is to release.
    pub(crate) fn read(&self, marks: &mut Vec<Mark>) {
        let held = self.rings.iter().enumerate().filter(|(_, ring)| ring.held());
        let read = |(i, ring): (usize, &Consumer)| Mark {
            edge: self.number,
            ring: self.keeper.name(i),
            position: ring.position(),
            word: 0,
        };
        marks.extend(self.pending.iter().copied().chain(held.map(read)));
    }

    pub(crate) fn is_uncommitted(&self) -> bool {
        self.held != Held::Nothing
    }

    /// Releases what was read.
    pub(crate) fn commit(&mut self) {
        self.held = Held::Nothing;
        self.release_all();
        self.rings.iter_mut().for_each(Consumer::settle);
    }

    /// How many messages this stage did not get, where the edge drops what finds no room: up to the message that came
    /// last, and, once a producer has ended, all of its.
    pub fn dropped(&self) -> u64 {
        self.gone + self.rings.iter().map(Consumer::dropped).sum::<u64>()
    }

    /// How many of its producer's messages were dropped right before the message that came last.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Reads no more: the producers go on without this stage, or stop if it was the last to read.
    pub fn detach(self) {
        self.rings.into_iter().for_each(Consumer::detach);
    }
}

impl<'a> Iterator for Incoming<'a> {
    type Item = Bytes<'a>;

    #[inline]
    fn next(&mut self) -> Option<Bytes<'a>> {
        loop {
            if let Some(message) = self.current.next() {
                self.left -= 1;
                return Some(message);
            }
            if self.left == 0 {
                return None;
            }
            self.current = self.next.next()?.batch(self.left);
            *self.turn += 1;
        }
    }
}

/// See [`Input::messages`].
#[derive(Debug)]
pub struct Messages<'a> {
    input: &'a mut Input,
}

impl Iterator for Messages<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.input.recv().map(|message| message.map(|m| m.to_vec())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Producer, Segment, SegmentOptions, WaitMode};

    fn edge(rings: usize) -> (Vec<Producer>, Input, Vec<Segment>) {
        let options = SegmentOptions { name: "test", capacity: 4096, wait: WaitMode::Block, ..Default::default() };
        let segments: Vec<_> = (0..rings).map(|_| Segment::create(&options).unwrap()).collect();
        let producers = segments.iter().map(|s| s.producer().unwrap()).collect();
        let consumers = segments.iter().map(|s| s.consumer(0).unwrap()).collect();
        (producers, Input::new("test", consumers), segments)
    }

    fn send(producer: &mut Producer, numbers: std::ops::Range<u8>) {
        numbers.for_each(|n| producer.write(&[n], Until::forever()).unwrap());
    }

    fn take(input: &mut Input, max: usize) -> Vec<u8> {
        input.try_recv_batch(max).unwrap().unwrap().map(|m| m.to_vec()[0]).collect()
    }

    #[test]
    fn a_batch_is_taken_from_all_in_turn_and_released_with_the_next() {
        let (mut producers, mut input, segments) = edge(3);
        send(&mut producers[0], 0..10);
        send(&mut producers[2], 20..23);
        let released = |i: usize| segments[i].stats().consumers[0].messages;
        assert_eq!(take(&mut input, 4), [0, 1, 2, 3]);
        send(&mut producers[1], 10..11);
        assert_eq!(released(0), 0);
        assert_eq!(take(&mut input, 4), [10, 20, 21, 22], "the first has had its turn");
        assert_eq!((released(0), released(2)), (4, 0));
        assert_eq!(take(&mut input, 100), [4, 5, 6, 7, 8, 9]);
        assert!(matches!(input.try_recv_batch(9), Err(Error::TimedOut)));
        assert_eq!((released(0), released(1), released(2)), (10, 1, 3));
        producers.iter_mut().for_each(Producer::finish);
        assert!(input.recv_batch(9).unwrap().is_none());
    }

    #[test]
    fn what_of_a_batch_was_not_looked_at_comes_again() {
        let (mut producers, mut input, _segments) = edge(2);
        send(&mut producers[0], 0..4);
        assert_eq!(input.recv_batch(9).unwrap().unwrap().next().unwrap().to_vec(), [0]);
        assert_eq!(input.recv().unwrap().unwrap().to_vec(), [1]);
        assert_eq!(take(&mut input, 0), [2], "one at least");
    }

    #[test]
    fn an_event_loop_is_told_of_what_comes_and_of_nothing_else() {
        use nexusflow_sys::event::{Epoll, EventFlags, Events};
        let (mut producers, mut input, _segments) = edge(2);
        let (epoll, mut events) = (Epoll::new().unwrap(), Events::default());
        epoll.add(input.poll_fd().unwrap(), 7, EventFlags::IN | EventFlags::ET).unwrap();
        let mut ready = |timeout| {
            epoll.wait(&mut events, timeout).unwrap();
            !events.is_empty()
        };
        assert!(ready(None), "nobody has looked yet");
        assert!(matches!(input.try_recv(), Err(Error::TimedOut)));
        assert!(!ready(Some(Duration::ZERO)));
        for round in 0..50u8 {
            std::thread::scope(|s| {
                let producer = &mut producers[usize::from(round) % 2];
                s.spawn(move || send(producer, round..round + 3));
                let mut got = 0;
                while got < 3 {
                    assert!(ready(None));
                    while input.try_recv().is_ok() {
                        got += 1;
                    }
                }
            });
            assert!(matches!(input.try_recv(), Err(Error::TimedOut)));
        }
        producers[0].finish();
        assert!(ready(None));
        assert!(matches!(input.try_recv(), Err(Error::TimedOut)));
        producers[1].finish();
        assert!(ready(None));
        assert!(input.try_recv().unwrap().is_none());
    }

    #[test]
    fn an_event_loop_waits_for_what_others_leave_unread_without_spinning() {
        use nexusflow_sys::event::{Epoll, EventFlags, Events};
        let (ours, runner) = nexusflow_sys::socket::pair().unwrap();
        let late = Late::new(&crate::stage::Session::of(ours), "test", 0).unwrap();
        let mut input = Input::new("test", vec![]).with_late(Some(late));
        let (epoll, mut events) = (Epoll::new().unwrap(), Events::default());
        epoll.add(input.poll_fd().unwrap(), 7, EventFlags::IN | EventFlags::ET).unwrap();
        let mut ready = |timeout| {
            epoll.wait(&mut events, timeout).unwrap();
            !events.is_empty()
        };
        assert!(ready(None), "nobody has looked yet");
        assert!(matches!(input.try_recv(), Err(Error::TimedOut)));
        crate::protocol::send(&runner, &crate::protocol::ToStage::NoMore, &[]).unwrap();
        assert!(ready(Some(Duration::from_secs(20))), "it is told to look again");
        assert!(input.try_recv().unwrap().is_none());
    }

    #[test]
    fn a_look_ahead_does_not_advance() {
        let (mut producers, mut input, segments) = edge(2);
        assert!(matches!(input.try_peek(), Err(Error::TimedOut)));
        send(&mut producers[1], 0..2);
        assert_eq!(input.peek().unwrap().unwrap().to_vec(), [0]);
        assert_eq!(input.try_peek().unwrap().unwrap().to_vec(), [0]);
        assert_eq!(input.recv().unwrap().unwrap().to_vec(), [0]);
        assert_eq!(segments[1].stats().consumers[0].messages, 0);
        assert_eq!(input.peek().unwrap().unwrap().to_vec(), [1]);
        assert_eq!(segments[1].stats().consumers[0].messages, 1);
        producers.iter_mut().for_each(Producer::finish);
        assert_eq!(input.recv().unwrap().unwrap().to_vec(), [1]);
        assert!(input.peek().unwrap().is_none());
    }
}
