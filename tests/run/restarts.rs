//! Stages that are started again: alone, with their edges waiting for them, or as a gang from the beginning.

use crate::harness::{Home, INT, KILL, Live, pid, send};
use crate::sdk::role;

/// Fails until it has been started this often.
fn succeeds_at(times: u32) -> String {
    format!("shell: 'echo x >> tries; echo attempt $NEXUSFLOW_ATTEMPT; [ $(wc -l < tries) -ge {times} ]'")
}

#[test]
fn a_stage_is_started_again_until_it_succeeds() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        &format!(
            "stages:
  s: {{ {}, restart: {{ when: on_failure, backoff: 10ms }} }}
  after: {{ command: [touch, after], depends_on: [s] }}
",
            succeeds_at(3)
        ),
    );
    let of_s = |event: &str| done.of(event).into_iter().filter(|f| f["stage"] == "s").cloned().collect::<Vec<_>>();
    let (started, ended) = (of_s("stage_started"), of_s("stage_ended"));
    let attempts =
        |facts: &[serde_json::Value]| facts.iter().map(|f| f["attempt"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((attempts(&started), attempts(&ended)), (vec![1, 2, 3], vec![1, 2, 3]));
    let outcomes: Vec<_> = ended.iter().map(|f| (f["outcome"].as_str().unwrap(), f["restart_in_s"].as_f64())).collect();
    assert_eq!(outcomes, [("failed", Some(0.01)), ("failed", Some(0.02)), ("succeeded", None)]);
    assert!(home.file("after").exists());
    for (attempt, log) in [(1, "s.log"), (2, "s~2.log"), (3, "s~3.log")] {
        let path = ended[attempt - 1]["log"].as_str().unwrap();
        assert!(path.ends_with(log), "{path}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("attempt {attempt}\n"));
    }
    let shown = home.json(&["dag", "show", "last", "--format", "json"]);
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 4);
}

#[test]
fn the_limit_is_the_end() {
    let home = Home::new();
    let prom = home.path("p.prom");
    let text = "stages:
  s: { shell: 'kill -KILL $$', restart: { when: on_failure, limit: 2, backoff: 1ms } }
  after: { command: [touch, after], depends_on: [s] }
";
    let live = home.start_with(text, &["--prom-file", prom.to_str().unwrap()], |_| {});
    let done = live.finish().with_code(1);
    assert_eq!(done.of("stage_started").len(), 3);
    assert_eq!(done.of("stage_ended").last().unwrap()["outcome"], "skipped");
    let text = std::fs::read_to_string(prom).unwrap();
    assert!(text.contains("nexusflow_stage_restarts{pipeline=\"test\",stage=\"s\"} 2\n"), "{text}");
}

#[test]
fn a_timeout_is_of_each_attempt_and_a_failure() {
    let done = Home::new().apply_to(
        124,
        "stages: { s: { command: [sleep, 1000], timeout: 50ms, restart: { when: on_failure, limit: 1, backoff: 1ms } } }",
    );
    let ended: Vec<_> = done.of("stage_ended").iter().map(|f| f["outcome"].as_str().unwrap()).collect();
    assert_eq!(ended, ["timed_out", "timed_out"]);
}

#[test]
fn an_interrupt_ends_the_wait() {
    let home = Home::new();
    let mut live =
        home.start("stages: { s: { shell: exit 3, restart: { when: on_failure, backoff: 1h, backoff_max: 1h } } }");
    live.ended("s");
    live.signal(INT);
    let done = live.finish().with_code(130);
    let ended = done.of("stage_ended");
    assert_eq!((&ended[1]["attempt"], &ended[1]["outcome"], ended.len()), (&2.into(), &"stopped".into(), 2));
}

#[test]
fn a_service_that_leaves_comes_back() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "parallel: 2
stages:
  s: { shell: 'echo x >> tries; [ $(wc -l < tries) -ge 3 ] && exec sleep 1000; exit 0', service: true, restart: { when: always, backoff: 1ms } }
  job: { shell: 'while [ ! -e tries ] || [ $(wc -l < tries) -lt 3 ]; do sleep 0.01; done' }
",
    );
    assert_eq!(done.of("stage_started").iter().filter(|f| f["stage"] == "s").count(), 3);
    assert_eq!(done.of("stage_ended").last().unwrap()["outcome"], "stopped");
}

