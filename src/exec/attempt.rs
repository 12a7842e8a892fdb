//! One attempt of a task as the loop sees it: its process, the threads that serve its streams, its socket.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nexusflow_sys::signal::{SIGCONT, SIGKILL};

use super::adapter::{Adapter, ProcessEnd};
use super::control::Control;
use super::report::Ran;
use super::tree::{self, Mark};
use super::wiring::Half;
use crate::record::Usage;
use crate::run::Exit;

/// One process of a task, from the request to make it until its end has been told.
pub(super) struct Attempt {
    pub number: u32,
    pub begun: Instant,
    /// Zero until it runs.
    pub pid: u32,
    pub pidfd: Option<OwnedFd>,
    pub log: Option<String>,
    /// Ends of pipes that wait for its process; then the threads that serve them.
    pub halves: Vec<Half>,
    pub adapters: Vec<Adapter>,
    pub control: Option<Control>,
    pub exit: Option<(Exit, Usage)>,
    /// The same for its adapters.
    pub end: Option<ProcessEnd>,
    pub told: Told,
    /// `Ended` has been said, after this long.
    pub over: Option<Duration>,
    pub trouble: Option<String>,
}

/// What a process was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Stop,
    Kill,
}

impl Attempt {
    pub fn new(number: u32) -> Self {
        Self {
            number,
            begun: Instant::now(),
            pid: 0,
            pidfd: None,
            log: None,
            halves: Vec::new(),
            adapters: Vec::new(),
            control: None,
            exit: None,
            end: None,
            told: Told::Nothing,
            over: None,
            trouble: None,
        }
    }

    /// What the record is to know of it.
    pub fn ran(self, restart_in: Option<Duration>) -> Ran {
        let ran = self.pid != 0;
        Ran {
            // A replica that never became a process has had no attempt.
            attempt: if ran || self.number > 1 { self.number } else { 0 },
            duration: if ran { self.over.unwrap_or_else(|| self.begun.elapsed()) } else { Duration::ZERO },
            exit: self.exit.map(|(exit, _)| exit),
            usage: self.exit.map(|(_, usage)| usage),
            log: self.log,
            restart_in,
            trouble: self.trouble,
        }
    }

    /// To its whole tree; if it has ended, what it wrote may still be on its way to someone who does not take it.
    pub fn signal(&mut self, mark: Mark, signal: i32) {
        let kill = signal == SIGKILL;
        self.told = if kill || self.told == Told::Kill { Told::Kill } else { Told::Stop };
        match &self.pidfd {
            Some(pidfd) => {
                tree::signal_tree(self.pid, pidfd.as_fd(), mark, signal);
                if !kill {
                    tree::signal_tree(self.pid, pidfd.as_fd(), mark, SIGCONT); // a stopped process could not obey
                }
            }
            None => {
                self.halves.clear(); // its edges never opened, and will not
                if kill {
                    self.adapters.iter().for_each(Adapter::stop);
                }
            }
        }
    }
}
