//! Stages that cannot start: named, with the place in the file and the reason, and nothing half begun.

use std::os::unix::fs::PermissionsExt;

use crate::harness::Home;

/// Runs a pipeline whose stage `s` is this line, and which cannot start for a reason that is said.
#[track_caller]
fn fails(home: &Home, stage: &str, wanted: &str, words: &[&str]) {
    let done =
        home.apply_to(5, &format!("stages:\n  s: {stage}\n  after: {{ command: [touch, after], depends_on: [s] }}\n"));
    done.outcomes(&[("s", "not_started"), ("after", "skipped")]);
    assert_eq!(done.stage("s")["attempt"], 0);
    assert!(done.of("stage_started").is_empty());
    let column = 6 + stage.find(wanted).unwrap();
    let place = format!("{}:4:{column}", home.file("test.yaml").display());
    done.says(&["NF05", "stage `s` cannot start", &place]);
    done.says(words);
}

#[test]
fn each_failing_step_says_where_and_why() {
    let home = Home::new();
    home.write("plain", "echo hurt > hurt");
    let script = home.write("script", "#!/no/such/interpreter\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("{ command: [no-such-program] }", "[no-such", &["there is no program `no-such-program`", "PATH="]),
        ("{ command: [./missing] }", "[./missing", &["there is no program `./missing`"]),
        ("{ command: [/tmp] }", "[/tmp", &["/tmp is a directory"]),
        ("{ command: [./plain] }", "[./plain", &["not executable", "chmod +x"]),
        ("{ command: [./script] }", "[./script", &["No such file", "interpreter"]),
        ("{ command: [\"true\"], cwd: gone }", "gone", &["working directory", "No such file"]),
        ("{ command: [\"true\"], cwd: plain }", "plain", &["Not a directory"]),
        ("{ command: [\"true\"], stdout: { file: gone/out } }", "gone/out", &["gone/out", "No such file"]),
        ("{ command: [\"true\"], stdin: { file: gone-in } }", "gone-in", &["gone-in", "No such file"]),
    ];
    for (stage, wanted, words) in cases {
        fails(&home, stage, wanted, words);
    }
    assert!(!home.file("hurt").exists() && !home.file("after").exists());
}

#[test]
fn an_unknown_user_is_said_with_its_place() {
    let home = Home::new();
    let done = home.apply_to(5, "stages:\n  s: { command: [\"true\"], user: no-such-user }\n");
    done.says(&["there is no user `no-such-user`", "test.yaml:4:33"]);
}

#[test]
fn a_gang_starts_as_a_whole_or_not_at_all() {
    let home = Home::new();
    let done = home.apply_to(
        5,
        "stages:
  writes: { shell: 'echo begun; sleep 1000', stdout: { edge: e, framing: lines } }
  reads: { shell: 'cat > got; sleep 1000', stdin: { edge: e, framing: lines }, bind: { f: lines } }
  broken: { command: [./missing], bind: { f: lines } }
edges:
  e: { from: writes, to: reads }
  f: { from: broken, to: reads }
",
    );
    done.outcomes(&[("writes", "stopped"), ("reads", "stopped"), ("broken", "not_started")]);
    // It may not even have got as far as to make its file.
    assert_eq!(std::fs::read_to_string(home.file("got")).unwrap_or_default(), "", "no edge was opened");
}

#[test]
fn what_this_machine_cannot_place_starts_nothing_and_is_no_run() {
    let home = Home::new();
    let done = home.apply_to(
        4,
        "stages:
  s: { command: [touch, s] }
  t: { command: [touch, t], placement: { cpuset: '9999' } }
",
    );
    assert!(done.facts.is_empty(), "{done:#?}");
    done.says(&["NF04", "9999", "test.yaml:5:"]);
    assert!(!home.file("s").exists());
    assert_eq!(home.json(&["dag", "history", "--format", "json"])["runs"].as_array().unwrap().len(), 0);
}

#[test]
fn a_file_with_mistakes_starts_nothing() {
    let done = Home::new().apply_to(3, "stages: { s: { comand: [\"true\"] } }");
    assert!(done.facts.is_empty());
    done.says(&["NF0201", "command"]);
}

#[test]
fn a_fifo_is_refused_before_anything_waits_for_its_other_end() {
    let home = Home::new();
    assert!(std::process::Command::new("mkfifo").arg(home.file("fifo")).status().unwrap().success());
    fails(&home, "{ command: [cat], stdin: { file: fifo } }", "fifo", &["FIFO"]);
    fails(&home, "{ command: [cat], stdout: { file: fifo } }", "fifo", &["FIFO"]);
    // A pipe that the runner was given is no such thing.
    let file = home.pipeline("stages: { s: { command: [cat], stdin: { file: /dev/stdin }, stdout: { file: got } } }");
    let (out, mut into) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut into, b"piped").unwrap();
    drop(into);
    let status = home.nexusflow(&["dag", "apply", "-q"]).arg(file).stdin(out).status().unwrap();
    assert!(status.success());
    assert_eq!(home.read("got"), "piped");
}

/// Whatever the limit on open files forbids, it is told, and nothing hangs or is left.
#[test]
fn too_few_descriptors_are_told() {
    let home = Home::new();
    let (mut stages, mut edges) = (String::new(), String::new());
    for i in 0..4 {
        stages += &format!("  a{i}: {{ command: [seq, '10'], stdout: {{ edge: e{i}, framing: lines }} }}\n");
        stages += &format!("  b{i}: {{ command: [cat], stdin: {{ edge: e{i}, framing: lines }} }}\n");
        edges += &format!("  e{i}: {{ from: a{i}, to: b{i}, capacity: 64KiB }}\n");
    }
    let file = home.pipeline(&format!("parallel: 8\nstages:\n{stages}edges:\n{edges}"));
    let mut told = 0;
    for limit in (6..60).step_by(4) {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let program = home.nexusflow(&["dag", "apply"]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program.get_program()).args(program.get_args()).arg(&file);
        let out = command.current_dir("/").env("NEXUSFLOW_STATE_DIR", home.path("state")).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 5)) && !err.contains("panicked"), "{limit}: {out:?}");
        assert!(out.status.success() || err.contains("Too many open files"), "{limit}: {err}");
        told += u32::from(!out.status.success());
        assert_eq!(crate::harness::leftovers(&home.file("")), Vec::<String>::new());
    }
    assert!(told > 0);
}

#[test]
fn edges_that_no_memory_can_hold_are_refused_before_it_is_taken() {
    let home = Home::new();
    let done = home.apply_to(
        5,
        "stages: { a: { command: [seq, '10'], stdout: { edge: e, framing: lines } }, b: { command: [cat], stdin: { edge: e, framing: lines } } }
edges: { e: { from: a, to: b, capacity: 60GiB, max_message: 1MiB } }
",
    );
    done.outcomes(&[("a", "not_started"), ("b", "skipped")]);
    done.says(&["NF0507", "60GiB", "available"]);
}
