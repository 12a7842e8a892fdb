//! The pipelines that come with nexusflow do their jobs, and leave behind what they should.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A scratch folder with a state folder of its own.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_nexusflow"))
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("NEXUSFLOW_STATE_DIR", self.path("state"))
            .env("NEXUSFLOW_RUNTIME_DIR", self.path("runtime"))
            .output()
            .unwrap()
    }

    /// Runs a verb that must end well, and gives what it printed.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }
}

fn shell(script: &str, dir: &Path) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn duplicates_are_those_that_sha256sum_sees() {
    let s = Scratch::new();
    let tree = s.path("tree");
    for i in 0..200 {
        let folder = format!("{tree}/{}", i % 7);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/file {i}"), format!("content {}", i % 150).repeat(i)).unwrap();
        std::fs::write(format!("{folder}/same {i}"), format!("content {}", i % 30)).unwrap();
    }
    std::fs::write(format!("{tree}/back\\slash\nand line"), "content 1").unwrap();
    std::os::unix::fs::symlink(&tree, format!("{tree}/loop")).unwrap();

    let prom = s.path("d.prom");
    let set = format!("root={tree}");
    let apply = ["dag", "apply", "pipelines/duplicates.yaml", "--set", &set, "--prom-file", &prom];
    let lines = s.good(&[&apply[..], &["--set", "format=lines"]].concat());
    let tools = format!("find '{tree}' -type f -print0 | xargs -0 sha256sum | sort");
    let all = shell(&tools, s.0.path());
    let hash = |line: &str| line.trim_start_matches('\\')[..64].to_owned();
    let times = |line: &str| all.lines().filter(|other| hash(other) == hash(line)).count();
    let want: Vec<_> = all.lines().filter(|line| times(line) > 1).collect();
    assert!(want.len() > 200);
    assert_eq!(lines.lines().collect::<Vec<_>>(), want);

    let groups = s.good(&apply);
    assert_eq!(groups.lines().filter(|l| l.starts_with("  ")).count(), want.len());

    let metrics = std::fs::read_to_string(&prom).unwrap();
    for series in [
        "nexusflow_run_success{pipeline=\"duplicates\"} 1",
        "nexusflow_stage_exit_code{pipeline=\"duplicates\",stage=\"hash\"} 0",
        "nexusflow_stage_attempts{pipeline=\"duplicates\",stage=\"hash\"} 4",
        "nexusflow_edge_messages{edge=\"paths\",pipeline=\"duplicates\"} 401",
        "nexusflow_edge_backlog_bytes{edge=\"hashes\",pipeline=\"duplicates\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == series), "no {series} in\n{metrics}");
    }
}

#[test]
fn a_failed_run_is_in_the_history_with_its_reason_and_log() {
    let s = Scratch::new();
    let missing = format!("root={}", s.path("missing"));
    assert_eq!(s.run(&["dag", "apply", "pipelines/duplicates.yaml", "--set", &missing]).status.code(), Some(1));

    let runs = s.json(&["dag", "history", "--format", "json"]);
    assert_eq!(runs["runs"][0]["status"], "failed");
    let id = runs["runs"][0]["run"].as_str().unwrap();
    let shown = s.json(&["dag", "show", id, "--format", "json"]);
    assert_eq!((&shown["run"]["exit_code"], &shown["run"]["tasks"]), (&Value::from(1), &Value::from(6)));
    let attempts = shown["attempts"].as_array().unwrap();
    let outcome = |stage: &str| &attempts.iter().find(|a| a["stage"] == stage).unwrap()["outcome"];
    assert_eq!((outcome("walk"), outcome("report")), (&Value::from("failed"), &Value::from("stopped")));
    assert_eq!(shown["edges"].as_array().unwrap().len(), 2);

    assert!(s.good(&["dag", "history", "duplicates"]).contains(id));
    assert!(s.good(&["dag", "show"]).contains("\nwalk: "), "the reason is told");
    assert!(s.good(&["dag", "logs", "duplicates", "walk"]).contains("missing: No such file"));
    for wrong in [&["dag", "show", "nosuch"][..], &["dag", "logs", "last", "wlk"]] {
        assert_eq!(s.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn words_are_counted_as_the_shell_counts_them() {
    let s = Scratch::new();
    let docs = s.0.path().join("docs");
    std::fs::create_dir(&docs).unwrap();
    let text: String = (0..5_000).map(|i| format!("Word{} the {}\n", "a".repeat(i % 11), "Xx".repeat(i % 5))).collect();
    std::fs::write(docs.join("copyright"), &text).unwrap();
    shell("gzip -c copyright > changelog.gz", &docs);
    let set = format!("docs={}", docs.display());
    let top = s.good(&["dag", "apply", "pipelines/wordcount.toml", "--set", &set, "--set", "top=7"]);
    let script =
        "cat copyright copyright | tr -cs A-Za-z '\\n' | tr A-Z a-z | sort | uniq -c | sort -k1,1nr -k2 | head -n 7";
    assert_eq!(top, shell(script, &docs));
}

#[test]
fn a_build_packages_what_it_compiled() {
    let s = Scratch::new();
    let work = s.path("build");
    let set = format!("work={work}");
    s.good(&["dag", "apply", "pipelines/build.yaml", "--set", &set, "--set", "lines=200"]);
    let lines = shell("tar -xOf out/package.tar program.gz | zcat | wc -l", Path::new(&work));
    assert_eq!(lines.trim(), (26 * 200).to_string());
    let shown = s.json(&["dag", "show", "build", "--format", "json"]);
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 30);
    assert_eq!((&attempts[0]["stage"], &attempts[29]["stage"]), (&"configure".into(), &"package".into()));
}
