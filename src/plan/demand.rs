//! What one stage asks of this machine, checked as far as it can be without looking at the others.

use crate::diag::{Code, Diagnostic, Diagnostics, Span, codes};
use crate::pipeline::Stage;
use crate::spec::{Cpus, Placement, Policy, Smt};
use crate::topology::show::bytes;
use crate::topology::{CpuSet, NodeSet};

use super::MemoryPolicy;
use super::machine::Machine;

#[derive(Debug, Clone)]
pub(super) struct Demand {
    pub want: Want,
    /// Where its CPUs may be; for [`Want::Fixed`], where they are.
    pub nodes: NodeSet,
    /// As `numa` names them, for the memory policy.
    pub named: Option<NodeSet>,
    pub exclusive: bool,
    /// `smt: exclusive`: its cores are its own and one CPU of each is used.
    pub idle_siblings: bool,
    pub avoid_siblings: bool,
    pub load: f64,
    pub memory: MemoryPolicy,
    pub strict: bool,
    pub gave_up: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// These, by position in [`Machine::cpus`], sorted.
    Fixed(Vec<usize>),
    Cpus(usize),
    Cores(usize),
}

impl Demand {
    /// Takes something away from the others.
    pub fn alone(&self) -> bool {
        self.exclusive || self.idle_siblings
    }

    pub fn fixed(&self) -> bool {
        matches!(self.want, Want::Fixed(_))
    }
}

/// `None` when the stage insists on what cannot be had; `found` says why. A stage that only prefers gets what there is.
pub(super) fn of(stage: &Stage, placement: &Placement, m: &Machine, found: &mut Diagnostics) -> Option<Demand> {
    let mut check = Check { stage, placement, m, found, gave_up: vec![], broken: false };
    let named = check.named_nodes();
    let memory = check.memory_nodes(named.as_ref());
    let mut nodes = match &named {
        Some(named) => named.intersection(&m.nodes()),
        None => m.nodes(),
    };
    let by_name = matches!(placement.cpus.as_ref().map(|c| &c.value), Some(Cpus::Set(_)));
    if named.is_none() && !by_name {
        nodes = check.roomy_nodes(nodes, memory);
    }
    let want = check.want(&mut nodes, named.as_ref());
    let memory = match &named {
        Some(_) => memory,
        None => check.memory_of_fixed(&want, &nodes, memory),
    };
    check.size_fits(named.as_ref(), &want, &nodes, memory);
    let Check { gave_up, broken, .. } = check;
    (!broken).then(|| Demand {
        want,
        nodes,
        named,
        exclusive: placement.exclusive.value,
        idle_siblings: placement.smt.value == Smt::Exclusive,
        avoid_siblings: placement.smt.value == Smt::Avoid,
        load: placement.load,
        memory,
        strict: placement.policy == Policy::Strict,
        gave_up,
    })
}

struct Check<'a> {
    stage: &'a Stage,
    placement: &'a Placement,
    m: &'a Machine<'a>,
    found: &'a mut Diagnostics,
    gave_up: Vec<String>,
    broken: bool,
}

