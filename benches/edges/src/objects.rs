//! Our objects: one process creates, writes and seals, the other reads every byte and releases. Beside it the object
//! stores of others.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nexusflow_stage::Error;
use nexusflow_stage::object::{Keeper, Reader, Shape, Store, StoreOptions};
use nexusflow_stage::ring::{Until, WaitMode};
use nexusflow_sys::socket;

use crate::peer::Peer;
use crate::transport::{LAST, Rx, Tx, read, write};
use crate::{Result, ours};

/// How many objects fit at a time.
const OBJECTS: u64 = 4;
const WARM_UP: usize = 3;
const EDGE: &str = "bench";

/// Both sides of a store know it: they are one program.
fn options(len: usize, sealed: bool) -> StoreOptions<'static> {
    StoreOptions {
        name: EDGE,
        capacity: len as u64 * OBJECTS,
        consumers: 1,
        wait: WaitMode::Adaptive,
        sealed,
        distribute: false,
    }
}

/// From before the creation of an object until this process knows that the other has read every byte, in nanoseconds:
/// the median of `time`. The answer comes through a ring, and counts.
pub fn run(peer: &Peer, len: usize, sealed: bool, time: Duration) -> Result<f64> {
    let store = Arc::new(Store::create(&options(len, sealed))?);
    let back = ours::segment(64, WaitMode::Adaptive, 1)?;
    let (asked, asks) = socket::pair()?;
    let mut fds = vec![asks];
    fds.extend(back.producer_fds()?);
    fds.extend(store.reader_fds(0)?);
    let Shape { slots, .. } = store.shape();
    peer.order(&format!("objects {sealed} {slots}"), len, fds)?;
    let keeper = store.clone();
    // As the runner does: hands sealed objects out until the other side hangs up.
    let handing_out = std::thread::spawn(move || hand_out(&keeper, &asked));
    let writer = store.writer()?;
    let mut answers = ours::input(&back)?;
    let mut took = Vec::new();
    let begun = Instant::now();
    for number in 1.. {
        let over = took.len() > WARM_UP && begun.elapsed() > time;
        let started = Instant::now();
        let mut object = writer.create(len, Until::forever())?;
        write(object.as_mut_slice(), if over { LAST } else { number });
        object.seal()?;
        answers.recv(64, |answer| assert!(over || read(answer) == number))?;
        took.push(started.elapsed());
        if over {
            break;
        }
    }
    peer.done()?;
    handing_out.join().map_err(|_| "the thread that hands objects out panicked")??;
    took.drain(..WARM_UP);
    took.sort_unstable();
    Ok(took[took.len() / 2].as_nanos() as f64)
}

fn hand_out(store: &Store, asked: &OwnedFd) -> std::result::Result<(), String> {
    let mut buffer = [0; 64];
    loop {
        let (n, _) = socket::receive(asked, &mut buffer).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&buffer[..n]);
        let Some((slot, serial)) = text.split_once(' ') else { return Ok(()) };
        let (slot, serial) = (slot.parse().map_err(|_| "a slot")?, serial.parse().map_err(|_| "a serial")?);
        let fd = store.take(slot, serial).map_err(|e| e.to_string())?;
        socket::send(asked, b"x", &[fd.as_fd()]).map_err(|e| e.to_string())?;
    }
}

/// The reading side's way to [`hand_out`].
#[derive(Debug)]
struct Asking(Mutex<OwnedFd>);

impl Keeper for Asking {
    fn publish(&self, _: u32, _: u64, _: u64, _: OwnedFd) -> nexusflow_stage::Result<()> {
        Ok(()) // it only reads
    }

    fn sweep(&self) -> nexusflow_stage::Result<()> {
        Ok(())
    }

    fn take(&self, slot: u32, serial: u64) -> nexusflow_stage::Result<OwnedFd> {
        let failed = |source| Error::Io { doing: "ask for an object", source };
        let socket = self.0.lock().unwrap_or_else(|e| e.into_inner());
        socket::send(&*socket, format!("{slot} {serial}").as_bytes(), &[]).map_err(failed)?;
        let (_, fds) = socket::receive(&*socket, &mut [0; 8]).map_err(failed)?;
        fds.into_iter().next().ok_or(Error::RunnerGone)
    }
}

/// The other process.
pub fn serve(sealed: bool, slots: u32, len: usize, fds: Vec<OwnedFd>) -> Result<()> {
    let mut fds = fds.into_iter();
    let asking = Asking(Mutex::new(fds.next().ok_or("no socket")?));
    let mut rest: Vec<OwnedFd> = fds.collect();
    let store_fds = rest.split_off(rest.len() - if sealed { 2 } else { 3 });
    let mut answers = ours::attach_output(rest)?;
    let StoreOptions { capacity, wait, .. } = options(len, sealed);
    let capacity = capacity.next_multiple_of(nexusflow_sys::map::page_size() as u64);
    let shape = Shape { capacity, slots, consumers: 1, wait, sealed, distribute: false };
    let mut reader = Reader::from_fds(EDGE, shape, store_fds, Arc::new(asking))?;
    while let Some(object) = reader.next(Until::forever())? {
        let number = match object.sealed() {
            Some(bytes) => read(bytes),
            // SAFETY: the other side is this program too, and leaves an object alone until it is released.
            None => read(unsafe { object.as_slice() }),
        };
        object.release();
        answers.send(64, |answer| write(answer, number))?;
        if number == LAST {
            break;
        }
    }
    Ok(())
}
