//! Every raw system call that nexusflow makes, wrapped so that each is safe to call. One file per subject.

pub mod atomic;
pub mod children;
pub mod event;
pub mod family;
pub mod file;
pub mod fsuser;
#[cfg(not(loom))]
pub mod futex;
pub mod guardian;
pub mod limits;
pub mod listen;
#[cfg(not(loom))]
pub mod map;
pub mod memfd;
#[cfg(loom)]
pub mod model;
pub mod pipe;
pub mod process;
mod raw;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod user;

#[cfg(loom)]
pub use model::{futex, map};
