//! Schema and checker agree on structure: random documents, grown from the format's table with mistakes
//! strewn in, are valid for the one exactly if they are for the other.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::check::STRUCTURAL;
use super::format::{PIPELINE, Pattern, Record, Shape};
use super::*;
use crate::diag::{Code, Source, codes};
use crate::document::Entry;

/// A document is grown from a list of numbers, so that a failure shrinks to few choices.
struct Choices {
    list: Vec<u32>,
    at: usize,
}

impl Choices {
    /// Below `n`; 0 when the list is used up.
    fn below(&mut self, n: usize) -> usize {
        self.at += 1;
        self.list.get(self.at - 1).map_or(0, |c| *c as usize % n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Texts that are right in some place and wrong in others. No file declares `zz`, so what it stands for is not judged.
const TEXTS: [&str; 44] = [
    "a",
    "x.y-z",
    "A_1",
    "0",
    "",
    " ",
    "a b",
    "é",
    "-a",
    ".a",
    "a\n",
    "all",
    "none",
    "auto",
    "yes",
    "true",
    "ring",
    "Ring",
    "object",
    "TERM",
    "SIGTERM",
    "64MiB",
    "64 MB",
    "64 M",
    "64",
    "1.5GiB",
    "1.GiB",
    "99999999999TiB",
    "400MB/s",
    "90s",
    "1h30m",
    "30m1h",
    "1.5h",
    "0s",
    "0-3,8",
    "3-1",
    "1,",
    "99999-99999",
    "123456",
    "${zz}",
    "${zz}${zz}",
    "a${zz}b",
    "$${zz}",
    "$$${zz}",
];
/// Told by the checker alone, or by the schema as a text of the wrong form.
const REFERENCES: [&str; 4] = ["${", "${ZZ}", "${replica}", "${edge.a}"];

fn junk(c: &mut Choices) -> Json {
    match c.below(9) {
        0 => Json::Null,
        1 => json!(c.below(2) == 0),
        2 => json!([-21, -1, 0, 1, 2, 99, 1025, 70_000, i64::MAX, i64::MIN][c.below(10)]),
        3 => json!([0.0, 1.0, 0.5, -0.5, 1.5, 2.0, 1e300][c.below(7)]),
        4 => json!([]),
        5 => json!({}),
        6 => json!(["a", 1]),
        7 => json!(c.of(&REFERENCES)),
        _ => json!(c.of(&TEXTS)),
    }
}

fn key(c: &mut Choices, pattern: &Pattern) -> String {
    let fitting: Vec<&str> = TEXTS.into_iter().filter(|t| (pattern.test)(t)).collect();
    if c.one_in(40) { c.of(&TEXTS).to_string() } else { c.of(&fitting).to_string() }
}

fn grow(shape: &'static Shape, c: &mut Choices) -> Json {
    if c.one_in(40) {
        return junk(c);
    }
    match shape {
        Shape::Bool => json!(c.below(2) == 0),
        Shape::Int { min, max } => json!([*min, *max, min + 1][c.below(3)]),
        Shape::Number { above, .. } => json!([above + 0.5, above + 1.0][c.below(2)]),
        Shape::Str { pattern, .. } => json!(key(c, pattern)),
        Shape::Enum(words) => json!(c.of(words).word),
        Shape::Size { .. } => json!(*c.of(&["64MiB", "1.5 GiB", "1KB", "a${zz}", "64B"])),
        Shape::Rate => json!(*c.of(&["64MB/s", "1.5 GiB/s"])),
        Shape::Duration { .. } => json!(*c.of(&["90s", "1d2h3m4s5ms", "0s"])),
        Shape::CpuList => [json!("0-3,8"), json!(3), json!("0")][c.below(3)].clone(),
        Shape::Text | Shape::Scalar => [json!(c.of(&TEXTS)), json!(1), json!(1.5), json!(true)][c.below(4)].clone(),
        Shape::Path => json!(*c.of(&["a", "./b", "${zz}/c"])),
        Shape::Version => [json!(1), json!(1.0)][c.below(2)].clone(),
        Shape::List { of, min, .. } => (0..min + c.below(3)).map(|_| grow(of, c)).collect(),
        Shape::Map { key: pattern, of, min, .. } => {
            (0..min + c.below(3)).map(|_| (key(c, pattern), grow(of, c))).collect::<Map<_, _>>().into()
        }
        Shape::Record(record) => grow_record(record, c).into(),
        Shape::OneOf(shapes) => grow(shapes[c.below(shapes.len())], c),
        Shape::Later(_, shape) => {
            if c.one_in(8) {
                grow(shape, c)
            } else {
                json!(["a"])
            }
        }
    }
}

fn grow_record(record: &'static Record, c: &mut Choices) -> Map<String, Json> {
    let mut map = Map::new();
    for key in record.keys {
        let wanted = match (key.later, key.required) {
            (Some(_), _) => c.one_in(300),
            (_, true) => !c.one_in(40),
            _ => c.one_in(4),
        };
        if wanted {
            map.insert(key.name.into(), grow(key.shape, c));
        }
    }
    if c.one_in(40) {
        map.insert(c.of(&["x-a", "comand", "cpus", "x", "<<"]).to_string(), junk(c));
    }
    map
}

fn node(json: &Json, span: &Span) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap()), Value::Int),
        Json::String(s) => Value::String(s.clone()),
        Json::Array(list) => Value::List(list.iter().map(|j| node(j, span)).collect()),
        Json::Object(map) => {
            let entry =
                |(k, v): (&String, &Json)| Entry { key: k.clone(), key_span: span.clone(), value: node(v, span) };
            Value::Map(Mapping { entries: map.iter().map(entry).collect() })
        }
    };
    Node { span: span.clone(), value }
}

