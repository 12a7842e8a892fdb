//! An edge to read: the rings of all its producers as one stream.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::keep::{Keeper, Kept};
use crate::ring::{Bytes, Consumer, Next, Until, wait_any};

/// An edge that this stage reads.
///
/// The messages of each producer come in the order they were sent; between producers the turn goes round.
///
/// A message is *released* when the next one is asked for: until then it stays in the edge, so that a restarted
/// stage is given again what it had not finished with.
#[derive(Debug)]
pub struct Input {
    edge: String,
    /// Of the producers that have not ended.
    rings: Vec<Consumer>,
    /// Whose turn it is.
    turn: usize,
    /// Whose message was given out last, and is not released yet.
    held: Option<usize>,
    pub(crate) keeper: Keeper,
}

impl Input {
    pub(crate) fn new(edge: &str, rings: Vec<Consumer>) -> Self {
        let keeper = Keeper::new(rings.len());
        Self { edge: edge.to_owned(), rings, turn: 0, held: None, keeper }
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
        self.give_back();
        match self.find()? {
            true => Ok(self.take()),
            false if self.rings.is_empty() => Ok(None),
            false => {
                self.rings.iter_mut().for_each(Consumer::settle); // who only polls never sleeps, which would do it
                Err(Error::TimedOut)
            }
        }
    }

    /// The next message, when there is one before the wait is over.
    pub fn recv_until(&mut self, until: Until<'_>) -> Result<Option<Bytes<'_>>> {
        self.give_back();
        loop {
            if self.find()? {
                return Ok(self.take());
            }
            if self.rings.is_empty() {
                return Ok(None);
            }
            wait_any(&mut self.rings, until)?;
        }
    }

    /// Goes round once, to a ring that has a message. Rings that have ended leave.
    fn find(&mut self) -> Result<bool> {
        for _ in 0..self.rings.len() {
            if self.turn >= self.rings.len() {
                self.turn = 0;
            }
            match self.rings[self.turn].try_peek()? {
                Next::Message(_) => return Ok(true),
                Next::Empty => self.turn += 1,
                Next::End => {
                    let ended = self.rings.remove(self.turn);
                    self.keeper.ended(self.turn, ended);
                }
            }
        }
        Ok(false)
    }

    /// The message that was found.
    fn take(&mut self) -> Option<Bytes<'_>> {
        let turn = self.turn;
        self.turn += 1;
        self.held = Some(turn);
        self.keeper.taken(self.rings[turn].position());
        self.rings[turn].take()
    }

    /// All messages, copied. Each is released when the next is asked for.
    pub fn messages(&mut self) -> Messages<'_> {
        Messages { input: self }
    }

    /// Gives back the message that came last, for who will not ask for another soon.
    pub fn release(&mut self) {
        self.give_back();
        self.rings.iter_mut().for_each(Consumer::settle);
    }

    /// Keeps the message that came last, whatever is asked for next: it, and what came after it from the same
    /// producer, stays in the edge and in place until it is [let go](Self::let_go). `None` if none is held.
    ///
    /// An edge that is full of kept messages takes no more: keep few, and not for long.
    pub fn keep(&mut self) -> Option<Kept> {
        self.held.map(|ring| self.keeper.keep(ring))
    }

    /// Lets a kept message go: it is released as if it had not been kept.
    pub fn let_go(&mut self, kept: Kept) {
        self.keeper.let_go(kept, &mut self.rings, self.held);
    }

    fn give_back(&mut self) {
        if let Some(held) = self.held.take() {
            self.keeper.release(held, &mut self.rings[held]);
        }
    }

    /// Reads no more: the producers go on without this stage, or stop if it was the last to read.
    pub fn detach(self) {
        self.rings.into_iter().for_each(Consumer::detach);
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
