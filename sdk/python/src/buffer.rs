//! Python's buffer protocol, both ways: memory of ours that Python looks at, and Python's that we copy from.

use std::ffi::c_int;
use std::ptr;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Memory of a message or a room: where and how much. It says nothing about how long it is good.
#[derive(Clone, Copy)]
pub struct Place {
    address: usize,
    pub len: usize,
}

impl Place {
    pub fn of(bytes: &mut [u8]) -> Self {
        Self { address: bytes.as_mut_ptr() as usize, len: bytes.len() }
    }

    /// Of bytes that are not to be written.
    pub fn read(bytes: &[u8]) -> Self {
        Self { address: bytes.as_ptr() as usize, len: bytes.len() }
    }

    pub fn message(bytes: nexusflow_stage::Message<'_>) -> Self {
        // SAFETY: only the address and the length are used here; who reads there says why it may.
        let slice = unsafe { bytes.as_slice() };
        Self { address: slice.as_ptr() as usize, len: slice.len() }
    }

    /// The bytes, copied.
    ///
    /// # Safety
    /// The message has not been released.
    pub unsafe fn copied<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, self.len, |to| {
            // SAFETY: the edge's memory is mapped and has `len` bytes there, by the caller's word; the new object's is
            // its own. Read as raw bytes: a reference is never made to what a peer could write.
            unsafe { ptr::copy_nonoverlapping(self.address as *const u8, to.as_mut_ptr(), self.len) };
            Ok(())
        })
    }

    /// Shows it to Python through `view`.
    ///
    /// # Safety
    /// `view` is what Python handed to `__getbuffer__` with these flags, and the memory stays good until `owner` hears
    /// that the view is released.
    pub unsafe fn show(
        &self,
        view: *mut ffi::Py_buffer,
        flags: c_int,
        owner: &Bound<'_, PyAny>,
        writable: bool,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let len = isize::try_from(self.len).map_err(|_| PyBufferError::new_err("too long for a view"))?;
        // SAFETY: the caller's word; FillInfo takes a reference to the owner, and sets an exception when it fails.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, owner.as_ptr(), self.address as *mut _, len, c_int::from(!writable), flags)
        };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(owner.py())),
        }
    }

    /// Copies into it, from its byte `at` on.
    ///
    /// # Safety
    /// It is a room that has not been committed, and nothing else writes there now.
    ///
    /// # Panics
    /// If there is not that much room.
    pub unsafe fn fill(&self, at: usize, from: &Flat<'_>) {
        assert!(at <= self.len && from.len() <= self.len - at);
        // SAFETY: within the room, which is mapped; `from` may be a view of the same room, hence not `nonoverlapping`.
        unsafe { ptr::copy(from.address(), (self.address as *mut u8).add(at), from.len()) };
    }
}

/// The bytes of any Python object that has them in one piece: bytes, bytearray, memoryview, array, message …
pub enum Flat<'py> {
    /// The most common, and the fastest: they never change.
    Bytes(Bound<'py, PyBytes>),
    View(Box<ffi::Py_buffer>, Python<'py>),
}

impl<'py> Flat<'py> {
    pub fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone()));
        }
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: both pointers are good; on success the view is released by drop.
        match unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, ffi::PyBUF_SIMPLE) } {
            0 => Ok(Self::View(view, object.py())),
            _ => Err(PyErr::fetch(object.py())),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes().len(),
            Self::View(view, _) => usize::try_from(view.len).unwrap_or(0),
        }
    }

    fn address(&self) -> *const u8 {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes().as_ptr(),
            Self::View(view, _) => view.buf.cast(),
        }
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// Nothing writes there while the slice lives: no Python code runs meanwhile that could.
    pub unsafe fn as_slice(&self) -> &[u8] {
        match self.len() {
            0 => &[],
            // SAFETY: Python's exporter vouches for `len` bytes while the view is held; the rest is the caller's word.
            len => unsafe { std::slice::from_raw_parts(self.address(), len) },
        }
    }
}

impl Drop for Flat<'_> {
    fn drop(&mut self) {
        if let Self::View(view, _) = self {
            // SAFETY: filled by PyObject_GetBuffer, released once; the interpreter's lock is held as long as 'py.
            unsafe { ffi::PyBuffer_Release(&mut **view) }
        }
    }
}
