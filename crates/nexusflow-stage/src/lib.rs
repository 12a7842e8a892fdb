//! For authors of nexusflow stages: shared-memory inputs and outputs of a pipeline.
//!
//! A program that nexusflow starts opens its edges by the names they have in the pipeline file:
//!
//! ```no_run
//! # fn main() -> Result<(), nexusflow_stage::Error> {
//! let stage = nexusflow_stage::Stage::from_env()?;
//! let (mut events, mut enriched) = (stage.input("events")?, stage.output("enriched")?);
//! while let Some(event) = events.recv()? {
//!     let mut room = enriched.reserve(event.len())?;
//!     event.copy_to(room.as_mut_slice());
//!     room.commit();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Stage`], [`Input`] and [`Output`] are all that an author needs. Underneath lie [`ring`], the shared memory between
//! one producer and its consumers, and [`protocol`], what stage and runner say to each other; the runner is built
//! on them too.

#![deny(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("nexusflow runs on 64-bit little-endian Linux");

mod error;
mod input;
pub mod journal;
mod keep;
mod key;
mod late;
mod memory;
mod names;
pub mod object;
mod output;
#[cfg(not(loom))]
mod poll;
pub mod protocol;
pub mod ring;
mod stage;
mod transfer;

pub use error::{Error, Result};
pub use input::{Incoming, Input, Messages};
pub use journal::MAX_TAG;
pub use keep::Kept;
pub use key::Key;
pub use object::{Draft, Object, ObjectInput, ObjectOutput};
pub use output::{Batch, Output, Reservation};
pub use ring::Bytes as Message;
pub use stage::{MAX_RINGS, Stage};
pub use transfer::{Inputs, Outputs, Transfer};

/// The guide for authors, whose programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/stages.md")]
mod guide {}
