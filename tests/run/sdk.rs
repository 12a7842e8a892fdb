//! Stages that use the SDK: this test binary, started again as a stage.

use std::io::Write;

use nexusflow_stage::Stage;

/// A stage's `command` in YAML: this program in one of the roles below.
pub fn role(role: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    format!("command: ['{}', --ignored, --exact, sdk::as_a_stage], env: {{ ROLE: '{role}' }}", exe.display())
}

#[test]
#[ignore = "a stage of other tests"]
fn as_a_stage() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let stage = Stage::from_env().unwrap();
    match words[0] {
        "count" => count(&stage, number(1)),
        "keep" => keep(&stage),
        "pass" => pass(&stage),
        "count-once" => count_once(&stage, number(1)),
        "pass-once" => pass_once(&stage),
        "sum-once" => sum_once(&stage),
        "offer" => offer(&stage, number(1)),
        "tally" => tally(&stage, number(1)),
        "share" => share(&stage, words[1..].iter().map(|n| n.parse().unwrap()).collect()),
        other => panic!("no role {other}"),
    }
    std::process::exit(0);
}

/// The numbers below `n`, on from the last that its earlier attempts have noted.
fn count(stage: &Stage, n: u64) {
    let mut out = stage.output(stage.outputs()[0]).unwrap();
    let note = format!("sent.{}.{}", stage.name(), stage.replica());
    let from = std::fs::read_to_string(&note).map_or(0, |text| text.parse().unwrap());
    for i in from..n {
        out.send(i.to_string().as_bytes()).unwrap();
        if i % 100 == 0 {
            // Renamed, since a kill may come while it is written.
            std::fs::write(format!("{note}.new"), (i + 1).to_string()).unwrap();
            std::fs::rename(format!("{note}.new"), &note).unwrap();
        }
    }
    out.finish();
    std::fs::write("all-sent", "").unwrap();
}

/// Keeps messages as `keep` does, from when all were sent; each replica only as many as it is told, if it is told.
fn share(stage: &Stage, most: Vec<usize>) {
    let name = format!("kept.{}.{}", stage.name(), stage.replica());
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    while !std::path::Path::new("all-sent").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let most = most.get(stage.replica() as usize).copied().unwrap_or(usize::MAX);
    let mut kept = 0;
    while kept < most
        && let Some(message) = input.recv().unwrap()
    {
        let mut line = message.to_vec();
        line.push(b'\n');
        file.write_all(&line).unwrap();
        kept += 1;
    }
    input.release();
}

/// Each message as a line of a file: one write each, so that a kill leaves whole lines.
fn keep(stage: &Stage) {
    let name = format!("kept.{}.{}", stage.name(), stage.replica());
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    while let Some(message) = input.recv().unwrap() {
        let mut line = message.to_vec();
        line.push(b'\n');
        file.write_all(&line).unwrap();
    }
}

/// The numbers below `n`, as fast as it can.
fn offer(stage: &Stage, n: u64) {
    let mut out = stage.output(stage.outputs()[0]).unwrap();
    (0..n).for_each(|i| out.send(&i.to_le_bytes()).unwrap());
    out.finish();
}

/// Counts what comes, not fast, and what did not. The first attempt is killed after `dies_after` messages.
fn tally(stage: &Stage, dies_after: u64) {
    let note = format!("tally.{}.{}", stage.name(), stage.replica());
    let before = std::fs::read_to_string(&note).ok();
    let mut received: u64 = before.as_ref().map_or(0, |text| text.parse().unwrap());
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    let mut next = None;
    while let Some(message) = input.recv().unwrap() {
        let n = u64::from_le_bytes(message.to_vec().try_into().unwrap());
        assert!(next.is_none_or(|next| n == next + input.missed()), "{n} after {next:?}");
        next = Some(n + 1);
        received += 1;
        if before.is_none() && received == dies_after {
            std::fs::write(&note, received.to_string()).unwrap();
            input.release();
            std::process::abort();
        }
        for _ in 0..500 {
            std::hint::spin_loop();
        }
    }
    std::fs::write(note, format!("{received} {}", input.dropped())).unwrap();
}

/// From its input to its output.
fn pass(stage: &Stage) {
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    let mut output = stage.output(stage.outputs()[0]).unwrap();
    while let Some(message) = input.recv().unwrap() {
        output.send(&message.to_vec()).unwrap();
    }
}

/// The numbers below `n`; the tag says which is next.
fn count_once(stage: &Stage, n: u64) {
    let mut transfer = stage.transfer(&[], &stage.outputs()).unwrap();
    let mut next = transfer.tag().try_into().map_or(0, u64::from_le_bytes);
    assert_eq!(next, transfer.outputs[0].committed());
    while next < n {
        for _ in 0..(n - next).min(9) {
            transfer.outputs[0].send(&next.to_le_bytes()).unwrap();
            next += 1;
        }
        transfer.commit(&next.to_le_bytes()).unwrap();
    }
    transfer.finish().unwrap();
}

/// From its input to its outputs.
fn pass_once(stage: &Stage) {
    let mut transfer = stage.transfer(&stage.inputs(), &stage.outputs()).unwrap();
    while let Some(messages) = transfer.inputs[0].recv_batch(5).unwrap() {
        for message in messages {
            transfer.outputs.iter_mut().for_each(|output| output.send(&message.to_vec()).unwrap());
        }
        transfer.commit(b"").unwrap();
    }
    transfer.finish().unwrap();
}

/// Sums its input up, in the tag; prints how many and their sum.
fn sum_once(stage: &Stage) {
    let mut transfer = stage.transfer(&stage.inputs(), &[]).unwrap();
    let mut sums: [u64; 2] = match transfer.tag() {
        [] => [0, 0],
        tag => [0, 8].map(|at| u64::from_le_bytes(tag[at..at + 8].try_into().unwrap())),
    };
    while let Some(message) = transfer.inputs[0].recv().unwrap() {
        sums[0] += 1;
        sums[1] += u64::from_le_bytes(message.to_vec().try_into().unwrap());
        transfer.commit(&sums.map(u64::to_le_bytes).concat()).unwrap();
    }
    std::fs::write(format!("sum.{}.{}", stage.name(), stage.replica()), format!("{} {}", sums[0], sums[1])).unwrap();
    transfer.finish().unwrap();
}
