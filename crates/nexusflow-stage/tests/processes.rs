//! Stages as real processes: this test binary again, with a runner of a few lines at the other end of their sockets.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nexusflow_stage::protocol::{
    self, Answer, By, Delivery, Direction, EdgeInfo, FromStage, Host, Identity, Malformed, RingInfo,
};
use nexusflow_stage::ring::{Segment, SegmentOptions, Until, WaitMode};
use nexusflow_stage::{Error, Stage};

const ROLE: &str = "NEXUSFLOW_TEST_ROLE";
const COUNT: u64 = 100_000;

// ---- what the stages do ----

/// Not a test of its own: what the processes that the tests start run.
#[test]
#[ignore = "started by the other tests"]
fn stage_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let stage = match std::env::var(protocol::CONTROL_FD_VARIABLE) {
        Ok(_) => Stage::from_env().unwrap(),
        Err(_) => Stage::from_socket(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap(),
    };
    match role.as_str() {
        "source" => source(&stage),
        "copy" => copy(&stage),
        "transfer" => transfer(&stage),
        "never" => drop(stage.input("in").unwrap().recv()),
        role => panic!("no role {role}"),
    }
    // The harness would print what it ran; a stage just ends.
    std::process::exit(0);
}

/// Sends its share of the numbers up to COUNT, in messages of many lengths.
fn source(stage: &Stage) {
    let mut out = stage.output("out").unwrap();
    let (replica, replicas) = (u64::from(stage.replica()), u64::from(stage.replicas()));
    for n in (0..COUNT).filter(|n| n % replicas == replica) {
        let mut room = out.reserve(600).unwrap();
        let len = fill(n, room.as_mut_slice());
        room.commit_len(len);
    }
    out.finish();
}

fn copy(stage: &Stage) {
    let (mut input, mut output) = (stage.input("in").unwrap(), stage.output("out").unwrap());
    while let Some(message) = input.recv().unwrap() {
        let mut room = output.reserve(message.len()).unwrap();
        message.copy_to(room.as_mut_slice());
        room.commit();
    }
}

/// As `copy`, a few at a time, with the sum of their numbers so far on another edge: exactly once.
fn transfer(stage: &Stage) {
    let mut transfer = stage.transfer(&["in"], &["out", "sums"]).unwrap();
    let mut sum = transfer.tag().try_into().map_or(0, u64::from_le_bytes);
    let mut bytes = Vec::new();
    while let Some(messages) = transfer.inputs[0].recv_batch(7).unwrap() {
        for message in messages {
            bytes.clear();
            message.append_to(&mut bytes);
            sum += number(&bytes);
            transfer.outputs[0].send(&bytes).unwrap();
            transfer.outputs[1].send(&sum.to_le_bytes()).unwrap();
        }
        transfer.commit(&sum.to_le_bytes()).unwrap();
    }
    transfer.finish().unwrap();
}

/// What messages are cut from: any 512 bytes of it.
static PATTERN: [u8; 1024] = {
    let mut pattern = [0; 1024];
    let mut i = 0;
    while i < 1024 {
        pattern[i] = (i * i / 7) as u8;
        i += 1;
    }
    pattern
};

/// Message number `n`: itself, then bytes that follow from it. Its length.
fn fill(n: u64, to: &mut [u8]) -> usize {
    let len = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize; // below 512
    to[..8].copy_from_slice(&n.to_le_bytes());
    to[8..8 + len].copy_from_slice(&PATTERN[n as usize % 512..][..len]);
    8 + len
}

/// The number of a message, which must be whole.
fn number(message: &[u8]) -> u64 {
    let n = u64::from_le_bytes(message[..8].try_into().unwrap());
    let mut expected = [0; 520];
    let len = fill(n, &mut expected);
    assert!(message == &expected[..len], "message {n} was changed on its way");
    n
}

// ---- a runner ----

/// An edge as one stage has it: its rings, and which consumer of each the stage is if it reads.
struct Edge {
    name: &'static str,
    direction: Direction,
    delivery: Delivery,
    by: By,
    rings: Vec<(Arc<Segment>, usize)>,
}

