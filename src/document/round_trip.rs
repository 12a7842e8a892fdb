//! Property tests: what is written is read back the same, whatever the tree; no text makes a reader panic.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::diag::{Source, Span};

fn nowhere() -> Span {
    Span { source: Arc::new(Source { name: "made".into(), text: String::new() }), range: 0..0 }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_][a-z0-9_.-]{0,8}",
        1 => "[ -~]{0,12}",
        1 => "[a-z #:\n\t|>-]{0,16}",
        1 => "(line[ a-z]{0,4}\n){1,4}(last)?",
        1 => any::<String>(),
        1 => prop_oneof![Just("yes"), Just("<<"), Just("~"), Just("1:30"), Just("0x1F"), Just("1e3"), Just("-"), Just("---"), Just(".inf"),
            Just("null"), Just("${x}"), Just("*.csv"), Just("a: b"), Just("x #y"), Just(""), Just("2026-11-22"), Just("0o7"), Just("- a"), Just("2h"), Just("64 MB")]
            .prop_map(str::to_owned),
    ]
    // No file can hold a NUL byte.
    .prop_map(|s: String| s.replace('\0', "0"))
}

fn tree(with_null: bool) -> impl Strategy<Value = Value> {
    let nothing = if with_null { Value::Null } else { Value::Bool(true) };
    let leaf = prop_oneof![
        1 => Just(nothing),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => any::<i64>().prop_map(Value::Int),
        2 => any::<f64>().prop_map(Value::Float),
        6 => text().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let node = inner.prop_map(|value| Node { span: nowhere(), value });
        prop_oneof![
            prop::collection::vec(node.clone(), 0..5).prop_map(Value::List),
            map_of(node, 0).prop_map(Value::Map),
        ]
    })
}

fn map_of(node: impl Strategy<Value = Node>, least: usize) -> impl Strategy<Value = Mapping> {
    prop::collection::btree_map(text(), node, least..5).prop_map(|map| {
        let entry = |(key, value)| Entry { key, key_span: nowhere(), value };
        Mapping { entries: map.into_iter().map(entry).collect() }
    })
}

/// Equal but for places; NaN is like NaN. Keys are in order if the format keeps it.
fn same(a: &Node, b: &Node, ordered: bool) -> bool {
    match (&a.value, &b.value) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::String(a), Value::String(b)) => a == b,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, ordered)),
        (Value::Map(a), Value::Map(b)) => {
            let in_place = |(n, e): (usize, &Entry)| !ordered || b.entries[n].key == e.key;
            a.entries.len() == b.entries.len()
                && a.entries.iter().enumerate().all(in_place)
                && a.entries.iter().all(|e| b.get(&e.key).is_some_and(|other| same(&e.value, other, ordered)))
        }
        _ => false,
    }
}

fn read(text: &str, format: Format) -> (Option<Node>, Diagnostics) {
    let mut found = Diagnostics::default();
    let source = source_from_bytes("made", text.as_bytes().to_vec(), &mut found);
    let node = source.and_then(|s| parse(&s, format, &mut found));
    (node, found)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn yaml_comes_back_the_same(value in tree(true)) {
        let list = Value::List(vec![Node { span: nowhere(), value }]);
        let node = Node { span: nowhere(), value: list };
        let text = to_yaml(&node);
        let (back, found) = read(&text, Format::Yaml);
        prop_assert!(!found.has_errors(), "{:?}\n{}", found.list.iter().map(|d| d.to_string()).collect::<Vec<_>>(), text);
        prop_assert!(back.is_some_and(|back| same(&node, &back, true)), "{}", text);
    }

    #[test]
    fn toml_comes_back_the_same(map in map_of(tree(false).prop_map(|value| Node { span: nowhere(), value }), 1)) {
        let node = Node { span: nowhere(), value: Value::Map(map) };
        let text = to_toml(&node, &mut Diagnostics::default()).expect("it has no null");
        let (back, found) = read(&text, Format::Toml);
        prop_assert!(!found.has_errors(), "{:?}\n{}", found.list.iter().map(|d| d.to_string()).collect::<Vec<_>>(), text);
        prop_assert!(back.is_some_and(|back| same(&node, &back, false)), "{}", text);
        prop_assert!(::toml::from_str::<::toml::Table>(&text).is_ok(), "{}", text);
    }
}

