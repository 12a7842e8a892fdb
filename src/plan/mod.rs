//! Pipeline + Topology → Plan: which CPUs, nodes and memory policy each stage gets. Pure and deterministic.
//!
//! Each stage's demand is checked alone (`demand`), then all that stages insist on is searched for (`search`); stages
//! that only prefer take what is left (`prefer`), and those that can share are spread last. What cannot be is told with
//! the fewest stages that already cannot be placed together (`blame`).

mod blame;
mod choices;
mod demand;
pub mod explain;
mod groups;
mod machine;
mod memory;
mod prefer;
mod problem;
mod reasons;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod types;

pub use types::*;

use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::pipeline::{Pipeline, Stage, StageId};
use crate::topology::Topology;

use machine::Machine;
use problem::Problem;
use search::{Outcome, SEARCH_STEPS, Scope, Search, search};

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Everything floats, whatever the file asks.
    pub no_pin: bool,
}

/// `None` when something that the file insists on cannot be had here; `found` says what.
pub fn plan(pipeline: &Pipeline, topology: &Topology, options: &Options, found: &mut Diagnostics) -> Option<Plan> {
    let m = Machine::new(topology);
    let mut told = Diagnostics::default();
    let demands = pipeline.stages.iter().map(|s| match &s.placement {
        Some(placement) if !options.no_pin => demand::of(s, placement, &m, &mut told),
        _ => None,
    });
    let demands = demands.collect();
    let problem = Problem::new(pipeline, &m, demands);
    // With every tie strict, preferences are honoured where all of them can be.
    let prefers = problem.demands.iter().flatten().any(|d| !d.strict);
    let eager = prefers.then(|| prefer::as_strict(&problem));
    let placed = if options.no_pin {
        // Nothing is placed, so there is nothing to fail.
        match search(&problem, &Scope { active: vec![false; pipeline.stages.len()], floats: false, steps: 1 }) {
            Outcome::Found(search) => Some((search, vec![vec![]; problem.tasks.len()])),
            _ => None,
        }
    } else {
        place(&problem, eager.as_ref(), &mut told)
    };
    let placed = placed.map(|(search, gave_up)| assemble(&problem, &search, gave_up, options)).map(|mut plan| {
        plan.edges = memory::edges(pipeline, topology, &plan, options, &mut told);
        plan
    });
    if let Some(plan) = &placed
        && !options.no_pin
    {
        floating_ties(pipeline, topology, plan, &mut told);
    }
    let impossible = told.has_errors();
    told.list.into_iter().for_each(|d| found.push(d));
    placed.filter(|_| !impossible)
}

type Placed<'a> = (Box<Search<'a>>, Vec<Vec<String>>);

fn place<'a>(p: &'a Problem<'a>, eager: Option<&'a Problem<'a>>, told: &mut Diagnostics) -> Option<Placed<'a>> {
    let strict: Vec<bool> = p.demands.iter().map(|d| d.as_ref().is_some_and(|d| d.strict)).collect();
    let any: Vec<bool> = p.demands.iter().map(Option::is_some).collect();
    if let Some(eager) = eager
        && let Outcome::Found(mut search) =
            search(eager, &Scope { active: any.clone(), floats: p.floats, steps: SEARCH_STEPS })
        && share(p, &mut search)
    {
        return Some((search, vec![vec![]; p.tasks.len()]));
    }
    // What only prefers must at least find somewhere to run.
    let scope = Scope { floats: p.floats || strict != any, active: strict, steps: SEARCH_STEPS };
    match search(p, &scope) {
        Outcome::Found(mut search) => {
            let gave_up = prefer::place(p, &mut search, told)?;
            if share(p, &mut search) {
                return Some((search, gave_up));
            }
            blame::undecided(p, told);
        }
        Outcome::Impossible => blame::impossible(p, scope, told),
        Outcome::Undecided => blame::undecided(p, told),
    }
    None
}

/// Spreads what can share, gang by gang. The search has seen to it that there is room.
fn share(p: &Problem, search: &mut Search) -> bool {
    let mut rest: Vec<usize> = (0..p.tasks.len()).filter(|&t| search.state.placed[t].is_empty()).collect();
    rest.sort_by_key(|&t| (p.pipeline.stages[p.tasks[t].stage].gang, t));
    rest.into_iter().all(|task| search.admit(task, p.demand(task)))
}

fn assemble(p: &Problem, search: &Search, gave_up: Vec<Vec<String>>, options: &Options) -> Plan {
    let (state, t) = (&search.state, p.m.topology);
    let floating = p.m.ids(&state.floating(p).collect::<Vec<_>>());
    let floating_nodes = t.nodes_of(&floating);
    let float = |stage: usize, replica: u32| Task {
        stage: StageId(stage as u32),
        replica,
        cpus: floating.clone(),
        pinned: false,
        nodes: floating_nodes.clone(),
        memory: MemoryPolicy::Default,
        why: vec![if options.no_pin { "--no-pin: nothing is pinned" } else { "no placement: it floats" }.to_string()],
        gave_up: vec![],
    };
    let mut tasks: Vec<Task> = vec![];
    let mut next = 0;
    for (stage, s) in p.pipeline.stages.iter().enumerate() {
        for replica in 0..s.replicas.max(1) {
            if p.demands[stage].is_none() {
                tasks.push(float(stage, replica));
                continue;
            }
            let (task, demand) = (next, p.demand(next));
            next += 1;
            let cpus = p.m.ids(&state.placed[task]);
            tasks.push(Task {
                stage: StageId(stage as u32),
                replica,
                pinned: true,
                nodes: demand.named.clone().unwrap_or_else(|| t.nodes_of(&cpus)),
                cpus,
                memory: demand.memory,
                why: reasons::why(p, state, task),
                gave_up: demand
                    .gave_up
                    .iter()
                    .chain(&gave_up[task])
                    .cloned()
                    .chain(reasons::untied(p, state, task))
                    .collect(),
            });
        }
    }
    Plan { tasks, edges: vec![], floating, usable: t.allowed.clone() }
}

/// `near` and `apart` about a stage that floats: they hold if its CPUs happen to make them hold.
fn floating_ties(pipeline: &Pipeline, t: &Topology, plan: &Plan, told: &mut Diagnostics) {
    let floats = |s: &Stage| s.placement.is_none();
    for said in problem::ties(pipeline).iter().filter(|s| s.strict && floats(&pipeline.stages[s.b])) {
        let (stage, other) = (&pipeline.stages[said.a].name, &pipeline.stages[said.b].name);
        let mine = plan.tasks.iter().filter(|x| x.stage.0 as usize == said.a && x.pinned);
        let holds = |task: &Task| match said.near {
            true => t.nodes_of(&task.cpus.union(&plan.floating)).len() <= 1,
            false => t.cores_of(&task.cpus).is_disjoint(&t.cores_of(&plan.floating)),
        };
        if mine.into_iter().all(holds) {
            continue;
        }
        let (code, word) = match said.near {
            true => (codes::NEAR_IMPOSSIBLE, "near"),
            false => (codes::APART_IMPOSSIBLE, "apart from"),
        };
        let message = format!("stage `{stage}` cannot be kept {word} `{other}`, which has no placement");
        let error = Diagnostic::error(code, message)
            .at(said.span, format!("`{other}` floats over CPUs {}", plan.floating))
            .at(&pipeline.stages[said.b].span, "this stage has no placement")
            .help(format!("give `{other}` a placement, for instance `cpus: 1`"));
        told.push(error);
    }
}
