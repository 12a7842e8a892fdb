//! The limits: cache lines, a futex, memcpy.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nexusflow_sys::futex;
use nexusflow_sys::map::{WriteMap, page_size};
use nexusflow_sys::memfd;

use crate::Result;
use crate::peer::Peer;
use crate::transport::{read, write};

/// The two lines, far enough apart that no prefetcher takes them for neighbours.
const THERE: usize = 0;
const BACK: usize = 512;
const STOP: u32 = u32::MAX;

fn page() -> Result<(std::os::fd::OwnedFd, WriteMap)> {
    let fd = memfd::create("bench", page_size() as u64)?;
    memfd::seal(fd.as_fd())?;
    let map = WriteMap::new(&fd, page_size())?;
    Ok((fd, map))
}

/// One way, in nanoseconds: each side writes a line of its own and watches the other's.
pub fn lines(peer: &Peer, time: Duration) -> Result<f64> {
    ping_pong(peer, "lines", time, |map, n| while map.atomic32(BACK).load(Ordering::Acquire) != n {})
}

/// One way, in nanoseconds: each side sleeps until the other wakes it.
pub fn futexes(peer: &Peer, time: Duration) -> Result<f64> {
    ping_pong(peer, "futexes", time, |map, n| sleep_until(map, BACK, n))
}

fn ping_pong(peer: &Peer, what: &str, time: Duration, wait: impl Fn(&WriteMap, u32)) -> Result<f64> {
    let (fd, map) = page()?;
    peer.order(what, 0, vec![fd])?;
    let wakes = what == "futexes";
    let (mut started, mut n) = (Instant::now(), 0u32);
    let mut warm = false;
    loop {
        for _ in 0..64 {
            n += 1;
            map.atomic32(THERE).store(n, Ordering::Release);
            if wakes {
                futex::wake_all(map.word32(THERE));
            }
            wait(&map, n);
        }
        if !warm && started.elapsed() > time / 10 {
            (warm, n, started) = (true, 0, Instant::now());
            map.atomic32(BACK).store(0, Ordering::Relaxed);
        } else if warm && started.elapsed() > time {
            break;
        }
    }
    let one_way = started.elapsed().as_nanos() as f64 / f64::from(n) / 2.0;
    map.atomic32(THERE).store(STOP, Ordering::Release);
    futex::wake_all(map.word32(THERE));
    peer.done()?;
    Ok(one_way)
}

fn sleep_until(map: &WriteMap, at: usize, wanted: u32) {
    loop {
        let seen = map.atomic32(at).load(Ordering::Acquire);
        if seen == wanted || seen == STOP {
            return;
        }
        let _ = futex::wait(map.word32(at), seen, Duration::from_secs(1));
    }
}

/// The other side of both.
pub fn echo(wakes: bool, fds: &[std::os::fd::OwnedFd]) -> Result<()> {
    let map = WriteMap::new(&fds[0], page_size())?;
    let mut last = 0;
    loop {
        let seen = loop {
            let seen = map.atomic32(THERE).load(Ordering::Acquire);
            if seen != last {
                break seen;
            }
            if wakes {
                let _ = futex::wait(map.word32(THERE), last, Duration::from_secs(1));
            }
        };
        if seen == STOP {
            return Ok(());
        }
        last = seen;
        map.atomic32(BACK).store(seen, Ordering::Release);
        if wakes {
            futex::wake_all(map.word32(BACK));
        }
    }
}

/// Bytes per second of one process that writes a buffer, copies it and reads the copy: what handing it over in memory
/// cannot beat by much.
pub fn memcpy(len: usize, time: Duration) -> f64 {
    let (mut from, mut to) = (vec![1u8; len], vec![0u8; len]);
    let (started, mut n) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        n += 1;
        write(&mut from[..8], n);
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
    }
    let rate = n as f64 * len as f64 / started.elapsed().as_secs_f64();
    std::hint::black_box(read(&to[..8]));
    rate
}
