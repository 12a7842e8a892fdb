//! For authors of nexusflow stages: shared-memory inputs and outputs of a pipeline.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("nexusflow runs on 64-bit little-endian Linux");

mod error;
mod input;
mod names;
mod output;
pub mod protocol;
pub mod ring;
mod stage;

pub use error::{Error, Result};
pub use input::{Input, Messages};
pub use output::{Output, Reservation};
pub use ring::Bytes as Message;
pub use stage::{MAX_RINGS, Stage};
