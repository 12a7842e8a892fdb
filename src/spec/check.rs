//! A tree against the format: every mistake is told, and what is right becomes values of the wanted types.

use super::format::{Key, Record, Shape};
use super::hints;
use super::scalar::{Given, Problem, Said, nul, quote, scalar};
use super::types::{Piece, Spanned, Text};
use super::value::{Data, Field, Fields, Val};
use super::vars::{Late, Vars, whole};
use crate::diag::{Diagnostic, Diagnostics, Span, codes};
use crate::document::{Mapping, Node, Value};

/// The kernel's limit for one argument (MAX_ARG_STRLEN), less the NUL that ends it.
pub const MAX_TEXT_BYTES: usize = 128 * 1024 - 1;

/// What a value belongs to, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Of the key.
    pub name: &'a str,
    /// Where a missing key is told.
    pub owner: &'a Span,
    /// As the format describes it; an entry of a mapping by name has none.
    pub key: Option<&'static Key>,
    /// An item of the list `name`.
    pub item: bool,
    /// All that may stand here, where the shape at hand is only one of several.
    pub all: Option<&'static Shape>,
}

pub struct Check<'a> {
    pub vars: &'a Vars,
    pub found: &'a mut Diagnostics,
}

impl Check<'_> {
    pub fn value(&mut self, node: &Node, shape: &'static Shape, site: Site) -> Val {
        let data = match (&node.value, shape) {
            (_, Shape::OneOf(shapes)) => return self.one_of(node, shape, shapes, site),
            (_, Shape::Later(why, _)) => {
                self.not_supported(site.name, why, &node.span);
                Data::Unknown
            }
            (Value::List(nodes), Shape::List { of, min, max }) => self.list(nodes, of, (*min, *max), &node.span, site),
            (Value::Map(map), Shape::Map { .. }) => self.map(map, shape, &node.span, site),
            (Value::Map(map), Shape::Record(record)) => Data::Record(self.record(map, record, site, vec![])),
            (Value::String(text), _) => self.string(text, node, shape, site),
            (Value::Bool(_) | Value::Int(_) | Value::Float(_), Shape::Text | Shape::Scalar) => {
                Data::Text(Text { pieces: vec![Piece::Literal(source_text(node))] })
            }
            (Value::Bool(b), _) => self.scalar(Given::Bool(*b), node, shape, site),
            (Value::Int(i), _) => self.scalar(Given::Int(*i), node, shape, site),
            (Value::Float(f), _) => self.scalar(Given::Float(*f), node, shape, site),
            (Value::Null | Value::List(_) | Value::Map(_), _) => {
                self.problem(Problem { code: codes::WRONG_TYPE, said: Said::Kind, help: None }, node, shape, site)
            }
        };
        Val { span: node.span.clone(), data }
    }

    /// The alternatives differ in the kind of value they take.
    fn one_of(&mut self, node: &Node, all: &'static Shape, shapes: &'static [&'static Shape], site: Site) -> Val {
        if let Some(name) = node.as_str().and_then(whole)
            && shapes.iter().any(|s| takes_vars(s))
        {
            let data = match self.vars.value(name, Late::Nothing, &node.span, self.found) {
                None => Data::Unknown,
                Some(text) => {
                    let fitting = shapes.iter().filter(|s| takes_vars(s)).map(|s| scalar(s, Given::Var(text)));
                    match fitting.reduce(|a, b| a.or(b)) {
                        Some(Ok(data)) => data,
                        _ => self.bad_var(name, text, node, all, site),
                    }
                }
            };
            return Val { span: node.span.clone(), data };
        }
        match shapes.iter().find(|s| takes(s, &node.value)) {
            Some(shape) => self.value(node, shape, Site { all: Some(all), ..site }),
            None => {
                let data =
                    self.problem(Problem { code: codes::WRONG_TYPE, said: Said::Kind, help: None }, node, all, site);
                Val { span: node.span.clone(), data }
            }
        }
    }

    fn string(&mut self, text: &str, node: &Node, shape: &'static Shape, site: Site) -> Data {
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("`{}` is a text of {} bytes; the limit is {MAX_TEXT_BYTES}", site.name, text.len());
            let help = "write it into a file and give the file's name, or let the stage read it from `stdin`";
            self.found.push(Diagnostic::error(codes::TEXT_TOO_LONG, message).at(&node.span, "").help(help));
            return Data::Unknown;
        }
        let late = match shape {
            Shape::Text => Late::Edges,
            Shape::Path => Late::Process,
            Shape::Scalar | Shape::Version | Shape::Str { verbatim: true, .. } => {
                return self.scalar(Given::Str(text), node, shape, site);
            }
            _ => Late::Nothing,
        };
        if !text.contains("${") {
            return self.scalar(Given::Str(text), node, shape, site);
        }
        if late != Late::Nothing {
            return match self.vars.expand(text, late, &node.span, self.found) {
                Some(text) if text.pieces.iter().any(|p| matches!(p, Piece::Literal(s) if s.contains('\0'))) => {
                    self.problem(nul(), node, shape, site)
                }
                Some(text) if text.pieces.is_empty() => self.scalar(Given::Str(""), node, shape, site),
                Some(text) => Data::Text(text),
                None => Data::Unknown,
            };
        }
        if !takes_vars(shape) {
            return self.scalar(Given::Str(text), node, shape, site);
        }
        if let Some(name) = whole(text) {
            return match self.vars.value(name, late, &node.span, self.found) {
                None => Data::Unknown,
                Some(value) => match scalar(shape, Given::Var(value)) {
                    Ok(data) => data,
                    Err(_) => self.bad_var(name, value, node, shape, site),
                },
            };
        }
        if matches!(shape, Shape::Bool | Shape::Int { .. } | Shape::Number { .. }) {
            let help = Some("a var may stand here only alone: `${name}`".into());
            return self.problem(Problem { code: codes::WRONG_TYPE, said: Said::Kind, help }, node, shape, site);
        }
        match self.vars.expand(text, late, &node.span, self.found) {
            None => Data::Unknown,
            Some(text) => {
                let filled: String =
                    text.pieces.iter().map(|p| if let Piece::Literal(s) = p { s } else { "" }).collect();
                self.scalar(Given::Str(&filled), node, shape, site)
            }
        }
    }

    fn scalar(&mut self, given: Given, node: &Node, shape: &'static Shape, site: Site) -> Data {
        scalar(shape, given).unwrap_or_else(|problem| self.problem(problem, node, shape, site))
    }

    fn list(&mut self, nodes: &[Node], of: &'static Shape, range: (usize, usize), span: &Span, site: Site) -> Data {
        if !self.count(nodes.len(), range, "items", span, site) {
            return Data::Unknown;
        }
        Data::List(
            nodes.iter().map(|n| self.value(n, of, Site { item: true, owner: &n.span, all: None, ..site })).collect(),
        )
    }

    fn map(&mut self, map: &Mapping, shape: &'static Shape, span: &Span, site: Site) -> Data {
        let Shape::Map { what, key, of, min, max } = shape else { return Data::Unknown };
        if !self.count(map.entries.len(), (*min, *max), "entries", span, site) {
            return Data::Unknown;
        }
        let mut list = Vec::with_capacity(map.entries.len());
        for e in &map.entries {
            if !(key.test)(&e.key) {
                let message = format!("{} cannot be the name of {} {what}", quote(&e.key), article(what));
                self.found.push(Diagnostic::error(codes::BAD_NAME, message).at(&e.key_span, "").help(key.rule));
            }
            let site = Site { name: &e.key, owner: &e.key_span, key: None, item: false, all: None };
            let name = Spanned { value: e.key.clone(), span: e.key_span.clone() };
            list.push((name, self.value(&e.value, of, site)));
        }
        Data::Map(list)
    }

    fn count(&mut self, count: usize, (min, max): (usize, usize), what: &str, span: &Span, site: Site) -> bool {
        if (min..=max).contains(&count) {
            return true;
        }
        let message = match count {
            0 => format!("`{}` is empty", site.name),
            _ => format!("`{}` has {count} {what}; the limit is {max}", site.name),
        };
        self.found.push(Diagnostic::error(codes::BAD_COUNT, message).at(span, "").help(match count {
            0 => match site.key {
                Some(Key { hint: Some(hint), .. }) => hint,
                Some(Key { required: true, .. }) => "give at least one",
                _ => "give at least one, or leave the key out",
            },
            _ => "split it into several",
        }));
        false
    }

    /// `given` are keys that were checked before.
    pub fn record(&mut self, map: &Mapping, record: &'static Record, site: Site, given: Vec<Field>) -> Fields {
        let mut fields = Fields { record, owner: site.owner.clone(), list: given, meant: vec![] };
        for e in &map.entries {
            let Some(key) = record.key(&e.key) else {
                if !(record.open && e.key.starts_with("x-")) {
                    self.found.push(hints::unknown_key(record, e, map, &mut fields.meant));
                }
                continue;
            };
            if let Some(why) = key.later {
                self.not_supported(key.name, why, &e.key_span);
            } else if fields.find(key.name).is_none() {
                let site = Site { name: key.name, owner: &e.key_span, key: Some(key), item: false, all: None };
                let value = self.value(&e.value, key.shape, site);
                fields.list.push(Field { name: key.name, key_span: e.key_span.clone(), value });
            }
        }
        let missing = |k: &&Key| k.required && fields.find(k.name).is_none() && !fields.meant.contains(&k.name);
        for key in record.keys.iter().filter(missing) {
            let message = match site.name {
                "" => format!("the file lacks `{}`", key.name),
                name => format!("`{name}` lacks `{}`", key.name),
            };
            let mut d = Diagnostic::error(codes::MISSING_KEY, message).at(site.owner, "").note(key.doc);
            d.help = key.example.map(|example| format!("for instance `{}: {example}`", key.name));
            self.found.push(d);
        }
        for group in record.rivals {
            let mut present = group.iter().filter_map(|k| fields.find(k));
            if let (Some(a), Some(b)) = (present.next(), present.next()) {
                let message = format!("`{}` and `{}` exclude each other", a.name, b.name);
                let d = Diagnostic::error(codes::CONTRADICTION, message);
                self.found.push(d.at(&b.key_span, "").at(&a.key_span, "the other one").help("keep one of them"));
            }
        }
        fields
    }

    fn not_supported(&mut self, name: &str, why: &'static str, span: &Span) {
        let d = Diagnostic::error(codes::NOT_SUPPORTED_YET, format!("`{name}` is not supported yet"));
        self.found.push(d.at(span, "").help(why));
    }

    fn bad_var(&mut self, name: &str, text: &str, node: &Node, shape: &'static Shape, site: Site) -> Data {
        let problem = match scalar_of(shape).map(|s| scalar(s, Given::Var(text))) {
            Some(Err(Problem { said: Said::Kind, code, help })) => {
                Problem { code, said: Said::Not(format!("the text {}", quote(text))), help }
            }
            Some(Err(problem)) => problem,
            _ => Problem { code: codes::WRONG_TYPE, said: Said::Not(format!("the text {}", quote(text))), help: None },
        };
        let message = message(&problem, node, shape, site);
        let mut d = Diagnostic::error(problem.code, message).at(&node.span, "");
        if let Some(var) = self.vars.list.get(name) {
            d = d.at(&var.span, format!("`{name}` is {} in this run", quote(text)));
        }
        d.help = problem.help.or_else(|| hints::value(shape, site));
        self.found.push(d);
        Data::Unknown
    }

    fn problem(&mut self, problem: Problem, node: &Node, shape: &'static Shape, site: Site) -> Data {
        let label = if matches!(problem.said, Said::Kind) { node.kind() } else { "" };
        let mut d = Diagnostic::error(problem.code, message(&problem, node, shape, site)).at(&node.span, label);
        let hint = site.key.and_then(|k| k.hint).filter(|_| problem.code == codes::WRONG_TYPE).map(Into::into);
        let missing = matches!(node.value, Value::Null).then(|| "give it a value, or leave the line out".into());
        d.help = problem.help.or(missing).or(hint).or_else(|| hints::value(shape, site));
        self.found.push(d);
        Data::Unknown
    }
}

