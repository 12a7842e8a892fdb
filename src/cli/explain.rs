//! `explain`: the story behind a code.

use std::process::ExitCode;

use super::{complain, exit, print};
use crate::diag::{Code, codes, explain};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A code such as NF0203; without one, all codes are listed
    code: Option<Code>,
}

pub fn run(args: &Args) -> ExitCode {
    match args.code {
        None => print(&codes::all().map(|e| format!("{}  {}\n", e.code, e.name)).collect::<String>()),
        Some(code) => match explain(code) {
            Some(story) => print(&story),
            None => complain(format_args!("there is no code {code}; `nexusflow explain` lists them"), exit::USAGE),
        },
    }
}
