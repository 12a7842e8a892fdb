//! The format's table as a page for people: `docs/pipeline.md`.

use std::fmt::Write;

use super::format::{Key, PIPELINE, Record, Shape, Word};

const HEAD: &str = include_str!("reference_head.md");

/// Every key of the format: type, default, meaning, example.
pub fn reference() -> String {
    let mut out = String::from(HEAD);
    let (mut later, mut seen) = (vec![], vec![&PIPELINE]);
    let mut at = 0;
    while at < seen.len() {
        let record = seen[at];
        at += 1;
        chapter(record, &mut out);
        for key in record.keys {
            collect(record, key, key.shape, &mut later, &mut seen);
        }
    }
    out += "\n## Not supported yet\n\nThe format has these too; until a release acts on them they are errors (NF0202), so that a file never promises what is not done.\n\n";
    for (what, why) in later {
        line(&mut out, format_args!("- {what}: {why}."));
    }
    out
}

fn line(out: &mut String, args: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{args}");
}

/// What is missing of a key goes to `later`, the records that it leads to into `seen`.
fn collect(
    record: &Record,
    key: &'static Key,
    shape: &'static Shape,
    later: &mut Vec<(String, &'static str)>,
    seen: &mut Vec<&'static Record>,
) {
    let place = match record.name {
        "pipeline" => "at the top".into(),
        "stage" => "of a stage".into(),
        "edge" => "of an edge".into(),
        name => format!("in `{name}`"),
    };
    if let Some(why) = key.later {
        return later.push((format!("`{}` {place}", key.name), why));
    }
    match shape {
        Shape::Enum(words) => {
            for word in words.iter() {
                if let Some(why) = word.later {
                    later.push((format!("`{}: {}` {place}", key.name, word.word), why));
                }
            }
        }
        Shape::Record(inner) if !seen.iter().any(|r| r.name == inner.name) => seen.push(inner),
        Shape::List { of, .. } | Shape::Map { of, .. } => collect(record, key, of, later, seen),
        Shape::OneOf(shapes) => shapes.iter().for_each(|s| collect(record, key, s, later, seen)),
        Shape::Later(why, Shape::Record(inner)) => {
            let inner = inner.keys.iter().map(|k| format!("{}: …", k.name)).collect::<Vec<_>>().join(", ");
            later.push((format!("`{}: {{ {inner} }}` {place}", key.name), why));
        }
        _ => {}
    }
}

fn title(record: &Record) -> String {
    match record.name {
        "pipeline" => "The top level".into(),
        "stage" => "A stage".into(),
        "edge" => "An edge".into(),
        "var" => "A var".into(),
        name => format!("In `{name}`"),
    }
}

fn anchor(record: &Record) -> String {
    title(record).to_lowercase().replace('`', "").replace(' ', "-")
}

fn chapter(record: &'static Record, out: &mut String) {
    line(out, format_args!("\n## {}\n\n{}", title(record), record.doc));
    for key in record.keys.iter().filter(|k| k.later.is_none()) {
        entry(key, out);
    }
}

fn entry(key: &'static Key, out: &mut String) {
    let default = match (key.default_says, key.default, key.required) {
        (Some(says), _, _) => format!(" Default: {says}."),
        (_, Some(value), _) => format!(" Default: `{value}`."),
        (_, _, true) => " **Required.**".into(),
        _ => String::new(),
    };
    line(out, format_args!("\n### `{}`\n\n*{}.*{default}\n\n{}", key.name, capital(&kind(key.shape)), key.doc));
    let words = words(key.shape);
    if !words.is_empty() {
        line(out, format_args!(""));
        for word in words {
            line(out, format_args!("- `{}`: {}", word.word, word.doc));
        }
    }
    if let Some(example) = key.example {
        line(out, format_args!("\n```yaml\n{}: {example}\n```", key.name));
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The type of a value, for the reference.
fn kind(shape: &'static Shape) -> String {
    match shape {
        Shape::List { of, .. } => format!("a list, each item {}", kind(of)),
        Shape::Map { what, of, .. } => {
            let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            format!("a mapping from {article} {what}'s name to {}", kind(of))
        }
        Shape::Record(record) => match record.name {
            "stage" | "edge" | "var" => format!("[{}](#{})", title(record).to_lowercase(), anchor(record)),
            _ => format!("[a mapping](#{})", anchor(record)),
        },
        Shape::Enum(words) => match words.iter().filter(|w| w.later.is_none()).count() {
            1 => "one word so far".into(),
            _ => "one of the words below".into(),
        },
        Shape::OneOf([one, Shape::List { of, .. }]) if std::ptr::eq(*one, *of) => {
            format!("{}, or a list of them", kind(one))
        }
        Shape::OneOf(shapes) => {
            let now: Vec<_> = shapes.iter().filter(|s| !matches!(s, Shape::Later(..))).map(|s| kind(s)).collect();
            now.join("; or ")
        }
        shape => shape.says(),
    }
}

fn words(shape: &'static Shape) -> Vec<&'static Word> {
    match shape {
        Shape::Enum(words) => words.iter().filter(|w| w.later.is_none()).collect(),
        Shape::OneOf(shapes) => shapes.iter().flat_map(|s| words(s)).collect(),
        Shape::Map { of, .. } | Shape::List { of, .. } => words(of),
        _ => vec![],
    }
}
