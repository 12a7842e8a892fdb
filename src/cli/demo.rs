//! `demo`: the stages of `pipelines/duplicates.yaml`. They are started by a run, not by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{complain, exit};
use crate::demo;

/// Be one of the stages of pipelines/duplicates.yaml
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Debug, Subcommand)]
enum Stage {
    /// Send the path of every regular file under a folder to edge `paths`
    Walk { root: PathBuf },
    /// Read the files of edge `paths` and send their SHA-256 to edge `hashes`
    Hash,
    /// Print the files of edge `hashes` that are equal
    Report {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Groups, those that waste most first
    #[default]
    Text,
    /// `hash  path`, sorted, as sha256sum prints them
    Lines,
}

pub fn run(args: &Args) -> ExitCode {
    // Whoever reads the report may stop at the first page: that is an error to handle, not one to die of.
    let _ = nexusflow_sys::signal::ignore(nexusflow_sys::signal::number("PIPE").unwrap_or(13));
    let done = match &args.stage {
        Stage::Walk { root } => demo::walk(root),
        Stage::Hash => demo::hash(),
        Stage::Report { format: Format::Text } => demo::report(demo::Format::Text),
        Stage::Report { format: Format::Lines } => demo::report(demo::Format::Lines),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => complain(e, exit::FAILED),
    }
}
