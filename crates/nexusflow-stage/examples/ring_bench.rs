//! How fast a ring is on this machine: two processes, each pinned to a CPU of its own.
//!
//! `cargo run --release -p nexusflow-stage --example ring_bench [CPU CPU]`. Compare within one run only: the first
//! figure, one cache line handed to and fro, says how near the two CPUs are to each other just now.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nexusflow_stage::protocol::{self, RingInfo, ToStage};
use nexusflow_stage::ring::{Consumer, OnFull, Producer, Segment, SegmentOptions, Shape, Until, WaitMode};
use nexusflow_sys::map::{WriteMap, page_size};
use nexusflow_sys::{memfd, sched, socket};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PEER: &str = "RING_BENCH_PEER";
const CAPACITY: u64 = 1 << 20;
const SHAPE: Shape = Shape { ring: CAPACITY, slab: 0, on_full: OnFull::Block };
/// Each figure is taken for about so long.
const TIME: Duration = Duration::from_millis(200);
const BATCH: usize = 64;

fn main() -> Result<()> {
    let given = std::env::args().skip(1).map(|a| a.parse()).collect::<std::result::Result<Vec<u32>, _>>()?;
    let cpus = if given.is_empty() { sched::affinity(0)? } else { given };
    let [mine, theirs, ..] = cpus[..] else { return Err("two CPUs are needed".into()) };
    if std::env::var_os(PEER).is_some() {
        sched::set_affinity(0, &[theirs])?;
        return peer(&std::io::stdin().as_fd().try_clone_to_owned()?);
    }
    sched::set_affinity(0, &[mine])?;
    let (control, theirs_end) = socket::pair()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([mine.to_string(), theirs.to_string()])
        .env(PEER, "1")
        .stdin(Stdio::from(theirs_end))
        .spawn()?;
    println!("CPUs {mine} and {theirs}");
    line(&control)?;
    for mode in [WaitMode::Spin, WaitMode::Adaptive, WaitMode::Block] {
        for len in [64, 1024] {
            ping_pong(&control, mode, len)?;
        }
        for (len, batch) in [(64, 1), (64, BATCH), (1024, 1), (1024, BATCH)] {
            stream(&control, mode, len, batch)?;
        }
    }
    line(&control)?;
    drop(control);
    child.wait()?;
    Ok(())
}

fn segment(wait: WaitMode) -> Result<Segment> {
    Ok(Segment::create(&SegmentOptions { name: "bench", capacity: CAPACITY, wait, ..Default::default() })?)
}

/// Tells the peer what to do, with what.
fn order(control: &OwnedFd, what: &str, fds: &[OwnedFd]) -> Result<()> {
    let info = RingInfo { edge: what.to_owned(), ring: 0, shape: SHAPE, consumer: 0, consumers: 1 };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    Ok(protocol::send(control, &ToStage::Ring(info), &fds)?)
}

fn peer(control: &OwnedFd) -> Result<()> {
    while let Some((ToStage::Ring(info), mut fds)) = protocol::receive::<ToStage>(control)? {
        if info.edge == "line" {
            let map = WriteMap::new(&fds[0], page_size())?;
            for n in (1..).step_by(2) {
                loop {
                    match map.atomic64(0).load(Ordering::Acquire) {
                        u64::MAX => break,
                        seen if seen == n => break,
                        _ => std::hint::spin_loop(),
                    }
                }
                if map.atomic64(0).load(Ordering::Relaxed) == u64::MAX {
                    break;
                }
                map.atomic64(0).store(n + 1, Ordering::Release);
            }
            continue;
        }
        let back = fds.split_off(3);
        let mut input = Consumer::from_fds("bench", SHAPE, fds)?;
        let mut output = Producer::from_fds("bench", SHAPE, back)?;
        let mut buffer = [0; 1024];
        while let Some(message) = input.peek(Until::forever())? {
            let len = message.len();
            message.copy_to(&mut buffer[..len]);
            input.advance();
            input.release();
            if info.edge == "echo" {
                output.write(&buffer[..len], Until::forever())?;
            }
        }
        output.finish();
    }
    Ok(())
}

/// The raw limit: one cache line, to and fro.
fn line(control: &OwnedFd) -> Result<()> {
    let fd = memfd::create("bench", page_size() as u64)?;
    memfd::seal(fd.as_fd())?;
    let map = WriteMap::new(&fd, page_size())?;
    order(control, "line", &[fd])?;
    let (started, mut n) = (Instant::now(), 1);
    while started.elapsed() < TIME {
        for _ in 0..100 {
            map.atomic64(0).store(n, Ordering::Release);
            while map.atomic64(0).load(Ordering::Acquire) != n + 1 {
                std::hint::spin_loop();
            }
            n += 2;
        }
    }
    println!("raw cache line, one way          {:8.0} ns", started.elapsed().as_nanos() as f64 / n as f64);
    map.atomic64(0).store(u64::MAX, Ordering::Release);
    Ok(())
}

fn ping_pong(control: &OwnedFd, mode: WaitMode, len: usize) -> Result<()> {
    let (there, back) = (segment(mode)?, segment(mode)?);
    order(control, "echo", &[there.consumer_fds(0)?, back.producer_fds()?].into_iter().flatten().collect::<Vec<_>>())?;
    let mut output = Producer::from_fds("bench", SHAPE, there.producer_fds()?)?;
    let mut input = Consumer::from_fds("bench", SHAPE, back.consumer_fds(0)?)?;
    let (message, mut got) = (vec![7; len], vec![0; len]);
    let (started, mut n) = (Instant::now(), 0u32);
    while started.elapsed() < TIME {
        for _ in 0..100 {
            output.write(&message, Until::forever())?;
            input.peek(Until::forever())?.ok_or("the end")?.copy_to(&mut got);
            input.advance();
            input.release();
        }
        n += 100;
    }
    let one_way = started.elapsed().as_nanos() as f64 / f64::from(n) / 2.0;
    println!("{mode:<8?} {len:5} B, one way         {one_way:8.0} ns");
    output.finish();
    while input.peek(Until::forever())?.is_some() {
        input.advance();
    }
    Ok(())
}

fn stream(control: &OwnedFd, mode: WaitMode, len: usize, batch: usize) -> Result<()> {
    let (there, back) = (segment(mode)?, segment(mode)?);
    order(control, "sink", &[there.consumer_fds(0)?, back.producer_fds()?].into_iter().flatten().collect::<Vec<_>>())?;
    let mut output = Producer::from_fds("bench", SHAPE, there.producer_fds()?)?;
    let mut input = Consumer::from_fds("bench", SHAPE, back.consumer_fds(0)?)?;
    let message = vec![7; len];
    let (started, mut n) = (Instant::now(), 0u64);
    while started.elapsed() < TIME {
        for _ in 0..100 {
            match batch {
                1 => output.write(&message, Until::forever())?,
                _ => output.write_batch((0..batch).map(|_| &message[..]), Until::forever())?,
            }
        }
        n += 100 * batch as u64;
    }
    output.finish();
    while input.peek(Until::forever())?.is_some() {}
    let rate = n as f64 / started.elapsed().as_secs_f64();
    let gb = rate * len as f64 / 1e9;
    println!("{mode:<8?} {len:5} B, batches of {batch:2}   {:8.2} M/s {gb:6.2} GB/s", rate / 1e6);
    Ok(())
}
