//! Why a task is where it is, and which of its preferences did not hold: lines for people.

use super::choices::closeness;
use super::demand::{Want, nodes};
use super::problem::Problem;
use super::state::State;

/// Neighbours named in one line.
const MAX_NAMES: usize = 3;

pub(super) fn why(p: &Problem, state: &State, task: usize) -> Vec<String> {
    let demand = p.demand(task);
    let stage = &p.pipeline.stages[p.tasks[task].stage];
    let cpus = &state.placed[task];
    let ids = p.m.ids(cpus);
    let by_name = stage.placement.as_ref().is_some_and(|x| x.cpus.is_some());
    let mut why = vec![match &demand.want {
        Want::Fixed(_) if by_name => "the file names these CPUs".to_string(),
        Want::Fixed(_) => format!("what may be used of {}", nodes(&p.m.topology.nodes_of(&ids))),
        _ => {
            let l3s: crate::topology::IdSet = p.m.cores_of(cpus).map(|c| p.m.cores[c].l3).collect();
            format!("{}, L3 {l3s}", nodes(&p.m.topology.nodes_of(&ids)))
        }
    }];
    if demand.exclusive {
        why.push("exclusive: nothing else runs there".into());
    }
    if demand.idle_siblings {
        why.push("the siblings stay idle".into());
    }
    why.extend(beside(p, state, task));
    let others = cpus.iter().map(|&c| state.users[c] - 1).max().unwrap_or(0);
    if others > 0 {
        why.push(format!("shares a CPU with {others} other{}", if others == 1 { "" } else { "s" }));
    }
    why
}

/// The neighbours that are behind the same L3, or else on the same node.
fn beside(p: &Problem, state: &State, task: usize) -> Option<String> {
    let stage = p.tasks[task].stage;
    let core = |task: usize| state.placed[task].first().map(|&c| p.m.cpus[c].core);
    let here = core(task)?;
    let mut close: Vec<(usize, bool)> = vec![];
    for &(other, weight) in p.links[stage].iter().filter(|(other, _)| *other != stage) {
        let nearest = state.tasks_of[other].iter().take(64).filter_map(|&t| core(t));
        let nearest = nearest.map(|c| closeness(p, here, c)).fold(0.0, f64::max);
        if weight > 0.0 && nearest > 0.5 && !close.iter().any(|(seen, _)| *seen == other) {
            close.push((other, nearest >= 1.0));
        }
    }
    let same_l3 = close.iter().any(|(_, l3)| *l3);
    let mut names: Vec<String> = close
        .iter()
        .filter(|(_, l3)| *l3 == same_l3)
        .map(|(s, _)| format!("`{}`", p.pipeline.stages[*s].name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("same {} as {}{more}", if same_l3 { "L3" } else { "node" }, names.join(", ")))
}

/// `near` and `apart` that were only preferred and did not come true.
pub(super) fn untied(p: &Problem, state: &State, task: usize) -> Vec<String> {
    let stage = p.tasks[task].stage;
    if p.demand(task).strict {
        return vec![];
    }
    let Some(placement) = &p.pipeline.stages[stage].placement else { return vec![] };
    let others = |ties: &[super::problem::Tie], name: &str| -> Vec<usize> {
        let tie = ties.iter().find(|t| p.pipeline.stages[t.with].name == name);
        tie.map(|t| state.tasks_of[t.with].iter().copied().filter(|&t| t != task).collect()).unwrap_or_default()
    };
    let nodes = |task: usize| state.placed[task].iter().map(|&c| p.m.node(c)).collect::<Vec<_>>();
    let cores = |task: usize| p.m.cores_of(&state.placed[task]).collect::<Vec<_>>();
    let mut lost = vec![];
    for name in &placement.near {
        let mut all = nodes(task);
        others(&p.near[stage], &name.value).iter().for_each(|&t| all.extend(nodes(t)));
        if all.iter().any(|n| *n != all[0]) {
            lost.push(format!("near `{}`: not on one node", name.value));
        }
    }
    for name in &placement.apart {
        let mine = cores(task);
        if others(&p.apart[stage], &name.value).iter().any(|&t| cores(t).iter().any(|c| mine.contains(c))) {
            lost.push(format!("apart from `{}`: on one core", name.value));
        }
    }
    lost
}
