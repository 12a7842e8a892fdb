//! The memory in which one replica of a stage says what its last [transfer](crate::Transfer) was, so that its next
//! process can finish what this one had begun. docs/protocol.md has the layout.
//!
//! The supervisor makes it and keeps it through restarts; only processes of this replica write it. There are two slots
//! and a selector: a transfer is written into the slot that the selector does not point to, then the selector is
//! turned. That store is the commit. What a slot says is checked like everything that comes from another process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nexusflow_sys::atomic::{Ordering, fence};
use nexusflow_sys::map::{WriteMap, page_size};
use nexusflow_sys::memfd;

use crate::error::{Error, Result};
use crate::ring::steps::put;

/// Bytes of the longest tag of a transfer.
pub const MAX_TAG: usize = 256;
/// The most rings of all edges of one stage whose state a journal can tell.
pub const MAX_MARKS: usize = 1 << 20;

/// `nexusjnl`
const MAGIC: u64 = u64::from_le_bytes(*b"nexusjnl");
const VERSION: u64 = 1;

const J_MAGIC: usize = 0;
const J_VERSION: usize = 8;
/// How many marks a slot has room for. These three by the supervisor, once.
const J_ROOM: usize = 16;
/// The number of the last transfer, 0 before the first; it lies in slot number % 2.
const J_SELECTOR: usize = 128;
const SLOTS: usize = 256;

/// In a slot: the transfer's number again, how long its tag is, how many marks there are, the tag, the marks.
const S_NUMBER: usize = 0;
const S_TAG_LEN: usize = 8;
const S_MARKS: usize = 16;
const S_TAG: usize = 24;
const S_FIRST: usize = S_TAG + MAX_TAG;
const MARK: usize = 24;

/// What a transfer did to one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The edge's number, as the runner lists them, and the number of its ring.
    pub edge: u32,
    pub ring: u32,
    pub position: u64,
    /// 0: an input, read up to `position`. Else the header which, written there, publishes all that lies behind it.
    pub word: u64,
}

/// A transfer as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Counts the transfers of all processes of this replica, from 1. 0: there was none.
    pub number: u64,
    pub tag: Vec<u8>,
    pub marks: Vec<Mark>,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    map: WriteMap,
    room: usize,
    number: u64,
}

fn slot_len(room: usize) -> usize {
    (S_FIRST + room * MARK).next_multiple_of(64)
}

fn file_len(room: usize) -> usize {
    (SLOTS + 2 * slot_len(room)).next_multiple_of(page_size())
}

/// Makes the journal of a replica that has `rings` rings in all: its descriptor, and how long it is.
pub fn create(rings: usize) -> io::Result<(OwnedFd, u64)> {
    if rings > MAX_MARKS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a journal for {rings} rings")));
    }
    let len = file_len(rings);
    let fd = memfd::create("nexusflow:journal", len as u64)?;
    let map = WriteMap::new(&fd, len)?;
    if map.populate().is_err() {
        memfd::allocate(fd.as_fd(), len as u64)?; // an older kernel; or really no memory, and this says so
    }
    map.atomic64(J_VERSION).store(VERSION, Ordering::Relaxed);
    map.atomic64(J_ROOM).store(rings as u64, Ordering::Relaxed);
    map.atomic64(J_MAGIC).store(MAGIC, Ordering::Release);
    memfd::seal(fd.as_fd())?;
    Ok((fd, len as u64))
}

impl Journal {
    /// Maps a journal whose descriptor was received, and finds the last transfer.
    pub fn open(fd: impl AsFd, len: u64) -> Result<(Self, Entry)> {
        let failed = Error::io("open the journal of this stage's transfers");
        let most = file_len(MAX_MARKS);
        let usable = usize::try_from(len).ok().filter(|len| *len <= most && len.is_multiple_of(page_size()));
        let Some(bytes) = usable.filter(|len| *len >= SLOTS) else { return Err(bad("an impossible length")) };
        let map = match memfd::check(&fd, len, true).and_then(|()| WriteMap::new(&fd, bytes)) {
            Ok(map) => map,
            Err(e) => return Err(failed(e)),
        };
        let word = |at| map.word64(at).load(Ordering::Acquire);
        if (word(J_MAGIC), word(J_VERSION)) != (MAGIC, VERSION) {
            return Err(bad("no journal that this program knows"));
        }
        let room = usize::try_from(word(J_ROOM)).ok().filter(|room| *room <= MAX_MARKS && file_len(*room) == bytes);
        let room = room.ok_or_else(|| bad("room for another number of rings than it has"))?;
        let number = word(J_SELECTOR);
        let journal = Self { map, room, number };
        let entry = journal.read()?;
        Ok((journal, entry))
    }

