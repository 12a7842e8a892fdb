//! A [`Plan`] told: a table for people, and stable JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::pipeline::{EdgeId, Pipeline};
use crate::spec::Hugepages;
use crate::topology::{IdSet, NodeSet, Topology};

use super::{EdgePlan, MemoryPolicy, Plan, Task};

/// Stages that float are told in one line; their names, in part.
const MAX_NAMES: usize = 8;

pub fn human(pipeline: &Pipeline, topology: &Topology, plan: &Plan) -> String {
    let mut rows: Vec<[String; 5]> = vec![["STAGE", "CPUS", "NODE", "MEMORY", "WHY"].map(String::from)];
    for task in plan.tasks.iter().filter(|t| t.pinned) {
        let stage = pipeline.stage(task.stage);
        let name = stage.task_name(task.replica);
        let why = task.why.iter().cloned().chain(task.gave_up.iter().map(|g| format!("GAVE UP {g}")));
        let why = why.collect::<Vec<_>>().join("; ");
        rows.push([name, or_dash(&task.cpus), or_dash(&task.nodes), memory(task).into(), why]);
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}: {} usable CPUs ({}) on {} NUMA node{}",
        pipeline.name,
        plan.usable.len(),
        plan.usable,
        topology.nodes.len(),
        if topology.nodes.len() == 1 { "" } else { "s" }
    );
    if rows.len() > 1 {
        table(&mut out, &rows);
    }
    floating(&mut out, pipeline, plan);
    edges(&mut out, pipeline, plan);
    out
}

/// Where the memory of edges comes from, where there is a choice.
fn edges(out: &mut String, pipeline: &Pipeline, plan: &Plan) {
    for (id, planned) in pipeline.edge_ids().zip(&plan.edges) {
        let (edge, nodes) = (pipeline.edge(id), edge_nodes(planned));
        let pages = match edge.memory.hugepages {
            Hugepages::None => "",
            Hugepages::TwoMiB => " in pages of 2 MiB",
            Hugepages::OneGiB => " in pages of 1 GiB",
        };
        let place = if nodes.is_empty() { String::new() } else { format!(" on node {nodes}") };
        if !planned.why.is_empty() || !pages.is_empty() {
            let why = if planned.why.is_empty() { String::new() } else { format!(": {}", planned.why) };
            let _ = writeln!(out, "edge {}: memory{place}{pages}{why}", edge.name);
        }
    }
}

fn edge_nodes(planned: &EdgePlan) -> NodeSet {
    planned.rings.iter().filter_map(|ring| ring.node).collect()
}

fn table(out: &mut String, rows: &[[String; 5]]) {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", row[4]);
    }
}

fn floating(out: &mut String, pipeline: &Pipeline, plan: &Plan) {
    let mut names: BTreeMap<u32, &str> = BTreeMap::new();
    for task in plan.tasks.iter().filter(|t| !t.pinned) {
        names.insert(task.stage.0, &pipeline.stage(task.stage).name);
    }
    if names.is_empty() {
        return;
    }
    let shown: Vec<&str> = names.values().take(MAX_NAMES).copied().collect();
    let more = names.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = writeln!(out, "floating over CPUs {}: {}{more}", or_dash(&plan.floating), shown.join(", "));
}

fn or_dash(set: &IdSet) -> String {
    if set.is_empty() { "-".into() } else { set.to_string() }
}

fn memory(task: &Task) -> &'static str {
    match task.memory {
        MemoryPolicy::Default => "default",
        MemoryPolicy::Local => "local",
        MemoryPolicy::Bind => "bind",
        MemoryPolicy::Preferred => "preferred",
        MemoryPolicy::Interleave => "interleave",
    }
}

pub fn json(pipeline: &Pipeline, topology: &Topology, plan: &Plan) -> Value {
    let task = |t: &Task| {
        json!({
            "stage": pipeline.stage(t.stage).name,
            "replica": t.replica,
            "cpus": t.cpus,
            "pinned": t.pinned,
            "nodes": t.nodes,
            "memory": memory(t),
            "why": t.why,
            "gave_up": t.gave_up,
        })
    };
    let edge = |(id, planned): (EdgeId, &EdgePlan)| {
        json!({
            "edge": pipeline.edge(id).name,
            "nodes": edge_nodes(planned),
            "strict": planned.rings.iter().any(|ring| ring.strict),
            "one_cpu": planned.rings.iter().any(|ring| ring.one_cpu),
            "why": planned.why,
        })
    };
    json!({
        "pipeline": pipeline.name,
        "machine": {
            "cpus": topology.online(),
            "usable_cpus": topology.allowed,
            "usable_nodes": topology.allowed_nodes,
            "packages": topology.packages(),
            "nodes": topology.nodes.len(),
            "cores": topology.cores.len(),
        },
        "floating": plan.floating,
        "edges": pipeline.edge_ids().zip(&plan.edges).map(edge).collect::<Vec<_>>(),
        "tasks": plan.tasks.iter().map(task).collect::<Vec<_>>(),
    })
}