/// Codes of what the checker tells, without the rules between keys.
fn told(json: &Json) -> Vec<(Code, String)> {
    let source = Arc::new(Source { name: String::new(), text: String::new() });
    let mut found = Diagnostics::default();
    let inputs = Inputs { set: &BTreeMap::new(), env: &|_| None, strict: false };
    check_file(&node(json, &Span { source, range: 0..0 }), &inputs, &mut found);
    found.list.into_iter().map(|d| (d.code, d.message)).collect()
}

fn agree(validator: &jsonschema::Validator, json: &Json) -> Result<bool, String> {
    let told = told(json);
    let structural = told.iter().any(|(code, _)| STRUCTURAL.contains(code));
    // A reference that cannot be is told as such, and is for the schema a text of the wrong form.
    let reference = told.iter().any(|(code, _)| [codes::BAD_REFERENCE, codes::LATE_NAME].contains(code));
    let valid = validator.is_valid(json);
    if valid && !structural || !valid && (structural || reference) {
        return Ok(valid);
    }
    let errors: Vec<_> = validator.iter_errors(json).map(|e| format!("{} {e}", e.instance_path())).collect();
    Err(format!("{json:#}\nschema: {errors:?}\nchecker: {told:?}"))
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

#[test]
fn schema_and_checker_agree_on_structure() {
    let validator = validator();
    static FILE: Shape = Shape::Record(&PIPELINE);
    let (valid, all) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let choices = proptest::collection::vec(any::<u32>(), 0..400);
    let result = proptest::test_runner::TestRunner::new(config).run(
        &choices.prop_map(|list| grow(&FILE, &mut Choices { list, at: 0 })),
        |json| {
            all.set(all.get() + 1);
            valid.set(valid.get() + i32::from(agree(&validator, &json).map_err(TestCaseError::fail)?));
            Ok(())
        },
    );
    if let Err(e) = result {
        panic!("{e}");
    }
    let (valid, all) = (valid.get(), all.get());
    assert!(valid > all / 10 && valid < all * 9 / 10, "{valid} of {all} were valid: the mixture shows little");
}

#[test]
fn every_scalar_agrees_on_every_text() {
    let validator = validator();
    let mut shown = 0;
    let values = TEXTS.map(|t| json!(t)).into_iter().chain([
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(2.0),
        json!(70000),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
    ]);
    for value in values {
        for place in [
            "/name",
            "/timeout",
            "/parallel",
            "/env_inherit",
            "/on_failure",
            "/env/A",
            "/vars/v",
            "/stages/a/cwd",
            "/stages/a/user",
            "/stages/a/service",
            "/stages/a/stop_signal",
            "/stages/a/shell",
            "/stages/a/command",
            "/stages/a/depends_on",
            "/stages/a/placement/cpuset",
            "/stages/a/placement/numa",
            "/stages/a/placement/load",
            "/stages/a/placement/near",
            "/edges/e/capacity",
            "/edges/e/rate",
            "/edges/e/kind",
            "/edges/e/messages",
            "/edges/e/from",
            "/version",
        ] {
            let mut file = json!({ "version": 1, "name": "p", "env": {}, "vars": {}, "stages": { "a": { "placement": {} } },
                "edges": { "e": { "from": "a", "to": "b" } } });
            let (parent, key) = place.rsplit_once('/').unwrap();
            file.pointer_mut(parent).unwrap()[key] = value.clone();
            agree(&validator, &file).unwrap();
            shown += 1;
        }
    }
    assert!(shown > 1000);
}

#[test]
fn examples_and_defaults_of_the_table_are_values_of_their_keys() {
    let validator = validator();
    let schema = schema();
    for record in format::records() {
        for key in record.keys.iter().filter(|k| k.later.is_none()) {
            let Some(at) = schema.pointer(&match record.name {
                "pipeline" => format!("/properties/{}", key.name),
                name => format!("/$defs/{name}/properties/{}", key.name),
            }) else {
                continue;
            };
            for value in at["examples"].as_array().into_iter().flatten().chain(at.get("default")) {
                assert!(!value.is_null(), "{} {}", record.name, key.name);
                let rules = json!({ "$defs": schema["$defs"], "allOf": [at] });
                assert!(jsonschema::draft202012::is_valid(&rules, value), "{} {}: {value}", record.name, key.name);
            }
        }
    }
    assert!(validator.is_valid(&json!({ "version": 1, "name": "p", "stages": { "a": {} } })));
}
