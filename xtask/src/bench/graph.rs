//! The graph that everyone runs: layers of one width, each stage after three of the layer before.

use std::fmt::Write;
use std::path::Path;

const WIDTH: usize = 100;
/// Which of the layer before, counted from one's own place.
const REACH: [usize; 3] = [0, 1, 7];

/// The stages that this one waits for.
pub fn dependencies(stage: usize) -> Vec<usize> {
    let (layer, place) = (stage / WIDTH, stage % WIDTH);
    match layer {
        0 => Vec::new(),
        _ => REACH.iter().map(|reach| (layer - 1) * WIDTH + (place + reach) % WIDTH).collect(),
    }
}

pub fn name(stage: usize) -> String {
    format!("s{stage}")
}

fn names(stages: &[usize], between: &str) -> String {
    stages.iter().map(|s| name(*s)).collect::<Vec<_>>().join(between)
}

pub fn pipeline(stages: usize, program: &Path) -> String {
    let mut text = "version: 1\nname: bench\nstages:\n".to_owned();
    for stage in 0..stages {
        let _ = write!(text, "  {}: {{ command: [{}]", name(stage), program.display());
        match &dependencies(stage)[..] {
            [] => text.push_str(" }\n"),
            before => _ = writeln!(text, ", depends_on: [{}] }}", names(before, ", ")),
        }
    }
    text
}

pub fn makefile(stages: usize, program: &Path) -> String {
    let all = names(&(0..stages).collect::<Vec<_>>(), " ");
    let mut text = format!("all: {all}\n.PHONY: all {all}\n");
    for stage in 0..stages {
        let _ = writeln!(text, "{}: {}\n\t@{}", name(stage), names(&dependencies(stage), " "), program.display());
    }
    text
}
