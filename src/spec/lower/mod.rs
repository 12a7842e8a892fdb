//! Checked values → [`Spec`], and the rules between the keys of one record.
//!
//! What is wrong was told by the checker and is simply missing here: lowering goes on, so that the rules
//! tell their mistakes in the same go.

mod edge;
mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::*;
use super::value::{Data, Fields, Val};
use super::vars::Vars;
use crate::diag::{Code, Diagnostic, Diagnostics, Span, codes};

/// `env` and `defaults` are copied into every stage: without a limit, a small file could ask for any amount of memory.
const MAX_COPIED: usize = 4_000_000;

/// What lowering the parts needs and tells.
pub(super) struct Lower<'a> {
    vars: &'a Vars,
    found: &'a mut Diagnostics,
    /// What decides the graph has no value: because a var has none, or because it was wrong.
    undecided: bool,
}

pub(super) fn pipeline(mut top: Fields, vars: Vars, span: &Span, found: &mut Diagnostics) -> Option<Spec> {
    let mut lower = Lower { vars: &vars, found, undecided: false };
    lower.decides(&top, &["name", "stages", "edges"]);
    let copied = !lower.too_much(&top);
    let defaults = top.take("defaults").and_then(Val::record).filter(|_| copied);
    lower.no_vars(&top);
    if let Some(defaults) = &defaults {
        lower.no_vars(defaults);
    }
    let env = Lower::env(top.take("env").filter(|_| copied));
    let stages = top.take("stages").map(Val::map).unwrap_or_default();
    let named = stages.len();
    let stages = stages.into_iter().filter_map(|(name, val)| lower.stage(name, val.record()?, defaults.as_ref()));
    let stages: Vec<Stage> = stages.collect();
    let edges = top.take("edges").map(Val::map).unwrap_or_default();
    let named = named + edges.len();
    let edges: Vec<Edge> = edges.into_iter().filter_map(|(name, val)| lower.edge(name, val.record()?)).collect();
    // With a name missing, all that refers to it would seem to be wrong.
    let open = lower.vars.list.values().any(|var| var.value.is_none());
    if lower.undecided && open || stages.len() + edges.len() < named {
        return None;
    }
    Some(Spec {
        span: span.clone(),
        name: top.take("name").and_then(Val::string).unwrap_or(Spanned { value: String::new(), span: span.clone() }),
        description: top.take("description").and_then(Val::string).map(|s| s.value),
        env,
        env_inherit: top.take("env_inherit").map(env_inherit).unwrap_or_default(),
        timeout: time(&mut top, "timeout"),
        parallel: top.take("parallel").and_then(Val::int).map(|p| p.value),
        on_failure: match word(&mut top, "on_failure") {
            Some("stop") => OnFailure::Stop,
            _ => OnFailure::Continue,
        },
        stages,
        edges,
        vars: vars.values(),
    })
}

fn env_inherit(val: Val) -> EnvInherit {
    match val.data {
        Data::Word("none") => EnvInherit::None,
        Data::List(_) => EnvInherit::Only(val.strings().into_iter().map(|s| s.value).collect()),
        _ => EnvInherit::All,
    }
}

fn time(fields: &mut Fields, name: &str) -> Option<Duration> {
    fields.take(name).and_then(|v| v.time())
}

fn word(fields: &mut Fields, name: &str) -> Option<&'static str> {
    fields.take(name).and_then(|v| v.word())
}

/// A word with its place; the place of the whole where nothing is said.
fn spanned<T>(fields: &mut Fields, name: &str, of: impl Fn(&str) -> T) -> Spanned<T> {
    let val = fields.take(name);
    let span = val.as_ref().map_or(&fields.owner, |v| &v.span).clone();
    Spanned { value: of(val.and_then(|v| v.word()).unwrap_or("")), span }
}

impl Lower<'_> {
    fn error(&mut self, code: Code, message: impl Into<String>, at: &Span, help: &str) -> &mut Diagnostic {
        let d = Diagnostic::error(code, message).at(at, "");
        self.found.push(if help.is_empty() { d } else { d.help(help) });
        let last = self.found.list.len() - 1;
        &mut self.found.list[last]
    }

    /// Notes whether one of these keys, without which the graph is not known, has no value yet.
    fn decides(&mut self, fields: &Fields, names: &[&str]) {
        let unknown = |v: &Val| match &v.data {
            Data::List(list) => list.iter().any(Val::is_unknown),
            Data::Map(map) => map.iter().any(|(_, v)| v.is_unknown()),
            data => matches!(data, Data::Unknown),
        };
        self.undecided |= fields.list.iter().any(|f| names.contains(&f.name) && unknown(&f.value));
    }

    fn too_much(&mut self, top: &Fields) -> bool {
        let size = |name| top.find(name).map_or(0, |f| f.value.size());
        let stages = top.find("stages").map_or(0, |f| f.value.count());
        let copied = [("defaults", size("defaults")), ("env", size("env"))];
        let Some((name, size)) = copied.into_iter().find(|(_, size)| size.saturating_mul(stages) > MAX_COPIED) else {
            return false;
        };
        let Some(field) = top.find(name) else { return false };
        let message =
            format!("`{name}` has {size} values, copied into {stages} stages; the limit is {MAX_COPIED} in all");
        self.error(codes::BAD_COUNT, message, &field.key_span, "say it where it is needed, or split the file");
        true
    }

    /// An environment must not hide a var from `shell` stages.
    fn no_vars(&mut self, of: &Fields) {
        let Some(Data::Map(map)) = of.find("env").map(|env| &env.value.data) else { return };
        for (name, _) in map {
            let Some(var) = self.vars.list.get(&name.value) else { continue };
            let message = format!("`{}` is both a var and an environment variable", name.value);
            let at = var.span.clone();
            let help = "vars reach `shell` stages as environment variables of their own names: rename one of them";
            let d = self.error(codes::BAD_VAR, message, &name.span, help);
            *d = d.clone().at(&at, "the var");
        }
    }

    fn env(val: Option<Val>) -> BTreeMap<String, Spanned<Text>> {
        val.map(Val::map)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, v)| Some((name.value, v.text()?)))
            .collect()
    }
}
