//! How one side of a ring waits for the other: spin, sleep on a word, and what ends a wait early.

use std::time::{Duration, Instant};

use nexusflow_sys::atomic::{AtomicU32, Ordering, spin_loop};
use nexusflow_sys::map::Word32;
use nexusflow_sys::{futex, sched};

use crate::error::{Error, Result};

/// No sleep is longer: should a wake-up ever be lost, this finds it. Seldom, since a hundred waiting adapters shall cost
/// the runner nothing, and the runner wakes everyone when a process has died.
pub const MAX_SLEEP: Duration = Duration::from_secs(10);
/// An adaptive wait spins at most so long: about what it costs both sides to sleep and be woken, twice.
const MAX_SPIN: Duration = Duration::from_micros(50);
/// And at least so long, unless both sides have but one and the same CPU.
const MIN_SPIN: Duration = Duration::from_micros(2);
/// So often it looks without a pause between, which can take longer than a message does.
const EAGER_LOOKS: u32 = 64;
/// A wait of so few looks is a hasty one: it ended as soon as it began.
const HASTY_LOOKS: u32 = 4;
/// So many hasty waits in a row are a stream, and the next begins with so many pauses, about a microsecond.
const STREAM: u32 = 4;
const STREAM_PAUSES: u32 = 48;
/// In a model, where no time passes: how often an adaptive wait looks before it sleeps.
const MODEL_LOOKS: u32 = 4;
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

    /// What is left of it, at most `limit`.
    pub(crate) fn left(&self, limit: Duration) -> Duration {
        self.deadline.map_or(limit, |d| d.saturating_duration_since(Instant::now()).min(limit))
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

/// What one end of a ring has learnt of how long it waits, which decides how long it spins. Nothing of it is shared.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    /// Its waits of late, weighted by how late.
    usual_ns: u64,
    /// The only CPU that who waits may use, as [`Self::cpu`] says it. Found out at the first wait.
    cpu: Option<u32>,
    /// How many waits in a row were very short.
    hasty: u32,
}

impl Patience {
    /// For one wait for a side that said `theirs` of its [`cpu`](Self::cpu). Nobody spins against the one it waits for on
    /// the one CPU that both have.
    #[inline]
    pub(crate) fn spinner(&mut self, mode: WaitMode, theirs: u32) -> Spinner {
        let together = theirs != 0 && self.cpu == Some(theirs);
        let mode = if mode == WaitMode::Adaptive && together { WaitMode::Block } else { mode };
        if mode != WaitMode::Block && self.hasty >= STREAM && !cfg!(loom) {
            // Messages come one upon the other. Who looks all the time takes the cache lines out of the hands of who
            // writes them, and both are slower: better to let some come together.
            (0..STREAM_PAUSES).for_each(|_| spin_loop());
        }
        Spinner { mode, looks: 0, budget: self.budget(), started: None }
    }

    /// The number of the only CPU that the calling thread may use, and one; 0 if there are more.
    fn cpu() -> u32 {
        match sched::affinity(0).as_deref() {
            Ok([cpu]) if !cfg!(loom) => cpu + 1,
            _ => 0,
        }
    }

    /// Before the first wait: what to tell the other side.
    #[inline]
    pub(crate) fn introduce(&mut self, mode: WaitMode) -> Option<u32> {
        if mode != WaitMode::Adaptive || self.cpu.is_some() {
            return None;
        }
        self.cpu = Some(Self::cpu());
        self.cpu
    }

    /// Twice the usual wait, if that is one to spin for.
    fn budget(&self) -> Duration {
        match Duration::from_nanos(self.usual_ns) {
            usual if usual > MAX_SPIN => MIN_SPIN,
            usual => (2 * usual).clamp(MIN_SPIN, MAX_SPIN),
        }
    }

    /// A wait is over.
    #[inline]
    pub(crate) fn learn(&mut self, spinner: &Spinner) {
        self.hasty = if spinner.looks <= HASTY_LOOKS { self.hasty.saturating_add(1) } else { 0 };
        self.learn_ns(spinner.elapsed_ns());
    }

    #[inline]
    fn learn_ns(&mut self, ns: u64) {
        let longest = 8 * MAX_SPIN.as_nanos() as u64; // so that a few short waits are learnt from
        self.usual_ns = self.usual_ns - self.usual_ns / 8 + ns.min(longest) / 8;
    }
}

/// Counts the looks of one wait, and times it.
pub(crate) struct Spinner {
    mode: WaitMode,
    looks: u32,
    /// How long an adaptive wait spins.
    budget: Duration,
    /// Since the first [`SPINS_PER_CHECK`] looks were not enough: reading the clock costs as much as a short wait.
    started: Option<Instant>,
}

impl Spinner {
    /// Of one who has learnt nothing yet.
    pub(crate) fn new(mode: WaitMode) -> Self {
        let usual_ns = MAX_SPIN.as_nanos() as u64;
        Patience { usual_ns, ..Patience::default() }.spinner(mode, 0)
    }

    /// True: look again. False: sleep, then look again.
    #[inline]
    pub(crate) fn spin(&mut self, until: &Until<'_>) -> Result<bool> {
        self.looks = self.looks.wrapping_add(1);
        if self.mode == WaitMode::Block || self.looks.is_multiple_of(SPINS_PER_CHECK) {
            return self.check(until);
        }
        if self.looks > EAGER_LOOKS || cfg!(loom) {
            spin_loop();
        }
        Ok(true)
    }

    #[cold]
    fn check(&mut self, until: &Until<'_>) -> Result<bool> {
        let started = *self.started.get_or_insert_with(Instant::now);
        until.check()?;
        Ok(match self.mode {
            WaitMode::Spin => true,
            WaitMode::Block => false,
            WaitMode::Adaptive if cfg!(loom) && self.looks < MODEL_LOOKS => true,
            WaitMode::Adaptive if !cfg!(loom) && started.elapsed() < self.budget => true,
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn patience_is_learnt_from_waits_and_has_bounds() {
        let mut patience = Patience::default();
        assert_eq!(patience.budget(), MIN_SPIN);
        (0..50).for_each(|_| patience.learn_ns(10_000));
        assert!((15_000..=20_000).contains(&patience.budget().as_nanos()), "{patience:?}");
        (0..50).for_each(|_| patience.learn_ns(40_000));
        assert_eq!(patience.budget(), MAX_SPIN);
        (0..50).for_each(|_| patience.learn_ns(u64::MAX));
        assert_eq!(patience.budget(), MIN_SPIN, "not worth it");
        (0..200).for_each(|_| patience.learn_ns(900));
        assert_eq!(patience.budget(), MIN_SPIN);
    }

    #[test]
    fn who_shares_one_cpu_with_the_other_side_sleeps_at_once_unless_told_to_spin() {
        let first = || {
            std::thread::spawn(|| {
                sched::set_affinity(0, &sched::affinity(0).unwrap()[..1]).unwrap();
                let mut patience = Patience::default();
                let cpu = patience.introduce(WaitMode::Adaptive).unwrap();
                assert!(cpu > 0 && patience.introduce(WaitMode::Adaptive).is_none());
                let mut spins = |mode, theirs| patience.spinner(mode, theirs).spin(&Until::forever()).unwrap();
                [spins(WaitMode::Adaptive, cpu), spins(WaitMode::Adaptive, cpu + 1), spins(WaitMode::Spin, cpu)]
            })
        };
        assert_eq!(first().join().unwrap(), [false, true, true]);
    }
}
