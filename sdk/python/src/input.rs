//! Reading an edge: messages where they lie, kept from release while Python looks at them.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nexusflow_stage::ring::{Bell, Until};
use nexusflow_stage::{Error, Input as Inner, Kept};
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{Flat, Place};
use crate::error::{exception, raise};
use crate::wait::{Deadline, busy, wait};

/// An edge that this stage reads. Iterate over it, or call `recv`.
///
/// A message is released when the next one is asked for, or, if a view of it lives longer, when the last view is gone.
#[pyclass(frozen, module = "nexusflow")]
pub struct Input {
    name: String,
    reading: Mutex<Reading>,
    /// What views have given back while another thread was waiting for a message; the bell tells it.
    returned: Mutex<Vec<Kept>>,
    bell: Bell,
}

struct Reading {
    /// `None` when detached.
    inner: Option<Inner>,
    /// Of the message that came last; the first is 1.
    serial: u64,
    /// Whether that one is still held: not released by asking for another.
    held: bool,
    /// How many messages are kept for views.
    kept: usize,
}

impl Input {
    pub fn new(inner: Inner) -> Self {
        let name = inner.name().to_owned();
        let reading = Mutex::new(Reading { inner: Some(inner), serial: 0, held: false, kept: 0 });
        Self { name, reading, returned: Mutex::default(), bell: Bell::new() }
    }

    /// For one call from Python. Held while the lock of the interpreter is let go, so others may find it taken.
    fn lock(&self) -> PyResult<MutexGuard<'_, Reading>> {
        let mut reading = self.reading.try_lock().map_err(|_| busy())?;
        self.take_returned(&mut reading);
        Ok(reading)
    }

    fn take_returned(&self, reading: &mut Reading) {
        for kept in std::mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner)) {
            reading.let_go(kept);
        }
    }

    /// A view is gone. With the lock of the interpreter: whoever waits is without it, and hears the bell.
    fn give_back(&self, kept: Kept) {
        match self.reading.try_lock() {
            Ok(mut reading) => reading.let_go(kept),
            Err(_) => {
                self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                self.bell.ring();
            }
        }
    }

    /// The next message; `None` at the end. No deadline: not waiting at all.
    fn receive(slf: &Bound<'_, Self>, deadline: Option<Deadline>) -> PyResult<Option<Message>> {
        let (py, this) = (slf.py(), slf.get());
        let mut reading = this.lock()?;
        reading.held = false;
        let found = match (reading.inner(py, this)?.try_recv(), deadline) {
            (Ok(found), _) => found.map(Place::message),
            (Err(Error::TimedOut), Some(deadline)) => {
                wait(py, deadline, &this.bell, &mut *reading, Reading::next, |reading| this.take_returned(reading))?
            }
            (Err(e), _) => return Err(raise(py, &e)),
        };
        this.take_returned(&mut reading);
        let Some(place) = found else { return Ok(None) };
        reading.held = true;
        reading.serial += 1;
        let views = Mutex::default();
        Ok(Some(Message { input: slf.clone().unbind(), place, serial: reading.serial, views }))
    }
}

impl Reading {
    fn inner(&mut self, py: Python<'_>, input: &Input) -> PyResult<&mut Inner> {
        self.inner
            .as_mut()
            .ok_or_else(|| exception(py, "Finished", format!("edge `{}` was detached: it is read no more", input.name)))
    }

    fn next(&mut self, until: Until<'_>) -> nexusflow_stage::Result<Option<Place>> {
        self.inner.as_mut().map_or(Ok(None), |inner| Ok(inner.recv_until(until)?.map(Place::message)))
    }

    fn let_go(&mut self, kept: Kept) {
        self.kept -= 1;
        if let Some(inner) = &mut self.inner {
            inner.let_go(kept);
        }
    }

    fn holds(&self, serial: u64) -> bool {
        self.held && self.serial == serial
    }
}

