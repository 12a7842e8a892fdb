//! An edge to write: one ring, or with `distribute` one for each consumer.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::journal::Mark;
use crate::key::{self, Key};
use crate::protocol::By;
use crate::ring::{self, OnFull, Producer, Savepoint, Until, wait_any_room};

/// How many candidates of a key are tried before any consumer that is left gets its messages.
const KEY_CANDIDATES: usize = 64;

/// An edge that this stage writes.
///
/// Nothing is lost: when a consumer is slow, sending waits. The stream ends when [`finish`](Self::finish) is called or
/// the process exits well. When nobody reads any more, sending fails as [`Error::Closed`].
#[derive(Debug)]
pub struct Output {
    edge: String,
    max_message: usize,
    by: By,
    /// One, or one for each consumer as they were declared; also of those that have left.
    rings: Vec<Producer>,
    /// Whose turn it is.
    turn: usize,
    visible: Visible,
    /// In a transfer: which edge of the stage it is.
    number: u32,
    /// For the next [`Batch`].
    spare: Vec<Savepoint>,
}

/// When messages become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visible {
    /// Each at once.
    AtOnce,
    /// Some together, or earlier if room must be waited for.
    Together,
    /// All together, when a batch or transfer is committed.
    OnCommit,
}

/// Room for one message: fill it, then commit. Dropped, nothing is sent.
#[derive(Debug)]
pub struct Reservation<'a> {
    inner: ring::Reservation<'a>,
    turn: &'a mut usize,
    at_once: bool,
}

/// Messages of one [`Output`] that become visible together, when they are [committed](Self::commit). Dropped, none of
/// them is sent.
///
/// It is used like the output itself. All its messages must fit into the edge at once.
#[derive(Debug)]
pub struct Batch<'a> {
    output: &'a mut Output,
    /// Of each ring, as it was.
    before: Vec<Savepoint>,
    outer: Visible,
    committed: bool,
}

/// How long to wait for room.
#[derive(Debug, Clone, Copy)]
enum Patience<'a> {
    /// Not at all.
    None,
    Until(Until<'a>),
}

impl Output {
    /// For those who have the rings of an edge from elsewhere: one, or one for each consumer that messages are
    /// distributed to. Nothing is longer than `max_message`, or than a ring can take.
    pub fn new(edge: &str, max_message: usize, by: By, rings: Vec<Producer>) -> Self {
        let max_message = rings.iter().map(Producer::max_message).fold(max_message, usize::min);
        let edge = edge.to_owned();
        Self { edge, max_message, by, rings, turn: 0, visible: Visible::AtOnce, number: 0, spare: Vec::new() }
    }

    /// The edge's name.
    pub fn name(&self) -> &str {
        &self.edge
    }

    /// Bytes of the longest message that the edge takes.
    pub fn max_message(&self) -> usize {
        self.max_message
    }

    /// How many messages were sent, by all processes that have been this stage: exact, also when one of them was
    /// killed. A source that sends the same again after a restart goes on behind so many.
    pub fn committed(&self) -> u64 {
        self.rings.iter().map(Producer::published).fold(0, u64::wrapping_add)
    }