fn message(problem: &Problem, node: &Node, shape: &'static Shape, site: Site) -> String {
    let found = match &problem.said {
        Said::Message(message) => return message.clone(),
        Said::Not(found) => found.as_str(),
        Said::Kind => node.kind(),
    };
    let each = if site.item { "an item of " } else { "" };
    let what = if site.name.is_empty() { "the file".into() } else { format!("{each}`{}`", site.name) };
    format!("{what} must be {}, not {found}", site.all.unwrap_or(shape).says())
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Whether a value of this kind could be meant as this shape.
fn takes(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::Later(_, shape), _) => takes(shape, value),
        (Shape::Record(_) | Shape::Map { .. }, Value::Map(_)) | (Shape::List { .. }, Value::List(_)) => true,
        (Shape::Bool, Value::Bool(_)) | (Shape::Int { .. } | Shape::CpuList, Value::Int(_)) => true,
        (Shape::Int { .. }, Value::Float(f)) => f.fract() == 0.0,
        (Shape::Number { .. }, Value::Int(_) | Value::Float(_)) => true,
        (Shape::Text | Shape::Scalar, Value::Bool(_) | Value::Int(_) | Value::Float(_)) => true,
        (Shape::Record(_) | Shape::Map { .. } | Shape::List { .. } | Shape::Bool, _) => false,
        (Shape::Int { .. } | Shape::Number { .. } | Shape::Version, _) => false,
        (_, Value::String(_)) => true,
        _ => false,
    }
}

