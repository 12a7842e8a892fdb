//! The state folder: one run of a pipeline at a time, and folders that cannot be used.

use std::process::Command;

use crate::harness::{Home, INT};

const SLEEPS: &str = "stages: { s: { command: [sleep, '1000'] } }";
const QUICK: &str = "stages: { s: { command: [touch, ran] } }";

#[test]
fn a_pipeline_runs_once_at_a_time_within_one_state_folder() {
    let home = Home::new();
    let mut first = home.start(SLEEPS);
    let id = first.run_id();
    first.started("s");
    let second = home.start(SLEEPS).with_leftovers();
    second.with_code(5).says(&["NF0509", &id]);
    let other = home.path("other");
    let mut third = home.start_with(SLEEPS, &[], |c| _ = c.env("NEXUSFLOW_STATE_DIR", &other));
    third.started("s");
    for live in [&first, &third] {
        live.signal(INT);
    }
    assert_eq!(first.with_leftovers().code, Some(130));
    third.finish().with_code(130);
    home.apply_to(0, QUICK);
}

#[test]
fn a_state_folder_that_is_none_is_told() {
    let home = Home::new();
    std::fs::write(home.path("file"), "").unwrap();
    for dir in [home.path("file"), home.path("file/below"), "/proc/no-such".into(), "/dev/null".into()] {
        let done = home.start_with(QUICK, &[], |c| _ = c.env("NEXUSFLOW_STATE_DIR", &dir)).finish().with_code(5);
        done.says(&["error[NF05", "NEXUSFLOW_STATE_DIR"]);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
    assert!(!home.file("ran").exists());
}

#[test]
fn a_folder_for_logs_that_is_none_is_told() {
    let home = Home::new();
    let done = home.start_with(QUICK, &["--log-dir", "/dev/null/logs"], |_| {}).finish().with_code(5);
    done.says(&["/dev/null/logs"]);
}

#[test]
fn a_full_disk_is_told() {
    let home = Home::new();
    let small = home.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&small).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        return eprintln!("not allowed to mount: this one case is not tried");
    }
    let mount = Mounted(small.clone());
    // Full before it begins.
    std::fs::write(small.join("filler"), vec![0; 2 << 20]).unwrap_err();
    let state = small.join("state");
    let full = home.start_with(QUICK, &[], |c| _ = c.env("NEXUSFLOW_STATE_DIR", &state)).finish();
    assert!(!full.stderr.contains("panicked") && full.stderr.contains("No space left"), "{full:#?}");
    // Full in the middle: the stage ends as it will, the run goes on, what was lost is told.
    std::fs::remove_file(small.join("filler")).unwrap();
    let fills = "stages:\n  fills: { shell: 'cat /dev/zero' }\n  other: { command: [touch, ran] }\n";
    let done = home.start_with(fills, &[], |c| _ = c.env("NEXUSFLOW_STATE_DIR", &state)).finish().with_code(1);
    assert!(!done.stderr.contains("panicked"), "{done:#?}");
    done.outcomes(&[("fills", "failed"), ("other", "succeeded")]);
    drop(mount);
}

#[test]
fn a_limit_on_files_is_told() {
    let home = Home::new();
    for limit in ["0", "1", "64"] {
        let file = home.pipeline("stages: { s: { command: [\"true\"] } }");
        let program = home.nexusflow(&["dag", "apply"]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -f {limit}; exec \"$@\""), "sh"]);
        command.arg(program.get_program()).args(program.get_args()).arg(&file);
        let out = command.current_dir("/").env("NEXUSFLOW_STATE_DIR", home.path("state")).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 5)) && err.contains("NF05"), "{limit}: {out:?}");
    }
}

#[test]
fn pipelines_share_a_state_folder() {
    let home = Home::new();
    let names: Vec<String> = (0..8).map(|i| format!("p{i}")).collect();
    let start = |name: &String| {
        let file = home.write(
            &format!("{name}.yaml"),
            &format!("version: 1\nname: {name}\nstages: {{ s: {{ command: [\"true\"], replicas: 20 }} }}\n"),
        );
        home.nexusflow(&["dag", "apply", "-q"]).arg(file).spawn().unwrap()
    };
    let children: Vec<_> = names.iter().map(start).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let history = home.json(&["dag", "history", "--format", "json"]);
    let runs = history["runs"].as_array().unwrap();
    assert_eq!(runs.len(), names.len());
    assert!(runs.iter().all(|r| r["status"] == "succeeded" && r["tasks"] == 20), "{runs:#?}");
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
