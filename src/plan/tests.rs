//! The planner by example. `reading` reads the constraints independently; `properties` compares the two.

mod build;
mod memory;
mod properties;
mod reading;

use super::{MemoryPolicy, Options, explain, plan};
use crate::diag::Diagnostics;
use crate::pipeline::Pipeline;
use crate::spec::{Memory, Placement, Smt};
use crate::topology::machines::{self, Machine, Shape};
use crate::topology::{CpuSet, Topology};

use build::*;
use reading::Reading;

#[test]
fn what_one_stage_cannot_have_is_told_with_what_there_is() {
    let vm = Machine::new(Shape { cores: 2, ..Shape::default() }).topology();
    let one = |p: Placement, t: &Topology| refusals(&of(vec![Some(p)]), t).join(" | ");
    let stage = "stage `a` cannot be placed: ";
    let restricted = machines::laptop().allowing("0");
    let cxl = machines::xeon_with_cxl().topology();
    let no_memory = cxl.clone().restricted(&cxl.allowed, &"0".parse().unwrap());
    let bound = |p: Placement| Placement { memory: at(Memory::Bind), ..p };
    let sized = |gib: u64, p: Placement| Placement { memory_size: Some(gib << 30), ..bound(p) };
    for (got, expected) in [
        (one(set("99"), &vm), "NF0402: CPU 99 does not exist: this machine has 0-1"),
        (one(set("1"), &restricted), "NF0403: CPU 1 is not among those this process may use (0)"),
        (one(set("0,1"), &machines::laptop().offline("1").topology()), "NF0402: CPU 1 is offline: 0,2-7 are online"),
        (one(on(7, cpus(1)), &vm), "NF0404: node 7 does not exist: this machine has node 0"),
        (one(on(2, cpus(1)), &cxl), "NF0405: node 2 has no CPU that is online"),
        (
            one(on(1, ask()), &cxl.clone().restricted(&"0".parse().unwrap(), &cxl.allowed_nodes)),
            "NF0405: none of the CPUs of node 1 (16-31,48-63) is among those this process may use (0)",
        ),
        (
            one(bound(on(1, ask())), &no_memory),
            "NF0405: the memory of node 1 is not among what this process may use (0)",
        ),
        (one(cpus(3), &vm), "NF0406: 3 CPUs asked, 2 usable here"),
        (one(on(0, cores(17)), &cxl), "NF0406: 17 cores asked, 16 usable on node 0"),
        (
            one(Placement { smt: at(Smt::Exclusive), ..cpus(5) }, &machines::laptop().topology()),
            "NF0406: 5 cores asked (`smt: exclusive`: a core for each CPU), 4 usable here",
        ),
        (one(on(1, set("0,16")), &cxl), "NF0407: CPU 0 is on node 0, and `numa` says 1"),
        (one(sized(200, cpus(1)), &cxl), "NF0410: `memory_size` is 200 GiB and the largest usable node has 128 GiB"),
        (one(sized(200, on(1, cpus(1))), &cxl), "NF0410: `memory_size` is 200 GiB and node 1 has 128 GiB"),
    ] {
        let (code, text) = expected.split_once(": ").unwrap();
        assert_eq!(got, format!("{code}: {stage}{text}"));
    }
    let both = Placement { numa: Some(at(vec![0, 1])), ..sized(200, cpus(1)) };
    assert!(attempt(&of(vec![Some(both)]), &cxl).is_ok());
}

