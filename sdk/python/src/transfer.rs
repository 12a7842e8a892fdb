//! Inputs and outputs that are committed together, exactly once.

use std::sync::{Arc, MutexGuard};

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::buffer::Flat;
use crate::error::{exception, raise};
use crate::home::{Home, lend};
use crate::input::{Input, Reading};
use crate::output::{Output, Writing};

/// What is received and sent through these edges happens with `commit`, once and for good, and leaves a tag. Should the
/// process be killed before, none of it has happened.
#[pyclass(frozen, module = "nexusflow")]
pub struct Transfer {
    home: Arc<Home>,
    inputs: Vec<Py<Input>>,
    outputs: Vec<Py<Output>>,
}

type Locks<'a> = (Vec<MutexGuard<'a, Reading>>, Vec<MutexGuard<'a, Writing>>);

impl Transfer {
    pub fn new(py: Python<'_>, transfer: nexusflow_stage::Transfer) -> PyResult<Self> {
        let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let input_names = names(transfer.inputs.iter().map(|i| i.name()).collect());
        let outputs: Vec<_> = transfer.outputs.iter().map(|o| (o.name().to_owned(), o.max_message())).collect();
        let home = Home::new(transfer);
        // SAFETY: nobody else has it yet.
        let (lent_inputs, lent_outputs) = unsafe { lend(&home) };
        let inputs = input_names.into_iter().zip(lent_inputs).map(|(name, lent)| Py::new(py, Input::lent(name, lent)));
        let inputs = inputs.collect::<PyResult<_>>()?;
        let outputs =
            outputs.into_iter().zip(lent_outputs).map(|((name, max), lent)| Py::new(py, Output::lent(name, max, lent)));
        Ok(Self { home, inputs, outputs: outputs.collect::<PyResult<_>>()? })
    }

    /// All edges, none of which is being filled.
    fn lock(&self, py: Python<'_>) -> PyResult<Locks<'_>> {
        let readings = self.inputs.iter().map(|input| input.get().lock()).collect::<PyResult<Vec<_>>>()?;
        let mut writings = self.outputs.iter().map(|output| output.get().lock()).collect::<PyResult<Vec<_>>>()?;
        for (writing, output) in writings.iter_mut().zip(&self.outputs) {
            writing.inner(py, output.get())?;
        }
        Ok((readings, writings))
    }

    /// Looks at the transfer as a whole, or changes it.
    fn with<T>(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&mut Option<nexusflow_stage::Transfer>, &mut Locks<'_>) -> PyResult<T>,
    ) -> PyResult<T> {
        let mut locks = self.lock(py)?;
        // SAFETY: the locks of all edges are held, no reservation is open, and all are lent anew.
        let done = change(unsafe { self.home.whole() }, &mut locks);
        // SAFETY: as above.
        let (inputs, outputs) = unsafe { lend(&self.home) };
        locks.0.iter_mut().zip(inputs).for_each(|(reading, lent)| reading.lend(lent));
        locks.1.iter_mut().zip(outputs).for_each(|(writing, lent)| writing.lend(lent));
        done
    }

    fn finished(py: Python<'_>) -> PyErr {
        exception(py, "Finished", "the transfer was finished".to_owned())
    }
}

#[pymethods]
impl Transfer {
    /// In the order they were named.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inputs.iter().map(|input| input.bind(py)))
    }

    /// In the order they were named.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.outputs.iter().map(|output| output.bind(py)))
    }

    /// The tag of the last commit, by whichever process of this stage; empty before the first.
    #[getter]
    fn tag<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(py, |transfer, _| Ok(PyBytes::new(py, transfer.as_ref().ok_or_else(|| Self::finished(py))?.tag())))
    }

    /// How many commits there were, by all processes that have been this stage.
    #[getter]
    fn commits(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |transfer, _| Ok(transfer.as_ref().ok_or_else(|| Self::finished(py))?.commits()))
    }

    /// All that was received and sent since the last commit happens now, and leaves this tag (256 bytes at most).
    #[pyo3(signature = (tag=None))]
    fn commit(&self, py: Python<'_>, tag: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let tag = tag.map(Flat::of).transpose()?;
        self.with(py, |transfer, (readings, _)| {
            readings.iter_mut().for_each(|reading| reading.give_up());
            // SAFETY: no Python code runs before it is copied.
            let tag = tag.as_ref().map_or(&[][..], |tag| unsafe { tag.as_slice() });
            transfer.as_mut().ok_or_else(|| Self::finished(py))?.commit(tag).map_err(|e| raise(py, &e))
        })
    }

    /// Ends the streams of all outputs. `Uncommitted` if something was received or sent that is not committed.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |transfer, (readings, writings)| {
            if readings.iter().any(|reading| reading.is_viewed()) {
                return Err(PyBufferError::new_err("views of messages of the transfer are alive"));
            }
            let done = transfer.take().ok_or_else(|| Self::finished(py))?.finish();
            readings.iter_mut().for_each(|reading| reading.is_gone());
            writings.iter_mut().for_each(|writing| writing.is_gone());
            done.map_err(|e| raise(py, &e))
        })
    }
}
