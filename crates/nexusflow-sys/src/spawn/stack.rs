//! The private stack that a child starts on: mapped once per spawning thread, with a guard below.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::io;
use std::ptr;

/// Room for `child::main`, whose largest frame holds a 2 KiB buffer. Only touched pages cost memory.
const STACK_BYTES: usize = 64 << 10;
/// Below it: large enough to be whole pages everywhere (pages have up to 64 KiB).
const GUARD_BYTES: usize = 64 << 10;

pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    pub fn new() -> io::Result<Stack> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::STACK);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), GUARD_BYTES + STACK_BYTES, protection, flags) }?;
        let stack = Stack { base };
        // SAFETY: these are the lowest bytes of our own new mapping.
        unsafe { mprotect(base, GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    /// Where a stack that grows down begins: past the end, aligned by the mapping.
    pub fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(GUARD_BYTES + STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, on which nobody runs: `run` takes the stack for the time of a clone.
        let _ = unsafe { munmap(self.base, GUARD_BYTES + STACK_BYTES) };
    }
}
