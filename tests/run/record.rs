//! What a run leaves behind for those who ask later, and what it says meanwhile.

use std::process::Stdio;

use crate::harness::{Home, INT, KILL, send};

const MIXED: &str = "stages:
  good: { shell: echo said by good }
  bad: { shell: 'echo said by bad; exit 7', depends_on: [good] }
  never: { command: [\"true\"], depends_on: [bad] }
";

#[test]
fn facts_come_in_order_and_are_complete() {
    let home = Home::new();
    let done = home.apply_to(
        1,
        "stages:
  a: { command: [seq, '10'], stdout: { edge: e, framing: lines } }
  b: { command: [cat], replicas: 2, stdin: { edge: e, framing: lines } }
  bad: { command: [\"false\"], depends_on: [b] }
  never: { command: [\"true\"], depends_on: [bad] }
edges: { e: { from: a, to: b, delivery: distribute } }
",
    );
    let events: Vec<&str> = done.facts.iter().map(|f| f["event"].as_str().expect("only JSON objects")).collect();
    assert_eq!((events[0], *events.last().unwrap()), ("run_started", "run_ended"));
    let count = |name: &str| events.iter().filter(|e| **e == name).count();
    assert_eq!((count("run_started"), count("run_ended"), count("edge_ended")), (1, 1, 1));
    assert_eq!((count("stage_started"), count("stage_ended")), (4, 5));
    let mut last = String::new();
    for fact in &done.facts {
        let at = fact["at"].as_str().unwrap();
        let time: jiff::Timestamp = at.parse().unwrap();
        assert!(last.is_empty() || last.parse::<jiff::Timestamp>().unwrap() <= time, "{done:#?}");
        last = at.to_owned();
    }
    assert!(done.stage("a")["usage"]["minor_faults"].as_u64().unwrap() > 0);
}

#[test]
fn memory_is_told_of_who_used_more_than_the_runner_and_of_nobody_else() {
    let home = Home::new();
    let prom = home.path("t.prom");
    // What tail holds back counts as used by a child that the shell waited for.
    let text = "stages:
  small: { command: [\"true\"] }
  large: { shell: 'head -c 200M /dev/zero | tail -c 200M > /dev/null', depends_on: [small] }
  after: { command: [\"true\"], depends_on: [large] }
";
    let done = home.start_with(text, &["--prom-file", prom.to_str().unwrap()], |_| {}).finish().with_code(0);
    let shown = home.json(&["dag", "show", "last", "--format", "json"]);
    let attempt = |stage| shown["attempts"].as_array().unwrap().iter().find(|a| a["stage"] == stage).unwrap();
    for (stage, at_least) in [("small", None), ("large", Some(200 << 20)), ("after", None)] {
        for told in [done.stage(stage), attempt(stage)] {
            let usage = told["usage"].as_object().unwrap();
            let rss = usage.get("max_rss_bytes").map(|rss| rss.as_u64().unwrap());
            assert!(rss.is_some() == at_least.is_some() && rss >= at_least, "{stage}: {usage:#?}");
        }
    }
    let series = std::fs::read_to_string(prom).unwrap();
    let series: Vec<_> = series.lines().filter(|l| l.starts_with("nexusflow_stage_max_rss_bytes{")).collect();
    assert!(series.len() == 1 && series[0].contains("stage=\"large\""), "{series:#?}");
}

#[test]
fn each_ending_is_in_the_history() {
    let home = Home::new();
    let status = |home: &Home| {
        let history = home.json(&["dag", "history", "--format", "json"]);
        history["runs"][0]["status"].as_str().unwrap().to_owned()
    };
    home.apply_to(0, "stages: { s: { command: [\"true\"] } }");
    assert_eq!(status(&home), "succeeded");
    home.apply_to(1, MIXED);
    assert_eq!(status(&home), "failed");
    home.apply_to(124, "timeout: 50ms\nstages: { s: { command: [sleep, '1000'] } }");
    assert_eq!(status(&home), "timed_out");
    home.apply_to(5, "stages: { s: { command: [./missing] } }");
    assert_eq!(status(&home), "not_started");
    let mut live = home.start("stages: { s: { command: [sleep, '1000'] } }");
    live.started("s");
    // The history is written beside the run, a moment later.
    live.until("the run's row", || (status(&home) == "running").then_some(()));
    live.signal(INT);
    live.finish().with_code(130);
    assert_eq!(status(&home), "interrupted");
    let mut live = home.start("stages: { s: { command: [sleep, '1000'] } }");
    live.started("s");
    let runner = live.runner();
    live.until("the run's row", || (status(&home) == "running").then_some(()));
    send(runner, KILL);
    live.finish().with_code(128 + KILL);
    assert_eq!(status(&home), "died");

    let (code, table, _) = home.verb(&["dag", "history"]);
    assert_eq!(code, Some(0));
    for word in ["succeeded", "failed", "timed out", "not started", "interrupted", "died"] {
        assert!(table.replace('_', " ").contains(word), "{table}");
    }
    let (code, none, _) = home.verb(&["dag", "history", "nosuch"]);
    assert_eq!((code, none.as_str()), (Some(0), "no runs of pipeline nosuch\n"));
    assert_eq!(home.verb(&["dag", "history", "-n", "0"]).0, Some(2));
}

#[test]
fn show_and_logs_tell_the_story() {
    let home = Home::new();
    let done = home.apply_to(1, MIXED);
    let run = done.facts[0]["run"].as_str().unwrap();
    let shown = home.json(&["dag", "show", run, "--format", "json"]);
    let attempts = shown["attempts"].as_array().unwrap();
    let of = |stage: &str| attempts.iter().find(|a| a["stage"] == stage).unwrap_or_else(|| panic!("{shown:#}"));
    assert_eq!((&of("bad")["exit_code"], &of("never")["outcome"]), (&7.into(), &"skipped".into()));
    let (code, human, _) = home.verb(&["dag", "show", run]);
    assert!(code == Some(0) && human.contains("bad") && human.contains("exit code 7"), "{human}");
    let (code, log, _) = home.verb(&["dag", "logs", run, "bad"]);
    assert_eq!((code, log.as_str()), (Some(0), "said by bad\n"));
    let (code, all, _) = home.verb(&["dag", "logs", run]);
    assert!(code == Some(0) && all.contains("said by good") && all.contains("said by bad"), "{all}");
}

#[test]
fn metrics_are_written_however_it_ends_and_the_last_success_is_kept() {
    let home = Home::new();
    let prom = home.path("t.prom");
    let args = ["--prom-file", prom.to_str().unwrap()];
    let value = |series: &str| {
        let text = std::fs::read_to_string(&prom).unwrap();
        assert!(text.ends_with('\n'));
        let line = text.lines().find(|l| l.starts_with(series) && !l.starts_with('#'));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    const SUCCESS: &str = "nexusflow_run_success{pipeline=\"test\"}";
    const LAST: &str = "nexusflow_run_last_success_timestamp_seconds{pipeline=\"test\"}";
    home.start_with("stages: { s: { command: [\"true\"] } }", &args, |_| {}).finish().with_code(0);
    let last = value(LAST);
    assert_eq!(value(SUCCESS), 1.0);
    home.start_with(MIXED, &args, |_| {}).finish().with_code(1);
    assert_eq!((value(SUCCESS), value(LAST)), (0.0, last));
    std::fs::write(&prom, "# rubbish that is no metric {{{\n").unwrap();
    let mut live = home.start_with("stages: { s: { command: [sleep, '1000'] } }", &args, |_| {});
    live.started("s");
    live.signal(INT);
    live.finish().with_code(130);
    assert_eq!(value(SUCCESS), 0.0);
    home.start_with("stages: { s: { command: [./missing] } }", &args, |_| {}).finish().with_code(5);
    assert_eq!(value(SUCCESS), 0.0);
}

#[test]
fn a_metrics_file_that_cannot_be_written_is_a_warning() {
    let home = Home::new();
    let apply = |prom: &str| home.start_with("stages: { s: { command: [\"true\"] } }", &["--prom-file", prom], |_| {});
    std::fs::create_dir(home.path("t.prom")).unwrap();
    let taken = home.path("t.prom").display().to_string();
    apply(&taken).finish().with_code(0).says(&["warning", &taken]);
    apply("/no/such/t.prom").finish().with_code(2).says(&["--prom-file /no/such/t.prom"]);
}

#[test]
fn quiet_says_only_what_goes_wrong() {
    let home = Home::new();
    let good = home.pipeline("stages: { s: { command: [\"true\"] } }");
    let apply =
        |file: &std::path::Path| home.verb(&["dag".as_ref(), "apply".as_ref(), "-q".as_ref(), file.as_os_str()]);
    assert_eq!(apply(&good), (Some(0), String::new(), String::new()));
    let (code, out, err) = apply(&home.pipeline(MIXED));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("failed") && err.contains("bad") && err.contains("said by bad") && !err.contains("good"),
        "{err}"
    );
}

#[test]
fn who_stops_listening_does_not_end_the_run() {
    let home = Home::new();
    for args in [&["--format", "json"][..], &[]] {
        let file = home.pipeline(
            "stages:\n  a: { command: [\"true\"] }\n  b: { shell: 'sleep 0.05; echo > b', depends_on: [a] }\n",
        );
        let _ = std::fs::remove_file(home.file("b"));
        let mut command = home.nexusflow(&["dag", "apply"]);
        let mut child = command.args(args).arg(file).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(home.read("b"), "\n");
    }
}
