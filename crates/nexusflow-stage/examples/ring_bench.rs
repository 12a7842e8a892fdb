//! How fast a ring is on this machine: two processes, each pinned to a CPU of its own; every byte is written and read.
//!
//! `cargo run --release -p nexusflow-stage --example ring_bench [CASE …]`: those whose names contain a word given, or
//! all. Each figure is the median of five, and stands beside its limit, taken in turn: two cache lines handed to and fro
//! by two spinning processes, which also says how near the two CPUs are to each other just now (a hypervisor moves them),
//! a futex, or memcpy. Compare within one row only.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nexusflow_stage::protocol::{self, RingInfo, ToStage};
use nexusflow_stage::ring::{Consumer, Producer, Segment, SegmentOptions, Shape, Until, WaitMode};
use nexusflow_sys::map::{WriteMap, page_size};
use nexusflow_sys::{futex, memfd, sched, socket};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PEER: &str = "RING_BENCH_PEER";
/// Each figure is taken for about so long.
const TIME: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;
/// A cache line takes less than this one way between CPUs that share a cache.
const NEAR_NS: f64 = 120.0;
/// The two lines of the raw ping-pong.
const THERE: usize = 0;
const BACK: usize = 512;
const STOP: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Case {
    wait: WaitMode,
    len: usize,
    batch: usize,
    /// In the ring, however long.
    inline: bool,
    /// There and back, one at a time; else one way, as many as go through.
    echo: bool,
}

fn main() -> Result<()> {
    let [mine, theirs] = match sched::affinity(0)?[..] {
        [a, b, ..] => [a, b],
        _ => return Err("two CPUs are needed".into()),
    };
    if std::env::var_os(PEER).is_some() {
        sched::set_affinity(0, &[theirs])?;
        return peer(&std::io::stdin().as_fd().try_clone_to_owned()?);
    }
    let (control, theirs_end) = socket::pair()?;
    let mut child = Command::new(std::env::current_exe()?).env(PEER, "1").stdin(Stdio::from(theirs_end)).spawn()?;
    sched::set_affinity(0, &[mine])?;
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    for case in cases() {
        if wanted.is_empty() || wanted.iter().any(|w| case.name().contains(w.as_str())) {
            measure(&control, case)?;
        }
    }
    if wanted.iter().any(|w| w == "solo") {
        solo(64, 1)?;
        solo(64, 64)?;
    }
    drop(control);
    child.wait()?;
    Ok(())
}

/// What the code costs when nobody else is there.
fn solo(len: usize, batch: usize) -> Result<()> {
    let case = Case { wait: WaitMode::Spin, len, batch, inline: false, echo: false };
    let segment = segment(case)?;
    let (mut output, mut input) = (segment.producer()?, segment.consumer(0)?);
    let started = Instant::now();
    let (mut n, mut there) = (0u64, Duration::ZERO);
    while started.elapsed() < TIME {
        let begun = Instant::now();
        for _ in 0..100 {
            if batch == 1 {
                n += 1;
                send(&mut output, len, n)?;
                continue;
            }
            for _ in 0..batch {
                n += 1;
                let mut room = output.reserve(len, Until::forever())?;
                fill(room.as_mut_slice(), n);
                room.stage_len(len);
            }
            output.publish();
        }
        there += begun.elapsed();
        if batch == 1 {
            for _ in 0..100 {
                std::hint::black_box(read(input.peek(Until::forever())?.ok_or("the end")?));
                input.advance();
                input.release();
            }
        } else {
            for _ in 0..100 {
                input.batch(batch).for_each(|m| _ = std::hint::black_box(read(m)));
                input.release();
            }
        }
    }
    let all = started.elapsed().as_nanos() as f64 / n as f64;
    let there = there.as_nanos() as f64 / n as f64;
    println!("solo {len}x{batch}: {there:.1} ns to write, {:.1} ns to read", all - there);
    Ok(())
}

fn cases() -> Vec<Case> {
    const KIB: usize = 1 << 10;
    let echo = |wait, len| Case { wait, len, batch: 1, inline: false, echo: true };
    let stream = |wait, len, batch| Case { wait, len, batch, inline: false, echo: false };
    let mut all = vec![];
    for len in [64, KIB, 32 * KIB, 64 * KIB, 1 << 20, 8 << 20] {
        all.push(echo(WaitMode::Spin, len));
    }
    for wait in [WaitMode::Adaptive, WaitMode::Block] {
        all.extend([echo(wait, 64), stream(wait, 64, 1), stream(wait, 64, 64)]);
    }
    for (len, batch) in [(64, 1), (64, 64), (KIB, 1), (KIB, 64)] {
        all.push(stream(WaitMode::Spin, len, batch));
    }
    for len in [4, 8, 16, 24, 32, 48, 64, 128, 1024, 8192, 65_536] {
        all.push(stream(WaitMode::Spin, len * KIB, 1));
    }
    // Where the switch between ring and slab is best.
    for len in [4, 8, 16, 32, 64, 128, 256] {
        all.push(Case { inline: true, ..stream(WaitMode::Spin, len * KIB, 1) });
    }
    all
}

