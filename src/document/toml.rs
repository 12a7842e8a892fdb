//! TOML → tree: the parser's events become tables, which become nodes. Headers and dotted keys may add
//! to a table from several places, so tables stay open, numbered, until the text has ended.

use std::collections::HashMap;
use std::num::IntErrorKind;
use std::sync::Arc;

use toml_parser::decoder::ScalarKind;
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};

use super::limits::{MAX_DEPTH, MAX_TOLD, Report, Stop, Weight};
use super::{Entry, Mapping, Node, Value, toml_syntax};
use crate::diag::{Diagnostic, Diagnostics, Source, Span, codes};

/// Tokens of one file. A real file of 16 MiB has about half as many.
const MAX_TOKENS: usize = 8_000_000;

pub(super) fn parse(source: &Arc<Source>, found: &mut Diagnostics) -> Option<Node> {
    let mut report = Report::new(source, found);
    let toml = toml_parser::Source::new(&source.text);
    let tokens = lex(toml, &mut report).ok()?;
    let mut errors = Errors::default();
    let mut events = Vec::with_capacity(tokens.len());
    let mut receiver = ValidateWhitespace::new(&mut events, toml);
    let mut receiver = RecursionGuard::new(&mut receiver, MAX_DEPTH as u32);
    parse_document(&tokens, &mut receiver, &mut |e| errors.push(e));
    drop(tokens);

    let mut tables = Tables { report, toml, errors, list: vec![], weight: Weight::default() };
    let root = if tables.errors.0.is_empty() { tables.document(&events) } else { Err(Stop) };
    if !tables.errors.0.is_empty() {
        tables.decode(&events);
    }
    let Tables { mut report, mut errors, list, .. } = tables;
    // One mistake makes several errors: the first of each line is the one that helps.
    let place = |e: &toml_parser::ParseError| e.unexpected().map_or(source.text.len(), |span| span.start());
    errors.0.sort_by_key(place);
    errors.0.dedup_by(|later, first| !source.text[place(first)..place(later)].contains('\n'));
    for error in &errors.0 {
        report.tell(toml_syntax::explain(source, error)).ok()?;
    }
    root.ok().filter(|_| errors.0.is_empty()).map(|()| {
        let mut list: Vec<Option<Table>> = list.into_iter().map(Some).collect();
        into_node(&mut list, 0)
    })
}

/// The first of the parser's errors.
#[derive(Default)]
struct Errors(Vec<toml_parser::ParseError>);

impl Errors {
    fn push(&mut self, error: toml_parser::ParseError) {
        if self.0.len() < MAX_TOLD {
            self.0.push(error);
        }
    }
}

/// All tokens; stops at brackets that are far too deep, before they cost memory.
fn lex(toml: toml_parser::Source<'_>, report: &mut Report<'_>) -> Result<Vec<Token>, Stop> {
    let mut tokens = Vec::new();
    let mut depth = 0;
    let mut line_is_header = false;
    let mut line_is_blank = true;
    for token in toml.lex() {
        let place = |report: &Report<'_>| report.span(token.span().start(), token.span().end());
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                line_is_header |= line_is_blank && depth == 0;
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(report.too_deep(&place(report)));
                }
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            // A header that lacks its bracket ends with its line.
            TokenKind::Newline if line_is_header => depth = 0,
            _ => {}
        }
        match token.kind() {
            TokenKind::Newline => (line_is_blank, line_is_header) = (true, false),
            TokenKind::Whitespace => {}
            _ => line_is_blank = false,
        }
        if tokens.len() >= MAX_TOKENS {
            return Err(report.too_much(&place(report)));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// How a table came to be: it decides who may still add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Named on the way in a header: a header of its own may follow.
    OnTheWay,
    /// By `[its.own]` header.
    Header,
    /// By a dotted key: more dotted keys may follow, a header may not.
    Dotted,
}

struct Table {
    made: Made,
    span: Span,
    depth: usize,
    entries: Vec<(String, Span, Item)>,
    index: HashMap<String, usize>,
}

enum Item {
    Value(Node),
    /// By its number in [`Tables::list`].
    Table(usize),
    /// `[[name]]`, by their numbers.
    Tables(Vec<usize>),
}

type Key = (String, Span);

