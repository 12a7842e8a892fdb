//! The run socket: how other programs ask a run that goes on. What they say to each other (`packets`), where the socket
//! lies and what it is called (`place`), the run's end of it (`server`), and theirs (`client`).
//!
//! One packet asks, one answers. The runner's loop serves it, so nothing here ever waits for a client: who does not take
//! its answer is not read any further, and who breaks a limit is cut off.

mod client;
mod packets;
mod place;
mod server;

pub use client::{Connection, Error, NotFound, all, find};
pub use packets::{
    Answer, Blocks, ConsumerStat, EdgeState, MAX_ANSWER, ObjectPlace, ObjectStat, PAGE_ENTRIES, Place, Request,
    RingMemory, RingStat, VERSION,
};
pub use server::{Next, Reply, Server};

#[cfg(test)]
mod tests;
