//! Object edges: whole streams of unmodified programs, and stages of the SDK that create, hold and release.

use std::os::fd::AsFd;

use nexusflow_stage::{Object, Stage};
use nexusflow_sys::process;

use super::harness::{Home, KILL, TERM};

const ROLE: &str = "NEXUSFLOW_TEST_ROLE";

/// Not a test of its own: what stages of the pipelines below run.
#[test]
#[ignore = "started by the other tests"]
fn stage() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let stage = Stage::from_env().unwrap();
    match role.as_str() {
        "make" => make(&stage),
        "sum" => sum(&stage),
        "hold" => hold(&stage),
        "die" => die(&stage),
        "both" => wrong_kind(&stage),
        role => panic!("no role {role}"),
    }
    std::process::exit(0);
}

/// 40 objects, each longer than the one before.
fn make(stage: &Stage) {
    let output = stage.object_output("e").unwrap();
    for n in 0..40u8 {
        let mut draft = output.create(usize::from(n) * 1000).unwrap();
        draft.as_mut_slice().fill(n);
        assert_eq!(draft.seal().unwrap(), u64::from(n));
    }
    assert_eq!(output.committed(), 40);
    assert!(output.create(output.max_object() + 1).is_err());
    drop(output.create(1).unwrap());
    output.finish();
}

/// Holds each until three others have come, then writes what it was.
fn sum(stage: &Stage) {
    let mut input = stage.object_input("e").unwrap();
    let mut held: Vec<Object> = Vec::new();
    let mut seen = Vec::new();
    while let Some(object) = input.recv().unwrap() {
        held.push(object);
        if held.len() > 3 {
            seen.push(check(&held.remove(1)));
        }
    }
    seen.extend(held.iter().map(check));
    seen.sort_unstable();
    std::fs::write(format!("{}.{}", stage.name(), stage.replica()), format!("{seen:?}")).unwrap();
}

/// Holds all, or as replica 1 the first and the last, until it is told to end.
fn hold(stage: &Stage) {
    let mut input = stage.object_input("e").unwrap();
    let mut held = Vec::new();
    while let Some(object) = input.recv().unwrap() {
        if stage.replica() == 0 || [0, 39].contains(&object.number()) {
            held.push(object);
        }
    }
    loop {
        std::thread::park();
    }
}

/// Its first process releases two of five and is killed; the next is given the other three again, and all that follow.
fn die(stage: &Stage) {
    let mut input = stage.object_input("e").unwrap();
    if stage.attempt() == 1 {
        let mut held: Vec<Object> = (0..5).map(|_| input.recv().unwrap().unwrap()).collect();
        drop((held.remove(3), held.remove(1)));
        let myself = process::open(std::process::id()).unwrap();
        process::signal(myself.as_fd(), KILL).unwrap();
        std::thread::park();
    }
    let seen: Vec<u64> = input.map(|object| check(&object.unwrap())).collect();
    std::fs::write("seen", format!("{seen:?}")).unwrap();
}

fn check(object: &Object) -> u64 {
    let bytes = object.to_vec();
    assert_eq!(bytes.len() as u64, object.number() * 1000);
    assert!(bytes.iter().all(|b| u64::from(*b) == object.number()));
    assert!(object.sealed().is_none_or(|sealed| sealed == bytes));
    object.number()
}

fn wrong_kind(stage: &Stage) {
    let message = |e: nexusflow_stage::Error| e.to_string();
    assert!(stage.output("e").map(drop).map_err(message).unwrap_err().contains("open it with `object_output`"));
    assert!(stage.object_input("e").map(drop).map_err(message).unwrap_err().contains("open it with `object_output`"));
    assert!(stage.object_output("ring").map(drop).map_err(message).unwrap_err().contains("open it with `output`"));
    stage.object_output("e").unwrap().send(b"x").unwrap();
}

/// `command` and `env` of a stage that this program is.
fn role(role: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let program = program.display();
    format!("command: ['{program}', --exact, objects::stage, --ignored], env: {{ {ROLE}: {role} }}")
}

#[test]
fn stages_create_hold_and_release() {
    for edge in ["", ", sealed: true", ", wait: block, capacity: 200KiB"] {
        let home = Home::new();
        let done = home.apply_to(
            0,
            &format!(
                "stages:
  make: {{ {} }}
  a: {{ {sum} }}
  b: {{ {sum}, replicas: 2 }}
edges: {{ e: {{ from: make, to: [a, b], kind: object{edge} }} }}
",
                role("make"),
                sum = role("sum"),
            ),
        );
        let all = format!("{:?}", (0..40).collect::<Vec<_>>());
        assert_eq!(["a.0", "b.0", "b.1"].map(|name| home.read(name)), [&all; 3].map(String::clone));
        assert_eq!((&done.edge("e")["messages"], &done.edge("e")["bytes"]), (&40.into(), &780_000.into()));
    }
}

