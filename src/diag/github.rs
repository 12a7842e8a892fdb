//! For GitHub Actions: workflow commands, which become annotations beside the lines of a change.

use super::position::Indexes;
use super::{Diagnostic, codes, human, json};

pub(super) fn render(list: &[&Diagnostic]) -> String {
    let mut indexes = Indexes::default();
    list.iter().map(|d| command(d, &mut indexes)).collect()
}

fn command<'a>(d: &'a Diagnostic, indexes: &mut Indexes<'a>) -> String {
    let mut properties = vec![];
    if let Some(label) = d.labels.first() {
        let (start, end) = indexes.ends(label);
        properties.push(format!("file={}", property(&label.span.source.name)));
        properties.push(format!("line={}", start.line));
        // Columns are only understood within one line.
        if start.line == end.line {
            properties.push(format!("col={},endLine={},endColumn={}", start.column, end.line, end.column));
        } else {
            properties.push(format!("endLine={}", end.line));
        }
    }
    let name = codes::find(d.code).map_or("", |e| e.name);
    properties.push(format!("title={}", property(format!("{} {name}", d.code).trim_end())));
    let mut text = d.message.clone();
    for note in &d.notes {
        text += &format!("\nnote: {note}");
    }
    if let Some(help) = &d.help {
        text += &format!("\nhelp: {help}");
    }
    format!("::{} {}::{}\n", json::severity(d.severity), properties.join(","), data(&human::clean(&text)))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