struct Tables<'a, 's> {
    report: Report<'a>,
    toml: toml_parser::Source<'s>,
    errors: Errors,
    list: Vec<Table>,
    weight: Weight,
}

impl Tables<'_, '_> {
    fn document(&mut self, events: &[Event]) -> Result<(), Stop> {
        let text_end = self.report.source.text.trim_end().len();
        let start = events.iter().find(|e| !is_blank(e)).map_or(text_end, |e| e.span().start());
        let span = self.report.span(start.min(text_end), text_end);
        let root = self.new_table(Made::Header, span, 0)?;
        let mut current = Some(root);
        let mut events = events.iter().filter(|e| !is_blank(e)).peekable();
        while let Some(event) = events.next() {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                    let mut path = vec![];
                    let mut end = event.span().end();
                    for e in events.by_ref() {
                        end = e.span().end();
                        match e.kind() {
                            EventKind::SimpleKey => path.push(self.key(e)?),
                            EventKind::StdTableClose | EventKind::ArrayTableClose => break,
                            _ => {}
                        }
                    }
                    let span = self.report.span(event.span().start(), end);
                    current = self.header(root, path, span, event.kind() == EventKind::ArrayTableOpen)?;
                }
                EventKind::SimpleKey => {
                    let depth = current.map_or(0, |t| self.list[t].depth);
                    let (path, value) = self.assignment(event, &mut events, depth)?;
                    if let Some(table) = current {
                        self.assign(table, path, value)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Of a text with syntax errors: what is wrong inside its keys and scalars, so that it is told as well.
    fn decode(&mut self, events: &[Event]) {
        let errors = &mut self.errors;
        for event in events {
            let Some(raw) = self.toml.get(event) else { continue };
            let mut text = std::borrow::Cow::Borrowed("");
            match event.kind() {
                EventKind::SimpleKey => raw.decode_key(&mut text, &mut |e| errors.push(e)),
                EventKind::Scalar => _ = raw.decode_scalar(&mut text, &mut |e| errors.push(e)),
                _ => {}
            }
        }
    }

    /// `a.b = value`, of which the first key has been read.
    fn assignment<'e>(
        &mut self,
        first: &Event,
        events: &mut (impl Iterator<Item = &'e Event> + Clone),
        depth: usize,
    ) -> Result<(Vec<Key>, Node), Stop> {
        let mut path = vec![self.key(first)?];
        for event in events.by_ref() {
            match event.kind() {
                EventKind::SimpleKey => path.push(self.key(event)?),
                EventKind::KeyValSep => break,
                _ => {}
            }
        }
        if depth + path.len() > MAX_DEPTH {
            return Err(self.report.too_deep(&path[path.len() - 1].1));
        }
        let depth = depth + path.len();
        let Some(event) = events.next() else { return Err(Stop) };
        Ok((path, self.value(event, events, depth)?))
    }

    /// The value that begins with `event`, inside `depth` tables and arrays.
    fn value<'e>(
        &mut self,
        event: &Event,
        events: &mut (impl Iterator<Item = &'e Event> + Clone),
        depth: usize,
    ) -> Result<Node, Stop> {
        let start = event.span().start();
        let open = self.report.span(start, event.span().end());
        let collection = matches!(event.kind(), EventKind::ArrayOpen | EventKind::InlineTableOpen);
        if collection && depth >= MAX_DEPTH {
            return Err(self.report.too_deep(&open));
        }
        match event.kind() {
            EventKind::ArrayOpen => {
                self.charge(Weight { nodes: 1, text_bytes: 0 }, &open)?;
                let mut items = vec![];
                while let Some(event) = events.next() {
                    match event.kind() {
                        EventKind::ArrayClose => {
                            let span = self.report.span(start, event.span().end());
                            return Ok(Node { span, value: Value::List(items) });
                        }
                        EventKind::ValueSep => {}
                        _ => items.push(self.value(event, events, depth + 1)?),
                    }
                }
                Err(Stop)
            }
            EventKind::InlineTableOpen => {
                let first = self.list.len();
                let table = self.new_table(Made::Header, open, depth)?;
                while let Some(event) = events.next() {
                    match event.kind() {
                        EventKind::InlineTableClose => {
                            self.list[table].span = self.report.span(start, event.span().end());
                            // Nothing may add to it any more: it becomes a value at once.
                            let mut parts: Vec<Option<Table>> = self.list.drain(first..).map(Some).collect();
                            return Ok(into_node_from(&mut parts, first, table));
                        }
                        EventKind::SimpleKey => {
                            let (path, value) = self.assignment(event, events, depth)?;
                            self.assign(table, path, value)?;
                        }
                        _ => {}
                    }
                }
                Err(Stop)
            }
            _ => self.scalar(event, open),
        }
    }

    fn scalar(&mut self, event: &Event, span: Span) -> Result<Node, Stop> {
        let mut text = std::borrow::Cow::Borrowed("");
        let Some(raw) = self.toml.get(event) else { return Err(Stop) };
        let errors = &mut self.errors;
        let kind = raw.decode_scalar(&mut text, &mut |e| errors.push(e));
        self.charge(Weight::of_text(&text), &span)?;
        let value = match kind {
            ScalarKind::Boolean(b) => Value::Bool(b),
            ScalarKind::Float => match text.parse::<f64>() {
                Ok(x) if x.is_infinite() && !text.contains("inf") => self.too_large(raw.as_str(), &span)?,
                Ok(x) => Value::Float(x),
                Err(_) => self.not_a_number(raw.as_str(), &span)?,
            },
            ScalarKind::Integer(radix) => match i64::from_str_radix(&text, radix.value()) {
                Ok(n) => Value::Int(n),
                Err(e) if matches!(e.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => {
                    self.too_large(raw.as_str(), &span)?
                }
                Err(_) => self.not_a_number(raw.as_str(), &span)?,
            },
            ScalarKind::DateTime => {
                self.report.tell(
                    Diagnostic::error(codes::DATE, "no key of a pipeline takes a date")
                        .at(&span, "a TOML date or time")
                        .help("write it in quotes to make it a string"),
                )?;
                Value::String(text.into_owned())
            }
            ScalarKind::String => Value::String(text.into_owned()),
        };
        Ok(Node { span, value })
    }

    fn too_large(&mut self, text: &str, span: &Span) -> Result<Value, Stop> {
        self.report.number_too_large(text, span).map(|()| Value::Int(0))
    }

    /// Also where the decoder saw nothing wrong: it looks at some digits only.
    fn not_a_number(&mut self, text: &str, span: &Span) -> Result<Value, Stop> {
        if self.errors.0.is_empty() {
            self.report.tell(
                Diagnostic::error(codes::TOML_SYNTAX, format!("`{text}` is not a number"))
                    .at(span, "begins like one")
                    .help("text goes in quotes"),
            )?;
        }
        Ok(Value::Int(0))
    }

    fn key(&mut self, event: &Event) -> Result<Key, Stop> {
        let span = self.report.span(event.span().start(), event.span().end());
        let mut text = std::borrow::Cow::Borrowed("");
        let Some(raw) = self.toml.get(event) else { return Err(Stop) };
        let errors = &mut self.errors;
        raw.decode_key(&mut text, &mut |e| errors.push(e));
        if !self.errors.0.is_empty() {
            return Err(Stop);
        }
        self.charge(Weight { nodes: 0, text_bytes: text.len() }, &span)?;
        Ok((text.into_owned(), span))
    }

    fn new_table(&mut self, made: Made, span: Span, depth: usize) -> Result<usize, Stop> {
        if depth >= MAX_DEPTH {
            return Err(self.report.too_deep(&span));
        }
        self.charge(Weight { nodes: 1, text_bytes: 0 }, &span)?;
        self.list.push(Table { made, span, depth, entries: vec![], index: HashMap::new() });
        Ok(self.list.len() - 1)
    }

    fn charge(&mut self, weight: Weight, span: &Span) -> Result<(), Stop> {
        self.weight = self.weight.plus(weight);
        if self.weight.fits() { Ok(()) } else { Err(self.report.too_much(span)) }
    }

    fn find(&self, table: usize, key: &str) -> Option<usize> {
        self.list[table].index.get(key).copied()
    }

    fn insert(&mut self, table: usize, (key, span): Key, item: Item) {
        let table = &mut self.list[table];
        table.index.insert(key.clone(), table.entries.len());
        table.entries.push((key, span, item));
    }

    /// The table that a key on the way leads to: made if it is missing, `None` (and told) if it cannot be entered.
    fn descend(&mut self, table: usize, key: &Key, made: Made) -> Result<Option<usize>, Stop> {
        let Some(at) = self.find(table, &key.0) else {
            let child = self.new_table(made, key.1.clone(), self.list[table].depth + 1)?;
            self.insert(table, key.clone(), Item::Table(child));
            return Ok(Some(child));
        };
        let (_, first, item) = &self.list[table].entries[at];
        let child = match item {
            Item::Table(child) => Some(*child),
            Item::Tables(children) if made == Made::OnTheWay => children.last().copied(),
            _ => None,
        };
        match child {
            // Dotted keys add only to what no header has made.
            Some(child) if made == Made::OnTheWay || self.list[child].made != Made::Header => Ok(Some(child)),
            _ => {
                let first = first.clone();
                self.report.closed(&key.0, &key.1, &first).map(|()| None)
            }
        }
    }

    /// `[path]` or `[[path]]`: the table that the following keys go to.
    fn header(&mut self, root: usize, mut path: Vec<Key>, span: Span, many: bool) -> Result<Option<usize>, Stop> {
        let Some(last) = path.pop() else { return Ok(None) };
        let mut table = root;
        for key in &path {
            match self.descend(table, key, Made::OnTheWay)? {
                Some(child) => table = child,
                None => return Ok(None),
            }
        }
        let depth = self.list[table].depth + 1;
        let Some(at) = self.find(table, &last.0) else {
            let child = self.new_table(Made::Header, span, depth)?;
            self.insert(table, last, if many { Item::Tables(vec![child]) } else { Item::Table(child) });
            return Ok(Some(child));
        };
        match &self.list[table].entries[at].2 {
            Item::Table(child) if !many && self.list[*child].made == Made::OnTheWay => {
                let child = *child;
                self.list[child].made = Made::Header;
                self.list[child].span = span;
                Ok(Some(child))
            }
            Item::Tables(_) if many => {
                let child = self.new_table(Made::Header, span, depth)?;
                if let Item::Tables(children) = &mut self.list[table].entries[at].2 {
                    children.push(child);
                }
                Ok(Some(child))
            }
            _ => {
                let first = self.list[table].entries[at].1.clone();
                self.report.duplicate(&last.0, &last.1, &first).map(|()| None)
            }
        }
    }

    fn assign(&mut self, mut table: usize, mut path: Vec<Key>, value: Node) -> Result<(), Stop> {
        let Some(last) = path.pop() else { return Ok(()) };
        for key in &path {
            match self.descend(table, key, Made::Dotted)? {
                Some(child) => table = child,
                None => return Ok(()),
            }
        }
        match self.find(table, &last.0) {
            None => {
                self.insert(table, last, Item::Value(value));
                Ok(())
            }
            Some(at) => {
                let first = self.list[table].entries[at].1.clone();
                self.report.duplicate(&last.0, &last.1, &first)
            }
        }
    }
}

fn is_blank(event: &Event) -> bool {
    matches!(event.kind(), EventKind::Whitespace | EventKind::Comment | EventKind::Newline)
}

/// A finished table as a node. Each table is reached once; the recursion is bounded by the depth limit.
fn into_node(list: &mut [Option<Table>], table: usize) -> Node {
    into_node_from(list, 0, table)
}

/// As [`into_node`], for a list whose first table has the number `first`.
fn into_node_from(list: &mut [Option<Table>], first: usize, table: usize) -> Node {
    let table = list[table - first].take().expect("a table has one parent");
    let entries = table.entries.into_iter().map(|(key, key_span, item)| {
        let value = match item {
            Item::Value(node) => node,
            Item::Table(child) => into_node_from(list, first, child),
            Item::Tables(children) => {
                let items: Vec<Node> = children.into_iter().map(|c| into_node_from(list, first, c)).collect();
                Node { span: key_span.clone(), value: Value::List(items) }
            }
        };
        Entry { key, key_span, value }
    });
    let entries = entries.collect();
    Node { span: table.span, value: Value::Map(Mapping { entries }) }
}
