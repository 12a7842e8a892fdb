//! An object edge to write.

use std::time::Duration;

use super::{Draft, Writer};
use crate::error::{Error, Result};
use crate::ring::Until;

/// An object edge that this stage writes.
///
/// Nothing is lost: while the edge holds as much as its `capacity`, creating waits until consumers release. The stream
/// ends when [`finish`](Self::finish) is called or the process exits well. When nobody reads any more, creating fails as
/// [`Error::Closed`].
///
/// It can be used by several threads, and several objects can be filled at the same time.
#[derive(Debug, Clone)]
pub struct ObjectOutput {
    edge: String,
    max_object: usize,
    store: Writer,
}

impl ObjectOutput {
    pub(crate) fn new(edge: &str, max_object: usize, store: Writer) -> Self {
        let max_object = max_object.min(usize::try_from(store.max_object()).unwrap_or(usize::MAX));
        Self { edge: edge.to_owned(), max_object, store }
    }

    /// The edge's name.
    pub fn name(&self) -> &str {
        &self.edge
    }

    /// Bytes of the longest object that the edge takes.
    pub fn max_object(&self) -> usize {
        self.max_object
    }

    /// How many objects were sealed so far, by this process and those that it was started in the place of: where to go on.
    pub fn committed(&self) -> u64 {
        self.store.committed()
    }

    /// Room for an object of `len` bytes, when there is: fill it, then [`seal`](Draft::seal) it.
    pub fn create(&self, len: usize) -> Result<Draft> {
        self.create_until(len, Until::forever())
    }

    /// Room for an object of `len` bytes, if there is in time; else [`Error::TimedOut`].
    pub fn create_timeout(&self, len: usize, timeout: Duration) -> Result<Draft> {
        self.create_until(len, Until::timeout(timeout))
    }

    /// Room for an object of `len` bytes, if there is now; else [`Error::TimedOut`].
    pub fn try_create(&self, len: usize) -> Result<Draft> {
        self.check(len)?;
        self.store.try_create(len)?.ok_or(Error::TimedOut)
    }

    /// Room for an object of `len` bytes, when there is before the wait is over.
    pub fn create_until(&self, len: usize, until: Until<'_>) -> Result<Draft> {
        self.check(len)?;
        self.store.create(len, until)
    }

    /// Copies an object into the edge, when there is room. Its number.
    pub fn send(&self, bytes: &[u8]) -> Result<u64> {
        let mut draft = self.create(bytes.len())?;
        draft.as_mut_slice().copy_from_slice(bytes);
        draft.seal()
    }

    /// Ends the stream: consumers read what was sealed, then the end. What is not sealed yet never will be.
    pub fn finish(self) {
        self.store.finish();
    }

    fn check(&self, len: usize) -> Result<()> {
        match len <= self.max_object {
            true => Ok(()),
            false => Err(Error::TooLong { edge: self.edge.clone(), len, max: self.max_object }),
        }
    }
}
