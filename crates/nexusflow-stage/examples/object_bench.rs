//! How fast objects are on this machine: create, write every byte, hand over, read every byte, release; from one process
//! to another, each pinned to a CPU of its own, with a third as the runner.
//!
//! `cargo run --release -p nexusflow-stage --example object_bench [CPU CPU]`. One object is under way at a time; the time
//! is from before its creation until its last byte was read.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nexusflow_stage::Stage;
use nexusflow_stage::object::{Keeper, Object, Store, StoreOptions};
use nexusflow_stage::protocol::{
    self, Answer, By, Delivery, Direction, EdgeInfo, EdgeKind, FromStage, Host, Identity, StoreInfo, ToStage,
};
use nexusflow_stage::ring::WaitMode;
use nexusflow_sys::{sched, socket};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROLE: &str = "OBJECT_BENCH_ROLE";
/// Of the objects; and how many of each.
const CASES: [(usize, usize); 3] = [(1 << 10, 20_000), (1 << 20, 1000), (100 << 20, 20)];
const CAPACITY: u64 = 256 << 20;
/// Bytes read at a time, so that a copy stays in the nearest cache.
const CHUNK: usize = 8 << 10;

fn main() -> Result<()> {
    if let Ok(role) = std::env::var(ROLE) {
        let (role, cpu) = role.split_once(' ').ok_or("a role and a CPU")?;
        sched::set_affinity(0, &[cpu.parse()?])?;
        let stage = Stage::from_socket(std::io::stdin().as_fd().try_clone_to_owned()?)?;
        return if role == "make" { make(&stage) } else { read(&stage) };
    }
    let given = std::env::args().skip(1).map(|a| a.parse()).collect::<std::result::Result<Vec<u32>, _>>()?;
    let cpus = if given.is_empty() { sched::affinity(0)? } else { given };
    let [first, second, ..] = cpus[..] else { return Err("two CPUs are needed".into()) };
    println!("CPUs {first} and {second}; median (best, worst decile)");
    println!("raw: memory of one's own, written and read by one thread");
    CASES.iter().for_each(|&(len, count)| raw(len, count));
    for wait in [WaitMode::Spin, WaitMode::Adaptive, WaitMode::Block] {
        for sealed in [false, true] {
            println!("{wait:?}, {}", if sealed { "each object sealed in a memory of its own" } else { "slab" });
            bench([first, second], wait, sealed)?;
        }
    }
    Ok(())
}

/// The limit: no object, no other process.
fn raw(len: usize, count: usize) {
    let mut bytes = vec![1u8; len];
    let times = (0..count).map(|n| {
        let begun = sched::monotonic_now();
        std::hint::black_box(&mut bytes[..]).fill(n as u8);
        let mut chunk = [0; CHUNK];
        for part in std::hint::black_box(&bytes[..]).chunks(CHUNK) {
            chunk[..part.len()].copy_from_slice(part);
            std::hint::black_box(add(0, &chunk[..part.len()]));
        }
        (sched::monotonic_now() - begun).as_nanos() as u64
    });
    show(len, times.collect());
}

/// Median and deciles.
fn show(len: usize, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: usize| Duration::from_nanos(times[(times.len() - 1) * share / 10]);
    println!("  {len:>9} B  {:>10.2?}  ({:.2?}, {:.2?})", at(5), at(0), at(9));
}

/// Sends objects, and waits after each until it was read.
fn make(stage: &Stage) -> Result<()> {
    let (there, mut back) = (stage.object_output("there")?, stage.object_input("back")?);
    for (len, count) in CASES {
        for n in 0..count {
            let begun = sched::monotonic_now().as_nanos() as u64;
            let mut draft = there.create(len)?;
            let bytes = draft.as_mut_slice();
            bytes.fill(n as u8);
            bytes[..8].copy_from_slice(&begun.to_le_bytes());
            draft.seal()?;
            back.recv()?.ok_or("the end")?.release();
        }
    }
    there.finish();
    Ok(())
}

