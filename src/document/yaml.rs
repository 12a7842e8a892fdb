//! YAML → tree: events of the parser become nodes; anchors, aliases and merge keys are expanded here.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};

use super::limits::{MAX_ALIASES, MAX_DEPTH, Report, Stop, Weight};
use super::scalar::resolve_plain;
use super::{Entry, Mapping, Node, Value, yaml_syntax};
use crate::diag::{Diagnostic, Diagnostics, Source, Span, codes};

/// YAML's own limit is 1024 characters for a key on one line.
const MAX_KEY_CHARS: usize = 1024;

pub(super) fn parse(source: &Arc<Source>, found: &mut Diagnostics) -> Option<Node> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.simple_key_max_lookahead = MAX_KEY_CHARS;

    let mut builder = Builder::new(Report::new(source, found));
    for event in Parser::new_from_str_with_options(&source.text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(e) => {
                let told = yaml_syntax::explain(&builder.report.source, &e);
                let _ = builder.report.tell(told);
                Err(Stop)
            }
        };
        if step.is_err() {
            return None;
        }
        if builder.documents > 1 {
            break;
        }
    }
    let end = builder.report.span(source.text.len(), source.text.len());
    Some(builder.root.unwrap_or(Node { span: end, value: Value::Null }))
}

/// A collection whose end has not come yet.
struct Frame {
    kind: Open,
    start: usize,
    /// The anchor it is to be kept under; 0 is none.
    anchor: usize,
    before: Weight,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, merges: Vec<Merge>, key: Option<Key> },
}

/// The key whose value comes next.
enum Key {
    Named(String, Span),
    Merge(Span),
    /// It was refused (and said so): its value is read and forgotten.
    Refused,
}

struct Merge {
    /// How many entries stood before it.
    at: usize,
    key_span: Span,
    maps: Vec<Mapping>,
}

struct Builder<'a> {
    report: Report<'a>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, Weight)>,
    aliases: usize,
    weight: Weight,
    /// Where the last scalar, alias or closing bracket ended.
    content_end: usize,
    documents: usize,
    root: Option<Node>,
}

impl<'a> Builder<'a> {
    fn new(report: Report<'a>) -> Self {
        Self {
            report,
            stack: vec![],
            anchors: HashMap::new(),
            aliases: 0,
            weight: Weight::default(),
            content_end: 0,
            documents: 0,
            root: None,
        }
    }

