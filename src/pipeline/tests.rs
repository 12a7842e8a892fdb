//! Pipelines in bulk: order, gangs and circles against slow and simple answers, and sizes that must stay quick.

use std::path::Path;

use proptest::prelude::*;

use super::testing::Maker;
use super::*;
use crate::diag::{Diagnostics, codes};
use crate::spec::{Condition, Spec};

fn built(spec: &Spec) -> (Option<Pipeline>, Diagnostics) {
    let mut found = Diagnostics::default();
    let pipeline = build(spec, Path::new("/tmp"), &mut found);
    assert_eq!(pipeline.is_none(), found.has_errors(), "{:?}", found.list);
    (pipeline, found)
}

fn layered(stages: usize, width: usize) -> Spec {
    let m = Maker::default();
    let name = |i: usize| format!("stage-{i}");
    let list = (0..stages).map(|i| {
        let deps: Vec<String> =
            (1..=3).filter(|_| i >= width).map(|k| name((i / width - 1) * width + (i * k) % width)).collect();
        let mut deps: Vec<&str> = deps.iter().map(String::as_str).collect();
        deps.sort();
        deps.dedup();
        m.stage(&name(i), &deps.iter().map(|&d| (d, Condition::Completed)).collect::<Vec<_>>())
    });
    m.spec(list.collect(), vec![])
}

#[test]
fn a_wide_graph() {
    let spec = layered(20_000, 100);
    let (pipeline, _) = built(&spec);
    let order = pipeline.unwrap().topological();
    assert_eq!(order.len(), 20_000);
}

#[test]
fn a_chain_of_a_hundred_thousand() {
    let m = Maker::default();
    let names: Vec<_> = (0..100_000).map(|i| format!("s{i}")).collect();
    let mut stages: Vec<_> = vec![m.stage(&names[0], &[])];
    stages.extend(names.windows(2).map(|w| m.stage(&w[1], &[(&w[0], Condition::Completed)])));
    let edges: Vec<_> =
        names.windows(2).step_by(2).map(|w| m.edge(&format!("e-{}", w[0]), &[&w[0]], &[&w[1]])).collect();
    let (pipeline, _) = built(&m.spec(stages.clone(), vec![]));
    assert_eq!(pipeline.unwrap().topological().len(), names.len());
    // Every second wait is now for a gang mate.
    let (_, found) = built(&m.spec(stages.clone(), edges));
    assert_eq!(found.list.iter().filter(|d| d.code == codes::WAITS_FOR_MATE).count(), 50_000);
    // One circle of all.
    stages[0].depends_on = m.stage("", &[("s99999", Condition::Started)]).depends_on;
    let (_, found) = built(&m.spec(stages, vec![]));
    assert_eq!(found.list.len(), 1);
    assert_eq!(
        found.list[0].message,
        "stages wait for one another in a circle: \
         s0 → s99999 → s99998 → s99997 → s99996 → s99995 → s99994 → s99993 → … (99992 more) → s0"
    );
}

#[test]
fn everything_misspelt_is_not_quadratic() {
    let m = Maker::default();
    let stages = (0..5_000).map(|i| m.stage(&format!("s{i}"), &[(&format!("t{i}"), Condition::Completed)]));
    let (_, found) = built(&m.spec(stages.collect(), vec![]));
    assert_eq!(found.list.len(), 5_000);
}

