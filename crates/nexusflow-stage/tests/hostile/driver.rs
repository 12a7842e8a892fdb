//! Plays one game against a segment: bytes say what its ends do and what an attacker does to its memory in between, who
//! has every file open for writing, as any process of the same user can have. The ends may find an edge poisoned,
//! closed or finished. They never crash, never go on for ever, and never give out more than an edge can hold.
//!
//! Also compiled into the fuzz target `ring`.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nexusflow_stage::Error;
use nexusflow_stage::ring::{Consumer, Next, OnFull, Producer, Segment, SegmentOptions, Shape, Until, WaitMode};
use rustix::fs::{FallocateFlags, SealFlags};

/// Moves of one game, at most.
const MAX_MOVES: usize = 300;
/// Bytes that all messages of a game may take to read, ends that begin anew counted.
const MAX_READ: usize = MAX_MOVES * (1 << 20);

/// Errors that nonsense may cause.
pub fn expected(e: &Error) -> bool {
    matches!(
        e,
        Error::Poisoned { .. }
            | Error::TimedOut
            | Error::Closed { .. }
            | Error::Finished { .. }
            | Error::TooLong { .. }
            | Error::Io { .. }
    )
}

/// The bytes of a game; zeroes when they have run out.
#[derive(Debug)]
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn half(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }
}

/// Has everything open for writing.
#[derive(Debug)]
pub struct Attacker {
    /// Head, ring, slab if there is one, cursor.
    files: Vec<(File, u64)>,
}

impl Attacker {
    pub fn new(segment: &Segment) -> Self {
        let mut fds = segment.producer_fds().unwrap();
        fds.pop(); // the cursor, to read
        fds.extend(segment.consumer_fds(0).unwrap().pop());
        // A descriptor that is read-only is no protection against one's own user: opened again, it can be written.
        let reopened = fds.iter().map(|fd| {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let file = File::options().read(true).write(true).open(path).unwrap();
            let len = file.metadata().unwrap().len();
            (file, len)
        });
        Self { files: reopened.collect() }
    }

    /// One misdeed.
    pub fn strike(&self, dice: &mut impl FnMut() -> u64) {
        let (file, len) = &self.files[dice() as usize % self.files.len()];
        let at = dice() % (len / 8) * 8;
        // Where words are, more often.
        let at = if dice().is_multiple_of(2) { at % 512 } else { at };
        match dice() % 8 {
            0..4 => {
                let word = match dice() % 6 {
                    0 => dice(),
                    1 => u64::MAX,
                    2 => dice() % 10_000 * 8,
                    // A ready header in its turn, of some length; a reference into the slab.
                    3 => (dice() % 5000) << 32 | (at >> 3) << 2 | 1,
                    4 => (dice() % 70_000) << 32 | (at >> 3) << 2 | 3,
                    _ => 0,
                };
                file.write_all_at(&word.to_le_bytes(), at).unwrap();
            }
            4 => file.write_all_at(&[dice() as u8; 64][..(len - at).min(64) as usize], at).unwrap(),
            5 => {
                // What lay elsewhere: an old header in a new place.
                let mut word = [0; 8];
                file.read_exact_at(&mut word, dice() % (len / 8) * 8).unwrap();
                file.write_all_at(&word, at).unwrap();
            }
            6 => {
                // A hole: nothing forbids it, and it reads as zeroes.
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file, hole, at, 8 + dice() % len).unwrap();
            }
            _ => {
                assert!(rustix::fs::fcntl_add_seals(file, SealFlags::WRITE | SealFlags::FUTURE_WRITE).is_err());
                assert!(file.set_len(dice() % (2 * len)).is_err() || file.metadata().unwrap().len() == *len);
            }
        }
    }
}

/// What kind of segment a byte means.
pub fn segment(kind: u8) -> Segment {
    let on_full = [OnFull::Block, OnFull::DropNewest, OnFull::DropOldest][usize::from(kind) % 3];
    let (capacity, max_message) = if kind & 64 == 0 { (4096, 0) } else { (32 * 1024, 40_000) };
    let wait = [WaitMode::Block, WaitMode::Adaptive, WaitMode::Spin][usize::from(kind >> 4) % 3];
    Segment::create(&SegmentOptions { capacity, max_message, on_full, wait, ..Default::default() }).unwrap()
}

/// The game.
pub fn play(bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let segment = segment(dice.byte());
    let attacker = Attacker::new(&segment);
    let mut ends = Ends::new(&segment);
    for _ in 0..MAX_MOVES {
        if dice.0.is_empty() {
            break;
        }
        match dice.byte() {
            move_ @ 0..160 => ends.go(&segment, move_, dice.half()),
            _ => attacker.strike(&mut || dice.word() ^ dice.word().rotate_left(17)),
        }
    }
    ends.finish(&segment);
}

/// The victims.
#[derive(Debug)]
pub struct Ends {
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    max: usize,
    read: usize,
}

