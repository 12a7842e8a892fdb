//! The thread that makes the edges of gangs: giving them their memory can take seconds, while the loop has to hear
//! signals and keep time. One after the other, since each looks first whether there is memory enough.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nexusflow_sys::event::EventFd;

use super::Context;
use super::wiring::Gang;
use crate::diag::Diagnostic;
use crate::pipeline::GangId;

pub(super) struct Answer {
    pub gang: GangId,
    pub result: Result<Gang, Box<Diagnostic>>,
}

/// Set when nobody wants the gang's edges any more.
type Cancelled = Arc<AtomicBool>;

/// The thread, which ends with this; one that is in the middle of something, with the process.
pub(super) struct Preparer {
    requests: Sender<(GangId, Cancelled)>,
    answers: Receiver<(Answer, Cancelled)>,
    asked: HashMap<GangId, Cancelled>,
}

impl Preparer {
    /// `notify` becomes readable when there are answers.
    pub fn new(cx: &Arc<Context>, notify: &Arc<EventFd>) -> io::Result<Self> {
        let (requests, inbox) = channel::<(GangId, Cancelled)>();
        let (outbox, answers) = channel();
        let (cx, notify) = (cx.clone(), notify.clone());
        let work = move || {
            for (gang, cancelled) in inbox {
                if cancelled.load(Ordering::Relaxed) {
                    continue;
                }
                let result = Gang::prepare(&cx, gang, &cancelled);
                // Half made, or made for nobody: its memory is given back here, not on the loop.
                if cancelled.load(Ordering::Relaxed) {
                    continue;
                }
                if outbox.send((Answer { gang, result }, cancelled)).is_err() {
                    return;
                }
                let _ = notify.notify();
            }
        };
        thread::Builder::new().name("prepare".into()).stack_size(256 * 1024).spawn(work)?;
        Ok(Self { requests, answers, asked: HashMap::new() })
    }

    pub fn request(&mut self, gang: GangId) {
        let cancelled = Cancelled::default();
        self.asked.insert(gang, cancelled.clone());
        self.requests.send((gang, cancelled)).expect("the thread lives as long as there may be requests");
    }

    /// No answer will come for it.
    pub fn cancel(&mut self, gang: GangId) {
        if let Some(cancelled) = self.asked.remove(&gang) {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// The next gang that is ready, if there is one now.
    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            let (answer, cancelled) = self.answers.try_recv().ok()?;
            if !cancelled.load(Ordering::Relaxed) {
                self.asked.remove(&answer.gang);
                return Some(answer);
            }
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.asked.values().for_each(|cancelled| cancelled.store(true, Ordering::Relaxed));
    }
}
