//! Spec → Pipeline: names become indices, and every mistake that needs more than one key to see is told at once.

use std::path::Path;

use super::bindings::{self, Binder, Bindings, Ends};
use super::edges::{self, Resolved};
use super::names::Names;
use super::waits::{self, Wait, Waiting};
use super::{Dependency, EdgeId, GangId, Pipeline, Stage, StageId, files, gangs, placement, restarts, rings, tasks};
use crate::diag::{Code, Diagnostic, Diagnostics, codes};
use crate::spec::{self, Spec};

/// What is true of a spec whatever was left out of it because it was wrong: mistakes of names, not of values.
const ON_PARTIAL: &[Code] = &[
    codes::CYCLE,
    codes::UNKNOWN_STAGE,
    codes::UNKNOWN_EDGE,
    codes::EDGE_TO_ITSELF,
    codes::NAMED_TWICE,
    codes::WAITS_FOR_MATE,
    codes::GANG_CYCLE,
];

/// `None` if there was an error, here or before: then only mistakes of names are looked for, so that they are told
/// together with the others. `dir` is the folder of the pipeline file, absolute.
///
/// What holds of a pipeline that was built, besides what its types say: no stage waits, directly or through others,
/// for itself; and no gang does, when a gang starts once everything that any of its stages waits for outside the gang
/// holds. So whatever order of starting keeps these two rules, nothing is left waiting for ever.
pub fn build(spec: &Spec, dir: &Path, found: &mut Diagnostics) -> Option<Pipeline> {
    let told = found.list.len();
    let partial = found.has_errors();
    let (stage_names, edge_names) = (Names::of_stages(spec), Names::of_edges(spec));
    let waits = waits::resolve(spec, &stage_names, found);
    placement::check(spec, &stage_names, found);
    tasks::check(spec, found);
    files::check(spec, dir, found);

    let edges = edges::resolve(spec, &stage_names, found);
    let ends = ends(spec, &edges);
    let binder = Binder::new(spec, &edge_names, &edges);
    let bindings: Vec<_> =
        ends.iter().enumerate().map(|(i, ends)| binder.stage(StageId(i as u32), ends, found)).collect();
    bindings::common_env(&spec.env, found);
    binder.pipes(found);
    rings::check(spec, &edges, found);
    waits::edge_cycles(spec, &edges, found);

    let services = waits::services(spec, &edges, &ends, found);
    let (gang_of, gangs) = gangs::find(spec.stages.len(), &edges);
    let waiting = Waiting {
        spec,
        edges: &edges,
        ends: &ends,
        waits: &waits,
        gang_of: &gang_of,
        gangs: gangs.len(),
        services: &services,
    };
    waiting.check(found);
    restarts::check(spec, &edges, &services, found);
    if partial {
        let names_and_waits = |d: &Diagnostic| ON_PARTIAL.contains(&d.code);
        let rest = found.list.split_off(told);
        found.list.extend(rest.into_iter().filter(names_and_waits));
        found.drop_consequences(told);
    }
    if found.has_errors() {
        return None;
    }

    let mut stages: Vec<_> = (spec.stages.iter().zip(bindings).zip(ends).zip(&gang_of))
        .map(|(((stage, bindings), ends), &gang)| lower(spec, stage, bindings, ends, gang))
        .collect();
    for (stage, service) in stages.iter_mut().zip(services) {
        stage.service = service.is_some();
    }
    for Wait { stage, on, said } in waits {
        stages[stage.0 as usize].depends_on.push(Dependency { stage: on, condition: said.condition });
    }
    Some(Pipeline {
        name: spec.name.value.clone(),
        description: spec.description.clone(),
        dir: dir.to_path_buf(),
        vars: spec.vars.clone(),
        env_inherit: spec.env_inherit.clone(),
        timeout: spec.timeout,
        parallel: spec.parallel,
        on_failure: spec.on_failure,
        stages,
        edges: edges.into_iter().map(|r| r.edge).collect(),
        gangs,
    })
}

/// The edges of each stage.
fn ends(spec: &Spec, edges: &[Resolved]) -> Vec<Ends> {
    let mut ends = vec![Ends::default(); spec.stages.len()];
    for (i, Resolved { edge, .. }) in edges.iter().enumerate() {
        let id = EdgeId(i as u32);
        edge.from.iter().for_each(|s| ends[s.0 as usize].outputs.push(id));
        edge.to.iter().for_each(|s| ends[s.0 as usize].inputs.push(id));
    }
    ends
}

/// All of a stage but what depends on other stages.
fn lower(spec: &Spec, stage: &spec::Stage, bindings: Bindings, ends: Ends, gang: GangId) -> Stage {
    let env = spec.env.iter().chain(&stage.env).map(|(k, v)| (k.clone(), v.value.clone()));
    Stage {
        name: stage.name.value.clone(),
        span: stage.name.span.clone(),
        gang,
        command: stage.command.value.clone(),
        command_span: stage.command.span.clone(),
        env: env.collect(),
        cwd: stage.cwd.as_ref().map(|c| c.value.clone()),
        cwd_span: stage.cwd.as_ref().map(|c| c.span.clone()),
        user: stage.user.as_ref().map(|u| u.value.clone()),
        user_span: stage.user.as_ref().map(|u| u.span.clone()),
        replicas: stage.replicas.value,
        service: false,
        depends_on: vec![],
        timeout: stage.timeout,
        restart: stage.restart.as_ref().map(restarts::resolve),
        stop_signal: stage.stop_signal,
        stop_timeout: stage.stop_timeout,
        placement: stage.placement.clone(),
        scheduling: stage.scheduling.unwrap_or_default(),
        stdin: bindings.stdin,
        stdout: bindings.stdout,
        bind: bindings.bind,
        outputs: ends.outputs,
        inputs: ends.inputs,
    }
}