impl Ends {
    pub fn new(segment: &Segment) -> Self {
        let max = segment.shape().max_message() as usize;
        Self { producer: segment.producer().ok(), consumer: segment.consumer(0).ok(), max, read: 0 }
    }

    /// One move of one end, or of the supervisor.
    pub fn go(&mut self, segment: &Segment, what: u8, n: usize) {
        let soon = Until::timeout(Duration::ZERO);
        let len = if n.is_multiple_of(50) { n } else { n % 600 } % (self.max + 2);
        let done = match (what % 16, &mut self.producer, &mut self.consumer) {
            (0..4, Some(p), _) => p.write(&vec![what; len], soon),
            (4, Some(p), _) => p.try_write(&vec![what; len]).map(drop),
            (5, Some(p), _) => p.write_batch([&[1; 10][..], &[2; 300]], soon),
            (6..10, _, Some(c)) => {
                let read = c.peek(soon).map(|message| message.map_or(0, |m| m.to_vec().len()));
                c.advance();
                read.map(|read| {
                    assert!(read <= self.max);
                    self.read += read;
                })
            }
            (10, _, Some(c)) => {
                let seen = c.try_peek().map(|next| match next {
                    Next::Message(m) => m.len(),
                    Next::Empty | Next::End => 0,
                });
                let taken = c.take().map_or(0, |m| m.to_vec().len());
                self.read += taken;
                seen.map(|seen| assert!(seen <= self.max && seen == taken))
            }
            (11, _, Some(c)) => {
                self.read += c.batch(20).map(|m| m.to_vec().len()).sum::<usize>();
                Ok(())
            }
            (12, _, Some(c)) => {
                c.release();
                Ok(())
            }
            (13, ..) => segment.producer().map(|p| self.producer = Some(p)),
            (14, ..) => segment.consumer(0).map(|c| self.consumer = Some(c)),
            _ => {
                let _ = (segment.drained(0), segment.stats());
                segment.stopped_reading(0);
                segment.wake_all()
            }
        };
        if let Err(e) = done {
            assert!(expected(&e), "{e}");
        }
        assert!(self.read <= MAX_READ, "it goes round for ever");
    }

    pub fn finish(self, segment: &Segment) {
        if let Some(mut p) = self.producer {
            p.finish();
        }
        let _ = (segment.close(), segment.drained(0), segment.wake_all(), segment.stats());
        segment.detach(0);
    }
}

/// Ends that are handed descriptors they should not be: all refuse them.
pub fn wrong_descriptors() {
    let segment = segment(0);
    let shape = segment.shape();
    let memory = |len: u64, sealed: bool| -> OwnedFd {
        let fd = nexusflow_sys::memfd::create("wrong", len).unwrap();
        if sealed {
            nexusflow_sys::memfd::seal(std::os::fd::AsFd::as_fd(&fd)).unwrap();
        }
        fd
    };
    let page = nexusflow_sys::map::page_size() as u64;
    let wrong = |fd: usize| -> Vec<OwnedFd> {
        let len = if fd == 1 { shape.ring } else { page };
        vec![
            memory(len, false),
            memory(len + page, true),
            memory(len / 2, true),
            memory(len, true), // with nothing in it
            File::open("/dev/zero").unwrap().into(),
            File::open("/proc/self/exe").unwrap().into(),
        ]
    };
    for at in 0..3 {
        for (i, bad) in wrong(at).into_iter().enumerate() {
            let empty_ring = at == 1 && i == 3; // is as good as a new one
            let mut fds = segment.consumer_fds(0).unwrap();
            fds[at] = bad;
            let attached = Consumer::from_fds("test", shape, fds);
            assert!(empty_ring || attached.is_err_and(|e| expected(&e)), "consumer, {at}, {i}");
        }
        for (i, bad) in wrong(at).into_iter().enumerate() {
            let empty_ring = at == 1 && i == 3;
            let mut fds = segment.producer_fds().unwrap();
            fds[at] = bad;
            let attached = Producer::from_fds("test", shape, fds);
            assert!(empty_ring || attached.is_err_and(|e| expected(&e)), "producer, {at}, {i}");
        }
    }
    // What is to be written is read-only.
    let mut fds = segment.producer_fds().unwrap();
    fds[1] = segment.consumer_fds(0).unwrap().remove(1);
    assert!(Producer::from_fds("test", shape, fds).is_err());
    // Too few, too many, and lengths that no segment has.
    assert!(Consumer::from_fds("test", shape, vec![]).is_err());
    assert!(Producer::from_fds("test", shape, segment.consumer_fds(0).unwrap().into_iter().take(1).collect()).is_err());
    for ring in [0, 1, page - 1, u64::MAX, u64::MAX / 2 + 1] {
        let wrong = Shape { ring, ..shape };
        assert!(Consumer::from_fds("test", wrong, segment.consumer_fds(0).unwrap()).is_err());
        assert!(Producer::from_fds("test", wrong, segment.producer_fds().unwrap()).is_err());
    }
}
