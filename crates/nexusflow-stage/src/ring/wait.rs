//! How one side of a ring waits for the other: spin, sleep on a word, and what ends a wait early.

use std::time::{Duration, Instant};

use nexusflow_sys::atomic::{AtomicU32, Ordering, spin_loop};
use nexusflow_sys::futex;
use nexusflow_sys::map::Word32;

use crate::error::{Error, Result};

/// No sleep is longer: should a wake-up ever be lost, this finds it. Seldom, since a hundred waiting adapters shall cost
/// the runner nothing, and the runner wakes everyone when a process has died.
pub const MAX_SLEEP: Duration = Duration::from_secs(10);
/// How often an adaptive wait looks before it sleeps.
const ADAPTIVE_SPINS: u32 = if cfg!(loom) { 4 } else { 2048 };
/// How often a spinning wait looks before it asks whether it is to end.
const SPINS_PER_CHECK: u32 = if cfg!(loom) { 2 } else { 256 };

/// How the two ends of a ring wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitMode {
    /// Spin a little, then sleep.
    #[default]
    Adaptive = 0,
    /// Never sleep.
    Spin = 1,
    /// Sleep at once.
    Block = 2,
}

impl WaitMode {
    pub fn from_number(n: u32) -> Option<Self> {
        [Self::Adaptive, Self::Spin, Self::Block].into_iter().find(|mode| *mode as u32 == n)
    }
}

/// Ends the waits of other threads: while it rings, every wait that was given it ends as [`Error::Interrupted`].
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// From any thread.
    pub fn ring(&self) {
        self.0.store(1, Ordering::SeqCst);
        futex::wake_all_own(&self.0);
    }

    pub fn silence(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    pub fn rings(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until<'a> {
    deadline: Option<Instant>,
    bell: Option<&'a Bell>,
}

impl<'a> Until<'a> {
    pub const fn forever() -> Self {
        Self { deadline: None, bell: None }
    }

    pub const fn deadline(at: Instant) -> Self {
        Self { deadline: Some(at), bell: None }
    }

    pub fn timeout(after: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(after), bell: None }
    }

    /// Also ends when `bell` rings.
    pub const fn or_bell(self, bell: &'a Bell) -> Self {
        Self { bell: Some(bell), ..self }
    }

    /// No longer than that from now, either.
    pub(crate) fn at_most(self, after: Duration) -> Self {
        let then = Instant::now().checked_add(after);
        Self { deadline: self.deadline.into_iter().chain(then).min(), ..self }
    }

    /// Whether the wait is over, and how.
    pub(crate) fn check(&self) -> Result<()> {
        match (self.bell, self.deadline) {
            (Some(bell), _) if bell.rings() => Err(Error::Interrupted),
            (_, Some(deadline)) if Instant::now() >= deadline => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }

    /// Sleeps until one of the words has changed and its waker says so, or the wait is over, at most `limit`.
    pub(crate) fn sleep(&self, words: &[(&Word32, u32)], limit: Duration) -> Result<()> {
        let left = self.deadline.map_or(limit, |d| d.saturating_duration_since(Instant::now()).min(limit));
        let slept = match (self.bell, words) {
            (None, words) => futex::wait_any(words, left),
            (Some(bell), words) => {
                // First, so that it is watched however many words there are.
                let all: Vec<_> = [(Word32::of(&bell.0), 0)].into_iter().chain(words.iter().copied()).collect();
                futex::wait_any(&all, left)
            }
        };
        slept.map_err(Error::io("sleep until the other side of an edge is ready"))
    }
}

/// Counts the looks of one wait, and times it.
pub(crate) struct Spinner {
    mode: WaitMode,
    looks: u32,
    /// Since the first [`SPINS_PER_CHECK`] looks were not enough: reading the clock costs as much as a short wait.
    started: Option<Instant>,
}

impl Spinner {
    pub(crate) fn new(mode: WaitMode) -> Self {
        Self { mode, looks: 0, started: None }
    }

    /// True: look again. False: sleep, then look again.
    #[inline]
    pub(crate) fn spin(&mut self, until: &Until<'_>) -> Result<bool> {
        self.looks = self.looks.wrapping_add(1);
        if self.mode == WaitMode::Block || self.looks.is_multiple_of(SPINS_PER_CHECK) {
            return self.check(until);
        }
        spin_loop();
        Ok(true)
    }

    #[cold]
    fn check(&mut self, until: &Until<'_>) -> Result<bool> {
        self.started.get_or_insert_with(Instant::now);
        until.check()?;
        Ok(match self.mode {
            WaitMode::Spin => true,
            WaitMode::Block => false,
            WaitMode::Adaptive if self.looks < ADAPTIVE_SPINS => true,
            WaitMode::Adaptive => {
                self.mode = WaitMode::Block; // enough, for this wait
                false
            }
        })
    }

    /// How long the wait has taken, if long enough to count.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        // A model does the same each time it is run, so no clock.
        let started = self.started.filter(|_| !cfg!(loom));
        started.map_or(0, |s| u64::try_from(s.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
