//! Writing an edge: copied from Python's memory, or filled in place through a room that nothing sees any more when it
//! is sent.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nexusflow_stage::ring::{Bell, Until};
use nexusflow_stage::{Error, Key, Output as Inner, Reservation};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyMemoryView, PySlice, PyString};

use crate::buffer::{Flat, Place};
use crate::error::{exception, raise};
use crate::home::Lent;
use crate::wait::{Deadline, busy, wait};

/// An edge that this stage writes.
///
/// The stream ends when `finish` is called or the process exits with 0. When nobody reads any more: `Closed`.
#[pyclass(frozen, module = "nexusflow")]
pub struct Output {
    name: String,
    max_message: usize,
    writing: Mutex<Writing>,
}

pub struct Writing {
    /// What Python fills at the moment. It borrows from `inner`: dropped first, and before `inner` is used.
    room: Option<Reservation<'static>>,
    /// Which room that is; the first is 1.
    serial: u64,
    /// Views of the last room. While there are any nothing is written: they could write where it lies.
    views: usize,
    /// Gone when finished.
    inner: Lent<Inner>,
}

impl Writing {
    /// The output, when no room is open.
    pub fn inner(&mut self, py: Python<'_>, output: &Output) -> PyResult<&mut Inner> {
        if self.room.is_some() {
            let words = format!("a reservation of edge `{}` is open: commit or leave it first", output.name);
            return Err(PyRuntimeError::new_err(words));
        }
        if self.views > 0 {
            return Err(Room::viewed(output));
        }
        self.inner.get().ok_or_else(|| {
            exception(py, "Finished", format!("edge `{}` was finished: nothing can be sent after the end", output.name))
        })
    }

    pub fn lend(&mut self, inner: Lent<Inner>) {
        self.inner = inner;
    }

    pub fn is_gone(&mut self) {
        self.inner.is_gone();
    }

    /// Waits until there is room; it is then there for who asks next.
    fn wait_room(&mut self, len: usize, key: Option<&OwnKey>, until: Until<'_>) -> nexusflow_stage::Result<()> {
        match (self.inner.get(), key) {
            (None, _) => Ok(()), // who asks next is told
            (Some(inner), None) => inner.reserve_until(len, until).map(drop),
            (Some(inner), Some(key)) => inner.reserve_to_until(key.get(), len, until).map(drop),
        }
    }
}

impl Output {
    pub fn new(inner: Inner) -> Self {
        Self::lent(inner.name().to_owned(), inner.max_message(), Lent::own(inner))
    }

    /// One that lives in a transfer.
    pub fn lent(name: String, max_message: usize, inner: Lent<Inner>) -> Self {
        Self { name, max_message, writing: Mutex::new(Writing { room: None, serial: 0, views: 0, inner }) }
    }

    /// For one call from Python. Held while the lock of the interpreter is let go, so others may find it taken.
    pub fn lock(&self) -> PyResult<MutexGuard<'_, Writing>> {
        self.writing.try_lock().map_err(|_| busy())
    }

    /// Room for `len` bytes. No deadline: not waiting at all. The room is good until `writing` is used again.
    fn room(
        &self,
        py: Python<'_>,
        writing: &mut Writing,
        (len, key): (usize, Option<&OwnKey>),
        deadline: Option<Deadline>,
    ) -> PyResult<Reservation<'static>> {
        loop {
            writing.inner(py, self)?;
            // SAFETY: the room is all that borrows it: dropped here, or before `writing.inner` is used again.
            let Some(inner) = (unsafe { writing.inner.get_longer() }) else { continue };
            let room = match key {
                None => inner.try_reserve(len),
                Some(key) => inner.reserve_to_until(key.get(), len, Until::timeout(Duration::ZERO)),
            };
            match (room, deadline) {
                (Ok(room), _) => return Ok(room),
                (Err(Error::TimedOut), Some(deadline)) => {
                    let reserve = |writing: &mut Writing, until: Until<'_>| writing.wait_room(len, key, until);
                    wait(py, deadline, &Bell::new(), writing, reserve, |_| {})?;
                }
                (Err(e), _) => return Err(raise(py, &e)),
            }
        }
    }

    fn send_in(&self, data: &Bound<'_, PyAny>, key: Option<&OwnKey>, deadline: Option<Deadline>) -> PyResult<()> {
        let (py, data) = (data.py(), Flat::of(data)?);
        let mut writing = self.lock()?;
        let mut room = self.room(py, &mut writing, (data.len(), key), deadline)?;
        // SAFETY: a new room of that length, which nobody else has seen.
        unsafe { Place::of(room.as_mut_slice()).fill(0, &data) };
        room.commit();
        Ok(())
    }

    /// Sends a batch. Where it has to wait, it waits for room for the next one, then goes on with as many as fit.
    fn send_all(&self, py: Python<'_>, messages: &[Flat<'_>], deadline: Deadline) -> PyResult<()> {
        let mut writing = self.lock()?;
        let mut sent = 0;
        while sent < messages.len() {
            let inner = writing.inner(py, self)?;
            let mut taken = 0;
            // SAFETY: no Python code runs before all are copied.
            let left = messages[sent..].iter().map(|m| unsafe { m.as_slice() }).inspect(|_| taken += 1);
            match inner.send_batch_until(left, Until::timeout(Duration::ZERO)) {
                Ok(()) => return Ok(()),
                Err(Error::TimedOut) => {
                    sent += taken - 1; // for the last one there was no room
                    let len = messages[sent].len();
                    let reserve = |writing: &mut Writing, until: Until<'_>| writing.wait_room(len, None, until);
                    wait(py, deadline, &Bell::new(), &mut *writing, reserve, |_| {})?;
                }
                Err(e) => return Err(raise(py, &e)),
            }
        }
        Ok(())
    }

    fn reserve_in(
        slf: &Bound<'_, Self>,
        len: usize,
        key: Option<&OwnKey>,
        deadline: Option<Deadline>,
    ) -> PyResult<Room> {
        let this = slf.get();
        let mut writing = this.lock()?;
        let mut room = this.room(slf.py(), &mut writing, (len, key), deadline)?;
        let place = Place::of(room.as_mut_slice());
        writing.room = Some(room);
        writing.serial += 1;
        Ok(Room { output: slf.clone().unbind(), place, serial: writing.serial })
    }
}