const YAML: &str = include_str!("samples/pipeline.yaml");
const TOML: &str = include_str!("samples/pipeline.toml");

#[test]
fn both_samples_say_the_same() {
    let (yaml, toml) = (read(YAML, Format::Yaml), read(TOML, Format::Toml));
    assert!(!yaml.1.has_errors() && !toml.1.has_errors());
    let (yaml, toml) = (yaml.0.expect("a tree"), toml.0.expect("a tree"));
    assert!(same(&yaml, &toml, false));
}

#[test]
fn a_pipeline_is_written_as_a_person_would() {
    let (node, _) = read(YAML, Format::Yaml);
    let node = node.expect("a tree");
    insta::assert_snapshot!(to_yaml(&node), @r#"
version: 1
name: clickstream
description: |
  Parse, enrich
    and "count" click events.
vars:
  work: /var/lib/clicks
  port: { default: 9000, env: CLICK_PORT, help: where to listen }
env:
  LOG_LEVEL: info
  RATE: "1.10"
  EMPTY: ""
env_inherit: [PATH, HOME]
x-common:
  stop_timeout: 5s
x-log:
  log: piped
  stop_timeout: 9s
stages:
  migrate:
    command: [./migrate, --once]
    retry: { limit: 3, backoff: 1s, backoff_max: 30s, on_exit: [75, 16] }
  ingest:
    stop_timeout: 5s
    log: piped
    command: [./ingest, --port, "${port}"]
    depends_on: { migrate: completed }
    placement: { cpus: 2, load: 0.8, exclusive: true, near: [enrich] }
  enrich:
    command:
      - python3
      - enrich.py
      - a rather long argument that does not fit
      - another one that makes the line too long for one line
    env: { MODEL: "${work}/model" }
  count:
    shell: sort | uniq -c > "$work/counts"
    stdin: { edge: enriched, framing: lines }
edges:
  events:
    from: ingest
    to: enrich
    capacity: 64MiB
    memory: { numa: consumer }
  "odd key": { from: [enrich, it's], to: count }
"#);
    insta::assert_snapshot!(to_toml(&node, &mut Diagnostics::default()).expect("it has no null"), @r#"
version = 1
name = "clickstream"
description = """
Parse, enrich
  and "count" click events.
"""
env = { LOG_LEVEL = "info", RATE = "1.10", EMPTY = "" }
env_inherit = ["PATH", "HOME"]
x-common = { stop_timeout = "5s" }
x-log = { log = "piped", stop_timeout = "9s" }

[vars]
work = "/var/lib/clicks"
port = { default = 9000, env = "CLICK_PORT", help = "where to listen" }

[stages.migrate]
command = ["./migrate", "--once"]
retry = { limit = 3, backoff = "1s", backoff_max = "30s", on_exit = [75, 16] }

[stages.ingest]
stop_timeout = "5s"
log = "piped"
command = ["./ingest", "--port", "${port}"]
depends_on = { migrate = "completed" }
placement = { cpus = 2, load = 0.8, exclusive = true, near = ["enrich"] }

[stages.enrich]
command = [
  "python3",
  "enrich.py",
  "a rather long argument that does not fit",
  "another one that makes the line too long for one line",
]
env = { MODEL = "${work}/model" }

[stages.count]
shell = 'sort | uniq -c > "$work/counts"'
stdin = { edge = "enriched", framing = "lines" }

[edges]
"odd key" = { from = ["enrich", "it's"], to = "count" }

[edges.events]
from = "ingest"
to = "enrich"
capacity = "64MiB"
memory = { numa = "consumer" }
"#);
}

#[test]
fn what_toml_cannot_say_is_told() {
    let (node, _) = read("a: ~\nb: [1, null]\n", Format::Yaml);
    let mut found = Diagnostics::default();
    assert!(to_toml(&node.expect("a tree"), &mut found).is_none());
    assert_eq!(found.list.len(), 2);
}

/// Small numbers for tests that must come out the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// A few bytes changed, taken out, doubled, or replaced by what the languages give a meaning to.
fn mutate(text: &str, dice: &mut Dice) -> String {
    const PIECES: [&str; 28] = [
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "\n",
        "\t",
        "\"",
        "'",
        "\"\"\"",
        "#",
        "&a ",
        "*a",
        "<<: *a",
        "!x ",
        "!!int ",
        "---\n",
        "|\n",
        "? ",
        "=",
        "[[",
        ".",
        "\\",
        "é",
        "\r",
        "99999999999999999999",
    ];
    let mut text = text.to_owned();
    for _ in 0..=dice.below(4) {
        let mut at = dice.below(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let mut end = (at + dice.below(20)).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        match dice.below(3) {
            0 => text.replace_range(at..end, ""),
            1 => {
                let piece = text[at..end].to_owned();
                text.insert_str(at, &piece);
            }
            _ => text.insert_str(at, PIECES[dice.below(PIECES.len())]),
        }
    }
    text
}

#[test]
fn damaged_files_never_panic_a_reader() {
    use crate::diag::{Format as Rendering, render};
    let mut dice = Dice(7);
    for _ in 0..2000 {
        for (sample, format) in [(YAML, Format::Yaml), (TOML, Format::Toml)] {
            let text = mutate(sample, &mut dice);
            let (node, found) = read(&text, format);
            assert!(node.is_some() || found.has_errors(), "neither a tree nor a mistake:\n{text}");
            for label in found.list.iter().flat_map(|d| &d.labels) {
                assert!(label.span.source.text.get(label.span.range.clone()).is_some(), "no such place:\n{text}");
            }
            render(&found.list, Rendering::Human { color: false });
            if format == Format::Toml {
                agrees_with_the_toml_crate(&text, node.as_ref(), &found);
            }
        }
    }
}

#[test]
fn damaged_bytes_never_panic_a_reader() {
    let mut dice = Dice(3);
    for _ in 0..500 {
        let mut bytes = YAML.as_bytes()[..300].to_vec();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.below(256) as u8;
        }
        let mut found = Diagnostics::default();
        let source = source_from_bytes("damaged.yaml", bytes, &mut found);
        assert_eq!(source.is_none(), found.has_errors());
        crate::diag::render(&found.list, crate::diag::Format::Human { color: false });
    }
}

/// The tree is built here; whether a text is TOML at all is not a matter of taste.
fn agrees_with_the_toml_crate(text: &str, node: Option<&Node>, found: &Diagnostics) {
    let ours = found.list.iter().find(|d| d.code != codes::DATE && d.code != codes::EMPTY);
    match ::toml::from_str::<::toml::Table>(text) {
        Ok(table) => {
            assert!(ours.is_none(), "refused: {}\n{text}", ours.expect("a mistake"));
            if let Some(node) = node {
                let theirs = Node { span: nowhere(), value: from_toml(&::toml::Value::Table(table)) };
                assert!(same(&theirs, node, false), "read otherwise:\n{text}");
            }
        }
        Err(e) => assert!(found.has_errors(), "accepted, but: {e}\n{text}"),
    }
}

fn from_toml(value: &::toml::Value) -> Value {
    let node = |value| Node { span: nowhere(), value: from_toml(value) };
    match value {
        ::toml::Value::String(s) => Value::String(s.clone()),
        ::toml::Value::Integer(n) => Value::Int(*n),
        ::toml::Value::Float(x) => Value::Float(*x),
        ::toml::Value::Boolean(b) => Value::Bool(*b),
        ::toml::Value::Datetime(d) => Value::String(d.to_string()),
        ::toml::Value::Array(items) => Value::List(items.iter().map(node).collect()),
        ::toml::Value::Table(table) => {
            let entry =
                |(key, value): (&String, _)| Entry { key: key.clone(), key_span: nowhere(), value: node(value) };
            Value::Map(Mapping { entries: table.iter().map(entry).collect() })
        }
    }
}
