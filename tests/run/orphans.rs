//! `kill -9` of the runner or its guardian at any moment leaves nothing behind: no process, no memory, no
//! claim. `SEED=n` replays what a failed test printed.

use std::time::{Duration, Instant};

use nexusflow_sys::family;

use crate::harness::{Home, INT, KILL, leftovers, send};

const ROUNDS: u64 = 50;
/// What the promise says.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// The moments of death lie within this after the start.
const LIFE_MICROS: u64 = 60_000;

const PIPELINE: &str = r#"parallel: 4
stages:
  gang_a: { command: ["yes"], stdout: { edge: e, framing: lines } }
  gang_b: { shell: 'cat > /dev/null & wait', stdin: { edge: e, framing: lines } }
  daemon: { shell: '(setsid sh -c "(setsid sleep 1000 &)" &); exec sleep 1000' }
  hidden: { shell: 'env -i setsid sh -c "sleep 1000 & sleep 1000" & exec sleep 1000' }
  deaf: { shell: "trap '' TERM INT HUP; sh -c 'sleep 1000 & sleep 1000'" }
  mortal: { shell: 'while :; do sleep 0.005; done', service: true }
edges: { e: { from: gang_a, to: gang_b, capacity: 64KiB } }
"#;

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| {
        u64::from(std::process::id()) << 20 | u64::from(Instant::now().elapsed().subsec_nanos() | 1)
    });
    eprintln!("SEED={seed}");
    seed
}

/// xorshift64*
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
}

/// Waits busily: sleeping is too coarse for random instants.
fn pass(span: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        std::thread::yield_now();
    }
}

/// What the guardian has forked, if it has.
fn runner_of(guardian: u32) -> Option<u32> {
    family::children_of(guardian).first().copied()
}

/// No stage lives, nor does the runner, which may hold the pipeline's claim as long as it does.
#[track_caller]
fn gone_in_time(home: &Home, runner: Option<u32>, since: Instant, what: &str) {
    let lives = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    loop {
        let left = leftovers(&home.file(""));
        let runner = runner.filter(|&pid| lives(pid));
        if left.is_empty() && runner.is_none() {
            return;
        }
        assert!(since.elapsed() < GONE_WITHIN, "{what}, a second later: {left:#?}, runner {runner:?}");
    }
}

fn nothing_in_shared_memory() {
    let names = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|e| e.file_name());
    let ours: Vec<_> = names.filter(|n| n.to_string_lossy().contains("nexusflow")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn a_killed_runner_or_guardian_leaves_nothing() {
    let mut state = seed();
    let home = Home::new();
    for round in 0..ROUNDS {
        let what = if round % 3 == 2 { "guardian" } else { "runner" };
        let mut live = home.start(PIPELINE);
        let guardian = live.guardian();
        // Most die in mid-run, some while they are still setting things up.
        let instant = Duration::from_micros(random(&mut state) % LIFE_MICROS);
        if round % 5 != 0 {
            live.runner();
        }
        pass(instant);
        let runner = runner_of(guardian);
        let since = Instant::now();
        match (what, runner) {
            // Not even forked yet: the guardian is all there is.
            ("guardian", _) | (_, None) => send(guardian, KILL),
            (_, Some(runner)) => send(runner, KILL),
        }
        gone_in_time(&home, runner, since, &format!("round {round}, {what} killed after {instant:?}"));
        live.finish();
    }
    nothing_in_shared_memory();
    let history = home.json(&["dag", "history", "--format", "json", "--limit", "1000"]);
    let runs = history["runs"].as_array().unwrap();
    let status = |word: &str| runs.iter().filter(|r| r["status"] == word).count();
    // Some were too young to be written down.
    assert!(status("died") >= ROUNDS as usize / 4, "{runs:#?}");
    assert_eq!(status("succeeded") + status("running"), 0, "{runs:#?}");
    // And the pipeline can run at once.
    let mut live = home.start(PIPELINE);
    live.started("mortal");
    live.signal(INT);
    live.finish().with_code(130);
}

#[test]
fn a_daemon_that_hides_ends_with_the_run() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  hides: { shell: 'env -i setsid sh -c \"(setsid sleep 1000 > /dev/null 2>&1 &)\"; exit 0' }
  goes_on: { command: [\"true\"], depends_on: [hides] }
",
    );
}

#[test]
fn orphans_that_have_died_do_not_stay_as_zombies() {
    let home = Home::new();
    let mut live = home.start(
        "stages: { s: { shell: 'i=0; while [ $i -lt 50 ]; do (setsid true &); i=$((i+1)); done; echo > ready; exec sleep 1000' } }",
    );
    live.said("ready");
    let runner = runner_of(live.guardian()).unwrap();
    let zombies = || {
        let is_zombie = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
        };
        family::children_of(runner).into_iter().filter(is_zombie).count()
    };
    let begun = Instant::now();
    while zombies() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} zombies", zombies());
        std::thread::yield_now();
    }
    live.signal(INT);
    live.finish().with_code(130);
}