#[test]
fn what_stages_cannot_have_together_is_told_with_the_fewest_that_clash() {
    let vm = Machine::new(Shape { cores: 2, ..Shape::default() }).topology();
    let laptop = machines::laptop().topology();
    let two_nodes = Machine::new(Shape { nodes: 2, cores: 2, ..Shape::default() }).topology();
    let one = |list: Vec<Option<Placement>>, t: &Topology| refusals(&of(list), t).join(" | ");
    assert_eq!(
        one(vec![Some(alone(cpus(1))), Some(cpus(2))], &vm),
        "NF0401: stages `a` and `b` cannot be placed at the same time: 1 exclusive CPU and 2 beside them asked in all, \
         2 usable"
    );
    assert_eq!(
        one(vec![Some(alone(cpus(1))), Some(cpus(1)), Some(alone(cpus(2)))], &vm),
        "NF0401: stages `b` and `c` cannot be placed at the same time: 2 exclusive CPUs and 1 beside them asked in \
         all, 2 usable"
    );
    assert_eq!(
        one(vec![Some(alone(cpus(2))), None], &vm),
        "NF0411: `a` would hold all usable CPUs (0-1) and leave no CPU for `b`, which has no placement"
    );
    assert_eq!(
        one(vec![Some(alone(set("0"))), Some(cpus(1)), Some(alone(set("0-1"))), Some(set("5"))], &laptop),
        "NF0401: stages `a` and `c` cannot be placed at the same time: 3 exclusive CPUs asked in all, 8 usable"
    );
    assert_eq!(
        one(vec![Some(set("0")), Some(near("a", set("3")))], &two_nodes),
        "NF0408: stages `a` and `b` cannot be placed on one node, as `near` insists"
    );
    assert_eq!(
        one(vec![Some(set("0")), Some(apart("a", set("4")))], &laptop),
        "NF0409: stages `a` and `b` cannot be placed on different cores, as `apart` insists"
    );
    // A stage of three replicas clashes with itself.
    let mut replicas = of(vec![Some(alone(cpus(1)))]);
    replicas.stages[0].replicas = 3;
    assert_eq!(
        refusals(&replicas, &vm),
        ["NF0401: stage `a` cannot be placed: 3 exclusive CPUs asked in all, 2 usable"]
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let t = machines::laptop().topology();
    let list = vec![
        Some(set("99")),
        Some(on(3, cpus(1))),
        Some(alone(set("0"))),
        Some(alone(set("0"))),
        Some(alone(set("1"))),
        Some(alone(set("1"))),
    ];
    let told: Vec<String> = refusals(&of(list), &t).iter().map(|m| m[..6].to_string()).collect();
    assert_eq!(told, ["NF0402", "NF0404", "NF0401", "NF0401"]);
}

#[test]
fn ties_to_what_floats_hold_only_by_what_floats() {
    let laptop = machines::laptop().topology();
    assert!(attempt(&of(vec![None, Some(near("a", cpus(1)))]), &laptop).is_ok());
    let cxl = machines::xeon_with_cxl().topology();
    assert_eq!(
        refusals(&of(vec![None, Some(near("a", cpus(1)))]), &cxl),
        ["NF0408: stage `b` cannot be kept near `a`, which has no placement"]
    );
    assert_eq!(
        refusals(&of(vec![None, Some(apart("a", cpus(1)))]), &laptop),
        ["NF0409: stage `b` cannot be kept apart from `a`, which has no placement"]
    );
    let own_core = Placement { smt: at(Smt::Exclusive), ..apart("a", cpus(1)) };
    assert!(attempt(&of(vec![None, Some(own_core)]), &laptop).is_ok());
}

#[test]
fn stages_that_talk_are_close_and_loads_are_spread() {
    let t = machines::ryzen_7950x().topology();
    let mut talk = of((0..6).map(|_| Some(cpus(1))).collect());
    chain(&mut talk);
    let cpus_of = |p: &Pipeline| -> CpuSet {
        places(p, &t).iter().flat_map(|s| s.parse::<CpuSet>().unwrap().iter().collect::<Vec<_>>()).collect()
    };
    let used = cpus_of(&talk);
    assert_eq!((used.len(), t.cores_of(&used).len()), (6, 6), "one core each: {used}");
    assert!(used.iter().all(|c| t.pu(c).unwrap().l3 == t.pu(used.first().unwrap()).unwrap().l3), "{used}");
    // Sixteen that do not talk take a core each; thirty-two a CPU each.
    for n in [16, 26] {
        let used = cpus_of(&of((0..n).map(|_| Some(cpus(1))).collect()));
        assert_eq!((used.len(), t.cores_of(&used).len()), (n, 16));
    }
}

#[test]
fn near_takes_the_same_l3_and_apart_another_node() {
    let t = machines::rome_2p_nps4().topology();
    let at = |p: &Pipeline| -> Vec<(u32, u32)> {
        let first = |s: &String| t.pu(s.parse::<CpuSet>().unwrap().first().unwrap()).map(|p| (p.l3, p.node)).unwrap();
        places(p, &t).iter().map(first).collect()
    };
    let got = at(&of(vec![Some(cpus(2)), Some(near("a", cpus(1))), Some(apart("a", cpus(1)))]));
    assert_eq!(got[0].0, got[1].0);
    assert_ne!(got[0].1, got[2].1);
    // Too large for one L3 of eight CPUs: still one node.
    let got = at(&of(vec![Some(alone(cpus(8))), Some(near("a", alone(cpus(8))))]));
    assert_eq!(got[0].1, got[1].1);
}

#[test]
fn siblings_are_shared_avoided_or_left_idle_as_asked() {
    let t = machines::laptop().topology();
    let smt = |smt, p: Placement| Some(Placement { smt: at(smt), ..p });
    assert_eq!(places(&of(vec![Some(cores(2))]), &t), ["0-1,4-5"]);
    assert_eq!(places(&of(vec![smt(Smt::Exclusive, cores(2)), None]), &t), ["0-1", "2-3,6-7"]);
    assert_eq!(places(&of(vec![smt(Smt::Avoid, cpus(4))]), &t), ["0-3"]);
    assert_eq!(places(&of(vec![smt(Smt::Avoid, on(0, ask()))]), &t), ["0-3"]);
    assert_eq!(places(&of(vec![Some(on(0, ask()))]), &t), ["0-7"]);
    let mut four = of(vec![smt(Smt::Exclusive, cpus(1)), Some(cpus(1))]);
    four.stages[0].replicas = 4;
    assert_eq!(refusals(&four, &t).len(), 1);
    four.stages[0].replicas = 3;
    assert_eq!(places(&four, &t), ["0", "1", "2", "3"]);
}

#[test]
fn memory_goes_with_the_nodes() {
    let t = machines::xeon_with_cxl().topology();
    let spread = Placement { numa: Some(at(vec![0, 2])), memory: at(Memory::Interleave), ..cpus(2) };
    let plan = attempt(&of(vec![Some(spread), Some(Placement { memory: at(Memory::Bind), ..on(1, cpus(1)) })]), &t);
    let tasks = plan.unwrap_or_else(|_| unreachable!()).tasks;
    assert_eq!((tasks[0].nodes.to_string(), tasks[0].memory), ("0,2".into(), MemoryPolicy::Interleave));
    assert!(tasks[0].cpus.iter().all(|c| t.pu(c).unwrap().node == 0));
    assert_eq!((tasks[1].nodes.to_string(), tasks[1].memory), ("1".into(), MemoryPolicy::Bind));
}

#[test]
fn preferences_bend_and_say_so() {
    let t = Machine::new(Shape { cores: 2, ..Shape::default() }).topology();
    let plan = |list| attempt(&of(list), &t).unwrap_or_else(|d| panic!("{}", d.list[0]));
    let one = plan(vec![Some(prefer(set("0,99")))]);
    assert_eq!(one.tasks[0].cpus.to_string(), "0");
    assert_eq!(one.tasks[0].gave_up, ["CPU 99 does not exist: this machine has 0-1"]);
    let both = plan(vec![Some(alone(cpus(1))), Some(prefer(alone(cpus(2)))), None]);
    assert_eq!(both.tasks.iter().map(|t| t.cpus.to_string()).collect::<Vec<_>>(), ["0", "1", "1"]);
    assert_eq!(both.tasks[1].gave_up, ["CPUs of its own: there are not enough", "as many CPUs as it asks"]);
    // Where all can be had nothing is given up.
    let all = plan(vec![Some(prefer(alone(cpus(1)))), Some(cpus(1))]);
    assert!(all.tasks.iter().all(|t| t.gave_up.is_empty()));
    assert_ne!(all.tasks[0].cpus, all.tasks[1].cpus);
}

#[test]
fn unpinned_runs_ask_nothing_of_the_machine() {
    let t = machines::laptop().allowing("2-3");
    let pipeline = of(vec![Some(set("99")), Some(alone(cpus(64))), None]);
    let mut found = Diagnostics::default();
    let plan = plan(&pipeline, &t, &Options { no_pin: true }, &mut found).unwrap();
    assert!(found.list.is_empty());
    assert!(plan.tasks.iter().all(|t| !t.pinned && t.cpus.to_string() == "2-3" && t.memory == MemoryPolicy::Default));
}

#[test]
fn many_stages_are_no_trouble() {
    let t = machines::laptop().topology();
    let many =
        |n: u32, p: Option<Placement>| pipeline((0..n).map(|i| stage(&format!("s{i}"), i, 1, p.clone())).collect());
    let plan = |p: &Pipeline| attempt(p, &t).unwrap_or_else(|d| panic!("{}", d.list[0]));
    assert_eq!(plan(&many(100_000, None)).tasks.len(), 100_000);
    let pinned = plan(&many(2_000, Some(Placement { load: 0.1, ..cpus(1) })));
    for cpu in 0..8 {
        assert_eq!(pinned.tasks.iter().filter(|t| t.cpus.contains(cpu)).count(), 250);
    }
    let mut tied = many(500, Some(near("s0", cpus(1))));
    tied.stages[0].placement = Some(alone(cpus(1)));
    let tied = plan(&tied);
    assert!(tied.tasks[1..].iter().all(|t| t.cpus != tied.tasks[0].cpus));
}

#[test]
fn a_plan_reads_well() {
    let t = machines::laptop().topology();
    let mut p = of(vec![Some(alone(cpus(2))), Some(cpus(1)), None]);
    chain(&mut p);
    p.stages[1].replicas = 2;
    let plan = attempt(&p, &t).unwrap_or_else(|d| panic!("{}", d.list[0]));
    assert_eq!(
        explain::human(&p, &t, &plan),
        "p: 8 usable CPUs (0-7) on 1 NUMA node\n\
         STAGE  CPUS  NODE  MEMORY   WHY\n\
         a      0-1   0     default  node 0, L3 0; exclusive: nothing else runs there; same L3 as `b`\n\
         b@0    2     0     default  node 0, L3 0; same L3 as `a`\n\
         b@1    3     0     default  node 0, L3 0; same L3 as `a`\n\
         floating over CPUs 2-7: c\n"
    );
    let json = explain::json(&p, &t, &plan);
    assert_eq!(json["floating"], "2-7");
    assert_eq!(json["tasks"][0]["cpus"], "0-1");
    assert_eq!(json["tasks"][3]["pinned"], false);
}

#[test]
fn tight_but_possible_is_found_and_just_impossible_is_shown() {
    let t = machines::rome_2p_nps4().topology();
    let pairs = |n: u32, of: &dyn Fn(u32) -> (Placement, Placement)| {
        let both = (0..n).flat_map(|i| {
            let (a, b) = of(i);
            [(2 * i, a), (2 * i + 1, near(&format!("s{}", 2 * i), b))]
        });
        pipeline(both.map(|(i, p)| stage(&format!("s{i}"), i, 1, Some(p))).collect())
    };
    // 17 of a node's 32 CPUs: one pair a node, and eight nodes.
    assert!(attempt(&pairs(8, &|_| (alone(cpus(8)), alone(cpus(9)))), &t).is_ok());
    assert!(refusals(&pairs(9, &|_| (alone(cpus(8)), alone(cpus(9)))), &t)[0].starts_with("NF0408"));
    let mixed = pairs(30, &|i| (alone(cores(1 + i % 3)), alone(cpus(1 + i % 7))));
    let plan = attempt(&mixed, &t).unwrap_or_else(|d| panic!("{}", d.list[0]));
    assert_eq!(Reading::new(&mixed, &t).wrong(&plan), None);
    let replicas = |n: u32, p: Placement| pipeline(vec![stage("a", 0, n, Some(p))]);
    assert!(attempt(&replicas(256, alone(cpus(1))), &t).is_ok());
    assert_eq!(
        refusals(&replicas(100_000, alone(cpus(1))), &t),
        ["NF0401: stage `a` cannot be placed: 100000 exclusive CPUs asked in all, 256 usable"]
    );
}
