//! What is told to a user about a mistake: where, what, why, and what to do.
//!
//! A [`Diagnostic`] is a value; the renderings (human, json, github, sarif) live beside this file.
//! Every [`Code`] is listed once in `codes/`, with the story that `nexusflow explain` tells.

pub mod codes;
mod explain;
mod github;
mod human;
mod json;
mod position;
mod render;
mod sarif;
mod suggest;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use codes::Code;
pub use explain::explain;
pub use position::{Lines, Position};
pub use render::{Format, draw, render, summary};
pub use suggest::did_you_mean;

/// One source text a diagnostic can point into. Cheap to clone; compared by identity of its name.
#[derive(Debug)]
pub struct Source {
    /// As the user named it, for instance `pipelines/duplicates.yaml`.
    pub name: String,
    pub text: String,
}

/// A stretch of bytes in one [`Source`].
#[derive(Debug, Clone)]
pub struct Span {
    pub source: Arc<Source>,
    pub range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

impl Span {
    /// Whether the two share a character, or one is an empty place inside the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (&self.range, &other.range);
        let met = match a.is_empty() || b.is_empty() {
            true => a.start <= b.end && b.start <= a.end,
            false => a.start < b.end && b.start < a.end,
        };
        met && Arc::ptr_eq(&self.source, &other.source)
    }
}

/// A place with a few words about what is there.
#[derive(Debug, Clone)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

#[derive(Debug, Clone)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// One sentence without a full stop: what is wrong.
    pub message: String,
    /// The first label is the place of the mistake; the others are what it has to do with.
    pub labels: Vec<Label>,
    /// Why it is wrong, where the message alone does not say.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: vec![], notes: vec![], help: None }
    }

    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    pub fn at(mut self, span: &Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span: span.clone(), text: text.into() });
        self
    }

    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Everything found so far: checks push into it and go on, so that all mistakes are told at once.
#[derive(Debug, Default)]
pub struct Diagnostics {
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn push(&mut self, d: Diagnostic) {
        self.list.push(d);
    }

    /// Of what was pushed since `since`, drops what lies at a place that was told to be wrong before: it is
    /// a consequence, and goes away with its cause.
    pub fn drop_consequences(&mut self, since: usize) {
        let place = |d: &Diagnostic| d.labels.first().map(|l| l.span.clone());
        let (before, after) = self.list.split_at(since.min(self.list.len()));
        let causes: Vec<Span> = before.iter().filter(|d| d.is_error()).filter_map(place).collect();
        let follows = |d: &Diagnostic| place(d).is_some_and(|at| causes.iter().any(|cause| cause.overlaps(&at)));
        let kept: Vec<Diagnostic> = after.iter().filter(|d| !follows(d)).cloned().collect();
        self.list.truncate(since);
        self.list.extend(kept);
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(Diagnostic::is_error)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
