//! Edges on their own: their ends, their kind, what fits into them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::names::Names;
use super::{Edge, StageId};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::format::MAX_CAPACITY_BYTES;
use crate::spec::units::show_size as size;
use crate::spec::{self, Delivery, Kind, Spanned, Spec};

/// The longest message that a ring can be made for.
pub const MAX_MESSAGE: u64 = !7u32 as u64;
/// What a pipe holds, and as much again for what a program reads ahead.
pub(super) const DEFAULT_REDELIVER: u64 = 128 << 10;
/// Rings are whole pages.
pub(super) const PAGE: u64 = 4096;
/// A record's header, and the room behind it that says that nothing follows yet.
const AROUND_MESSAGE: u64 = 16;

/// An edge with its ends resolved, and whether all of them could be.
pub(super) struct Resolved {
    pub edge: Edge,
    /// False: a name was wrong, so that what is missing at its ends says nothing.
    pub whole: bool,
}

/// The longest message of a ring: two of them fit with all that is around them.
pub const fn longest_message(capacity: u64) -> u64 {
    let half = capacity.saturating_add(PAGE - 1) / PAGE * PAGE / 2 - AROUND_MESSAGE;
    if half < MAX_MESSAGE { half } else { MAX_MESSAGE }
}

pub(super) fn resolve(spec: &Spec, stages: &Names<'_>, found: &mut Diagnostics) -> Vec<Resolved> {
    spec.edges.iter().map(|edge| resolve_one(spec, edge, stages, found)).collect()
}

fn resolve_one(spec: &Spec, edge: &spec::Edge, stages: &Names<'_>, found: &mut Diagnostics) -> Resolved {
    let from = ends(edge, &edge.from, "from", stages, found);
    let to = ends(edge, &edge.to, "to", stages, found);
    let whole = from.len() == edge.from.len() && to.len() == edge.to.len();
    to_itself(edge, found);
    if whole && !from.is_empty() && !to.is_empty() {
        match edge.kind.value {
            Kind::Ring | Kind::Object => distribute(spec, edge, &to, found),
            Kind::Pipe => pipe(spec, edge, &from, &to, found),
        }
    }
    let capacity = edge.capacity.value;
    let max_message = edge.max_message.as_ref().map(|m| m.value);
    let max_message = max_message.unwrap_or(match edge.kind.value {
        Kind::Object => capacity,
        Kind::Ring | Kind::Pipe => (capacity / 4).min(MAX_MESSAGE),
    });
    if edge.kind.value == Kind::Ring {
        ring_size(edge, found);
    }
    let resolved = Edge {
        name: edge.name.value.clone(),
        span: edge.name.span.clone(),
        kind: edge.kind.value,
        from,
        to,
        capacity,
        max_message,
        delivery: edge.delivery.value,
        by: edge.by.value,
        on_full: edge.on_full,
        redeliver: edge.redeliver.as_ref().map_or(DEFAULT_REDELIVER.min(capacity / 4), |r| r.value),
        wait: edge.wait,
        sealed: edge.sealed,
        memory: edge.memory.clone(),
        rate: edge.rate,
        messages: edge.messages,
    };
    Resolved { edge: resolved, whole }
}

/// The stages at one end that exist, each once: fewer than named when a name is wrong or there twice.
fn ends(
    edge: &spec::Edge,
    names: &[Spanned<String>],
    key: &str,
    stages: &Names<'_>,
    found: &mut Diagnostics,
) -> Vec<StageId> {
    let place = format!("in `{key}` of edge `{}`", edge.name.value);
    twice(names, &place, found);
    let mut seen = HashSet::new();
    let ids = names.iter().filter_map(|n| stages.resolve(n, &place, found)).map(StageId);
    ids.filter(|&id| seen.insert(id)).collect()
}

/// The same name a second time in one list.
pub(super) fn twice(names: &[Spanned<String>], place: &str, found: &mut Diagnostics) {
    let mut seen: HashMap<&str, &Spanned<String>> = HashMap::with_capacity(names.len());
    for name in names {
        match seen.entry(&name.value) {
            Entry::Vacant(first) => _ = first.insert(name),
            Entry::Occupied(first) => found.push(
                Diagnostic::error(codes::NAMED_TWICE, format!("`{}` is named twice {place}", name.value))
                    .at(&name.span, "the second time")
                    .at(&first.get().span, "the first time")
                    .help("remove one of the two"),
            ),
        }
    }
}

