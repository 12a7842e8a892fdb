//! Where the memory of edges comes from.

use super::*;
use crate::spec::{EdgeMemory, EdgeNuma, Hugepages, Wait};

fn joined(numa: EdgeNuma, placements: Vec<Option<Placement>>) -> Pipeline {
    let mut p = of(placements);
    chain(&mut p);
    p.edges[0].memory = EdgeMemory { numa_span: None, numa, hugepages: Hugepages::None };
    p
}

#[test]
fn memory_lies_where_it_is_asked_for_or_with_who_reads() {
    let t = machines::spr_2p_snc4().topology();
    let place = |numa, a: Option<Placement>, b: Option<Placement>| {
        let plan = attempt(&joined(numa, vec![a, b]), &t).unwrap_or_else(|d| panic!("{}", d.list[0]));
        (plan.edges[0].rings[0].node, plan.edges[0].rings[0].strict)
    };
    let here = |node| Some(on(node, cpus(1)));
    assert_eq!(place(EdgeNuma::Auto, here(2), here(5)), (Some(5), false));
    assert_eq!(place(EdgeNuma::Auto, here(2), None), (Some(2), false));
    assert_eq!(place(EdgeNuma::Auto, None, None), (None, false));
    assert_eq!(place(EdgeNuma::Producer, here(2), here(5)), (Some(2), true));
    assert_eq!(place(EdgeNuma::Consumer, here(2), here(5)), (Some(5), true));
    assert_eq!(place(EdgeNuma::Node(7), here(2), None), (Some(7), true));
    let single = machines::laptop().topology();
    let plan = attempt(&joined(EdgeNuma::Auto, vec![None, None]), &single).unwrap();
    assert_eq!(plan.edges[0].rings[0].node, None, "there is nothing to choose");
    let text = |numa| {
        let p = joined(numa, vec![here(2), here(5)]);
        let told = explain::human(&p, &t, &attempt(&p, &t).unwrap());
        told.lines().last().unwrap().to_string()
    };
    assert_eq!(text(EdgeNuma::Auto), "edge e1: memory on node 5: preferred: the consumers run there");
    assert_eq!(text(EdgeNuma::Node(1)), "edge e1: memory on node 1: asked for");
}

#[test]
fn memory_that_cannot_be_there_is_refused() {
    let t = machines::spr_2p_snc4().topology();
    let only = t.clone().restricted(&t.allowed, &"0-3".parse().unwrap());
    let refused = |numa, t: &Topology| refusals(&joined(numa, vec![Some(on(0, cpus(1))), None]), t).join(" | ");
    assert_eq!(
        refused(EdgeNuma::Node(9), &t),
        "NF0404: the memory of edge `e1` cannot come from node 9: it does not exist: this machine has nodes 0-7"
    );
    assert_eq!(
        refused(EdgeNuma::Node(5), &only),
        "NF0405: the memory of edge `e1` cannot come from node 5: this process may use only nodes 0-3"
    );
    assert_eq!(
        refused(EdgeNuma::Consumer, &t),
        "NF0413: edge `e1` has no one consumer's node: that end runs on nodes 0-7"
    );
}

#[test]
fn nobody_spins_against_itself() {
    let t = machines::one_cpu().topology();
    for wait in [Wait::Adaptive, Wait::Spin] {
        let mut p = joined(EdgeNuma::Auto, vec![None, None]);
        p.edges[0].wait = wait;
        let mut found = Diagnostics::default();
        let made = plan(&p, &t, &Options::default(), &mut found).unwrap();
        assert!(made.edges[0].rings[0].one_cpu);
        let told: Vec<String> = found.list.iter().map(|d| d.to_string()).collect();
        match wait {
            Wait::Spin => {
                assert_eq!(told, ["NF0414: both ends of edge `e1` share one CPU, so it sleeps instead of spinning"])
            }
            _ => assert_eq!(told, [] as [&str; 0]),
        }
    }
    let made = attempt(&joined(EdgeNuma::Auto, vec![None, None]), &machines::laptop().topology()).unwrap();
    assert!(!made.edges[0].rings[0].one_cpu);
}
