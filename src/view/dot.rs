//! The graph of a pipeline for Graphviz.

use std::fmt::Write;

use super::words;
use crate::pipeline::{Edge, Pipeline, StageId, words as terms};
use crate::spec::Kind;

const COMMAND_CELLS: usize = 40;

pub fn dot(pipeline: &Pipeline) -> String {
    let mut out = format!("digraph {} {{\n  rankdir=LR;\n", quoted(&pipeline.name));
    if let Some(description) = &pipeline.description {
        let _ = writeln!(out, "  label={}; labelloc=t;", quoted(&words::one_line(description)));
    }
    out += "  node [shape=box, style=rounded, fontname=\"monospace\", fontsize=11];\n";
    out += "  edge [fontname=\"monospace\", fontsize=9];\n";
    let mut joints = vec![vec![]; pipeline.gangs.len()];
    for (i, edge) in pipeline.edges.iter().enumerate().filter(|(_, e)| is_joint(e)) {
        joints[pipeline.stage(edge.from[0]).gang.0 as usize].push(i);
    }
    for ((gang, stages), joints) in pipeline.gangs.iter().enumerate().zip(joints) {
        if let [stage] = stages[..] {
            stage_node(&mut out, "  ", pipeline, stage);
            continue;
        }
        let _ = writeln!(out, "  subgraph cluster_{gang} {{\n    label=\"\"; style=\"rounded,dotted\";");
        stages.iter().for_each(|&stage| stage_node(&mut out, "    ", pipeline, stage));
        for i in joints {
            let _ = writeln!(out, "    e{i} [shape=plaintext, label={}];", label(&pipeline.edges[i]));
        }
        out += "  }\n";
    }
    for (i, edge) in pipeline.edges.iter().enumerate() {
        edge_lines(&mut out, i, edge);
    }
    for stage in pipeline.stage_ids() {
        for d in &pipeline.stage(stage).depends_on {
            let condition = quoted(terms::condition(d.condition));
            let _ = writeln!(out, "  s{} -> s{} [style=dotted, label={condition}];", d.stage.0, stage.0);
        }
    }
    out += "}\n";
    out
}

fn stage_node(out: &mut String, indent: &str, pipeline: &Pipeline, id: StageId) {
    let stage = pipeline.stage(id);
    let name = [Some(stage.name.clone()), words::replicas(stage)].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let command = words::command(&stage.command);
    let label = quoted(&format!("{name}\n{}", words::clip(&command, COMMAND_CELLS)));
    let service = if stage.service { ", peripheries=2" } else { "" };
    let _ = writeln!(out, "{indent}s{} [label={label}, tooltip={}{service}];", id.0, quoted(&command));
}

/// An edge with many ends meets in a node of its own, so that it stays one edge.
fn is_joint(edge: &Edge) -> bool {
    !edge.from.is_empty() && edge.from.len() + edge.to.len() > 2
}

fn label(edge: &Edge) -> String {
    quoted(&format!("{}\n{}", edge.name, words::edge(edge)))
}

fn edge_lines(out: &mut String, i: usize, edge: &Edge) {
    let style = match edge.kind {
        Kind::Ring | Kind::Object => "solid",
        Kind::Pipe => "dashed",
    };
    if !is_joint(edge) {
        for (from, to) in edge.from.iter().zip(&edge.to) {
            let _ = writeln!(out, "  s{} -> s{} [style={style}, label={}];", from.0, to.0, label(edge));
        }
        return;
    }
    for from in &edge.from {
        let _ = writeln!(out, "  s{} -> e{i} [style={style}, arrowhead=none];", from.0);
    }
    for to in &edge.to {
        let _ = writeln!(out, "  e{i} -> s{} [style={style}];", to.0);
    }
}

/// A DOT string. A backslash would begin an escape such as `\N`, so it is doubled.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
