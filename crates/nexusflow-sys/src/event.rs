//! Waiting for many things at once: epoll and wake-ups, as descriptors.

use crate::sched::monotonic_now;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What to wait for (IN, OUT, EDGE via ET, …) and what has happened (also ERR, HUP, RDHUP).
pub use rustix::event::epoll::EventFlags;

/// The events taken from the kernel in one wait.
const EVENTS: usize = 256;
/// The longest single wait that the kernel takes in milliseconds; longer ones are waited out in parts.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Something that became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub flags: EventFlags,
}

/// Room for what a wait returns, to be used again and again.
pub struct Events(Vec<Event>);

impl Default for Events {
    fn default() -> Self {
        Events(Vec::with_capacity(EVENTS))
    }
}

impl Events {
    pub fn iter(&self) -> impl Iterator<Item = Ready> + '_ {
        self.0.iter().map(|e| Ready { token: e.data.u64(), flags: e.flags })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An epoll instance. Remove a descriptor before closing it if another process may hold it open, as with a pidfd.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    pub fn add(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token), flags)?)
    }

    pub fn modify(&self, fd: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token), flags)?)
    }

    pub fn delete(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    /// Waits until something is ready or `timeout` has passed (None: for ever); events is empty in that case.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.map(|t| monotonic_now().saturating_add(t));
        loop {
            let left = deadline.map(|d| d.saturating_sub(monotonic_now()).min(LONGEST_WAIT));
            events.0.clear();
            match epoll::wait(&self.0, spare_capacity(&mut events.0), left.map(timespec).as_ref()) {
                Ok(0) if deadline.is_some_and(|d| monotonic_now() < d) => {}
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

/// Wakes a loop that waits on it, from any thread.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub fn notify(&self) -> io::Result<()> {
        match retry_on_intr(|| rustix::io::write(&self.0, &1_u64.to_ne_bytes())) {
            // A counter at its limit is as awake as can be.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes all notifications so far; whether there was one.
    pub fn drain(&self) -> io::Result<bool> {
        drain(&self.0)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn drain(fd: &OwnedFd) -> io::Result<bool> {
    match retry_on_intr(|| rustix::io::read(fd, &mut [0_u8; 8])) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(epoll: &Epoll, timeout: Option<Duration>) -> Vec<u64> {
        let mut events = Events::default();
        epoll.wait(&mut events, timeout).unwrap();
        events.iter().map(|e| e.token).collect()
    }

    #[test]
    fn a_notification_from_a_thread_wakes_a_wait_for_ever() {
        let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        epoll.add(&event, 7, EventFlags::IN).unwrap();
        assert_eq!(tokens(&epoll, Some(Duration::ZERO)), []);
        std::thread::scope(|s| {
            s.spawn(|| event.notify().unwrap());
            assert_eq!(tokens(&epoll, None), [7]);
        });
        assert!(event.drain().unwrap());
        assert!(!event.drain().unwrap());
        epoll.modify(&event, 8, EventFlags::IN).unwrap();
        event.notify().unwrap();
        assert_eq!(tokens(&epoll, None), [8]);
        epoll.delete(&event).unwrap();
        assert_eq!(tokens(&epoll, Some(Duration::ZERO)), []);
    }
}