    /// Sends one message, when there is room.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_until(message, Until::forever())
    }

    /// Sends one message, if there is room now; else [`Error::TimedOut`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<()> {
        fill(self.room(None, message.len(), Patience::None)?, message)
    }

    /// Sends one message, if there is room in time; else [`Error::TimedOut`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.send_until(message, Until::timeout(timeout))
    }

    /// Sends one message, when there is room before the wait is over.
    pub fn send_until(&mut self, message: &[u8], until: Until<'_>) -> Result<()> {
        fill(self.reserve_until(message.len(), until)?, message)
    }

    /// Sends one message to the consumer that its key belongs to, when there is room.
    ///
    /// On edges that distribute `by: key` the same key goes to the same consumer; when that one has left for good, to
    /// another one, the same for all its messages. On any other edge the key is not looked at.
    pub fn send_to<'k>(&mut self, key: impl Into<Key<'k>>, message: &[u8]) -> Result<()> {
        fill(self.reserve_to(key, message.len())?, message)
    }

    /// Sends messages; those that fit become visible together, which costs less. On an error those before are sent.
    pub fn send_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> Result<()> {
        self.send_batch_until(messages, Until::forever())
    }

    /// As [`send_batch`](Self::send_batch), when there is room for each before the wait is over.
    pub fn send_batch_until<'m>(
        &mut self,
        messages: impl IntoIterator<Item = &'m [u8]>,
        until: Until<'_>,
    ) -> Result<()> {
        let outer = self.visible;
        if let ([ring], true, Visible::AtOnce) = (&mut self.rings[..], self.by != By::Key, outer) {
            let (edge, max) = (&self.edge, self.max_message);
            let mut too_long = None;
            let fit = messages.into_iter().take_while(|m| {
                too_long = (m.len() > max).then_some(m.len());
                too_long.is_none()
            });
            ring.write_batch(fit, until)?;
            return too_long.map_or(Ok(()), |len| Err(Error::TooLong { edge: edge.clone(), len, max }));
        }
        if outer == Visible::AtOnce {
            self.visible = Visible::Together;
        }
        let sent = messages.into_iter().try_for_each(|message| self.send_until(message, until));
        self.visible = outer;
        if outer == Visible::AtOnce {
            self.publish();
        }
        sent
    }

    /// A batch: what is sent with it becomes visible when it is committed, all together.
    pub fn batch(&mut self) -> Batch<'_> {
        let mut before = std::mem::take(&mut self.spare);
        before.clear();
        before.extend(self.rings.iter().map(Producer::savepoint));
        let outer = self.visible;
        self.on_commit();
        Batch { output: self, before, outer, committed: false }
    }

    /// Room for a message of at most `len` bytes, when there is.
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_>> {
        self.reserve_until(len, Until::forever())
    }

    /// Room for a message of at most `len` bytes, if there is now; else [`Error::TimedOut`].
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_>> {
        self.room(None, len, Patience::None)
    }

    /// Room for a message of at most `len` bytes, if there is in time; else [`Error::TimedOut`].
    pub fn reserve_timeout(&mut self, len: usize, timeout: Duration) -> Result<Reservation<'_>> {
        self.reserve_until(len, Until::timeout(timeout))
    }

    /// Room for a message of at most `len` bytes, when there is before the wait is over.
    #[inline]
    pub fn reserve_until(&mut self, len: usize, until: Until<'_>) -> Result<Reservation<'_>> {
        self.room(None, len, Patience::Until(until))
    }

    /// Room for a message with this key, as in [`send_to`](Self::send_to).
    pub fn reserve_to<'k>(&mut self, key: impl Into<Key<'k>>, len: usize) -> Result<Reservation<'_>> {
        self.reserve_to_until(key, len, Until::forever())
    }

    /// Room for a message with this key, when there is before the wait is over.
    pub fn reserve_to_until<'k>(
        &mut self,
        key: impl Into<Key<'k>>,
        len: usize,
        until: Until<'_>,
    ) -> Result<Reservation<'_>> {
        self.room(Some(key.into()), len, Patience::Until(until))
    }

    /// Ends the stream: consumers read what was sent, then the end.
    pub fn finish(mut self) {
        self.end();
    }

    pub(crate) fn end(&mut self) {
        self.rings.iter_mut().for_each(Producer::finish);
    }

    #[inline]
    fn room(&mut self, key: Option<Key<'_>>, len: usize, patience: Patience<'_>) -> Result<Reservation<'_>> {
        if len > self.max_message {
            return Err(Error::TooLong { edge: self.edge.clone(), len, max: self.max_message });
        }
        if self.rings.len() == 1 && self.by != By::Key && self.rings[0].fits(len) {
            let inner = self.rings[0].reserved(len);
            return Ok(Reservation { inner, turn: &mut self.turn, at_once: self.visible == Visible::AtOnce });
        }
        match self.find_room(key, len, patience) {
            Ok(found) => self.turn = found,
            // It would fit if it were not for what must become visible together with it.
            Err(Error::TooLong { edge, .. }) => {
                let capacity = self.rings.first().map_or(0, Producer::capacity);
                return Err(Error::BatchTooLong { edge, capacity });
            }
            Err(e) => return Err(e),
        }
        let inner = self.rings[self.turn].reserved(len);
        Ok(Reservation { inner, turn: &mut self.turn, at_once: self.visible == Visible::AtOnce })
    }

    /// A ring that has room.
    #[inline(never)]
    fn find_room(&mut self, key: Option<Key<'_>>, len: usize, patience: Patience<'_>) -> Result<usize> {
        loop {
            let chosen = self.choose(key)?;
            let ring = &mut self.rings[chosen];
            let found = match (ring.has_room(len), patience) {
                (Ok(false), Patience::None) => Err(Error::TimedOut),
                (Ok(false), Patience::Until(until)) => self.wait_room(chosen, len, until),
                (found, _) => found.map(|_| chosen),
            };
            match found {
                Err(Error::Closed { .. }) if self.rings.len() > 1 => {} // it has left just now: the others go on
                found => return found,
            }
        }
    }

    fn wait_room(&mut self, chosen: usize, len: usize, until: Until<'_>) -> Result<usize> {
        if self.visible == Visible::Together {
            self.publish(); // whoever is to make room must see what there is to read
        }
        match self.by {
            By::LeastBacklog => wait_any_room(&mut self.rings, len, until),
            By::RoundRobin | By::Key => self.rings[chosen].wait_room(len, until).map(|()| chosen),
        }
    }

    /// The ring of the next message.
    #[inline]
    fn choose(&mut self, key: Option<Key<'_>>) -> Result<usize> {
        match (self.by, key) {
            (By::Key, None) => Err(Error::NoKey { edge: self.edge.clone() }),
            (By::Key, Some(key)) => self.of_key(key),
            _ if self.rings.len() == 1 => Ok(0), // if it is closed, that is found when room is looked for
            (By::RoundRobin, _) => self.in_turn().find(|i| !self.rings[*i].is_closed()).ok_or_else(|| self.closed()),
            (By::LeastBacklog, _) => self.least_backlog(),
        }
    }

    /// All rings, beginning with the one whose turn it is.
    fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (n, first) = (self.rings.len(), self.turn);
        let first = if first < n { first } else { 0 };
        (first..n).chain(0..first)
    }

    fn of_key(&self, key: Key<'_>) -> Result<usize> {
        let n = self.rings.len();
        let candidates = key::candidates(key::hash(key), n as u32).take(KEY_CANDIDATES).map(|i| i as usize);
        candidates.chain(0..n).find(|i| !self.rings[*i].is_closed()).ok_or_else(|| self.closed())
    }

    /// The ring whose consumer has the fewest unreleased bytes at this moment; of several, the next in turn.
    fn least_backlog(&mut self) -> Result<usize> {
        // One that had released everything when last looked at has still nothing to do: nobody has less.
        if let Some(idle) = self.in_turn().find(|i| self.rings[*i].is_idle() && !self.rings[*i].is_closed()) {
            return Ok(idle);
        }
        let mut least = None;
        for i in self.in_turn() {
            match self.rings[i].backlog() {
                Ok(backlog) if least.is_none_or(|(bytes, _)| backlog < bytes) => least = Some((backlog, i)),
                Ok(_) | Err(Error::Closed { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        least.map(|(_, i)| i).ok_or_else(|| self.closed())
    }

    fn closed(&self) -> Error {
        Error::Closed { edge: self.edge.clone() }
    }

    /// How many messages this stage has dropped, all its processes together, where the edge drops what finds no room.
    /// Where it drops the oldest, only those for which not even that made room: what was taken from a consumer, that
    /// consumer counts.
    pub fn dropped(&self) -> u64 {
        self.rings.iter().map(Producer::dropped).sum()
    }

    /// Finishes what an earlier process committed to and had not come to. From now on messages become visible by
    /// [`publish`](Self::publish) only.
    pub(crate) fn transfer<'m>(&mut self, number: u32, marks: impl Iterator<Item = &'m Mark>) -> Result<()> {
        if self.rings.iter().any(|ring| ring.on_full() != OnFull::Block) {
            return Err(Error::Dropping { edge: self.edge.clone() });
        }
        for mark in marks {
            match self.rings.get_mut(mark.ring as usize) {
                Some(ring) => _ = ring.redo(mark.position, mark.word)?,
                None => return Err(Error::Journal { what: format!("no ring of edge `{}`", self.edge) }),
            }
        }
        self.number = number;
        self.on_commit();
        Ok(())
    }

    /// What a transfer that is committed now is to publish.
    pub(crate) fn staged(&mut self, marks: &mut Vec<Mark>) {
        let edge = self.number;
        marks.extend((0..).zip(&mut self.rings).filter_map(|(ring, producer)| {
            let (position, word) = producer.first_staged()?;
            Some(Mark { edge, ring, position, word })
        }));
    }

    pub(crate) fn is_uncommitted(&self) -> bool {
        self.rings.iter().any(Producer::is_staged)
    }

    fn on_commit(&mut self) {
        self.visible = Visible::OnCommit;
        self.rings.iter_mut().for_each(|ring| ring.hold_staged(true));
    }

    pub(crate) fn publish(&mut self) {
        self.rings.iter_mut().for_each(Producer::publish);
    }
}

fn fill(mut room: Reservation<'_>, message: &[u8]) -> Result<()> {
    room.as_mut_slice().copy_from_slice(message);
    room.commit();
    Ok(())
}

impl Reservation<'_> {
    /// Where the message goes. What was there before may show.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.inner.as_mut_slice()
    }

    /// Sends it all.
    #[inline]
    pub fn commit(self) {
        *self.turn += 1;
        match self.at_once {
            true => self.inner.commit(),
            false => self.inner.stage(),
        }
    }

    /// Sends the first `len` bytes.
    ///
    /// # Panics
    /// If that is more than was reserved.
    #[inline]
    pub fn commit_len(self, len: usize) {
        *self.turn += 1;
        match self.at_once {
            true => self.inner.commit_len(len),
            false => self.inner.stage_len(len),
        }
    }
}

