//! Recordings: what went over an edge, in a file. docs/recording.md is the format for people and other programs.
//!
//! A file is only ever appended to, and each record carries its own checksum: one that was cut off, because its recorder
//! was killed or the disk was full, can be read up to there, and is known to be cut off.

pub mod blocks;
mod crc;
mod reader;
mod spool;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::{Broken, Fault, Reader, Record};
pub use spool::Spool;
pub use writer::Writer;

/// How a file begins.
pub const MAGIC: &[u8; 8] = b"nxflrec\n";
/// Of the format.
pub const VERSION: u32 = 1;
/// The longest header.
const MAX_HEADER: u32 = 1 << 20;
/// Bytes of a record before its body.
const RECORD_HEAD: usize = 20;
/// What a record is.
const MESSAGE: u8 = 1;
const LOST: u8 = 2;
const END: u8 = 3;
/// A number of lost messages or bytes that nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// What a recording is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub pipeline: String,
    pub run: String,
    pub edge: String,
    /// Who writes each ring, in the order of the rings when the recording began.
    pub producers: Vec<String>,
    /// When it began; RFC 3339.
    pub started_at: String,
    /// The version of nexusflow that recorded it.
    pub nexusflow: String,
}

/// What did not get into the recording, all in all or at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// `None`: nobody can tell.
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
}

impl Lost {
    pub const NOTHING: Self = Self { messages: Some(0), bytes: Some(0) };

    /// A sum of what is not known is not known.
    pub fn add(&mut self, other: Self) {
        let sum = |a: Option<u64>, b: Option<u64>| a?.checked_add(b?);
        *self = Self { messages: sum(self.messages, other.messages), bytes: sum(self.bytes, other.bytes) };
    }
}

/// What a recording holds: its last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub messages: u64,
    pub bytes: u64,
    pub lost: Lost,
    pub why: Why,
    /// RFC 3339.
    pub ended_at: String,
}

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// All producers had ended, and all they sent is here or counted as lost.
    EndOfStream,
    /// The run, or the edge's part of it, ended otherwise.
    RunEnded,
    /// It has as much as was asked for.
    Enough,
    /// Who recorded it was told to stop.
    Interrupted,
}

#[cfg(test)]
mod tests;
