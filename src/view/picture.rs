//! What a picture shows, before it has a place: boxes with text and lines between them.

use crate::pipeline::{GangId, Pipeline, Stage, StageId, words as terms};
use crate::spec::{Condition, Kind};

use super::words;

/// Longer commands are cut; all of it is in the tooltip.
const COMMAND_CELLS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Stage,
    Service,
    Ring,
    Pipe,
    /// A word on a line, without a frame.
    Word,
}

#[derive(Debug, Clone)]
pub struct Figure {
    pub look: Look,
    pub title: String,
    /// Beside the title: `×4`.
    pub badge: Option<String>,
    pub lines: Vec<String>,
    pub tooltip: String,
    /// Figures of one group are kept together and outlined.
    pub group: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Ring,
    Pipe,
    Wait,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub from: u32,
    pub to: u32,
    pub style: Style,
    pub arrow: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub title: String,
    pub description: String,
    pub figures: Vec<Figure>,
    pub lines: Vec<Line>,
}

/// The graph of a pipeline. An edge is a figure of its own, so that one with many ends is still one thing.
pub fn graph(pipeline: &Pipeline) -> Picture {
    let group = |gang: GangId| Some(gang.0).filter(|&g| pipeline.gangs[g as usize].len() > 1);
    let mut picture = Picture {
        title: pipeline.name.clone(),
        description: words::one_line(pipeline.description.as_deref().unwrap_or("")),
        figures: pipeline.stages.iter().map(|s| stage_figure(s, group(s.gang))).collect(),
        lines: vec![],
    };
    for edge in &pipeline.edges {
        let (look, style) = match edge.kind {
            Kind::Ring | Kind::Object => (Look::Ring, Style::Ring),
            Kind::Pipe => (Look::Pipe, Style::Pipe),
        };
        let gang = edge.from.first().and_then(|&s| group(pipeline.stage(s).gang));
        let about = words::edge(edge);
        let tooltip = format!("edge {}: {about}", edge.name);
        let own = picture.add(Figure {
            look,
            title: edge.name.clone(),
            badge: None,
            lines: vec![about],
            tooltip,
            group: gang,
        });
        picture.lines.extend(edge.from.iter().map(|s| Line { from: s.0, to: own, style, arrow: false }));
        picture.lines.extend(edge.to.iter().map(|s| Line { from: own, to: s.0, style, arrow: true }));
    }
    for stage in pipeline.stage_ids() {
        for dependency in &pipeline.stage(stage).depends_on {
            picture.wait(pipeline, dependency.stage, stage, dependency.condition);
        }
    }
    picture
}

impl Picture {
    fn add(&mut self, figure: Figure) -> u32 {
        self.figures.push(figure);
        self.figures.len() as u32 - 1
    }

    /// `completed` is what is expected and goes without saying.
    fn wait(&mut self, pipeline: &Pipeline, first: StageId, then: StageId, condition: Condition) {
        let line = |from, to, arrow| Line { from, to, style: Style::Wait, arrow };
        if condition == Condition::Completed {
            self.lines.push(line(first.0, then.0, true));
            return;
        }
        let (before, after) = (pipeline.stage(first), pipeline.stage(then));
        let title = terms::condition(condition).to_string();
        let tooltip = format!("{} waits until {} has {title}", after.name, before.name);
        let group = Some(before.gang.0).filter(|_| before.gang == after.gang);
        let own = self.add(Figure { look: Look::Word, title, badge: None, lines: vec![], tooltip, group });
        self.lines.push(line(first.0, own, false));
        self.lines.push(line(own, then.0, true));
    }
}

fn stage_figure(stage: &Stage, group: Option<u32>) -> Figure {
    let command = words::command(&stage.command);
    Figure {
        look: if stage.service { Look::Service } else { Look::Stage },
        title: stage.name.clone(),
        badge: words::replicas(stage),
        lines: vec![words::clip(&command, COMMAND_CELLS)],
        tooltip: format!("{}: {command}", stage.name),
        group,
    }
}
