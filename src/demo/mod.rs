//! The stages of `pipelines/duplicates.yaml`, built in so that an installed binary alone can show a pipeline:
//! `walk` finds files, `hash` reads them, `report` groups them. Written as any author of stages would,
//! over `nexusflow-stage`.
//!
//! What cannot be read is told on stderr and counted; it fails no stage, only a missing root does.

mod hash;
mod message;
mod report;
mod stages;
mod walk;

use std::fmt;
use std::io;

pub use report::Format;
pub use stages::{hash, report, walk};

/// Why a demo stage failed.
#[derive(Debug)]
pub enum Error {
    Edge(nexusflow_stage::Error),
    Io(io::Error),
    Message,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge(e) => e.fmt(f),
            Self::Io(e) => e.fmt(f),
            Self::Message => f.write_str("a message that no `nexusflow demo hash` has sent"),
        }
    }
}

impl std::error::Error for Error {}

impl From<nexusflow_stage::Error> for Error {
    fn from(e: nexusflow_stage::Error) -> Self {
        Self::Edge(e)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
