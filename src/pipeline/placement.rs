//! `near` and `apart`: the names exist, have a place of their own, and do not contradict one another.

use std::collections::HashMap;

use super::edges::twice;
use super::names::Names;
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{Placement, Policy, Spanned, Spec};

pub(super) fn check(spec: &Spec, stages: &Names<'_>, found: &mut Diagnostics) {
    let mut wishes = Wishes { spec, stages, near: HashMap::new() };
    let placed = || spec.stages.iter().enumerate().filter_map(|(i, s)| Some((i as u32, s.placement.as_ref()?)));
    for (id, placement) in placed() {
        wishes.list(id, placement, &placement.near, "near", found);
    }
    for (id, placement) in placed() {
        wishes.list(id, placement, &placement.apart, "apart", found);
    }
}

struct Wishes<'a> {
    spec: &'a Spec,
    stages: &'a Names<'a>,
    /// Pairs that are to be near, the lower number first, and where that is said.
    near: HashMap<(u32, u32), &'a Spanned<String>>,
}

impl<'a> Wishes<'a> {
    fn list(
        &mut self,
        id: u32,
        placement: &Placement,
        names: &'a [Spanned<String>],
        key: &str,
        found: &mut Diagnostics,
    ) {
        if names.is_empty() {
            return;
        }
        let stage = &self.spec.stages[id as usize].name.value;
        let place = format!("in `{key}` of stage `{stage}`");
        twice(names, &place, found);
        for name in names {
            let Some(other) = self.stages.resolve(name, &place, found) else { continue };
            if other == id {
                found.push(
                    Diagnostic::error(codes::NEAR_AND_APART, format!("stage `{stage}` names itself in `{key}`"))
                        .at(&name.span, "the stage itself")
                        .help("name another stage"),
                );
                continue;
            }
            let target = &self.spec.stages[other as usize];
            if target.placement.is_none() {
                let message = format!("stage `{}` has no place to be {}", target.name.value, relation(key));
                let d = match placement.policy {
                    Policy::Strict => Diagnostic::error(codes::NEAR_UNPLACED, message),
                    Policy::Prefer => Diagnostic::warning(codes::NEAR_UNPLACED, message),
                };
                found.push(
                    d.at(&name.span, format!("`{stage}` is to be placed by it"))
                        .at(&target.name.span, "has no `placement`: it floats over all CPUs")
                        .help(format!("give `{}` a place too: `placement: {{ cpus: 1 }}`", target.name.value)),
                );
            }
            let pair = (id.min(other), id.max(other));
            if key == "near" {
                self.near.entry(pair).or_insert(name);
            } else if let Some(near) = self.near.get(&pair) {
                found.push(
                    Diagnostic::error(
                        codes::NEAR_AND_APART,
                        format!("stages `{stage}` and `{}` are to be both near and apart", target.name.value),
                    )
                    .at(&name.span, "apart")
                    .at(&near.span, "near")
                    .help("keep one of the two"),
                );
            }
        }
    }
}

fn relation(key: &str) -> &'static str {
    if key == "near" { "near to" } else { "apart from" }
}
