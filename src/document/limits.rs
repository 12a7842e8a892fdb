//! The limits on a file's text and tree, so that no input can exhaust the machine that reads it.

use std::sync::Arc;

use crate::diag::{Diagnostic, Diagnostics, Source, Span, codes};

/// Of one file.
pub const MAX_BYTES: usize = 16 << 20;
/// Collections inside collections.
pub const MAX_DEPTH: usize = 64;
/// Values of one file, aliases expanded (an anchored value counts once more, for it is kept).
pub const MAX_NODES: usize = 2_000_000;
/// Bytes of all keys and strings of one file, aliases expanded.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// Aliases (`*name`) in one file.
pub const MAX_ALIASES: usize = 100_000;
/// Mistakes told of one text: whoever has more has another kind of file.
pub(super) const MAX_TOLD: usize = 50;

/// What a tree, or a part of one, takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub nodes: usize,
    pub text_bytes: usize,
}

impl Weight {
    pub fn of_text(text: &str) -> Self {
        Self { nodes: 1, text_bytes: text.len() }
    }

    pub fn plus(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, text_bytes: self.text_bytes + other.text_bytes }
    }

    pub fn since(self, earlier: Self) -> Self {
        Self { nodes: self.nodes - earlier.nodes, text_bytes: self.text_bytes - earlier.text_bytes }
    }

    pub fn fits(self) -> bool {
        self.nodes <= MAX_NODES && self.text_bytes <= MAX_TEXT_BYTES
    }
}

/// The reading of a text cannot go on: what there is to say has been said.
#[derive(Debug)]
pub(super) struct Stop;

/// Where a reader puts what it finds in one text: up to [`MAX_TOLD`], then reading stops.
pub(super) struct Report<'a> {
    pub source: Arc<Source>,
    found: &'a mut Diagnostics,
    told: usize,
}

impl<'a> Report<'a> {
    pub fn new(source: &Arc<Source>, found: &'a mut Diagnostics) -> Self {
        Self { source: source.clone(), found, told: 0 }
    }

    pub fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source.clone(), range: start..end.max(start) }
    }

    /// Whether a mistake at exactly this place was told already: what follows from it is not worth telling.
    pub fn was_told(&self, place: &Span) -> bool {
        let told = &self.found.list[self.found.list.len() - self.told..];
        told.iter().filter_map(|d| d.labels.first()).any(|l| l.span.range == place.range)
    }

    pub fn tell(&mut self, d: Diagnostic) -> Result<(), Stop> {
        self.found.push(d);
        self.told += 1;
        if self.told < MAX_TOLD { Ok(()) } else { Err(Stop) }
    }

    pub fn too_deep(&mut self, place: &Span) -> Stop {
        let d = Diagnostic::error(codes::TOO_DEEP, format!("nested deeper than {MAX_DEPTH} levels"))
            .at(place, "one level too many")
            .help("pipeline files need fewer than ten levels: look for brackets that were never closed");
        let _ = self.tell(d);
        Stop
    }

    pub fn too_much(&mut self, place: &Span) -> Stop {
        let d = Diagnostic::error(codes::TOO_MUCH, "the file holds too much")
            .at(place, "the limit is passed here")
            .note(format!(
                "the limits are {MAX_NODES} values and {} MiB of text, with every alias expanded",
                MAX_TEXT_BYTES >> 20
            ))
            .help("use `replicas` rather than many alike stages; aliases that hold aliases multiply");
        let _ = self.tell(d);
        Stop
    }

    pub fn duplicate(&mut self, key: &str, again: &Span, first: &Span) -> Result<(), Stop> {
        self.tell(
            Diagnostic::error(codes::DUPLICATE_KEY, format!("the key `{key}` is given twice"))
                .at(again, "given again here")
                .at(first, "first given here")
                .help("keep one of the two, or rename one"),
        )
    }

    pub fn number_too_large(&mut self, text: &str, place: &Span) -> Result<(), Stop> {
        self.tell(
            Diagnostic::error(codes::NUMBER_TOO_LARGE, format!("`{text}` does not fit into 64 bits"))
                .at(place, "too large a number")
                .help("write it in quotes if it is not meant to be counted with"),
        )
    }

    /// A TOML key that would add to what is already complete.
    pub fn closed(&mut self, key: &str, again: &Span, first: &Span) -> Result<(), Stop> {
        self.tell(
            Diagnostic::error(codes::DUPLICATE_KEY, format!("nothing can be added to `{key}` here"))
                .at(again, "would add to it")
                .at(first, "complete where it was given")
                .help("write all keys of a table in one place"),
        )
    }
}