impl Check<'_> {
    fn fail(&mut self, code: Code, message: String, span: &Span, label: &str, help: String) {
        match self.placement.policy {
            Policy::Prefer => self.gave_up.push(message),
            Policy::Strict => {
                self.broken = true;
                let message = format!("stage `{}` cannot be placed: {message}", self.stage.name);
                self.found.push(Diagnostic::error(code, message).at(span, label).help(help));
            }
        }
    }

    fn cpus_span(&self) -> Span {
        self.placement.cpus.as_ref().map_or(&self.placement.span, |c| &c.span).clone()
    }

    fn numa_span(&self) -> Span {
        self.placement.numa.as_ref().map_or(&self.placement.span, |n| &n.span).clone()
    }

    /// The nodes of `numa`, when at least one of them has a CPU to give.
    fn named_nodes(&mut self) -> Option<NodeSet> {
        let numa = self.placement.numa.as_ref()?;
        let asked: NodeSet = numa.value.iter().copied().collect();
        let (all, span) = (self.m.topology.node_ids(), self.numa_span());
        let missing = asked.difference(&all);
        if !missing.is_empty() {
            let message = format!("{} not exist: this machine has {}", nodes_do(&missing), nodes(&all));
            let help = format!("name {}, or leave `numa` out", nodes(&all));
            self.fail(codes::NO_SUCH_NODE, message, &span, "no such node", help);
        }
        let known = asked.intersection(&all);
        let t = self.m.topology;
        if known.is_empty() {
            return None;
        }
        if self.m.cpus_on(&known).next().is_none() {
            let cpus: CpuSet = t.nodes.iter().filter(|n| known.contains(n.id)).flat_map(|n| n.cpus.iter()).collect();
            let message = match cpus.is_empty() {
                true => format!("{} has no CPU that is online", nodes(&known)),
                false => format!(
                    "none of the CPUs of {} ({cpus}) is among those this process may use ({})",
                    nodes(&known),
                    t.allowed
                ),
            };
            let help = format!("CPUs can be had on {}", nodes(&self.m.nodes()));
            self.fail(codes::NODE_NOT_USABLE, message, &span, "no CPU to be had here", help);
            return None;
        }
        Some(known)
    }

    /// The memory policy, `default` where a preferred one cannot be had.
    fn memory_nodes(&mut self, named: Option<&NodeSet>) -> MemoryPolicy {
        let policy = MemoryPolicy::from(self.placement.memory.value);
        match named {
            Some(named) if needs_nodes(policy) => self.memory_allowed(policy, &named.clone()),
            _ => policy,
        }
    }

    fn memory_of_fixed(&mut self, want: &Want, nodes: &NodeSet, policy: MemoryPolicy) -> MemoryPolicy {
        match want {
            Want::Fixed(_) if needs_nodes(policy) => self.memory_allowed(policy, nodes),
            _ => policy,
        }
    }

    fn memory_allowed(&mut self, policy: MemoryPolicy, needed: &NodeSet) -> MemoryPolicy {
        let allowed = &self.m.topology.allowed_nodes;
        let refused = needed.difference(allowed);
        if refused.is_empty() {
            return policy;
        }
        let message =
            format!("the memory of {} is not among what this process may use ({})", nodes(&refused), or_none(allowed));
        let help = format!("memory can be had on node {}", or_none(allowed));
        let span = self.placement.memory.span.clone();
        self.fail(codes::NODE_NOT_USABLE, message, &span, "this memory policy needs it", help);
        MemoryPolicy::Default
    }

    /// Of nodes that the planner chooses itself, those whose memory serves the policy.
    fn roomy_nodes(&mut self, nodes: NodeSet, policy: MemoryPolicy) -> NodeSet {
        if !needs_nodes(policy) {
            return nodes;
        }
        let t = self.m.topology;
        let usable = nodes.intersection(&t.allowed_nodes);
        if usable.is_empty() {
            let message = format!(
                "none of the nodes with usable CPUs ({nodes}) has memory that this process may use ({})",
                or_none(&t.allowed_nodes)
            );
            let span = self.placement.memory.span.clone();
            let help = "widen the cgroup's cpuset.mems, or use `memory: local`".to_string();
            self.fail(codes::NODE_NOT_USABLE, message, &span, "this memory policy needs it", help);
            return nodes;
        }
        let Some(size) = self.bound_size(policy) else { return usable };
        let large = usable.iter().filter(|&n| t.node(n).is_some_and(|n| n.memory_bytes >= size)).collect::<NodeSet>();
        if large.is_empty() {
            let largest = t.nodes.iter().filter(|n| usable.contains(n.id)).map(|n| n.memory_bytes).max().unwrap_or(0);
            self.too_large(size, format!("the largest usable node has {}", bytes(largest)));
            return usable;
        }
        large
    }

    /// What must fit its nodes, where the machine says how much they have.
    fn bound_size(&self, policy: MemoryPolicy) -> Option<u64> {
        let known = self.m.topology.nodes.iter().any(|n| n.memory_bytes > 0);
        self.placement.memory_size.filter(|_| policy == MemoryPolicy::Bind && known)
    }

    fn size_fits(&mut self, named: Option<&NodeSet>, want: &Want, nodes_of_cpus: &NodeSet, policy: MemoryPolicy) {
        let confined = match (named, want) {
            (Some(named), _) => named,
            (None, Want::Fixed(_)) => nodes_of_cpus,
            _ => return,
        };
        let Some(size) = self.bound_size(policy) else { return };
        let t = self.m.topology;
        let total: u64 = confined.iter().filter_map(|n| t.node(n)).map(|n| n.memory_bytes).sum();
        if size > total {
            self.too_large(size, format!("{} has {}", nodes(confined), bytes(total)));
        }
    }

    fn too_large(&mut self, size: u64, has: String) {
        let span = self.placement.span.clone();
        let help = "name more nodes with `numa`, or use `memory: preferred`, which may spill".to_string();
        let message = format!("`memory_size` is {} and {has}", bytes(size));
        self.fail(codes::MEMORY_TOO_LARGE, message, &span, "bound to less memory than it needs", help);
    }

    fn want(&mut self, nodes: &mut NodeSet, named: Option<&NodeSet>) -> Want {
        let one_per_core = self.placement.smt.value == Smt::Exclusive;
        match self.placement.cpus.as_ref().map(|c| c.value.clone()) {
            Some(Cpus::Set(ids)) => self.cpuset(ids.into_iter().collect(), nodes, named),
            Some(Cpus::Cores(n)) if !one_per_core => {
                Want::Cores(self.at_most(n, self.m.cores_on(nodes).count(), "core", nodes))
            }
            // Each on a core of its own: a core then is one CPU.
            Some(Cpus::Cores(n) | Cpus::Logical(n)) if one_per_core => {
                Want::Cpus(self.at_most(n, self.m.cores_on(nodes).count(), "core", nodes))
            }
            Some(Cpus::Cores(n) | Cpus::Logical(n)) => {
                Want::Cpus(self.at_most(n, self.m.cpus_on(nodes).count(), "CPU", nodes))
            }
            None if named.is_some() => Want::Fixed(match self.placement.smt.value {
                Smt::Share => self.m.cpus_on(nodes).collect(),
                Smt::Avoid | Smt::Exclusive => self.m.cores_on(nodes).map(|c| self.m.cores[c].cpus.start).collect(),
            }),
            None => Want::Cpus(1),
        }
    }

    fn at_most(&mut self, asked: u32, there: usize, unit: &str, on: &NodeSet) -> usize {
        let asked = (asked as usize).max(1);
        if asked <= there {
            return asked;
        }
        let place = if *on == self.m.nodes() { "here".to_string() } else { format!("on {}", nodes(on)) };
        let plural = if asked == 1 { "" } else { "s" };
        let each =
            if self.placement.smt.value == Smt::Exclusive { " (`smt: exclusive`: a core for each CPU)" } else { "" };
        let message = format!("{asked} {unit}{plural} asked{each}, {there} usable {place}");
        let help = format!("ask for {there} or fewer, or say `policy: prefer`");
        let span = self.cpus_span();
        self.fail(codes::TOO_FEW_CPUS, message, &span, "more than there are", help);
        there
    }

    fn cpuset(&mut self, asked: CpuSet, on: &mut NodeSet, named: Option<&NodeSet>) -> Want {
        let (m, t, span) = (self.m, self.m.topology, self.cpus_span());
        let (online, would) =
            (t.online(), format!("name CPUs out of {}, or say how many: `cpus: {}`", t.allowed, asked.len()));
        let missing = asked.difference(&online.union(&t.offline));
        if !missing.is_empty() {
            let message = format!("{} not exist: this machine has {online}", cpus_do(&missing));
            self.fail(codes::NO_SUCH_CPU, message, &span, "no such CPU", would.clone());
        }
        let off = asked.intersection(&t.offline);
        if !off.is_empty() {
            let message = format!("{} offline: {online} are online", cpus_are(&off));
            self.fail(codes::NO_SUCH_CPU, message, &span, "switched off", would.clone());
        }
        let kept_away = asked.intersection(&online).difference(&t.allowed);
        if !kept_away.is_empty() {
            let message = format!("{} not among those this process may use ({})", cpus_are(&kept_away), t.allowed);
            self.fail(
                codes::CPU_NOT_ALLOWED,
                message,
                &span,
                "kept away by a cgroup or an affinity mask",
                would.clone(),
            );
        }
        let mut cpus = m.positions(&asked);
        if let Some(named) = named {
            let elsewhere: Vec<usize> = cpus.iter().copied().filter(|&c| !named.contains(m.node(c))).collect();
            if let Some(&first) = elsewhere.first() {
                let message =
                    format!("{} on node {}, and `numa` says {named}", cpus_are(&m.ids(&elsewhere)), m.node(first));
                let help = "leave one of the two out: a `cpuset` implies its nodes".to_string();
                self.fail(codes::CPUSET_OFF_NODE, message, &span, "not on the nodes that `numa` names", help);
                if elsewhere.len() < cpus.len() {
                    cpus.retain(|c| !elsewhere.contains(c));
                }
            }
        }
        if cpus.is_empty() {
            return Want::Cpus(1);
        }
        *on = cpus.iter().map(|&c| m.node(c)).collect();
        Want::Fixed(cpus)
    }
}

fn needs_nodes(policy: MemoryPolicy) -> bool {
    matches!(policy, MemoryPolicy::Bind | MemoryPolicy::Preferred | MemoryPolicy::Interleave)
}

fn or_none(set: &NodeSet) -> String {
    if set.is_empty() { "none".into() } else { set.to_string() }
}

pub(super) fn nodes(set: &NodeSet) -> String {
    if set.len() == 1 { format!("node {set}") } else { format!("nodes {set}") }
}

fn nodes_do(set: &NodeSet) -> String {
    if set.len() == 1 { format!("node {set} does") } else { format!("nodes {set} do") }
}

fn cpus_do(set: &CpuSet) -> String {
    if set.len() == 1 { format!("CPU {set} does") } else { format!("CPUs {set} do") }
}

fn cpus_are(set: &CpuSet) -> String {
    if set.len() == 1 { format!("CPU {set} is") } else { format!("CPUs {set} are") }
}
