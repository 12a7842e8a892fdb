//! Whether there is memory for the edges of a gang, before any is taken: of the machine, of a node, in huge pages.

use std::collections::BTreeMap;

use nexusflow_stage::ring::{Hugepages, Shape};

use super::Context;
use crate::diag::{Diagnostic, codes};
use crate::pipeline::{Edge, EdgeId, GangId};
use crate::plan::RingPlace;
use crate::probe;
use crate::record::human::bytes;
use crate::spec::{self, Kind};

/// All memory of the rings is taken at once: better refused than found missing by whoever the kernel kills for it.
pub(super) fn enough(cx: &Context, id: GangId) -> Result<(), Box<Diagnostic>> {
    let needs = needs(cx, id);
    on_machine(cx, &needs)?;
    on_nodes(cx, &needs)?;
    in_huge_pages(cx, &needs)
}

pub(super) fn pages(edge: &Edge) -> Hugepages {
    match edge.memory.hugepages {
        spec::Hugepages::None => Hugepages::None,
        spec::Hugepages::TwoMiB => Hugepages::TwoMiB,
        spec::Hugepages::OneGiB => Hugepages::OneGiB,
    }
}

/// What one ring takes.
struct Need {
    edge: EdgeId,
    place: RingPlace,
    /// Bytes in ordinary pages, and in huge ones.
    ordinary: u64,
    huge: u64,
}

fn needs(cx: &Context, id: GangId) -> Vec<Need> {
    let stages = cx.pipeline.gangs[id.0 as usize].iter().map(|&s| (s, cx.pipeline.stage(s)));
    // Each edge once: with the first stage that writes it.
    let edges = stages.flat_map(|(s, stage)| {
        stage.outputs.iter().copied().filter(move |&e| cx.pipeline.edge(e).from.first() == Some(&s))
    });
    let need = |id: EdgeId| {
        let edge = cx.pipeline.edge(id);
        let pages = pages(edge);
        let shape = Shape::of(edge.capacity, edge.max_message).in_pages(pages);
        let (ordinary, huge) = match (pages.bytes(), shape.slab) {
            _ if edge.sealed => (0, 0), // as objects come
            (None, _) if edge.kind == Kind::Object => (edge.capacity, 0),
            (Some(page), _) if edge.kind == Kind::Object => (0, edge.capacity.next_multiple_of(page)),
            (None, _) => (shape.total(), 0),
            (Some(_), 0) => (0, shape.ring),
            (Some(_), slab) => (shape.ring, slab),
        };
        cx.plan.edges[id.0 as usize].rings.iter().map(move |&place| Need { edge: id, place, ordinary, huge })
    };
    edges.flat_map(need).collect()
}

/// What takes most of `of` among those, and how much that edge takes in all.
fn largest<'a>(needs: impl Iterator<Item = &'a Need>, of: fn(&Need) -> u64) -> Option<(EdgeId, u64)> {
    let mut sums = BTreeMap::<EdgeId, u64>::new();
    needs.for_each(|need| *sums.entry(need.edge).or_default() += of(need));
    sums.into_iter().max_by_key(|&(_, sum)| sum)
}

fn refusal(cx: &Context, largest: Option<(EdgeId, u64)>, message: String, help: String) -> Box<Diagnostic> {
    let error = Diagnostic::error(codes::EDGE_MEMORY, message).help(help);
    Box::new(match largest {
        Some((id, sum)) => error.at(&cx.pipeline.edge(id).span, format!("this one needs {}", bytes(sum))),
        None => error,
    })
}

fn on_machine(cx: &Context, needs: &[Need]) -> Result<(), Box<Diagnostic>> {
    let wanted = needs.iter().map(|n| n.ordinary).fold(0, u64::saturating_add);
    match probe::memory_available_bytes() {
        Some(available) if wanted > available => Err(refusal(
            cx,
            largest(needs.iter(), |n| n.ordinary),
            format!("the edges of one gang need {}, and {} of memory are available", bytes(wanted), bytes(available)),
            "lower `capacity` (it counts for each ring: each producer, and with `distribute` each consumer too)".into(),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Memory bound to a node that has too little would have the kernel kill somebody for it.
fn on_nodes(cx: &Context, needs: &[Need]) -> Result<(), Box<Diagnostic>> {
    let bound = |n: &&Need| n.place.strict;
    let mut wanted = BTreeMap::<u32, u64>::new();
    for (node, need) in needs.iter().filter(bound).filter_map(|n| Some((n.place.node?, n))) {
        *wanted.entry(node).or_default() += need.ordinary;
    }
    for (node, wanted) in wanted {
        let Some(available) = probe::node_memory_available_bytes(node) else { continue };
        if wanted > available {
            let there = needs.iter().filter(bound).filter(|n| n.place.node == Some(node));
            return Err(refusal(
                cx,
                largest(there, |n| n.ordinary),
                format!(
                    "the edges of one gang need {} on node {node}, and {} are available there",
                    bytes(wanted),
                    bytes(available)
                ),
                "lower `capacity`, name another node, or write `numa: auto`, which takes memory from elsewhere too"
                    .into(),
            ));
        }
    }
    Ok(())
}

fn in_huge_pages(cx: &Context, needs: &[Need]) -> Result<(), Box<Diagnostic>> {
    let mut wanted = BTreeMap::<(u64, Option<u32>), u64>::new();
    for need in needs.iter().filter(|n| n.huge > 0) {
        let Some(size) = pages(cx.pipeline.edge(need.edge)).bytes() else { continue };
        let node = need.place.node.filter(|_| need.place.strict);
        *wanted.entry((size, node)).or_default() += need.huge / size;
        if node.is_some() {
            *wanted.entry((size, None)).or_default() += need.huge / size;
        }
    }
    // Of a node first: reserving there is what helps.
    let (everywhere, bound): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|((_, node), _)| node.is_none());
    for ((size, node), wanted) in bound.into_iter().chain(everywhere) {
        let pool = probe::huge_pages(size, node);
        if wanted > pool.free {
            let there = needs.iter().filter(|n| n.huge > 0 && (node.is_none() || n.place.node == node));
            let place = node.map_or(String::new(), |node| format!(" on node {node}"));
            let message = format!(
                "the edges of one gang need {wanted} huge {} of {}{place}, and {} of {} are free",
                if wanted == 1 { "page" } else { "pages" },
                bytes(size),
                pool.free,
                pool.total
            );
            let enough = pool.total + wanted - pool.free;
            let help = format!(
                "as root `echo {enough} > {}/nr_hugepages`, early, while memory is in one piece; or leave `hugepages` out",
                probe::huge_pages_folder(size, node)
            );
            return Err(refusal(cx, largest(there, |n| n.huge), message, help));
        }
    }
    Ok(())
}
