//! Sleeping on words of memory that processes share: wait, wake, wait for any of several. Every sleep is timed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Timespec, WaitFlags, WaitPtr, WaitvFlags};

use crate::map::Word32;

/// The most words that [`wait_any`] can watch at once (FUTEX_WAITV_MAX).
pub const MAX_WORDS: usize = 128;
/// Where the kernel cannot wait for several words, how long to sleep on one before looking at all again.
pub const TURN: Duration = Duration::from_millis(2);

/// Linux before 5.16, or a sandbox that forbids it.
static NO_WAITV: AtomicBool = AtomicBool::new(false);

/// Sleeps while `word` is `expected`, until woken, at most for `timeout`. It may return early: look again.
pub fn wait(word: &Word32, expected: u32, timeout: Duration) -> io::Result<()> {
    match futex::wait(word.atomic(), Flags::empty(), expected, Some(&timespec(timeout))) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Sleeps while every word is what is expected of it. It may return early: look again.
/// Of more than [`MAX_WORDS`] the first are watched, and the sleep is short.
pub fn wait_any(words: &[(&Word32, u32)], timeout: Duration) -> io::Result<()> {
    wait_any_unless(words, timeout, &NO_WAITV)
}

fn wait_any_unless(words: &[(&Word32, u32)], timeout: Duration, no_waitv: &AtomicBool) -> io::Result<()> {
    let (first, timeout) = match words {
        [] => {
            std::thread::sleep(timeout);
            return Ok(());
        }
        [(word, expected)] => return wait(word, *expected, timeout),
        [first, ..] if words.len() <= MAX_WORDS => (first, timeout),
        [first, ..] => (first, timeout.min(TURN)),
    };
    if !no_waitv.load(Ordering::Relaxed) {
        match waitv(&words[..words.len().min(MAX_WORDS)], timeout) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => return Ok(()),
            Err(Errno::NOSYS | Errno::PERM) => no_waitv.store(true, Ordering::Relaxed),
            Err(e) => return Err(e.into()),
        }
    }
    wait(first.0, first.1, timeout.min(TURN))
}

fn waitv(words: &[(&Word32, u32)], timeout: Duration) -> rustix::io::Result<usize> {
    let mut waiters = [futex::Wait::new(); MAX_WORDS];
    for (waiter, (word, expected)) in waiters.iter_mut().zip(words) {
        waiter.val = u64::from(*expected);
        waiter.uaddr = WaitPtr::new(word.atomic().as_ptr().cast());
        waiter.flags = WaitFlags::SIZE_U32;
    }
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let end = Duration::new(now.tv_sec as u64, now.tv_nsec as u32).saturating_add(timeout);
    futex::waitv(&waiters[..words.len()], WaitvFlags::empty(), Some(&timespec(end)), ClockId::Monotonic)
}

/// Wakes everyone who sleeps on `word`, in whatever process; says how many.
pub fn wake_all(word: &Word32) -> usize {
    // The only errors are of the address, which is good; a wake-up lost for another reason is found by the timeout.
    futex::wake(word.atomic(), Flags::empty(), i32::MAX as u32).unwrap_or(0)
}

/// [`wake_all`] for a word of one's own.
pub fn wake_all_own(word: &AtomicU32) -> usize {
    wake_all(Word32::of(word))
}

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::map::{ReadMap, WriteMap};
    use crate::memfd;

    const LONG: Duration = Duration::from_secs(20);

    /// Wakes until someone was woken: the sleeper may not sleep yet.
    fn wake_someone(word: &Word32) {
        while wake_all(word) == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_sleeps_through_a_read_only_mapping_and_is_woken_through_another() {
        let page = rustix::param::page_size();
        let fd = memfd::create("test", page as u64).unwrap();
        let writer = WriteMap::new(&fd, page).unwrap();
        let reader = ReadMap::new(memfd::read_only(fd.as_fd()).unwrap(), page).unwrap();
        let own = AtomicU32::new(5);
        std::thread::scope(|s| {
            let single = s.spawn(|| wait(reader.word32(64), 0, LONG));
            wake_someone(Word32::of(writer.atomic32(64)));
            single.join().unwrap().unwrap();
            let several = s.spawn(|| wait_any(&[(reader.word32(64), 0), (Word32::of(&own), 5)], LONG));
            wake_someone(writer.word32(64));
            several.join().unwrap().unwrap();
            let several = s.spawn(|| wait_any(&[(reader.word32(64), 0), (Word32::of(&own), 5)], LONG));
            wake_someone(Word32::of(&own));
            several.join().unwrap().unwrap();
        });
    }

    #[test]
    fn where_the_kernel_cannot_wait_for_several_the_sleep_is_short() {
        let (a, b) = (AtomicU32::new(1), AtomicU32::new(2));
        wait_any_unless(&[(Word32::of(&a), 1), (Word32::of(&b), 2)], LONG, &AtomicBool::new(true)).unwrap();
    }

    #[test]
    fn a_changed_word_is_not_slept_on_and_every_sleep_ends() {
        let (a, b) = (AtomicU32::new(1), AtomicU32::new(2));
        let (a, b) = (Word32::of(&a), Word32::of(&b));
        wait(a, 0, LONG).unwrap();
        wait_any(&[(a, 1), (b, 0)], LONG).unwrap();
        wait(a, 1, Duration::from_millis(1)).unwrap();
        wait_any(&[(a, 1), (b, 2)], Duration::from_millis(1)).unwrap();
        let many = [(a, 1); MAX_WORDS + 1];
        wait_any(&many, LONG).unwrap();
    }
}
