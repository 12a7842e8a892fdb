//! What is measured, and how: who meets whom at which size.

use std::time::{Duration, Instant};

use nexusflow_stage::ring::WaitMode;

use crate::bucket::{Sample, bracketed};
use crate::external::{self, Installed};
use crate::peer::Peer;
use crate::report::{self, Row};
use crate::transport::{LAST, Rx, Tx, Writer, read, write};
use crate::{Options, Result, broadcast, objects, ours, queues, raw, streams};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Consumers of a broadcast.
pub const FANOUT: usize = 4;
/// Messages between two looks at the clock; fewer of large ones.
const BETWEEN_LOOKS_BYTES: usize = 64 * KIB;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Ours(WaitMode),
    Iceoryx2,
    Iceoryx2Listener,
    Pipe,
    UnixSocket,
    ZeroMq,
    Dora,
    /// In a slab, or each in a sealed memory file of its own.
    Objects {
        sealed: bool,
    },
    Plasma,
    Vineyard,
    /// Our ring with so many consumers.
    Consumers(usize),
    Lines,
    Futex,
    Memcpy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// One way, half of there and back.
    LatencyNs,
    MessagesPerSecond,
    BytesPerSecond,
    /// From before the creation until the other side has read all.
    ObjectNs,
}

pub struct Case {
    pub name: String,
    pub bytes: usize,
    pub batch: usize,
    pub mode: &'static str,
    pub metric: Metric,
    /// Ours first.
    pub who: Vec<Who>,
    /// Also in `--quick`.
    quick: bool,
}

impl Who {
    fn is_here(self, installed: &Installed) -> bool {
        match self {
            Self::Dora => installed.dora.is_some(),
            Self::Plasma => installed.plasma.is_some(),
            Self::Vineyard => installed.vineyard.is_some(),
            _ => true,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours(_) | Self::Objects { .. } => "nexusflow",
            Self::Iceoryx2 => "iceoryx2",
            Self::Iceoryx2Listener => "iceoryx2-listener",
            Self::Pipe => "pipe",
            Self::UnixSocket => "unix-socket",
            Self::ZeroMq => "zeromq",
            Self::Dora => "dora",
            Self::Consumers(1) => "one-consumer",
            Self::Consumers(_) => "nexusflow",
            Self::Plasma => "plasma",
            Self::Vineyard => "vineyard",
            Self::Lines => "raw-lines",
            Self::Futex => "raw-futex",
            Self::Memcpy => "memcpy",
        }
    }
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Self::LatencyNs => "latency_ns",
            Self::MessagesPerSecond => "messages_per_second",
            Self::BytesPerSecond => "bytes_per_second",
            Self::ObjectNs => "object_ns",
        }
    }
}

