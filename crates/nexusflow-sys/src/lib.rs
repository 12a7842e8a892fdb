//! Every raw system call that nexusflow makes, wrapped so that each is safe to call. One file per subject.

pub mod children;
pub mod event;
pub mod family;
pub mod file;
pub mod fsuser;
pub mod futex;
pub mod guardian;
pub mod limits;
pub mod listen;
pub mod map;
pub mod memfd;
pub mod pipe;
pub mod process;
mod raw;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod user;
