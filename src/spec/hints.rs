//! What to say about a key that the format does not have at this place, or a value that does not fit.

use super::check::Site;
use super::format::{self, Key, Record, Shape, Word};
use super::scalar::quote;
use crate::diag::{Diagnostic, codes, did_you_mean};
use crate::document::{Entry, Mapping};

/// `meant` collects the keys of this record that were most likely meant: they are not missing as well.
pub fn unknown_key(record: &'static Record, entry: &Entry, map: &Mapping, meant: &mut Vec<&'static str>) -> Diagnostic {
    let key = entry.key.as_str();
    let d = Diagnostic::error(codes::UNKNOWN_KEY, format!("{} is not a key of {}", quote(key), place(record)));
    let d = d.at(&entry.key_span, "");
    match help(record, key, map, meant) {
        Some(help) => d.help(help),
        None => d,
    }
}

/// From the surest guess to none.
fn help(record: &'static Record, key: &str, map: &Mapping, meant: &mut Vec<&'static str>) -> Option<String> {
    if let Some(k) = record.keys.iter().find(|k| k.also.contains(&key)) {
        meant.push(k.name);
        return Some(format!("it is called `{}` here", k.name));
    }
    if key.starts_with("x-") {
        return Some("keys of your own (`x-…`) stand at the top level of the file".into());
    }
    if let Some(k) = record.keys.iter().find(|k| records_of(k.shape).any(|inner| has(inner, key))) {
        return Some(format!("`{key}` belongs under `{}`", k.name));
    }
    // What is there already was hardly meant again.
    let free = record.keys.iter().filter(|k| map.get(k.name).is_none());
    if let Some(near) = did_you_mean(key, free.map(|k| k.name)) {
        meant.push(near);
        return Some(format!("did you mean `{near}`?"));
    }
    let others = record.keys.iter().flat_map(|k| k.also.iter().map(move |other| (k.name, *other)));
    if let Some(near) = did_you_mean(key, others.clone().map(|(_, other)| other)) {
        let name = others.into_iter().find(|(_, other)| *other == near).map(|(name, _)| name)?;
        meant.push(name);
        return Some(format!("it is called `{name}` here"));
    }
    const FEW: usize = 12;
    const VERY_FEW: usize = 4;
    let now = record.keys.iter().filter(|k| k.later.is_none()).map(|k| format!("`{}`", k.name)).collect::<Vec<_>>();
    if now.len() <= VERY_FEW {
        return Some(format!("its keys are {}", now.join(", ")));
    }
    if let Some(other) = format::records().into_iter().find(|r| has(r, key)) {
        return Some(format!("`{key}` is a key of {}", place(other)));
    }
    Some(match now.len() {
        ..=FEW => format!("its keys are {}", now.join(", ")),
        _ => format!("docs/pipeline.md lists the keys of {}", place(record)),
    })
}

/// What would fit: said where nothing better is known about a value.
pub fn value(shape: &'static Shape, site: Site) -> Option<String> {
    let words: Vec<_> = words_of(shape).iter().filter(|w| w.later.is_none()).collect();
    const FEW: usize = 6;
    if (2..=FEW).contains(&words.len()) {
        return Some(words.iter().map(|w| format!("`{}`: {}", w.word, w.doc)).collect::<Vec<_>>().join("; "));
    }
    let Some(key) = site.key else {
        if site.name.is_empty() {
            return Some("a file begins with `version: 1`, `name: …` and `stages:`".into());
        }
        if let Some(record) = records_of(shape).next() {
            let key = record.keys.iter().find(|k| k.example.is_some() && k.later.is_none())?;
            return Some(format!("for instance `{}: {{ {}: {} }}`", site.name, key.name, key.example?));
        }
        return Some("write text, in quotes where it begins with `[`, `{` or `*`".into());
    };
    Some(match key.example.or(key.default) {
        Some(example) => format!("for instance `{}: {example}`", key.name),
        None => key.doc.into(),
    })
}

fn words_of(shape: &'static Shape) -> &'static [Word] {
    match shape {
        Shape::Enum(words) => words,
        _ => &[],
    }
}

fn has(record: &Record, key: &str) -> bool {
    record.keys.iter().any(|k: &Key| k.name == key)
}

/// Records that a value of this shape may be, without descending into lists or mappings by name.
fn records_of(shape: &'static Shape) -> Box<dyn Iterator<Item = &'static Record>> {
    match shape {
        Shape::Record(record) => Box::new(std::iter::once(*record)),
        Shape::OneOf(shapes) => Box::new(shapes.iter().flat_map(|s| records_of(s))),
        Shape::Later(_, shape) => records_of(shape),
        _ => Box::new(std::iter::empty()),
    }
}

/// A record in the words of a message.
fn place(record: &Record) -> String {
    match record.name {
        "pipeline" => "the top level of the file".into(),
        "stage" => "a stage".into(),
        "edge" => "an edge".into(),
        "var" => "a var".into(),
        "edge_memory" => "an edge's `memory`".into(),
        name => format!("`{name}`"),
    }
}
