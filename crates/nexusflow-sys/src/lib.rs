//! The raw system calls that nexusflow needs, each safe to call.

pub mod futex;
pub mod map;
pub mod memfd;
pub mod socket;
