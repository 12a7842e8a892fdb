//! `dag history`, `dag show` and `dag logs`: what earlier runs left behind.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum, value_parser};
use jiff::tz::TimeZone;
use serde_json::json;

use super::{complain, dirs, exit, logs};
use crate::record::human::harmless;
use crate::record::{NotFound, Reader, Run, show};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
}

/// List earlier runs, latest first
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only runs of this pipeline
    pipeline: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    limit: u32,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show what happened in a run
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A run's id, the start of one, a pipeline's name (its latest run), or `last`
    #[arg(default_value = "last")]
    run: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Print what the stages of a run wrote to stdout and stderr
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A run's id, the start of one, a pipeline's name (its latest run), or `last`
    run: String,
    /// Only this stage; `hash@2` is one replica of it
    stage: Option<String>,
    /// Only the last lines of each log
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

pub fn history(args: &HistoryArgs) -> ExitCode {
    answer(|state, out| {
        let runs = Reader::open(state)?.history(args.pipeline.as_deref(), args.limit)?;
        match args.format {
            Format::Human => match &args.pipeline {
                Some(pipeline) if runs.is_empty() => writeln!(out, "no runs of pipeline {}", harmless(pipeline))?,
                _ => out.write_all(show::history(&runs, &TimeZone::system()).as_bytes())?,
            },
            Format::Json => print_json(out, &json!({ "runs": runs }))?,
        }
        Ok(())
    })
}

pub fn show(args: &ShowArgs) -> ExitCode {
    answer(|state, out| {
        let reader = Reader::open(state)?;
        let run = find(&reader, &args.run)?;
        let (attempts, edges) = (reader.attempts(&run.run)?, reader.edges(&run.run)?);
        match args.format {
            Format::Human => out.write_all(show::run(&run, &attempts, &edges, &TimeZone::system()).as_bytes())?,
            Format::Json => print_json(out, &json!({ "run": run, "attempts": attempts, "edges": edges }))?,
        }
        Ok(())
    })
}

pub fn logs(args: &LogsArgs) -> ExitCode {
    answer(|state, out| {
        let run = find(&Reader::open(state)?, &args.run)?;
        let files = logs::find(Path::new(&run.logs), args.stage.as_deref())
            .map_err(|e| Trouble::Usage(format!("{}: {e}", run.run)))?;
        logs::print(&files, args.tail, io::stdout().is_terminal(), out)?;
        Ok(())
    })
}

enum Trouble {
    /// The question was wrong.
    Usage(String),
    /// The answer could not be given.
    Failed(String),
    /// Whoever read the answer has had enough.
    Closed,
}

impl From<crate::record::Error> for Trouble {
    fn from(e: crate::record::Error) -> Self {
        Self::Failed(format!("the history cannot be read: {e}"))
    }
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(e.to_string()),
        }
    }
}

fn find(reader: &Reader, word: &str) -> Result<Run, Trouble> {
    reader.run(word).map_err(|e| match e {
        NotFound::Error(e) => e.into(),
        e => Trouble::Usage(e.to_string()),
    })
}

fn answer(verb: impl FnOnce(&Path, &mut dyn Write) -> Result<(), Trouble>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = dirs::state().map_err(Trouble::Failed).and_then(|state| verb(&state, &mut out));
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) | Err(Trouble::Closed) => ExitCode::SUCCESS,
        Err(Trouble::Usage(e)) => complain(e, exit::USAGE),
        Err(Trouble::Failed(e)) => complain(e, exit::FAILED),
    }
}

fn print_json(out: &mut dyn Write, value: &serde_json::Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}
