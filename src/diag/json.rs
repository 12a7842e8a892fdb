//! For programs: `{"diagnostics":[…]}`, one object a line. The format is stable; keys are only added.
//!
//! | key | value |
//! |---|---|
//! | `file` `line` `column` `end_line` `end_column` | where: lines and columns count from 1, columns in characters, the end is just past the last one; null without a place |
//! | `code` `name` | `NF0201`, `unknown-key` |
//! | `severity` | `error` or `warning` |
//! | `message` | what is wrong, one sentence |
//! | `help` | what to do about it, or null |
//! | `notes` | a list of further sentences |
//! | `labels` | a list of `{file, line, column, end_line, end_column, text}`; the first is the place of the mistake |

use serde_json::{Map, Value, json};

use super::position::Indexes;
use super::{Diagnostic, Label, Severity, codes};

pub(super) fn render(list: &[&Diagnostic]) -> String {
    let mut indexes = Indexes::default();
    let objects: Vec<String> = list.iter().map(|d| Value::Object(object(d, &mut indexes)).to_string()).collect();
    match objects.as_slice() {
        [] => "{\"diagnostics\":[]}\n".to_owned(),
        objects => format!("{{\"diagnostics\":[\n{}\n]}}\n", objects.join(",\n")),
    }
}

fn object<'a>(d: &'a Diagnostic, indexes: &mut Indexes<'a>) -> Map<String, Value> {
    let mut out = match d.labels.first() {
        Some(label) => place(label, indexes),
        None => ["file", "line", "column", "end_line", "end_column"]
            .map(|key| (key.to_owned(), Value::Null))
            .into_iter()
            .collect(),
    };
    let labels: Vec<Value> = d
        .labels
        .iter()
        .map(|label| {
            let mut out = place(label, indexes);
            out.insert("text".to_owned(), label.text.clone().into());
            Value::Object(out)
        })
        .collect();
    let rest = json!({
        "code": d.code.to_string(),
        "name": codes::find(d.code).map(|e| e.name),
        "severity": severity(d.severity),
        "message": d.message,
        "help": d.help,
        "notes": d.notes,
        "labels": labels,
    });
    if let Value::Object(rest) = rest {
        out.extend(rest);
    }
    out
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn place<'a>(label: &'a Label, indexes: &mut Indexes<'a>) -> Map<String, Value> {
    let (start, end) = indexes.ends(label);
    let mut out = Map::new();
    out.insert("file".to_owned(), label.span.source.name.clone().into());
    for (key, number) in
        [("line", start.line), ("column", start.column), ("end_line", end.line), ("end_column", end.column)]
    {
        out.insert(key.to_owned(), number.into());
    }
    out
}
