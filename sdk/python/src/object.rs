//! Objects: made in place, sealed, handed over; received, looked at, and released in any order.

use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nexusflow_stage::ring::{Bell, Until};
use nexusflow_stage::{
    Draft as InnerDraft, Error, Object as InnerObject, ObjectInput as InnerInput, ObjectOutput as InnerOutput,
};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{Flat, Place};
use crate::error::{exception, raise};
use crate::wait::{Deadline, busy, wait};

/// Objects that nothing refers to any more: released when the next one is asked for. Those of a process that ends before
/// are given to the next.
#[derive(Default)]
struct Dropped(Mutex<Vec<InnerObject>>);

impl Dropped {
    fn list(&self) -> MutexGuard<'_, Vec<InnerObject>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.list().drain(..).for_each(InnerObject::keep);
    }
}

/// An object edge that this stage reads. Iterate over it, or call `recv`.
#[pyclass(frozen, module = "nexusflow")]
pub struct ObjectInput {
    name: String,
    inner: Mutex<Option<InnerInput>>,
    dropped: Arc<Dropped>,
}

impl ObjectInput {
    pub fn new(inner: InnerInput) -> Self {
        Self { name: inner.name().to_owned(), inner: Mutex::new(Some(inner)), dropped: Arc::default() }
    }

    fn receive(&self, py: Python<'_>, deadline: Option<Deadline>) -> PyResult<Option<Object>> {
        let mut guard = self.inner.try_lock().map_err(|_| busy())?;
        let inner = guard.as_mut().ok_or_else(|| {
            exception(py, "Finished", format!("edge `{}` was detached: it is read no more", self.name))
        })?;
        self.dropped.list().clear();
        let found = match (inner.try_recv(), deadline) {
            (Err(Error::TimedOut), Some(deadline)) => {
                let mut state = inner;
                let next = |inner: &mut &mut InnerInput, until: Until<'_>| inner.recv_until(until);
                wait(py, deadline, &Bell::new(), &mut state, next, |_| {})?
            }
            (found, _) => found.map_err(|e| raise(py, &e))?,
        };
        Ok(found.map(|object| {
            // SAFETY: only the address and the length are used; the object is there as long as there are views.
            let place = Place::read(unsafe { object.as_slice() });
            let number = object.number();
            Object {
                place,
                number,
                held: Mutex::new(Held { object: Some(object), views: 0 }),
                dropped: self.dropped.clone(),
            }
        }))
    }
}

#[pymethods]
impl ObjectInput {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next object, `timeout` seconds at most (then `TimedOut`); None when all producers have ended.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Object>> {
        self.receive(py, Some(Deadline::after(timeout)?))
    }

    /// The next object if there is one now, else `TimedOut`; None when all producers have ended.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Object>> {
        self.receive(py, None)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Object>> {
        self.receive(py, Some(Deadline::after(None)?))
    }

    /// Reads no more. What objects that are held show may change from now on.
    fn detach(&self) -> PyResult<()> {
        if let Some(inner) = self.inner.try_lock().map_err(|_| busy())?.take() {
            inner.detach();
        }
        Ok(())
    }
}

/// An object where it lies in shared memory, read-only: `memoryview(object)`, `numpy.frombuffer(object, …)`.
#[pyclass(frozen, module = "nexusflow")]
pub struct Object {
    place: Place,
    number: u64,
    held: Mutex<Held>,
    dropped: Arc<Dropped>,
}

struct Held {
    /// `None` when released.
    object: Option<InnerObject>,
    views: usize,
}

impl Object {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(object) = self.held().object.take() {
            self.dropped.list().push(object);
        }
    }
}

#[pymethods]
impl Object {
    fn __len__(&self) -> usize {
        self.place.len
    }

    /// Which of its producer's objects it is, from 0.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let held = self.held();
        held.object.as_ref().ok_or_else(released)?;
        // SAFETY: it is held.
        unsafe { self.place.copied(py) }
    }

    /// Done with it: its memory can be used again. Objects are released in any order.
    fn release(&self) -> PyResult<()> {
        let mut held = self.held();
        if held.views > 0 {
            return Err(PyBufferError::new_err("views of this object are alive"));
        }
        drop(held.object.take());
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Releases it, unless there was an exception: then it is not done with.
    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        if kind.is_none() {
            self.release()?;
        }
        Ok(false)
    }

    /// # Safety
    /// Python calls it, with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut held = this.held();
        held.object.as_ref().ok_or_else(released)?;
        // SAFETY: Python's word; it is not released while there are views, which also keep `slf`.
        unsafe { this.place.show(view, flags, slf.as_any(), false)? };
        held.views += 1;
        Ok(())
    }

    /// # Safety
    /// Python calls it, once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        let mut held = self.held();
        held.views = held.views.saturating_sub(1);
    }
}

