//! The C face of `nexusflow-stage`: opaque handles, status codes, and no panic across the border.
//!
//! The contract with C stands in the doc comments of the functions, from which cbindgen makes `nexusflow.h`.

mod input;
mod object;
mod output;
mod stage;
mod status;
