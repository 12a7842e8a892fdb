//! The rules of the house (ARCHITECTURE.md), kept by scanning the sources: who may import whom, what
//! the pure core may not touch, where `unsafe` may stand, and what must not be left lying about.

#[path = "house/scan.rs"]
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nexusflow::diag::codes;
use scan::{Source, Token};

/// Each module of `src/` and the others that it may import. Imports run one way only; what is not listed is refused.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("diag", &[]),
    ("document", &["diag"]),
    ("spec", &["diag", "document"]),
    ("pipeline", &["diag", "spec"]),
    ("topology", &["diag"]),
    ("plan", &["diag", "spec", "pipeline", "topology"]),
    ("run", &["diag", "spec", "pipeline", "topology", "plan"]),
    ("probe", &["diag", "topology"]),
    ("record", &["diag", "spec", "pipeline", "topology", "plan", "run"]),
    ("metrics", &["diag", "pipeline", "plan", "run", "record"]),
    ("view", &["diag", "spec", "pipeline", "topology", "plan", "run", "record"]),
    ("ctl", &["diag"]),
    ("recording", &[]),
    ("exec", &["diag", "spec", "pipeline", "topology", "plan", "run", "probe", "record", "metrics", "ctl"]),
    ("demo", &[]),
    (
        "cli",
        &[
            "diag",
            "document",
            "spec",
            "pipeline",
            "topology",
            "plan",
            "run",
            "probe",
            "record",
            "metrics",
            "view",
            "ctl",
            "recording",
            "exec",
            "demo",
        ],
    ),
];

/// These are functions of their arguments: no files, no clock, no environment, no threads, no terminal.
const PURE: &[&str] = &["diag", "document", "spec", "pipeline", "topology", "plan", "run", "view"];

/// What a pure module may not name, as the beginning of a path.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "Timestamp::now",
    "Zoned::now",
    "nexusflow_sys",
    "nexusflow_stage",
    "rustix",
    "libc",
    "rusqlite",
    "indicatif",
    "anstream::stdout",
    "anstream::stderr",
    "clap",
];

/// The files of `nexusflow-stage` that map and share memory; `nexusflow-sys` may use `unsafe` everywhere.
const UNSAFE_IN_STAGE: &[&str] = &["ring", "map", "object"];

/// Measures what a stage can have, reading in place included.
const UNSAFE_IN_BENCH: &str = "crates/nexusflow-stage/examples/ring_bench.rs";

/// The folders and files of the bindings that face another language.
const UNSAFE_IN_SDK: &[&str] = &["sdk/c/src", "sdk/python/src"];

/// Longer than this and a file has more than one subject.
const MAX_LINES: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source below `dirs`, sorted, without build outputs.
fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut files = vec![];
    for dir in dirs {
        walk(&root().join(dir), &mut files);
    }
    files.sort();
    files.into_iter().map(|path| Source::read(root(), &path)).collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("target") => {}
            true => walk(&path, files),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
}

/// The sources of `src/` that are not tests, each with its module path: `src/spec/units.rs` is `[spec, units]`.
fn modules() -> Vec<(Vec<String>, Source)> {
    let all = sources(&["src"]);
    let tests: BTreeSet<PathBuf> = all.iter().flat_map(|s| s.test_modules()).collect();
    let is_test = |path: &Path| tests.iter().any(|t| path.starts_with(t) || path == t.with_extension("rs"));
    all.into_iter().filter(|s| !is_test(&s.path)).map(|s| (s.module_path(), s)).collect()
}

fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = vec![];
    for (module, source) in modules() {
        let Some(home) = module.first() else { continue };
        let Some(allowed) = table.get(home.as_str()) else {
            wrong.push(format!("{}: module `{home}` is not in the table of tests/house.rs", source.name()));
            continue;
        };
        for (line, path) in source.paths() {
            let Some(target) = scan::crate_module(&path, &module) else { continue };
            let known = table.contains_key(target.as_str());
            if known && target != *home && !allowed.contains(&target.as_str()) {
                wrong.push(format!("{}:{line}: `{home}` may not import `{target}`", source.name()));
            }
        }
    }
    none(wrong);
}

#[test]
fn the_table_has_no_circle() {
    let before: BTreeMap<_, _> = MAY_IMPORT.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    for (name, imports) in MAY_IMPORT {
        for import in *imports {
            // The table is written in an order in which every module stands behind all that it imports.
            assert!(before[import] < before[name], "`{name}` imports `{import}`, which stands below it in the table");
        }
    }
}

#[test]
fn the_core_is_pure() {
    let mut wrong = vec![];
    for (module, source) in modules() {
        if !module.first().is_some_and(|m| PURE.contains(&m.as_str())) {
            continue;
        }
        for (line, path) in source.paths() {
            let path = path.join("::");
            if let Some(bad) = IMPURE.iter().find(|bad| path == **bad || path.starts_with(&format!("{bad}::"))) {
                wrong.push(format!("{}:{line}: `{bad}` in `{}`, which is pure", source.name(), module[0]));
            }
        }
        for (line, name) in source.macros() {
            if matches!(name.as_str(), "print" | "println" | "eprint" | "eprintln") {
                wrong.push(format!("{}:{line}: `{name}!` in `{}`, which is pure", source.name(), module[0]));
            }
        }
    }
    none(wrong);
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut wrong = vec![];
    for source in sources(&["src", "xtask", "tests", "examples", "crates/nexusflow-stage", "sdk"]) {
        let in_stage = source.path.strip_prefix("crates/nexusflow-stage/src").ok();
        let allowed = in_stage.and_then(|p| p.iter().next()).is_some_and(|first| {
            UNSAFE_IN_STAGE.iter().any(|name| first == *name || first == format!("{name}.rs").as_str())
        });
        let is_bench = source.path == Path::new(UNSAFE_IN_BENCH);
        if allowed || is_bench || UNSAFE_IN_SDK.iter().any(|home| source.path.starts_with(home)) {
            continue;
        }
        for token in source.tokens.iter().filter(|t| t.is("unsafe")) {
            wrong.push(format!("{}:{}: `unsafe` outside the files that may have it", source.name(), token.line));
        }
    }
    none(wrong);
}

