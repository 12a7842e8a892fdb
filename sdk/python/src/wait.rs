//! Waiting without holding up the interpreter: its lock is let go meanwhile, and Ctrl-C is looked for.

use std::time::{Duration, Instant};

use nexusflow_stage::Error;
use nexusflow_stage::ring::{Bell, Until};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::raise;

/// How long a signal (Ctrl-C) may go unheard. Python's handlers run only where the interpreter is asked to run them.
const SLICE: Duration = Duration::from_millis(100);

/// When a wait is over: never, or at this time.
#[derive(Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// From seconds, as Python gives them.
    pub fn after(timeout: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = timeout else { return Ok(Self(None)) };
        match seconds >= 0.0 {
            true => {
                let after = Duration::try_from_secs_f64(seconds).ok(); // too long to say: for ever
                Ok(Self(after.and_then(|after| Instant::now().checked_add(after))))
            }
            false => Err(PyValueError::new_err("the timeout must be None or seconds from 0 on")),
        }
    }

    fn slice(self, bell: &Bell) -> Until<'_> {
        let slice = Instant::now() + SLICE;
        Until::deadline(self.0.map_or(slice, |end| end.min(slice))).or_bell(bell)
    }

    fn has_passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// Tries until there is something, without the lock of the interpreter. `called` is what to do when the bell rings.
pub fn wait<S: Send, T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    bell: &Bell,
    state: &mut S,
    attempt: impl Fn(&mut S, Until<'_>) -> Result<T, Error> + Send + Sync,
    called: impl Fn(&mut S),
) -> PyResult<T> {
    loop {
        match py.detach(|| attempt(state, deadline.slice(bell))) {
            Ok(found) => return Ok(found),
            Err(Error::TimedOut) if !deadline.has_passed() => {}
            Err(Error::Interrupted) => {
                bell.silence();
                called(state);
            }
            Err(e) => return Err(raise(py, &e)),
        }
        py.check_signals()?;
    }
}

/// An input or output is used by one thread at a time.
pub fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread is using this edge: give each thread edges of its own, or take turns")
}
