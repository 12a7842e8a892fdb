//! `dag convert`: the same pipeline in the other language.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{exit, load, print};
use crate::diag::Diagnostics;
use crate::document;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file: .yaml, .yml or .toml
    file: PathBuf,
    /// The language to turn it into; comments are lost, anchors are written out
    #[arg(long, value_enum)]
    to: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Yaml,
    Toml,
}

pub fn run(args: &Args) -> ExitCode {
    let mut found = Diagnostics::default();
    let text = load::tree(&args.file, &mut found).and_then(|node| match args.to {
        Language::Yaml => Some(document::to_yaml(&node)),
        Language::Toml => document::to_toml(&node, &mut found),
    });
    load::show(&found.list);
    match text {
        Some(text) if !found.has_errors() => print(&text),
        _ => ExitCode::from(exit::INVALID_FILE),
    }
}
