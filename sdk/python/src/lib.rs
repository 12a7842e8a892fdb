//! The Python face of `nexusflow-stage`: the module `nexusflow._native`, which `nexusflow` shows.
//!
//! Memory is shared with other processes, so two rules hold everywhere here. What Python can still see is not released:
//! a view keeps its message (`input.rs`) or its room (`output.rs`). And the interpreter is held up by no wait: the fast
//! path asks without waiting, and only when it fails is the lock of the interpreter let go (`wait.rs`).

mod buffer;
mod error;
mod home;
mod input;
mod object;
mod output;
mod stage;
mod transfer;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    error::add_to(module)?;
    module.add_class::<stage::Stage>()?;
    module.add_class::<input::Input>()?;
    module.add_class::<input::Message>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<output::Room>()?;
    module.add_class::<object::ObjectInput>()?;
    module.add_class::<object::Object>()?;
    module.add_class::<object::ObjectOutput>()?;
    module.add_class::<object::Draft>()?;
    module.add_class::<transfer::Transfer>()?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
