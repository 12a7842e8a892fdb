//! For authors of nexusflow stages: shared-memory inputs and outputs of a pipeline.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("nexusflow runs on 64-bit little-endian Linux");

mod error;
pub mod protocol;
pub mod ring;

pub use error::{Error, Result};
