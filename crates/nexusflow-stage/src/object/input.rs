//! An object edge to read: the stores of all its producers as one stream.

use std::time::Duration;

use super::Object;
use super::reader::{Next, Reader, wait_any};
use crate::error::{Error, Result};
use crate::ring::Until;

/// An object edge that this stage reads.
///
/// The objects of each producer come in the order they were sealed; between producers the turn goes round. Each is held
/// until it is dropped, however many came after it.
#[derive(Debug)]
pub struct ObjectInput {
    edge: String,
    /// Of the producers that have not ended.
    stores: Vec<Reader>,
    /// Whose turn it is.
    turn: usize,
}

impl ObjectInput {
    /// The stores of all producers.
    pub fn new(edge: &str, stores: Vec<Reader>) -> Self {
        Self { edge: edge.to_owned(), stores, turn: 0 }
    }

    /// The edge's name.
    pub fn name(&self) -> &str {
        &self.edge
    }

    /// The next object, when there is one; `None` when all producers have ended.
    pub fn recv(&mut self) -> Result<Option<Object>> {
        self.recv_until(Until::forever())
    }

    /// The next object, if one comes in time; else [`Error::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Object>> {
        self.recv_until(Until::timeout(timeout))
    }

    /// The next object, if there is one now; else [`Error::TimedOut`].
    pub fn try_recv(&mut self) -> Result<Option<Object>> {
        match self.find()? {
            None if !self.stores.is_empty() => Err(Error::TimedOut),
            found => Ok(found),
        }
    }

    /// The next object, when there is one before the wait is over.
    pub fn recv_until(&mut self, until: Until<'_>) -> Result<Option<Object>> {
        loop {
            let found = self.find()?;
            if found.is_some() || self.stores.is_empty() {
                return Ok(found);
            }
            wait_any(&mut self.stores, until)?;
        }
    }

    /// Goes round once, to a store that has an object. Stores that have ended leave.
    fn find(&mut self) -> Result<Option<Object>> {
        for _ in 0..self.stores.len() {
            if self.turn >= self.stores.len() {
                self.turn = 0;
            }
            match self.stores[self.turn].try_next()? {
                Next::Object(object) => {
                    self.turn += 1;
                    return Ok(Some(object));
                }
                Next::Empty => self.turn += 1,
                Next::End => drop(self.stores.remove(self.turn)),
            }
        }
        Ok(None)
    }

    /// Reads no more: the producers go on without this stage, or stop if it was the last to read. What it holds of them
    /// may change from now on.
    pub fn detach(self) {
        self.stores.into_iter().for_each(Reader::detach);
    }
}

/// All objects, each to be held as long as it is needed.
impl Iterator for ObjectInput {
    type Item = Result<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}
