//! Every store to memory that others see goes through here, so that a test can have its writer die between any two.

use nexusflow_sys::atomic::{AtomicU64, Ordering};

/// Stores a word that others see.
#[inline(always)]
pub fn put(word: &AtomicU64, value: u64, order: Ordering) {
    step();
    word.store(value, order);
}

/// Before something that others see.
#[inline(always)]
pub fn step() {
    #[cfg(test)]
    death::step();
}

/// Dies at a chosen step: the thread unwinds, and nothing that is dropped on the way touches shared memory.
#[cfg(test)]
pub mod death {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What is thrown.
    #[derive(Debug)]
    pub struct Died;

    pub fn step() {
        match LEFT.get() {
            Some(0) => std::panic::resume_unwind(Box::new(Died)),
            Some(n) => LEFT.set(Some(n - 1)),
            None => {}
        }
    }

    /// Runs `work` until its `steps`th step: what it returned, or `None` if it died there.
    pub fn after<T>(steps: u32, work: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(Some(steps));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        LEFT.set(None);
        match result {
            Ok(value) => Some(value),
            Err(e) if e.is::<Died>() => None,
            Err(e) => std::panic::resume_unwind(e),
        }
    }
}
