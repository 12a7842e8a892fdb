//! Loom's atomics, with sequential consistency.
//!
//! Loom takes a sequentially consistent load or store for one that acquires or releases, and knows only such fences. So
//! a load here comes behind such a fence if a store came before it in its thread: what C++ promises of the two, and
//! nothing for two of which one is weaker.

use std::cell::{Cell, OnceCell, UnsafeCell};
use std::sync::Arc;

use loom::sync::atomic;

use super::super::atomic::Ordering;

loom::thread_local! {
    /// A sequentially consistent store came after the last fence.
    static STORED: Cell<bool> = Cell::new(false);
}

pub fn fence(order: Ordering) {
    if order == Ordering::SeqCst {
        STORED.with(|s| s.set(false));
    }
    atomic::fence(order);
}

pub fn spin_loop() {
    loom::thread::yield_now();
}

/// Before an operation that loads.
fn loads(order: Ordering) {
    if order == Ordering::SeqCst && STORED.with(Cell::get) {
        fence(order);
    }
}

/// After an operation that stores.
fn stored(order: Ordering) {
    if order == Ordering::SeqCst {
        STORED.with(|s| s.set(true));
    }
}

/// Also stands for the 8 plain bytes that lie there, when it is not used as a word.
#[derive(Debug)]
pub struct AtomicU64(UnsafeCell<atomic::AtomicU64>);

// SAFETY: loom runs all threads of a model as coroutines of one thread.
unsafe impl Sync for AtomicU64 {}
// SAFETY: as above.
unsafe impl Send for AtomicU64 {}

impl AtomicU64 {
    pub fn new(n: u64) -> Self {
        Self(UnsafeCell::new(atomic::AtomicU64::new(n)))
    }

    fn loom(&self) -> &atomic::AtomicU64 {
        // SAFETY: the exclusive reference of `written` lives within it alone.
        unsafe { &*self.0.get() }
    }

    pub fn load(&self, order: Ordering) -> u64 {
        loads(order);
        self.loom().load(order)
    }

    pub fn store(&self, n: u64, order: Ordering) {
        self.loom().store(n, order);
        stored(order);
    }

    pub fn compare_exchange(&self, old: u64, new: u64, ok: Ordering, not: Ordering) -> Result<u64, u64> {
        loads(ok);
        let result = self.loom().compare_exchange(old, new, ok, not);
        stored(ok);
        result
    }

    pub fn swap(&self, n: u64, order: Ordering) -> u64 {
        self.change(order, |loom| loom.swap(n, order))
    }

    pub fn fetch_add(&self, n: u64, order: Ordering) -> u64 {
        self.change(order, |loom| loom.fetch_add(n, order))
    }

    pub fn fetch_sub(&self, n: u64, order: Ordering) -> u64 {
        self.change(order, |loom| loom.fetch_sub(n, order))
    }

    pub fn fetch_or(&self, n: u64, order: Ordering) -> u64 {
        self.change(order, |loom| loom.fetch_or(n, order))
    }

    pub fn fetch_and(&self, n: u64, order: Ordering) -> u64 {
        self.change(order, |loom| loom.fetch_and(n, order))
    }

    fn change(&self, order: Ordering, change: impl FnOnce(&atomic::AtomicU64) -> u64) -> u64 {
        loads(order);
        let old = change(self.loom());
        stored(order);
        old
    }

    /// Its bytes are read as what they are: that nobody writes them meanwhile is checked.
    pub(super) fn read(&self) {
        // SAFETY: loom's own check is what makes it one.
        let _ = unsafe { self.loom().unsync_load() };
    }

    /// Its bytes are written: nobody else may touch them meanwhile, and the word that was there is no more.
    pub(super) fn written(&self) {
        // SAFETY: one thread, and no other reference is used while this one lives.
        let loom = unsafe { &mut *self.0.get() };
        loom.with_mut(|n| *n = u64::from_ne_bytes(*b"no word!"));
    }
}

/// A half of a word; or one of its own, made when it is first used.
#[derive(Debug)]
pub struct AtomicU32 {
    word: OnceCell<Arc<AtomicU64>>,
    shift: u32,
    initial: u32,
}

impl Default for AtomicU32 {
    fn default() -> Self {
        Self::new(0)
    }
}

// SAFETY: as for AtomicU64.
unsafe impl Sync for AtomicU32 {}
// SAFETY: as above.
unsafe impl Send for AtomicU32 {}

impl AtomicU32 {
    pub const fn new(n: u32) -> Self {
        Self { word: OnceCell::new(), shift: 0, initial: n }
    }

    pub(super) fn half(word: &Arc<AtomicU64>, shift: u32) -> Self {
        Self { word: OnceCell::from(word.clone()), shift, initial: 0 }
    }

    /// What sleepers know it by.
    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(self.word()) as usize + self.shift as usize / 8
    }

    fn word(&self) -> &Arc<AtomicU64> {
        self.word.get_or_init(|| Arc::new(AtomicU64::new(self.initial.into())))
    }

    pub fn load(&self, order: Ordering) -> u32 {
        (self.word().load(order) >> self.shift) as u32
    }

    /// Counts what happens in a model, and so never into the other half.
    pub fn fetch_add(&self, n: u32, order: Ordering) -> u32 {
        (self.word().fetch_add(u64::from(n) << self.shift, order) >> self.shift) as u32
    }

    /// The other half stays as it is: none of the words that are used by halves has two writers.
    pub fn store(&self, n: u32, order: Ordering) {
        let word = self.word();
        let mask = u64::from(u32::MAX) << self.shift;
        let old = word.load(Ordering::Relaxed);
        word.store(old & !mask | u64::from(n) << self.shift, order);
    }
}
