//! A stage's way to the runner, which keeps the memory of sealed objects.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use super::Keeper;
use crate::error::Result;
use crate::protocol::{FromStage, ToStage};
use crate::stage::{Session, lock, unexpected};

/// Asks the runner to keep and to hand out the objects of one store.
#[derive(Debug)]
pub(crate) struct Link {
    session: Arc<Mutex<Session>>,
    edge: String,
    /// Which of the edge's stores this stage has.
    store: u32,
}

impl Link {
    pub(crate) fn new(session: Arc<Mutex<Session>>, edge: &str, store: u32) -> Self {
        Self { session, edge: edge.to_owned(), store }
    }
}

impl Keeper for Link {
    fn publish(&self, slot: u32, serial: u64, len: u64, object: OwnedFd) -> Result<()> {
        let publish = FromStage::Publish { edge: self.edge.clone(), slot, serial, len };
        match lock(&self.session).ask(&publish, Some(object.as_fd()))? {
            (ToStage::Published, _) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn sweep(&self) -> Result<()> {
        match lock(&self.session).ask(&FromStage::Sweep { edge: self.edge.clone() }, None)? {
            (ToStage::Published, _) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn take(&self, slot: u32, serial: u64) -> Result<OwnedFd> {
        let take = FromStage::Take { edge: self.edge.clone(), store: self.store, slot, serial };
        let (answer, mut fds) = lock(&self.session).ask(&take, None)?;
        match (answer, fds.pop()) {
            (ToStage::Object, Some(object)) if fds.is_empty() => Ok(object),
            _ => Err(unexpected()),
        }
    }
}
