//! `nexusflow topology`: what this machine is, as far as this process may use it.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::probe;
use crate::topology::show;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A tree for people, or stable JSON
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// 5 when the machine cannot be read: nothing could be started on it either.
pub fn run(args: Args) -> ExitCode {
    let topology = match probe::topology() {
        Ok(topology) => topology,
        Err(e) => {
            anstream::eprintln!("error: {e}");
            return ExitCode::from(5);
        }
    };
    let text = match args.format {
        Format::Human => show::human(&topology),
        Format::Json => format!("{:#}\n", show::json(&topology)),
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = anstream::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
