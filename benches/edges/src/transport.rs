//! What a contestant must be able to do, and the work that every one of them does on each message.

use crate::Result;

/// The writing end. Every byte of a message is written by `fill`.
pub trait Tx {
    /// Sends one message.
    fn send(&mut self, len: usize, fill: impl FnMut(&mut [u8])) -> Result<()>;

    /// Sends `count` messages; together, where it can.
    fn send_batch(&mut self, count: usize, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        (0..count).try_for_each(|_| self.send(len, &mut fill))
    }
}

/// The reading end. Every byte of a message is read by `look`.
pub trait Rx {
    /// Waits for one message; of `len` bytes, for those who cannot tell.
    fn recv(&mut self, len: usize, look: impl FnMut(&[u8])) -> Result<()>;
}

/// The first word of the last message.
pub const LAST: u64 = u64::MAX;

/// Fills messages with a number each, and says the last one.
pub struct Writer {
    pub number: u64,
}

impl Writer {
    #[inline]
    pub fn fill(&mut self, message: &mut [u8]) {
        self.number += 1;
        write(message, self.number);
    }
}

/// From here on memset is faster than a loop.
const LONG: usize = 4096;

/// Every byte of it: the number in the first word, and it or a byte of it in all others.
#[inline]
pub fn write(message: &mut [u8], number: u64) {
    let long = message.len() >= LONG;
    if long {
        message.fill(number as u8);
    }
    let (words, rest) = message.as_chunks_mut::<8>();
    match words {
        [first, ..] if long => *first = number.to_ne_bytes(),
        _ => {
            words.iter_mut().for_each(|w| *w = number.to_ne_bytes());
            rest.fill(number as u8);
        }
    }
}

/// Reads every byte, holds it against what was written, and says the number.
#[inline]
pub fn read(message: &[u8]) -> u64 {
    let (words, _) = message.as_chunks::<8>();
    let [first, others @ ..] = words else { return 0 };
    let first = u64::from_ne_bytes(*first);
    let wanted = if message.len() >= LONG { u64::from_ne_bytes([first as u8; 8]) } else { first };
    let different = others.iter().fold(0, |sum, w| sum | (u64::from_ne_bytes(*w) ^ wanted));
    assert!(different == 0, "a torn message");
    first
}
