//! `man`: the manual pages, one for each verb.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, exit};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write them into this folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args, command: clap::Command) -> ExitCode {
    let made = std::fs::create_dir_all(&args.out).and_then(|()| clap_mangen::generate_to(command, &args.out));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => complain(format_args!("{}: {e}", args.out.display()), exit::FAILED),
    }
}
