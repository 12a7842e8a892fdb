//! Shared mappings of memory files, once or with a ring at the end mapped twice in a row.
//!
//! No reference to the bytes is given out, since a peer may write them at any time: words are read and written as
//! atomics, within the mapping only. Who reads or writes bytes does so through [`Shared::at`] and says why it may.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};

use crate::sched::{Bits, MemoryMode};

/// The longest mapping made, ring counted twice.
pub const MAX_LEN: usize = 1 << 40;

/// Of any memory file.
const LARGEST_PAGE: usize = 1 << 30;

/// Mappings begin and end at multiples of this.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// A 32-bit word that may only be read here, or slept on.
#[repr(transparent)]
#[derive(Debug)]
pub struct Word32(AtomicU32);

/// A 64-bit word that may only be read here. Loads of every order are mere loads on the 64-bit processors that Linux runs
/// on, at most with a fence, so they work through a mapping that cannot be written.
#[repr(transparent)]
#[derive(Debug)]
pub struct Word64(AtomicU64);

impl Word32 {
    pub fn of(word: &AtomicU32) -> &Self {
        // SAFETY: transparent over AtomicU32, and it only takes away what one may do.
        unsafe { &*ptr::from_ref(word).cast() }
    }

    #[inline]
    pub fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    /// For the kernel, which reads it.
    pub(crate) fn atomic(&self) -> &AtomicU32 {
        &self.0
    }
}

impl Word64 {
    #[inline]
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
}

/// A mapping, readable at least; unmapped when dropped.
#[derive(Debug)]
pub struct Shared {
    base: NonNull<u8>,
    len: usize,
}

/// A mapping through which nothing can be written.
#[derive(Debug)]
pub struct ReadMap(Shared);

/// A mapping that can be written.
#[derive(Debug)]
pub struct WriteMap(Shared);

