//! Tree → TOML, as a person would write it: a header for each stage, small tables in braces. Reading
//! the result gives the same tree, but for the order of keys: a table's own come before its sections.

use super::{Entry, Mapping, Node, Value};
use crate::diag::{Diagnostic, Diagnostics, codes};

/// A table without tables of its own goes in braces if its line keeps to this.
const MAX_LINE_CHARS: usize = 100;

/// `None` (and told why) for what TOML has no word for: nothing, and a file that is not a mapping.
pub fn to_toml(node: &Node, found: &mut Diagnostics) -> Option<String> {
    let Value::Map(map) = &node.value else {
        found.push(
            Diagnostic::error(codes::NOT_IN_TOML, format!("a TOML file is a table, and this is {}", node.kind()))
                .at(&node.span, "not a mapping"),
        );
        return None;
    };
    let before = found.list.len();
    refuse_null(node, None, found);
    if found.list.len() > before {
        return None;
    }
    let mut out = String::new();
    section(map, &mut vec![], false, &mut out);
    Some(out)
}

/// Every `null` of the tree, told at its key if it has one: the value itself may be nothing at all.
fn refuse_null(node: &Node, entry: Option<&Entry>, found: &mut Diagnostics) {
    match &node.value {
        Value::Null => {
            let d = Diagnostic::error(codes::NOT_IN_TOML, "TOML has no word for nothing");
            found.push(
                match entry {
                    Some(entry) => d.at(&entry.key_span, "this key has no value"),
                    None => d.at(&node.span, "nothing here"),
                }
                .help("take the key out, or give it a value"),
            );
        }
        Value::List(items) => items.iter().for_each(|item| refuse_null(item, None, found)),
        Value::Map(map) => map.entries.iter().for_each(|e| refuse_null(&e.value, Some(e), found)),
        _ => {}
    }
}

/// The keys of one table, then its sections. `named` says that its header must be written.
fn section<'a>(map: &'a Mapping, path: &mut Vec<&'a str>, named: bool, out: &mut String) {
    let (sections, own): (Vec<&Entry>, Vec<&Entry>) = map.entries.iter().partition(|e| is_section(e, path));
    if named && (!own.is_empty() || sections.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        *out += &format!("[{}]\n", path.iter().map(|k| key(k)).collect::<Vec<_>>().join("."));
    }
    for entry in own {
        *out += &assignment(entry);
        out.push('\n');
    }
    for entry in sections {
        if let Value::Map(map) = &entry.value.value {
            path.push(&entry.key);
            section(map, path, true, out);
            path.pop();
        }
    }
}

/// Stages always have a header of their own; other tables if they are large or hold tables.
fn is_section(entry: &Entry, path: &[&str]) -> bool {
    let Value::Map(map) = &entry.value.value else { return false };
    let listed = path.is_empty() && matches!(entry.key.as_str(), "stages" | "edges") || path == ["stages"];
    let holds_tables = map.entries.iter().any(|e| matches!(e.value.value, Value::Map(_)));
    !map.entries.is_empty() && (listed || holds_tables || assignment(entry).chars().count() > MAX_LINE_CHARS)
}

fn assignment(entry: &Entry) -> String {
    let line = format!("{} = {}", key(&entry.key), inline(&entry.value));
    match &entry.value.value {
        Value::List(items) if line.chars().count() > MAX_LINE_CHARS => {
            let items: String = items.iter().map(|item| format!("  {},\n", inline(item))).collect();
            format!("{} = [\n{items}]", key(&entry.key))
        }
        Value::String(text) if text.trim_end_matches('\n').contains('\n') => {
            format!("{} = {}", key(&entry.key), multi_line(text))
        }
        _ => line,
    }
}

fn inline(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => "nan".to_owned(),
        Value::Float(x) => format!("{x:?}"),
        Value::String(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Map(map) if map.entries.is_empty() => "{}".to_owned(),
        Value::Map(map) => {
            let entry = |e: &Entry| format!("{} = {}", key(&e.key), inline(&e.value));
            format!("{{ {} }}", map.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { text.to_owned() } else { quoted(text) }
}

/// In single quotes where that saves escapes.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') && text.chars().all(|c| !c.is_control()) {
        return format!("'{text}'");
    }
    let mut out = "\"".to_owned();
    text.chars().for_each(|c| escape(c, &mut out));
    out.push('"');
    out
}

fn multi_line(text: &str) -> String {
    let mut out = "\"\"\"\n".to_owned();
    // Single quotation marks need no escape: only three of them, or one at the very end, would end the text.
    let quotes_are_safe = !text.contains("\"\"") && !text.ends_with('"');
    for c in text.chars() {
        if c == '\n' || c == '"' && quotes_are_safe { out.push(c) } else { escape(c, &mut out) }
    }
    out += "\"\"\"";
    out
}

fn escape(c: char, out: &mut String) {
    match c {
        '"' => *out += "\\\"",
        '\\' => *out += "\\\\",
        '\n' => *out += "\\n",
        '\t' => *out += "\\t",
        '\r' => *out += "\\r",
        c if c.is_control() => *out += &format!("\\u{:04X}", u32::from(c)),
        c => out.push(c),
    }
}
