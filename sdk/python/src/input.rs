//! Reading an edge: messages where they lie, kept from release while Python looks at them.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nexusflow_stage::ring::{Bell, Until};
use nexusflow_stage::{Error, Input as Inner, Kept};
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::buffer::{Flat, Place};
use crate::error::{exception, raise};
use crate::home::Lent;
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

pub struct Reading {
    /// Gone when detached.
    inner: Lent<Inner>,
    /// Of the message that came last; the first is 1.
    serial: u64,
    /// Whether that one is still held: not released by asking for another.
    held: bool,
    /// How much is kept for views and batches.
    kept: usize,
    /// The batch of messages that came last.
    batch: Option<Arc<Batch>>,
}

impl Input {
    pub fn new(inner: Inner) -> Self {
        Self::lent(inner.name().to_owned(), Lent::own(inner))
    }

    /// One that lives in a transfer.
    pub fn lent(name: String, inner: Lent<Inner>) -> Self {
        let reading = Mutex::new(Reading { inner, serial: 0, held: false, kept: 0, batch: None });
        Self { name, reading, returned: Mutex::default(), bell: Bell::new() }
    }

    /// For one call from Python. Held while the lock of the interpreter is let go, so others may find it taken.
    pub fn lock(&self) -> PyResult<MutexGuard<'_, Reading>> {
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

    /// Asks for what is next: what came before is given up, and released if there is no view of it.
    fn ask<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, Reading>> {
        let mut reading = self.lock()?;
        reading.inner(py, self)?;
        reading.give_up();
        Ok(reading)
    }

    /// The next message; `None` at the end. No deadline: not waiting at all.
    fn receive(slf: &Bound<'_, Self>, deadline: Option<Deadline>) -> PyResult<Option<Message>> {
        let (py, this) = (slf.py(), slf.get());
        let mut reading = this.ask(py)?;
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
        Ok(Some(Message { input: slf.clone().unbind(), place, serial: reading.serial, views, batch: None }))
    }

    /// Waits until there is a message, or the end: false. No deadline: not waiting at all.
    fn ready(&self, py: Python<'_>, reading: &mut Reading, deadline: Option<Deadline>) -> PyResult<bool> {
        let found = match (reading.inner(py, self)?.try_peek(), deadline) {
            (Ok(found), _) => found.is_some(),
            (Err(Error::TimedOut), Some(deadline)) => {
                wait(py, deadline, &self.bell, reading, Reading::peek, |reading| self.take_returned(reading))?
            }
            (Err(e), _) => return Err(raise(py, &e)),
        };
        self.take_returned(reading);
        Ok(found)
    }

    /// Up to `max` messages, copied; an empty list at the end.
    fn receive_copies<'py>(
        &self,
        py: Python<'py>,
        max: usize,
        deadline: Option<Deadline>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut reading = self.ask(py)?;
        let mut copies = Vec::new();
        if self.ready(py, &mut reading, deadline)? {
            let batch = reading.inner(py, self)?.try_recv_batch(max).map_err(|e| raise(py, &e))?;
            for message in batch.into_iter().flatten() {
                copies.push(PyBytes::new_with(py, message.len(), |to| {
                    message.copy_to(to);
                    Ok(())
                })?);
            }
        }
        PyList::new(py, copies)
    }

    /// Up to `max` messages in place; none at the end.
    fn receive_in_place(slf: &Bound<'_, Self>, max: usize, deadline: Option<Deadline>) -> PyResult<Vec<Message>> {
        let (py, this) = (slf.py(), slf.get());
        let mut reading = this.ask(py)?;
        let mut places = Vec::new();
        let batch = Arc::new(Batch::default());
        if this.ready(py, &mut reading, deadline)? {
            let mut kept: Vec<Kept> = Vec::new();
            while places.len() < max.max(1) {
                let inner = reading.inner(py, this)?;
                match inner.try_recv() {
                    Ok(Some(message)) => places.push(Place::message(message)),
                    Ok(None) | Err(Error::TimedOut) => break,
                    Err(e) => return Err(raise(py, &e)),
                }
                // The first of each producer, if it keeps what came after it; copies each by itself.
                let keeps = |k: &Kept, again: &Kept| k.ring() == again.ring() && k.keeps_what_follows();
                match inner.keep() {
                    Some(again) if again.keeps_what_follows() && kept.iter().any(|k| keeps(k, &again)) => {
                        inner.let_go(again);
                    }
                    first => kept.extend(first),
                }
            }
            reading.kept += kept.len();
            *batch.kept() = BatchViews { kept, views: 0, given_up: false };
            reading.batch = Some(batch.clone());
        }
        let message = |place| Message {
            input: slf.clone().unbind(),
            place,
            serial: 0,
            views: Mutex::default(),
            batch: Some(batch.clone()),
        };
        Ok(places.into_iter().map(message).collect())
    }
}

/// Messages that came together and in place: all stay until the next is asked for and no view of any is left.
#[derive(Default)]
struct Batch(Mutex<BatchViews>);

#[derive(Default)]
struct BatchViews {
    kept: Vec<Kept>,
    views: usize,
    given_up: bool,
}

