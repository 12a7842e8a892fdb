//! Objects between real processes, killed at any instant: this test binary again, with a runner of a few lines.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nexusflow_stage::object::{Keeper, Store, StoreOptions};
use nexusflow_stage::protocol::{
    self, Answer, By, Delivery, Direction, EdgeInfo, EdgeKind, FromStage, Host, Identity, Malformed, StoreInfo, ToStage,
};
use nexusflow_stage::ring::WaitMode;
use nexusflow_stage::{Object, Stage};

const ROLE: &str = "NEXUSFLOW_TEST_ROLE";
const LAST: &str = "NEXUSFLOW_TEST_LAST";
const CAPACITY: u64 = 256 << 10;
/// The longest of the objects sent.
const LONGEST: usize = 60_000;
/// The most that a consumer holds at once.
const HELD: usize = 3;

/// Not a test of its own: what the processes that the tests start run.
#[test]
#[ignore = "started by the other tests"]
fn stage_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let stage = Stage::from_socket(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    match role.as_str() {
        "make" => make(&stage, std::env::var(LAST).ok().map(|n| n.parse().unwrap())),
        "read" => read(&stage),
        role => panic!("no role {role}"),
    }
    std::process::exit(0); // the harness would print what it ran
}

/// Sends objects that say their number, from where its predecessor had got to, up to `last`.
fn make(stage: &Stage, last: Option<u64>) {
    let output = stage.object_output("e").unwrap();
    for n in output.committed()..last.unwrap_or(u64::MAX) {
        let len = length(n);
        let mut draft = output.create(if n.is_multiple_of(3) { len / 2 + 8 } else { len }).unwrap();
        draft.resize(len, nexusflow_stage::ring::Until::forever()).unwrap();
        draft.as_mut_slice().fill(n as u8);
        draft.as_mut_slice()[..8].copy_from_slice(&n.to_le_bytes());
        assert_eq!(draft.seal().unwrap(), n);
    }
    output.finish();
}

fn length(n: u64) -> usize {
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    if n.is_multiple_of(2) { 8 + random as usize % 100 } else { 8 + random as usize % (LONGEST - 8) }
}

/// Writes the number of each object to stdout before it releases it; it holds some, and releases out of order.
fn read(stage: &Stage) {
    let mut input = stage.object_input("e").unwrap();
    let mut held: Vec<Object> = Vec::new();
    while let Some(object) = input.recv().unwrap() {
        held.push(object);
        if held.len() == HELD {
            let at = held[0].number() as usize % HELD;
            tell(held.swap_remove(at));
        }
    }
    held.into_iter().for_each(tell);
}

fn tell(object: Object) {
    let bytes = object.to_vec();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!((n, bytes.len()), (object.number(), length(n)), "another object");
    assert!(bytes[8..].iter().all(|b| *b == n as u8), "object {n} was changed on its way");
    std::io::stderr().write_all(&n.to_le_bytes()).unwrap(); // one write: whole or not at all
}

// ---- a runner ----

struct Runner {
    store: Arc<Store>,
    sealed: bool,
}

impl Runner {
    fn new(consumers: usize, sealed: bool) -> Self {
        let wait = WaitMode::Adaptive;
        let options = StoreOptions { name: "e", capacity: CAPACITY, consumers, wait, sealed, distribute: false };
        Self { store: Arc::new(Store::create(&options).unwrap()), sealed }
    }

    /// Starts the producer, or consumer `i`. What a consumer tells comes through the second.
    fn start(&self, consumer: Option<usize>, last: Option<u64>) -> (Child, std::io::PipeReader) {
        let (ours, theirs) = nexusflow_sys::socket::pair().unwrap();
        let (told, tell) = std::io::pipe().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stage_process", "--ignored", "--nocapture"]);
        command.env(ROLE, if consumer.is_some() { "read" } else { "make" });
        if let Some(last) = last {
            command.env(LAST, last.to_string());
        }
        if consumer.is_some() {
            command.stderr(tell);
        }
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn().unwrap();
        drop(command); // and with it our copies of the stage's ends
        let edge = EdgeInfo {
            name: "e".into(),
            direction: if consumer.is_some() { Direction::Input } else { Direction::Output },
            delivery: Delivery::Broadcast,
            by: By::RoundRobin,
            wait: WaitMode::Adaptive,
            max_message: CAPACITY,
            rings: 1,
            kind: if self.sealed { EdgeKind::Sealed } else { EdgeKind::Object },
        };
        let store = self.store.clone();
        std::thread::spawn(move || serve(&ours, &store, consumer, edge));
        (child, told)
    }
}