// SAFETY: a mapping belongs to the process, not to a thread; safe access to it is by atomics only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps `head + ring` bytes of `fd`, then its last `ring` bytes a second time right behind.
    fn map(fd: BorrowedFd<'_>, head: usize, ring: usize, prot: ProtFlags) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let whole = head + ring;
        if whole == 0 || whole > MAX_LEN / 2 || !head.is_multiple_of(page) || !ring.is_multiple_of(page) {
            return Err(Errno::INVAL.into());
        }
        let reserved = ManuallyDrop::new(Self::reserve(whole + ring, grain(fd)?.max(page))?);
        let (base, len) = (reserved.base, reserved.len);
        let unmap = |at: usize, len: usize| {
            if len > 0 {
                // SAFETY: a part of the range reserved just above that is still ours, and that nobody else knows yet.
                let _ = unsafe { rustix::mm::munmap(base.as_ptr().add(at).cast(), len) };
            }
        };
        for (at, offset, part) in [(0, 0, whole), (whole, head, ring)] {
            if part > 0 {
                // SAFETY: `at + part` is within the range reserved just above, which nobody else knows yet.
                let mapped = unsafe {
                    let at = base.as_ptr().add(at).cast();
                    rustix::mm::mmap(at, part, prot, MapFlags::SHARED | MapFlags::FIXED, fd, offset as u64)
                };
                if let Err(e) = mapped {
                    // The kernel may have unmapped this part, and another thread's mapping may lie there by now: it is
                    // left alone.
                    unmap(0, at);
                    unmap(at + part, len - at - part);
                    return Err(e.into());
                }
            }
        }
        Ok(Self { base, len })
    }

    /// Addresses that nothing else will use, from a multiple of `align` on.
    fn reserve(len: usize, align: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let slack = align - page;
        let none = ProtFlags::empty();
        // SAFETY: a new mapping at an address of the kernel's choice: it covers nothing that exists.
        let all = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len + slack, none, MapFlags::PRIVATE)? };
        let before = all.align_offset(align);
        // SAFETY: within the mapping: `slack` is the most that aligning can take.
        let base = unsafe { all.cast::<u8>().add(before) };
        for (at, len) in [(all.cast::<u8>(), before), (base.wrapping_add(len), slack - before)] {
            if len > 0 {
                // SAFETY: of the mapping made just above, the part before or behind what is kept.
                unsafe { rustix::mm::munmap(at.cast(), len)? };
            }
        }
        Ok(Self { base: NonNull::new(base).ok_or(Errno::NOMEM)?, len })
    }

    /// Bytes that can be addressed, the second view of a ring counted.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        false // an empty mapping cannot be made
    }

    /// The address of `len` bytes at `offset`.
    ///
    /// # Panics
    /// If they are not all within the mapping.
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        if offset > self.len || len > self.len - offset {
            outside(offset, len);
        }
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.add(offset) }
    }

    /// The 64-bit word at `offset`, to read.
    ///
    /// # Panics
    /// If it is not aligned or not within the mapping.
    #[inline]
    pub fn word64(&self, offset: usize) -> &Word64 {
        assert!(offset.is_multiple_of(8));
        // SAFETY: aligned and within the mapping, which lives as long as `self`; zeroed memory is a valid word,
        // everyone who shares it uses it as an atomic, and reading one needs no write access.
        unsafe { self.at(offset, 8).cast::<Word64>().as_ref() }
    }

    /// The 32-bit word at `offset`, to read or sleep on. Panics as [`Self::word64`] does.
    #[inline]
    pub fn word32(&self, offset: usize) -> &Word32 {
        assert!(offset.is_multiple_of(4));
        // SAFETY: as in `word64`.
        unsafe { self.at(offset, 4).cast::<Word32>().as_ref() }
    }

    /// Copies the bytes at `offset` out. A peer that writes them meanwhile tears the copy, nothing else.
    ///
    /// # Panics
    /// If they are not all within the mapping.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: readable for that length, and `to` is private memory, so they do not overlap. Other processes may
        // write the source: the copy reads plain bytes, any value of which is valid, and none is read twice.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) }
    }

    /// write(2) of bytes of the mapping: how many were taken. The kernel reads them; EINTR is retried.
    ///
    /// # Panics
    /// If they are not all within the mapping.
    pub fn write_out(&self, offset: usize, len: usize, to: impl AsFd) -> io::Result<usize> {
        let from = self.at(offset, len);
        loop {
            // SAFETY: readable for that length.
            let n = unsafe { libc::write(to.as_fd().as_raw_fd(), from.as_ptr().cast(), len) };
            match usize::try_from(n) {
                Ok(n) => return Ok(n),
                Err(_) => {
                    let e = io::Error::last_os_error();
                    if e.kind() != io::ErrorKind::Interrupted {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// A hint: this process will soon read what lies at `offset`. Nothing happens if that is outside.
    #[inline]
    pub fn will_read(&self, offset: usize) {
        if offset < self.len {
            // SAFETY: within the mapping; and it is a hint, which changes nothing.
            unsafe { prefetch::<false>(self.base.as_ptr().add(offset)) };
        }
    }

    /// Sets up the page tables of the whole mapping, so that no first touch costs a fault.
    fn populate(&self, advice: Advice) -> io::Result<()> {
        loop {
            // SAFETY: populating changes no contents.
            match unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) } {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }
}

/// What addresses of mappings of this file must be multiples of: of its pages, which may be huge.
fn grain(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let size = rustix::fs::fstat(fd)?.st_blksize;
    Ok(usize::try_from(size).ok().filter(|s| s.is_power_of_two() && *s <= LARGEST_PAGE).unwrap_or(0))
}

/// Apart from who checks, so that checking costs nearly nothing.
#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize) -> ! {
    panic!("{len} bytes at {offset} are outside the mapping")
}

/// # Safety
/// None is needed where a hint exists; the pointer is one to memory for good measure.
#[inline(always)]
unsafe fn prefetch<const WRITE: bool>(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: these load nothing that the program could see, and no address makes them fail; where the processor does
    // not know `prefetchw`, it does nothing.
    unsafe {
        use std::arch::asm;
        match WRITE {
            true => asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags)),
            false => asm!("prefetcht0 [{}]", in(reg) at, options(nostack, preserves_flags, readonly)),
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::asm;
        match WRITE {
            true => asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags)),
            false => asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly)),
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: ours, whole, and no reference into it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl ReadMap {
    /// The first `len` bytes of `fd`, whole pages.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::ring(fd, len, 0)
    }

    /// `head` bytes, then a ring of `ring` bytes twice in a row; whole pages both.
    pub fn ring(fd: impl AsFd, head: usize, ring: usize) -> io::Result<Self> {
        Shared::map(fd.as_fd(), head, ring, ProtFlags::READ).map(Self)
    }

    /// A second mapping of its first `len` bytes, whole pages, with a life of its own.
    pub fn again(&self, len: usize) -> io::Result<Self> {
        if len == 0 || len > self.0.len || !len.is_multiple_of(page_size()) {
            return Err(Errno::INVAL.into());
        }
        let old = self.0.base.as_ptr().cast();
        // SAFETY: with an old length of 0, mremap(2) leaves the first mapping of shared pages as it is and makes a second
        // one at an address of the kernel's choice: it covers nothing that exists.
        let base = unsafe { rustix::mm::mremap(old, 0, len, MremapFlags::MAYMOVE)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        Ok(Self(Shared { base, len }))
    }

    /// Best effort: saves the first reads a page fault each.
    pub fn populate(&self) {
        let _ = self.0.populate(Advice::LinuxPopulateRead); // Linux 5.14
    }
}

impl WriteMap {
    /// The first `len` bytes of `fd`, whole pages.
    pub fn new(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::ring(fd, len, 0)
    }

    /// `head` bytes, then a ring of `ring` bytes twice in a row; whole pages both.
    pub fn ring(fd: impl AsFd, head: usize, ring: usize) -> io::Result<Self> {
        Shared::map(fd.as_fd(), head, ring, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Gives every page its memory now. EINVAL before Linux 5.14.
    pub fn populate(&self) -> io::Result<()> {
        self.0.populate(Advice::LinuxPopulateWrite)
    }

    /// Where memory that the file does not have yet will come from: one NUMA node; with `strict` from nowhere else.
    pub fn place_on(&self, node: u32, strict: bool) -> io::Result<()> {
        let mode = if strict { MemoryMode::Bind } else { MemoryMode::Preferred };
        let nodes = Bits::of(&[node]).ok_or(Errno::INVAL)?;
        nodes
            .place_memory(mode.number(), self.0.base.as_ptr() as usize, self.0.len)
            .map_err(io::Error::from_raw_os_error)
    }

    /// A hint: this process will soon write what lies at `offset`, and wants its cache line for itself. Nothing happens
    /// if that is outside.
    #[inline]
    pub fn will_write(&self, offset: usize) {
        if offset < self.0.len {
            // SAFETY: within the mapping; and it is a hint, which changes nothing.
            unsafe { prefetch::<true>(self.0.base.as_ptr().add(offset)) };
        }
    }

    /// The 64-bit word at `offset`. Panics as [`Shared::word64`] does.
    #[inline]
    pub fn atomic64(&self, offset: usize) -> &AtomicU64 {
        &self.0.word64(offset).0
    }

    /// The 32-bit word at `offset`. Panics as [`Shared::word64`] does.
    #[inline]
    pub fn atomic32(&self, offset: usize) -> &AtomicU32 {
        &self.0.word32(offset).0
    }
}

impl Deref for ReadMap {
    type Target = Shared;
    #[inline]
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for WriteMap {
    type Target = Shared;
    #[inline]
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd;

    #[test]
    fn a_ring_is_seen_twice_in_a_row() {
        let page = rustix::param::page_size();
        let fd = memfd::create("test", 3 * page as u64).unwrap();
        let map = WriteMap::ring(&fd, page, 2 * page).unwrap();
        map.populate().unwrap();
        assert_eq!(map.len(), 5 * page);
        map.atomic64(page).store(7, Ordering::Relaxed);
        assert_eq!(map.word64(3 * page).load(Ordering::Relaxed), 7);
        map.atomic64(5 * page - 8).store(9, Ordering::Relaxed);
        let reader = ReadMap::ring(memfd::read_only(fd.as_fd()).unwrap(), page, 2 * page).unwrap();
        reader.populate();
        assert_eq!(reader.word64(3 * page - 8).load(Ordering::Relaxed), 9);
        assert_eq!(reader.word32(3 * page).load(Ordering::Relaxed), 7);
        let again = reader.again(3 * page).unwrap();
        drop(reader);
        assert_eq!((again.word64(page).load(Ordering::Relaxed), again.len()), (7, 3 * page));
        assert!(again.again(4 * page).is_err());
    }

    #[test]
    fn a_read_only_descriptor_cannot_be_mapped_for_writing() {
        let page = rustix::param::page_size();
        let fd = memfd::create("test", page as u64).unwrap();
        let reader = memfd::read_only(fd.as_fd()).unwrap();
        assert_eq!(WriteMap::new(&reader, page).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn memory_comes_from_the_node_that_was_asked_for() {
        let page = rustix::param::page_size();
        let node = crate::sched::memory_nodes_allowed().unwrap()[0];
        for strict in [true, false] {
            let name = format!("placed-{strict}");
            let fd = memfd::create(&name, 8 * page as u64).unwrap();
            let map = WriteMap::ring(&fd, 0, 8 * page).unwrap();
            map.place_on(node, strict).unwrap();
            map.populate().unwrap();
            let all = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
            let line = all.lines().find(|l| l.contains(&name)).unwrap();
            let policy = if strict { format!(" bind:{node} ") } else { format!(" prefer:{node} ") };
            assert!(line.contains(&policy) && line.contains(&format!(" N{node}=8")), "{line}");
        }
        let fd = memfd::create("nowhere", page as u64).unwrap();
        assert!(WriteMap::new(&fd, page).unwrap().place_on(1023, true).is_err(), "there is no such node");
    }

    #[test]
    fn huge_pages_can_be_a_ring_too() {
        const HUGE: usize = 2 << 20;
        let fd = memfd::create_huge("test", 2 * HUGE as u64, HUGE as u64).unwrap();
        match WriteMap::ring(&fd, 0, 2 * HUGE) {
            Ok(map) => {
                map.populate().unwrap();
                memfd::seal(fd.as_fd()).unwrap();
                memfd::check(&fd, 2 * HUGE as u64, true).unwrap();
                map.atomic64(8).store(7, Ordering::Relaxed);
                let reader = ReadMap::ring(memfd::read_only(fd.as_fd()).unwrap(), 0, 2 * HUGE).unwrap();
                assert_eq!(reader.word64(2 * HUGE + 8).load(Ordering::Relaxed), 7);
            }
            // None are reserved on this machine, and that is said before they are touched.
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENOMEM)),
        }
        assert!(memfd::create_huge("test", 1 << 20, 1 << 20).is_err());
    }

    #[test]
    fn impossible_lengths_are_errors() {
        let page = rustix::param::page_size();
        let fd = memfd::create("test", page as u64).unwrap();
        for (head, ring) in [(0, 0), (1, 0), (page, 1), (page, MAX_LEN)] {
            assert!(ReadMap::ring(&fd, head, ring).is_err());
        }
    }

    #[test]
    #[should_panic = "outside the mapping"]
    fn a_word_outside_is_a_panic_not_a_read() {
        let page = rustix::param::page_size();
        let fd = memfd::create("test", page as u64).unwrap();
        ReadMap::new(&fd, page).unwrap().word64(page);
    }
}
