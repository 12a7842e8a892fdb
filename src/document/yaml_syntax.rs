//! What the YAML parser refuses, in words that help: what is wrong at this place, and what to write.

use std::sync::Arc;

use granit_parser::{ErrorKind as E, ScanError};

use super::limits::MAX_DEPTH;
use crate::diag::{Diagnostic, Source, Span, codes};

pub(super) fn explain(source: &Arc<Source>, error: &ScanError) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or(0).min(source.text.len());
    if matches!(error.kind(), E::RecursionLimitExceeded) {
        return Diagnostic::error(codes::TOO_DEEP, format!("nested deeper than {MAX_DEPTH} levels"))
            .at(&one_char(source, at), "one level too many")
            .help("pipeline files need fewer than ten levels: look for brackets that were never closed");
    }
    if let Some(better) = cause(source, at, error.kind()) {
        return better;
    }
    let (message, label, help) = words(error);
    Diagnostic::error(codes::YAML_SYNTAX, message).at(&one_char(source, at), label).help(help)
}

/// The parser notices some mistakes only later; here the text before is searched for the likely cause.
fn cause(source: &Arc<Source>, at: usize, kind: &E) -> Option<Diagnostic> {
    let text = source.text.as_str();
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = text[line_start..].lines().next().unwrap_or("");
    let indentation = line.len() - line.trim_start().len();
    let told = |at: usize, message: &str, label: &str, help: &str| {
        Some(Diagnostic::error(codes::YAML_SYNTAX, message).at(&one_char(source, at), label).help(help))
    };
    if let Some(tab) = line[..indentation].find('\t') {
        let place = Span { source: source.clone(), range: line_start + tab..line_start + tab + 1 };
        return Some(
            Diagnostic::error(codes::YAML_SYNTAX, "a tab in the indentation")
                .at(&place, "a tab")
                .help("YAML indents with spaces only: put two spaces per level instead"),
        );
    }
    if text[at..].starts_with('{') && text[..at].ends_with('$') {
        return told(at - 1, "`${…}` inside brackets or braces needs quotes", "begins here", "write \"${name}\"");
    }
    if matches!(kind, E::ExpectedBlockMappingKey | E::ExpectedBlockSequenceEntry) {
        let before = text[line_start..at].trim();
        if before == "-" {
            return told(
                line_start + indentation,
                "a list item (`- `) among the keys of a mapping",
                "this dash",
                "put the list below a key of its own, indented no less than that key",
            );
        } else if !before.is_empty() {
            return told(at, "something after the value", "does not belong to it", "put the whole value in quotes");
        }
    }
    let line_before = text[..line_start].trim_end();
    if matches!(kind, E::SimpleKeyExpected)
        && [": |", ": >", ": |-", ": >-"].iter().any(|end| line_before.ends_with(end))
    {
        return told(at, "a text block without a line of text", "not indented", "indent the text more than its key");
    }
    match kind {
        E::UnknownQuotedScalarEscape => {
            let escape = text[at..].match_indices('\\').map(|(n, _)| at + n).find(|&n| {
                let next = text[n + 1..].chars().next().unwrap_or('\\');
                !"0abtnvfre \"/\\N_LPxuU\t\r\n".contains(next) && !text[..n].ends_with('\\')
            });
            told(
                escape.unwrap_or(at),
                "an unknown escape in double quotes",
                "not an escape",
                "write a literal backslash as `\\\\`, or use single quotes, where a backslash is only a backslash",
            )
        }
        E::MappingValueNotAllowed | E::SimpleKeyExpected | E::InvalidSimpleKey => {
            let colon = missing_space(text, line_start)?;
            told(colon, "a space is missing after the colon", "this colon", "write `key: value`")
        }
        E::InvalidColonPlacement
        | E::MappingKeyNotAllowed
        | E::InvalidFlowScalarIndent
        | E::InvalidQuotedScalarIndent
        | E::ExpectedFlowMappingSeparator
        | E::ExpectedFlowSequenceSeparator => {
            let (open, bracket) = still_open(text, line_start)?;
            Some(
                told(
                    open,
                    &format!("`{bracket}` is never closed"),
                    "opened here",
                    "close it on the same line, or indent all lines up to its end",
                )?
                .at(&one_char(source, at), "reading stopped here"),
            )
        }
        _ => None,
    }
}