    /// The last transfer.
    fn read(&self) -> Result<Entry> {
        if self.number == 0 {
            return Ok(Entry::default());
        }
        let slot = self.slot(self.number);
        let word = |at| self.map.word64(slot + at).load(Ordering::Acquire);
        let (tag_len, marks) = (word(S_TAG_LEN), word(S_MARKS));
        if word(S_NUMBER) != self.number || tag_len > MAX_TAG as u64 || marks > self.room as u64 {
            return Err(bad("an impossible entry"));
        }
        let mut tag = vec![0; tag_len as usize];
        self.map.copy_out(slot + S_TAG, &mut tag);
        let mark = |i| {
            let at = S_FIRST + i * MARK;
            let ring = word(at);
            Mark { edge: (ring >> 32) as u32, ring: ring as u32, position: word(at + 8), word: word(at + 16) }
        };
        Ok(Entry { number: self.number, tag, marks: (0..marks as usize).map(mark).collect() })
    }

    /// Makes this the last transfer, for good: the one instant at which all of it has happened.
    pub fn commit(&mut self, tag: &[u8], marks: &[Mark]) -> Result<()> {
        if tag.len() > MAX_TAG {
            return Err(Error::TagTooLong { len: tag.len() });
        }
        if marks.len() > self.room {
            return Err(bad("room for fewer rings than this stage has"));
        }
        fence(Ordering::Release); // what was staged and what it says of the rings come before it
        let number = self.number.wrapping_add(1).max(1); // what it began at may be anything
        let slot = self.slot(number);
        let write = |at: usize, word: u64| put(self.map.atomic64(slot + at), word, Ordering::Relaxed);
        write(S_NUMBER, number);
        write(S_TAG_LEN, tag.len() as u64);
        write(S_MARKS, marks.len() as u64);
        for (i, piece) in tag.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            write(S_TAG + 8 * i, u64::from_le_bytes(word));
        }
        for (i, mark) in marks.iter().enumerate() {
            let at = S_FIRST + i * MARK;
            write(at, u64::from(mark.edge) << 32 | u64::from(mark.ring));
            write(at + 8, mark.position);
            write(at + 16, mark.word);
        }
        // Released, and what follows stays behind it: nothing of a transfer is seen before it is committed.
        put(self.map.atomic64(J_SELECTOR), number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.number = number;
        Ok(())
    }

    fn slot(&self, number: u64) -> usize {
        SLOTS + (number % 2) as usize * slot_len(self.room)
    }
}

fn bad(what: &'static str) -> Error {
    Error::Journal { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_committed_last_is_found_by_the_next() {
        let (fd, len) = create(3).unwrap();
        let (mut journal, entry) = Journal::open(&fd, len).unwrap();
        assert_eq!(entry, Entry::default());
        let mark = |n| Mark { edge: n, ring: n + 1, position: 8 * u64::from(n), word: u64::from(n) };
        for number in 1..6u64 {
            let tag = vec![number as u8; number as usize * 51];
            let marks: Vec<Mark> = (0..number as u32 % 4).map(mark).collect();
            journal.commit(&tag, &marks).unwrap();
            let (_, entry) = Journal::open(&fd, len).unwrap();
            assert_eq!(entry, Entry { number, tag, marks });
        }
        assert!(matches!(journal.commit(&[0; 257], &[]), Err(Error::TagTooLong { len: 257 })));
        assert!(journal.commit(b"", &[mark(0); 4]).is_err());
        assert_eq!(Journal::open(&fd, len).unwrap().1.number, 5);
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_an_entry_that_fits(words in prop::collection::vec((0usize..70, any::<u64>()), 1..9)) {
            let (fd, len) = create(2).unwrap();
            let (mut journal, _) = Journal::open(&fd, len).unwrap();
            journal.commit(b"tag", &[]).unwrap();
            for (at, word) in words {
                journal.map.atomic64(at * 8).store(word, Ordering::Relaxed);
            }
            if let Ok((mut journal, entry)) = Journal::open(&fd, len) {
                prop_assert!(entry.tag.len() <= MAX_TAG && entry.marks.len() <= 2);
                journal.commit(b"next", &[]).unwrap();
                prop_assert_eq!(Journal::open(&fd, len).unwrap().1.tag, b"next");
            }
        }
    }

    #[test]
    fn another_length_than_announced_is_an_error() {
        let (fd, len) = create(2).unwrap();
        for len in [0, 1, len - 1, len + 4096, u64::MAX] {
            assert!(Journal::open(&fd, len).is_err());
        }
    }
}
