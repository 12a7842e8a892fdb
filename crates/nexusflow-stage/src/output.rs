//! An edge to write: one ring, or with `distribute` one for each consumer, in strict turn.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::ring::{self, Producer, Until};

/// An edge that this stage writes.
///
/// Nothing is lost: when a consumer is slow, sending waits. The stream ends when [`finish`](Self::finish) is called or
/// the process exits well. When nobody reads any more, sending fails as [`Error::Closed`].
#[derive(Debug)]
pub struct Output {
    edge: String,
    max_message: usize,
    /// Of the consumers that have not gone.
    rings: Vec<Producer>,
    /// Whose turn it is.
    turn: usize,
}

/// Room for one message: fill it, then commit. Dropped, nothing is sent.
#[derive(Debug)]
pub struct Reservation<'a> {
    inner: ring::Reservation<'a>,
    turn: &'a mut usize,
}

impl Output {
    pub(crate) fn new(edge: &str, max_message: usize, rings: Vec<Producer>) -> Self {
        let max_message = rings.iter().map(Producer::max_message).fold(max_message, usize::min);
        Self { edge: edge.to_owned(), max_message, rings, turn: 0 }
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

    /// Sends one message, if there is room in time; else [`Error::TimedOut`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.send_until(message, Until::timeout(timeout))
    }

    /// Sends one message, when there is room before the wait is over.
    pub fn send_until(&mut self, message: &[u8], until: Until<'_>) -> Result<()> {
        let mut reservation = self.reserve_until(message.len(), until)?;
        reservation.as_mut_slice().copy_from_slice(message);
        reservation.commit();
        Ok(())
    }

    /// Sends messages; those that fit become visible together, which costs less. On an error those before are sent.
    pub fn send_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> Result<()> {
        match &mut self.rings[..] {
            [ring] => {
                let (edge, max) = (&self.edge, self.max_message);
                let mut too_long = None;
                let fit = messages.into_iter().take_while(|m| {
                    too_long = (m.len() > max).then_some(m.len());
                    too_long.is_none()
                });
                ring.write_batch(fit, Until::forever())?;
                too_long.map_or(Ok(()), |len| Err(Error::TooLong { edge: edge.clone(), len, max }))
            }
            _ => messages.into_iter().try_for_each(|message| self.send(message)),
        }
    }

    /// Room for a message of at most `len` bytes, when there is.
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_>> {
        self.reserve_until(len, Until::forever())
    }

    /// Room for a message of at most `len` bytes, when there is before the wait is over.
    pub fn reserve_until(&mut self, len: usize, until: Until<'_>) -> Result<Reservation<'_>> {
        if len > self.max_message {
            return Err(Error::TooLong { edge: self.edge.clone(), len, max: self.max_message });
        }
        loop {
            if self.turn >= self.rings.len() {
                self.turn = 0;
            }
            let Some(ring) = self.rings.get_mut(self.turn) else {
                return Err(Error::Closed { edge: self.edge.clone() });
            };
            match ring.wait_room(len, until) {
                Ok(()) => break,
                // Gone for good: the others go on in turn.
                Err(Error::Closed { .. }) => drop(self.rings.remove(self.turn)),
                Err(e) => return Err(e),
            }
        }
        let inner = self.rings[self.turn].reserved(len);
        Ok(Reservation { inner, turn: &mut self.turn })
    }

    /// Ends the stream: consumers read what was sent, then the end.
    pub fn finish(mut self) {
        self.rings.iter_mut().for_each(Producer::finish);
    }
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