#[pymethods]
impl Input {
    /// The edge's name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next message, `timeout` seconds at most (then `TimedOut`); None when all producers have ended.
    #[pyo3(signature = (timeout=None))]
    fn recv(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Message>> {
        Self::receive(slf, Some(Deadline::after(timeout)?))
    }

    /// The next message if there is one now, else `TimedOut`; None when all producers have ended.
    fn try_recv(slf: &Bound<'_, Self>) -> PyResult<Option<Message>> {
        Self::receive(slf, None)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Message>> {
        Self::receive(slf, Some(Deadline::after(None)?))
    }

    /// Gives back the message that came last, for who will not ask for another soon.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let mut reading = self.lock()?;
        reading.held = false;
        reading.inner(py, self)?.release();
        Ok(())
    }

    /// Reads no more: the producers go on without this stage, or are told that nobody reads.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        let mut reading = self.lock()?;
        reading.inner(py, self)?;
        if reading.kept > 0 {
            let words = format!("views of {} messages of edge `{}` are alive", reading.kept, self.name);
            return Err(PyBufferError::new_err(words));
        }
        reading.held = false;
        if let Some(inner) = reading.inner.take() {
            inner.detach();
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<nexusflow.Input {}>", self.name)
    }
}

/// A message where it lies in the edge's memory, read-only: `bytes(message)` copies it, `memoryview(message)` and
/// `numpy.frombuffer(message, …)` look at it in place.
#[pyclass(frozen, module = "nexusflow")]
pub struct Message {
    input: Py<Input>,
    place: Place,
    serial: u64,
    views: Mutex<Views>,
}

#[derive(Default)]
struct Views {
    count: usize,
    /// While there are any.
    kept: Option<Kept>,
}

impl Message {
    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner) // never held while the interpreter's is let go
    }

    fn released() -> PyErr {
        PyBufferError::new_err("this message was released when the next one was asked for: copy or view it before that")
    }

    /// What `look` makes of the bytes, if they are still there.
    fn look<T>(&self, look: impl FnOnce(&Place) -> PyResult<T>) -> PyResult<T> {
        if self.views().kept.is_some() {
            return look(&self.place);
        }
        // Whoever has it locked is about to ask for another message, or has it already.
        let input = self.input.get().reading.try_lock().map_err(|_| Self::released())?;
        match input.holds(self.serial) {
            true => look(&self.place),
            false => Err(Self::released()),
        }
    }
}

#[pymethods]
impl Message {
    fn __len__(&self) -> usize {
        self.place.len
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        // SAFETY: `look` looks only while the message is not released.
        self.look(|place| unsafe { place.copied(py) })
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let (wanted, other) = match (op, Flat::of(other)) {
            (CompareOp::Eq, Ok(other)) => (true, other),
            (CompareOp::Ne, Ok(other)) => (false, other),
            _ => return Ok(py.NotImplemented()),
        };
        let mine = Flat::of(slf.as_any())?;
        // SAFETY: no Python code runs before both slices are done with; the message is viewed, hence not released.
        let equal = unsafe { mine.as_slice() == other.as_slice() };
        Ok((equal == wanted).into_pyobject(py)?.to_owned().into_any().unbind())
    }

    /// # Safety
    /// Python calls it, with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut views = this.views();
        if views.kept.is_none() {
            let mut reading = this.input.get().reading.try_lock().map_err(|_| Self::released())?;
            if !reading.holds(this.serial) {
                return Err(Self::released());
            }
            let kept = reading.inner.as_mut().and_then(Inner::keep).ok_or_else(Self::released)?;
            reading.kept += 1;
            views.kept = Some(kept);
        }
        // SAFETY: Python's word; kept, the message stays until `__releasebuffer__` has heard of every view.
        let shown = unsafe { this.place.show(view, flags, slf.as_any(), false) };
        match shown {
            Ok(()) => views.count += 1,
            Err(_) if views.count == 0 => {
                if let Some(kept) = views.kept.take() {
                    this.input.get().give_back(kept);
                }
            }
            Err(_) => {}
        }
        shown
    }

    /// # Safety
    /// Python calls it, once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        let mut views = self.views();
        views.count = views.count.saturating_sub(1);
        if views.count == 0
            && let Some(kept) = views.kept.take()
        {
            self.input.get().give_back(kept);
        }
    }

    fn __repr__(&self) -> String {
        format!("<nexusflow.Message of {} bytes>", self.place.len)
    }

    fn __hash__(&self) -> PyResult<isize> {
        Err(PyValueError::new_err("a message cannot be hashed: it is gone when it is released; hash its bytes"))
    }
}
