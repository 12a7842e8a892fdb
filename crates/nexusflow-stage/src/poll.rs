//! A descriptor for event loops, which becomes readable when an input has something new.
//!
//! Whoever publishes a message wakes sleepers by futex, which no event loop can wait for. So a thread sleeps there in the
//! loop's place, made when the descriptor is first asked for, and notifies an eventfd.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nexusflow_sys::atomic::{AtomicU32, Ordering};
use nexusflow_sys::event::EventFd;
use nexusflow_sys::futex;
use nexusflow_sys::map::{ReadMap, Word32};

use crate::ring::MAX_SLEEP;

/// A word that changes when there is something new, and what it is until then.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub map: Arc<ReadMap>,
    pub at: usize,
    pub expected: u32,
}

#[derive(Debug)]
pub(crate) struct Poller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Second mappings of the rings, by their number: the thread's, whatever becomes of the first.
    pub maps: HashMap<u32, Arc<ReadMap>>,
}

/// What the thread is to notify of, once.
#[derive(Debug, Default, Clone)]
struct Order {
    watched: Vec<Watch>,
    /// Whatever is watched: at this time.
    at: Option<Instant>,
}

#[derive(Debug)]
struct Shared {
    event: EventFd,
    /// Another number with each order.
    orders: AtomicU32,
    order: Mutex<Order>,
    /// Not 0: the thread is to end.
    over: AtomicU32,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new()?;
        event.notify()?; // nobody has looked yet
        let shared = Shared { event, orders: AtomicU32::new(0), order: Mutex::default(), over: AtomicU32::new(0) };
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("nexusflow-poll".into()).spawn(move || theirs.serve())?;
        Ok(Self { shared, thread: Some(thread), maps: HashMap::new() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// Before the last look: what comes from now on is news.
    pub fn clear(&self) -> io::Result<()> {
        self.shared.order(Order::default());
        self.shared.event.drain().map(|_| ())
    }

    /// Nothing was there: the descriptor becomes readable when one of these has changed.
    pub fn arm(&self, watched: Vec<Watch>) {
        self.shared.order(Order { watched, at: None });
    }

    /// Nothing was there, and nobody will say so when there is: the descriptor becomes readable after this time.
    pub fn arm_after(&self, time: Duration) {
        self.shared.order(Order { watched: Vec::new(), at: Instant::now().checked_add(time) });
    }
}

impl Shared {
    fn order(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        self.orders.fetch_add(1, Ordering::SeqCst);
        futex::wake_all_own(&self.orders);
    }

    fn serve(&self) {
        while self.over.load(Ordering::SeqCst) == 0 {
            let orders = self.orders.load(Ordering::SeqCst);
            {
                // Held while it notifies: an order that comes after it has cleared the event is not answered for an older one.
                let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
                let due = order.at.is_some_and(|at| at <= Instant::now());
                if due || order.watched.iter().any(|w| w.map.word32(w.at).load(Ordering::SeqCst) != w.expected) {
                    *order = Order::default();
                    let _ = self.event.notify();
                }
            }
            let Order { watched, at } = self.order.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let longest = at.map_or(MAX_SLEEP, |at| at.saturating_duration_since(Instant::now()).min(MAX_SLEEP));
            let words = watched.iter().map(|w| (w.map.word32(w.at), w.expected));
            // The order first, so that it is watched however many words there are.
            let words: Vec<_> = [(Word32::of(&self.orders), orders)].into_iter().chain(words).collect();
            if futex::wait_any(&words, longest).is_err() {
                let _ = self.event.notify(); // better a look too many
                return;
            }
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.shared.over.store(1, Ordering::SeqCst);
        self.shared.order(Order::default());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