fn serve(socket: &OwnedFd, store: &Arc<Store>, consumer: Option<usize>, edge: EdgeInfo) {
    let mut host = Host::new(Identity { stage: "test".into(), attempt: 1, ..Identity::default() }, vec![edge]);
    loop {
        let (said, mut fds) = match protocol::receive::<FromStage>(socket) {
            Ok(Some((said, fds))) => (Ok(said), fds),
            Ok(None) => return,
            Err(_) => (Err(Malformed("test")), vec![]),
        };
        let (answer, fds) = match host.answer(said) {
            Answer::Send(answer) => (answer, vec![]),
            Answer::Ring { .. } => {
                let fds = match consumer {
                    Some(i) => store.reader_fds(i).unwrap(),
                    None => store.writer_fds().unwrap(),
                };
                (ToStage::Store(StoreInfo { edge: "e".into(), store: 0, shape: store.shape() }), fds)
            }
            Answer::Publish { slot, serial, len, .. } => {
                store.publish(slot, serial, len, fds.pop().unwrap()).unwrap();
                (ToStage::Published, vec![])
            }
            Answer::Sweep { .. } => {
                store.sweep().unwrap();
                (ToStage::Published, vec![])
            }
            Answer::Take { slot, serial, .. } => (ToStage::Object, vec![store.take(slot, serial).unwrap()]),
            other => panic!("{other:?}"),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if protocol::send(socket, &answer, &fds).is_err() {
            return;
        }
    }
}

fn both(test: impl Fn(bool)) {
    test(false);
    test(true);
}

/// Counts what consumers have told, each number of it.
fn count(mut told: std::io::PipeReader, seen: &mut BTreeMap<u64, u64>) {
    let mut bytes = Vec::new();
    told.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len().is_multiple_of(8), "{}", String::from_utf8_lossy(&bytes));
    for n in bytes.chunks(8) {
        *seen.entry(u64::from_le_bytes(n.try_into().unwrap())).or_default() += 1;
    }
}

#[test]
fn objects_cross_between_processes() {
    both(|sealed| {
        let runner = Runner::new(2, sealed);
        let readers = [0, 1].map(|i| runner.start(Some(i), None));
        let (mut producer, _) = runner.start(None, Some(300));
        assert!(producer.wait().unwrap().success());
        for (mut reader, told) in readers {
            let mut seen = BTreeMap::new();
            count(told, &mut seen);
            assert!(reader.wait().unwrap().success());
            assert_eq!(seen, (0..300).map(|n| (n, 1)).collect());
        }
    });
}

/// Whoever is killed, whenever: every object arrives whole, and only those that were not released arrive again.
#[test]
fn nothing_is_lost_when_either_side_is_killed_at_any_instant() {
    let seed = std::env::var("NEXUSFLOW_SEED").map_or(7, |s| s.parse::<u64>().unwrap());
    let kills: u32 = std::env::var("NEXUSFLOW_KILLS").map_or(40, |s| s.parse().unwrap());
    println!("seed {seed}, {kills} kills");
    both(|sealed| {
        let runner = Runner::new(1, sealed);
        let mut random = seed | 1;
        let mut seen = BTreeMap::new();
        let (mut producer, mut reader) = (runner.start(None, None), runner.start(Some(0), None));
        let mut consumers = 0;
        for _ in 0..kills {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Not to wait for anything: any instant is as good as another.
            std::thread::sleep(Duration::from_micros(random >> 50));
            let victim = if random >> 40 & 1 == 0 { &mut producer } else { &mut reader };
            let is_reader = random >> 40 & 1 == 1;
            victim.0.kill().unwrap();
            assert!(!victim.0.wait().unwrap().success());
            runner.store.wake_all();
            let (_, told) = std::mem::replace(victim, runner.start(is_reader.then_some(0), None));
            if is_reader {
                consumers += 1;
                count(told, &mut seen);
            }
        }
        producer.0.kill().unwrap();
        producer.0.wait().unwrap();
        let last = runner.store.stats().objects + 50;
        let (mut producer, _) = runner.start(None, Some(last));
        assert!(producer.wait().unwrap().success());
        count(reader.1, &mut seen);
        assert!(reader.0.wait().unwrap().success());
        assert!(seen.keys().copied().eq(0..last), "of {last} some were lost");
        let again: u64 = seen.values().map(|n| n - 1).sum();
        assert!(again <= consumers * HELD as u64, "{again} came again after {consumers} kills");
        let stats = runner.store.stats();
        let bytes: u64 = (0..last).map(|n| length(n) as u64).sum();
        assert_eq!((stats.objects, stats.bytes, stats.consumers[0].held), (last, bytes, 0));
        assert!(runner.store.drained(0).unwrap());
        println!("{last} objects, {again} again");
    });
}
