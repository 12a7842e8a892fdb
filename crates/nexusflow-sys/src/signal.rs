//! Signals: their names, the calling thread's mask, dispositions, and reading them from a descriptor.

pub use libc::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGTERM, SIGXFSZ};

use crate::raw::check;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The highest signal number; 32 and up are real-time signals without names of their own.
const MAX: i32 = 64;

const NAMES: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of `INT`, `SIGINT`, `int` or `2`.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(n) = text.parse() {
        return (1..=MAX).contains(&n).then_some(n);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = match name {
        "POLL" => "IO",
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        other => other,
    };
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// The name without SIG; None for real-time signals.
pub fn name(number: i32) -> Option<&'static str> {
    NAMES.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}

/// All standard names, for lists and suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// A thread's signal mask as it was.
pub struct Mask(libc::sigset_t);

impl Mask {
    pub fn restore(&self) -> io::Result<()> {
        change(libc::SIG_SETMASK, &self.0).map(drop)
    }
}

/// Blocks these signals in the calling thread and in those it starts from now on.
pub fn block(signals: &[i32]) -> io::Result<Mask> {
    change(libc::SIG_BLOCK, &set(signals)?)
}

/// Blocks every signal but these.
pub fn block_all_but(signals: &[i32]) -> io::Result<Mask> {
    change(libc::SIG_SETMASK, &set((1..=MAX).filter(|s| !signals.contains(s)).collect::<Vec<_>>().iter())?)
}

fn change(how: i32, set: &libc::sigset_t) -> io::Result<Mask> {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: reads one set and writes one.
    match unsafe { libc::pthread_sigmask(how, set, before.as_mut_ptr()) } {
        // SAFETY: written by the call, which succeeded.
        0 => Ok(Mask(unsafe { before.assume_init() })),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The kernel's form of a list. EINVAL for a number that is no signal.
pub(crate) fn set<'a>(signals: impl IntoIterator<Item = &'a i32>) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: initialises the set.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: initialised just now.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // libc keeps two numbers to itself; they are not ours to block.
        if !(32..=33).contains(signal) {
            // SAFETY: changes one bit of our set, or refuses the number.
            check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
        }
    }
    Ok(set)
}

/// Has the process ignore a signal. Processes that it starts do not: a spawn resets dispositions, provided that they were
/// changed here or before the first spawn.
pub fn ignore(signal: i32) -> io::Result<()> {
    dispose(signal, libc::SIG_IGN)
}

/// Gives a signal its default disposition back.
pub fn default(signal: i32) -> io::Result<()> {
    dispose(signal, libc::SIG_DFL)
}

/// Signals whose disposition has been changed through this file: bit n - 1 for signal n. Bits are only ever set.
static CHANGED: AtomicU64 = AtomicU64::new(0);

fn dispose(signal: i32, disposition: libc::sighandler_t) -> io::Result<()> {
    // Before the change, so that no spawn meanwhile misses it.
    CHANGED.fetch_or(bit(signal), Ordering::SeqCst);
    // SAFETY: installs no handler of ours: one of the two standard dispositions.
    if unsafe { libc::signal(signal, disposition) } == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the process ignores a signal, perhaps because it was started so.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    Ok(disposition(signal)? == libc::SIG_IGN)
}

fn disposition(signal: i32) -> io::Result<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only reads the disposition into our struct.
    check(unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) })?;
    // SAFETY: zeroed, then written by the call.
    Ok(unsafe { action.assume_init() }.sa_sigaction)
}

/// The signals that may not be at their default, so that a spawn need not reset all 64, which costs more than everything
/// else that it does: those that were not at the first call, and those changed through this file.
pub(crate) fn not_default() -> u64 {
    static FOUND: OnceLock<u64> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        // libc hides its own two; taking them for changed is harmless.
        let changed = |signal: &i32| disposition(*signal).map_or(true, |d| d != libc::SIG_DFL);
        (1..=MAX).filter(changed).fold(0, |set, signal| set | bit(signal))
    });
    (found | CHANGED.load(Ordering::SeqCst)) & !(bit(libc::SIGKILL) | bit(libc::SIGSTOP))
}

fn bit(signal: i32) -> u64 {
    if (1..=MAX).contains(&signal) { 1 << (signal - 1) } else { 0 }
}

/// A signal that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    pub signal: i32,
    /// Who sent it; 0 for the kernel.
    pub sender: u32,
}

/// Signals as something to poll and read. They must be blocked in every thread.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        let set = set(signals)?;
        // SAFETY: reads the set and opens a descriptor.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: just opened, and nobody else's.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal, or None when none is pending.
    pub fn read(&self) -> io::Result<Option<Arrived>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        loop {
            // SAFETY: writes at most one siginfo.
            let n = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size_of_val(&info)) };
            if n >= 0 {
                // A signalfd gives whole structs only.
                // SAFETY: plain numbers, zeroed and then written.
                let info = unsafe { info.assume_init() };
                return Ok(Some(Arrived { signal: info.ssi_signo as i32, sender: info.ssi_pid }));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["INT", "SIGINT", "sigint", "2"] {
            assert_eq!(number(text), Some(libc::SIGINT), "{text}");
        }
        for text in ["", "SIG", "0", "65", "-2", "NOPE", "SIGSIGINT"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(name(libc::SIGTERM), Some("TERM"));
        assert_eq!(name(40), None);
        assert!(names().all(|n| name(number(n).unwrap()) == Some(n)));
        assert_eq!((1..=31).filter_map(name).count(), 31);
    }

    #[test]
    fn a_blocked_signal_is_read_with_its_sender() {
        let before = block(&[libc::SIGUSR2]).unwrap();
        let fd = SignalFd::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(fd.read().unwrap(), None);
        // SAFETY: sends a signal, blocked here, to this thread only.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGUSR2) };
        assert_eq!(fd.read().unwrap(), Some(Arrived { signal: libc::SIGUSR2, sender: std::process::id() }));
        assert_eq!(fd.read().unwrap(), None);
        before.restore().unwrap();
        assert!(SignalFd::new(&[99]).is_err());
    }
}
