//! Stages that are to stay.

use crate::harness::{Home, INT};

#[test]
fn a_service_is_stopped_when_all_else_has_ended() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "parallel: 1
stages:
  db: { command: [sleep, '1000'], service: true }
  cache: { command: [sleep, '1000'], service: true, depends_on: { db: started } }
  job: { command: [\"true\"], depends_on: { cache: started } }
",
    );
    done.outcomes(&[("job", "succeeded"), ("db", "stopped"), ("cache", "stopped")]);
    assert!(done.at("stage_ended", "job") < done.at("stage_ended", "cache"));
    assert!(done.at("stage_ended", "cache") < done.at("stage_ended", "db"), "dependants first");
}

#[test]
fn what_a_service_feeds_drains() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "stages:
  ticks:
    shell: \"trap 'echo last; exit 0' TERM; seq 1000; echo > ready; while :; do sleep 0.01 || :; done\"
    service: true
    stdout: { edge: e, framing: lines }
  keeps: { command: [cat], service: true, stdin: { edge: e, framing: lines }, stdout: { file: kept } }
  job: { shell: 'while [ ! -e ready ]; do sleep 0.01; done' }
edges: { e: { from: ticks, to: keeps } }
",
    );
    done.outcomes(&[("job", "succeeded"), ("ticks", "stopped"), ("keeps", "succeeded")]);
    let kept = home.read("kept");
    assert_eq!((kept.lines().count(), kept.lines().last()), (1001, Some("last")), "{kept}");
}

#[test]
fn a_service_that_leaves_fails_the_run() {
    for end in ["exit 0", "exit 4", "kill -KILL $$"] {
        let home = Home::new();
        let done = home.apply_to(
            1,
            &format!(
                "parallel: 2
stages:
  leaves: {{ shell: 'echo $$ > pid; {end}', service: true }}
  # Until it has been reaped.
  job: {{ shell: 'while [ ! -s pid ] || kill -0 $(cat pid); do sleep 0.01; done' }}
"
            ),
        );
        done.outcomes(&[("leaves", "failed"), ("job", "succeeded")]);
    }
}

#[test]
fn only_services_run_until_they_are_told() {
    let home = Home::new();
    let mut live = home.start(
        "stages:
  a: { shell: 'echo > ready; sleep 1000', service: true }
  b: { command: [sleep, '1000'], service: true, stop_signal: INT }
",
    );
    live.said("ready");
    live.started("b");
    live.signal(INT);
    let done = live.finish().with_code(130);
    done.outcomes(&[("a", "stopped"), ("b", "stopped")]);
    assert_eq!(done.stage("b")["signal"], INT);
}

#[test]
fn what_a_service_has_written_counts_however_it_ends() {
    let home = Home::new();
    // No handler for SIGTERM, and a reader that is behind: pipe and ring are full when the service is told to go.
    let done = home.apply_to(
        0,
        "stages:
  ticks: { shell: 'seq 20000; echo > ready; exec sleep 1000', service: true, stdout: { edge: e, framing: lines } }
  keeps: { shell: 'while [ ! -e done ]; do sleep 0.01; done; cat > kept', service: true, stdin: { edge: e, framing: lines } }
  job: { shell: 'while [ ! -e done ]; do sleep 0.01; done' }
  late: { shell: 'while [ ! -e ready ]; do echo > done; sleep 0.01; done' }
edges: { e: { from: ticks, to: keeps, capacity: 64KiB } }
parallel: 4
",
    );
    done.outcomes(&[("ticks", "stopped"), ("keeps", "succeeded")]);
    assert_eq!(home.read("kept").lines().count(), 20_000);
}

#[test]
fn a_reader_that_is_a_service_gets_everything_from_a_job_that_is_quick() {
    for _ in 0..20 {
        let home = Home::new();
        home.apply_to(
            0,
            "stages:
  job: { command: [seq, '10'], stdout: { edge: e, framing: lines } }
  keeps: { command: [tee, kept], service: true, stdin: { edge: e, framing: lines } }
edges: { e: { from: job, to: keeps } }
",
        );
        assert_eq!(home.read("kept").lines().count(), 10);
    }
}

#[test]
fn a_fed_service_that_stays_after_the_end_is_told_to_go() {
    let done = Home::new().apply_to(
        0,
        "stages:
  job: { command: [seq, '10'], stdout: { edge: e, framing: lines } }
  server: { shell: 'cat > /dev/null; exec sleep 1000', service: true, stop_timeout: 100ms, stdin: { edge: e, framing: lines } }
edges: { e: { from: job, to: server } }
",
    );
    done.outcomes(&[("job", "succeeded"), ("server", "stopped")]);
}
