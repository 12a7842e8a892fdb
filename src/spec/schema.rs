//! The format's table as a JSON Schema (draft 2020-12), for editors and other programs.
//!
//! It says what the checker says of structure: keys, types, words, patterns, ranges, counts. What only this
//! program knows (the graph, rules between keys, amounts in units) is not in it, and neither is what this
//! release does not support: an editor should not offer it.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::format::{self, Key, MAX_ID, PIPELINE, Record, Shape, Word};
use super::scalar::CPU_LIST_REGEX;
use super::units::{DURATION_REGEX, RATE_REGEX, SIZE_REGEX};
use super::vars::{INSIDE_REGEX, WHOLE_REGEX};
use crate::diag::{Diagnostics, Source};
use crate::document::{Format, Node, Value, parse};

/// The schema of a pipeline file, version 1.
pub fn schema() -> Json {
    let mut out = object(&PIPELINE);
    let mut head = Map::new();
    head.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    head.insert("title".into(), json!("NexusFlow pipeline, version 1"));
    head.append(&mut out);
    let mut defs = Map::new();
    let whole = json!({ "description": "A var that stands alone takes the type its place wants.", "type": "string", "pattern": WHOLE_REGEX });
    defs.insert("var_reference".into(), whole);
    for record in used_records() {
        defs.insert(record.name.into(), Json::Object(object(record)));
    }
    head.insert("$defs".into(), Json::Object(defs));
    Json::Object(head)
}

/// Records that something supported leads to.
fn used_records() -> Vec<&'static Record> {
    fn visit(shape: &'static Shape, list: &mut Vec<&'static Record>) {
        match shape {
            Shape::Record(record) if !list.iter().any(|r| r.name == record.name) => {
                list.push(record);
                record.keys.iter().filter(|k| k.later.is_none()).for_each(|k| visit(k.shape, list));
            }
            Shape::List { of, .. } | Shape::Map { of, .. } => visit(of, list),
            Shape::OneOf(shapes) => shapes.iter().for_each(|s| visit(s, list)),
            _ => {}
        }
    }
    let mut list = vec![];
    PIPELINE.keys.iter().filter(|k| k.later.is_none()).for_each(|k| visit(k.shape, &mut list));
    list
}

fn object(record: &'static Record) -> Map<String, Json> {
    let now = || record.keys.iter().filter(|k| k.later.is_none());
    let properties: Map<String, Json> = now().map(|k| (k.name.to_string(), Json::Object(property(k)))).collect();
    let required: Vec<&str> = now().filter(|k| k.required).map(|k| k.name).collect();
    let mut out = Map::new();
    out.insert("description".into(), json!(record.doc));
    out.insert("type".into(), json!("object"));
    out.insert("properties".into(), Json::Object(properties));
    if record.open {
        out.insert("patternProperties".into(), json!({ "^x-": { "description": "Yours: for anchors." } }));
    }
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    out.insert("additionalProperties".into(), json!(false));
    out
}

fn property(key: &'static Key) -> Map<String, Json> {
    let mut out = Map::new();
    out.insert("description".into(), json!(key.doc));
    if let Some(Json::Object(mut rules)) = rules(key.shape) {
        out.append(&mut rules);
    }
    if let Some(default) = key.default {
        out.insert("default".into(), yaml(default));
    }
    if let Some(example) = key.example {
        out.insert("examples".into(), json!([yaml(example)]));
    }
    out
}

/// `None`: nothing of it is supported yet.
fn rules(shape: &'static Shape) -> Option<Json> {
    Some(match shape {
        Shape::Bool => or_var(json!({ "type": "boolean" })),
        Shape::Int { min, max: i64::MAX } => or_var(json!({ "type": "integer", "minimum": min })),
        Shape::Int { min, max } => or_var(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Shape::Number { above, max } if max.is_infinite() => {
            or_var(json!({ "type": "number", "exclusiveMinimum": number(*above) }))
        }
        Shape::Number { above, max } => {
            or_var(json!({ "type": "number", "exclusiveMinimum": number(*above), "maximum": number(*max) }))
        }
        Shape::Str { pattern: format::Pattern { regex: "", .. }, .. } => json!({ "type": "string" }),
        Shape::Str { pattern, verbatim: true, .. } => json!({ "type": "string", "pattern": pattern.regex }),
        Shape::Str { pattern, .. } => text(pattern.regex),
        Shape::Enum(words) => choice(words),
        Shape::Size { .. } => text(SIZE_REGEX),
        Shape::Rate => text(RATE_REGEX),
        Shape::Duration { .. } => json!({ "type": "string", "minLength": 1, "pattern": or_inside(DURATION_REGEX) }),
        Shape::CpuList => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 0, "maximum": MAX_ID }, text(CPU_LIST_REGEX)] })
        }
        Shape::Text | Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Path => json!({ "type": "string", "minLength": 1 }),
        Shape::Version => json!({ "const": 1 }),
        Shape::List { of, min, max } => {
            json!({ "type": "array", "items": rules(of)?, "minItems": min, "maxItems": max })
        }
        Shape::Map { key, of, min, max, .. } => json!({
            "type": "object",
            "patternProperties": { key.regex: rules(of)? },
            "additionalProperties": false,
            "minProperties": min,
            "maxProperties": max,
        }),
        Shape::Record(record) => json!({ "$ref": format!("#/$defs/{}", record.name) }),
        Shape::OneOf(shapes) => match &shapes.iter().filter_map(|s| rules(s)).collect::<Vec<_>>()[..] {
            [one] => one.clone(),
            several => json!({ "anyOf": several }),
        },
        Shape::Later(..) => return None,
    })
}

/// What is no string in the file may be a string that is a var.
fn or_var(typed: Json) -> Json {
    json!({ "anyOf": [typed, { "$ref": "#/$defs/var_reference" }] })
}

/// A string of a pattern may hold vars anywhere.
fn text(regex: &str) -> Json {
    json!({ "type": "string", "pattern": or_inside(regex) })
}

fn or_inside(regex: &str) -> String {
    format!("{regex}|{INSIDE_REGEX}")
}

/// Words with what they mean, as editors show it.
fn choice(words: &[Word]) -> Json {
    let now = words.iter().filter(|w| w.later.is_none());
    let mut any: Vec<Json> = now.map(|w| json!({ "const": w.word, "description": w.doc })).collect();
    any.push(json!({ "type": "string", "pattern": INSIDE_REGEX }));
    json!({ "anyOf": any })
}

/// Whole numbers without `.0`.
fn number(n: f64) -> Json {
    if n.fract() == 0.0 { json!(n as i64) } else { json!(n) }
}

/// A value as the table writes it.
fn yaml(text: &str) -> Json {
    let source = Arc::new(Source { name: String::new(), text: format!("value: {text}") });
    let node = parse(&source, Format::Yaml, &mut Diagnostics::default());
    node.as_ref().and_then(Node::as_map).and_then(|m| m.get("value")).map_or(Json::Null, to_json)
}

pub(super) fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::String(s) => json!(s),
        Value::List(nodes) => nodes.iter().map(to_json).collect(),
        Value::Map(map) => Json::Object(map.entries.iter().map(|e| (e.key.clone(), to_json(&e.value))).collect()),
    }
}
