//! The command line: arguments in, a call down, output out. One file per verb.

mod apply;
mod console;
mod convert;
mod demo;
mod dirs;
mod edge;
mod explain;
mod graph;
mod history;
mod load;
mod logs;
mod man;
mod plan;
mod plasma;
mod schema;
mod talker;
mod topology;
mod validate;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use nexusflow_sys::signal;

/// Exit codes, the same for every verb; `nexusflow --help` lists them.
pub(crate) mod exit {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const INVALID_FILE: u8 = 3;
    pub const PLACEMENT: u8 = 4;
    pub const NOT_STARTED: u8 = 5;
}

const EXIT_CODES: &str = "\
Exit codes:
  0        all well
  1        a stage failed
  2        bad command line
  3        invalid pipeline file
  4        placement impossible on this machine
  5        could not start: permission, limits, missing program
  124      timed out
  130/143  interrupted by SIGINT/SIGTERM

Environment:
  NEXUSFLOW_STATE_DIR    history and logs [default: $XDG_STATE_HOME/nexusflow; root: /var/lib/nexusflow]
  NEXUSFLOW_RUNTIME_DIR  sockets of runs [default: $XDG_RUNTIME_DIR/nexusflow; root: /run/nexusflow]
  NO_COLOR               no colours

Start with `nexusflow dag apply FILE`; docs/pipeline.md is the reference of the file format.";

/// Declarative pipelines of pinned processes joined by shared memory, on one Linux machine
#[derive(Debug, Parser)]
#[command(name = "nexusflow", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run, check, show and draw pipelines
    #[command(subcommand)]
    Dag(Dag),
    /// Look at the edges of a running pipeline, record them, replay what was recorded
    #[command(subcommand)]
    Edge(edge::Edge),
    /// Look at the objects that running pipelines hold
    #[command(subcommand)]
    Plasma(plasma::Plasma),
    /// Show this machine: packages, caches, cores, CPUs, NUMA nodes
    Topology(topology::Args),
    /// Print the JSON Schema of pipeline files, for editors and CI
    Schema(schema::Args),
    /// Tell what a diagnostic's code means and how to mend it
    Explain(explain::Args),
    /// Be one of the stages of pipelines/duplicates.yaml, as a run starts them
    Demo(demo::Args),
    /// Print shell completions
    Completions {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man(man::Args),
}

#[derive(Debug, Subcommand)]
enum Dag {
    /// Run a pipeline to its end
    Apply(apply::Args),
    /// Check pipeline files, asking nothing of this machine
    Validate(validate::Args),
    /// Show where each stage would run on this machine, and why
    Plan(plan::Args),
    /// Draw the graph of a pipeline
    Graph(graph::Args),
    /// Turn a pipeline file into YAML or TOML
    Convert(convert::Args),
    History(history::HistoryArgs),
    Show(history::ShowArgs),
    Logs(history::LogsArgs),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    // As other tools: `nexusflow … | head` ends quietly. `dag apply` takes it back, since its stages' pipes break too.
    let _ = signal::default(signal::SIGPIPE);
    let verb = match Cli::try_parse() {
        Ok(cli) => cli.verb,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    match verb {
        Verb::Dag(Dag::Apply(args)) => apply::run(args),
        Verb::Dag(Dag::Validate(args)) => validate::run(&args),
        Verb::Dag(Dag::Plan(args)) => plan::run(&args),
        Verb::Dag(Dag::Graph(args)) => graph::run(&args),
        Verb::Dag(Dag::Convert(args)) => convert::run(&args),
        Verb::Dag(Dag::History(args)) => history::history(&args),
        Verb::Dag(Dag::Show(args)) => history::show(&args),
        Verb::Dag(Dag::Logs(args)) => history::logs(&args),
        Verb::Edge(verb) => edge::run(verb),
        Verb::Plasma(verb) => plasma::run(&verb),
        Verb::Topology(args) => topology::run(args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "nexusflow", &mut io::stdout());
            ExitCode::SUCCESS
        }
        Verb::Man(args) => man::run(&args, Cli::command()),
    }
}

/// One line to stderr, and the exit code.
fn complain(message: impl std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(code)
}

/// Text to stdout, in one piece.
fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => complain(format_args!("stdout: {e}"), exit::FAILED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