    fn event(&mut self, event: Event<'_>, at: granit_parser::Span) -> Result<(), Stop> {
        let start = at.start.byte_offset().unwrap_or(0);
        let end = at.end.byte_offset().unwrap_or(start);
        let span = self.report.span(start, end);
        if matches!(event, Event::Scalar(..) | Event::Alias(_) | Event::UnresolvedAlias(_)) {
            self.content_end = end;
        }
        match event {
            Event::DocumentStart(..) => self.document(span),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), span),
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "seq", &span)?;
                self.open(Open::List(vec![]), anchor, &span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag.as_deref(), "map", &span)?;
                self.open(Open::Map { entries: vec![], merges: vec![], key: None }, anchor, &span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(&span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                // Nobody names an anchor so: it was meant as text.
                let message = match name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
                    true => format!("no anchor `&{name}` stands before this alias"),
                    false => format!("`*` begins an alias, and no anchor `&{name}` stands before it"),
                };
                self.report
                    .tell(Diagnostic::error(codes::UNKNOWN_ALIAS, message).at(&span, "refers to nothing").help(
                    "an anchor must come before its first use; write the value in quotes if the `*` is meant literally",
                ))?;
                self.place(Node { span, value: Value::Null })
            }
            _ => Ok(()),
        }
    }

    fn document(&mut self, span: Span) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        self.report.tell(
            Diagnostic::error(codes::SEVERAL_DOCUMENTS, "the file holds more than one YAML document")
                .at(&span, "a second document begins here")
                .help("one file is one pipeline: move the rest to a file of its own, or take out the `---`"),
        )
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Stop> {
        self.charge(Weight::of_text(text), &span)?;
        let plain = style == ScalarStyle::Plain;
        if plain
            && text == "<<"
            && tag.is_none()
            && let Some(Frame { kind: Open::Map { key: key @ None, .. }, .. }) = self.stack.last_mut()
        {
            *key = Some(Key::Merge(span));
            return Ok(());
        }
        let value = match (self.scalar_tag(tag, &span)?, plain) {
            (Some("str"), _) => Value::String(text.to_owned()),
            (None, false) => Value::String(text.to_owned()),
            (None, true) => self.plain(text, &span)?,
            (Some(kind), _) => self.tagged(text, kind, &span)?,
        };
        let node = Node { span, value };
        self.keep(anchor, &node, Weight::of_text(text))?;
        self.place(node)
    }

    fn plain(&mut self, text: &str, span: &Span) -> Result<Value, Stop> {
        match resolve_plain(text) {
            Ok(value) => Ok(value),
            // As a key it is only text.
            Err(()) if self.wants_key() => Ok(Value::String(text.to_owned())),
            Err(()) => {
                self.report.number_too_large(text, span)?;
                Ok(Value::Int(0))
            }
        }
    }

    /// A scalar under one of the core schema's tags but `!!str`.
    fn tagged(&mut self, text: &str, kind: &str, span: &Span) -> Result<Value, Stop> {
        let value = match (kind, self.plain(text, span)?) {
            ("float", Value::Int(n)) => Some(Value::Float(n as f64)),
            (_, value) => {
                let is = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "bool",
                    Value::Int(_) => "int",
                    Value::Float(_) => "float",
                    _ => "str",
                };
                (is == kind).then_some(value)
            }
        };
        match value {
            Some(value) => Ok(value),
            None => {
                self.report.tell(
                    Diagnostic::error(codes::TAG, format!("`{text}` is not what its tag `!!{kind}` says"))
                        .at(span, format!("not of the kind `{kind}`"))
                        .help("take the tag out"),
                )?;
                Ok(Value::Null)
            }
        }
    }

    /// The core kind that a scalar's tag names; `None` where the text itself decides.
    fn scalar_tag<'t>(&mut self, tag: Option<&'t Tag>, span: &Span) -> Result<Option<&'t str>, Stop> {
        let Some(tag) = tag else { return Ok(None) };
        match tag.core_suffix() {
            Some("map" | "seq") | None if tag.original() == "!" => Ok(Some("str")),
            Some(kind) if kind != "map" && kind != "seq" => Ok(Some(kind)),
            _ => self.refuse_tag(tag, span).map(|()| None),
        }
    }

    fn collection_tag(&mut self, tag: Option<&Tag>, kind: &str, span: &Span) -> Result<(), Stop> {
        match tag {
            Some(tag) if tag.original() != "!" && tag.core_suffix() != Some(kind) => self.refuse_tag(tag, span),
            _ => Ok(()),
        }
    }

    fn refuse_tag(&mut self, tag: &Tag, span: &Span) -> Result<(), Stop> {
        let tag = tag.original();
        self.report.tell(
            Diagnostic::error(codes::TAG, format!("the tag `{tag}` means nothing here"))
                .at(span, "this value has the tag")
                .note(
                    "only the tags of YAML's core schema are read: !!str, !!int, !!float, !!bool, !!null, !!map, !!seq",
                )
                .help("take the tag out; put the value in quotes if the `!` is part of it"),
        )
    }

    fn open(&mut self, kind: Open, anchor: usize, span: &Span) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.report.too_deep(span));
        }
        let before = self.weight;
        self.charge(Weight { nodes: 1, text_bytes: 0 }, span)?;
        self.stack.push(Frame { kind, start: span.range.start, anchor, before });
        Ok(())
    }

    fn close(&mut self, end_span: &Span) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        // A block collection ends where its last value does; its end event comes with whatever follows.
        if self.report.source.text[end_span.range.clone()].ends_with([']', '}']) {
            self.content_end = end_span.range.end;
        }
        let value = match frame.kind {
            Open::List(items) => Value::List(items),
            Open::Map { entries, merges, .. } => Value::Map(self.finish_map(entries, merges)?),
        };
        let node = Node { span: self.report.span(frame.start, self.content_end), value };
        let weight = self.weight.since(frame.before);
        self.keep(frame.anchor, &node, weight)?;
        self.place(node)
    }

    /// Merged keys take the place of their `<<`; what a mapping says itself wins, then the earlier merge.
    fn finish_map(&mut self, entries: Vec<Entry>, merges: Vec<Merge>) -> Result<Mapping, Stop> {
        let mut seen: HashMap<&str, &Span> = HashMap::with_capacity(entries.len());
        let mut again = vec![];
        for (i, entry) in entries.iter().enumerate() {
            match seen.entry(&entry.key) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    self.report.duplicate(&entry.key, &entry.key_span, first.get())?;
                    again.push(i);
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(&entry.key_span);
                }
            }
        }
        if let [first, second, ..] = merges.as_slice() {
            self.report.tell(
                Diagnostic::error(codes::DUPLICATE_KEY, "the key `<<` is given twice")
                    .at(&second.key_span, "given again here")
                    .at(&first.key_span, "first given here")
                    .help("merge several mappings with one list: `<<: [*first, *second]`"),
            )?;
        }
        if merges.is_empty() && again.is_empty() {
            return Ok(Mapping { entries });
        }
        let mut names: std::collections::HashSet<String> = seen.into_keys().map(str::to_owned).collect();
        let mut out = Vec::with_capacity(entries.len());
        let mut merges = merges.into_iter().peekable();
        for (i, entry) in entries.into_iter().map(Some).chain([None]).enumerate() {
            while let Some(merge) = merges.next_if(|m| m.at <= i) {
                for merged in merge.maps.into_iter().flat_map(|m| m.entries) {
                    if names.insert(merged.key.clone()) {
                        out.push(merged);
                    }
                }
            }
            out.extend(entry.filter(|_| !again.contains(&i)));
        }
        Ok(Mapping { entries: out })
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            self.report.tell(
                Diagnostic::error(codes::TOO_MANY_ALIASES, format!("more than {MAX_ALIASES} aliases"))
                    .at(&span, "one too many")
                    .help("use `defaults` for what all stages share, and `replicas` for stages that are alike"),
            )?;
            return Err(Stop);
        }
        let Some((node, weight)) = self.anchors.get(&id) else {
            self.report.tell(
                Diagnostic::error(codes::RECURSIVE_ALIAS, "an alias inside the very value that it refers to")
                    .at(&span, "would contain itself")
                    .help("a pipeline is a finite tree: name another anchor, or write the value out"),
            )?;
            return self.place(Node { span, value: Value::Null });
        };
        let total = self.weight.plus(*weight);
        if !total.fits() {
            return Err(self.report.too_much(&span));
        }
        self.weight = total;
        if depth(node) + self.stack.len() > MAX_DEPTH {
            return Err(self.report.too_deep(&span));
        }
        if let Some(Frame { kind: Open::Map { key: Some(Key::Merge(_)), .. }, .. }) = self.stack.last() {
            let value = node.value.clone();
            return self.place(Node { span, value });
        }
        let node = node.clone();
        self.place(node)
    }

    fn keep(&mut self, anchor: usize, node: &Node, weight: Weight) -> Result<(), Stop> {
        if anchor == 0 {
            return Ok(());
        }
        self.charge(weight, &node.span)?;
        self.anchors.insert(anchor, (node.clone(), weight));
        Ok(())
    }

    fn charge(&mut self, weight: Weight, span: &Span) -> Result<(), Stop> {
        self.weight = self.weight.plus(weight);
        if self.weight.fits() { Ok(()) } else { Err(self.report.too_much(span)) }
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { kind: Open::Map { key: None, .. }, .. }))
    }

    /// Puts a finished node where it belongs: the root, a list, or a mapping's key or value.
    fn place(&mut self, node: Node) -> Result<(), Stop> {
        if self.wants_key() {
            let named = self.key(node)?;
            if let Some(Frame { kind: Open::Map { key, .. }, .. }) = self.stack.last_mut() {
                *key = Some(named);
            }
            return Ok(());
        }
        match self.stack.last_mut().map(|f| &mut f.kind) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, merges, key }) => match key.take() {
                Some(Key::Named(key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                Some(Key::Merge(key_span)) => {
                    let at = entries.len();
                    match merged_maps(node) {
                        Ok(maps) => merges.push(Merge { at, key_span, maps }),
                        Err(wrong) => return self.refuse_merge(&wrong, &key_span),
                    }
                }
                Some(Key::Refused) | None => {}
            },
        }
        Ok(())
    }

    fn key(&mut self, node: Node) -> Result<Key, Stop> {
        let text = match node.value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.raw().to_owned(),
            Value::Null | Value::List(_) | Value::Map(_) => {
                let kind = node.kind();
                let d = Diagnostic::error(codes::BAD_KEY, format!("a key must be text, and this one is {kind}"))
                    .at(&node.span, "not a key")
                    .help(match node.value {
                        Value::Null => "write the key before the colon; put it in quotes if it is to be `null`",
                        _ => "put it in quotes, or give it a key of its own; `${name}` as a value needs quotes inside braces",
                    });
                self.report.tell(d)?;
                return Ok(Key::Refused);
            }
        };
        Ok(Key::Named(text, node.span))
    }

    fn refuse_merge(&mut self, wrong: &Node, key_span: &Span) -> Result<(), Stop> {
        // An alias without its anchor.
        if self.report.was_told(&wrong.span) {
            return Ok(());
        }
        self.report.tell(
            Diagnostic::error(codes::MERGE, format!("`<<` merges mappings, and this is {}", wrong.kind()))
                .at(&wrong.span, "not a mapping")
                .at(key_span, "to be merged here")
                .help("write `<<: *anchor`, or `<<: [*first, *second]`; put \"<<\" in quotes if it is an ordinary key"),
        )
    }
}

fn merged_maps(node: Node) -> Result<Vec<Mapping>, Node> {
    match node.value {
        Value::Map(map) => Ok(vec![map]),
        Value::List(items) => items
            .into_iter()
            .map(|item| match item.value {
                Value::Map(map) => Ok(map),
                value => Err(Node { span: item.span, value }),
            })
            .collect(),
        value => Err(Node { span: node.span, value }),
    }
}

/// Levels of collections, this one included; bounded, since no tree here is deeper than the limit.
fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}
