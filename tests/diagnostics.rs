//! Every broken file of `tests/diagnostics/` is refused with a report that a person has read and found good.
//!
//! The human reports are snapshots beside the files. After a change: `INSTA_UPDATE=always cargo test --test
//! diagnostics`, then read what changed as somebody would who has just made that mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use nexusflow::diag::{Code, codes};
use serde_json::Value;

/// Larger than a pipeline file may be.
const TOO_LARGE_BYTES: usize = 17 << 20;

/// The promise, in numbers.
const FILES_AT_LEAST: usize = 60;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

/// The names of the broken files, sorted.
fn broken() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".toml"))
        .collect();
    names.sort();
    assert!(names.len() >= FILES_AT_LEAST);
    names
}

fn validate(folder: &Path, names: &[&str], format: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nexusflow"))
        .args(["dag", "validate", "--format", format])
        .args(names)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .output()
        .unwrap()
}

/// The report in a form for machines, which is alone on stdout.
fn machine(folder: &Path, name: &str, format: &str) -> String {
    let output = validate(folder, &[name], format);
    assert_eq!(output.status.code(), Some(3), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn human(name: &str) -> String {
    let output = validate(&folder(), &[name], "human");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(3), "{name}:\n{text}");
    text
}

/// What the broken files are told in JSON, by their names.
static TOLD: LazyLock<BTreeMap<String, Vec<Value>>> =
    LazyLock::new(|| broken().into_iter().map(|name| (name.clone(), json(&folder(), &name))).collect());

fn json(folder: &Path, name: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(&machine(folder, name, "json")).unwrap();
    report["diagnostics"].as_array().unwrap_or_else(|| panic!("{name}: no list of diagnostics")).clone()
}

#[test]
fn people_are_told_what_is_wrong() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("diagnostics/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in broken() {
            insta::assert_snapshot!(name.replace('.', "_"), human(&name));
        }
    });
}

#[test]
fn no_snapshot_outlives_its_file() {
    let names: BTreeSet<String> = broken().iter().map(|name| format!("{}.snap", name.replace('.', "_"))).collect();
    for entry in std::fs::read_dir(folder().join("snapshots")).unwrap() {
        let snapshot = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&snapshot) || snapshot.ends_with(".new"), "{snapshot} has no file");
    }
}

#[test]
fn programs_are_told_place_code_message_and_help() {
    for (name, found) in &*TOLD {
        assert!(found.iter().any(|d| d["severity"] == "error"), "{name}: no error");
        let text = std::fs::read(folder().join(name)).unwrap();
        let lines = text.split(|b| *b == b'\n').count() as u64;
        for d in found {
            assert_eq!(d["file"], *name, "{name}: {d}");
            assert!((1..=lines).contains(&d["line"].as_u64().unwrap()), "{name}: {d}");
            assert!(d["column"].as_u64().unwrap() >= 1, "{name}: {d}");
            assert!(d["code"].as_str().unwrap().parse::<Code>().is_ok(), "{name}: {d}");
            for key in ["message", "help"] {
                assert!(d[key].as_str().is_some_and(|t| t.len() > 10), "{name}: no {key}: {d}");
            }
        }
    }
}

/// Each mistake is told: nobody mends a file one error at a time.
#[test]
fn all_mistakes_are_told_at_once() {
    for (name, lines) in [
        ("many-mistakes.yaml", [3, 6, 7, 8, 11, 16, 17].as_slice()),
        ("out-of-range.yaml", &[3, 7, 8, 9, 12]),
        ("unknown-stage.yaml", &[6, 11, 13, 14]),
        ("not-supported-yet.yaml", &[3, 4, 8, 9, 12, 13]),
    ] {
        let told: BTreeSet<u64> = TOLD[name].iter().filter_map(|d| d["line"].as_u64()).collect();
        for line in lines {
            assert!(told.contains(line), "{name}: nothing about line {line}, only about {told:?}");
        }
    }
}

#[test]
fn git_hub_gets_one_line_each() {
    for name in broken() {
        let text = machine(&folder(), &name, "github");
        assert!(!text.is_empty(), "{name}");
        for line in text.lines() {
            let rest = line.strip_prefix("::error ").or_else(|| line.strip_prefix("::warning "));
            assert!(rest.is_some_and(|r| r.starts_with(&format!("file={name},line="))), "{name}: {line}");
        }
        assert_eq!(text.lines().count(), TOLD[&name].len(), "{name}");
    }
}