/// The key of a message on edges that distribute `by: key`: a number below 2^64, a text, or bytes.
enum OwnKey {
    Number(u64),
    Bytes(Vec<u8>),
}

impl OwnKey {
    fn get(&self) -> Key<'_> {
        match self {
            Self::Number(n) => Key::Number(*n),
            Self::Bytes(bytes) => Key::Bytes(bytes),
        }
    }
}

impl FromPyObject<'_, '_> for OwnKey {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self::Bytes(text.to_str()?.as_bytes().to_vec()));
        }
        match object.extract() {
            Ok(number) => Ok(Self::Number(number)),
            Err(e) if object.is_instance_of::<PyInt>() => Err(e),
            Err(_) => {
                let bytes = Flat::of(&object)?;
                // SAFETY: copied at once.
                Ok(Self::Bytes(unsafe { bytes.as_slice() }.to_vec()))
            }
        }
    }
}

#[pymethods]
impl Output {
    /// The edge's name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the longest message that the edge takes.
    #[getter]
    fn max_message(&self) -> usize {
        self.max_message
    }

    /// Sends one message: anything with bytes in one piece. It waits for room, `timeout` seconds at most (then `TimedOut`).
    #[pyo3(signature = (data, timeout=None, *, key=None))]
    fn send(&self, data: &Bound<'_, PyAny>, timeout: Option<f64>, key: Option<OwnKey>) -> PyResult<()> {
        self.send_in(data, key.as_ref(), Some(Deadline::after(timeout)?))
    }

    /// Sends one message if there is room now, else `TimedOut`.
    #[pyo3(signature = (data, *, key=None))]
    fn try_send(&self, data: &Bound<'_, PyAny>, key: Option<OwnKey>) -> PyResult<()> {
        self.send_in(data, key.as_ref(), None)
    }

    /// Sends messages; those that fit become visible together, which costs less. On an error those before are sent.
    #[pyo3(signature = (messages, timeout=None))]
    fn send_batch(&self, messages: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let all = messages.try_iter()?.map(|message| Flat::of(&message?)).collect::<PyResult<Vec<_>>>()?;
        self.send_all(messages.py(), &all, Deadline::after(timeout)?)
    }

    /// Room for a message of at most `len` bytes in the edge itself, to be filled in place: `with out.reserve(n) as room`.
    #[pyo3(signature = (len, timeout=None, *, key=None))]
    fn reserve(slf: &Bound<'_, Self>, len: usize, timeout: Option<f64>, key: Option<OwnKey>) -> PyResult<Room> {
        Self::reserve_in(slf, len, key.as_ref(), Some(Deadline::after(timeout)?))
    }

    /// Room for a message if there is now, else `TimedOut`.
    #[pyo3(signature = (len, *, key=None))]
    fn try_reserve(slf: &Bound<'_, Self>, len: usize, key: Option<OwnKey>) -> PyResult<Room> {
        Self::reserve_in(slf, len, key.as_ref(), None)
    }

