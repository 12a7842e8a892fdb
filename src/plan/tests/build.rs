//! Pipelines made by hand, and the planner asked about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Options, Plan, plan};
use crate::diag::{Diagnostics, Source, Span};
use crate::pipeline::{Edge, EdgeId, GangId, Pipeline, Stage, StageId, Stdin, Stdout};
use crate::spec::{
    By, Command, Cpus, Delivery, EnvInherit, Kind, Memory, OnFailure, OnFull, Placement, Policy, Scheduling, Signal,
    Smt, Spanned, Wait,
};
use crate::topology::{CpuSet, Topology};

pub(super) fn span() -> Span {
    Span { source: Arc::new(Source { name: "t.yaml".into(), text: String::new() }), range: 0..0 }
}

pub(super) fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: span() }
}

/// A placement that asks for nothing yet.
pub(super) fn ask() -> Placement {
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

pub(super) fn cpus(n: u32) -> Placement {
    Placement { cpus: Some(at(Cpus::Logical(n))), ..ask() }
}

pub(super) fn cores(n: u32) -> Placement {
    Placement { cpus: Some(at(Cpus::Cores(n))), ..ask() }
}

pub(super) fn set(list: &str) -> Placement {
    Placement { cpus: Some(at(Cpus::Set(list.parse::<CpuSet>().unwrap().iter().collect()))), ..ask() }
}

pub(super) fn alone(p: Placement) -> Placement {
    Placement { exclusive: at(true), ..p }
}

pub(super) fn on(node: u32, p: Placement) -> Placement {
    Placement { numa: Some(at(vec![node])), ..p }
}

pub(super) fn near(other: &str, p: Placement) -> Placement {
    Placement { near: vec![at(other.to_string())], ..p }
}

pub(super) fn apart(other: &str, p: Placement) -> Placement {
    Placement { apart: vec![at(other.to_string())], ..p }
}

pub(super) fn prefer(p: Placement) -> Placement {
    Placement { policy: Policy::Prefer, ..p }
}

pub(super) fn stage(name: &str, gang: u32, replicas: u32, placement: Option<Placement>) -> Stage {
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
        restart: None,
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

pub(super) fn pipeline(stages: Vec<Stage>) -> Pipeline {
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
pub(super) fn of(placements: Vec<Option<Placement>>) -> Pipeline {
    let named = placements.into_iter().zip('a'..).enumerate();
    pipeline(named.map(|(i, (p, name))| stage(&name.to_string(), i as u32, 1, p)).collect())
}

pub(super) fn chain(pipeline: &mut Pipeline) {
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
            by: By::RoundRobin,
            on_full: OnFull::Block,
            redeliver: 0,
            wait: Wait::Adaptive,
            sealed: false,
            memory: Default::default(),
            rate: None,
            messages: None,
        });
    }
}

pub(super) fn attempt(pipeline: &Pipeline, t: &Topology) -> Result<Plan, Diagnostics> {
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

pub(super) fn places(pipeline: &Pipeline, t: &Topology) -> Vec<String> {
    attempt(pipeline, t).map_err(|d| d.list[0].to_string()).unwrap().tasks.iter().map(|t| t.cpus.to_string()).collect()
}

pub(super) fn refusals(pipeline: &Pipeline, t: &Topology) -> Vec<String> {
    attempt(pipeline, t).expect_err("no plan").list.iter().map(|d| d.to_string()).collect()
}
