//! Recording a running edge, and replaying what was recorded: nothing is held back, nothing is made up.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{Done, Home, INT, KILL, Live, send};

const STOP: i32 = 19;
const CONT: i32 = 18;

/// `a` writes `input` over edge `events` once there is a file `go`.
fn gated(home: &Home, from: &str, to: &str, capacity: &str) -> Live {
    home.start(&format!(
        "stages:
  a: {{ shell: 'until [ -e go ]; do sleep 0.01; done; cat input', stdout: {{ edge: events, framing: {from} }} }}
  b: {{ command: [cat], stdin: {{ edge: events, framing: {to} }}, stdout: {{ file: got }} }}
edges: {{ events: {{ from: a, to: b, capacity: {capacity} }} }}
"
    ))
}

/// A recorder that has begun.
fn record(home: &Home, live: &mut Live, name: &str, more: &[&str]) -> (Child, PathBuf) {
    let file = home.path(name);
    let path = file.to_str().unwrap();
    live.started("b"); // there is a run to be asked
    let mut command = home.nexusflow(&[&["edge", "record", "test", "events", "-o", path], more].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is made when the edge is looked at already.
    live.until(name, || (file.exists() || child.try_wait().unwrap().is_some()).then_some(()));
    (child, file)
}

#[track_caller]
fn ended(child: Child, code: i32) -> String {
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{said}");
    said
}

fn stat(home: &Home, file: &Path) -> Value {
    home.json(&["edge", "stat", file.to_str().unwrap(), "--format", "json"])
}

fn cat(home: &Home, file: &Path, more: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let args = [&["edge", "cat", file.to_str().unwrap()], more].concat();
    let out = home.nexusflow(&args).output().unwrap();
    (out.status.code(), out.stdout, String::from_utf8_lossy(&out.stderr).into_owned())
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{n} {}\n", "x".repeat(n * 7 % 91))).collect()
}

fn go(home: &Home) {
    std::fs::write(home.file("go"), "").unwrap();
}

/// Replays a recording to its end: what came out of it.
fn replay(home: &Home, file: &Path, how: &str, framing: &str) -> (Done, Vec<u8>) {
    let done = home.apply(&format!(
        "stages:
  again: {{ command: [\"${{self}}\", edge, replay, '{}'{how}] }}
  out: {{ command: [cat], stdin: {{ edge: e, framing: {framing} }}, stdout: {{ file: replayed }} }}
edges: {{ e: {{ from: again, to: out }} }}
",
        file.display()
    ));
    (done, std::fs::read(home.file("replayed")).unwrap_or_default())
}

#[test]
fn what_was_recorded_is_replayed_byte_for_byte() {
    // As blocks between programs that frame alike, and message by message.
    for (from, to) in [("lines", "lines"), ("lines", "raw"), ("u32le", "u32le"), ("u32le", "raw")] {
        let home = Home::new();
        let text = lines(2000);
        let input: Vec<u8> = match from {
            "lines" => text.clone().into_bytes(),
            _ => text.lines().flat_map(|l| [&(l.len() as u32).to_le_bytes(), l.as_bytes()].concat()).collect(),
        };
        std::fs::write(home.file("input"), &input).unwrap();
        let mut live = gated(&home, from, to, "4MiB, max_message: 8KiB"); // room for all that is written
        let (recorder, file) = record(&home, &mut live, "a.rec", &[]);
        go(&home);
        live.finish().with_code(0);
        let said = ended(recorder, 0);
        assert!(said.contains("2000 messages") && said.contains("lost: nothing"), "{from} to {to}: {said}");
        let stat = stat(&home, &file);
        let (bytes, complete) = (text.len() - 2000, true);
        assert_eq!((&stat["messages"], &stat["bytes"]), (&2000.into(), &bytes.into()), "{stat:#}");
        assert_eq!((&stat["complete"], &stat["ended"]["why"]), (&complete.into(), &"end_of_stream".into()));
        assert_eq!((&stat["recording"]["edge"], &stat["recording"]["producers"][0]), (&"events".into(), &"a".into()));
        assert_eq!(cat(&home, &file, &["--framing", from]).1, input);
        let (done, replayed) = replay(&home, &file, ", --speed, max", from);
        done.with_code(0);
        assert!(replayed == input, "{from} to {to}");
    }
}

#[test]
fn who_records_and_is_stopped_or_killed_holds_nobody_up() {
    let home = Home::new();
    std::fs::write(home.file("input"), lines(50_000)).unwrap();
    let mut live = gated(&home, "lines", "raw", "64KiB");
    let (stopped, lossy) = record(&home, &mut live, "stopped.rec", &[]);
    let (mut killed, cut) = record(&home, &mut live, "killed.rec", &[]);
    let (good, whole) = record(&home, &mut live, "good.rec", &["--for", "1h"]);
    send(stopped.id(), STOP);
    live.until("the killed one's header", || (std::fs::metadata(&cut).unwrap().len() > 0).then_some(()));
    send(killed.id(), KILL);
    killed.wait().unwrap();
    go(&home);
    let done = live.finish().with_code(0);
    assert_eq!(done.edge("events")["messages"], 50_000);
    send(stopped.id(), CONT);
    ended(stopped, 0);
    let all = |file: &Path| {
        let stat = stat(&home, file);
        let lost = stat["lost"]["messages"].as_u64().unwrap();
        assert_eq!(stat["messages"].as_u64().unwrap() + lost, 50_000, "{stat:#}");
        lost
    };
    assert!(all(&lossy) > 0, "more than the edge holds went by");
    ended(good, 0);
    all(&whole);
    // The one that was killed.
    let stat = stat(&home, &cut);
    assert_eq!((&stat["complete"], &stat["messages"]), (&false.into(), &0.into()));
    let (code, _, err) = cat(&home, &cut, &[]);
    assert!(code == Some(1) && err.contains("cut off") && err.contains("--partial"), "{err}");
    assert_eq!(cat(&home, &cut, &["--partial"]).0, Some(0));
    let (_, human, _) = home.verb(&["edge", "stat", cut.to_str().unwrap()]);
    assert!(human.contains("cut off at byte"), "{human}");
}

#[test]
fn a_recording_ends_when_it_is_told_to() {
    let home = Home::new();
    std::fs::write(home.file("input"), lines(100)).unwrap();
    let mut live = home.start(
        "stages:
  a: { shell: 'until [ -e go ]; do sleep 0.01; done; cat input; sleep 1000', stdout: { edge: events, framing: lines } }
  b: { command: [cat], stdin: { edge: events, framing: lines }, stdout: { file: got } }
edges: { events: { from: a, to: b } }
",
    );
    let (five, file) = record(&home, &mut live, "five.rec", &["--messages", "5"]);
    let (some, until_told) = record(&home, &mut live, "some.rec", &[]);
    let (none, moment) = record(&home, &mut live, "moment.rec", &["--for", "1ms"]);
    ended(none, 0);
    assert_eq!(stat(&home, &moment)["ended"]["why"], "enough");
    go(&home);
    ended(five, 0);
    let five = stat(&home, &file);
    assert_eq!((&five["messages"], &five["ended"]["why"]), (&5.into(), &"enough".into()));
    live.until("all to be recorded", || (std::fs::metadata(&until_told).unwrap().len() > 5000).then_some(()));
    send(some.id(), INT);
    ended(some, 0);
    let some = stat(&home, &until_told);
    assert_eq!((&some["messages"], &some["ended"]["why"]), (&100.into(), &"interrupted".into()), "{some:#}");
    // One that is there is not lost by a slip.
    let path = file.to_str().unwrap();
    let (code, _, err) = home.verb(&["edge", "record", "test", "events", "-o", path]);
    assert!(code == Some(2) && err.contains("there already") && err.contains("--force"), "{err}");
    let (code, _, err) = home.verb(&["edge", "record", "test", "evnts", "-o", "/dev/null"]);
    assert!(code == Some(2) && err.contains("did you mean `events`?"), "{err}");
    let (code, _, err) = home.verb(&["edge", "record", "tst", "events", "-o", "/dev/null"]);
    assert!(code == Some(2) && err.contains("did you mean `test`?"), "{err}");
    let (code, _, err) = home.verb(&["edge", "record", "test", "events", "-o", "/dev/full"]);
    assert!(code == Some(1) && err.contains("No space left"), "{err}");
    let (code, _, err) = home.verb(&["edge", "record", "test", "events", "-o", "/no/such/file"]);
    assert!(code == Some(2) && err.contains("/no/such/file"), "{err}");
    let (code, _, err) = home.verb(&["edge", "stat", "events.rec"]);
    assert!(code == Some(2) && err.contains("no file events.rec"), "{err}");
    // A run that dies: what there was is kept.
    let (orphan, file) = record(&home, &mut live, "orphan.rec", &[]);
    let runner = live.runner();
    send(runner, KILL);
    live.finish().with_code(128 + KILL);
    ended(orphan, 0);
    assert_eq!(stat(&home, &file)["ended"]["why"], "run_ended");
}

#[test]
fn a_damaged_recording_is_not_taken_for_a_good_one() {
    let home = Home::new();
    std::fs::write(home.file("input"), "one\ntwo\nthree\n").unwrap();
    let mut live = gated(&home, "lines", "lines", "1MiB");
    let (recorder, file) = record(&home, &mut live, "a.rec", &[]);
    go(&home);
    live.finish().with_code(0);
    ended(recorder, 0);
    let good = std::fs::read(&file).unwrap();
    let at = good.windows(3).position(|w| w == b"two").unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut bytes = good.clone();
    bytes[at] ^= 1;
    let damaged = write("damaged.rec", &bytes);
    let (code, out, err) = cat(&home, &damaged, &[]);
    assert_eq!((code, out.as_slice()), (Some(1), &b"one\n"[..]), "what is good before it");
    assert!(err.contains("damaged at byte"), "{err}");
    let (done, replayed) = replay(&home, &damaged, "", "lines");
    done.with_code(1);
    assert!(b"one\n".starts_with(&replayed));
    let (_, log, _) = home.verb(&["dag", "logs", "last", "again"]);
    assert!(log.contains("damaged at byte"), "{log}");
    let cut = write("cut.rec", &good[..at + 3]);
    replay(&home, &cut, "", "lines").0.with_code(1);
    let (done, replayed) = replay(&home, &cut, ", --partial", "lines");
    done.with_code(0);
    assert_eq!(replayed, b"one\ntwo\n");
    let other = write("other.rec", b"#!/bin/sh\n");
    let (code, _, err) = cat(&home, &other, &[]);
    assert!(code == Some(1) && err.contains("no recording"), "{err}");
    let (code, _, err) = home.verb(&["edge", "replay", file.to_str().unwrap()]);
    assert!(code == Some(2) && err.contains("nexusflow dag apply"), "{err}");
    assert_eq!(cat(&home, Path::new("/no/such.rec"), &[]).0, Some(2));
}
