//! Our rings.

use std::os::fd::OwnedFd;

use nexusflow_stage::ring::{Consumer, Producer, Segment, SegmentOptions, Shape, Until, WaitMode};

use crate::Result;
use crate::transport::{Rx, Tx};

/// For messages that are small beside it; for larger ones, so many of them.
const SMALL_CAPACITY: u64 = 16 << 20;
const MESSAGES: u64 = 4;

pub struct Output(Producer);
pub struct Input(Consumer);

fn capacity(len: usize) -> u64 {
    (len as u64 * MESSAGES + 4096).max(SMALL_CAPACITY)
}

pub fn segment(len: usize, wait: WaitMode, consumers: usize) -> Result<Segment> {
    let (capacity, max_message) = (capacity(len), len as u64);
    let options = SegmentOptions { name: "bench", capacity, max_message, consumers, wait, ..Default::default() };
    Ok(Segment::create(&options)?)
}

/// This process's ends of two rings, and the descriptors of the other's.
pub fn pair(len: usize, wait: WaitMode) -> Result<((Output, Input), Vec<OwnedFd>)> {
    let (there, back) = (segment(len, wait, 1)?, segment(len, wait, 1)?);
    let ours = (output(&there)?, input(&back)?);
    let theirs = back.producer_fds()?.into_iter().chain(there.consumer_fds(0)?).collect();
    Ok((ours, theirs))
}

pub fn output(segment: &Segment) -> Result<Output> {
    Ok(Output(Producer::from_fds("bench", segment.shape(), segment.producer_fds()?)?))
}

pub fn input(segment: &Segment) -> Result<Input> {
    Ok(Input(Consumer::from_fds("bench", segment.shape(), segment.consumer_fds(0)?)?))
}

/// What was made by [`pair`], in the other process.
pub fn attach(mut fds: Vec<OwnedFd>) -> Result<(Output, Input)> {
    let consumer = fds.split_off(fds.len() / 2);
    let shape = shape_of(&consumer)?;
    Ok((attach_output(fds)?, Input(Consumer::from_fds("bench", shape, consumer)?)))
}

pub fn attach_output(fds: Vec<OwnedFd>) -> Result<Output> {
    Ok(Output(Producer::from_fds("bench", shape_of(&fds)?, fds)?))
}

/// Of head, ring, slab if there is one, and cursor.
fn shape_of(fds: &[OwnedFd]) -> Result<Shape> {
    let len = |fd: &OwnedFd| Ok::<_, std::io::Error>(std::fs::File::from(fd.try_clone()?).metadata()?.len());
    let slab = if fds.len() == 4 { len(&fds[2])? } else { 0 };
    Ok(Shape { ring: len(&fds[1])?, slab, ..Shape::default() })
}

impl Tx for Output {
    #[inline]
    fn send(&mut self, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        let mut room = self.0.reserve(len, Until::forever())?;
        fill(room.as_mut_slice());
        room.commit();
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, count: usize, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        for _ in 0..count {
            let mut room = self.0.reserve(len, Until::forever())?;
            fill(room.as_mut_slice());
            room.stage_len(len);
        }
        self.0.publish();
        Ok(())
    }
}

impl Rx for Input {
    #[inline]
    fn recv(&mut self, _: usize, mut look: impl FnMut(&[u8])) -> Result<()> {
        let message = self.0.peek(Until::forever())?.ok_or("the end")?;
        // SAFETY: the other side is this program too, and leaves a message alone until it is released below.
        look(unsafe { message.as_slice() });
        self.0.advance();
        self.0.release();
        Ok(())
    }
}