fn segment(capacity: u64, consumers: usize) -> Arc<Segment> {
    let options = SegmentOptions { name: "test", capacity, consumers, ..SegmentOptions::default() };
    Arc::new(Segment::create(&options).unwrap())
}

fn output(name: &'static str, rings: &[&Arc<Segment>]) -> Edge {
    let delivery = if rings.len() > 1 { Delivery::Distribute } else { Delivery::Broadcast };
    let rings = rings.iter().map(|r| (Arc::clone(r), 0)).collect();
    Edge { name, direction: Direction::Output, delivery, by: By::RoundRobin, rings }
}

fn input(name: &'static str, rings: &[(&Arc<Segment>, usize)]) -> Edge {
    let rings = rings.iter().map(|(r, i)| (Arc::clone(r), *i)).collect();
    Edge { name, direction: Direction::Input, delivery: Delivery::Broadcast, by: By::RoundRobin, rings }
}

fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "stage_process", "--ignored", "--nocapture"]).env(ROLE, role).stdout(Stdio::null());
    command
}

type Journal = Arc<(OwnedFd, u64)>;

fn journal() -> Journal {
    Arc::new(nexusflow_stage::journal::create(8).unwrap())
}

/// Starts a stage and answers it in a thread until it hangs up.
fn start(role: &str, replica: u32, replicas: u32, edges: Vec<Edge>) -> Child {
    start_with(command(role), replica, replicas, edges, journal())
}

fn start_with(mut command: Command, replica: u32, replicas: u32, edges: Vec<Edge>, journal: Journal) -> Child {
    let (ours, theirs) = pair();
    let child = command.stdin(Stdio::from(theirs)).spawn().unwrap();
    drop(command); // and with it our copy of the stage's end
    let identity = Identity { stage: "test".into(), replica, replicas, attempt: 1, ..Identity::default() };
    std::thread::spawn(move || serve(&ours, identity, &edges, &journal));
    child
}

fn pair() -> (OwnedFd, OwnedFd) {
    nexusflow_sys::socket::pair().unwrap()
}

fn serve_alone(socket: &OwnedFd, identity: Identity, edges: &[Edge]) {
    serve(socket, identity, edges, &journal());
}

