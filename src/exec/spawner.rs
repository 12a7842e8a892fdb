//! The threads that make processes. They live as long as the run: the parent-death signal follows the
//! thread that made a process, not the process it belongs to.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use nexusflow_sys::event::EventFd;

use super::Context;
use super::launch::{Ends, Launched, Launcher};
use crate::diag::Diagnostic;
use crate::plan::TaskId;

/// A vfork holds its thread until the program runs; more threads than this gain nothing.
const MAX_THREADS: usize = 4;

pub(super) struct Request {
    pub task: TaskId,
    pub attempt: u32,
    pub ends: Ends,
}

pub(super) struct Answer {
    pub task: TaskId,
    pub result: Result<Launched, Box<Diagnostic>>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

/// The pool. Dropping it lets the threads finish what is queued and ends them.
pub(super) struct Spawner {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    pub answers: Receiver<Answer>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Spawner {
    /// `notify` becomes readable when there are answers.
    pub fn new(cx: &Arc<Context>, notify: &Arc<EventFd>) -> io::Result<Self> {
        let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let (sender, answers) = channel();
        let wanted = cx.plan.usable.len().clamp(1, MAX_THREADS).min(cx.plan.tasks.len().max(1));
        let threads = (0..wanted)
            .map(|n| {
                let (cx, queue, sender, notify) = (cx.clone(), queue.clone(), sender.clone(), notify.clone());
                thread::Builder::new()
                    .name(format!("spawn-{n}"))
                    .stack_size(256 * 1024)
                    .spawn(move || work(&cx, &queue, &sender, &notify))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue, answers, threads })
    }

    pub fn request(&self, request: Request) {
        let (queue, ready) = &*self.queue;
        queue.lock().expect("no spawner panics with the lock").requests.push_back(request);
        ready.notify_one();
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let (queue, ready) = &*self.queue;
        if let Ok(mut queue) = queue.lock() {
            queue.closed = true;
            queue.requests.clear(); // nobody would hear of them
        }
        ready.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(cx: &Context, queue: &(Mutex<Queue>, Condvar), answers: &Sender<Answer>, notify: &EventFd) {
    let (queue, ready) = queue;
    let mut launcher = Launcher::new(cx);
    loop {
        let request = {
            let mut queue = queue.lock().expect("no spawner panics with the lock");
            loop {
                match queue.requests.pop_front() {
                    Some(request) => break request,
                    None if queue.closed => return,
                    None => queue = ready.wait(queue).expect("no spawner panics with the lock"),
                }
            }
        };
        let Request { task, attempt, ends } = request;
        let result = launcher.launch(task, attempt, ends);
        if answers.send(Answer { task, result }).is_err() {
            return;
        }
        let _ = notify.notify();
    }
}
