//! Asking a run that goes on: `edge stat` over the run socket, and who may.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Home, INT, KILL, Live, send};

/// Writes ten lines, and more once there is a file `go`.
const GATED: &str = "stages:
  a: { shell: 'seq 10; until [ -e go ]; do sleep 0.01; done; seq 11 20', stdout: { edge: events, framing: lines } }
  b: { command: [cat], replicas: 2, stdin: { edge: events, framing: lines } }
  c: { command: [cat], stdout: { edge: piped } }
  d: { command: [cat], stdin: { edge: piped }, stdout: { file: /dev/null } }
  later: { command: [seq, '3'], depends_on: [a], stdout: { edge: late, framing: lines } }
  last: { command: [cat], depends_on: [b], stdin: { edge: late, framing: lines } }
edges:
  events: { from: a, to: b, capacity: 64KiB }
  piped: { from: c, to: d, kind: pipe }
  late: { from: later, to: last }
";

fn rings(home: &Home, args: &[&str]) -> Vec<Value> {
    let all = [&["edge", "stat", "--format", "json"], args].concat();
    home.json(&all)["rings"].as_array().unwrap().clone()
}

/// A run of [`GATED`] that has written its first lines, which all have read.
fn gated(home: &Home) -> (Live, String) {
    let mut live = home.start(GATED);
    let run = live.run_id();
    live.started("a");
    live.until("ten lines to be read", || {
        let rings = rings(home, &[&run]);
        rings.first()?["consumers"].as_array()?.iter().all(|c| c["messages"] == 10).then_some(())
    });
    (live, run)
}

#[test]
fn a_run_tells_how_its_edges_do() {
    let home = Home::new();
    let (mut live, run) = gated(&home);
    for word in [&run, "test", &run[..run.len() - 3], "te"] {
        let rings = rings(&home, &[word, "events"]);
        assert_eq!(rings.len(), 1, "{rings:#?}");
        let ring = &rings[0];
        assert_eq!((&ring["edge"], &ring["producer"], &ring["messages"]), (&"events".into(), &"a".into(), &10.into()));
        assert_eq!((&ring["bytes"], &ring["consumers"][1]["consumer"]), (&11.into(), &"b@1".into()));
        assert_eq!(ring["consumers"][0]["backlog_bytes"], 0);
    }
    let (code, table, _) = home.verb(&["edge", "stat", "test"]);
    assert!(code == Some(0) && table.contains("> b@1"), "{table}");
    assert_eq!(rings(&home, &["test", "late"]), Vec::<Value>::new());

    let refused = |args: &[&str], words: &[&str]| {
        let (code, _, err) = home.verb(&[&["edge", "stat"], args].concat());
        assert_eq!(code, Some(2), "{err}");
        words.iter().for_each(|word| assert!(err.contains(word), "no {word:?} in {err}"));
    };
    refused(&["test", "evnts"], &["no edge `evnts`", "did you mean `events`?"]);
    refused(&["test", "zzz"], &["its edges are: events, piped, late"]);
    refused(&["test", "piped"], &["a pipe of the kernel's"]);
    refused(&["tset"], &["did you mean `test`?"]);
    refused(&["zzz"], &["there are:", &run]);

    std::fs::write(home.file("go"), "").unwrap();
    live.ended("d");
    live.finish().with_code(0);
    refused(&["test"], &["nothing runs"]);
    assert_eq!(std::fs::read_dir(home.path("run")).unwrap().count(), 0, "the socket goes with the run");
}

#[test]
fn the_socket_is_the_owners_alone_and_what_a_dead_runner_left_is_swept() {
    let home = Home::new();
    let (mut live, run) = gated(&home);
    let socket = home.path("run").join(format!("{run}.sock"));
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(home.path("run")), mode(socket.clone())), (0o700, 0o600));
    // Another user, whoever lets him near, is turned away; only root can try.
    std::fs::set_permissions(home.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(home.path("run"), PermissionsExt::from_mode(0o755)).unwrap();
    let program = env!("CARGO_BIN_EXE_nexusflow");
    let theirs = |mode| {
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", program, "edge", "stat", "test"]);
        command.env("NEXUSFLOW_RUNTIME_DIR", home.path("run")).current_dir("/").output()
    };
    if let Ok(out) = theirs(0o600)
        && out.status.code() == Some(1)
    {
        for (out, why) in [(out, "Permission denied"), (theirs(0o666).unwrap(), "not uid 65534's")] {
            assert_eq!(out.status.code(), Some(1), "{out:?}");
            assert!(String::from_utf8_lossy(&out.stderr).contains(why), "{out:?}");
        }
    } else {
        eprintln!("not root, or another user cannot run the program: this one case is not tried");
    }
    let runner = live.runner();
    send(runner, KILL);
    live.finish().with_code(128 + KILL);
    assert!(socket.exists());
    let (_, _, err) = home.verb(&["edge", "stat", "test"]);
    assert!(err.contains("no run that goes on"), "{err}");
    home.apply_to(0, "stages: { s: { command: [\"true\"] } }");
    assert!(!socket.exists());
}

#[test]
fn without_a_socket_a_run_goes_on() {
    let home = Home::new();
    std::fs::write(home.path("run"), "no folder").unwrap();
    let done = home.apply_to(0, "stages: { s: { command: [touch, ran] } }");
    done.says(&["warning[NF0515]", "NEXUSFLOW_RUNTIME_DIR"]);
    assert!(home.file("ran").exists());
}

#[test]
fn a_run_without_edges_says_so() {
    let home = Home::new();
    let mut live = home.start("stages: { s: { command: [sleep, '1000'] } }");
    live.started("s");
    let (code, out, _) = home.verb(&["edge", "stat", "test"]);
    assert!(code == Some(0) && out.contains("no ring is open"), "{out}");
    let (code, _, err) = home.verb(&["edge", "stat", "test", "e"]);
    assert!(code == Some(2) && err.contains("it has no edges at all"), "{err}");
    live.signal(INT);
    live.finish().with_code(130);
}
