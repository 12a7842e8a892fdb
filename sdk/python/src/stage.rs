//! The stage itself: who it is, and its edges.

use nexusflow_stage::Stage as Inner;
use pyo3::prelude::*;

use crate::error::raise;
use crate::input::Input;
use crate::object::{ObjectInput, ObjectOutput};
use crate::output::Output;
use crate::transfer::Transfer;

/// This process as a stage of a pipeline. `Stage()` works once per process.
#[pyclass(frozen, module = "nexusflow")]
pub struct Stage(Inner);

#[pymethods]
impl Stage {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        py.detach(Inner::from_env).map(Self).map_err(|e| raise(py, &e))
    }

    /// The stage's name in the pipeline file.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Which replica this is: from 0.
    #[getter]
    fn replica(&self) -> u32 {
        self.0.replica()
    }

    #[getter]
    fn replicas(&self) -> u32 {
        self.0.replicas()
    }

    /// Which process of this replica this is: 1, and one more after each restart.
    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt()
    }

    #[getter]
    fn run(&self) -> &str {
        self.0.run()
    }

    #[getter]
    fn pipeline(&self) -> &str {
        self.0.pipeline()
    }

    /// The names of the edges that this stage reads, in the order of the pipeline file.
    #[getter]
    fn inputs(&self) -> Vec<&str> {
        self.0.inputs()
    }

    /// The names of the edges that this stage writes, in the order of the pipeline file.
    #[getter]
    fn outputs(&self) -> Vec<&str> {
        self.0.outputs()
    }

    /// Opens an edge to read. It waits until everyone on the edge runs.
    fn input(&self, py: Python<'_>, name: &str) -> PyResult<Input> {
        py.detach(|| self.0.input(name)).map(Input::new).map_err(|e| raise(py, &e))
    }

    /// Opens an edge to write. It waits until everyone on the edge runs.
    fn output(&self, py: Python<'_>, name: &str) -> PyResult<Output> {
        py.detach(|| self.0.output(name)).map(Output::new).map_err(|e| raise(py, &e))
    }

    /// Opens an object edge to read. It waits until everyone on the edge runs.
    fn object_input(&self, py: Python<'_>, name: &str) -> PyResult<ObjectInput> {
        py.detach(|| self.0.object_input(name)).map(ObjectInput::new).map_err(|e| raise(py, &e))
    }

    /// Opens an object edge to write. It waits until everyone on the edge runs.
    fn object_output(&self, py: Python<'_>, name: &str) -> PyResult<ObjectOutput> {
        py.detach(|| self.0.object_output(name)).map(ObjectOutput::new).map_err(|e| raise(py, &e))
    }

    /// Opens edges whose messages are received and sent together, exactly once.
    fn transfer(&self, py: Python<'_>, inputs: Vec<String>, outputs: Vec<String>) -> PyResult<Transfer> {
        let (inputs, outputs): (Vec<&str>, Vec<&str>) =
            (inputs.iter().map(String::as_str).collect(), outputs.iter().map(String::as_str).collect());
        let opened = py.detach(|| self.0.transfer(&inputs, &outputs)).map_err(|e| raise(py, &e))?;
        Transfer::new(py, opened)
    }

    fn __repr__(&self) -> String {
        format!("<nexusflow.Stage {}, replica {} of {}>", self.0.name(), self.0.replica(), self.0.replicas())
    }
}