impl Case {
    fn name(&self) -> String {
        let kind = if self.echo { "latency" } else { "throughput" };
        let inline = if self.inline { " inline" } else { "" };
        format!("{kind} {:?} {}x{}{inline}", self.wait, self.len, self.batch).to_lowercase()
    }
}

/// In turn: a raw ping-pong, the case, its limit, a raw ping-pong.
fn measure(control: &OwnedFd, case: Case) -> Result<()> {
    let (mut ours, mut limits, mut near, mut raws) = (vec![], vec![], 0, vec![]);
    for _ in 0..ROUNDS {
        let before = lines(control, false)?;
        ours.push(if case.echo { echo(control, case)? } else { stream(control, case)? });
        let after = lines(control, false)?;
        let raw = (before + after) / 2.0;
        limits.push(match case {
            Case { echo: true, wait: WaitMode::Block, .. } => lines(control, true)?,
            Case { echo: true, .. } => raw,
            _ => memcpy(case.len),
        });
        raws.push(raw);
        near += usize::from(raw < NEAR_NS);
    }
    let ratios = ours.iter().zip(&limits).map(|(o, l)| o / l).collect();
    let (value, limit, ratio, raw) = (median(ours), median(limits), median(ratios), median(raws));
    let bucket = format!("{near}/{ROUNDS} near, raw {raw:.0} ns");
    if case.echo {
        println!("{:<34}{value:10.0} ns, limit {limit:8.0}, ratio {ratio:6.2}   ({bucket})", case.name());
    } else {
        let gb = value * case.len as f64 / 1e9;
        println!("{:<34}{:10.2} M/s {gb:7.2} GB/s, memcpy ratio {ratio:6.2}   ({bucket})", case.name(), value / 1e6);
    }
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn segment(case: Case) -> Result<Segment> {
    let capacity = (4 * case.len as u64 + 4096).max(1 << 20);
    let max_message = if case.inline { 0 } else { case.len as u64 };
    let options = SegmentOptions { capacity, max_message, wait: case.wait, ..SegmentOptions::default() };
    Ok(Segment::create(&options)?)
}

/// Tells the peer what to do, with what.
fn order(control: &OwnedFd, what: &str, shape: Shape, fds: &[OwnedFd]) -> Result<()> {
    let info = RingInfo { edge: what.to_owned(), ring: 0, shape, consumer: 0, consumers: 1 };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    Ok(protocol::send(control, &ToStage::Ring(info), &fds)?)
}

fn peer(control: &OwnedFd) -> Result<()> {
    while let Some((ToStage::Ring(info), mut fds)) = protocol::receive::<ToStage>(control)? {
        match info.edge.as_str() {
            "lines" => lines_back(&WriteMap::new(&fds[0], page_size())?, false),
            "futex" => lines_back(&WriteMap::new(&fds[0], page_size())?, true),
            what => {
                let back = fds.split_off(fds.len() / 2);
                let input = Consumer::from_fds("bench", info.shape, fds)?;
                let output = Producer::from_fds("bench", info.shape, back)?;
                ring_back(what, input, output)?;
            }
        }
    }
    Ok(())
}

fn ring_back(what: &str, mut input: Consumer, mut output: Producer) -> Result<()> {
    // Should the other side die, a spinning ring must not keep a CPU for ever.
    let until = Until::timeout(Duration::from_secs(30));
    let (mut sum, mut n) = (0, 0);
    while let Some(message) = input.peek(until)? {
        let len = message.len();
        match what {
            "echo" => {
                let first = read(message);
                input.advance();
                input.release();
                send(&mut output, len, first)?;
            }
            "batches" => {
                for message in input.batch(256) {
                    sum = n ^ read(message);
                    n += 1;
                }
                input.release();
            }
            _ => {
                sum = read(message);
                input.advance();
                input.release();
            }
        }
    }
    std::hint::black_box(sum);
    output.finish();
    Ok(())
}

#[inline]
fn send(output: &mut Producer, len: usize, number: u64) -> Result<()> {
    let mut room = output.reserve(len, Until::forever())?;
    fill(room.as_mut_slice(), number);
    room.commit();
    Ok(())
}

#[inline]
fn fill(message: &mut [u8], number: u64) {
    let (words, _) = message.as_chunks_mut::<8>();
    words.iter_mut().for_each(|w| *w = number.to_ne_bytes());
}

/// Every byte, held against the first word.
#[inline]
fn read(message: nexusflow_stage::Message<'_>) -> u64 {
    // SAFETY: the other side is this program too, and leaves a message alone until it is released.
    let (words, _) = unsafe { message.as_slice() }.as_chunks::<8>();
    let first = words.first().map_or(0, |w| u64::from_ne_bytes(*w));
    let different = words.iter().fold(0, |sum, w| sum | (u64::from_ne_bytes(*w) ^ first));
    assert!(different == 0, "a torn message");
    first
}

/// Each side writes a line of its own and watches the other's: one way, in nanoseconds.
fn lines(control: &OwnedFd, sleeps: bool) -> Result<f64> {
    let fd = memfd::create("bench", page_size() as u64)?;
    memfd::seal(fd.as_fd())?;
    let map = WriteMap::new(&fd, page_size())?;
    order(control, if sleeps { "futex" } else { "lines" }, Shape::default(), &[fd])?;
    let time = if sleeps { TIME } else { TIME / 10 };
    let (mut started, mut n) = (Instant::now(), 0u32);
    let mut warm = 0;
    loop {
        for _ in 0..32 {
            n += 1;
            say(&map, THERE, n, sleeps);
            hear(&map, BACK, n - 1, sleeps);
        }
        match started.elapsed() {
            past if warm == 0 && past > time / 10 => (warm, started) = (n, Instant::now()),
            past if warm > 0 && past > time => break,
            _ => {}
        }
    }
    let one_way = started.elapsed().as_nanos() as f64 / f64::from(n - warm) / 2.0;
    say(&map, THERE, STOP, sleeps);
    Ok(one_way)
}

fn lines_back(map: &WriteMap, sleeps: bool) {
    let mut n = 0;
    loop {
        n = hear(map, THERE, n, sleeps);
        if n == STOP {
            return;
        }
        say(map, BACK, n, sleeps);
    }
}

fn say(map: &WriteMap, at: usize, n: u32, sleeps: bool) {
    map.atomic32(at).store(n, Ordering::Release);
    if sleeps {
        futex::wake_all(map.word32(at));
    }
}

/// What follows `last` there.
fn hear(map: &WriteMap, at: usize, last: u32, sleeps: bool) -> u32 {
    loop {
        let seen = map.atomic32(at).load(Ordering::Acquire);
        if seen != last {
            return seen;
        }
        if sleeps {
            let _ = futex::wait(map.word32(at), last, Duration::from_secs(1));
        }
    }
}

/// Messages per second of one process that copies such a buffer.
fn memcpy(len: usize) -> f64 {
    let (from, mut to) = (vec![1u8; len], vec![0u8; len]);
    let (started, mut n) = (Instant::now(), 0u64);
    while started.elapsed() < TIME / 2 {
        for _ in 0..(65_536 / len).max(1) {
            to.copy_from_slice(std::hint::black_box(&from));
            std::hint::black_box(&mut to);
            n += 1;
        }
    }
    n as f64 / started.elapsed().as_secs_f64()
}

type Rings = (Segment, Segment);

fn rings(control: &OwnedFd, what: &str, case: Case) -> Result<(Rings, Producer, Consumer)> {
    let (there, back) = (segment(case)?, segment(case)?);
    let theirs: Vec<_> = there.consumer_fds(0)?.into_iter().chain(back.producer_fds()?).collect();
    order(control, what, there.shape(), &theirs)?;
    let output = Producer::from_fds("bench", there.shape(), there.producer_fds()?)?;
    let input = Consumer::from_fds("bench", back.shape(), back.consumer_fds(0)?)?;
    Ok(((there, back), output, input))
}

fn echo(control: &OwnedFd, case: Case) -> Result<f64> {
    let (_rings, mut output, mut input) = rings(control, "echo", case)?;
    let (mut started, mut n) = (Instant::now(), 0u64);
    let mut warm = 0;
    loop {
        for _ in 0..(65_536 / case.len).clamp(1, 100) {
            n += 1;
            send(&mut output, case.len, n)?;
            let got = read(input.peek(Until::forever())?.ok_or("the end")?);
            assert_eq!(got, n);
            input.advance();
            input.release();
        }
        match started.elapsed() {
            past if warm == 0 && past > TIME / 10 => (warm, started) = (n, Instant::now()),
            past if warm > 0 && past > TIME => break,
            _ => {}
        }
    }
    let one_way = started.elapsed().as_nanos() as f64 / (n - warm) as f64 / 2.0;
    output.finish();
    while input.peek(Until::forever())?.is_some() {}
    Ok(one_way)
}

fn stream(control: &OwnedFd, case: Case) -> Result<f64> {
    let what = if case.batch > 1 { "batches" } else { "sink" };
    let (_rings, mut output, mut input) = rings(control, what, case)?;
    let (mut started, mut n) = (Instant::now(), 0u64);
    let mut warm = 0;
    loop {
        for _ in 0..(65_536 / case.len / case.batch).clamp(1, 1000) {
            if case.batch == 1 {
                n += 1;
                send(&mut output, case.len, n)?;
                continue;
            }
            for _ in 0..case.batch {
                n += 1;
                let mut room = output.reserve(case.len, Until::forever())?;
                fill(room.as_mut_slice(), n);
                room.stage_len(case.len);
            }
            output.publish();
        }
        match started.elapsed() {
            past if warm == 0 && past > TIME / 10 => (warm, started) = (n, Instant::now()),
            past if warm > 0 && past > TIME => break,
            _ => {}
        }
    }
    output.finish();
    while input.peek(Until::forever())?.is_some() {}
    Ok((n - warm) as f64 / started.elapsed().as_secs_f64())
}