#[test]
fn each_object_goes_to_one_replica() {
    for edge in ["", ", sealed: true, by: least_backlog"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  make: {{ {} }}
  part: {{ {}, replicas: 3 }}
edges: {{ e: {{ from: make, to: part, kind: object, delivery: distribute{edge} }} }}
",
                role("make"),
                role("sum"),
            ),
        );
        let parts = (0..3).map(|i| home.read(&format!("part.{i}")));
        let mut all: Vec<u64> = parts.flat_map(|part| serde_json::from_str::<Vec<u64>>(&part).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn an_edge_is_opened_as_what_it_carries() {
    let home = Home::new();
    home.apply_to(
        0,
        &format!(
            "stages:
  both: {{ {} }}
  x: {{ command: [cat], stdin: {{ edge: e }}, stdout: {{ file: x }} }}
  y: {{ command: [cat], stdin: {{ edge: ring }} }}
edges:
  e: {{ from: both, to: x, kind: object }}
  ring: {{ from: both, to: y }}
",
            role("both")
        ),
    );
    assert_eq!(home.read("x"), "x");
}

#[test]
fn the_whole_stream_of_a_program_is_one_object() {
    for edge in ["", ", sealed: true"] {
        let home = Home::new();
        let done = home.apply_to(
            0,
            &format!(
                "stages:
  a: {{ command: [seq, '100000'], stdout: {{ edge: e, framing: raw }} }}
  b: {{ command: ['true'], stdout: {{ edge: e, framing: raw }} }}
  all: {{ command: [cat], stdin: {{ edge: e, framing: raw }}, stdout: {{ file: all }} }}
  path: {{ command: [cp, '${{edge.e}}', copy], bind: {{ e: raw }} }}
edges: {{ e: {{ from: [a, b], to: [all, path], kind: object, capacity: 1MiB{edge} }} }}
"
            ),
        );
        let want: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
        assert!(home.read("all") == want && home.read("copy") == want);
        assert_eq!((&done.edge("e")["messages"], &done.edge("e")["bytes"]), (&2.into(), &want.len().into()));
    }
}

#[test]
fn what_is_held_and_by_whom_can_be_asked() {
    let home = Home::new();
    let mut live = home.start(&format!(
        "stages:
  make: {{ {} }}
  a: {{ {}, replicas: 2 }}
edges:
  e: {{ from: make, to: a, kind: object, max_message: 1MiB }}
",
        role("make"),
        role("hold"),
    ));
    let run = live.run_id();
    // Replica 1 has released all but the first and the last of 40.
    let held = live.until("everything is held as it will be", || {
        let (code, out, _) = home.verb(&["plasma", "ls", "test", "e", "--format", "json"]);
        let runs: serde_json::Value = serde_json::from_str(&out).ok().filter(|_| code == Some(0))?;
        let objects = runs[0]["objects"].as_array()?.clone();
        let by_one = objects.iter().filter(|o| o["held_by"].as_array().unwrap().contains(&"a@1".into()));
        (objects.len() == 40 && by_one.count() == 2).then_some(runs)
    });
    let objects = held[0]["objects"].as_array().unwrap();
    assert_eq!((&held[0]["run"], objects[39]["object"].as_u64()), (&run.clone().into(), Some(39)));
    assert_eq!(objects[39]["held_by"], serde_json::json!(["a@0", "a@1"]));
    assert_eq!((&objects[7]["held_by"], &objects[7]["bytes"]), (&serde_json::json!(["a@0"]), &7000.into()));
    let (_, human, _) = home.verb(&["plasma", "ls"]);
    assert!(human.starts_with("RUN") && human.lines().count() == 41 && human.contains("a@0, a@1"), "{human}");
    let (code, _, wrong) = home.verb(&["edge", "stat", "test", "e"]);
    assert!(code == Some(2) && wrong.contains("plasma ls"), "{wrong}");
    live.signal(TERM);
    live.finish().with_code(143);
}

#[test]
fn a_consumer_that_is_started_again_is_given_what_it_had_not_released() {
    for edge in ["", ", sealed: true"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  make: {{ {} }}
  die: {{ {}, restart: {{ when: on_failure, limit: 2, backoff: 1ms }} }}
edges: {{ e: {{ from: make, to: die, kind: object{edge} }} }}
",
                role("make"),
                role("die"),
            ),
        );
        let want: Vec<u64> = (0..40).filter(|n| ![1, 3].contains(n)).collect();
        assert_eq!(home.read("seen"), format!("{want:?}"));
    }
}

#[test]
fn a_program_that_is_killed_over_an_object_is_given_it_again() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '100000'], stdout: { edge: e, framing: raw } }
  read:
    shell: 'if [ -e again ]; then cat > got; else touch again; head -c 10 > /dev/null; kill -9 $$; fi'
    stdin: { edge: e, framing: raw }
    restart: { when: on_failure, limit: 2, backoff: 1ms, scope: stage }
edges: { e: { from: seq, to: read, kind: object } }
",
    );
    let want: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    assert!(home.read("got") == want);
}

#[test]
fn a_program_that_fails_sends_no_part_of_its_object() {
    let home = Home::new();
    home.apply_to(
        1,
        "stages:
  a: { command: [sh, -c, 'seq 1000; exit 3'], stdout: { edge: e, framing: raw } }
  b: { command: [sh, -c, 'cat > got'], stdin: { edge: e, framing: raw } }
edges: { e: { from: a, to: b, kind: object } }
",
    );
    assert_eq!(std::fs::read_to_string(home.file("got")).unwrap_or_default(), "");
}

#[test]
fn a_stream_longer_than_an_object_may_be_fails_its_stage() {
    let home = Home::new();
    let done = home.apply_to(
        1,
        "stages:
  fits: { command: [head, -c, '300000', /dev/zero], stdout: { edge: e, framing: raw } }
  long: { command: [head, -c, '300001', /dev/zero], stdout: { edge: e, framing: raw } }
  b: { command: [cat], stdin: { edge: e, framing: raw } }
edges: { e: { from: [fits, long], to: b, kind: object, max_message: 300000B } }
",
    );
    assert!(done.stderr.contains("300001") && !done.stderr.contains("`fits`"), "{}", done.stderr);
}

#[test]
fn when_nobody_reads_any_more_the_producer_is_told() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  a: { command: [sh, -c, 'while echo x; do sleep 0.01; done'], stdout: { edge: e, framing: raw } }
  b: { command: ['true'], stdin: { edge: e, framing: raw } }
edges: { e: { from: a, to: b, kind: object } }
",
    );
}
