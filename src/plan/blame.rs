//! What to say when the stages cannot all be placed: the fewest that already clash, and which constraint it is.

use crate::diag::{Code, Diagnostic, Diagnostics, Span, codes};

use super::demand::{Want, nodes};
use super::problem::Problem;
use super::search::{Outcome, Scope, amount, search};

/// Steps of each search that narrows a conflict down, and of all of them. Most conflicts show without a single step,
/// since the counts do not add up.
const STEPS: usize = 3_000;
const ALL_STEPS: usize = 200_000;
/// Conflicts told at once.
const MAX_CONFLICTS: usize = 16;
/// Stages named in one message, and labels of one diagnostic.
const MAX_NAMES: usize = 6;

pub(super) fn undecided(p: &Problem, told: &mut Diagnostics) {
    let alone: Vec<usize> =
        (0..p.demands.len()).filter(|&s| p.demands[s].as_ref().is_some_and(|d| d.alone())).collect();
    let message = "no placement was found within the planner's limit that honours every constraint; there may be one";
    let mut error = Diagnostic::error(codes::PLACEMENT_UNDECIDED, message);
    for &stage in alone.iter().take(MAX_NAMES) {
        error = error.at(&span(p, stage), label(p, stage));
    }
    told.push(error.help("fix some of the stages with `cpuset`, or loosen one with `policy: prefer`"));
}

/// Tells every conflict that stands on its own.
pub(super) fn impossible(p: &Problem, mut scope: Scope, told: &mut Diagnostics) {
    let mut budget = ALL_STEPS;
    for _ in 0..MAX_CONFLICTS {
        scope.steps = 0;
        if possible(p, &scope) {
            scope.steps = STEPS;
        }
        let stages = fewest(p, &scope, &mut budget);
        told.push(conflict(p, &scope, &stages));
        // The rest is looked at without these: what still clashes is another mistake.
        stages.iter().for_each(|&s| scope.active[s] = false);
        if stages.is_empty() || possible(p, &Scope { steps: STEPS, ..scope.clone() }) {
            break;
        }
    }
}

/// Not shown to be impossible.
fn possible(p: &Problem, scope: &Scope) -> bool {
    !matches!(search(p, scope), Outcome::Impossible)
}

/// Drops stages, in chunks that get smaller, for as long as what remains is still impossible.
fn fewest(p: &Problem, scope: &Scope, budget: &mut usize) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..scope.active.len()).filter(|&s| scope.active[s]).collect();
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut from = kept.len();
        // From the back: of equal culprits the first ones in the file are named.
        while from > 0 {
            let start = from.saturating_sub(chunk);
            let rest: Vec<usize> = kept[..start].iter().chain(&kept[from..]).copied().collect();
            let cost = scope.steps + kept.len() / 100;
            if *budget >= cost && !possible(p, &only(scope, &rest)) {
                kept = rest;
            }
            *budget = budget.saturating_sub(cost);
            from = start;
        }
        if chunk == 1 || *budget == 0 {
            return kept;
        }
        chunk = chunk.div_ceil(2).min(kept.len().max(1));
    }
}

fn only(scope: &Scope, stages: &[usize]) -> Scope {
    let mut active = vec![false; scope.active.len()];
    stages.iter().for_each(|&s| active[s] = true);
    Scope { active, ..*scope }
}

fn conflict(p: &Problem, scope: &Scope, stages: &[usize]) -> Diagnostic {
    let scope = only(scope, stages);
    if scope.floats && possible(p, &Scope { floats: false, ..scope.clone() }) {
        return nothing_left(p, stages);
    }
    let without = |change: fn(&mut Problem)| {
        let mut easier = p.clone();
        change(&mut easier);
        possible(&easier, &scope)
    };
    let tied = |ties: &[Vec<super::problem::Tie>]| stages.iter().any(|&s| ties[s].iter().any(|t| t.strict));
    if tied(&p.near) && without(|p| p.near.iter_mut().for_each(Vec::clear)) {
        return together(p, stages, codes::NEAR_IMPOSSIBLE, " on one node, as `near` insists");
    }
    if tied(&p.apart) && without(|p| p.apart.iter_mut().for_each(Vec::clear)) {
        return together(p, stages, codes::APART_IMPOSSIBLE, " on different cores, as `apart` insists");
    }
    together(p, stages, codes::PLACEMENT_IMPOSSIBLE, if stages.len() > 1 { " at the same time" } else { "" })
}

fn nothing_left(p: &Problem, stages: &[usize]) -> Diagnostic {
    let floating: Vec<_> = p.pipeline.stages.iter().filter(|s| s.placement.is_none()).collect();
    let others = match floating.len() {
        0 => "no CPU for the stages with `policy: prefer`".to_string(),
        1 => format!("no CPU for `{}`, which has no placement", floating[0].name),
        n => format!("no CPU for {n} stages without placement"),
    };
    let message =
        format!("{} would hold all usable CPUs ({}) and leave {others}", names(p, stages), p.m.topology.allowed);
    let mut error = Diagnostic::error(codes::NOTHING_LEFT, message);
    for &stage in stages.iter().take(MAX_NAMES) {
        error = error.at(&span(p, stage), label(p, stage));
    }
    if let Some(first) = floating.first() {
        error = error.at(&first.span, "this stage needs a CPU that nothing holds exclusively");
    }
    error.help("leave at least one CPU that is not exclusive")
}