/// Kills the running attempt of a stage when its reader has come further, again and again, until the run ends.
fn kill_while_it_runs(live: &mut Live, stages: &[&str], kills: u32) {
    for n in 1..=kills {
        for stage in stages {
            let started = live.wait_for(|f| {
                f["event"] == "stage_started" && f["stage"] == *stage && f["attempt"].as_u64() == Some(n.into())
            });
            send(pid(started), KILL);
        }
    }
}

/// What was kept: every number below `n`, in order but for what was delivered again.
fn all_in_order(kept: &str, n: u64) {
    let mut next = 0;
    for line in kept.lines() {
        let number: u64 = line.parse().unwrap();
        assert!(number <= next, "{next} is missing before {number}");
        next = next.max(number + 1);
    }
    assert_eq!(next, n);
}

const AGAIN: &str = "restart: { when: on_failure, limit: 100, backoff: 1ms, backoff_max: 1ms }";

#[test]
fn edges_wait_for_who_is_restarted() {
    const N: u64 = 20_000;
    for killed in [&["keep"][..], &["count"], &["pass"], &["count", "pass", "keep"]] {
        let home = Home::new();
        let mut live = home.start(&format!(
            "parallel: 4
stages:
  count: {{ {}, {AGAIN} }}
  pass: {{ {}, {AGAIN} }}
  keep: {{ {}, {AGAIN} }}
edges:
  a: {{ from: count, to: pass, capacity: 16KiB }}
  b: {{ from: pass, to: keep, capacity: 16KiB }}
",
            role(&format!("count {N}")),
            role("pass"),
            role("keep"),
        ));
        kill_while_it_runs(&mut live, killed, 5);
        let done = live.finish().with_code(0);
        all_in_order(&home.read("kept.keep.0"), N);
        for stage in killed {
            let restarts =
                done.of("stage_ended").iter().filter(|f| f["stage"] == *stage && f["restart_in_s"].is_number()).count();
            assert!(restarts >= 4, "{restarts} of {stage}: {done:#?}");
        }
    }
}

#[test]
fn a_gang_begins_anew_as_a_whole() {
    for kind in ["ring", "pipe"] {
        let home = Home::new();
        let done = home.apply_to(
            0,
            &format!(
                "stages:
  cat: {{ command: [seq, '50000'], stdout: {{ edge: e }} }}
  sort:
    shell: 'if [ $NEXUSFLOW_ATTEMPT -lt 3 ]; then head -n 1000 > /dev/null; kill -KILL $$; fi; exec sort -rn > sorted'
    stdin: {{ edge: e }}
    restart: {{ when: on_failure, scope: gang, backoff: 1ms }}
  after: {{ command: [cp, sorted, copy], depends_on: [sort, cat] }}
edges: {{ e: {{ from: cat, to: sort, kind: {kind} }} }}
"
            ),
        );
        let want: String = (1..=50_000).rev().map(|n| format!("{n}\n")).collect();
        assert!(home.read("copy") == want);
        let attempts = |stage: &str| done.of("stage_started").iter().filter(|f| f["stage"] == stage).count();
        assert_eq!((attempts("cat"), attempts("sort"), attempts("after")), (3, 3, 1), "{kind}");
    }
}

