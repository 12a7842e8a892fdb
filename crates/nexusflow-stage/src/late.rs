//! What other replicas have left unread: asked for at the end of an edge that distributes.
//!
//! A question stays open until all other replicas have read their share, or left. So it is asked once and its answer
//! looked for; what else is to be asked over the same socket comes after it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nexusflow_sys::socket;

use crate::error::{Error, Result};
use crate::protocol::{FromStage, ToStage};
use crate::ring::{Consumer, Until};
use crate::stage::{Session, unexpected};

/// How long it sleeps for an answer before it looks whether the wait is over: at first, and at most.
const FIRST_SLEEP: Duration = Duration::from_millis(10);
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// An answer, with its descriptors.
pub(crate) type Answer = (ToStage, Vec<OwnedFd>);

/// The questions of a session that are not answered yet: at most one is on its way.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// By edge.
    on_its_way: Option<String>,
    /// Answers that came while something else was asked.
    came: HashMap<String, Answer>,
}

impl Asked {
    /// Takes in the answer that is still to come, so that another question can be asked.
    pub fn settle(&mut self, control: &OwnedFd) -> Result<()> {
        if let Some(edge) = self.on_its_way.take() {
            let answer = crate::stage::answer(control, None)?;
            self.came.insert(edge, answer);
        }
        Ok(())
    }

    /// The answer to this question, which is asked if it was not yet; `None` if it has not come.
    fn ask(&mut self, control: &OwnedFd, edge: &str, ring: u32) -> Result<Option<Answer>> {
        loop {
            if let Some(answer) = self.came.remove(edge) {
                return Ok(Some(answer));
            }
            if self.on_its_way.is_none() {
                crate::stage::ask(control, &FromStage::Attach { edge: edge.to_owned(), ring })?;
                self.on_its_way = Some(edge.to_owned());
            }
            let failed = Error::io("talk to the nexusflow runner");
            if !socket::wait_readable(control, Some(Duration::ZERO)).map_err(failed)? {
                return Ok(None);
            }
            self.settle(control)?;
        }
    }
}

/// Where one input asks.
#[derive(Debug)]
pub(crate) struct Late {
    session: Arc<Mutex<Session>>,
    /// To sleep on, without the session.
    socket: OwnedFd,
    edge: String,
    /// The number of the next ring.
    next: u32,
}

impl Late {
    pub fn new(session: &Arc<Mutex<Session>>, edge: &str, rings: u32) -> Result<Self> {
        let control = &session.lock().unwrap_or_else(PoisonError::into_inner).control;
        let socket = control.try_clone().map_err(Error::io("open an edge"))?;
        Ok(Self { session: session.clone(), socket, edge: edge.to_owned(), next: rings })
    }

    /// The next ring, and its number; `None` if there will be none. Without a time to wait, the answer there is.
    pub fn next(&mut self, until: Option<Until<'_>>) -> Result<Option<(u32, Consumer)>> {
        let mut patience = FIRST_SLEEP;
        loop {
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            let Session { control, asked, .. } = &mut *session;
            let answer = asked.ask(control, &self.edge, self.next)?;
            drop(session);
            match answer {
                Some((ToStage::NoMore, _)) => return Ok(None),
                Some((ToStage::Ring(got), fds)) if got.edge == self.edge && got.ring == self.next => {
                    self.next += 1;
                    return Ok(Some((got.ring, Consumer::from_fds(&self.edge, got.shape, fds)?)));
                }
                Some(_) => return Err(unexpected()),
                None => {}
            }
            until.ok_or(Error::TimedOut)?.check()?;
            let sleep = until.map_or(patience, |until| until.left(patience));
            socket::wait_readable(&self.socket, Some(sleep)).map_err(Error::io("talk to the nexusflow runner"))?;
            patience = (patience * 2).min(LONGEST_SLEEP);
        }
    }
}
