//! The graph of a pipeline for Mermaid, as Markdown renderers draw it.

use std::fmt::Write;

use super::words;
use crate::pipeline::{Edge, Pipeline, StageId, words as terms};
use crate::spec::Kind;

const COMMAND_CELLS: usize = 40;

pub fn mermaid(pipeline: &Pipeline) -> String {
    let mut chart = Chart { out: "flowchart LR\n".into(), links: 0, dashed: vec![], dotted: vec![] };
    for (gang, stages) in pipeline.gangs.iter().enumerate() {
        if let [stage] = stages[..] {
            chart.stage("  ", pipeline, stage);
            continue;
        }
        let _ = writeln!(chart.out, "  subgraph g{gang}[\" \"]");
        stages.iter().for_each(|&stage| chart.stage("    ", pipeline, stage));
        chart.out += "  end\n";
    }
    for (i, edge) in pipeline.edges.iter().enumerate() {
        chart.edge(i, edge);
    }
    for stage in pipeline.stage_ids() {
        for d in &pipeline.stage(stage).depends_on {
            chart.dotted.push(chart.links);
            let condition = terms::condition(d.condition);
            chart.link(&format!("s{} -->|\"{condition}\"| s{}", d.stage.0, stage.0));
        }
    }
    for (links, dashes) in [(&chart.dashed, "6 4"), (&chart.dotted, "1 4")] {
        if !links.is_empty() {
            let numbers: Vec<_> = links.iter().map(u32::to_string).collect();
            let _ = writeln!(chart.out, "  linkStyle {} stroke-dasharray:{dashes}", numbers.join(","));
        }
    }
    chart.out
}

struct Chart {
    out: String,
    /// Links are styled by their number.
    links: u32,
    dashed: Vec<u32>,
    dotted: Vec<u32>,
}

impl Chart {
    fn stage(&mut self, indent: &str, pipeline: &Pipeline, id: StageId) {
        let stage = pipeline.stage(id);
        let name = escape(&stage.name);
        let replicas = words::replicas(stage).map(|r| format!(" {r}")).unwrap_or_default();
        let command = escape(&words::clip(&words::command(&stage.command), COMMAND_CELLS));
        let (open, close) = if stage.service { ("[[", "]]") } else { ("[", "]") };
        let label = format!("<b>{name}</b>{replicas}<br/><small>{command}</small>");
        let _ = writeln!(self.out, "{indent}s{}{open}\"{label}\"{close}", id.0);
    }

    fn link(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {text}");
        self.links += 1;
    }

    fn edge(&mut self, i: usize, edge: &Edge) {
        let first = self.links;
        let about = format!("{} · {}", escape(&edge.name), escape(&words::edge(edge)));
        if let ([from], [to]) = (&edge.from[..], &edge.to[..]) {
            self.link(&format!("s{} -->|\"{about}\"| s{}", from.0, to.0));
        } else {
            let _ = writeln!(self.out, "  e{i}([\"{about}\"])");
            edge.from.iter().for_each(|from| self.link(&format!("s{} --- e{i}", from.0)));
            edge.to.iter().for_each(|to| self.link(&format!("e{i} --> s{}", to.0)));
        }
        if edge.kind == Kind::Pipe {
            self.dashed.extend(first..self.links);
        }
    }
}

/// Text for a quoted label: all that could mean something to Mermaid, Markdown or HTML becomes its number.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let plain = c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | '/' | ':' | '-' | '=' | '+' | '…' | '×');
        if plain {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}
