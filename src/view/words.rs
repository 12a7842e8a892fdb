//! The short texts in a picture: a command on one line, what an edge is, and how wide letters are.

use crate::pipeline::{Edge, Stage};
use crate::spec::units::show_size;
use crate::spec::{Command, Delivery, Kind, Piece, Text};

/// As the file writes it, on one line. A shell's text begins with `$`.
pub(super) fn command(command: &Command) -> String {
    match command {
        Command::Argv(words) => {
            let words: Vec<_> = words.iter().map(|w| word(&w.value)).collect();
            one_line(&words.join(" "))
        }
        Command::Shell { run, .. } => format!("$ {}", one_line(run)),
    }
}

fn word(text: &Text) -> String {
    let pieces = text.pieces.iter().map(|piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Replica => "${replica}".into(),
        Piece::Edge(name) => format!("${{edge.{name}}}"),
        Piece::SelfPath => "nexusflow".into(),
    });
    let word: String = pieces.collect();
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c == '\'') { format!("'{word}'") } else { word }
}

/// Without line breaks, tabs or other control characters.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

/// `×4`, or nothing for a single replica.
pub(super) fn replicas(stage: &Stage) -> Option<String> {
    (stage.replicas > 1).then(|| format!("×{}", stage.replicas))
}

/// `64MiB distribute`, `pipe`.
pub(super) fn edge(edge: &Edge) -> String {
    match (edge.kind, edge.delivery) {
        (Kind::Pipe, _) => "pipe".into(),
        (Kind::Ring, Delivery::Broadcast) => show_size(edge.capacity),
        (Kind::Object, Delivery::Broadcast) => format!("{} of objects", show_size(edge.capacity)),
        (Kind::Object, Delivery::Distribute) => format!("{} of objects, distribute", show_size(edge.capacity)),
        (Kind::Ring, Delivery::Distribute) => format!("{} distribute", show_size(edge.capacity)),
    }
}

/// At most so many cells, the last an ellipsis where something is left out.
pub(super) fn clip(text: &str, max: usize) -> String {
    if cells(text) <= max {
        return text.into();
    }
    let mut used = 1;
    let kept = text.chars().take_while(|&c| {
        used += width(c);
        used <= max
    });
    let kept: String = kept.collect();
    format!("{}…", kept.trim_end())
}

/// The width of a text in letters of a fixed width: those of East Asia take two.
pub(super) fn cells(text: &str) -> usize {
    text.chars().map(width).sum()
}

fn width(c: char) -> usize {
    let wide = matches!(c as u32, 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD);
    1 + usize::from(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_width() {
        assert_eq!(clip("sort | uniq -c", 14), "sort | uniq -c");
        assert_eq!(clip("sort | uniq -c", 8), "sort |…");
        assert_eq!(clip("日本語", 5), "日本…");
    }

    #[test]
    fn line_breaks_do_not_survive() {
        let shell = Command::Shell { run: "sort\n\t-u \u{1b}[31m".into(), with: vec![] };
        assert_eq!(command(&shell), "$ sort -u [31m");
    }
}
