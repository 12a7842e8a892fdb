//! Finds CPUs for all that stages insist on, by exact backtracking under a step limit.
//!
//! Only tasks that take something from others are searched for: exclusive ones, those tied by `near` (their node) and
//! by `apart`. All others can share, so it is enough to see that each still has CPUs, before every further step.

use std::collections::BTreeMap;

use crate::topology::NodeSet;

use super::choices::Choices;
use super::demand::{Demand, Want};
use super::problem::Problem;
use super::state::State;

/// Placements of single tasks that a search may try: about a second.
pub(super) const SEARCH_STEPS: usize = 100_000;
/// Looking whether all others still fit is work too: so many looks at a core count as one step.
const WORK_PER_STEP: usize = 256;
/// Ways to place a task that comes after the search.
const ADMIT_CHOICES: usize = 64;

pub(super) enum Outcome<'a> {
    Found(Box<Search<'a>>),
    Impossible,
    /// The step limit came first.
    Undecided,
}

/// Which part of the problem is to be looked at.
#[derive(Clone)]
pub(super) struct Scope {
    /// By stage.
    pub active: Vec<bool>,
    /// A CPU must be left for what floats.
    pub floats: bool,
    pub steps: usize,
}

/// Something to decide.
#[derive(Clone, Copy)]
enum Var {
    /// The node of a `near` group, by index.
    Group(usize),
    Task(usize),
}

enum Options {
    Nodes(std::vec::IntoIter<u32>),
    Cpus(Choices),
}

/// What is still to come and must keep its CPUs: how many of which nodes.
struct Pending {
    stage: usize,
    tasks: usize,
}

/// The search, and afterwards what it found.
pub(super) struct Search<'a> {
    p: &'a Problem<'a>,
    pub state: State,
    groups: Vec<Vec<usize>>,
    vars: Vec<Var>,
    /// Sharing stages, one for each kind of demand: what suits one suits all of its kind.
    easy: Vec<usize>,
    floats: bool,
}

/// Places all that has to be searched for. What merely shares is left to [`Search::admit`], which then cannot fail.
pub(super) fn search<'a>(p: &'a Problem<'a>, scope: &Scope) -> Outcome<'a> {
    let groups = near_groups(p, &scope.active);
    let state = State::new(p);
    let mut search = Search { p, state, groups, vars: vec![], easy: vec![], floats: scope.floats };
    match search.fix(&scope.active) {
        true => search.run(scope.steps),
        false => Outcome::Impossible,
    }
}

