//! The planner against an independent reading of the constraints, and against brute force on small machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{MemoryPolicy, Options, Plan, explain, plan};
use crate::diag::{Diagnostics, Source, Span};
use crate::pipeline::{Edge, EdgeId, GangId, Pipeline, Stage, StageId, Stdin, Stdout};
use crate::spec::{
    Command, Cpus, Delivery, EnvInherit, Kind, Memory, OnFailure, Placement, Policy, Scheduling, Signal, Smt, Spanned,
    Wait,
};
use crate::topology::machines::{self, Machine, Shape};
use crate::topology::{CpuSet, Topology};

fn span() -> Span {
    Span { source: Arc::new(Source { name: "t.yaml".into(), text: String::new() }), range: 0..0 }
}

fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: span() }
}

/// A placement that asks for nothing yet.
fn ask() -> Placement {
    Placement {
        span: span(),
        cpus: None,
        numa: None,
        memory: at(Memory::Default),
        smt: at(Smt::Share),
        exclusive: at(false),
        near: vec![],
        apart: vec![],
        load: 1.0,
        memory_size: None,
        memory_bandwidth: None,
        policy: Policy::Strict,
    }
}

fn cpus(n: u32) -> Placement {
    Placement { cpus: Some(at(Cpus::Logical(n))), ..ask() }
}

fn cores(n: u32) -> Placement {
    Placement { cpus: Some(at(Cpus::Cores(n))), ..ask() }
}

fn set(list: &str) -> Placement {
    Placement { cpus: Some(at(Cpus::Set(list.parse::<CpuSet>().unwrap().iter().collect()))), ..ask() }
}

fn alone(p: Placement) -> Placement {
    Placement { exclusive: at(true), ..p }
}

fn on(node: u32, p: Placement) -> Placement {
    Placement { numa: Some(at(vec![node])), ..p }
}

fn near(other: &str, p: Placement) -> Placement {
    Placement { near: vec![at(other.to_string())], ..p }
}

fn apart(other: &str, p: Placement) -> Placement {
    Placement { apart: vec![at(other.to_string())], ..p }
}

fn prefer(p: Placement) -> Placement {
    Placement { policy: Policy::Prefer, ..p }
}

fn stage(name: &str, gang: u32, replicas: u32, placement: Option<Placement>) -> Stage {
    Stage {
        name: name.into(),
        span: span(),
        gang: GangId(gang),
        command: Command::Argv(vec![]),
        command_span: span(),
        env: BTreeMap::new(),
        cwd: None,
        cwd_span: None,
        user: None,
        user_span: None,
        replicas,
        service: false,
        depends_on: vec![],
        timeout: None,
        stop_signal: Signal(15),
        stop_timeout: Duration::from_secs(10),
        placement,
        scheduling: Scheduling::default(),
        stdin: Stdin::Null,
        stdout: Stdout::Log,
        bind: vec![],
        outputs: vec![],
        inputs: vec![],
    }
}

fn pipeline(stages: Vec<Stage>) -> Pipeline {
    Pipeline {
        name: "p".into(),
        description: None,
        dir: "/".into(),
        vars: BTreeMap::new(),
        env_inherit: EnvInherit::All,
        timeout: None,
        parallel: None,
        on_failure: OnFailure::Continue,
        gangs: (0..stages.len() as u32).map(|s| vec![StageId(s)]).collect(),
        stages,
        edges: vec![],
    }
}

/// Stages `a`, `b`, … of one replica each.
fn of(placements: Vec<Option<Placement>>) -> Pipeline {
    let named = placements.into_iter().zip('a'..).enumerate();
    pipeline(named.map(|(i, (p, name))| stage(&name.to_string(), i as u32, 1, p)).collect())
}

fn chain(pipeline: &mut Pipeline) {
    for i in 1..pipeline.stages.len() as u32 {
        pipeline.stages[i as usize].gang = GangId(0);
        pipeline.stages[i as usize - 1].outputs = vec![EdgeId(i - 1)];
        pipeline.stages[i as usize].inputs = vec![EdgeId(i - 1)];
        pipeline.edges.push(Edge {
            name: format!("e{i}"),
            span: span(),
            kind: Kind::Ring,
            from: vec![StageId(i - 1)],
            to: vec![StageId(i)],
            capacity: 1 << 24,
            max_message: 1 << 22,
            delivery: Delivery::Broadcast,
            wait: Wait::Adaptive,
            rate: None,
            messages: None,
        });
    }
}