fn all() -> Vec<Case> {
    use Who::{Dora, Futex, Iceoryx2, Iceoryx2Listener, Lines, Memcpy, Ours, Pipe, UnixSocket, ZeroMq};
    let (spin, adaptive, block) = (Ours(WaitMode::Spin), Ours(WaitMode::Adaptive), Ours(WaitMode::Block));
    let latency = |mode, bytes, quick, who: &[Who]| Case {
        name: format!("latency/{mode}/{}", size(bytes)),
        bytes,
        batch: 1,
        mode,
        metric: Metric::LatencyNs,
        who: who.to_vec(),
        quick,
    };
    let rate = |bytes, batch, quick, who: &[Who]| Case {
        name: format!("throughput/{}{}", size(bytes), if batch > 1 { format!("x{batch}") } else { String::new() }),
        bytes,
        batch,
        mode: "spin",
        metric: if bytes < 64 * KIB { Metric::MessagesPerSecond } else { Metric::BytesPerSecond },
        who: who.to_vec(),
        quick,
    };
    let object = |bytes, sealed, quick| Case {
        name: format!("object{}/{}", if sealed { "-sealed" } else { "" }, size(bytes)),
        bytes,
        batch: 1,
        mode: "adaptive",
        metric: Metric::ObjectNs,
        who: vec![Who::Objects { sealed }, Who::Plasma, Who::Vineyard],
        quick,
    };
    vec![
        Case {
            name: format!("broadcast/{FANOUT}/64Bx64"),
            bytes: 64,
            batch: 64,
            mode: "adaptive",
            metric: Metric::MessagesPerSecond,
            who: vec![Who::Consumers(FANOUT), Who::Consumers(1)],
            quick: false,
        },
        object(KIB, false, false),
        object(MIB, false, true),
        object(100 * MIB, false, false),
        object(MIB, true, false),
        object(100 * MIB, true, false),
        latency("spin", 64, true, &[spin, Lines, Iceoryx2]),
        latency("spin", KIB, false, &[spin, Iceoryx2]),
        latency("spin", 64 * KIB, false, &[spin, Iceoryx2]),
        latency("spin", MIB, true, &[spin, Iceoryx2]),
        latency("spin", 8 * MIB, false, &[spin, Iceoryx2]),
        latency("spin", 64 * MIB, false, &[spin, Iceoryx2]),
        latency("adaptive", 64, true, &[adaptive, Lines]),
        latency("block", 64, true, &[block, Futex, Iceoryx2Listener, Pipe, UnixSocket, ZeroMq, Dora]),
        latency("block", 64 * KIB, false, &[block, Iceoryx2Listener, Pipe, UnixSocket, ZeroMq, Dora]),
        latency("block", 8 * MIB, false, &[block, Iceoryx2Listener, Pipe, UnixSocket, ZeroMq, Dora]),
        rate(64, 1, true, &[spin, Iceoryx2, Pipe, UnixSocket, ZeroMq]),
        rate(64, 64, true, &[spin, Iceoryx2, Pipe, UnixSocket, ZeroMq]),
        rate(KIB, 1, false, &[spin, Iceoryx2, Pipe, UnixSocket, ZeroMq]),
        rate(KIB, 64, false, &[spin, Iceoryx2, Pipe, UnixSocket, ZeroMq]),
        rate(64 * KIB, 1, true, &[spin, Iceoryx2, Memcpy, Pipe, UnixSocket, ZeroMq]),
        rate(MIB, 1, true, &[spin, Iceoryx2, Memcpy, Pipe, UnixSocket, ZeroMq]),
        rate(8 * MIB, 1, false, &[spin, Iceoryx2, Memcpy, Pipe, UnixSocket, ZeroMq]),
        rate(64 * MIB, 1, false, &[spin, Iceoryx2, Memcpy]),
    ]
}

fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= MIB => format!("{}MiB", bytes / MIB),
        _ if bytes >= KIB => format!("{}KiB", bytes / KIB),
        _ => format!("{bytes}B"),
    }
}

/// Runs every case that is asked for: in each round all its contestants in turn.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    let peer = Peer::start(options.cpus[1])?;
    let time = Duration::from_millis(if options.quick { 50 } else { 200 });
    let mut rows = Vec::new();
    let installed = &options.installed;
    let mut cases = all();
    cases.retain(|case| case.name.contains(&options.case) && (case.quick || !options.quick));
    cases.iter_mut().for_each(|case| case.who.retain(|who| who.is_here(installed)));
    for case in &cases {
        let mut rounds: Vec<Vec<Option<Sample>>> = Vec::new();
        for _ in 0..options.rounds {
            let round = case.who.iter().map(|&who| bracketed(&peer, || measure(&peer, case, who, options, time)));
            rounds.push(round.collect::<Result<_>>().map_err(|e| format!("{}: {e}", case.name))?);
        }
        let found = report::compare(case, &rounds);
        let others = broadcast::others(options.cpus[0])?.len();
        if case.who.contains(&Who::Consumers(FANOUT)) && others < FANOUT {
            println!(
                "{:24} {FANOUT} consumers share {others} CPU(s): their rates cannot be those of one alone",
                case.name
            );
        }
        report::show(case, &found);
        rows.extend(found);
    }
    Ok(rows)
}

