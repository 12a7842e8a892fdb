//! Sleeping on words, as [`crate::futex`] but without an end: who is never woken is a deadlock, and loom reports it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::atomic::{AtomicU32, Ordering};
use crate::map::Word32;

pub const MAX_WORDS: usize = 128;
/// A sleep that is shorter ends at once: it could, and who sleeps so briefly does not rely on being woken.
const LONG: Duration = Duration::from_secs(1);

loom::lazy_static! {
    static ref ASLEEP: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
}

#[derive(Debug, Clone)]
struct Sleeper {
    keys: Vec<usize>,
    bed: Arc<Condvar>,
}

/// In the thread that makes the memory, so that nothing is learnt from who slept first.
pub(super) fn init() {
    drop(ASLEEP.lock());
}

pub fn wait(word: &Word32, expected: u32, timeout: Duration) -> io::Result<()> {
    wait_any(&[(word, expected)], timeout)
}

pub fn wait_any(words: &[(&Word32, u32)], timeout: Duration) -> io::Result<()> {
    if timeout < LONG {
        loom::thread::yield_now();
        return Ok(());
    }
    let mut asleep = ASLEEP.lock().unwrap();
    if words.iter().any(|(word, expected)| word.load(Ordering::Relaxed) != *expected) {
        return Ok(());
    }
    let bed = Arc::new(Condvar::new());
    asleep.push(Sleeper { keys: words.iter().map(|(word, _)| word.atomic().key()).collect(), bed: bed.clone() });
    while asleep.iter().any(|s| Arc::ptr_eq(&s.bed, &bed)) {
        asleep = bed.wait(asleep).unwrap();
    }
    Ok(())
}

pub fn wake_all(word: &Word32) -> usize {
    let key = word.atomic().key();
    let mut asleep = ASLEEP.lock().unwrap();
    let woken: Vec<_> = asleep.extract_if(.., |s| s.keys.contains(&key)).collect();
    woken.iter().for_each(|s| s.bed.notify_all());
    woken.len()
}

pub fn wake_all_own(word: &AtomicU32) -> usize {
    wake_all(Word32::of(word))
}
