//! `nexusflow edge`: how the edges of a running pipeline do, and recordings of what goes over them. One file per verb.

mod cat;
mod record;
mod recorder;
mod replay;
mod shown;
mod stat;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::{complain, dirs, exit};
use crate::ctl::{self, Connection, NotFound};
use crate::recording::{Broken, Fault, Reader};

/// What is read from a recording at once.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum Edge {
    Stat(stat::Args),
    Record(record::Args),
    Cat(cat::Args),
    Replay(replay::Args),
}

pub fn run(verb: Edge) -> ExitCode {
    let done = match verb {
        Edge::Stat(args) => stat::run(&args),
        Edge::Record(args) => record::run(&args),
        Edge::Cat(args) => cat::run(&args),
        Edge::Replay(args) => replay::run(&args),
    };
    exit_code(done)
}

pub(super) fn exit_code(done: Result<(), Trouble>) -> ExitCode {
    match done {
        Ok(()) | Err(Trouble::Closed) => ExitCode::SUCCESS,
        Err(Trouble::Usage(e)) => complain(e, exit::USAGE),
        Err(Trouble::Failed(e)) => complain(e, exit::FAILED),
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Human,
    Json,
}

pub(super) enum Trouble {
    /// The question was wrong.
    Usage(String),
    /// It was right, and cannot be answered.
    Failed(String),
    /// Whoever read the answer has had enough.
    Closed,
}

impl From<ctl::Error> for Trouble {
    fn from(e: ctl::Error) -> Self {
        match e {
            ctl::Error::Refused(..) => Self::Usage(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}

impl From<NotFound> for Trouble {
    fn from(e: NotFound) -> Self {
        match e {
            NotFound::Failed(..) => Self::Failed(e.to_string()),
            e => Self::Usage(e.to_string()),
        }
    }
}

/// The run that goes on and that `word` means.
pub(super) fn connect(word: &str) -> Result<Connection, Trouble> {
    Ok(ctl::find(&dirs::runtime(), word)?)
}

/// A recording to read; `-` is stdin.
fn open(path: &Path) -> Result<Reader<Box<dyn Read>>, Trouble> {
    let from: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path).map_err(|e| Trouble::Usage(format!("{}: {e}", path.display())))?),
    };
    let buffered: Box<dyn Read> = Box::new(io::BufReader::with_capacity(READ_BYTES, from));
    Reader::open(buffered).map_err(|e| broken(path, &e))
}

fn broken(path: &Path, e: &Broken) -> Trouble {
    let help = match e.fault {
        Fault::Cut => "\nhelp: `--partial` takes what is there for the whole",
        _ => "",
    };
    Trouble::Failed(format!("{} is {e}{help}", path.display()))
}

/// To stdout, which may be closed early.
pub(super) fn put(out: &mut impl Write, bytes: &[u8]) -> Result<(), Trouble> {
    out.write_all(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Trouble::Closed,
        _ => Trouble::Failed(format!("stdout: {e}")),
    })
}
