//! Stages with `policy: prefer`: all they ask if that can be, else the nearest to it, with a note of what was given up.

use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::topology::NodeSet;

use super::demand::{Demand, Want};
use super::problem::Problem;
use super::search::Search;

/// The same problem with every preference insisted on.
pub(super) fn as_strict<'a>(p: &Problem<'a>) -> Problem<'a> {
    let mut eager = p.clone();
    eager.near.iter_mut().chain(&mut eager.apart).flatten().for_each(|tie| tie.strict = true);
    eager
}

/// Places each task that prefers beside what insists; by task, what it gave up.
pub(super) fn place(p: &Problem, search: &mut Search, told: &mut Diagnostics) -> Option<Vec<Vec<String>>> {
    let mut gave_up = vec![vec![]; p.tasks.len()];
    for (task, lost) in gave_up.iter_mut().enumerate().filter(|(task, _)| !p.demand(*task).strict) {
        let steps = ladder(p, search, task);
        match steps.into_iter().find(|(demand, _)| search.admit(task, demand)) {
            Some((_, reasons)) => *lost = reasons,
            None => {
                let stage = &p.pipeline.stages[p.tasks[task].stage];
                let message = format!(
                    "stage `{}` asks for little, but stages that insist on being near or apart leave it no CPU at all",
                    stage.name
                );
                let help = "let those stages prefer too, or leave a CPU that is not exclusive";
                told.push(
                    Diagnostic::error(codes::PLACEMENT_IMPOSSIBLE, message).at(&stage.span, "no CPU left").help(help),
                );
                return None;
            }
        }
    }
    Some(gave_up)
}

/// From all it asks down to any CPU at all.
fn ladder(p: &Problem, search: &Search, task: usize) -> Vec<(Demand, Vec<String>)> {
    let stage = p.tasks[task].stage;
    let mut demand = p.demand(task).clone();
    let mut lost = vec![];
    let mut steps = vec![(demand.clone(), lost.clone())];
    if demand.alone() {
        demand.exclusive = false;
        demand.idle_siblings = false;
        lost.push("CPUs of its own: there are not enough".to_string());
        steps.push((demand.clone(), lost.clone()));
    }
    if let Want::Fixed(cpus) = &demand.want {
        let open: Vec<usize> = cpus.iter().copied().filter(|&c| search.open(stage, &demand, c)).collect();
        if !open.is_empty() {
            let closed: Vec<usize> = cpus.iter().copied().filter(|c| !open.contains(c)).collect();
            let lost = lost
                .iter()
                .cloned()
                .chain([format!("CPUs {}: not open to it beside the others", p.m.ids(&closed))])
                .collect();
            steps.push((Demand { want: Want::Fixed(open), ..demand.clone() }, lost));
        }
        demand.want = Want::Cpus(cpus.len());
    }
    let everywhere: NodeSet = p.m.nodes();
    if demand.nodes != everywhere || p.demand(task).fixed() {
        lost.push("the CPUs or nodes it names: others hold them".to_string());
        demand.nodes = everywhere;
        steps.push((demand.clone(), lost.clone()));
    }
    lost.push("as many CPUs as it asks".to_string());
    let most = match demand.want {
        Want::Cpus(n) | Want::Cores(n) => n,
        Want::Fixed(_) => 1,
    };
    demand.want = Want::Cpus(most);
    // Within the node that `near` may have settled on there can be less room than in all.
    let room = search.state.room(p, stage, &demand, &demand.nodes).min(most);
    for n in [room, room / 2, 1] {
        steps.push((Demand { want: Want::Cpus(n.max(1)), ..demand.clone() }, lost.clone()));
    }
    steps
}