fn serve(socket: &OwnedFd, identity: Identity, edges: &[Edge], journal: &(OwnedFd, u64)) {
    let info = |e: &Edge| EdgeInfo {
        name: e.name.to_owned(),
        direction: e.direction,
        delivery: e.delivery,
        by: e.by,
        wait: WaitMode::Adaptive,
        max_message: 4096,
        rings: e.rings.len() as u32,
        kind: protocol::EdgeKind::Ring,
    };
    let mut host = Host::new(identity, edges.iter().map(info).collect());
    loop {
        let said = match protocol::receive::<FromStage>(socket) {
            Ok(Some((said, _))) => Ok(said),
            Ok(None) => return,
            Err(_) => Err(Malformed("test")),
        };
        let sent = match host.answer(said) {
            Answer::Send(answer) => protocol::send(socket, &answer, &[]),
            Answer::SendAndClose(answer) => return drop(protocol::send(socket, &answer, &[])),
            Answer::Publish { .. } | Answer::Sweep { .. } | Answer::Take { .. } => panic!("no objects here"),
            Answer::Journal => {
                let (fd, len) = journal;
                protocol::send(socket, &protocol::ToStage::Journal { len: *len }, &[fd.as_fd()])
            }
            Answer::Late { .. } => protocol::send(socket, &protocol::ToStage::NoMore, &[]),
            Answer::Ring { edge, ring } => {
                let edge = &edges[edge];
                let (segment, consumer) = &edge.rings[ring as usize];
                let fds = match edge.direction {
                    Direction::Input => segment.consumer_fds(*consumer).unwrap(),
                    Direction::Output => segment.producer_fds().unwrap(),
                };
                let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                let info = RingInfo {
                    edge: edge.name.to_owned(),
                    ring,
                    shape: segment.shape(),
                    consumer: *consumer as u32,
                    consumers: segment.consumers() as u32,
                };
                protocol::send(socket, &protocol::ToStage::Ring(info), &fds)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn ends_well(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

/// Reads all of a ring in this process: the numbers, in order.
fn read_all(segment: &Segment, consumer: usize) -> Vec<u64> {
    let mut consumer = segment.consumer(consumer).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 520]);
    while let Some(message) = consumer.peek(Until::timeout(Duration::from_secs(100))).unwrap() {
        message.copy_to(&mut buffer);
        all.push(number(&buffer[..message.len()]));
        consumer.advance();
        consumer.release();
    }
    all
}

// ---- the tests ----

#[test]
fn a_stream_goes_through_three_processes_and_back() {
    let (a, b, c, d) = (segment(16384, 3), segment(16384, 1), segment(8192, 1), segment(8192, 1));
    let source = start("source", 0, 1, vec![output("out", &[&a])]);
    let copies = [(&b, 0), (&c, 1), (&d, 2)].map(|(out, i)| {
        (start("copy", i as u32, 3, vec![input("in", &[(&a, i)]), output("out", &[out])]), Arc::clone(out))
    });
    let readers = copies.map(|(child, out)| {
        let reading = Arc::clone(&out);
        (child, out, std::thread::spawn(move || read_all(&reading, 0)))
    });
    ends_well(source);
    for (child, out, reader) in readers {
        ends_well(child);
        out.close().unwrap(); // it ended well without finishing: that is the runner's to do
        let got = reader.join().unwrap();
        assert!(got.iter().copied().eq(0..COUNT), "{} messages", got.len());
    }
    assert!((0..3).all(|i| a.drained(i).unwrap()));
    let stats = a.stats();
    assert_eq!((stats.messages, stats.consumers[2].messages), (COUNT, COUNT));
}

#[test]
fn two_producers_are_merged_in_order_of_each() {
    let (a, b, out) = (segment(4096, 1), segment(4096, 1), segment(8192, 1));
    let children = [
        start("source", 0, 2, vec![output("out", &[&a])]),
        start("source", 1, 2, vec![output("out", &[&b])]),
        start("copy", 0, 1, vec![input("in", &[(&a, 0), (&b, 0)]), output("out", &[&out])]),
    ];
    let reading = Arc::clone(&out);
    let reader = std::thread::spawn(move || read_all(&reading, 0));
    children.into_iter().for_each(ends_well);
    out.close().unwrap();
    let got = reader.join().unwrap();
    for parity in [0, 1] {
        assert!(got.iter().copied().filter(|n| n % 2 == parity).eq((0..COUNT).filter(|n| n % 2 == parity)));
    }
}

#[test]
fn distributed_messages_go_to_each_in_strict_turn() {
    let rings = [segment(4096, 1), segment(4096, 1), segment(4096, 1)];
    let source = start("source", 0, 1, vec![output("out", &[&rings[0], &rings[1], &rings[2]])]);
    let readers = rings.clone().map(|ring| std::thread::spawn(move || read_all(&ring, 0)));
    for (i, reader) in (0..).zip(readers) {
        assert!(reader.join().unwrap().into_iter().eq((0..COUNT).filter(|n| n % 3 == i)));
    }
    ends_well(source);
}

#[test]
fn a_killed_reader_is_followed_by_one_that_misses_nothing() {
    let (a, out) = (segment(65536, 1), segment(16384, 1));
    let source = start("source", 0, 1, vec![output("out", &[&a])]);
    let killer = std::thread::spawn({
        let (a, out) = (Arc::clone(&a), Arc::clone(&out));
        move || {
            let mut killed = 0;
            loop {
                let mut child = start("copy", 0, 1, vec![input("in", &[(&a, 0)]), output("out", &[&out])]);
                let before = a.stats().consumers[0].messages;
                // Killed somewhere after it has read a little, while it goes on.
                while a.stats().consumers[0].messages < before + 1000 && child.try_wait().unwrap().is_none() {
                    std::thread::yield_now();
                }
                if killed < 20 {
                    let _ = child.kill();
                }
                let status = child.wait().unwrap();
                a.wake_all().unwrap();
                match status.signal() {
                    Some(_) => killed += 1,
                    None => break,
                }
            }
            out.close().unwrap();
            killed
        }
    });
    let got = read_all(&out, 0);
    assert!(killer.join().unwrap() >= 5);
    ends_well(source);
    let mut next = 0;
    for n in &got {
        assert!(*n <= next, "{next} is missing");
        next = next.max(n + 1);
    }
    assert_eq!(next, COUNT);
}

/// Kills at random instants: somewhere in what it does, which is mostly the transfer itself.
#[test]
fn a_transfer_comes_exactly_once_though_its_processes_are_killed() {
    let seed = std::process::id();
    println!("seed {seed}");
    let (a, out, sums) = (segment(65536, 1), segment(16384, 1), [segment(8192, 1), segment(8192, 1)]);
    let source = start("source", 0, 1, vec![output("out", &[&a])]);
    let killer = std::thread::spawn({
        let (a, out, sums, journal) = (Arc::clone(&a), Arc::clone(&out), sums.clone(), journal());
        move || {
            let (mut killed, mut random) = (0, seed);
            loop {
                let edges =
                    vec![input("in", &[(&a, 0)]), output("out", &[&out]), output("sums", &[&sums[0], &sums[1]])];
                let mut child = start_with(command("transfer"), 0, 1, edges, Arc::clone(&journal));
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Every fourth soon after it was there, perhaps while it finishes what another had begun.
                let more = if killed % 4 == 3 { 0 } else { u64::from(random >> 16) % 3000 };
                let before = out.stats().messages;
                while out.stats().messages <= before + more && child.try_wait().unwrap().is_none() {
                    std::hint::spin_loop();
                }
                (0..random >> 20).for_each(|_| std::hint::spin_loop());
                if killed < 40 {
                    let _ = child.kill();
                }
                let status = child.wait().unwrap();
                [&a, &out, &sums[0], &sums[1]].iter().for_each(|s| s.wake_all().unwrap());
                match status.signal() {
                    Some(_) => killed += 1,
                    None => {
                        assert!(status.success(), "{status}");
                        return killed;
                    }
                }
            }
        }
    });
    let readers = sums.clone().map(|sums| {
        std::thread::spawn(move || {
            let (mut consumer, mut all) = (sums.consumer(0).unwrap(), Vec::new());
            while let Some(message) = consumer.peek(Until::timeout(Duration::from_secs(100))).unwrap() {
                all.push(u64::from_le_bytes(message.to_vec().try_into().unwrap()));
                consumer.advance();
                consumer.release();
            }
            all
        })
    });
    let got = read_all(&out, 0);
    assert!(got.iter().copied().eq(0..COUNT), "{} messages", got.len());
    let mut sums: Vec<u64> = readers.into_iter().flat_map(|r| r.join().unwrap()).collect();
    sums.sort_unstable();
    assert!(sums.into_iter().eq((0..COUNT).scan(0, |sum, n| {
        *sum += n;
        Some(*sum)
    })));
    assert!(killer.join().unwrap() >= 10);
    ends_well(source);
}

#[test]
fn what_a_killed_writer_had_sent_arrives_whole_and_then_the_end() {
    for round in 0..10u64 {
        let a = segment(16384, 1);
        let mut source = start("source", 0, 1, vec![output("out", &[&a])]);
        let reading = Arc::clone(&a);
        let reader = std::thread::spawn(move || read_all(&reading, 0));
        while a.stats().messages < 500 * (round + 1) {
            std::thread::yield_now();
        }
        source.kill().unwrap();
        source.wait().unwrap();
        a.close().unwrap();
        a.wake_all().unwrap();
        let got = reader.join().unwrap();
        assert!(got.len() as u64 >= 500 * (round + 1) - 1, "counted before it is seen, by one at most");
        assert!(got.iter().copied().eq(0..got.len() as u64));
    }
}

#[test]
fn a_stage_finds_its_socket_in_the_environment() {
    let a = segment(16384, 1);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"exec 7<&0 </dev/null; exec "$@""#, "sh"]);
    let inner = self::command("source");
    command.arg(inner.get_program()).args(inner.get_args());
    command.env(ROLE, "source").env(protocol::CONTROL_FD_VARIABLE, "7").stdout(Stdio::null());
    let child = start_with(command, 0, 1, vec![output("out", &[&a])], journal());
    assert_eq!(read_all(&a, 0).len() as u64, COUNT);
    ends_well(child);
}

#[test]
fn wrong_names_are_told_with_what_was_meant() {
    let (ours, theirs) = pair();
    let (a, b) = (segment(1, 1), segment(1, 1));
    let server = std::thread::spawn({
        let edges = vec![input("events", &[(&a, 0)]), output("enriched", &[&b])];
        move || serve_alone(&ours, Identity { stage: "parse".into(), replicas: 1, ..Identity::default() }, &edges)
    });
    let stage = Stage::from_socket(theirs).unwrap();
    assert_eq!((stage.name(), stage.inputs(), stage.outputs()), ("parse", vec!["events"], vec!["enriched"]));
    let message = |e: Error| e.to_string();
    assert_eq!(message(stage.input("event").unwrap_err()), "no edge `event` here: did you mean `events`?");
    assert_eq!(
        message(stage.output("events").unwrap_err()),
        "no edge `events` here: it is an input of this stage: open it with `input`"
    );
    let mut out = stage.output("enriched").unwrap();
    assert!(matches!(stage.output("enriched"), Err(Error::AlreadyOpen { .. })));
    assert!(matches!(out.send(&[0; 5000]), Err(Error::TooLong { max: 4080, .. })));
    let mut events = stage.input("events").unwrap();
    assert!(matches!(events.try_recv(), Err(Error::TimedOut)));
    b.detach(0);
    assert!(out.send(b"x").unwrap_err().is_closed());
    drop(stage);
    server.join().unwrap();
}

#[test]
fn a_message_stays_until_the_next_is_asked_for() {
    let (ours, theirs) = pair();
    let a = segment(1, 1);
    let edges = vec![input("in", &[(&a, 0)])];
    std::thread::spawn(move || serve_alone(&ours, Identity::default(), &edges));
    let mut p = a.producer().unwrap();
    for n in 0..3u8 {
        p.write(&[n], Until::forever()).unwrap();
    }
    let mut input = Stage::from_socket(theirs).unwrap().input("in").unwrap();
    assert_eq!(input.recv().unwrap().unwrap().to_vec(), [0]);
    assert_eq!(a.stats().consumers[0].messages, 0);
    assert_eq!(input.messages().next().unwrap().unwrap(), [1]);
    assert_eq!(a.stats().consumers[0].messages, 1);
    input.release();
    assert_eq!(a.stats().consumers[0].messages, 2);
    let next = input.recv().unwrap().unwrap();
    let mut file = std::fs::File::open("/dev/null").unwrap();
    assert!(file.write(b"x").is_err() && next.write_to(&file, 0).is_err(), "opened to read");
    let (read, write) = std::io::pipe().unwrap();
    assert_eq!(next.write_to(&write, 0).unwrap(), 1);
    drop((write, read));
    input.detach();
    assert!(p.write(b"x", Until::forever()).unwrap_err().is_closed());
}

#[test]
fn a_runner_that_is_gone_or_talks_nonsense_is_an_error() {
    let (ours, theirs) = pair();
    drop(ours);
    assert!(matches!(Stage::from_socket(theirs), Err(Error::RunnerGone)));
    let (ours, theirs) = pair();
    protocol::send(&ours, &FromStage::ListEdges { from: 0 }, &[]).unwrap();
    assert!(matches!(Stage::from_socket(theirs), Err(Error::Protocol(_))));
    let (ours, theirs) = pair();
    let answer = protocol::ToStage::Refuse { code: protocol::Refusal::Version, text: "too old".into() };
    protocol::send(&ours, &answer, &[]).unwrap();
    assert!(matches!(Stage::from_socket(theirs), Err(Error::Version { .. })));
    assert!(matches!(Stage::from_env(), Err(Error::NotAStage(_))));
}
