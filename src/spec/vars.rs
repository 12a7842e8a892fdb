//! `vars`: what they are worth, and `${…}` in the file's values.

use std::collections::BTreeMap;

use super::Inputs;
use super::format::{NAME, VAR};
use super::scalar::quote;
use super::types::{Piece, Spanned, Text};
use super::value::{Data, Val};
use crate::diag::{Diagnostic, Diagnostics, Span, codes, did_you_mean};

/// Schema and checker agree on what is a var that stands alone, and on what holds one (`$${` is no var).
pub const WHOLE_REGEX: &str = r"^\$\{[a-z_][a-z0-9_]*\}$";
pub const INSIDE_REGEX: &str = r"(^|[^$])\$\{[a-z_][a-z0-9_]*\}";

const RESERVED: [&str; 2] = ["self", "replica"];

#[derive(Debug)]
pub struct Var {
    pub span: Span,
    /// `None`: nothing gives it a value (told where that is an error).
    pub value: Option<String>,
}

#[derive(Debug, Default)]
pub struct Vars {
    pub list: BTreeMap<String, Var>,
}

/// What besides vars may be named in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    Nothing,
    /// `${replica}`, `${self}`.
    Process,
    /// `${edge.NAME}` too.
    Edges,
}

/// A piece of a text as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Literal(&'a str),
    /// `${name}`; `raw` is with its braces.
    Name {
        name: &'a str,
        raw: &'a str,
    },
    /// `${` without a name and `}`; up to where it is wrong.
    Broken(&'a str),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut list, mut rest) = (vec![], text);
    while let Some(at) = rest.find("${") {
        // `$${` is the escape, and `$$${` a dollar and the escape.
        if rest[..at].ends_with('$') {
            list.extend([Token::Literal(&rest[..at - 1]), Token::Literal("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        list.push(Token::Literal(&rest[..at]));
        let inside = &rest[at + 2..];
        let end = inside.find('}').filter(|end| is_reference(&inside[..*end]));
        let raw_len = match inside.find(['}', ' ', '\n']) {
            Some(end) => 2 + end + usize::from(inside.as_bytes()[end] == b'}'),
            None => rest[at..].len(),
        };
        let raw = &rest[at..at + raw_len];
        list.push(match end {
            Some(end) => Token::Name { name: &inside[..end], raw },
            None => Token::Broken(raw),
        });
        rest = &rest[at + raw_len..];
    }
    list.push(Token::Literal(rest));
    list.retain(|t| *t != Token::Literal(""));
    list
}

fn is_var_name(name: &str) -> bool {
    let start = |c: u8| c.is_ascii_lowercase() || c == b'_';
    name.bytes().next().is_some_and(start) && name.bytes().all(|c| start(c) || c.is_ascii_digit())
}

fn is_reference(name: &str) -> bool {
    is_var_name(name) || name.strip_prefix("edge.").is_some_and(NAME.test)
}

/// The name in a text that is `${name}` and nothing else.
pub fn whole(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_var_name(name))
}

/// The place of `part` inside the value at `span`, if the file spells it out there.
fn narrow(span: &Span, part: &str) -> Span {
    let at = span.source.text.get(span.range.clone()).and_then(|text| text.find(part));
    match at.map(|at| span.range.start + at) {
        Some(start) => Span { source: span.source.clone(), range: start..start + part.len() },
        None => span.clone(),
    }
}

impl Vars {
    /// Resolves the checked `vars` section: `--set` beats `env` beats the default.
    pub fn declare(section: Val, inputs: &Inputs, found: &mut Diagnostics) -> Self {
        let mut vars = Self::default();
        for (name, val) in section.map() {
            if RESERVED.contains(&name.value.as_str()) {
                let message = format!("a var cannot be called `{}`", name.value);
                let help = format!("`${{{}}}` has a meaning of its own; choose another name", name.value);
                found.push(Diagnostic::error(codes::BAD_VAR, message).at(&name.span, "").help(help));
                continue;
            }
            let value = resolve(&name, val, inputs, found);
            vars.list.insert(name.value, Var { span: name.span, value });
        }
        vars
    }

    pub fn values(&self) -> BTreeMap<String, String> {
        self.list.iter().filter_map(|(name, var)| Some((name.clone(), var.value.clone()?))).collect()
    }

    /// The value of a var; the inner `None`: it has none. Told if there is no such var.
    pub fn value(&self, name: &str, late: Late, span: &Span, found: &mut Diagnostics) -> Option<&str> {
        if let Some(var) = self.list.get(name) {
            return var.value.as_deref();
        }
        let place = narrow(span, &format!("${{{name}}}"));
        found.push(if is_var_name(name) && !RESERVED.contains(&name) {
            let declared =
                self.list.keys().map(String::as_str).chain(if late == Late::Nothing { None } else { Some("replica") });
            let help = match did_you_mean(name, declared) {
                Some(near) => format!("did you mean `${{{near}}}`?"),
                None => format!("declare it: `vars: {{ {name}: … }}`; to write it literally: `$${{{name}}}`"),
            };
            Diagnostic::error(codes::UNKNOWN_VAR, format!("there is no var `{name}`")).at(&place, "").help(help)
        } else {
            let help = if late == Late::Process {
                "it may stand in `command` and `env`"
            } else {
                "such names may stand in `command`, `env`, `cwd` and `file`"
            };
            Diagnostic::error(codes::LATE_NAME, format!("`${{{name}}}` is not known here, only when a process starts"))
                .at(&place, "")
                .help(help)
        });
        None
    }

    /// Fills in what is known. `None`: something is wrong (and told) or has no value.
    pub fn expand(&self, text: &str, late: Late, span: &Span, found: &mut Diagnostics) -> Option<Text> {
        let (mut out, mut literal, mut complete) = (Text::default(), String::new(), true);
        for token in tokens(text) {
            let piece = match token {
                Token::Literal(s) => {
                    literal += s;
                    continue;
                }
                Token::Name { name: "replica", .. } if late != Late::Nothing => Piece::Replica,
                Token::Name { name: "self", .. } if late != Late::Nothing => Piece::SelfPath,
                Token::Name { name, .. } => match name.strip_prefix("edge.") {
                    Some(edge) if late == Late::Edges => Piece::Edge(edge.into()),
                    _ => {
                        match self.value(name, late, span, found) {
                            Some(value) => literal += value,
                            None => complete = false,
                        }
                        continue;
                    }
                },
                Token::Broken(raw) => {
                    found.push(broken(raw, span));
                    complete = false;
                    continue;
                }
            };
            if !literal.is_empty() {
                out.pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            out.pieces.push(piece);
        }
        if !literal.is_empty() {
            out.pieces.push(Piece::Literal(literal));
        }
        complete.then_some(out)
    }
}

fn broken(raw: &str, span: &Span) -> Diagnostic {
    let name = raw.strip_prefix("${").unwrap_or(raw).trim_end_matches('}');
    let lower = name.to_ascii_lowercase();
    let help = match name {
        "" => "`${` begins a name: write `${name}`, or `$${` for these two characters themselves".into(),
        _ if is_var_name(&lower) && lower != name => format!(
            "the environment is not filled in: declare `vars: {{ {lower}: {{ env: {name} }} }}` and write `${{{lower}}}`; for a shell, or literally, write `$${{{name}}}`"
        ),
        _ => format!("names are lower-case letters, digits and `_`, closed by `}}`; literally it is `${raw}`"),
    };
    let message = match raw.ends_with('}') {
        true => format!("{} is not the name of a var", quote(raw)),
        false => format!("{} is never closed by `}}`", quote(raw)),
    };
    Diagnostic::error(codes::BAD_REFERENCE, message).at(&narrow(span, raw), "").help(help)
}

fn resolve(name: &Spanned<String>, val: Val, inputs: &Inputs, found: &mut Diagnostics) -> Option<String> {
    let (default, env) = match val.data {
        Data::Record(mut fields) => {
            debug_assert!(std::ptr::eq(fields.record, &VAR));
            (fields.take("default"), fields.take("env").and_then(Val::string))
        }
        data => (Some(Val { span: val.span, data }), None),
    };
    let wrong = default.as_ref().is_some_and(Val::is_unknown);
    let told = found.list.len();
    let default = default.and_then(Val::text).and_then(|text| plain(text, found));
    let wrong = wrong || found.list.len() > told;
    let given = inputs.set.get(&name.value).cloned();
    let value = given.or_else(|| env.as_ref().and_then(|e| (inputs.env)(&e.value))).or(default);
    if value.is_none() && inputs.strict && !wrong {
        let set = format!("--set {}=…", name.value);
        let help = match env {
            Some(env) => format!("give it by `{set}` or in the environment as {}", env.value),
            None => format!("give it by `{set}`, or write a default"),
        };
        let message = format!("the var `{}` has no value", name.value);
        found.push(Diagnostic::error(codes::VAR_WITHOUT_VALUE, message).at(&name.span, "").help(help));
    }
    value
}

/// A default is taken as it stands: `$${` is `${`, and it refers to nothing.
fn plain(default: Spanned<Text>, found: &mut Diagnostics) -> Option<String> {
    let text: String =
        default.value.pieces.into_iter().map(|p| if let Piece::Literal(s) = p { s } else { String::new() }).collect();
    let mut out = String::with_capacity(text.len());
    for token in tokens(&text) {
        match token {
            Token::Literal(s) => out += s,
            Token::Broken(raw) => {
                found.push(broken(raw, &default.span));
                return None;
            }
            Token::Name { raw, .. } => {
                let message = "the default of a var does not refer to other values";
                let help = format!("write the value itself; literally it is `${raw}`");
                found.push(Diagnostic::error(codes::BAD_VAR, message).at(&narrow(&default.span, raw), "").help(help));
                return None;
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::Token::{Broken, Literal, Name};
    use super::*;

    #[test]
    fn only_dollar_brace_is_special() {
        let a = || Name { name: "a", raw: "${a}" };
        for (text, wanted) in [
            ("", vec![]),
            ("$a $ $$ $(b) {c}", vec![Literal("$a $ $$ $(b) {c}")]),
            ("${a}", vec![a()]),
            ("x${a}y${a}", vec![Literal("x"), a(), Literal("y"), a()]),
            ("$${a}", vec![Literal("${"), Literal("a}")]),
            ("$$${a}", vec![Literal("$"), Literal("${"), Literal("a}")]),
            ("${edge.a-b}", vec![Name { name: "edge.a-b", raw: "${edge.a-b}" }]),
            ("${A} x", vec![Broken("${A}"), Literal(" x")]),
            ("${A x", vec![Broken("${A"), Literal(" x")]),
            ("${", vec![Broken("${")]),
            ("${}", vec![Broken("${}")]),
            ("${a", vec![Broken("${a")]),
            ("${é}${a}", vec![Broken("${é}"), a()]),
        ] {
            assert_eq!(tokens(text), wanted, "{text}");
        }
    }
}