fn measure(peer: &Peer, case: &Case, who: Who, options: &Options, time: Duration) -> Result<f64> {
    let Installed { dora, plasma, vineyard, script } = &options.installed;
    match (who, dora, plasma, vineyard) {
        (Who::Lines, ..) => return raw::lines(peer, time),
        (Who::Futex, ..) => return raw::futexes(peer, time),
        (Who::Memcpy, ..) => return Ok(raw::memcpy(case.bytes, time)),
        (Who::Dora, Some(dora), ..) => return external::dora(dora, case.bytes),
        (Who::Consumers(n), ..) => return broadcast::run(options.cpus[0], n, case.bytes, time),
        (Who::Objects { sealed }, ..) => return objects::run(peer, case.bytes, sealed, time),
        (Who::Plasma, _, Some(python), _) => {
            return external::store(python, script, "plasma", options.cpus, case.bytes);
        }
        (Who::Vineyard, _, _, Some(python)) => {
            return external::store(python, script, "vineyard", options.cpus, case.bytes);
        }
        _ => {}
    }
    let how = if case.metric == Metric::LatencyNs { "echo" } else { "sink" };
    let order = |name: &str, fds| peer.order(&format!("{how} {name}"), case.bytes, fds);
    match who {
        Who::Ours(wait) => {
            let ((tx, rx), fds) = ours::pair(case.bytes, wait)?;
            order("ours", fds)?;
            drive(peer, case, tx, rx, time)
        }
        Who::Iceoryx2 | Who::Iceoryx2Listener => {
            let (name, fd) = queues::name()?;
            let (tx, rx) = queues::Ice::named(&name, true, case.bytes, who == Who::Iceoryx2Listener)?;
            order(who.name(), vec![fd])?;
            drive(peer, case, tx, rx, time)
        }
        Who::ZeroMq => {
            let (name, fd) = queues::name()?;
            let (tx, rx) = queues::zeromq_named(&name, true)?;
            order("zeromq", vec![fd])?;
            drive(peer, case, tx, rx, time)
        }
        _ => {
            let ((tx, rx), fds) = streams::pair(who == Who::UnixSocket)?;
            order("stream", fds)?;
            drive(peer, case, tx, rx, time)
        }
    }
}

/// This side of one measurement. The first tenth of the time only warms up.
fn drive(peer: &Peer, case: &Case, mut tx: impl Tx, mut rx: impl Rx, time: Duration) -> Result<f64> {
    peer.done()?; // it is attached
    let len = case.bytes;
    let mut writer = Writer { number: 0 };
    let at_once = (BETWEEN_LOOKS_BYTES / len / case.batch).max(1);
    let mut measured = None;
    let mut one = |tx: &mut _, rx: &mut _| match case.metric {
        Metric::LatencyNs => exchange(tx, rx, len, &mut writer),
        _ => send(tx, case, &mut writer),
    };
    let begun = Instant::now();
    let (mut started, mut n) = (begun, 0usize);
    loop {
        for _ in 0..at_once {
            one(&mut tx, &mut rx)?;
        }
        n += at_once;
        let now = Instant::now();
        match measured {
            None if now - begun > time / 10 => (measured, started, n) = (Some(()), now, 0),
            Some(()) if now - started > time => break,
            _ => {}
        }
    }
    let sent = started.elapsed().as_secs_f64();
    tx.send(len, |message| write(message, LAST))?;
    rx.recv(len, |message| _ = read(message))?;
    let all_read = started.elapsed().as_secs_f64();
    peer.done()?;
    let messages = (n * case.batch) as f64;
    Ok(match case.metric {
        Metric::LatencyNs | Metric::ObjectNs => sent * 1e9 / n as f64 / 2.0,
        Metric::MessagesPerSecond => messages / all_read,
        Metric::BytesPerSecond => messages * len as f64 / all_read,
    })
}

fn exchange(tx: &mut impl Tx, rx: &mut impl Rx, len: usize, writer: &mut Writer) -> Result<()> {
    tx.send(len, |message| writer.fill(message))?;
    let mut number = 0;
    rx.recv(len, |message| number = read(message))?;
    assert_eq!(number, writer.number, "another message came back");
    Ok(())
}

fn send(tx: &mut impl Tx, case: &Case, writer: &mut Writer) -> Result<()> {
    match case.batch {
        1 => tx.send(case.bytes, |message| writer.fill(message)),
        batch => tx.send_batch(batch, case.bytes, |message| writer.fill(message)),
    }
}
