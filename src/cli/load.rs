//! From a path to a pipeline: read, parse, lower, resolve; what verbs that take a pipeline file share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::{complain, exit};
use crate::diag::{Diagnostic, Diagnostics, Source, Span, codes};
use crate::diag::{Format, draw, render};
use crate::document::{self, MAX_BYTES, Node};
use crate::pipeline::{self, Pipeline};
use crate::spec;

/// A pipeline file on the command line, and values for its vars.
#[derive(Debug, clap::Args)]
pub struct FileArgs {
    /// The pipeline file: .yaml, .yml or .toml
    pub file: PathBuf,
    /// Give a var of the file a value; beats its `env` and `default`
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_value)]
    pub set: Vec<(String, String)>,
}

pub(super) fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it is written NAME=VALUE".into()),
    }
}

/// Why there is no pipeline.
pub enum Refused {
    /// The command line is wrong: exit 2.
    Usage(String),
    /// The file is: exit 3; the diagnostics say how.
    File,
}

/// Text → tree.
pub fn tree(path: &Path, found: &mut Diagnostics) -> Option<Node> {
    let name = path.display().to_string();
    let Some(format) = document::Format::from_path(path) else {
        // A place that is not there would point into a text that nobody wrote.
        let d = Diagnostic::error(codes::UNKNOWN_FORMAT, format!("{name}: is it YAML or TOML? Its name does not say"));
        found.push(at_top(d, &name).help("let the name end in .yaml, .yml or .toml"));
        return None;
    };
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            let reason = e.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default();
            let d = Diagnostic::error(codes::UNREADABLE, format!("{name} cannot be read: {reason}"));
            found.push(at_top(d, &name).help("check the path and its permissions"));
            return None;
        }
    };
    let source = document::source_from_bytes(&name, bytes, found)?;
    document::parse(&source, format, found)
}

fn at_top(d: Diagnostic, name: &str) -> Diagnostic {
    let source = Arc::new(Source { name: name.to_owned(), text: String::new() });
    d.at(&Span { source, range: 0..0 }, "this file")
}

/// At most a little more than a pipeline file may be long: enough to be refused for its length.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Text → pipeline. `strict`: every var must have a value.
pub fn pipeline(
    path: &Path,
    set: &BTreeMap<String, String>,
    strict: bool,
    found: &mut Diagnostics,
) -> Result<Option<Pipeline>, Refused> {
    let node = tree(path, found).ok_or(Refused::File)?;
    if let Some(name) = spec::undeclared_sets(&node, set).first() {
        let declared: Vec<&str> = node
            .as_map()
            .and_then(|m| m.get("vars"))
            .and_then(Node::as_map)
            .map_or(vec![], |m| m.entries.iter().map(|e| e.key.as_str()).collect());
        let known = match declared.as_slice() {
            [] => "it declares none".to_owned(),
            names => format!("it declares {}", names.join(", ")),
        };
        return Err(Refused::Usage(format!("--set {name}: {} has no var `{name}` ({known})", path.display())));
    }
    let env = |name: &str| std::env::var(name).ok();
    let Some(spec) = spec::read(&node, &spec::Inputs { set, env: &env, strict }, found) else {
        return if found.has_errors() { Err(Refused::File) } else { Ok(None) };
    };
    let dir = folder_of(path);
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    match pipeline::build(&spec, &dir, found) {
        Some(pipeline) if !found.has_errors() => Ok(Some(pipeline)),
        _ => Err(Refused::File),
    }
}

impl FileArgs {
    /// The pipeline, ready to be planned; or what `main` is to return, everything said. Warnings are said too.
    pub fn load(&self) -> Result<Pipeline, ExitCode> {
        let mut found = Diagnostics::default();
        let set = self.set.iter().cloned().collect();
        let result = pipeline(&self.file, &set, true, &mut found);
        show(&found.list);
        match result {
            Ok(Some(pipeline)) => Ok(pipeline),
            Ok(None) => Err(complain("the pipeline depends on vars without a value", exit::INVALID_FILE)),
            Err(Refused::File) => Err(ExitCode::from(exit::INVALID_FILE)),
            Err(Refused::Usage(message)) => Err(complain(message, exit::USAGE)),
        }
    }
}

/// Diagnostics for people, to stderr.
pub fn show(list: &[Diagnostic]) {
    if !list.is_empty() {
        let _ = io::stderr().write_all(render(list, Format::Human { color: colours(&io::stderr()) }).as_bytes());
    }
}

/// One mistake that showed while a run went on.
pub fn show_one(diagnostic: &Diagnostic) {
    let _ = io::stderr().write_all(draw(diagnostic, colours(&io::stderr())).as_bytes());
}

/// The folder that a file lies in, or will.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// On a terminal, unless asked not to.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