fn attempt(pipeline: &Pipeline, t: &Topology) -> Result<Plan, Diagnostics> {
    let mut found = Diagnostics::default();
    match plan(pipeline, t, &Options::default(), &mut found) {
        Some(plan) => {
            assert!(!found.has_errors());
            Ok(plan)
        }
        None => {
            assert!(found.has_errors());
            Err(found)
        }
    }
}

fn places(pipeline: &Pipeline, t: &Topology) -> Vec<String> {
    attempt(pipeline, t).map_err(|d| d.list[0].to_string()).unwrap().tasks.iter().map(|t| t.cpus.to_string()).collect()
}

fn refusals(pipeline: &Pipeline, t: &Topology) -> Vec<String> {
    attempt(pipeline, t).expect_err("no plan").list.iter().map(|d| d.to_string()).collect()
}

/// The constraints as the file format's reference tells them, read from the file's values and nothing of the planner's.
struct Reading<'a> {
    pipeline: &'a Pipeline,
    t: &'a Topology,
    /// Stage of each task.
    tasks: Vec<usize>,
}

impl<'a> Reading<'a> {
    fn new(pipeline: &'a Pipeline, t: &'a Topology) -> Self {
        let tasks = pipeline.stages.iter().enumerate().flat_map(|(s, x)| (0..x.replicas).map(move |_| s)).collect();
        Self { pipeline, t, tasks }
    }

