//! What the file says: the tree lowered to typed values, each with its place. Nothing is resolved
//! across keys here; that is [`crate::pipeline`].
//!
//! The format is one declarative table, [`mod@format`]; the checker, the JSON Schema and the reference of all
//! keys are made from it.

#[cfg(test)]
mod agree;
mod check;
pub mod format;
mod hints;
mod lower;
mod reference;
mod scalar;
mod schema;
#[cfg(test)]
mod tests;
mod types;
pub mod units;
mod value;
mod vars;

use std::collections::BTreeMap;

use crate::diag::{Diagnostics, Span};
use crate::document::{Mapping, Node, Value};
use check::{Check, Site};
use format::{PIPELINE, Shape};
pub use reference::reference;
pub use schema::schema;
pub use types::*;
use value::{Field, Fields, Val};
use vars::Vars;

/// What is given to a file from outside.
pub struct Inputs<'a> {
    /// `--set name=value`.
    pub set: &'a BTreeMap<String, String>,
    /// This process's environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// A var without a value is an error (`plan`, `apply`); else its places go unchecked (`validate`).
    pub strict: bool,
}

/// Lowers a file's tree. Every mistake goes to `found`, and what was wrong is left out: a spec that comes with
/// errors is good for finding more of them (see [`crate::pipeline::build`]) and for nothing else. `None` without an
/// error there means that a var without a value decides the graph itself (a name, a kind, a number of replicas), so
/// that there is nothing more to check (only where not `strict`).
pub fn read(node: &Node, inputs: &Inputs, found: &mut Diagnostics) -> Option<Spec> {
    let before = found.list.len();
    let spec = check_file(node, inputs, found).and_then(|(top, vars)| lower::pipeline(top, vars, &node.span, found));
    found.drop_consequences(before);
    spec
}

/// The tree against the format, vars first: the others need their values.
fn check_file(node: &Node, inputs: &Inputs, found: &mut Diagnostics) -> Option<(Fields, Vars)> {
    let start = Span { source: node.span.source.clone(), range: node.span.range.start..node.span.range.start };
    let top = Site { name: "", owner: &start, key: None, item: false, all: None };
    let none = Vars::default();
    let Value::Map(map) = &node.value else {
        static FILE: Shape = Shape::Record(&PIPELINE);
        Check { vars: &none, found }.value(node, &FILE, top);
        return None;
    };
    let (vars, given) = match vars_section(map, found) {
        Some(field) => (Vars::declare(field.value.clone(), inputs, found), vec![field]),
        None => (none, vec![]),
    };
    let fields = Check { vars: &vars, found }.record(map, &PIPELINE, top, given);
    Some((fields, vars))
}

fn vars_section(map: &Mapping, found: &mut Diagnostics) -> Option<Field> {
    let key = PIPELINE.key("vars")?;
    let entry = map.entries.iter().find(|e| e.key == key.name)?;
    let site = Site { name: key.name, owner: &entry.key_span, key: Some(key), item: false, all: None };
    let value: Val = Check { vars: &Vars::default(), found }.value(&entry.value, key.shape, site);
    Some(Field { name: key.name, key_span: entry.key_span.clone(), value })
}

/// Names in `set` that the file does not declare: a mistake on the command line, not in the file.
pub fn undeclared_sets(node: &Node, set: &BTreeMap<String, String>) -> Vec<String> {
    let vars = node.as_map().and_then(|m| m.get("vars")).and_then(Node::as_map);
    set.keys().filter(|name| vars.is_none_or(|v| v.get(name).is_none())).cloned().collect()
}