impl Batch {
    fn kept(&self) -> MutexGuard<'_, BatchViews> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // never held while the interpreter's is let go
    }

    fn give_up(&self, reading: &mut Reading) {
        let mut batch = self.kept();
        batch.given_up = true;
        if batch.views == 0 {
            batch.kept.drain(..).for_each(|kept| reading.let_go(kept));
        }
    }

    fn is_there(&self) -> bool {
        let batch = self.kept();
        batch.views > 0 || !batch.given_up
    }

    fn unview(&self, input: &Input) {
        let mut batch = self.kept();
        batch.views = batch.views.saturating_sub(1);
        if batch.views == 0 && batch.given_up {
            batch.kept.drain(..).for_each(|kept| input.give_back(kept));
        }
    }
}

impl Reading {
    fn inner(&mut self, py: Python<'_>, input: &Input) -> PyResult<&mut Inner> {
        self.inner
            .get()
            .ok_or_else(|| exception(py, "Finished", format!("edge `{}` was detached: it is read no more", input.name)))
    }

    fn next(&mut self, until: Until<'_>) -> nexusflow_stage::Result<Option<Place>> {
        self.inner.get().map_or(Ok(None), |inner| Ok(inner.recv_until(until)?.map(Place::message)))
    }

    fn peek(&mut self, until: Until<'_>) -> nexusflow_stage::Result<bool> {
        self.inner.get().map_or(Ok(false), |inner| Ok(inner.peek_until(until)?.is_some()))
    }

    fn let_go(&mut self, kept: Kept) {
        self.kept -= 1;
        if let Some(inner) = self.inner.get() {
            inner.let_go(kept);
        }
    }

    /// What came last is done with, as far as there is no view of it.
    pub fn give_up(&mut self) {
        self.held = false;
        if let Some(batch) = self.batch.take() {
            batch.give_up(self);
        }
    }

    pub fn is_viewed(&self) -> bool {
        self.kept > 0
    }

    pub fn lend(&mut self, inner: Lent<Inner>) {
        self.inner = inner;
    }

    pub fn is_gone(&mut self) {
        self.held = false; // its memory has gone too
        self.inner.is_gone();
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

    /// The next messages, copied, `max` at most: it waits for the first as `recv` does. An empty list is the end. All are
    /// released when the next is asked for.
    #[pyo3(signature = (max, timeout=None))]
    fn recv_batch<'py>(&self, py: Python<'py>, max: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.receive_copies(py, max, Some(Deadline::after(timeout)?))
    }

    /// The next messages, copied, `max` at most, if there are any now, else `TimedOut`. An empty list is the end.
    fn try_recv_batch<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Bound<'py, PyList>> {
        self.receive_copies(py, max, None)
    }

    /// The next messages in place, `max` at most: it waits for the first as `recv` does. An empty list is the end. All
    /// are released together: when the next is asked for and no view of any is left.
    #[pyo3(signature = (max, timeout=None))]
    fn recv_views(slf: &Bound<'_, Self>, max: usize, timeout: Option<f64>) -> PyResult<Vec<Message>> {
        Self::receive_in_place(slf, max, Some(Deadline::after(timeout)?))
    }

    /// Waits until `recv` would not wait, `timeout` seconds at most (then `TimedOut`). False at the end. What came before
    /// is released.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mut reading = self.ask(py)?;
        self.ready(py, &mut reading, Some(Deadline::after(timeout)?))
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Message>> {
        Self::receive(slf, Some(Deadline::after(None)?))
    }

    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("nexusflow._aio")?.call_method1("iterate", (slf,))
    }

    /// As `recv`, for asyncio.
    fn recv_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("nexusflow._aio")?.call_method1("recv", (slf,))
    }

    /// As `recv_batch`, for asyncio.
    fn recv_batch_async<'py>(slf: &Bound<'py, Self>, max: usize) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("nexusflow._aio")?.call_method1("recv_batch", (slf, max))
    }

    /// Gives back the message that came last, for who will not ask for another soon.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let mut reading = self.ask(py)?;
        reading.inner(py, self)?.release();
        Ok(())
    }

    /// Reads no more: the producers go on without this stage, or are told that nobody reads.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        let mut reading = self.ask(py)?;
        if reading.kept > 0 {
            return Err(PyBufferError::new_err(format!("views of messages of edge `{}` are alive", self.name)));
        }
        if reading.inner.is_of_transfer() {
            return Err(PyRuntimeError::new_err("this edge belongs to a transfer"));
        }
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
    /// What it came with, if it did not come alone.
    batch: Option<Arc<Batch>>,
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
        if let Some(batch) = &self.batch {
            return if batch.is_there() { look(&self.place) } else { Err(Self::released()) };
        }
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
        if let Some(batch) = &this.batch {
            if !batch.is_there() {
                return Err(Self::released());
            }
            // SAFETY: Python's word; the batch is kept as long as it has views.
            unsafe { this.place.show(view, flags, slf.as_any(), false)? };
            batch.kept().views += 1;
            return Ok(());
        }
        let mut views = this.views();
        if views.kept.is_none() {
            let mut reading = this.input.get().reading.try_lock().map_err(|_| Self::released())?;
            if !reading.holds(this.serial) {
                return Err(Self::released());
            }
            let kept = reading.inner.get().and_then(Inner::keep).ok_or_else(Self::released)?;
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
        if let Some(batch) = &self.batch {
            return batch.unview(self.input.get());
        }
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