    fn placement(&self, task: usize) -> Option<&'a Placement> {
        self.pipeline.stages[self.tasks[task]].placement.as_ref()
    }

    /// May this task, looked at alone, have exactly these CPUs?
    fn fits(&self, task: usize, cpus: &CpuSet) -> bool {
        let Some(p) = self.placement(task) else { return true };
        let t = self.t;
        let nodes = t.nodes_of(cpus);
        let numa: Option<CpuSet> = p.numa.as_ref().map(|n| n.value.iter().copied().collect());
        let one_per_core = t.cores_of(cpus).len() == cpus.len();
        let all_of_node = || -> CpuSet {
            let here = |c: &u32| numa.as_ref().is_some_and(|n| n.contains(t.pu(*c).unwrap().node));
            let mine: CpuSet = t.allowed.iter().filter(here).collect();
            let first = |c: &u32| t.siblings(*c).intersection(&mine).first() == Some(*c);
            if p.smt.value == Smt::Share { mine } else { mine.iter().filter(first).collect() }
        };
        let count = match p.cpus.as_ref().map(|c| &c.value) {
            Some(Cpus::Set(ids)) => *cpus == ids.iter().copied().collect(),
            Some(Cpus::Logical(n)) => cpus.len() == *n as usize && (p.smt.value != Smt::Exclusive || one_per_core),
            Some(Cpus::Cores(n)) if p.smt.value == Smt::Exclusive => cpus.len() == *n as usize && one_per_core,
            Some(Cpus::Cores(n)) => {
                let whole = |c: u32| t.siblings(c).intersection(&t.allowed).is_subset(cpus);
                t.cores_of(cpus).len() == *n as usize && cpus.iter().all(whole)
            }
            None if numa.is_some() => *cpus == all_of_node(),
            None => cpus.len() == 1,
        };
        let needs_nodes = !matches!(p.memory.value, Memory::Default | Memory::Local);
        count
            && !cpus.is_empty()
            && cpus.is_subset(&t.allowed)
            && numa.as_ref().is_none_or(|n| nodes.is_subset(n) && n.is_subset(&t.node_ids()))
            && (!needs_nodes || numa.as_ref().unwrap_or(&nodes).is_subset(&t.allowed_nodes))
    }

    /// May these two be where they are at once?
    fn together(&self, (a, x): (usize, &CpuSet), (b, y): (usize, &CpuSet)) -> bool {
        let (Some(p), Some(q)) = (self.placement(a), self.placement(b)) else { return true };
        let names = |list: &[Spanned<String>], task: usize| {
            list.iter().any(|n| n.value == self.pipeline.stages[self.tasks[task]].name)
        };
        let insists = |p: &Placement, q: usize, list: fn(&Placement) -> &Vec<Spanned<String>>| {
            p.policy == Policy::Strict && names(list(p), q)
        };
        let strict = |p: &Placement| p.policy == Policy::Strict;
        let own_core = |p: &Placement| strict(p) && p.smt.value == Smt::Exclusive;
        let one_core = !self.t.cores_of(x).is_disjoint(&self.t.cores_of(y));
        let is_near = insists(p, b, |p| &p.near) || insists(q, a, |p| &p.near);
        let is_apart = insists(p, b, |p| &p.apart) || insists(q, a, |p| &p.apart);
        !((strict(p) && p.exclusive.value || strict(q) && q.exclusive.value) && !x.is_disjoint(y))
            && !((own_core(p) || own_core(q)) && one_core)
            && !(is_near && self.t.nodes_of(&x.union(y)).len() != 1)
            && !(is_apart && one_core)
    }

    fn floating(&self, placed: &[CpuSet]) -> CpuSet {
        let taken = (0..placed.len()).filter_map(|i| Some((self.placement(i)?, &placed[i]))).flat_map(|(p, cpus)| {
            let whole = p.policy == Policy::Strict && p.smt.value == Smt::Exclusive;
            let exclusive = p.policy == Policy::Strict && p.exclusive.value;
            cpus.iter().flat_map(move |c| {
                match (whole, exclusive) {
                    (true, _) => self.t.siblings(c),
                    (_, true) => [c].into_iter().collect(),
                    _ => CpuSet::default(),
                }
                .iter()
                .collect::<Vec<_>>()
            })
        });
        self.t.allowed.difference(&taken.collect())
    }

    /// The first thing that is wrong with a plan.
    fn wrong(&self, plan: &Plan) -> Option<String> {
        let cpus: Vec<CpuSet> = plan.tasks.iter().map(|t| t.cpus.clone()).collect();
        if plan.tasks.len() != self.tasks.len() {
            return Some("tasks are missing".into());
        }
        for (i, task) in plan.tasks.iter().enumerate() {
            if task.stage.0 as usize != self.tasks[i] || task.cpus.is_empty() || !task.cpus.is_subset(&self.t.allowed) {
                return Some(format!("task {i} is wrong: {task:?}"));
            }
            match self.placement(i) {
                None if task.pinned || task.cpus != plan.floating => return Some(format!("task {i} does not float")),
                Some(p) if p.policy == Policy::Strict && !self.fits(i, &task.cpus) => {
                    return Some(format!("task {i} has {}", task.cpus));
                }
                _ => {}
            }
            if (0..i).any(|j| !self.together((j, &cpus[j]), (i, &cpus[i]))) {
                return Some(format!("task {i} clashes: {:?}", cpus));
            }
        }
        (!plan.floating.is_subset(&self.floating(&cpus))).then(|| "floats over exclusive CPUs".into())
    }

    /// Is there any placement at all? Tries all of them.
    fn possible(&self, placed: &mut Vec<CpuSet>) -> bool {
        let task = placed.len();
        if task == self.tasks.len() {
            let floats = self.pipeline.stages.iter().any(|s| s.placement.is_none());
            return !floats || !self.floating(placed).is_empty();
        }
        let ids: Vec<u32> = self.t.allowed.iter().collect();
        (1u32..1 << ids.len()).any(|mask| {
            let cpus: CpuSet = ids.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, c)| *c).collect();
            // What floats has no CPUs of its own here.
            let ok = match self.placement(task) {
                None => mask == 1,
                Some(_) => {
                    self.fits(task, &cpus)
                        && (0..task).all(|other| self.together((other, &placed[other]), (task, &cpus)))
                }
            };
            ok && {
                placed.push(cpus);
                let found = self.possible(placed);
                placed.pop();
                found
            }
        })
    }
}

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
         b.0    2     0     default  node 0, L3 0; same L3 as `a`\n\
         b.1    3     0     default  node 0, L3 0; same L3 as `a`\n\
         floating over CPUs 2-7: c\n"
    );
    let json = explain::json(&p, &t, &plan);
    assert_eq!(json["floating"], "2-7");
    assert_eq!(json["tasks"][0]["cpus"], "0-1");
    assert_eq!(json["tasks"][3]["pinned"], false);
}
