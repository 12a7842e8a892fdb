//! How near the two CPUs are to each other while something is measured.

use std::fmt;
use std::time::Duration;

use crate::peer::Peer;
use crate::{Result, raw};

/// A cache line takes less than this one way between CPUs that share a cache, and more between others.
const NEAR_NS: f64 = 120.0;
const BRACKET: Duration = Duration::from_millis(10);
/// How often a measurement is repeated because the CPUs moved meanwhile.
const TRIES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    Near,
    Far,
}

/// A figure, and where it was taken.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub value: f64,
    pub bucket: Bucket,
    /// One way of a cache line, just before and just after, their mean.
    pub raw_ns: f64,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

fn of(raw_ns: f64) -> Bucket {
    if raw_ns < NEAR_NS { Bucket::Near } else { Bucket::Far }
}

/// Measures between two raw ping-pongs; again if the CPUs moved. `None` if they would not stay.
pub fn bracketed(peer: &Peer, mut measure: impl FnMut() -> Result<f64>) -> Result<Option<Sample>> {
    for _ in 0..TRIES {
        let before = raw::lines(peer, BRACKET)?;
        let value = measure()?;
        let after = raw::lines(peer, BRACKET)?;
        if of(before) == of(after) {
            return Ok(Some(Sample { value, bucket: of(after), raw_ns: (before + after) / 2.0 }));
        }
    }
    Ok(None)
}