/// The colon of a `key:value` that stands alone on this line or on the one before it.
fn missing_space(text: &str, line_start: usize) -> Option<usize> {
    let before = text[..line_start].trim_end();
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    for (at, line) in [(start, &before[start..]), (line_start, text[line_start..].lines().next().unwrap_or(""))] {
        let key = line.trim_start();
        let colon = key.find(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c));
        if let Some(n) = colon
            && n > 0
            && key[n..].starts_with(':')
            && key[n + 1..].starts_with(|c: char| !c.is_whitespace() && c != ':')
            && !key.contains(": ")
        {
            return Some(at + (line.len() - key.len()) + n);
        }
    }
    None
}

/// The quote or bracket that is still open where a line begins, seen over the lines just above it.
fn still_open(text: &str, line_start: usize) -> Option<(usize, char)> {
    const LOOK_BACK_BYTES: usize = 4096;
    let from =
        text[..line_start].char_indices().rev().find(|(n, _)| line_start - n >= LOOK_BACK_BYTES).map_or(0, |(n, _)| n);
    let mut open: Vec<(usize, char)> = vec![];
    let mut quote: Option<(usize, char)> = None;
    let mut before = '\n';
    for (n, c) in text[from..line_start].char_indices() {
        match (quote, c) {
            (Some((_, q)), c) if c == q && before != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if " \n[{,:".contains(before) => quote = Some((from + n, c)),
            (None, '[' | '{') if !open.is_empty() || " \n-".contains(before) => open.push((from + n, c)),
            (None, ']' | '}') => drop(open.pop()),
            _ => {}
        }
        before = c;
    }
    quote.or(open.pop())
}

