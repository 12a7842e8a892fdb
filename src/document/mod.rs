//! File text → one spanned tree, whatever the format. Pure: the text is handed in.

mod emit_toml;
mod emit_yaml;
mod limits;
mod node;
mod scalar;
mod text;
mod toml;
mod toml_syntax;
mod yaml;
mod yaml_syntax;

use std::path::Path;
use std::sync::Arc;

use crate::diag::{Diagnostic, Diagnostics, Source, codes};
pub use emit_toml::to_toml;
pub use emit_yaml::to_yaml;
pub use limits::{MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_NODES};
pub use node::{Entry, Mapping, Node, Value};
pub use text::source_from_bytes;

/// The languages a pipeline file can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Toml,
}

impl Format {
    /// By the name's ending: `.yaml`, `.yml` or `.toml`.
    pub fn from_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        if ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml") {
            Some(Self::Yaml)
        } else if ending.eq_ignore_ascii_case("toml") {
            Some(Self::Toml)
        } else {
            None
        }
    }
}

/// Reads a text into a tree and tells every mistake it can. `None` when the text has no readable tree;
/// a tree may come with errors (duplicate keys, tags), so that later checks can add theirs.
pub fn parse(source: &Arc<Source>, format: Format, found: &mut Diagnostics) -> Option<Node> {
    let node = match format {
        Format::Yaml => yaml::parse(source, found),
        Format::Toml => toml::parse(source, found),
    }?;
    let empty = match &node.value {
        Value::Null => true,
        Value::Map(map) => map.entries.is_empty() && format == Format::Toml,
        _ => false,
    };
    if empty {
        found.push(
            Diagnostic::error(codes::EMPTY, "the file says nothing")
                .at(&node.span, "only comments and blank space here")
                .help("a pipeline starts with `version`, `name` and `stages`"),
        );
        return None;
    }
    Some(node)
}

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