#[test]
fn a_replica_that_uses_up_its_restarts_fails_the_run() {
    let home = Home::new();
    let done = home.apply_to(
        1,
        &format!(
            "stages:
  count: {{ {} }}
  bad: {{ shell: 'exit 1', stdin: {{ edge: e }}, restart: {{ when: on_failure, limit: 2, backoff: 1ms, scope: stage }} }}
edges: {{ e: {{ from: count, to: bad, capacity: 1MiB }} }}
",
            role("count 1000000")
        ),
    );
    assert_eq!(done.of("stage_started").iter().filter(|f| f["stage"] == "bad").count(), 3);
    assert_eq!(done.of("stage_ended").iter().filter(|f| f["stage"] == "count").count(), 1);
}

#[test]
fn a_gang_begins_anew_although_a_stream_of_its_last_turn_is_held_open() {
    let home = Home::new();
    // What hides from its stage keeps the pipe full, until the next turn is being started.
    home.apply_to(
        0,
        "stages:
  gen:
    shell: 'mkdir turn || { kill $(cat hidden.*) || true; echo done; exit; };
      yes & while [ $(cat hidden.* | wc -l) -lt 24 ]; do sleep 0.01; done; kill -KILL $$'
    stdout: { edge: e, framing: lines }
    restart: { when: on_failure, scope: gang, backoff: 1ms }
  sink:
    shell: 'mkdir seen.$NEXUSFLOW_REPLICA || exec cat > got.$NEXUSFLOW_REPLICA; exec 3<&0;
      env -i setsid sleep 1000 <&3 3<&- & echo $! > hidden.$NEXUSFLOW_REPLICA; exec sleep 1000'
    replicas: 24
    stdin: { edge: e, framing: lines }
edges: { e: { from: gen, to: sink, capacity: 1MiB } }
",
    );
    for replica in 0..24 {
        assert_eq!(home.read(&format!("got.{replica}")), "done\n");
    }
}

#[test]
fn a_gang_without_memory_for_its_edges_tries_again() {
    let home = Home::new();
    let mut live = home.start(
        "stages:
  gen: { shell: 'mkdir turn && exec sleep 1000; echo done', stdout: { edge: e, framing: lines }, restart: { when: on_failure, scope: gang, limit: 100, backoff: 10ms, backoff_max: 10ms } }
  sink: { shell: cat > got, stdin: { edge: e, framing: lines } }
edges: { e: { from: gen, to: sink, capacity: 1MiB } }
",
    );
    let runner = live.runner();
    let limit = |files: &str| {
        let done = std::process::Command::new("prlimit")
            .args([format!("--pid={runner}"), format!("--nofile={files}:")])
            .status();
        assert!(done.unwrap().success());
    };
    let gen_pid = pid(live.wait_for(|f| f["event"] == "stage_started" && f["stage"] == "gen"));
    live.wait_for(|f| f["event"] == "stage_started" && f["stage"] == "sink");
    while !home.file("turn").exists() {
        std::thread::yield_now();
    }
    limit("3");
    send(gen_pid, KILL);
    live.wait_for(|f| f["event"] == "stage_ended" && f["outcome"] == "not_started");
    limit("256");
    live.finish().with_code(0);
    assert_eq!(home.read("got"), "done\n");
}

#[test]
fn who_hides_and_holds_the_pipe_keeps_no_successor_waiting() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  gen: { shell: 'seq 200000', stdout: { edge: e, framing: lines } }
  sink:
    shell: 'mkdir turn || { cat > got; kill $(cat hidden); exit; }; exec 3<&0;
      env -i setsid sh -c \"touch away; exec sleep 1000\" <&3 3<&- & echo $! > hidden;
      while [ ! -e away ]; do sleep 0.01; done; kill -KILL $$'
    stdin: { edge: e, framing: lines }
    restart: { when: on_failure, scope: stage, backoff: 1ms }
edges: { e: { from: gen, to: sink, capacity: 1MiB } }
",
    );
    let got = home.read("got");
    assert!(got.ends_with("\n200000\n"), "{}", &got[got.len().saturating_sub(64)..]);
}
