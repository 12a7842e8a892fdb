//! What a stage finds itself with: CPUs, descriptors, signals, parent.

use std::collections::BTreeMap;

use crate::harness::{Home, INT};

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.into(), v.trim().into())).collect()
}

/// `0-3,8` as numbers.
fn cpus(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        from.parse().unwrap()..=to.parse().unwrap()
    };
    list.split(',').flat_map(range).collect()
}

#[test]
fn every_stage_runs_where_the_plan_says_and_is_our_child() {
    let home = Home::new();
    let text = "parallel: 8
stages:
  free: { command: [sleep, '1000'] }
  one: { command: [sleep, '1000'], placement: { cpus: 1 } }
  two: { command: [sleep, '1000'], replicas: 2, placement: { cpus: 1, load: 0.2 } }
  nice: { command: [sleep, '1000'], scheduling: { nice: 5 }, placement: { cpus: 1, load: 0.1 } }
  feeds: { command: [\"yes\"], stdout: { edge: e, framing: lines }, placement: { cpus: 1, load: 0.1 } }
  reads: { command: [sleep, '1000'], stdin: { edge: e, framing: lines } }
edges: { e: { from: feeds, to: reads } }
";
    let file = home.pipeline(text);
    let plan = home.json(&["dag".as_ref(), "plan".as_ref(), "--format".as_ref(), "json".as_ref(), file.as_os_str()]);
    let mut live = home.start(text);
    for stage in ["free", "one", "two", "nice", "feeds", "reads"] {
        live.started(stage);
    }
    live.wait_for(|f| f["event"] == "stage_started" && f["stage"] == "two" && f["replica"] == 1);
    let runner = live.runner();
    let started: Vec<_> = live.seen.iter().filter(|f| f["event"] == "stage_started").cloned().collect();
    assert_eq!(started.len(), 7);
    for fact in started {
        let tasks = plan["tasks"].as_array().unwrap_or_else(|| panic!("{plan:#}"));
        let task = tasks.iter().find(|t| t["stage"] == fact["stage"] && t["replica"] == fact["replica"]).unwrap();
        assert_eq!(fact["cpus"], task["cpus"], "{fact:#}");
        let status = status(crate::harness::pid(fact.clone()));
        assert_eq!(cpus(&status["Cpus_allowed_list"]), cpus(task["cpus"].as_str().unwrap()), "{fact:#}");
        assert_eq!(status["PPid"], runner.to_string());
    }
    let nice = live.started("nice");
    let stat = std::fs::read_to_string(format!("/proc/{nice}/stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("5"));
    live.signal(INT);
    live.finish().with_code(130);
}

#[test]
fn a_stage_has_the_descriptors_that_are_its_own_and_no_other() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  plain: { shell: 'ls -l /proc/self/fd > plain' }
  bound: { shell: 'ls -l /proc/self/fd > bound; cat /dev/fd/3 > /dev/fd/4', bind: { a: lines, b: lines } }
  own: { shell: 'ls -l /proc/self/fd > own; echo $NEXUSFLOW_CONTROL_FD > control', stdin: { edge: b, framing: lines } }
  feeds: { shell: 'ls -l /proc/self/fd > feeds; seq 10', stdout: { edge: a, framing: lines } }
  sink: { shell: 'ls -l /proc/self/fd > sink; cat', stdin: { edge: c, framing: lines } }
edges:
  a: { from: feeds, to: bound }
  b: { from: bound, to: own }
  c: { from: own, to: sink }
",
    );
    for (name, want) in [("plain", 3), ("feeds", 3), ("sink", 3), ("own", 4), ("bound", 5)] {
        let listed = home.read(name);
        // Without the folder that `ls` itself is reading.
        let fds: Vec<usize> = listed
            .lines()
            .filter_map(|l| l.split_once(" -> "))
            .filter(|(_, to)| !to.ends_with("/fd"))
            .map(|(l, _)| l.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(fds, (0..want).collect::<Vec<_>>(), "{name}: {listed}");
    }
    assert_eq!(home.read("control"), "3\n");
}

#[test]
fn signals_are_as_after_login_whatever_the_runner_was_given() {
    let home = Home::new();
    let text = "stages: { s: { command: [cat, /proc/self/status], stdout: { file: status } } }";
    // Started by something that ignores and blocks what it can.
    let file = home.pipeline(text);
    let script = "trap '' PIPE HUP INT TERM QUIT USR1 CHLD TTOU; exec \"$@\"";
    let program = home.nexusflow(&["dag", "apply", "--quiet"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program.get_program()).args(program.get_args()).arg(file);
    command.current_dir("/").env("NEXUSFLOW_STATE_DIR", home.path("state"));
    let out = command.output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let status = home.read("status");
    for set in ["SigBlk", "SigIgn", "SigPnd"] {
        let line = status.lines().find(|l| l.starts_with(set)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{set}");
    }
}

#[test]
fn a_stage_cannot_reach_the_terminal_or_input_of_the_runner() {
    let home = Home::new();
    home.apply_to(0, "stages: { s: { command: [sh, -c, 'readlink /proc/self/fd/0 > in; cut -d\" \" -f5 /proc/$$/stat > group; echo $$ >> group'] } }");
    assert_eq!(home.read("in"), "/dev/null\n");
    let group = home.read("group");
    let mut lines = group.lines();
    assert_eq!(lines.next(), lines.next(), "it leads a process group of its own");
}
