//! What the TOML parser refuses, in words that help: what is wrong at this place, and what to write.

use std::sync::Arc;

use toml_parser::{Expected, ParseError};

use super::limits::MAX_DEPTH;
use crate::diag::{Diagnostic, Source, Span, codes};

/// What the parser says of every value that it cannot read.
const UNQUOTED: &str = "string values must be quoted";

pub(super) fn explain(source: &Arc<Source>, error: &ParseError) -> Diagnostic {
    let range = match error.unexpected().or(error.context()) {
        Some(span) => span.start()..span.end(),
        None => source.text.len()..source.text.len(),
    };
    let place = Span { source: source.clone(), range };
    if error.description().contains("recurs") {
        return Diagnostic::error(codes::TOO_DEEP, format!("nested deeper than {MAX_DEPTH} levels"))
            .at(&place, "one level too many")
            .help("pipeline files need fewer than ten levels: look for brackets that were never closed");
    }
    if let Some(better) = cause(source, place.range.start, error) {
        return better;
    }
    let (message, help) = words(error.description());
    let told = Diagnostic::error(codes::TOML_SYNTAX, message).at(&place, label(error)).help(help);
    let opened = error.context().filter(|open| message.contains("never closed") && open.end() <= place.range.start);
    match opened.map(|open| Span { source: source.clone(), range: open.start()..open.end() }) {
        Some(open) => told.at(&open, "opened here"),
        None => told,
    }
}

/// The parser tells what it expected; the text around tells what was meant.
fn cause(source: &Arc<Source>, at: usize, error: &ParseError) -> Option<Diagnostic> {
    let description = error.description();
    let (before, after) = source.text.split_at(at);
    let before = before.trim_end_matches([' ', '\t']);
    let after = after.lines().next().unwrap_or("").trim_start();
    let told = |range, message: &str, label: &str, help: &str| {
        let place = Span { source: source.clone(), range };
        Some(Diagnostic::error(codes::TOML_SYNTAX, message).at(&place, label).help(help))
    };
    let colon = match description {
        "key with no value" if before.ends_with(':') => Some(before.len() - 1),
        "invalid unquoted key" if after.starts_with(':') => Some(at),
        _ => None,
    };
    if let Some(colon) = colon {
        let help = "TOML writes `key = value`; if this is YAML, name the file `.yaml`";
        return told(colon..colon + 1, "a `:` after the key", "expected `=`", help);
    }
    if before.ends_with('=') && (after.is_empty() || after.starts_with('#')) {
        let help = "write `key = value`; text goes in quotes, and `\"\"` is an empty one";
        return told(before.len() - 1..before.len(), "a key without a value", "nothing after it", help);
    }
    if matches!(description, "invalid basic string" | "invalid literal string") && after.is_empty() {
        let help = "put the missing quote on this line; text over several lines goes into three quotes on each side";
        let told = told(before.len()..at, "a quote is never closed", "the line ends here", help);
        let opened =
            error.context().map(|quote| Span { source: source.clone(), range: quote.start()..quote.start() + 1 });
        return match opened {
            Some(quote) => told.map(|d| d.at(&quote, "opened here")),
            None => told,
        };
    }
    let word = after.split(|c: char| c.is_whitespace() || ",]}#=\"'".contains(c)).next().unwrap_or("");
    if before.ends_with(['=', '[', ',']) && word.starts_with(|c: char| c.is_alphabetic() || "./~$".contains(c)) {
        let start = at + source.text[at..].find(word).unwrap_or(0);
        let help = format!("write \"{word}\"; without quotes there are only numbers, `true` and `false`");
        return told(start..start + word.len(), "text without quotes", "a word", &help);
    }
    None
}

fn label(error: &ParseError) -> String {
    if error.description() == UNQUOTED {
        return "neither a number, a boolean nor in quotes".to_owned();
    }
    let words: Vec<String> = error.expected().unwrap_or_default().iter().filter_map(expected).collect();
    match words.split_last() {
        None => "here".to_owned(),
        Some((only, [])) => format!("expected {only}"),
        Some((last, rest)) => format!("expected {} or {last}", rest.join(", ")),
    }
}

fn expected(e: &Expected) -> Option<String> {
    match e {
        Expected::Literal("\n") => Some("the end of the line".to_owned()),
        Expected::Literal(text) => Some(format!("`{text}`")),
        Expected::Description(text) => Some((*text).to_owned()),
        _ => None,
    }
}

/// Message and help.
fn words(description: &str) -> (&str, &'static str) {
    match description {
        UNQUOTED => (description, "put the value in quotes: key = \"value\""),
        "key with no value" => ("a key without `=` and a value", "write `key = value`; text goes in quotes"),
        "missing value for key" | "missing value" => {
            ("a key without a value", "write `key = value`; text goes in quotes")
        }
        "missing assignment between key-value pairs" => (description, "write `key = value`, one to a line"),
        "unexpected key or value" => (
            "something after the value",
            "put each `key = value` on a line of its own, and the whole value in one pair of quotes",
        ),
        "missing comma between array elements" | "missing comma between key-value pairs" => {
            (description, "put a `,` between them")
        }
        "unclosed array" => ("a list is never closed", "put the missing `]`"),
        "unclosed inline table" => ("a table in braces is never closed", "put the missing `}`"),
        "unclosed table" => ("a table's header is never closed", "a header is `[name]`: put the missing `]`"),
        "unclosed array table" => {
            ("a header is never closed", "a header of one of several tables is `[[name]]`: put the missing `]]`")
        }
        "extra comma in array" | "extra comma in inline table" => (description, "take the extra `,` out"),
        "unexpected leading zero" => (
            "a number that begins with 0",
            "write it without the zero, as 0o17 if it is octal, or in quotes if it is text",
        ),
        "invalid unquoted key" => (description, "keys of other characters than A-Z a-z 0-9 _ - need quotes"),
        "unquoted keys cannot be empty" => ("a key is missing", "write `key = value`"),
        "missing escaped value" => (
            "an unknown escape in double quotes",
            "write a literal backslash as `\\\\`, or use single quotes, where a backslash is only a backslash",
        ),
        d if d.contains("string") || d.contains("quote") => {
            (d, "check that the quotes are closed, on the same line unless they are triple")
        }
        d if d.contains("carriage return") => (d, "save the file with plain line ends (LF or CRLF)"),
        d if d.contains("key") => (d, "a line is `key = value`, `[table]` or a comment"),
        d => (d, "write numbers plainly, as 17 or 0.5, and text in quotes"),
    }
}