impl Batch<'_> {
    /// Sends its messages. Those of a batch within a batch or a transfer are sent with that.
    pub fn commit(mut self) {
        self.committed = true;
    }
}

impl std::ops::Deref for Batch<'_> {
    type Target = Output;
    fn deref(&self) -> &Output {
        self.output
    }
}

impl std::ops::DerefMut for Batch<'_> {
    fn deref_mut(&mut self) -> &mut Output {
        self.output
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let Self { output, before, outer, committed } = self;
        if !*committed {
            output.rings.iter_mut().zip(&*before).for_each(|(ring, before)| ring.back_to(*before));
        }
        output.visible = *outer;
        if *outer != Visible::OnCommit {
            if *committed {
                output.publish();
            }
            output.rings.iter_mut().for_each(|ring| ring.hold_staged(false));
        }
        output.spare = std::mem::take(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Consumer, Segment, SegmentOptions, WaitMode};

    fn distributed(by: By, consumers: usize) -> (Output, Vec<Consumer>) {
        let options = SegmentOptions { capacity: 4096, wait: WaitMode::Block, ..Default::default() };
        let segments: Vec<_> = (0..consumers).map(|_| Segment::create(&options).unwrap()).collect();
        let rings = segments.iter().map(|s| s.producer().unwrap()).collect();
        (Output::new("test", 1000, by, rings), segments.iter().map(|s| s.consumer(0).unwrap()).collect())
    }

    /// What has come, as numbers, released.
    fn numbers(consumer: &mut Consumer) -> Vec<u64> {
        let mut all = Vec::new();
        while let ring::Next::Message(message) = consumer.try_peek().unwrap() {
            all.push(u64::from_le_bytes(message.to_vec().try_into().unwrap()));
            consumer.advance();
        }
        consumer.release();
        all
    }

    #[test]
    fn the_same_key_goes_to_the_same_consumer_and_on_when_that_has_left() {
        let (mut output, mut consumers) = distributed(By::Key, 3);
        let mut send = |keys: std::ops::Range<u64>| {
            for key in keys {
                output.send_to(key % 50, &key.to_le_bytes()).unwrap();
            }
        };
        send(0..100);
        let first: Vec<Vec<u64>> = consumers.iter_mut().map(numbers).collect();
        for got in &first {
            assert!(got.len() > 10);
            assert!(got.iter().all(|n| got.contains(&((n + 50) % 100))), "both messages of a key");
        }
        consumers.remove(1).detach();
        send(0..100);
        for (got, before) in consumers.iter_mut().map(numbers).zip([&first[0], &first[2]]) {
            assert!(before.iter().all(|n| got.contains(n)), "keys stay where they were");
            assert!(got.iter().any(|n| first[1].contains(n)), "those of the one that left are spread");
            assert!(got.iter().all(|n| got.contains(&((n + 50) % 100))), "whole keys");
        }
    }

    #[test]
    fn a_message_without_its_key_is_an_error_that_says_what_to_do() {
        let (mut output, _consumers) = distributed(By::Key, 2);
        let told = output.send(b"x").unwrap_err().to_string();
        assert!(told.contains("`send_to(key, message)`"), "{told}");
        let (mut output, mut consumers) = distributed(By::RoundRobin, 2);
        output.send_to("anything", &[0; 8]).unwrap();
        output.send_to("anything", &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!((numbers(&mut consumers[0]), numbers(&mut consumers[1])), (vec![0], vec![1]), "in turn, as ever");
    }

    #[test]
    fn who_does_not_wait_is_told_that_there_is_no_room() {
        let (mut output, mut consumers) = distributed(By::RoundRobin, 1);
        let sent = (0..).take_while(|_| output.try_send(&[7; 1000]).is_ok()).count();
        assert_eq!(sent, 4);
        assert!(matches!(output.try_send(&[7; 1000]), Err(Error::TimedOut)));
        assert!(matches!(output.try_reserve(1000), Err(Error::TimedOut)));
        assert!(matches!(output.reserve_timeout(1000, Duration::ZERO), Err(Error::TimedOut)));
        consumers[0].try_peek().unwrap();
        consumers[0].advance();
        consumers[0].release();
        output.try_send(&[7; 1000]).unwrap();
    }

    #[test]
    fn a_batch_is_seen_as_a_whole_or_not_at_all() {
        let (mut output, mut consumers) = distributed(By::RoundRobin, 2);
        let mut batch = output.batch();
        for n in 0..5u64 {
            batch.send(&n.to_le_bytes()).unwrap();
        }
        assert!(consumers.iter_mut().all(|c| numbers(c).is_empty()));
        batch.commit();
        assert_eq!((numbers(&mut consumers[0]), numbers(&mut consumers[1])), (vec![0, 2, 4], vec![1, 3]));
        let mut batch = output.batch();
        batch.send(&[9; 8]).unwrap();
        let mut inner = batch.batch();
        inner.send(&[9; 8]).unwrap();
        inner.commit();
        drop(batch);
        assert_eq!(output.committed(), 5);
        let mut batch = output.batch();
        batch.send(&5u64.to_le_bytes()).unwrap();
        let mut inner = batch.batch();
        inner.send(&[9; 8]).unwrap();
        drop(inner);
        batch.send(&6u64.to_le_bytes()).unwrap();
        batch.commit();
        output.send(&7u64.to_le_bytes()).unwrap();
        let mut all: Vec<u64> = consumers.iter_mut().flat_map(numbers).collect();
        all.sort_unstable();
        assert_eq!((all, output.committed()), (vec![5, 6, 7], 8));
    }

    #[test]
    fn what_a_batch_that_is_given_up_would_have_dropped_is_not_counted() {
        let on_full = OnFull::DropNewest;
        let segment = Segment::create(&SegmentOptions { capacity: 4096, on_full, ..Default::default() }).unwrap();
        let mut output = Output::new("test", 1000, By::RoundRobin, vec![segment.producer().unwrap()]);
        while output.dropped() == 0 {
            output.send(&[7; 1000]).unwrap();
        }
        let mut batch = output.batch();
        batch.send(&[8; 1000]).unwrap();
        drop(batch);
        output.publish();
        assert_eq!((output.dropped(), segment.stats().dropped), (1, 1));
        let mut batch = output.batch();
        batch.send(&[8; 1000]).unwrap();
        batch.commit();
        assert_eq!((output.dropped(), segment.stats().dropped), (2, 2));
    }

    #[test]
    fn a_batch_that_is_larger_than_the_edge_is_an_error_that_says_so() {
        let (mut output, mut consumers) = distributed(By::RoundRobin, 1);
        output.send(&[1; 1000]).unwrap();
        let mut batch = output.batch();
        (0..3).for_each(|_| batch.send(&[2; 1000]).unwrap());
        assert!(
            matches!(batch.send_timeout(&[2; 1000], Duration::ZERO), Err(Error::TimedOut)),
            "the first is not read"
        );
        consumers[0].try_peek().unwrap();
        consumers[0].advance();
        consumers[0].release();
        batch.send(&[2; 1000]).unwrap();
        let told = batch.send(&[2; 1000]).unwrap_err().to_string();
        assert!(told.contains("holds 4096 bytes"), "{told}");
        drop(batch);
        output.send(&7u64.to_le_bytes()).unwrap();
        assert_eq!(numbers(&mut consumers[0]), [7]);
    }

    #[test]
    fn the_one_with_the_least_to_do_gets_the_next() {
        let (mut output, mut consumers) = distributed(By::LeastBacklog, 3);
        let mut send = |n: u64| output.send(&n.to_le_bytes()).unwrap();
        (0..3).for_each(&mut send);
        let got = numbers(&mut consumers[1]);
        assert_eq!(got, [1], "in turn while all have nothing to do");
        send(3);
        assert_eq!(numbers(&mut consumers[1]), [3]);
        send(4);
        send(5); // all have one now: the next in turn
        send(6);
        let got: Vec<_> = consumers.iter_mut().map(numbers).collect();
        assert_eq!(got, [vec![0, 6], vec![4], vec![2, 5]]);
    }

    #[test]
    fn who_waits_for_room_takes_the_first_there_is() {
        let (mut output, mut consumers) = distributed(By::LeastBacklog, 3);
        let sent = (0..).take_while(|_| output.try_send(&[7; 1000]).is_ok()).count();
        assert_eq!(sent, 12);
        let mut third = consumers.pop().unwrap();
        std::thread::scope(|s| {
            let sender = s.spawn(move || output.send(&[8; 1000]).map(|()| output));
            third.try_peek().unwrap();
            third.advance();
            third.release();
            third.settle();
            let mut output = sender.join().unwrap().unwrap();
            drop(consumers.drain(..).map(Consumer::detach).collect::<Vec<_>>());
            third.detach();
            assert!(output.send(b"x").unwrap_err().is_closed());
        });
    }
}