/// Loom looks at the orders of atomics, and only at those that it is told of.
#[test]
fn stages_use_the_atomics_that_can_be_modelled() {
    let mut wrong = vec![];
    for source in sources(&["crates/nexusflow-stage/src"]) {
        if source.path.ends_with("tests.rs") || source.path.iter().any(|folder| folder == "tests") {
            continue;
        }
        for (line, path) in source.paths() {
            let path = path.join("::");
            if path.starts_with("std::sync::atomic::") && path != "std::sync::atomic::Ordering" {
                wrong.push(format!("{}:{line}: `{path}`, not that of `nexusflow_sys::atomic`", source.name()));
            }
        }
    }
    none(wrong);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut wrong = vec![];
    for source in sources(&["src", "crates", "xtask", "tests", "examples", "sdk"]) {
        for (line, name) in source.macros() {
            if matches!(name.as_str(), "todo" | "unimplemented" | "dbg") {
                wrong.push(format!("{}:{line}: `{name}!`", source.name()));
            }
        }
    }
    none(wrong);
}

#[test]
fn files_stay_short_and_say_their_subject() {
    let mut wrong = vec![];
    for source in sources(&["src", "crates", "xtask", "tests", "sdk"]) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines, more than {MAX_LINES}", source.name()));
        }
        // The tables of codes are told apart where `codes/mod.rs` lists them.
        let told =
            source.path.starts_with("src/diag/codes") || source.text.lines().take(3).any(|l| l.starts_with("//! "));
        if !told && !source.text.trim().is_empty() {
            wrong.push(format!("{}: no `//!` comment on top that says its subject", source.name()));
        }
    }
    none(wrong);
}

/// Sources name codes by their constants, which the compiler checks; documents name them by number.
#[test]
fn codes_are_in_the_catalogue_once() {
    let mut seen = BTreeMap::new();
    for entry in codes::all() {
        if let Some(other) = seen.insert(entry.code, entry.name) {
            panic!("{} is both `{other}` and `{}`", entry.code, entry.name);
        }
    }
    let mut wrong = vec![];
    for (path, text) in documents() {
        for code in scan::codes_named(&text) {
            if !seen.contains_key(&code.parse().unwrap()) {
                wrong.push(format!("{}: {code} is not in the catalogue", path.display()));
            }
        }
    }
    none(wrong);
}

#[test]
fn every_code_of_the_catalogue_is_told_somewhere() {
    let (catalogue, rest): (Vec<_>, Vec<_>) =
        modules().into_iter().map(|(_, s)| s).partition(|s| s.path.starts_with("src/diag/codes"));
    let used: BTreeSet<&str> = rest.iter().flat_map(|s| &s.tokens).map(|t| t.text.as_str()).collect();
    let rows = catalogue.iter().flat_map(|s| s.tokens.windows(2).map(move |w| (s, w)));
    let named = rows.filter(|(_, w)| w[1].is("=") && w[0].text.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let unused = named.filter(|(_, w)| !used.contains(w[0].text.as_str()));
    none(unused.map(|(s, w)| format!("{}:{}: {} is never told", s.name(), w[0].line, w[0].text)).collect());
}

/// README, ARCHITECTURE and their like, and everything in docs/.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    for dir in [root().to_owned(), root().join("docs")] {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn files_that_documents_name_exist() {
    let mut wrong = vec![];
    for (path, text) in documents() {
        let dir = path.parent().unwrap();
        for target in scan::links(&text) {
            if !root().join(dir).join(&target).exists() {
                wrong.push(format!("{}: links to `{target}`, which does not exist", path.display()));
            }
        }
        for target in scan::files_named(&text) {
            if !root().join(&target).exists() && !root().join(dir).join(&target).exists() {
                wrong.push(format!("{}: names `{target}`, which does not exist", path.display()));
            }
        }
    }
    none(wrong);
}

#[test]
fn the_scan_sees_what_it_should() {
    let source = Source::of(
        "src/spec/units/size.rs",
        r##"
        use crate::{plan::Plan, diag::{self, codes as c}};
        use super::super::super::view;
        /* crate::exec */ // crate::exec
        const A: &str = "crate::exec"; const B: &str = r#"crate::"exec"#; const C: char = '"'; fn d<'a>() {}
        fn f() { let x = std::time::Instant::now(); todo!() }
        #[cfg(test)]
        mod tests { use crate::cli; fn g() { dbg!(1) } }
        "##,
    );
    let module: Vec<String> = source.module_path();
    assert_eq!(module, ["spec", "units", "size"]);
    let found: Vec<_> = source.paths().iter().filter_map(|(_, p)| scan::crate_module(p, &module)).collect();
    assert_eq!(found, ["plan", "diag", "diag", "view"]);
    assert!(source.paths().iter().any(|(_, p)| p.join("::") == "std::time::Instant::now"));
    assert_eq!(source.macros().iter().map(|(_, m)| m.as_str()).collect::<Vec<_>>(), ["todo"]);
    assert!(source.tokens.iter().any(|t: &Token| t.is("f") && t.line == 6));
}
