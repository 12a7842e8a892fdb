//! Where the memory of each ring comes from, and whether its ends share one CPU.

use super::demand::nodes;
use super::{EdgePlan, Options, Plan, RingPlace};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::pipeline::{Edge, Pipeline, Replica};
use crate::spec::{EdgeNuma, Kind, Wait};
use crate::topology::{CpuSet, NodeSet, Topology};

pub(super) fn edges(
    p: &Pipeline,
    t: &Topology,
    plan: &Plan,
    options: &Options,
    told: &mut Diagnostics,
) -> Vec<EdgePlan> {
    p.edge_ids()
        .map(|id| {
            let edge = p.edge(id);
            if edge.kind == Kind::Pipe {
                return EdgePlan::default();
            }
            let mut found = EdgePlan::default();
            let mut refused = None;
            for ring in p.rings(id) {
                let ends = Ends { producer: cpus(plan, &[ring.producer]), consumers: cpus(plan, &ring.consumers) };
                let one_cpu = ends.producer.union(&ends.consumers).len() == 1;
                let (node, why) = match node(edge, t, &ends, options) {
                    Ok(chosen) => chosen,
                    Err(diagnostic) => {
                        refused.get_or_insert(diagnostic);
                        continue;
                    }
                };
                if !found.why.contains(&why) {
                    found.why = if found.why.is_empty() { why } else { format!("{}; {why}", found.why) };
                }
                let strict = edge.memory.numa != EdgeNuma::Auto;
                found.rings.push(RingPlace { node, strict: strict && node.is_some(), one_cpu });
            }
            if let Some(diagnostic) = refused {
                told.push(*diagnostic);
            }
            spin(edge, &found, told);
            found
        })
        .collect()
}

/// The CPUs at the two ends of a ring.
struct Ends {
    producer: CpuSet,
    consumers: CpuSet,
}

/// Tasks are planned stage by stage, so a stage's replicas stand in a row.
fn cpus(plan: &Plan, replicas: &[Replica]) -> CpuSet {
    let task = |&(stage, replica): &Replica| {
        let first = plan.tasks.partition_point(|t| t.stage < stage);
        plan.tasks.get(first + replica as usize).map(|t| t.cpus.clone()).unwrap_or_default()
    };
    replicas.iter().map(task).fold(CpuSet::default(), |all, cpus| all.union(&cpus))
}

fn only(nodes: &NodeSet) -> Option<u32> {
    if nodes.len() == 1 { nodes.iter().next() } else { None }
}

fn node(edge: &Edge, t: &Topology, ends: &Ends, options: &Options) -> Result<(Option<u32>, String), Box<Diagnostic>> {
    if options.no_pin {
        return Ok((None, String::new()));
    }
    let (producer, consumers) = (t.nodes_of(&ends.producer), t.nodes_of(&ends.consumers));
    let usable = |node: &u32| t.allowed_nodes.contains(*node);
    match edge.memory.numa {
        EdgeNuma::Auto if t.allowed_nodes.len() < 2 => Ok((None, String::new())),
        EdgeNuma::Auto => Ok(match (only(&consumers).filter(usable), only(&producer).filter(usable)) {
            (Some(node), _) => (Some(node), "preferred: the consumers run there".into()),
            (None, Some(node)) => {
                (Some(node), format!("preferred: the producer runs there, and its consumers on nodes {consumers}"))
            }
            (None, None) => (None, "both ends run on several nodes".into()),
        }),
        EdgeNuma::Consumer => end_of(edge, t, "consumer", &consumers),
        EdgeNuma::Producer => end_of(edge, t, "producer", &producer),
        EdgeNuma::Node(node) => allowed(edge, t, node).map(|node| (Some(node), "asked for".into())),
    }
}

fn end_of(edge: &Edge, t: &Topology, end: &str, nodes: &NodeSet) -> Result<(Option<u32>, String), Box<Diagnostic>> {
    match only(nodes) {
        Some(node) => allowed(edge, t, node).map(|node| (Some(node), format!("the {end}'s node"))),
        None => Err(Box::new(
            Diagnostic::error(
                codes::EDGE_NODE_UNCLEAR,
                format!("edge `{}` has no one {end}'s node: that end runs on nodes {nodes}", edge.name),
            )
            .at(edge.memory.numa_span.as_ref().unwrap_or(&edge.span), "asked for here")
            .help(format!("give the {end} a placement on one node (`numa: 0`), name the node here, or write `auto`")),
        )),
    }
}

fn allowed(edge: &Edge, t: &Topology, node: u32) -> Result<u32, Box<Diagnostic>> {
    let (code, what) = match (t.node(node), t.allowed_nodes.contains(node)) {
        (Some(_), true) => return Ok(node),
        (Some(_), false) => (codes::NODE_NOT_USABLE, format!("this process may use only {}", nodes(&t.allowed_nodes))),
        (None, _) => (codes::NO_SUCH_NODE, format!("it does not exist: this machine has {}", nodes(&t.node_ids()))),
    };
    let message = format!("the memory of edge `{}` cannot come from node {node}: {what}", edge.name);
    Err(Box::new(
        Diagnostic::error(code, message)
            .at(edge.memory.numa_span.as_ref().unwrap_or(&edge.span), "no memory to be had here")
            .help(format!("memory can be had on {}; or write `auto`", nodes(&t.allowed_nodes))),
    ))
}

/// Who spins on the only CPU there is keeps the one it waits for from running.
fn spin(edge: &Edge, found: &EdgePlan, told: &mut Diagnostics) {
    if edge.wait == Wait::Spin && found.rings.iter().any(|r| r.one_cpu) {
        told.push(
            Diagnostic::warning(
                codes::SPIN_ON_ONE_CPU,
                format!("both ends of edge `{}` share one CPU, so it sleeps instead of spinning", edge.name),
            )
            .at(&edge.span, "`wait: spin`")
            .help("give each end a CPU of its own, or write `wait: block`"),
        );
    }
}