/// Stages that `near` strictly ties together, in groups of two or more (or of several replicas).
fn near_groups(p: &Problem, active: &[bool]) -> Vec<Vec<usize>> {
    let mut groups = vec![];
    let mut seen = vec![false; p.demands.len()];
    for stage in 0..p.demands.len() {
        // One that only prefers is placed later, but must then find the others on one node.
        let member = |s: usize| active[s] || p.demands[s].as_ref().is_some_and(|d| !d.strict);
        let tied = |s: usize| p.near[s].iter().filter(move |t| t.strict && member(t.with)).map(|t| t.with);
        if seen[stage] || !active[stage] || tied(stage).next().is_none() {
            continue;
        }
        let (mut group, mut next) = (vec![], vec![stage]);
        seen[stage] = true;
        while let Some(s) = next.pop() {
            group.push(s);
            for other in tied(s) {
                if !std::mem::replace(&mut seen[other], true) {
                    next.push(other);
                }
            }
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups
}

impl<'a> Search<'a> {
    /// Places what has no choice, and lists what has.
    fn fix(&mut self, active: &[bool]) -> bool {
        let p = self.p;
        let mut kinds = BTreeMap::new();
        let (mut alone, mut tied) = (vec![], vec![]);
        for (task, t) in p.tasks.iter().enumerate().filter(|(_, t)| active[t.stage]) {
            let demand = p.demand(task);
            if let Want::Fixed(cpus) = &demand.want {
                if !cpus.iter().all(|&c| self.state.usable(p, t.stage, demand, c)) {
                    return false;
                }
                self.state.put(p, task, demand, cpus.clone());
            } else if demand.alone() {
                alone.push(task);
            } else if p.apart[t.stage].iter().any(|tie| tie.strict) {
                tied.push(task);
            } else {
                let group = self.groups.iter().position(|g| g.contains(&t.stage));
                let (units, whole) = amount(demand);
                kinds.entry((units, whole, demand.nodes.clone(), group)).or_insert(t.stage);
            }
        }
        let slack = |task: &usize| {
            let d = p.demand(*task);
            self.state.room(p, p.tasks[*task].stage, d, &d.nodes).saturating_sub(amount(d).0)
        };
        alone.sort_by_cached_key(slack);
        tied.sort_by_cached_key(slack);
        self.easy = kinds.into_values().collect();
        for (index, group) in self.groups.clone().iter().enumerate() {
            let fixed: NodeSet = group
                .iter()
                .filter(|s| active[**s])
                .filter_map(|&s| p.demands[s].as_ref())
                .filter(|d| d.fixed())
                .flat_map(|d| d.nodes.iter())
                .collect();
            match fixed.len() {
                0 => self.vars.push(Var::Group(index)),
                1 => self.settle(index, fixed.first()),
                _ => return false,
            }
        }
        self.vars.extend(alone.into_iter().chain(tied).map(Var::Task));
        self.hopeful(0)
    }

    /// Places a task beside what is placed already, as `demand` says, if that leaves the others what they need.
    pub fn admit(&mut self, task: usize, demand: &Demand) -> bool {
        let (p, stage) = (self.p, self.p.tasks[task].stage);
        let ways: Box<dyn Iterator<Item = Vec<usize>>> = match &demand.want {
            Want::Fixed(cpus) if cpus.iter().all(|&c| self.open(stage, demand, c)) => {
                Box::new(std::iter::once(cpus.clone()))
            }
            Want::Fixed(_) => Box::new(std::iter::empty()),
            _ => {
                let nodes = domain(&self.state, stage, demand);
                Box::new(Choices::new(p, &self.state, task, demand, &nodes).take(ADMIT_CHOICES))
            }
        };
        for cpus in ways {
            self.state.put(p, task, demand, cpus);
            if !demand.alone() || self.hopeful(self.vars.len()) {
                return true;
            }
            self.state.take(p, task, demand);
        }
        false
    }

    /// Usable, and on the node that `near` has settled on.
    pub fn open(&self, stage: usize, demand: &Demand, cpu: usize) -> bool {
        self.state.node_of[stage].is_none_or(|node| node == self.p.m.node(cpu))
            && self.state.usable(self.p, stage, demand, cpu)
    }

    fn settle(&mut self, group: usize, node: Option<u32>) {
        for &stage in &self.groups[group] {
            self.state.node_of[stage] = node;
        }
    }

    fn run(mut self, limit: usize) -> Outcome<'a> {
        let mut steps = 0;
        let mut levels: Vec<Options> = vec![];
        loop {
            let depth = levels.len();
            if depth == self.vars.len() {
                return Outcome::Found(Box::new(self));
            }
            levels.push(self.options(self.vars[depth]));
            // Go on with the deepest variable that still has an option which leaves hope for the rest.
            loop {
                let Some(level) = levels.len().checked_sub(1) else { return Outcome::Impossible };
                let var = self.vars[level];
                steps += 1 + (self.vars.len() - level + self.easy.len()) * self.p.m.cores.len() / WORK_PER_STEP;
                if steps > limit {
                    return Outcome::Undecided;
                }
                match self.take_next(var, &mut levels[level]) {
                    true if self.hopeful_after(level) => break,
                    true => self.undo(var),
                    false => {
                        levels.pop();
                        if let Some(above) = levels.len().checked_sub(1) {
                            self.undo(self.vars[above]);
                        }
                    }
                }
            }
        }
    }

    fn options(&self, var: Var) -> Options {
        let p = self.p;
        match var {
            Var::Group(group) => {
                let room = |node: u32| -> usize {
                    let demands = self.groups[group].iter().filter_map(|&s| Some((s, p.demands[s].as_ref()?)));
                    demands.map(|(s, d)| self.state.room(p, s, d, &[node].into_iter().collect())).sum()
                };
                let mut nodes: Vec<u32> = p.m.nodes().iter().collect();
                nodes.sort_by_cached_key(|&n| (std::cmp::Reverse(room(n)), n));
                Options::Nodes(nodes.into_iter())
            }
            Var::Task(task) => {
                let (stage, demand) = (p.tasks[task].stage, p.demand(task));
                let nodes = domain(&self.state, stage, demand);
                Options::Cpus(Choices::new(p, &self.state, task, demand, &nodes))
            }
        }
    }

    fn take_next(&mut self, var: Var, options: &mut Options) -> bool {
        match (var, options) {
            (Var::Group(group), Options::Nodes(nodes)) => {
                let node = nodes.next();
                self.settle(group, node);
                node.is_some()
            }
            (Var::Task(task), Options::Cpus(choices)) => match choices.next() {
                Some(cpus) => {
                    self.state.put(self.p, task, self.p.demand(task), cpus);
                    true
                }
                None => false,
            },
            _ => unreachable!("options are made for their variable"),
        }
    }

    fn undo(&mut self, var: Var) {
        match var {
            Var::Group(group) => self.settle(group, None),
            Var::Task(task) => self.state.take(self.p, task, self.p.demand(task)),
        }
    }

    /// A sharing task takes nothing from those that have no tie to it.
    fn hopeful_after(&self, level: usize) -> bool {
        match self.vars[level] {
            Var::Task(task) if !self.p.demand(task).alone() => true,
            _ => self.hopeful(level + 1),
        }
    }

    /// Necessary, not sufficient: everything from variable `from` on still has its CPUs, also if counted together.
    fn hopeful(&self, from: usize) -> bool {
        let mut pending: BTreeMap<usize, usize> = BTreeMap::new();
        for var in &self.vars[from..] {
            if let Var::Task(task) = *var {
                *pending.entry(self.p.tasks[task].stage).or_default() += 1;
            }
        }
        let easy = self.easy.iter().map(|&stage| (stage, 1));
        let pending: Vec<Pending> =
            pending.into_iter().chain(easy).map(|(stage, tasks)| Pending { stage, tasks }).collect();
        (!self.floats || self.state.floating(self.p).next().is_some())
            && pending.iter().all(|x| self.has_room(x.stage))
            && self.counts_add_up(&pending)
    }

    fn has_room(&self, stage: usize) -> bool {
        let Some(demand) = &self.p.demands[stage] else { return true };
        let nodes = domain(&self.state, stage, demand);
        self.state.room(self.p, stage, demand, &nodes) >= amount(demand).0
    }

    /// Hall's condition on each distinct set of nodes: those confined to it fit into it together.
    fn counts_add_up(&self, pending: &[Pending]) -> bool {
        let p = self.p;
        let demand = |x: &Pending| p.demands[x.stage].as_ref().map(|d| (d, domain(&self.state, x.stage, d)));
        let demands: Vec<(usize, &Demand, NodeSet)> =
            pending.iter().filter_map(|x| demand(x).map(|(d, nodes)| (x.tasks, d, nodes))).collect();
        let all = p.m.nodes();
        let mut sets: Vec<&NodeSet> = demands.iter().map(|(_, _, nodes)| nodes).chain([&all]).collect();
        sets.sort_unstable();
        sets.dedup();
        sets.into_iter().all(|nodes| {
            let inside = demands.iter().filter(|(_, _, n)| n.is_subset(nodes));
            let (mut cpus, mut cores, mut shared) = (0, 0, usize::from(self.floats && *nodes == all));
            for (tasks, d, _) in inside {
                let (units, whole) = amount(d);
                match d.alone() {
                    true if whole => cores += tasks * units,
                    true => cpus += tasks * units,
                    false => shared = shared.max(units),
                }
            }
            let (mut open, mut fresh, mut fresh_cores) = (0, 0, 0);
            for core in p.m.cores_on(nodes).filter(|&c| !self.state.core_held[c]) {
                let cpus = p.m.cores[core].cpus.clone();
                open += cpus.clone().filter(|&c| !self.state.held[c]).count();
                let unused = cpus.filter(|&c| self.state.users[c] == 0).count();
                fresh += unused;
                fresh_cores += usize::from(unused > 0);
            }
            // What shares may use the used ones as well; a whole core is at least one CPU.
            let shared = shared.saturating_sub(open - fresh);
            cpus + cores + shared <= fresh && cores <= fresh_cores
        })
    }
}

/// How many CPUs or, when true, cores of its own.
pub(super) fn amount(demand: &Demand) -> (usize, bool) {
    match demand.want {
        Want::Cpus(n) => (n, demand.idle_siblings),
        Want::Cores(n) => (n, true),
        Want::Fixed(ref cpus) => (cpus.len(), false),
    }
}

/// Its nodes, or the one that `near` has settled on.
fn domain(state: &State, stage: usize, demand: &Demand) -> NodeSet {
    match state.node_of[stage] {
        Some(node) => demand.nodes.iter().filter(|n| *n == node).collect(),
        None => demand.nodes.clone(),
    }
}
