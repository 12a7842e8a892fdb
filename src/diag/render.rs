//! The one door to all renderings: what they share is the order, and that nothing is told twice.

use super::{Diagnostic, Severity, github, human, json, sarif};

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: the place in the text, drawn.
    Human { color: bool },
    /// Stable and documented: see `json.rs`.
    Json,
    /// Workflow commands that become annotations of a pull request.
    Github,
    /// The interchange format of analysis tools, version 2.1.0.
    Sarif,
}

/// Sorted by source and place, exact duplicates dropped.
pub fn render(list: &[Diagnostic], format: Format) -> String {
    let list = in_order(list);
    match format {
        Format::Human { color } => human::render(&list, color),
        Format::Json => json::render(&list),
        Format::Github => github::render(&list),
        Format::Sarif => sarif::render(&list),
    }
}

/// One by itself, for people, while a run goes on.
pub fn draw(diagnostic: &Diagnostic, color: bool) -> String {
    human::drawn(&[diagnostic], color)
}

fn in_order(list: &[Diagnostic]) -> Vec<&Diagnostic> {
    let mut list: Vec<&Diagnostic> = list.iter().collect();
    list.sort_by_cached_key(|d| key(d));
    list.dedup_by(|a, b| key(a) == key(b) && a.notes == b.notes && a.help == b.help);
    list
}

type Place<'a> = (&'a str, usize, usize, &'a str);

/// Place first, then what tells two diagnostics of one place apart.
fn key(d: &Diagnostic) -> (Option<Place<'_>>, super::Code, Severity, &str, Vec<Place<'_>>) {
    let place = |l: &'_ super::Label| -> (usize, usize) { (l.span.range.start, l.span.range.end) };
    let mut places = d.labels.iter().map(|l| {
        let (start, end) = place(l);
        (l.span.source.name.as_str(), start, end, l.text.as_str())
    });
    (places.next(), d.code, d.severity, &d.message, places.collect())
}

/// `2 errors, 1 warning in pipeline.yaml`; nothing when there is nothing.
pub fn summary(list: &[Diagnostic]) -> String {
    summary_of(&in_order(list))
}

pub(super) fn summary_of(list: &[&Diagnostic]) -> String {
    let count = |severity, one: &str| {
        let n = list.iter().filter(|d| d.severity == severity).count();
        (n > 0).then(|| format!("{n} {one}{}", if n == 1 { "" } else { "s" }))
    };
    let counts: Vec<String> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
    let mut names: Vec<&str> =
        list.iter().filter_map(|d| d.labels.first()).map(|l| l.span.source.name.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        _ if counts.is_empty() => String::new(),
        [] => counts.join(", "),
        [name] => format!("{} in {}", counts.join(", "), human::clean(name)),
        names => format!("{} in {} files", counts.join(", "), names.len()),
    }
}
