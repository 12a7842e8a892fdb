//! The planner against an independent reading of the constraints, and against brute force on small machines.

use proptest::prelude::*;

use super::build::*;
use super::reading::Reading;
use crate::plan::explain;
use crate::spec::{Cpus, Memory, Placement, Policy, Smt};
use crate::topology::machines::{self, Machine, Shape};
use crate::topology::{CpuSet, Topology};

fn small_machine() -> impl Strategy<Value = Topology> {
    let shapes = prop::sample::select(vec![
        (1, 1, 1, 1, 1),
        (1, 1, 1, 2, 1),
        (1, 1, 1, 1, 2),
        (1, 1, 1, 2, 2),
        (1, 2, 1, 1, 2),
        (1, 2, 1, 2, 1),
        (2, 1, 1, 2, 1),
        (2, 2, 1, 1, 1),
        (1, 1, 2, 2, 1),
        (2, 1, 1, 1, 2),
        (1, 3, 1, 1, 1),
        (1, 1, 1, 3, 1),
    ]);
    (shapes, 0u32..16, 0u32..8).prop_map(|((packages, nodes, l3s, cores, threads), hidden, memory)| {
        let machine = Machine::new(Shape { packages, nodes, l3s, cores, threads, ..Shape::default() });
        let t = machine.topology();
        // Every few machines some CPU or memory is kept away.
        let cpus: CpuSet = t.allowed.iter().filter(|c| *c == 0 || hidden != *c).collect();
        let memory: CpuSet = t.allowed_nodes.iter().filter(|n| *n == 0 || memory != *n).collect();
        t.restricted(&cpus, &memory)
    })
}

fn placements(max_cpu: u32, max_node: u32) -> impl Strategy<Value = Option<Placement>> {
    let want = prop_oneof![
        3 => (1u32..=3).prop_map(|n| Some(Cpus::Logical(n))),
        1 => (1u32..=2).prop_map(|n| Some(Cpus::Cores(n))),
        1 => prop::collection::btree_set(0..max_cpu, 1..=2).prop_map(|s| Some(Cpus::Set(s.into_iter().collect()))),
        1 => Just(None),
    ];
    let numa = prop_oneof![3 => Just(None), 1 => prop::collection::btree_set(0..max_node, 1..=2).prop_map(Some)];
    let smt = prop::sample::select(vec![Smt::Share, Smt::Share, Smt::Avoid, Smt::Exclusive]);
    let memory = prop::sample::select(vec![Memory::Default, Memory::Default, Memory::Bind]);
    let ties = (prop::option::weighted(0.2, 0usize..4), prop::option::weighted(0.2, 0usize..4));
    let p = (want, numa, smt, memory, any::<bool>(), ties, 1u32..=10).prop_map(
        |(want, numa, smt, memory, exclusive, ties, load)| {
            let name = |i: usize| vec![at(["a", "b", "c", "d"][i].to_string())];
            Placement {
                cpus: want.map(at),
                numa: numa.map(|n| at(n.into_iter().collect())),
                smt: at(smt),
                memory: at(memory),
                exclusive: at(exclusive),
                near: ties.0.map(name).unwrap_or_default(),
                apart: ties.1.map(name).unwrap_or_default(),
                load: load as f64 / 10.0,
                ..ask()
            }
        },
    );
    prop::option::weighted(0.9, p)
}

/// Drops ties to oneself and to stages that float: the first are refused before, the second are checked by example.
fn mend(mut stages: Vec<Option<Placement>>) -> Vec<Option<Placement>> {
    let placed: Vec<String> =
        stages.iter().zip('a'..).filter(|(p, _)| p.is_some()).map(|(_, name)| name.to_string()).collect();
    for (p, name) in stages.iter_mut().zip('a'..) {
        let Some(p) = p else { continue };
        let own = name.to_string();
        p.near.retain(|n| n.value != own && placed.contains(&n.value));
        p.apart.retain(|n| n.value != own && placed.contains(&n.value));
    }
    stages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A plan honours everything; where there is none, trying all placements finds none either.
    #[test]
    fn exact_on_small_machines(
        t in small_machine(),
        stages in prop::collection::vec((placements(5, 4), 1u32..=2), 1..=4),
    ) {
        let (placements, replicas): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
        let mut pipeline = of(mend(placements));
        pipeline.stages.iter_mut().zip(replicas).for_each(|(s, r)| s.replicas = r);
        let reading = Reading::new(&pipeline, &t);
        match attempt(&pipeline, &t) {
            Ok(plan) => prop_assert_eq!(reading.wrong(&plan), None),
            Err(why) => prop_assert!(!reading.possible(&mut vec![]), "possible, yet: {:?}", why.list[0].message),
        }
    }

    /// Preferences bend, and never at the cost of what others insist on.
    #[test]
    fn preferences_never_break_what_is_strict(
        t in small_machine(),
        stages in prop::collection::vec((placements(5, 4), any::<bool>()), 1..=4),
    ) {
        let stages: Vec<_> = stages.into_iter().map(|(p, prefers)| match p {
            Some(p) if prefers => Some(Placement { near: vec![], apart: vec![], ..prefer(p) }),
            p => p,
        }).collect();
        let pipeline = of(mend(stages));
        if let Ok(plan) = attempt(&pipeline, &t) {
            prop_assert_eq!(Reading::new(&pipeline, &t).wrong(&plan), None);
        }
        // Alone, a stage that prefers always runs.
        let mut lone = pipeline;
        lone.stages.retain(|s| s.placement.as_ref().is_some_and(|p| p.policy == Policy::Prefer));
        lone.stages.iter_mut().filter_map(|s| s.placement.as_mut()).for_each(|p| { p.near.clear(); p.apart.clear() });
        prop_assert!(attempt(&lone, &t).is_ok());
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_on_real_machines_honour_everything(
        machine in 0usize..5,
        stages in prop::collection::vec((placements(64, 4), 1u32..=4), 1..=4),
    ) {
        let t = [machines::ryzen_7950x, machines::rome_2p_nps4, machines::altra, machines::xeon_with_cxl, machines::power9]
            [machine]().topology();
        let (placements, replicas): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
        let mut pipeline = of(mend(placements));
        pipeline.stages.iter_mut().zip(replicas).for_each(|(s, r)| s.replicas = r);
        if let Ok(plan) = attempt(&pipeline, &t) {
            prop_assert_eq!(Reading::new(&pipeline, &t).wrong(&plan), None);
            prop_assert_eq!(explain::json(&pipeline, &t, &plan), explain::json(&pipeline, &t, &attempt(&pipeline, &t).ok().unwrap()));
        }
    }
}