fn together(p: &Problem, stages: &[usize], code: Code, how: &str) -> Diagnostic {
    let word = if stages.len() == 1 { "stage" } else { "stages" };
    let message = format!("{word} {} cannot be placed{how}{}", names(p, stages), counts(p, stages));
    let mut error = Diagnostic::error(code, message);
    for &stage in stages.iter().take(MAX_NAMES) {
        let place = match &p.pipeline.stages[stage].placement {
            Some(x) if code == codes::NEAR_IMPOSSIBLE => x.near.first().map(|n| n.span.clone()),
            Some(x) if code == codes::APART_IMPOSSIBLE => x.apart.first().map(|n| n.span.clone()),
            _ => None,
        };
        error = error.at(&place.unwrap_or_else(|| span(p, stage)), label(p, stage));
    }
    let help = match code {
        codes::NEAR_IMPOSSIBLE => "ask for fewer CPUs, leave out `near`, or say `policy: prefer`",
        codes::APART_IMPOSSIBLE => "ask for fewer CPUs, leave out `apart`, or say `policy: prefer`",
        _ => "ask for fewer CPUs, leave out `exclusive` where sharing is bearable, or say `policy: prefer`",
    };
    if code == codes::NEAR_IMPOSSIBLE {
        let on = |node: u32| p.m.cpus_on(&[node].into_iter().collect()).count();
        error =
            error.note(format!("the largest node has {} usable CPUs", p.m.nodes().iter().map(on).max().unwrap_or(0)));
    }
    error.help(help)
}

/// `: 3 exclusive CPUs asked in all, 2 usable`; nothing where no CPU is taken from the others.
fn counts(p: &Problem, stages: &[usize]) -> String {
    let (mut cpus, mut cores, mut shared) = (0, 0, 0);
    let mut on: Vec<u32> = vec![];
    for &stage in stages {
        let Some(d) = &p.demands[stage] else { continue };
        let (units, whole) = amount(d);
        let replicas = p.pipeline.stages[stage].replicas.max(1) as usize;
        on.extend(d.nodes.iter());
        match d.alone() {
            true if whole => cores += units * replicas,
            true => cpus += units * replicas,
            false => shared = shared.max(units),
        }
    }
    if cpus + cores == 0 {
        return String::new();
    }
    let on = on.into_iter().collect();
    let place = if on == p.m.nodes() { String::new() } else { format!(" on {}", nodes(&on)) };
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let mut asked = vec![];
    if cpus > 0 {
        asked.push(count(cpus, "exclusive CPU"));
    }
    if cores > 0 {
        asked.push(count(cores, "whole core"));
    }
    if shared > 0 {
        asked.push(format!("{shared} beside them"));
    }
    let usable = p.m.cpus_on(&on).count();
    let there = match cores {
        0 => usable.to_string(),
        _ => format!("{} on {}", count(usable, "CPU"), count(p.m.cores_on(&on).count(), "core")),
    };
    format!(": {} asked in all, {there} usable{place}", asked.join(" and "))
}

fn names(p: &Problem, stages: &[usize]) -> String {
    let mut names: Vec<String> =
        stages.iter().take(MAX_NAMES).map(|&s| format!("`{}`", p.pipeline.stages[s].name)).collect();
    if stages.len() > MAX_NAMES {
        names.push(format!("{} more", stages.len() - MAX_NAMES));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "the stages".into(),
    }
}

/// Where the stage says what makes it hard to place.
fn span(p: &Problem, stage: usize) -> Span {
    let stage = &p.pipeline.stages[stage];
    let Some(x) = &stage.placement else { return stage.span.clone() };
    match () {
        _ if x.exclusive.value => x.exclusive.span.clone(),
        _ if x.smt.value == crate::spec::Smt::Exclusive => x.smt.span.clone(),
        _ => x.cpus.as_ref().map_or(&x.span, |c| &c.span).clone(),
    }
}

fn label(p: &Problem, stage: usize) -> String {
    let Some(d) = &p.demands[stage] else { return "placed here".into() };
    let replicas = p.pipeline.stages[stage].replicas;
    let each = if replicas > 1 { format!("{replicas} replicas of ") } else { String::new() };
    let how = match (d.exclusive, d.idle_siblings) {
        (true, true) => ", exclusive, siblings idle",
        (true, false) => ", exclusive",
        (false, true) => ", siblings idle",
        (false, false) => "",
    };
    let what = match &d.want {
        Want::Fixed(cpus) => format!("CPUs {}", p.m.ids(cpus)),
        Want::Cpus(1) => "1 CPU".into(),
        Want::Cpus(n) => format!("{n} CPUs"),
        Want::Cores(1) => "1 core".into(),
        Want::Cores(n) => format!("{n} cores"),
    };
    format!("{each}{what}{how}")
}
