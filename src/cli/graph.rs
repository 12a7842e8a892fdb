//! `dag graph`: the picture of a pipeline.

use std::process::ExitCode;

use clap::ValueEnum;

use super::load::FileArgs;
use super::print;
use crate::view;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// An image, Graphviz, or Mermaid
    #[arg(long, value_enum, default_value = "svg")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Svg,
    Dot,
    Mermaid,
}

pub fn run(args: &Args) -> ExitCode {
    let pipeline = match args.file.load() {
        Ok(pipeline) => pipeline,
        Err(code) => return code,
    };
    print(&match args.format {
        Format::Svg => view::svg(&pipeline),
        Format::Dot => view::dot(&pipeline),
        Format::Mermaid => view::mermaid(&pipeline),
    })
}