proptest! {
    /// Gangs by transitive closure; a circle of gangs by repeated pruning of those that wait for nothing.
    #[test]
    fn gangs_and_waiting_agree_with_simple_answers(
        deps in prop::collection::btree_set((0usize..8, 0usize..8), 0..10),
        ties in prop::collection::btree_set((0usize..8, 0usize..8), 0..4),
    ) {
        let m = Maker::default();
        let name = |i: usize| format!("s{i}");
        let ties: Vec<_> = ties.into_iter().filter(|(a, b)| a != b).collect();
        let stages = (0..8).map(|i| {
            let on: Vec<_> = deps.iter().filter(|d| d.0 == i).map(|d| name(d.1)).collect();
            m.stage(&name(i), &on.iter().map(|n| (n.as_str(), Condition::Started)).collect::<Vec<_>>())
        });
        let edges = ties.iter().enumerate().map(|(i, (a, b))| m.edge(&format!("e{i}"), &[&name(*a)], &[&name(*b)]));
        let (pipeline, _) = built(&m.spec(stages.collect(), edges.collect()));

        let mut gang: Vec<usize> = (0..8).collect();
        for _ in 0..8 {
            for &(a, b) in &ties {
                let low = gang[a].min(gang[b]);
                (gang[a], gang[b]) = (low, low);
            }
        }
        // Repeatedly start what waits for nothing: first stages within their gangs, then whole gangs.
        let runs = |of: &dyn Fn(usize) -> usize, within: bool| {
            let mut left: Vec<usize> = (0..8).collect();
            loop {
                let blocked = |x: usize| deps.iter().any(|&(a, b)| {
                    (of(a) != of(b) || within) && of(a) == of(x) && left.iter().any(|&l| of(l) == of(b))
                });
                let next: Vec<_> = left.iter().copied().filter(|&x| blocked(x)).collect();
                if next.len() == left.len() {
                    return left.is_empty();
                }
                left = next;
            }
        };
        prop_assert_eq!(pipeline.is_some(), runs(&|x| x, true) && runs(&|x| gang[x], false));
        if let Some(p) = pipeline {
            for a in 0..8 {
                for b in 0..8 {
                    prop_assert_eq!(p.stages[a].gang == p.stages[b].gang, gang[a] == gang[b]);
                }
            }
            let order = p.topological();
            let at = |s: usize| order.iter().position(|o| o.0 as usize == s);
            prop_assert!(deps.iter().all(|&(a, b)| at(b) < at(a)));
        }
    }
}

#[test]
fn the_limits_of_rings_are_those_of_rings() {
    use crate::spec::format::MAX_CAPACITY_BYTES;
    use nexusflow_stage::ring;
    assert_eq!(MAX_CAPACITY_BYTES, ring::MAX_CAPACITY);
    assert_eq!(MAX_CONSUMERS_PER_RING, ring::MAX_CONSUMERS as u64);
    for capacity in [1024u64, 4096, 5000, 16 << 20, MAX_CAPACITY_BYTES] {
        let made = capacity.max(ring::MIN_CAPACITY).next_multiple_of(4096);
        let max = longest_message(capacity);
        assert!(max <= ring::max_message(made) && max <= ring::Shape::of(capacity, max).max_message());
        assert!(capacity / 4 <= longest_message(capacity) || longest_message(capacity) == MAX_MESSAGE);
        // Two of them, padded, with a header each and one more behind.
        let two = 2 * (8 + longest_message(capacity).next_multiple_of(8)) + 8;
        assert!(two <= made, "{capacity}");
    }
}

/// All that is wrong here is wrong tens of thousands of times, on one hub.
#[test]
fn a_hub_with_everything_wrong_is_not_quadratic() {
    let m = Maker::default();
    let n = 5_000;
    let names: Vec<_> = (0..n).map(|i| format!("s{i}")).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let mut stages: Vec<_> = all.iter().map(|name| m.stage(name, &[("hub", Condition::Exited)])).collect();
    let mut hub = m.stage("hub", &all.iter().map(|&name| (name, Condition::Completed)).collect::<Vec<_>>());
    let bind = |i: usize| crate::spec::Bind { edge: m.at(format!("e{i}")), framing: crate::spec::Framing::Lines };
    hub.bind = (0..n).map(bind).collect();
    let path = crate::spec::Piece::Edge("nothing".into());
    let words = (0..n).map(|_| m.at(crate::spec::Text { pieces: vec![path.clone()] }));
    hub.command = m.at(crate::spec::Command::Argv(words.collect()));
    stages.push(hub);
    let mut edges: Vec<_> = (0..n).map(|i| m.edge(&format!("e{i}"), &["hub"], &[all[i]])).collect();
    edges.iter_mut().step_by(2).for_each(|e| e.kind = m.at(crate::spec::Kind::Pipe));
    let twice = [&all[..], &all[..], &["hub"]].concat();
    edges.push(m.edge("all", &twice, &twice));
    let (_, found) = built(&m.spec(stages, edges));
    let count = |code| found.list.iter().filter(|d| d.code == code).count();
    assert_eq!(count(codes::WAITS_FOR_MATE), 2 * n);
    assert_eq!(count(codes::EDGE_PATH), n);
    assert_eq!(count(codes::NAMED_TWICE), 2 * n);
    assert_eq!(count(codes::EDGE_TO_ITSELF), n + 1);
}
