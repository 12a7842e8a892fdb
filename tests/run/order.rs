//! Who starts when, with what around it, and what a failure stops.

use crate::harness::Home;

#[test]
fn a_diamond_runs_in_order() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "stages:
  d: { command: [\"true\"], depends_on: [b, c] }
  b: { command: [\"true\"], depends_on: { a: completed } }
  c: { command: [\"true\"], depends_on: [a] }
  a: { command: [\"true\"] }
",
    );
    for (first, second) in [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")] {
        assert!(done.at("stage_ended", first) < done.at("stage_started", second), "{done:#?}");
    }
}

#[test]
fn what_depends_on_a_failure_is_skipped_and_the_rest_goes_on() {
    let home = Home::new();
    let done = home.apply_to(
        1,
        "stages:
  bad: { command: [sh, -c, exit 7] }
  never: { command: [touch, never], depends_on: [bad] }
  nor_this: { command: [touch, never], depends_on: [never] }
  after: { command: [touch, after], depends_on: { bad: exited } }
  later: { command: [touch, later], depends_on: [good] }
  good: { command: [\"true\"] }
",
    );
    done.outcomes(&[("bad", "failed"), ("never", "skipped"), ("nor_this", "skipped")]);
    done.outcomes(&[("after", "succeeded"), ("later", "succeeded")]);
    assert_eq!(done.stage("bad")["exit_code"], 7);
    assert_eq!((done.stage("never")["attempt"].as_u64(), done.stage("bad")["attempt"].as_u64()), (Some(0), Some(1)));
    assert!(home.file("after").exists() && home.file("later").exists() && !home.file("never").exists());
}

#[test]
fn on_failure_stop_ends_what_runs() {
    let home = Home::new();
    let done = home.apply_to(
        1,
        "on_failure: stop
parallel: 2
stages:
  long: { command: [sleep, 1000] }
  bad: { shell: exit 3, depends_on: { long: started } }
  other: { command: [\"true\"], depends_on: [long] }
",
    );
    done.outcomes(&[("bad", "failed"), ("long", "stopped"), ("other", "skipped")]);
}

#[test]
fn started_is_enough_where_it_is_asked_for() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "parallel: 2
stages:
  waits: { shell: 'while [ ! -e go ]; do sleep 0.01; done' }
  goes: { command: [touch, go], depends_on: { waits: started } }
",
    );
    assert!(done.at("stage_started", "waits") < done.at("stage_started", "goes"));
    done.outcomes(&[("waits", "succeeded"), ("goes", "succeeded")]);
}

#[test]
fn never_more_at_once_than_parallel_says() {
    let home = Home::new();
    for limit in [1, 3] {
        let stages: String = (0..12).map(|i| format!("  s{i}: {{ command: [sleep, '0.02'] }}\n")).collect();
        let done = home.apply_to(0, &format!("parallel: {limit}\nstages:\n{stages}"));
        let (mut now, mut most) = (0, 0);
        for fact in &done.facts {
            match fact["event"].as_str() {
                Some("stage_started") => now += 1,
                Some("stage_ended") => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        assert_eq!(most, limit, "{done:#?}");
    }
}

#[test]
fn every_replica_knows_which_it_is() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "stages:
  many:
    command: [sh, -c, 'echo $NEXUSFLOW_REPLICA of $NEXUSFLOW_REPLICAS, $0, $X > replica.${replica}', \"arg-${replica}\"]
    replicas: 3
    env: { X: \"x${replica}\" }
",
    );
    assert_eq!(done.of("stage_started").len(), 3);
    for i in 0..3 {
        assert_eq!(home.read(&format!("replica.{i}")), format!("{i} of 3, arg-{i}, x{i}\n"));
    }
}

#[test]
fn a_shell_gets_vars_by_its_own_means_and_its_dollars_untouched() {
    let home = Home::new();
    home.apply_to(
        0,
        r#"vars: { path: "a b; touch hurt", n: 3 }
stages:
  sh:
    shell: |
      echo "$path" "${n}" $(echo sub) $((1+1)) $$ > said
      for i in 1 2; do echo "${i}-${none:-default}"; done >> said
  other: { shell: { run: 'a=(x y); echo "${a[1]}" > bash', with: [bash, -euo, pipefail, -c] } }
"#,
    );
    let said = home.read("said");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("a b; touch hurt 3 sub 2 ") && !lines[0].contains("$$"), "{said}");
    assert_eq!(lines[1..], ["1-default", "2-default"]);
    assert_eq!(home.read("bash"), "y\n");
    assert!(!home.file("hurt").exists());
}

#[test]
fn the_environment_is_what_the_file_says() {
    let home = Home::new();
    let run = |inherit: &str| {
        let text = format!(
            "env_inherit: {inherit}\nenv: {{ BOTH: file, MINE: '${{replica}}' }}\nstages:\n  s: {{ command: [/usr/bin/env], env: {{ BOTH: stage }}, stdout: {{ file: env }} }}\n"
        );
        let live = home
            .start_with(&text, &[], |c| _ = c.env("OUTSIDE", "1").env("ALSO", "2").env("NEXUSFLOW_CONTROL_FD", "7"));
        live.finish().with_code(0);
        home.read("env")
    };
    let has = |env: &str, line: &str| env.lines().any(|l| l == line);
    let (all, none, some) = (run("all"), run("none"), run("[OUTSIDE, NOT_SET]"));
    for env in [&all, &none, &some] {
        assert!(has(env, "BOTH=stage") && has(env, "MINE=0") && has(env, "NEXUSFLOW_STAGE=s"), "{env}");
        assert!(has(env, &format!("NEXUSFLOW_BIN={}", env!("CARGO_BIN_EXE_nexusflow"))), "{env}");
        assert!(!env.contains("NEXUSFLOW_CONTROL_FD"), "{env}");
    }
    assert!(has(&all, "OUTSIDE=1") && has(&all, "ALSO=2") && has(&some, "OUTSIDE=1"));
    assert!(!some.contains("ALSO=") && !none.contains("OUTSIDE") && !some.contains("NOT_SET"));
    let foreign = |l: &&str| !l.starts_with("NEXUSFLOW_") && !l.starts_with("BOTH") && !l.starts_with("MINE");
    assert_eq!(none.lines().filter(foreign).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn folders_programs_and_defaults() {
    let home = Home::new();
    std::fs::create_dir(home.file("sub")).unwrap();
    let tool = home.write("sub/tool", "#!/bin/sh\npwd > ${1}\n");
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    home.apply_to(
        0,
        "vars: { where: sub }
defaults: { cwd: \"${where}\", env: { A: default, B: default } }
stages:
  relative: { command: [./sub/tool, relative] }
  elsewhere: { command: [./sub/tool, elsewhere], cwd: . }
  both: { shell: 'echo $A $B > both', env: { B: own } }
  self: { command: [\"${self}\", --version], stdout: { file: version } }
  words: { command: [cat], stdin: { file: sub/tool }, stdout: { file: copy } }
",
    );
    let files = home.file("").canonicalize().unwrap();
    assert_eq!(home.read("sub/relative").trim(), files.join("sub").to_str().unwrap());
    assert_eq!(home.read("elsewhere").trim(), files.to_str().unwrap());
    assert_eq!(home.read("sub/both"), "default own\n");
    assert!(home.read("version").starts_with("nexusflow "));
    assert_eq!(home.read("copy"), home.read("sub/tool"));
}

#[test]
fn a_gang_takes_one_slot_and_orders_its_mates() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "parallel: 1
stages:
  a: { command: [seq, '10'], stdout: { edge: e, framing: lines }, depends_on: { b: started } }
  b: { command: [cat], replicas: 3, stdin: { edge: e, framing: lines }, depends_on: { c: started } }
  c: { command: [cat], stdin: { edge: e, framing: lines }, stdout: { file: c } }
  other: { command: [\"true\"] }
edges: { e: { from: a, to: [b, c] } }
",
    );
    let last_b = done.facts.iter().rposition(|f| f["event"] == "stage_started" && f["stage"] == "b").unwrap();
    assert!(done.at("stage_started", "c") < done.at("stage_started", "b") && last_b < done.at("stage_started", "a"));
    let gang = ["a", "b", "c"].map(|s| done.at("stage_ended", s)).into_iter().max().unwrap();
    let gang_begins = done.at("stage_started", "c");
    let (begins, ends) = (done.at("stage_started", "other"), done.at("stage_ended", "other"));
    assert!(begins > gang || ends < gang_begins, "one at a time: {done:#?}");
    assert_eq!(home.read("c").lines().count(), 10);
}

#[test]
fn hundreds_of_mates_and_thousands_of_stages() {
    let home = Home::new();
    let mut text = String::from("stages:\n  s0: { command: [seq, '1000'], stdout: { edge: e0, framing: lines } }\n");
    for i in 1..60 {
        text += &format!(
            "  s{i}: {{ command: [cat], stdin: {{ edge: e{}, framing: lines }}, stdout: {{ edge: e{i}, framing: lines }} }}\n",
            i - 1
        );
    }
    text += "  last: { command: [wc, -l], stdin: { edge: e59, framing: lines }, stdout: { file: count } }\nedges:\n";
    for i in 0..60 {
        let to = if i == 59 { "last".into() } else { format!("s{}", i + 1) };
        text += &format!("  e{i}: {{ from: s{i}, to: {to}, capacity: 64KiB }}\n");
    }
    home.apply_to(0, &text);
    assert_eq!(home.read("count").trim(), "1000");

    let stages: String = (0..1_000).map(|i| format!("  s{i}: {{ command: [\"true\"] }}\n")).collect();
    let done = home.apply_to(0, &format!("parallel: 16\nstages:\n{stages}"));
    assert_eq!(done.of("stage_ended").len(), 1_000);
}