fn read(stage: &Stage) -> Result<()> {
    let (mut there, back) = (stage.object_input("there")?, stage.object_output("back")?);
    for (len, count) in CASES {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let object = there.recv()?.ok_or("the end")?;
            std::hint::black_box(sum(&object));
            let now = sched::monotonic_now().as_nanos() as u64;
            let mut begun = [0; 8];
            object.copy_at(0, &mut begun);
            object.release();
            times.push(now - u64::from_le_bytes(begun));
            back.send(b"")?;
        }
        show(len, times);
    }
    back.finish();
    Ok(())
}

fn sum(object: &Object) -> u64 {
    let mut chunk = [0; CHUNK];
    let mut sum = 0u64;
    for at in (0..object.len()).step_by(CHUNK) {
        let part = &mut chunk[..CHUNK.min(object.len() - at)];
        object.copy_at(at, part);
        sum = add(sum, part);
    }
    sum
}

fn add(sum: u64, part: &[u8]) -> u64 {
    let word = |eight: &[u8]| u64::from_ne_bytes(eight.try_into().unwrap_or_default());
    part.chunks_exact(8).fold(sum, |sum, eight| sum.wrapping_add(word(eight)))
}

/// An edge as a stage has it.
type Edge = (&'static str, Arc<Store>, Direction);

fn bench(cpus: [u32; 2], wait: WaitMode, sealed: bool) -> Result<()> {
    let store = |name, capacity, sealed| -> Result<Arc<Store>> {
        let options = StoreOptions { name, capacity, consumers: 1, wait, sealed, distribute: false };
        Ok(Arc::new(Store::create(&options)?))
    };
    let (there, back) = (store("there", CAPACITY, sealed)?, store("back", 1 << 16, false)?);
    let edges = |a, b| vec![("there", there.clone(), a), ("back", back.clone(), b)];
    let children = [
        start("make", cpus[0], edges(Direction::Output, Direction::Input))?,
        start("read", cpus[1], edges(Direction::Input, Direction::Output))?,
    ];
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a stage failed".into());
        }
    }
    Ok(())
}

fn start(role: &str, cpu: u32, edges: Vec<Edge>) -> Result<Child> {
    let (ours, theirs) = socket::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    let child = command.env(ROLE, format!("{role} {cpu}")).stdin(Stdio::from(theirs)).spawn()?;
    std::thread::spawn(move || {
        if let Err(e) = serve(&ours, &edges) {
            eprintln!("the runner: {e}");
        }
    });
    Ok(child)
}

/// What a runner does for a stage.
fn serve(control: &OwnedFd, edges: &[Edge]) -> Result<()> {
    let info = |(name, store, direction): &Edge| EdgeInfo {
        name: (*name).to_owned(),
        direction: *direction,
        delivery: Delivery::Broadcast,
        by: By::RoundRobin,
        wait: store.shape().wait,
        max_message: store.shape().capacity,
        rings: 1,
        kind: if store.shape().sealed { EdgeKind::Sealed } else { EdgeKind::Object },
    };
    let mut host = Host::new(Identity::default(), edges.iter().map(info).collect());
    while let Some((said, mut fds)) = protocol::receive::<FromStage>(control)? {
        let (answer, fds) = match host.answer(Ok(said)) {
            Answer::Send(answer) => (answer, vec![]),
            Answer::Ring { edge, ring } => {
                let (name, store, direction) = &edges[edge];
                let info = StoreInfo { edge: (*name).to_owned(), store: ring, shape: store.shape() };
                let fds = if *direction == Direction::Input { store.reader_fds(0)? } else { store.writer_fds()? };
                (ToStage::Store(info), fds)
            }
            Answer::Publish { edge, slot, serial, len } => {
                edges[edge].1.publish(slot, serial, len, fds.pop().ok_or("no object")?)?;
                (ToStage::Published, vec![])
            }
            Answer::Sweep { edge } => {
                edges[edge].1.sweep()?;
                (ToStage::Published, vec![])
            }
            Answer::Take { edge, slot, serial, .. } => (ToStage::Object, vec![edges[edge].1.take(slot, serial)?]),
            other => return Err(format!("{other:?}").into()),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        protocol::send(control, &answer, &fds)?;
    }
    Ok(())
}
