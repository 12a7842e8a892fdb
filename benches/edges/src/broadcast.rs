//! One producer, several consumers in processes of their own, each of which reads every message.

use std::time::{Duration, Instant};

use nexusflow_stage::ring::WaitMode;
use nexusflow_sys::sched;

use crate::peer::Peer;
use crate::transport::{LAST, Rx, Tx, Writer, read, write};
use crate::{Result, ours};

const BATCH: usize = 64;

/// Messages per second that each of the consumers has read.
pub fn run(producer: u32, consumers: usize, len: usize, time: Duration) -> Result<f64> {
    let cpus = others(producer)?;
    let segment = ours::segment(len, WaitMode::Adaptive, consumers)?;
    let mut output = ours::output(&segment)?;
    let mut readers = Vec::new();
    for at in 0..consumers {
        let peer = Peer::start(cpus[at % cpus.len()])?;
        let back = ours::segment(len, WaitMode::Adaptive, 1)?;
        peer.order("sink ours", len, back.producer_fds()?.into_iter().chain(segment.consumer_fds(at)?).collect())?;
        peer.done()?; // it is attached
        readers.push((peer, ours::input(&back)?));
    }
    let mut writer = Writer { number: 0 };
    let started = Instant::now();
    while started.elapsed() < time {
        for _ in 0..16 {
            output.send_batch(BATCH, len, |message| writer.fill(message))?;
        }
    }
    output.send(len, |message| write(message, LAST))?;
    for (peer, answer) in &mut readers {
        answer.recv(len, |message| _ = read(message))?;
        peer.done()?;
    }
    Ok(writer.number as f64 / started.elapsed().as_secs_f64())
}

/// The CPUs that are left for consumers.
pub fn others(producer: u32) -> Result<Vec<u32>> {
    let all = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let last = all.trim().rsplit(['-', ',']).next().unwrap_or("0").parse::<u32>()?;
    // This process has pinned itself: what it may use is found by trying.
    let usable = |cpu: &u32| *cpu != producer && sched::set_affinity(0, &[*cpu]).is_ok();
    let others: Vec<u32> = (0..=last).filter(usable).collect();
    sched::set_affinity(0, &[producer])?;
    if others.is_empty() { Err("two CPUs are needed".into()) } else { Ok(others) }
}