/// Whether `${name}` may stand for it.
pub fn takes_vars(shape: &Shape) -> bool {
    match shape {
        Shape::Bool | Shape::Int { .. } | Shape::Number { .. } | Shape::Enum(_) | Shape::Size { .. } => true,
        Shape::Rate | Shape::Duration { .. } | Shape::CpuList | Shape::Text | Shape::Path => true,
        Shape::Str { verbatim, .. } => !verbatim,
        Shape::OneOf(shapes) => shapes.iter().any(|s| takes_vars(s)),
        Shape::Scalar | Shape::Version | Shape::List { .. } | Shape::Map { .. } => false,
        Shape::Record(_) | Shape::Later(..) => false,
    }
}

/// The one scalar of a shape, if there is one, to explain a value by.
fn scalar_of(shape: &'static Shape) -> Option<&'static Shape> {
    match shape {
        Shape::OneOf(shapes) => {
            let mut fitting = shapes.iter().filter(|s| takes_vars(s));
            fitting.next().filter(|_| fitting.next().is_none()).copied()
        }
        shape => Some(shape),
    }
}

/// A number or boolean as the file writes it, so that `1.10` stays `1.10`; notations of YAML and TOML (`0x1f`, `1_000`) are not passed on.
fn source_text(node: &Node) -> String {
    let written = node.span.source.text.get(node.span.range.clone()).unwrap_or_default();
    let decimal = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match &node.value {
        Value::Int(i) if decimal(written) && written.parse() == Ok(*i) => written.into(),
        Value::Float(f) if decimal(written) && written.parse() == Ok(*f) => written.into(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Bool(b) => b.to_string(),
        _ => String::new(),
    }
}

/// Codes of mistakes that the JSON Schema finds too; the others are the program's alone.
#[cfg(test)]
pub const STRUCTURAL: [crate::diag::Code; 10] = [
    codes::UNKNOWN_KEY,
    codes::NOT_SUPPORTED_YET,
    codes::WRONG_TYPE,
    codes::MISSING_KEY,
    codes::UNKNOWN_WORD,
    codes::BAD_NAME,
    codes::OUT_OF_RANGE,
    codes::BAD_UNIT,
    codes::BAD_COUNT,
    codes::UNKNOWN_VERSION,
];