#[test]
fn sarif_says_the_same_as_json() {
    for name in broken() {
        let report: Value = serde_json::from_str(&machine(&folder(), &name, "sarif")).unwrap();
        assert_eq!(report["version"], "2.1.0");
        let run = &report["runs"][0];
        let place = |r: &Value| {
            let place = &r["locations"][0]["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], *name);
            (place["region"]["startLine"].clone(), place["region"]["startColumn"].clone())
        };
        let results = run["results"].as_array().unwrap();
        let told: Vec<_> = results.iter().map(|r| (r["ruleId"].clone(), place(r))).collect();
        let expected: Vec<_> =
            TOLD[&name].iter().map(|d| (d["code"].clone(), (d["line"].clone(), d["column"].clone()))).collect();
        assert_eq!(told, expected, "{name}");
        for result in results {
            let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
            assert_eq!(rule["id"], result["ruleId"], "{name}");
        }
    }
}

#[test]
fn files_beyond_the_limits_are_refused() {
    let start = "version: 1\nname: large\nx-a: &a 1\n";
    let stages = "stages: { a: { command: [a";
    let comment = "# a pipeline file that somebody has filled with data\n";
    for (name, text, code) in [
        ("huge.yaml", comment.repeat(TOO_LARGE_BYTES / comment.len()), codes::TOO_LARGE),
        ("huge.toml", comment.repeat(TOO_LARGE_BYTES / comment.len()), codes::TOO_LARGE),
        (
            "aliases.yaml",
            format!("{start}x-b: [{}]\n{stages}] }} }}\n", "*a , ".repeat(100_001)),
            codes::TOO_MANY_ALIASES,
        ),
        ("argument.yaml", format!("{start}{stages}, {}] }} }}\n", "x".repeat(128 << 10)), codes::TEXT_TOO_LONG),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        let found = json(dir.path(), name);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0]["code"], &found[0]["file"]), (&code.to_string().into(), &name.into()));
        assert!(found[0]["help"].as_str().is_some_and(|h| !h.is_empty()), "{found:?}");
        let people = validate(dir.path(), &[name], "human");
        assert!(people.stderr.len() < 2000, "a long line is cut: {}", String::from_utf8_lossy(&people.stderr));
    }
}

#[test]
fn vars_are_given_as_in_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\nname: p\nvars: { n: 1 }\nstages: { s: { command: [a], replicas: \"${n}\" } }\n";
    std::fs::write(dir.path().join("p.yaml"), text).unwrap();
    for (set, code) in [("n=2", 0), ("n=none", 3), ("m=2", 2), ("n", 2)] {
        let output = validate(dir.path(), &["p.yaml", "--set", set], "human");
        assert_eq!(output.status.code(), Some(code), "{set}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn files_that_cannot_be_read_are_told_like_others() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pipeline.json"), "{}").unwrap();
    for (name, code) in [("missing.yaml", codes::UNREADABLE), ("pipeline.json", codes::UNKNOWN_FORMAT)] {
        let found = json(dir.path(), name);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0]["code"], &found[0]["file"]), (&code.to_string().into(), &name.into()));
        assert!(found[0]["help"].as_str().is_some_and(|h| !h.is_empty()), "{found:?}");
    }
}

#[test]
fn several_files_are_told_in_one_report() {
    let names = ["cycle.yaml", "unknown-key.toml"];
    let output = validate(&folder(), &names, "json");
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files: BTreeSet<&str> =
        report["diagnostics"].as_array().unwrap().iter().filter_map(|d| d["file"].as_str()).collect();
    assert_eq!(files, BTreeSet::from(names));
}

/// Codes that need another command, no file at all, or one too large to keep: those have tests of their own.
const ELSEWHERE: &[Code] = &[
    codes::UNREADABLE,
    codes::UNKNOWN_FORMAT,
    codes::TOO_LARGE,
    codes::TOO_MANY_ALIASES,
    codes::TEXT_TOO_LONG,
    codes::NOT_IN_TOML,
    codes::VAR_WITHOUT_VALUE,
];

/// What `nexusflow explain` tells about a code is shown by at least one file here, for all that a file alone can do.
#[test]
fn every_code_of_the_file_has_a_file() {
    let mut shown = BTreeSet::new();
    for name in broken() {
        shown.extend(TOLD[&name].iter().map(|d| d["code"].as_str().unwrap().parse::<Code>().unwrap()));
    }
    let about_files = |code: &Code| (100..400).contains(&code.0) && !ELSEWHERE.contains(code);
    let missing: Vec<String> = codes::all()
        .filter(|entry| about_files(&entry.code) && !shown.contains(&entry.code))
        .map(|entry| format!("{} {}", entry.code, entry.name))
        .collect();
    assert!(missing.is_empty(), "no file of tests/diagnostics shows {missing:?}");
}
