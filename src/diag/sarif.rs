//! For code scanning: SARIF 2.1.0, with a rule for each code that occurs.

use serde_json::{Value, json};

use super::position::Indexes;
use super::{Code, Diagnostic, Label, codes, json};

pub(super) fn render(list: &[&Diagnostic]) -> String {
    let mut used: Vec<Code> = list.iter().map(|d| d.code).collect();
    used.sort();
    used.dedup();
    let mut indexes = Indexes::default();
    let results: Vec<Value> = list.iter().map(|d| result(d, &used, &mut indexes)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "nexusflow",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": used.iter().map(|&code| rule(code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn rule(code: Code) -> Value {
    let (name, story) = codes::find(code).map_or(("", ""), |e| (e.name, e.story));
    json!({
        "id": code.to_string(),
        "name": name,
        "shortDescription": { "text": name.replace('-', " ") },
        "fullDescription": { "text": story },
        "help": { "text": story, "markdown": story },
    })
}

fn result<'a>(d: &'a Diagnostic, used: &[Code], indexes: &mut Indexes<'a>) -> Value {
    let mut text = d.message.clone();
    for more in d.notes.iter().chain(&d.help) {
        text += &format!("\n{more}");
    }
    let mut out = json!({
        "ruleId": d.code.to_string(),
        "ruleIndex": used.binary_search(&d.code).ok(),
        "level": json::severity(d.severity),
        "message": { "text": text },
    });
    if let Some((first, others)) = d.labels.split_first() {
        out["locations"] = json!([location(first, indexes)]);
        let others = others.iter().enumerate().map(|(n, label)| {
            let mut out = location(label, indexes);
            out["id"] = (n + 1).into();
            out
        });
        let others: Vec<Value> = others.collect();
        if !others.is_empty() {
            out["relatedLocations"] = others.into();
        }
    }
    out
}

fn location<'a>(label: &'a Label, indexes: &mut Indexes<'a>) -> Value {
    let (start, end) = indexes.ends(label);
    let mut out = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&label.span.source.name) },
            "region": {
                "startLine": start.line, "startColumn": start.column,
                "endLine": end.line, "endColumn": end.column,
            },
        },
    });
    if !label.text.is_empty() {
        out["message"] = json!({ "text": label.text });
    }
    out
}

/// A relative reference for a relative path, a `file:` URI for an absolute one.
fn uri(path: &str) -> String {
    let mut out = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}
