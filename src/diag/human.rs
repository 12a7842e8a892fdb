//! For people: each mistake drawn under its line, as compilers do.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::position::{Indexes, Lines, floor, place};
use super::render::summary_of;
use super::{Diagnostic, Label, Severity, Source};

/// Labels of one text are drawn together if no more than this lies between the first and the last.
const MAX_WINDOW_BYTES: usize = 32 << 10;
/// A longer line is cut around the label, so that its length costs nothing.
const MAX_LINE_BYTES: usize = 2 << 10;
/// What is kept of such a line on either side of the label's start.
const KEPT_BYTES: usize = 60;

pub(super) fn render(list: &[&Diagnostic], color: bool) -> String {
    let mut out = drawn(list, color);
    let summary = summary_of(list);
    if !summary.is_empty() {
        out += &summary;
        out.push('\n');
    }
    out
}

/// Each with an empty line after it, and no summary.
pub(super) fn drawn(list: &[&Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut indexes = Indexes::default();
    let mut out = String::new();
    for d in list {
        for line in renderer.render(&[group(d, &mut indexes)]).lines() {
            // A piece of a line has its place drawn before it; the renderer announces a second, empty one.
            if anstream::adapter::strip_str(line).to_string().trim() != ":::" {
                out += line;
                out.push('\n');
            }
        }
        out.push('\n');
    }
    out
}

/// Text from outside must not move a terminal's cursor or worse.
pub(super) fn clean(text: &str) -> String {
    annotate_snippets::normalize_untrusted_str(text)
}

fn group<'a>(d: &'a Diagnostic, indexes: &mut Indexes<'a>) -> Group<'a> {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(clean(&d.message)).id(d.code.to_string()));
    let mut rest: Vec<(usize, &Label)> = d.labels.iter().enumerate().collect();
    while let Some(&(_, first)) = rest.first() {
        let source = &*first.span.source;
        let (here, elsewhere) = rest.into_iter().partition(|(_, l)| std::ptr::eq(&*l.span.source, source));
        rest = elsewhere;
        group = group.elements(draw(source, indexes.of(source), here));
    }
    for note in &d.notes {
        group = group.element(Level::NOTE.message(clean(note)));
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    group
}

/// All labels of one source. The label numbered 0 is the mistake itself.
fn draw<'a>(source: &'a Source, lines: &Lines<'a>, labels: Vec<(usize, &'a Label)>) -> Vec<Element<'a>> {
    let path = clean(&source.name);
    if source.text.is_empty() {
        return vec![Origin::path(path).into()];
    }
    let marks: Vec<Mark<'a>> = labels.into_iter().map(|(n, l)| Mark::new(lines, n == 0, l)).collect();
    let first = marks.iter().map(|m| m.line).min().unwrap_or(0);
    let last = marks.iter().map(|m| m.line).max().unwrap_or(0);
    let window = lines.range(first).start..lines.range(last).end;
    if window.len() <= MAX_WINDOW_BYTES && (first..=last).all(|n| lines.range(n).len() <= MAX_LINE_BYTES) {
        let text = Cow::Borrowed(&source.text[window.clone()]);
        let marks = marks.iter().map(|m| m.annotation(m.range.start - window.start..m.range.end - window.start));
        return vec![Snippet::source(text).path(path).line_start(first + 1).annotations(marks).into()];
    }
    marks.iter().flat_map(|mark| mark.alone(source, lines, &path)).collect()
}

/// A label brought down to one line.
struct Mark<'a> {
    line: usize,
    range: Range<usize>,
    text: &'a str,
    primary: bool,
}

impl<'a> Mark<'a> {
    fn new(lines: &Lines<'_>, primary: bool, label: &'a Label) -> Self {
        let Range { start, end } = place(label);
        let line = lines.line_of(start);
        let end = end.min(lines.range(line).end.max(start));
        Self { line, range: start..end, text: &label.text, primary }
    }

    fn annotation(&self, range: Range<usize>) -> Annotation<'a> {
        let kind = if self.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let label = Some(clean(self.text)).filter(|text| !text.is_empty());
        kind.span(range).label(label)
    }

    /// The mark's line by itself, cut if it is very long.
    fn alone(&self, source: &'a Source, lines: &Lines<'a>, path: &str) -> Vec<Element<'a>> {
        let line = lines.range(self.line);
        if line.len() <= MAX_LINE_BYTES {
            let range = self.range.start - line.start..self.range.end - line.start;
            let snippet = Snippet::source(&source.text[line]).path(path.to_owned()).line_start(self.line + 1);
            return vec![snippet.annotation(self.annotation(range)).into()];
        }
        let from = floor(&source.text, self.range.start.saturating_sub(KEPT_BYTES).max(line.start));
        let to = floor(&source.text, (self.range.start + KEPT_BYTES).min(line.end));
        let before = if from > line.start { "…" } else { "" };
        let after = if to < line.end { "…" } else { "" };
        let shift = |at: usize| at.clamp(from, to) - from + before.len();
        let at = lines.position(self.range.start);
        let snippet = Snippet::source(format!("{before}{}{after}", &source.text[from..to])).line_start(self.line + 1);
        vec![
            Origin::path(path.to_owned()).line(at.line).char_column(at.column).into(),
            snippet.annotation(self.annotation(shift(self.range.start)..shift(self.range.end))).into(),
        ]
    }
}
