//! Tree → YAML, as a person would write it: block style, short leaves on one line, quotes where they
//! are needed. Reading the result gives the same tree.

use super::scalar::resolve_plain;
use super::{Mapping, Node, Value};

/// A list or mapping without collections of its own goes on one line if the line keeps to this.
const MAX_LINE_CHARS: usize = 100;
/// A longer key cannot be told from a value by its colon and needs YAML's `? key`.
const MAX_SIMPLE_KEY_BYTES: usize = 900;
/// Leaf mappings nearer to the root than this are never put on one line: a stage is, its list is not.
const MIN_FLOW_DEPTH: usize = 2;

pub fn to_yaml(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(map) if !map.entries.is_empty() => block_map(map, 0, 0, &mut out),
        Value::List(items) if !items.is_empty() => block_list(items, 0, 0, &mut out),
        Value::String(text) if text.contains('\n') => out.push_str(&quoted(text)),
        _ => out.push_str(&flow(node)),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn block_map(map: &Mapping, indent: usize, depth: usize, out: &mut String) {
    for entry in &map.entries {
        pad(indent, out);
        let key = scalar_text(&entry.key, true);
        if key.len() > MAX_SIMPLE_KEY_BYTES {
            *out += &format!("? {key}\n");
            pad(indent, out);
        } else {
            *out += &key;
        }
        out.push(':');
        value(&entry.value, indent + key.chars().count() + 1, indent, depth + 1, out);
    }
}

fn block_list(items: &[Node], indent: usize, depth: usize, out: &mut String) {
    for item in items {
        pad(indent, out);
        out.push('-');
        value(item, indent + 1, indent, depth + 1, out);
    }
}

/// What follows `key:` or `-` in column `column`, up to and with the line break.
fn value(node: &Node, column: usize, indent: usize, depth: usize, out: &mut String) {
    if let Value::String(text) = &node.value
        && let Some(header) = block_header(text)
    {
        *out += &format!(" {header}\n");
        for line in text.lines() {
            if !line.is_empty() {
                pad(indent + 2, out);
                *out += line;
            }
            out.push('\n');
        }
        return;
    }
    if !is_collection(node) || is_leaf(node, depth) {
        let text = flow(node);
        if !is_collection(node) || column + text.chars().count() < MAX_LINE_CHARS {
            *out += &format!(" {text}\n");
            return;
        }
    }
    out.push('\n');
    match &node.value {
        Value::Map(map) => block_map(map, indent + 2, depth, out),
        Value::List(items) => block_list(items, indent + 2, depth, out),
        _ => {}
    }
}

fn is_collection(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => !items.is_empty(),
        Value::Map(map) => !map.entries.is_empty(),
        _ => false,
    }
}

/// A collection that may go on one line: of scalars, or a mapping whose values are such lists.
fn is_leaf(node: &Node, depth: usize) -> bool {
    let one_line = |n: &Node| !matches!(&n.value, Value::String(s) if s.contains('\n'));
    match &node.value {
        Value::List(items) => items.iter().all(|n| !is_collection(n) && one_line(n)),
        Value::Map(map) => {
            depth >= MIN_FLOW_DEPTH
                && map.entries.iter().all(|e| match &e.value.value {
                    Value::List(items) => items.iter().all(|n| !is_collection(n) && one_line(n)),
                    Value::Map(_) => !is_collection(&e.value),
                    _ => one_line(&e.value),
                })
        }
        _ => true,
    }
}

fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => float_text(*x),
        Value::String(text) => scalar_text(text, false),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(map) if map.entries.is_empty() => "{}".to_owned(),
        Value::Map(map) => {
            let entry = |e: &super::Entry| format!("{}: {}", scalar_text(&e.key, true), flow(&e.value));
            format!("{{ {} }}", map.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn float_text(x: f64) -> String {
    if x.is_nan() {
        ".nan".to_owned()
    } else if x.is_infinite() {
        if x > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        format!("{x:?}")
    }
}

/// `|` or `|-` where the text reads better, and the same, as a block of lines.
fn block_header(text: &str) -> Option<&'static str> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let fits = body.contains('\n') || body.len() < text.len() && body.len() > MAX_LINE_CHARS / 2;
    let safe = !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with('\n')
        && body.lines().all(|line| !line.ends_with([' ', '\t']))
        && body.chars().all(|c| c == '\n' || is_printable(c));
    (fits && safe && !body.is_empty()).then_some(if body.len() < text.len() { "|" } else { "|-" })
}

fn scalar_text(text: &str, key: bool) -> String {
    if is_plain(text, key) { text.to_owned() } else { quoted(text) }
}

/// Whether a string may stand without quotes, in block and flow context alike, also for readers of YAML 1.1.
fn is_plain(text: &str, key: bool) -> bool {
    let begins_well = text.starts_with(|c: char| c.is_alphanumeric() || "_/.$+^".contains(c))
        || text.starts_with('-') && text[1..].starts_with(|c: char| c.is_alphanumeric() || c == '-');
    begins_well
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && (!key || !text.contains(' '))
        && text.chars().all(|c| is_printable(c) && !"[]{},\t".contains(c))
        && !means_something_else(text)
}

/// Text that this or an older reader of YAML would not take as a string.
fn means_something_else(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word =
        matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "---" | "...");
    let number_like =
        text.strip_prefix(['-', '+']).unwrap_or(text).starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && text.chars().all(|c| c.is_ascii_hexdigit() || "+-._:xoXO".contains(c) || c == 'T' || c == 'Z');
    word || number_like
        || text.starts_with("---")
        || text.starts_with("...")
        || !matches!(resolve_plain(text), Ok(Value::String(_)))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// In single quotes where that saves escapes.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\\']) && text.chars().all(|c| is_printable(c) && c != '\'') {
        return format!("'{text}'");
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            c if is_printable(c) => out.push(c),
            c => out += &format!("\\u{:04X}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}
