//! Errors of edges as classes of exceptions.

use nexusflow_stage::Error;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// Each class, the builtin one that it is too, and what it says.
const CLASSES: [(&str, Option<&str>, &str); 13] = [
    ("NotAStage", None, "The process was not started by nexusflow as a stage, or is one already."),
    ("RunnerGone", None, "The runner has gone away."),
    ("ProtocolError", None, "The runner refused, or speaks another version of the protocol."),
    ("UnknownEdge", Some("LookupError"), "The stage has no such edge in this direction."),
    ("AlreadyOpen", None, "The edge was opened before."),
    ("NoKey", Some("TypeError"), "The edge distributes by key, and the message was sent without one."),
    ("TooLong", Some("ValueError"), "A message, batch or tag is longer than is taken."),
    ("Uncommitted", None, "A transfer was given more than it can hold, or ends, with something it has not committed."),
    ("Closed", None, "Nobody reads the edge any more: stop producing. For a program in a chain that is no failure."),
    ("Finished", None, "The edge was finished or detached: it cannot be used any more."),
    ("Poisoned", None, "A peer left nonsense in the memory of the edge. It cannot be used any more."),
    ("TimedOut", Some("TimeoutError"), "The time given has passed, or there was nothing just now."),
    ("SystemFailure", None, "A system call failed."),
];

struct Classes {
    base: Py<PyType>,
    each: Vec<Py<PyType>>,
}

static MADE: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    MADE.get_or_try_init(py, || {
        let make = |name: &str, doc: &str, bases: Bound<'_, PyTuple>| -> PyResult<Py<PyType>> {
            let about = PyDict::new(py);
            about.set_item("__module__", "nexusflow")?;
            about.set_item("__doc__", doc)?;
            Ok(py.get_type::<PyType>().call1((name, bases, about))?.cast_into::<PyType>()?.unbind())
        };
        let exception = PyTuple::new(py, [py.get_type::<PyException>()])?;
        let base = make("Error", "What can go wrong with an edge or the runner.", exception)?;
        let builtins = py.import("builtins")?;
        let each = CLASSES.iter().map(|(name, also, doc)| {
            let mut bases = vec![base.bind(py).clone().into_any()];
            if let Some(also) = also {
                bases.push(builtins.getattr(*also)?);
            }
            make(name, doc, PyTuple::new(py, bases)?)
        });
        let each = each.collect::<PyResult<_>>()?;
        Ok(Classes { base, each })
    })
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let made = classes(module.py())?;
    module.add("Error", &made.base)?;
    CLASSES.iter().zip(&made.each).try_for_each(|((name, ..), class)| module.add(*name, class))
}

/// An exception of one of [`CLASSES`].
pub fn exception(py: Python<'_>, name: &str, words: String) -> PyErr {
    match classes(py) {
        Ok(made) => {
            let at = CLASSES.iter().position(|(n, ..)| *n == name);
            let class = at.map_or(&made.base, |at| &made.each[at]);
            PyErr::from_type(class.bind(py).clone(), words)
        }
        Err(e) => e,
    }
}

pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::NotAStage(_) => "NotAStage",
        Error::RunnerGone => "RunnerGone",
        Error::Protocol(_) | Error::Version { .. } => "ProtocolError",
        Error::UnknownEdge { .. } => "UnknownEdge",
        Error::AlreadyOpen { .. } | Error::SecondTransfer => "AlreadyOpen",
        Error::NoKey { .. } => "NoKey",
        Error::TooLong { .. } | Error::BatchTooLong { .. } | Error::TagTooLong { .. } => "TooLong",
        Error::Uncommitted { .. } | Error::NotCommitted { .. } => "Uncommitted",
        Error::Closed { .. } => "Closed",
        Error::Finished { .. } => "Finished",
        Error::Poisoned { .. } | Error::Journal { .. } => "Poisoned",
        Error::TimedOut => "TimedOut",
        Error::Io { .. } => "SystemFailure",
        _ => "Error",
    };
    exception(py, name, error.to_string())
}
