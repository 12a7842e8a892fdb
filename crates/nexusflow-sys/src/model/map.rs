//! Mappings of memory files, as [`crate::map`] but in this process's memory, every word of it an atomic of loom's.
//!
//! The files are real, and empty: their inode says which memory is theirs. Words and bytes are one memory to loom: who
//! writes bytes while another reads them, or over a word that another looks at, is reported.

use std::cell::{RefCell, UnsafeCell};
use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// Small, so that the model is: but the words of a cursor lie within it.
const PAGE: usize = 512;

pub fn page_size() -> usize {
    PAGE
}

loom::lazy_static! {
    static ref FILES: RefCell<HashMap<u64, Arc<Memory>>> = RefCell::new(HashMap::new());
}

#[derive(Debug)]
struct Memory {
    words: Vec<Word>,
    /// What lies behind the words; twice, since a record is always met at one and the same place.
    bytes: UnsafeCell<Vec<u64>>,
}

// SAFETY: loom runs all threads of a model as coroutines of one thread.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

#[derive(Debug)]
struct Word {
    whole: Arc<AtomicU64>,
    halves: [AtomicU32; 2],
}

impl Memory {
    /// Of a file; made when it is first met, which is in the thread that makes the file.
    fn of(fd: impl AsFd) -> io::Result<Arc<Self>> {
        super::futex::init();
        let stat = rustix::fs::fstat(fd)?;
        let mut files = FILES.borrow_mut();
        Ok(files.entry(stat.st_ino).or_insert_with(|| Arc::new(Self::new(stat.st_size as usize))).clone())
    }

    fn new(len: usize) -> Self {
        let word = || {
            let whole = Arc::new(AtomicU64::new(0));
            let halves = [AtomicU32::half(&whole, 0), AtomicU32::half(&whole, 32)];
            Word { whole, halves }
        };
        Self { words: (0..len / 8).map(|_| word()).collect(), bytes: UnsafeCell::new(vec![0; 2 * len / 8]) }
    }
}

#[repr(transparent)]
#[derive(Debug)]
pub struct Word32(AtomicU32);

#[repr(transparent)]
#[derive(Debug)]
pub struct Word64(AtomicU64);

impl Word32 {
    pub fn of(word: &AtomicU32) -> &Self {
        // SAFETY: transparent over AtomicU32, and it only takes away what one may do.
        unsafe { &*ptr::from_ref(word).cast() }
    }

    pub fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    pub(crate) fn atomic(&self) -> &AtomicU32 {
        &self.0
    }
}

impl Word64 {
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
}

#[derive(Debug)]
pub struct Shared {
    memory: Arc<Memory>,
    whole: usize,
    ring: usize,
    writable: bool,
}

#[derive(Debug)]
pub struct ReadMap(Shared);

#[derive(Debug)]
pub struct WriteMap(Shared);

impl Shared {
    fn map(fd: impl AsFd, head: usize, ring: usize, writable: bool) -> io::Result<Self> {
        let memory = Memory::of(fd)?;
        assert!(head + ring <= memory.words.len() * 8);
        Ok(Self { memory, whole: head + ring, ring, writable })
    }

    pub fn len(&self) -> usize {
        self.whole + self.ring
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// Tells loom, too, that these bytes are now read, or written where the mapping is for that.
    pub fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len() && len <= self.len() - offset, "{len} bytes at {offset} are outside the mapping");
        for at in (offset / 8..(offset + len).div_ceil(8)).map(|word| word * 8) {
            let word = &self.word(at).whole;
            if self.writable { word.written() } else { word.read() }
        }
        // SAFETY: the bytes are twice as many as the file's, and so at least `len()`.
        unsafe { NonNull::new((*self.memory.bytes.get()).as_mut_ptr().cast::<u8>().add(offset)).unwrap() }
    }

    fn word(&self, offset: usize) -> &Word {
        assert!(offset + 8 <= self.len(), "a word at {offset} is outside the mapping");
        &self.memory.words[if offset < self.whole { offset } else { offset - self.ring } / 8]
    }

    pub fn word64(&self, offset: usize) -> &Word64 {
        assert!(offset.is_multiple_of(8));
        let word: &AtomicU64 = &self.word(offset).whole;
        // SAFETY: transparent over AtomicU64, and it only takes away what one may do.
        unsafe { &*ptr::from_ref(word).cast() }
    }

    pub fn word32(&self, offset: usize) -> &Word32 {
        assert!(offset.is_multiple_of(4));
        Word32::of(&self.word(offset & !7).halves[offset / 4 % 2])
    }

    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: of that length, as `at` has checked, and `to` is other memory.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) }
    }

    pub fn will_read(&self, _: usize) {}

    pub fn write_out(&self, offset: usize, len: usize, to: impl AsFd) -> io::Result<usize> {
        let from = self.at(offset, len);
        // SAFETY: readable for that length.
        let n = unsafe { libc::write(to.as_fd().as_raw_fd(), from.as_ptr().cast(), len) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

impl ReadMap {
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::ring(fd, len, 0)
    }

    pub fn ring(fd: impl AsFd, head: usize, ring: usize) -> io::Result<Self> {
        Shared::map(fd, head, ring, false).map(Self)
    }

    pub fn populate(&self) {}
}

impl WriteMap {
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::ring(fd, len, 0)
    }

    pub fn ring(fd: impl AsFd, head: usize, ring: usize) -> io::Result<Self> {
        Shared::map(fd, head, ring, true).map(Self)
    }

    pub fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    pub fn will_write(&self, _: usize) {}

    /// There are no nodes here.
    pub fn place_on(&self, _node: u32, _strict: bool) -> io::Result<()> {
        Ok(())
    }

    pub fn atomic64(&self, offset: usize) -> &AtomicU64 {
        &self.0.word64(offset).0
    }

    pub fn atomic32(&self, offset: usize) -> &AtomicU32 {
        &self.0.word32(offset).0
    }
}

impl Deref for ReadMap {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for WriteMap {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
