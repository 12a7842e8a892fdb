//! A thread between a run and whoever watches it: a terminal that is paused or a reader that is slow must
//! not hold the run up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use crate::diag::Diagnostic;
use crate::exec::Observer;
use crate::record::Fact;

/// Words that wait for a slow listener; what comes beyond is not told to it (the record has it all).
const MAX_WAITING: usize = 65_536;

enum Word {
    Fact(Fact),
    Trouble(Diagnostic),
    /// So many were not told.
    Lost(u64),
}

/// Something that listens, and can be told that it missed a few words.
pub trait Listener: Observer + Send {
    fn lost(&mut self, words: u64);
}

pub struct Talker {
    words: Option<Sender<Word>>,
    /// Said and not yet heard.
    waiting: Arc<AtomicUsize>,
    lost: u64,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    pub fn start(listener: Box<dyn Listener>) -> io::Result<Self> {
        // Not a bounded channel: that takes all its memory at once.
        let (words, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let theirs = waiting.clone();
        let thread = Builder::new().name("talk".into()).spawn(move || talk(listener, &received, &theirs))?;
        Ok(Self { words: Some(words), waiting, lost: 0, thread: Some(thread) })
    }

    fn say(&mut self, word: Word) {
        let Some(words) = &self.words else { return };
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            self.lost += 1;
            return;
        }
        let lost = (self.lost > 0).then_some(Word::Lost(mem::take(&mut self.lost)));
        for word in lost.into_iter().chain([word]) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = words.send(word); // a listener that is gone misses nothing
        }
    }
}

impl Observer for Talker {
    fn fact(&mut self, fact: &Fact) {
        self.say(Word::Fact(fact.clone()));
    }

    fn trouble(&mut self, diagnostic: &Diagnostic) {
        self.say(Word::Trouble(diagnostic.clone()));
    }
}

impl Drop for Talker {
    /// Waits until all is said.
    fn drop(&mut self) {
        let lost = mem::take(&mut self.lost);
        if let Some(words) = self.words.take()
            && lost > 0
        {
            let _ = words.send(Word::Lost(lost));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn talk(mut listener: Box<dyn Listener>, words: &Receiver<Word>, waiting: &AtomicUsize) {
    for word in words {
        waiting.fetch_sub(1, Ordering::Relaxed);
        match word {
            Word::Fact(fact) => listener.fact(&fact),
            Word::Trouble(diagnostic) => listener.trouble(&diagnostic),
            Word::Lost(n) => listener.lost(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::codes;

    struct Slow(Receiver<()>, Sender<String>);

    impl Observer for Slow {
        fn fact(&mut self, _: &Fact) {}

        fn trouble(&mut self, d: &Diagnostic) {
            let _ = self.0.recv(); // as slow as the test wants
            let _ = self.1.send(d.message.clone());
        }
    }

    impl Listener for Slow {
        fn lost(&mut self, words: u64) {
            let _ = self.1.send(format!("lost {words}"));
        }
    }

    #[test]
    fn a_listener_that_stalls_holds_nobody_up_and_is_told_what_it_missed() {
        let ((go, wait), (tell, told)) = (channel(), channel());
        let mut talker = Talker::start(Box::new(Slow(wait, tell))).unwrap();
        let word = Diagnostic::warning(codes::RECORD, "w");
        for _ in 0..MAX_WAITING + 100 {
            talker.trouble(&word);
        }
        drop(go);
        drop(talker);
        let told: Vec<String> = told.iter().collect();
        let lost: usize = told.last().unwrap().strip_prefix("lost ").unwrap().parse().unwrap();
        assert_eq!(told.len() - 1 + lost, MAX_WAITING + 100);
    }
}
