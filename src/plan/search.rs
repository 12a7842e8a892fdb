//! Finds CPUs for all that stages insist on, by exact backtracking under a step limit.
//!
//! Only tasks that take something from others are searched for: exclusive ones, those tied by `near` (their node) and
//! by `apart`. All others can share, so it is enough to see that each still has CPUs, before every further step.

use std::collections::BTreeMap;

use crate::topology::NodeSet;

use super::choices::Choices;
use super::demand::{Demand, Want};
use super::groups::Groups;
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

/// Tasks that ask for the same: what suits one suits all.
struct Kind {
    /// One of their stages.
    stage: usize,
    /// How many are still to be placed; sharing ones, which take nothing from one another, count as one for ever.
    pending: usize,
}

/// The search, and afterwards what it found.
pub(super) struct Search<'a> {
    p: &'a Problem<'a>,
    pub state: State,
    groups: Groups,
    vars: Vec<Var>,
    kinds: Vec<Kind>,
    /// By stage, of those that are searched for.
    kind_of: Vec<usize>,
    /// `near` groups of sharing stages alone, one for each kind. They settle when the first of them is admitted.
    easy_groups: Vec<usize>,
    floats: bool,
    /// Steps used up.
    steps: usize,
}

/// Places all that has to be searched for. What merely shares is left to [`Search::admit`], which then cannot fail.
pub(super) fn search<'a>(p: &'a Problem<'a>, scope: &Scope) -> Outcome<'a> {
    let groups = Groups::new(p, &scope.active);
    let mut search = Search {
        p,
        state: State::new(p),
        groups,
        vars: vec![],
        kinds: vec![],
        kind_of: vec![],
        easy_groups: vec![],
        floats: scope.floats,
        steps: 0,
    };
    match search.fix(&scope.active) {
        true => search.run(scope.steps),
        false => Outcome::Impossible,
    }
}

