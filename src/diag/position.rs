//! Byte offsets → lines and columns, over an index made once per text.

use std::ops::Range;

use super::{Label, Source};

/// Both count from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Where the lines of one text begin.
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(n, _)| n + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// An offset beyond the text is its end; one inside a character is that character's.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor(self.text, offset);
        let line = self.line_of(offset);
        Position { line: line + 1, column: self.text[self.starts[line]..offset].chars().count() + 1 }
    }

    /// The number (from 0) of the line that an offset is in.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset) - 1
    }

    /// A line's bytes (its number from 0), without its line break.
    pub(super) fn range(&self, line: usize) -> Range<usize> {
        let start = self.starts[line];
        let end = self.starts.get(line + 1).map_or(self.text.len(), |&next| next - 1);
        start..if self.text[start..end].ends_with('\r') { end - 1 } else { end }
    }
}

/// The indexes of the texts that one rendering meets.
#[derive(Default)]
pub(super) struct Indexes<'a>(Vec<(&'a Source, Lines<'a>)>);

impl<'a> Indexes<'a> {
    pub fn of(&mut self, source: &'a Source) -> &Lines<'a> {
        let at = self.0.iter().position(|(known, _)| std::ptr::eq(*known, source)).unwrap_or_else(|| {
            self.0.push((source, Lines::new(&source.text)));
            self.0.len() - 1
        });
        &self.0[at].1
    }

    /// First and last position of a label; the last is just past its end.
    pub fn ends(&mut self, label: &'a Label) -> (Position, Position) {
        let range = place(label);
        let lines = self.of(&label.span.source);
        (lines.position(range.start), lines.position(range.end))
    }
}

/// The bytes of a label, kept to its text and whole characters. A place in the blank end of the text is
/// shown behind the last thing that the text says.
pub(super) fn place(label: &Label) -> Range<usize> {
    let text = label.span.source.text.as_str();
    let start = floor(text, label.span.range.start);
    let end = floor(text, label.span.range.end).max(start);
    if text[start..].trim().is_empty() {
        let said = text.trim_end().len().min(start);
        return said..said;
    }
    start..end
}

/// The start of the character that an offset is in.
pub(super) fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_as_they_end() {
        let text = "é日\r\nx\n\n";
        let lines = Lines::new(text);
        let at = |offset| {
            let Position { line, column } = lines.position(offset);
            (line, column)
        };
        assert_eq!([at(0), at(2), at(5), at(7), at(8)], [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]);
        assert_eq!([at(9), at(10), at(99)], [(3, 1), (4, 1), (4, 1)]);
        assert_eq!(at(1), (1, 1), "inside a character is that character");
        assert_eq!((lines.range(0), lines.range(1), lines.range(3)), (0..5, 7..8, 10..10));
    }
}
