//! How runs end: exit codes, signals, timeouts.

use crate::harness::{Home, INT, TERM};

/// Ignores TERM, and so does what it starts.
const DEAF: &str = "shell: \"trap '' TERM INT; echo deaf > ready; while :; do sleep 1000; done\"";

#[test]
fn the_exit_code_of_a_stage_is_kept_and_the_run_says_1() {
    let done = Home::new().apply_to(1, "stages: { s: { command: [sh, -c, exit 7] } }");
    assert_eq!((&done.stage("s")["exit_code"], done.outcome("s")), (&7.into(), "failed"));
    assert_eq!(done.facts.last().unwrap()["exit_code"], 1);
}

#[test]
fn a_stage_that_a_signal_killed_has_failed() {
    for (word, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15)] {
        let done = Home::new().apply_to(1, &format!("stages: {{ s: {{ shell: 'kill -{word} $$' }} }}"));
        assert_eq!((&done.stage("s")["signal"], done.outcome("s")), (&number.into(), "failed"));
        assert!(done.stage("s")["reason"].as_str().unwrap().contains(&format!("SIG{word}")));
    }
}

#[test]
fn an_interrupt_ends_the_run_in_order() {
    for (signal, code) in [(INT, 130), (TERM, 143), (1, 129)] {
        let home = Home::new();
        let mut live = home.start(
            "parallel: 2
stages:
  below: { command: [sleep, 1000] }
  above: { shell: 'sleep 1000 & sleep 1000', depends_on: { below: started } }
  later: { command: [\"true\"], depends_on: [above] }
",
        );
        live.started("above");
        live.signal(signal);
        let done = live.finish().with_code(code);
        done.outcomes(&[("below", "stopped"), ("above", "stopped"), ("later", "skipped")]);
        assert_eq!(done.stage("below")["signal"], TERM, "the stage's own stop_signal");
        assert!(done.at("stage_ended", "above") < done.at("stage_ended", "below"), "dependants first");
        assert_eq!(done.facts.last().unwrap()["outcome"], "interrupted");
    }
}

#[test]
fn the_second_interrupt_kills_what_ignores_the_first() {
    let home = Home::new();
    let mut live = home.start(&format!("stages: {{ s: {{ {DEAF}, stop_timeout: 1h }} }}"));
    live.said("ready");
    live.signal(INT).signal(INT);
    // Two signals of one kind may arrive as one.
    let pid = live.started("s");
    let runner = live.runner();
    live.until("the second interrupt to do its work", || {
        let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
        if !gone {
            crate::harness::send(runner, INT);
        }
        gone.then_some(())
    });
    let done = live.finish().with_code(130);
    assert_eq!((done.outcome("s"), &done.stage("s")["signal"]), ("stopped", &9.into()));
}

#[test]
fn a_stages_timeout_ends_it_even_if_it_will_not() {
    let home = Home::new();
    let done = home.apply_to(
        124,
        &format!(
            "stages:
  deaf: {{ {DEAF}, timeout: 300ms, stop_timeout: 200ms }}
  after: {{ command: [\"true\"], depends_on: [deaf] }}
  other: {{ command: [touch, other] }}
"
        ),
    );
    done.outcomes(&[("deaf", "timed_out"), ("after", "skipped"), ("other", "succeeded")]);
    assert_eq!((&done.stage("deaf")["signal"], home.read("ready").as_str()), (&9.into(), "deaf\n"));
}

#[test]
fn the_runs_timeout_ends_all() {
    let done = Home::new().apply_to(
        124,
        "timeout: 200ms
parallel: 1
stages:
  s: { command: [sleep, 1000] }
  t: { command: [sleep, 1000] }
",
    );
    done.outcomes(&[("s", "stopped"), ("t", "skipped")]);
    assert_eq!(done.facts.last().unwrap()["outcome"], "timed_out");
}

#[test]
fn the_stop_signal_is_the_one_that_was_asked_for() {
    let home = Home::new();
    let mut live =
        home.start("stages: { s: { shell: \"trap 'echo usr1 > got; exit 0' USR1; echo > ready; while :; do sleep 0.01 || :; done\", stop_signal: USR1 } }");
    live.said("ready");
    live.signal(INT);
    let done = live.finish().with_code(130);
    assert_eq!((done.outcome("s"), home.read("got").as_str()), ("stopped", "usr1\n"));
}

#[test]
fn a_stopped_stage_can_be_ended() {
    let home = Home::new();
    let mut live = home.start("stages: { s: { shell: 'echo > ready; kill -STOP $$; exit 0' } }");
    live.said("ready");
    live.signal(TERM);
    live.finish().with_code(143).outcomes(&[("s", "stopped")]);
}

#[test]
fn what_a_stage_leaves_behind_ends_with_it() {
    let home = Home::new();
    home.apply_to(
        0,
        r#"stages:
  leaves: { shell: 'sleep 1000 & setsid sleep 1001 & (setsid sh -c "sleep 1002 & sleep 1003" &); exit 0' }
  looks:
    depends_on: [leaves]
    shell: |
      for p in /proc/[0-9]*; do
        if [ "$(readlink $p/cwd)" = "$PWD" ]; then tr '\0' ' ' < $p/cmdline; fi
      done > left
"#,
    );
    assert!(
        home.read("left").contains("readlink") && !home.read("left").contains("sleep 100"),
        "{}",
        home.read("left")
    );
}

#[test]
fn an_interrupt_comes_through_at_any_moment() {
    for round in 0..30 {
        let home = Home::new();
        let live = home.start(
            "stages:
  a: { command: [\"yes\"], stdout: { edge: e, framing: lines } }
  b: { shell: 'cat > /dev/null', stdin: { edge: e, framing: lines } }
edges: { e: { from: a, to: b } }
",
        );
        // From before there is a guardian to after the gang has started.
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(round) {
            std::thread::yield_now();
        }
        live.signal(INT);
        let done = live.finish();
        // Killed as any program that has not got as far as to say what it does with it.
        assert!(matches!(done.code, Some(130) | None), "after {round} ms: {done:#?}");
    }
}

#[test]
fn a_mate_that_times_out_takes_its_gang_along() {
    let home = Home::new();
    let done = home.apply_to(
        124,
        "stages:
  feeds: { command: [\"yes\"], stdout: { edge: e, framing: lines } }
  slow: { shell: 'cat > /dev/null', stdin: { edge: e, framing: lines }, timeout: 100ms }
  after: { command: [touch, after], depends_on: { slow: exited } }
edges: { e: { from: feeds, to: slow } }
",
    );
    done.outcomes(&[("slow", "timed_out"), ("feeds", "stopped"), ("after", "succeeded")]);
}

#[test]
fn output_that_outlives_its_stage_can_be_ended() {
    let home = Home::new();
    let mut live = home.start(
        "stages:
  leaves: { shell: 'env -i setsid yes & while ! pgrep -s $! > /dev/null; do :; done; echo > ready; exit 0', stdout: { edge: e, framing: lines } }
  reads: { shell: 'cat > /dev/null', stdin: { edge: e, framing: lines } }
edges: { e: { from: leaves, to: reads } }
",
    );
    live.said("ready");
    live.signal(INT);
    live.finish().with_code(130);
}