fn released() -> PyErr {
    PyBufferError::new_err("this object was released")
}

/// An object edge that this stage writes.
#[pyclass(frozen, module = "nexusflow")]
pub struct ObjectOutput {
    name: String,
    inner: Mutex<Option<InnerOutput>>,
}

impl ObjectOutput {
    pub fn new(inner: InnerOutput) -> Self {
        Self { name: inner.name().to_owned(), inner: Mutex::new(Some(inner)) }
    }

    fn draft(&self, py: Python<'_>, len: usize, timeout: Option<f64>) -> PyResult<InnerDraft> {
        let deadline = Deadline::after(timeout)?;
        let guard = self.inner.try_lock().map_err(|_| busy())?;
        let inner = guard.as_ref().ok_or_else(|| {
            exception(py, "Finished", format!("edge `{}` was finished: nothing can be sent after the end", self.name))
        })?;
        match inner.try_create(len) {
            Err(Error::TimedOut) => {
                let mut state = inner;
                let create = |inner: &mut &InnerOutput, until: Until<'_>| inner.create_until(len, until);
                wait(py, deadline, &Bell::new(), &mut state, create, |_| {})
            }
            made => made.map_err(|e| raise(py, &e)),
        }
    }
}

#[pymethods]
impl ObjectOutput {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Room for an object of `len` bytes, to be filled in place: `with out.create(n) as draft`. It waits for room,
    /// `timeout` seconds at most (then `TimedOut`).
    #[pyo3(signature = (len, timeout=None))]
    fn create(&self, py: Python<'_>, len: usize, timeout: Option<f64>) -> PyResult<Draft> {
        let mut draft = self.draft(py, len, timeout)?;
        let place = Place::of(draft.as_mut_slice());
        Ok(Draft { place, making: Mutex::new(Making { draft: Some(draft), views: 0, closed: false }) })
    }

    /// Makes an object of these bytes and hands it over. Its number.
    #[pyo3(signature = (data, timeout=None))]
    fn send(&self, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<u64> {
        let (py, data) = (data.py(), Flat::of(data)?);
        let mut draft = self.draft(py, data.len(), timeout)?;
        // SAFETY: a new draft of that length, which nobody else has seen.
        unsafe { Place::of(draft.as_mut_slice()).fill(0, &data) };
        draft.seal().map_err(|e| raise(py, &e))
    }

    /// Ends the stream.
    fn finish(&self) -> PyResult<()> {
        if let Some(inner) = self.inner.try_lock().map_err(|_| busy())?.take() {
            inner.finish();
        }
        Ok(())
    }
}

/// Room for one object. As a context manager it seals the object at the end and hands it over; after an exception it was
/// never there.
#[pyclass(frozen, module = "nexusflow")]
pub struct Draft {
    place: Place,
    making: Mutex<Making>,
}

struct Making {
    draft: Option<InnerDraft>,
    views: usize,
    /// Sealed, or given up: no view of it is handed out any more.
    closed: bool,
}

impl Draft {
    fn making(&self) -> MutexGuard<'_, Making> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        let mut making = self.making();
        making.closed = true;
        if making.views == 0 {
            making.draft = None;
        }
    }
}

#[pymethods]
impl Draft {
    fn __len__(&self) -> usize {
        self.place.len
    }

    /// Hands it over to the consumers. Its number.
    fn seal(&self, py: Python<'_>) -> PyResult<u64> {
        let mut making = self.making();
        if making.views > 0 {
            let words =
                "a view of the object is still alive, and could write it after it is sealed: `del` it, or release() it";
            return Err(PyBufferError::new_err(words));
        }
        match making.draft.take() {
            Some(draft) if !making.closed => {
                making.closed = true;
                draft.seal().map_err(|e| raise(py, &e))
            }
            _ => Err(PyValueError::new_err("this object was sealed or given up")),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let open = !self.making().closed;
        let sealed = if kind.is_none() && open { self.seal(kind.py()).map(drop) } else { Ok(()) };
        self.leave();
        sealed.map(|()| false)
    }

    fn __setitem__(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let view = pyo3::types::PyMemoryView::from(slf.as_any())?;
        let set = view.set_item(key, value);
        view.call_method0("release")?;
        set
    }

    /// # Safety
    /// Python calls it, with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut making = this.making();
        if making.closed {
            return Err(PyBufferError::new_err("this object was sealed or given up"));
        }
        // SAFETY: Python's word; the draft is neither sealed nor given back while there are views, which also keep `slf`.
        unsafe { this.place.show(view, flags, slf.as_any(), true)? };
        making.views += 1;
        Ok(())
    }

    /// # Safety
    /// Python calls it, once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        let mut making = self.making();
        making.views = making.views.saturating_sub(1);
        if making.views == 0 && making.closed {
            making.draft = None;
        }
    }
}