/// Message, label and help.
fn words(error: &ScanError) -> (String, &'static str, String) {
    let plain = |message: &str, label, help: &str| (message.to_owned(), label, help.to_owned());
    match error.kind() {
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabInPlainScalar
        | E::TabAtBlockScalarStart => plain("a tab where only spaces may stand", "tab", "put spaces instead"),
        E::UnexpectedEofFlowSequence | E::ExpectedFlowSequenceSeparator => plain(
            "a list in brackets is not finished",
            "`,` or `]` expected here",
            "put a `,` between the items and a `]` at the end; an item with `, [ ] { } :` or `#` in it needs quotes",
        ),
        E::UnexpectedEofFlowMapping | E::UnexpectedEofImplicitFlowMapping | E::ExpectedFlowMappingSeparator => plain(
            "a mapping in braces is not finished",
            "`,` or `}` expected here",
            "put a `,` between the entries and a `}` at the end; a value with `, [ ] { }` in it, such as `${name}`, needs quotes",
        ),
        E::UnclosedFlowCollection { open } => {
            let close = if *open == '[' { ']' } else { '}' };
            (format!("`{open}` is never closed"), "opened here", format!("put the missing `{close}`"))
        }
        E::MismatchedFlowCollectionEnd { open, close } => {
            (format!("`{open}` is closed by `{close}`"), "does not fit", "make the brackets match".to_owned())
        }
        E::MisplacedFlowCollectionEnd => plain(
            "a closing bracket without its opening one",
            "closes nothing",
            "take it out, or put the text in quotes",
        ),
        E::UnclosedQuotedScalar => plain(
            "a quote is never closed",
            "opened here",
            "put the missing quote; a quote inside quotes is written \\\" or, in single quotes, ''",
        ),
        E::InvalidTrailingDoubleQuotedScalar | E::InvalidTrailingSingleQuotedScalar => plain(
            "text after a closing quote",
            "does not belong to the value",
            "put the whole value in one pair of quotes: 'say \"hello\" twice'",
        ),
        E::UnknownQuotedScalarEscape | E::InvalidQuotedScalarHexEscape | E::InvalidUnicodeEscape => plain(
            "an unknown escape in double quotes",
            "not an escape",
            "write a literal backslash as `\\\\`, or use single quotes, where a backslash is only a backslash",
        ),
        E::InvalidQuotedScalarIndent | E::InvalidFlowScalarIndent => plain(
            "a value goes on in a line that is indented too little",
            "too far left",
            "indent it more than the key it belongs to, and check that the quote or bracket is closed",
        ),
        E::MappingValueNotAllowed => plain(
            "a `:` where no key can stand",
            "this colon",
            "put a value that contains `: ` in quotes; if it is a key, give it a line of its own, indented like its neighbours",
        ),
        E::MappingKeyNotAllowed | E::InvalidColonPlacement => {
            plain("no key can stand here", "here", "give each key a line of its own, indented like its neighbours")
        }
        E::FlowMappingValueAdjacentCollection | E::InvalidMappingValueWhitespace => {
            plain("a space is missing after the colon", "here", "write `key: value`")
        }
        E::InvalidBlockEntryWhitespace => plain("a space is missing after the dash", "here", "write `- item`"),
        E::SimpleKeyExpected | E::InvalidSimpleKey => plain(
            "a key without a `:` after it",
            "a key was expected to end in `:` here",
            "write `key: value`, with a space after the colon; text over several lines needs `|` or quotes",
        ),
        E::ExpectedBlockMappingKey => plain(
            "this line fits no mapping that is open",
            "expected a key, indented like its neighbours",
            "indent the keys of one mapping by the same number of spaces",
        ),
        E::ExpectedBlockSequenceEntry => plain(
            "this line fits no list that is open",
            "expected `- `, indented like its neighbours",
            "indent the items of one list by the same number of spaces; keys that follow the list go back to their mapping's indentation",
        ),
        E::BlockSequenceEntryNotAllowed | E::BlockEntryInFlowCollection => plain(
            "a list item (`- `) cannot stand here",
            "here",
            "start the list on a line of its own below the key, or write it in brackets: [a, b]",
        ),
        E::InvalidIndentation => {
            plain("the indentation fits nothing above", "here", "indent like a line above, or deeper")
        }
        E::InvalidBlockScalarIndent | E::InvalidBlockScalarHeader | E::ZeroBlockScalarIndent => plain(
            "a text block (`|` or `>`) is badly begun or indented",
            "here",
            "write `key: |` alone on its line, and indent all lines of the text below it alike",
        ),
        E::CommentNotSeparated => plain(
            "a space is missing before `#`",
            "here",
            "put a space before the comment; a value with `#` in it needs quotes",
        ),
        E::CommentInterceptedScalar => plain(
            "a comment in the middle of a text of several lines",
            "here",
            "move the comment, or put the text in quotes",
        ),
        E::MissingAnchorOrAliasName => plain(
            "`&` or `*` without a name",
            "here",
            "put the value in quotes if it begins with `*` or `&`, as a glob such as \"*.txt\" does",
        ),
        E::UnexpectedCharacter { character } if character.is_control() => (
            "a control character in the text".to_owned(),
            "here",
            format!(
                "take it out; where it is meant, write it as an escape in double quotes: \"\\x{:02x}\"",
                *character as u32
            ),
        ),
        E::UnexpectedCharacter { character: '`' } => {
            plain("no value can begin with a backtick", "here", "put the value in quotes")
        }
        E::UnexpectedCharacter { character } => {
            (format!("no value can begin with `{character}`"), "here", "put the value in quotes".to_owned())
        }
        E::UndeclaredTagHandle
        | E::MissingTagUri
        | E::InvalidGlobalTagCharacter
        | E::ExpectedTagBang
        | E::InvalidTagTerminator => {
            plain("an unknown tag", "a `!` begins a tag", "put the value in quotes if it begins with `!`")
        }
        E::BomInsideDocument => {
            plain("a byte order mark inside the text", "here", "take it out: it comes from joining files")
        }
        E::ExpectedDocumentStart | E::InvalidDocumentEnd => plain(
            "text that belongs to nothing above",
            "here",
            "check the indentation: all top keys start in the first column",
        ),
        _ => (error.kind().to_string(), "here", "if this is part of a value, put the whole value in quotes".to_owned()),
    }
}

fn one_char(source: &Arc<Source>, at: usize) -> Span {
    let end = source.text[at..].chars().next().filter(|c| !c.is_control()).map_or(at, |c| at + c.len_utf8());
    Span { source: source.clone(), range: at..end }
}
