//! `dag plan`: where each stage would run on this machine, and why.

use std::process::ExitCode;

use clap::ValueEnum;

use super::load::{self, FileArgs};
use super::{complain, exit, print};
use crate::diag::Diagnostics;
use crate::pipeline::Pipeline;
use crate::plan::{self, Options, Plan, explain};
use crate::probe;
use crate::topology::Topology;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Let every stage float, whatever the file asks
    #[arg(long)]
    no_pin: bool,
    /// A table for people, or stable JSON
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
}

pub fn run(args: &Args) -> ExitCode {
    let pipeline = match args.file.load() {
        Ok(pipeline) => pipeline,
        Err(code) => return code,
    };
    let (plan, topology) = match here(&pipeline, args.no_pin) {
        Ok(both) => both,
        Err(code) => return code,
    };
    match args.format {
        Format::Human => print(&explain::human(&pipeline, &topology, &plan)),
        Format::Json => print(&format!("{:#}\n", explain::json(&pipeline, &topology, &plan))),
    }
}

/// A plan for this machine; or the exit code, everything said.
pub fn here(pipeline: &Pipeline, no_pin: bool) -> Result<(Plan, Topology), ExitCode> {
    let topology = probe::topology()
        .map_err(|e| complain(format_args!("this machine's topology cannot be read: {e}"), exit::NOT_STARTED))?;
    let mut found = Diagnostics::default();
    let plan = plan::plan(pipeline, &topology, &Options { no_pin }, &mut found);
    load::show(&found.list);
    match plan {
        Some(plan) if !found.has_errors() => Ok((plan, topology)),
        _ => Err(ExitCode::from(exit::PLACEMENT)),
    }
}