impl<'a> Search<'a> {
    /// Places what has no choice, and lists what has.
    fn fix(&mut self, active: &[bool]) -> bool {
        let p = self.p;
        let (mut alone, mut tied, mut easy) = (vec![], vec![], vec![]);
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
                easy.push(t.stage);
            }
        }
        if !self.settle_groups() {
            return false;
        }
        self.sort_kinds(alone.iter().chain(&tied).map(|&task| p.tasks[task].stage), &easy);
        if !self.hopeful() {
            return false;
        }
        let slack = |task: &usize| {
            let d = p.demand(*task);
            self.state.room(p, p.tasks[*task].stage, d, &d.nodes).saturating_sub(amount(d).0)
        };
        alone.sort_by_cached_key(slack);
        tied.sort_by_cached_key(slack);
        self.vars.extend(alone.into_iter().chain(tied).map(Var::Task));
        true
    }

    fn sort_kinds(&mut self, searched: impl Iterator<Item = usize>, easy: &[usize]) {
        let p = self.p;
        let mut group_is_searched = vec![false; self.groups.list.len()];
        for var in &self.vars {
            if let Var::Group(group) = var {
                group_is_searched[*group] = true;
            }
        }
        self.kind_of = vec![usize::MAX; p.demands.len()];
        let mut kinds = BTreeMap::new();
        for (stage, searched) in searched.map(|s| (s, true)).chain(easy.iter().map(|s| (*s, false))) {
            let (Some(d), group) = (&p.demands[stage], self.groups.of(stage)) else { continue };
            let searched_group = group.filter(|g| group_is_searched[*g]);
            if !searched && group.is_some() && searched_group.is_none() && self.state.node_of[stage].is_none() {
                continue; // Its group is looked at as a whole.
            }
            // Ties to others make it one of its own kind.
            let own = p.apart[stage].iter().any(|t| t.strict).then_some(stage);
            let takes = (searched, d.exclusive, d.idle_siblings);
            let key = (amount(d), takes, domain(&self.state, stage, d), searched_group, own);
            let kind = *kinds.entry(key).or_insert_with(|| {
                self.kinds.push(Kind { stage, pending: 0 });
                self.kinds.len() - 1
            });
            let pending = &mut self.kinds[kind].pending;
            *pending = if searched { *pending + 1 } else { 1 };
            self.kind_of[stage] = kind;
        }
    }

    /// Settles groups with fixed CPUs; of the others, those that take something from others are searched for.
    fn settle_groups(&mut self) -> bool {
        let p = self.p;
        let mut kinds = BTreeMap::new();
        for (index, group) in self.groups.list.iter().enumerate() {
            match group.fixed_node(p) {
                Err(()) => return false,
                Ok(Some(node)) => group.settle(&mut self.state, Some(node)),
                Ok(None) => {
                    let takes = |s: &usize| {
                        p.demands[*s].as_ref().is_some_and(Demand::alone) || p.apart[*s].iter().any(|t| t.strict)
                    };
                    if group.active.iter().any(takes) {
                        self.vars.push(Var::Group(index));
                        continue;
                    }
                    let demands = group.active.iter().filter_map(|s| p.demands[*s].as_ref());
                    let mut kind: Vec<_> = demands.map(|d| (amount(d), &d.nodes)).collect();
                    kind.sort_unstable();
                    kind.dedup();
                    // With members that come later, each group may settle differently: a kind of its own.
                    let own = (group.active.len() < group.members.len()).then_some(index);
                    kinds.entry((kind, own)).or_insert(index);
                }
            }
        }
        self.easy_groups = kinds.into_values().collect();
        true
    }

    /// Places a task beside what is placed already, as `demand` says, if that leaves the others what they need.
    pub fn admit(&mut self, task: usize, demand: &Demand) -> bool {
        let (p, stage) = (self.p, self.p.tasks[task].stage);
        if let (None, Some(group)) = (self.state.node_of[stage], self.groups.of(stage)) {
            let group = &self.groups.list[group];
            let nodes = group.nodes(p, &self.state, &[], false);
            let suits = |n: &&u32| demand.nodes.contains(**n);
            group.settle(&mut self.state, nodes.iter().find(suits).or(nodes.first()).copied());
        }
        let ways: Box<dyn Iterator<Item = Vec<usize>>> = match &demand.want {
            Want::Fixed(cpus) if cpus.iter().all(|&c| self.open(stage, demand, c)) => {
                Box::new(std::iter::once(cpus.clone()))
            }
            Want::Fixed(_) => Box::new(std::iter::empty()),
            _ => {
                let nodes = domain(&self.state, stage, demand);
                let first = !demand.alone();
                Box::new(Choices::new(p, &self.state, task, demand, &nodes, first).take(if first {
                    1
                } else {
                    ADMIT_CHOICES
                }))
            }
        };
        for cpus in ways {
            self.state.put(p, task, demand, cpus);
            if !demand.alone() || self.hopeful() {
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

    fn run(mut self, limit: usize) -> Outcome<'a> {
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
                self.steps += 1;
                if self.steps > limit {
                    return Outcome::Undecided;
                }
                match self.take_next(var, &mut levels[level]) {
                    true if self.hopeful_after(var) => break,
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
                let before = self.vars.iter().map_while(|v| if let Var::Group(g) = v { Some(*g) } else { None });
                let settled: Vec<(u32, usize)> =
                    before.filter_map(|g| Some((self.state.node_of[self.groups.list[g].members[0]]?, g))).collect();
                Options::Nodes(self.groups.list[group].nodes(p, &self.state, &settled, true).into_iter())
            }
            Var::Task(task) => {
                let (stage, demand) = (p.tasks[task].stage, p.demand(task));
                let nodes = domain(&self.state, stage, demand);
                Options::Cpus(Choices::new(p, &self.state, task, demand, &nodes, false))
            }
        }
    }

    fn take_next(&mut self, var: Var, options: &mut Options) -> bool {
        match (var, options) {
            (Var::Group(group), Options::Nodes(nodes)) => {
                let node = nodes.next();
                self.groups.list[group].settle(&mut self.state, node);
                node.is_some()
            }
            (Var::Task(task), Options::Cpus(choices)) => match choices.next() {
                Some(cpus) => {
                    self.state.put(self.p, task, self.p.demand(task), cpus);
                    self.kinds[self.kind_of[self.p.tasks[task].stage]].pending -= 1;
                    true
                }
                None => false,
            },
            _ => unreachable!("options are made for their variable"),
        }
    }

    fn undo(&mut self, var: Var) {
        match var {
            Var::Group(group) => self.groups.list[group].settle(&mut self.state, None),
            Var::Task(task) => {
                self.state.take(self.p, task, self.p.demand(task));
                self.kinds[self.kind_of[self.p.tasks[task].stage]].pending += 1;
            }
        }
    }

    /// A sharing task takes nothing from those that have no tie to it.
    fn hopeful_after(&mut self, var: Var) -> bool {
        match var {
            Var::Task(task) if !self.p.demand(task).alone() => true,
            _ => self.hopeful(),
        }
    }

    /// Necessary, not sufficient: everything that is still to come has its CPUs, also if counted together.
    fn hopeful(&mut self) -> bool {
        self.steps += (self.kinds.len() + self.easy_groups.len()) * self.p.m.cores.len() / WORK_PER_STEP;
        let mut pending = self.kinds.iter().filter(|k| k.pending > 0);
        (!self.floats || self.state.floating(self.p).next().is_some())
            && pending.all(|k| self.has_room(k.stage))
            && self.easy_groups.iter().all(|&g| self.group_has_room(g))
            && self.counts_add_up()
    }

    fn has_room(&self, stage: usize) -> bool {
        let Some(demand) = &self.p.demands[stage] else { return true };
        let nodes = domain(&self.state, stage, demand);
        self.state.room(self.p, stage, demand, &nodes) >= amount(demand).0
    }

    fn group_has_room(&self, group: usize) -> bool {
        let group = &self.groups.list[group];
        match self.state.node_of[group.members[0]] {
            Some(node) => group.fits(self.p, &self.state, node),
            None => self.p.m.nodes().iter().any(|node| group.fits(self.p, &self.state, node)),
        }
    }

    /// Hall's condition on each distinct set of nodes: those confined to it fit into it together.
    fn counts_add_up(&self) -> bool {
        let p = self.p;
        let demand = |k: &Kind| p.demands[k.stage].as_ref().map(|d| (k.pending, d, domain(&self.state, k.stage, d)));
        let demands: Vec<(usize, &Demand, NodeSet)> =
            self.kinds.iter().filter(|k| k.pending > 0).filter_map(demand).collect();
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
            let (mut open, mut fresh, mut fresh_cores, mut smallest) = (0, 0, 0, usize::from(u16::MAX));
            for core in p.m.cores_on(nodes).filter(|&c| !self.state.core_held[c]) {
                let cpus = p.m.cores[core].cpus.clone();
                open += cpus.clone().filter(|&c| !self.state.held[c]).count();
                let unused = cpus.filter(|&c| self.state.users[c] == 0).count();
                fresh += unused;
                if unused == p.m.cores[core].cpus.len() {
                    fresh_cores += 1;
                    smallest = smallest.min(unused);
                }
            }
            // What shares may use the used CPUs as well.
            let shared = shared.saturating_sub(open - fresh);
            cores <= fresh_cores && cpus + cores * smallest + shared <= fresh
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
