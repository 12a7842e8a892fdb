//! `schema`: the JSON Schema of pipeline files.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, exit, print};
use crate::spec;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write pipeline.v1.schema.json into this folder instead of stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> ExitCode {
    let text = format!("{:#}\n", spec::schema());
    let Some(dir) = &args.out else { return print(&text) };
    let path = dir.join("pipeline.v1.schema.json");
    match std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => complain(format_args!("{}: {e}", path.display()), exit::FAILED),
    }
}