fn to_itself(edge: &spec::Edge, found: &mut Diagnostics) {
    let from: HashMap<_, _> = edge.from.iter().map(|n| (n.value.as_str(), &n.span)).collect();
    let mut told = HashSet::new();
    for to in edge.to.iter().filter(|n| told.insert(n.value.as_str())) {
        let Some(writes) = from.get(to.value.as_str()) else { continue };
        found.push(
            Diagnostic::error(
                codes::EDGE_TO_ITSELF,
                format!("edge `{}` leads from stage `{}` to itself", edge.name.value, to.value),
            )
            .at(&to.span, "reads it")
            .at(writes, "writes it")
            .note("a stage that waits for room in its own input is the one that should be reading it")
            .help("remove the stage from one end, or let two stages exchange data over two edges"),
        );
    }
}

/// All processes at one end.
pub(super) fn replicas(spec: &Spec, ends: &[StageId]) -> u64 {
    ends.iter().map(|&s| u64::from(spec.stages[s.0 as usize].replicas.value)).sum()
}

fn distribute(spec: &Spec, edge: &spec::Edge, to: &[StageId], found: &mut Diagnostics) {
    if edge.delivery.value != Delivery::Distribute || replicas(spec, to) > 1 {
        return;
    }
    let consumer = &spec.stages[to[0].0 as usize];
    found.push(
        Diagnostic::error(
            codes::DISTRIBUTE_TO_ONE,
            format!("edge `{}` has nothing to distribute: it has a single consumer", edge.name.value),
        )
        .at(&edge.delivery.span, "each message to one of several replicas")
        .at(&consumer.name.span, "the only consumer, with 1 replica")
        .help(format!("give `{}` more `replicas`, or leave `delivery` out", consumer.name.value)),
    );
}

fn pipe(spec: &Spec, edge: &spec::Edge, from: &[StageId], to: &[StageId], found: &mut Diagnostics) {
    let name = &edge.name.value;
    let wrong = |message: String| Diagnostic::error(codes::PIPE_ENDS, message).at(&edge.kind.span, "a kernel pipe");
    for (ends, names, key) in [(from, &edge.from, "from"), (to, &edge.to, "to")] {
        if ends.len() > 1 {
            found.push(
                wrong(format!("pipe edge `{name}` has {} stages in `{key}`: a pipe joins one to one", ends.len()))
                    .at(&names[1].span, "one too many")
                    .help("use `kind: ring`, or one pipe edge for each pair"),
            );
        }
        for stage in ends.iter().map(|&s| &spec.stages[s.0 as usize]).filter(|s| s.replicas.value > 1) {
            let n = stage.replicas.value;
            found.push(
                wrong(format!(
                    "pipe edge `{name}` joins one process to one, but `{}` has {n} replicas",
                    stage.name.value
                ))
                .at(&stage.replicas.span, "more than one process")
                .help("use `kind: ring`, or a single replica"),
            );
        }
    }
    if edge.delivery.value == Delivery::Distribute {
        found.push(
            wrong(format!("pipe edge `{name}` cannot distribute: it has one reader"))
                .at(&edge.delivery.span, "has no meaning on a pipe")
                .help("leave `delivery` out, or use `kind: ring`"),
        );
    }
}

fn ring_size(edge: &spec::Edge, found: &mut Diagnostics) {
    let name = &edge.name.value;
    let capacity = edge.capacity.value;
    let longest = longest_message(capacity);
    let Some(max) = edge.max_message.as_ref().filter(|m| m.value > longest) else { return };
    let message = format!("a message of {} is too long for edge `{name}`", size(max.value));
    let d = Diagnostic::error(codes::RING_SIZE, message)
        .at(&max.span, format!("at most {longest} bytes in a ring of this capacity"))
        .at(
            &edge.capacity.span,
            if edge.capacity.span.range == edge.name.span.range { "with the default capacity" } else { "the capacity" },
        );
    let enough = max.value.checked_mul(4).and_then(u64::checked_next_power_of_two);
    found.push(match enough.filter(|&enough| enough <= MAX_CAPACITY_BYTES && max.value <= MAX_MESSAGE) {
        Some(enough) => d.help(format!("lower `max_message` to {longest}B, or raise `capacity` to {}", size(enough))),
        None => d.help(format!("lower `max_message` to {longest}B")),
    }
    .note("two of a ring's longest messages fit into it, one being written and one being read, each with 16 bytes around it"));
}