    /// As `send`, for asyncio.
    #[pyo3(signature = (data, *, key=None))]
    fn send_async<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let keys = PyDict::new(slf.py());
        if let Some(key) = key {
            keys.set_item("key", key)?;
        }
        slf.py().import("nexusflow._aio")?.call_method("send", (slf, data), Some(&keys))
    }

    /// How many messages this stage has sent here, in all of its processes.
    #[getter]
    fn committed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock()?.inner(py, self)?.committed())
    }

    /// Ends the stream: consumers read what was sent, then the end.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let mut writing = self.lock()?;
        writing.inner(py, self)?;
        if writing.inner.is_of_transfer() {
            return Err(PyRuntimeError::new_err("this edge belongs to a transfer: finish that"));
        }
        if let Some(inner) = writing.inner.take() {
            inner.finish();
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<nexusflow.Output {}>", self.name)
    }
}

/// Room for one message, in the edge itself. As a context manager it sends what is in it at the end, and nothing if
/// there was an exception. `room[:] = …` fills it; so does whatever writes into a buffer: `file.readinto(room)`,
/// `numpy.frombuffer(room, …)[:] = …`.
#[pyclass(frozen, module = "nexusflow")]
pub struct Room {
    output: Py<Output>,
    place: Place,
    serial: u64,
}

impl Room {
    fn viewed(output: &Output) -> PyErr {
        let words = format!(
            "a view of a reservation of edge `{}` is still alive, and could write where messages lie: `del` it, or release() it",
            output.name
        );
        PyBufferError::new_err(words)
    }

    /// The output, if the room is open still.
    fn open(&self) -> PyResult<MutexGuard<'_, Writing>> {
        let writing = self.output.get().lock()?;
        match writing.room.is_some() && writing.serial == self.serial {
            true => Ok(writing),
            false => Err(PyValueError::new_err("this reservation is closed: it was sent or given up")),
        }
    }

    fn send(&self, len: usize) -> PyResult<()> {
        let mut writing = self.open()?;
        if len > self.place.len {
            return Err(PyValueError::new_err(format!("{len} bytes of a reservation of {}", self.place.len)));
        }
        if writing.views > 0 {
            return Err(Self::viewed(self.output.get()));
        }
        if let Some(room) = writing.room.take() {
            room.commit_len(len);
        }
        Ok(())
    }

    /// Gives the room up, if it is open.
    fn leave(&self) {
        if let Ok(mut writing) = self.open() {
            writing.room = None;
        }
    }
}

/// A room that is forgotten sends nothing, and does not stand in the way.
impl Drop for Room {
    fn drop(&mut self) {
        self.leave();
    }
}

#[pymethods]
impl Room {
    fn __len__(&self) -> usize {
        self.place.len
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Sends, or gives up after an exception. What was committed or left inside is done with.
    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let sent = match (self.open(), kind.is_none()) {
            (Ok(writing), true) => {
                drop(writing);
                self.send(self.place.len)
            }
            _ => Ok(()),
        };
        self.leave();
        sent.map(|()| false)
    }

    /// Sends it all.
    fn commit(&self) -> PyResult<()> {
        self.send(self.place.len)
    }

    /// Sends the first `len` bytes.
    fn commit_len(&self, len: usize) -> PyResult<()> {
        self.send(len)
    }

    fn __setitem__(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if let Ok(slice) = key.cast::<PySlice>() {
            let range = slice.indices(this.place.len as isize)?;
            let value = Flat::of(value)?;
            let fits = range.slicelength == value.len() && (range.step == 1 || range.slicelength == 0);
            if fits {
                let _writing = this.open()?;
                // SAFETY: the room is open, and only this thread runs; `indices` stay within its length.
                unsafe { this.place.fill(range.start.max(0) as usize, &value) };
                return Ok(());
            }
        }
        // Anything else, and what is wrong, as a memoryview has it.
        let view = PyMemoryView::from(slf.as_any())?;
        let set = view.set_item(key, value);
        view.call_method0("release")?;
        set
    }

    /// # Safety
    /// Python calls it, with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mut writing = this.open()?;
        // SAFETY: Python's word; while `views` is not 0 the room is not sent and its memory not used for another.
        unsafe { this.place.show(view, flags, slf.as_any(), true)? };
        writing.views += 1;
        Ok(())
    }

    /// # Safety
    /// Python calls it, once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        // Never taken for long while there are views: nothing waits for room then.
        let mut writing = self.output.get().writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.views = writing.views.saturating_sub(1);
    }

    fn __repr__(&self) -> String {
        format!("<nexusflow.Room of {} bytes>", self.place.len)
    }
}
