//! The atomics of shared memory: the machine's, or under `--cfg loom` those of the model.

#[cfg(loom)]
pub use crate::model::atomic::{AtomicU32, AtomicU64, fence, spin_loop};
pub use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, fence},
};
