//! An edge to write: one ring, or with `distribute` one for each consumer.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::protocol::By;
use crate::ring::{self, Producer, Until};

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
    /// Of the consumers that have not gone.
    rings: Vec<Producer>,
    /// Which consumer each ring leads to, of how many there were at first.
    places: Vec<u32>,
    declared: u32,
    /// Whose turn it is.
    turn: usize,
}

/// Room for one message: fill it, then commit. Dropped, nothing is sent.
#[derive(Debug)]
pub struct Reservation<'a> {
    inner: ring::Reservation<'a>,
    turn: &'a mut usize,
}

/// How long to wait for room.
#[derive(Clone, Copy)]
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
        let declared = rings.len() as u32;
        let places = (0..declared).collect();
        Self { edge: edge.to_owned(), max_message, by, rings, places, declared, turn: 0 }
    }

    /// The edge's name.
    pub fn name(&self) -> &str {
        &self.edge
    }

    /// Bytes of the longest message that the edge takes.
    pub fn max_message(&self) -> usize {
        self.max_message
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
        match &mut self.rings[..] {
            [ring] if self.by != By::Key => {
                let (edge, max) = (&self.edge, self.max_message);
                let mut too_long = None;
                let fit = messages.into_iter().take_while(|m| {
                    too_long = (m.len() > max).then_some(m.len());
                    too_long.is_none()
                });
                ring.write_batch(fit, until)?;
                too_long.map_or(Ok(()), |len| Err(Error::TooLong { edge: edge.clone(), len, max }))
            }
            _ => messages.into_iter().try_for_each(|message| self.send_until(message, until)),
        }
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

    fn room(&mut self, key: Option<Key<'_>>, len: usize, patience: Patience<'_>) -> Result<Reservation<'_>> {
        if len > self.max_message {
            return Err(Error::TooLong { edge: self.edge.clone(), len, max: self.max_message });
        }
        loop {
            self.turn = self.chosen(key)?;
            let ring = &mut self.rings[self.turn];
            let found = match patience {
                Patience::None => ring.try_reserve(len).map(|room| room.is_some()),
                Patience::Until(until) => ring.wait_room(len, until).map(|()| true),
            };
            match found {
                Ok(true) => break,
                Ok(false) => return Err(Error::TimedOut),
                // Gone for good: the others go on.
                Err(Error::Closed { .. }) => {
                    self.rings.remove(self.turn);
                    self.places.remove(self.turn);
                }
                Err(e) => return Err(e),
            }
        }
        let inner = self.rings[self.turn].reserved(len);
        Ok(Reservation { inner, turn: &mut self.turn })
    }

    /// The ring of the next message.
    #[inline]
    fn chosen(&self, key: Option<Key<'_>>) -> Result<usize> {
        match (self.rings.len(), self.by, key) {
            (0, ..) => Err(Error::Closed { edge: self.edge.clone() }),
            (_, By::Key, None) => Err(Error::NoKey { edge: self.edge.clone() }),
            (_, By::Key, Some(key)) => Ok(self.of_key(key)),
            (1, ..) => Ok(0),
            (n, ..) => Ok(if self.turn < n { self.turn } else { 0 }),
        }
    }

    fn of_key(&self, key: Key<'_>) -> usize {
        let mut candidates = key::candidates(key::hash(key), self.declared).take(KEY_CANDIDATES);
        candidates.find_map(|place| self.places.binary_search(&place).ok()).unwrap_or(0)
    }

    /// Ends the stream: consumers read what was sent, then the end.
    pub fn finish(mut self) {
        self.rings.iter_mut().for_each(Producer::finish);
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
    pub fn commit(self) {
        *self.turn += 1;
        self.inner.commit();
    }

    /// Sends the first `len` bytes.
    ///
    /// # Panics
    /// If that is more than was reserved.
    pub fn commit_len(self, len: usize) {
        *self.turn += 1;
        self.inner.commit_len(len);
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
}
