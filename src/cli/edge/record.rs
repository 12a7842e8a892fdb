//! `edge record`: keeps what goes over an edge of a running pipeline.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nexusflow_sys::signal;

use super::recorder::{ASKED_TO_STOP, Recorder, Watch, now_ns, open};
use super::{Trouble, connect, shown};
use crate::record::human::bytes;
use crate::recording::{Header, Spool, Why, Writer};
use crate::spec::units;

/// Keep what goes over an edge of a running pipeline, without ever holding it back
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, the start of one, or a pipeline's name (its newest run)
    run: String,
    edge: String,
    /// Where to; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// End after so long: 90s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|fault| match fault {
        units::Fault::Form(why) | units::Fault::Amount(why) => why,
    })
}

pub fn run(args: &Args) -> Result<(), Trouble> {
    let run = connect(&args.run)?;
    refuse_existing(args)?;
    // Before there are threads: they would take the signals.
    let _mask = signal::block(&ASKED_TO_STOP).map_err(failed)?;
    let watch = Watch::new(&run).map_err(failed)?;
    let Some((rings, anew)) = open(&run, &args.edge, &watch)? else {
        return Err(Trouble::Failed(format!("edge `{}` was never open, so nothing is recorded", args.edge)));
    };
    let header = Header {
        pipeline: run.pipeline.clone(),
        run: run.run.clone(),
        edge: args.edge.clone(),
        producers: rings.iter().map(|ring| ring.producer.clone()).collect(),
        started_at: Timestamp::now().to_string(),
        nexusflow: env!("CARGO_PKG_VERSION").into(),
    };
    let to = create(&args.output, args.force)?;
    let unwritten = |e: io::Error| Trouble::Failed(format!("{} could not be written: {e}", args.output.display()));
    let spool = Spool::start(to).map_err(failed)?;
    let to = Writer::new(spool, &header).map_err(unwritten)?;
    let mut recorder = Recorder::new(&run, &args.edge, watch, rings, anew, to);
    let ended = recorder.record(args.messages, args.duration);
    // Whatever happened, what was seen is kept.
    let why = *ended.as_ref().unwrap_or(&Why::RunEnded);
    let closed = recorder.to.end(now_ns(), Timestamp::now().to_string(), why);
    let totals = match closed.and_then(|(totals, spool)| spool.close().map(|()| totals)) {
        Ok(totals) => totals,
        // What failed first says why: after it nothing can be written.
        Err(e) => return Err(ended.err().unwrap_or_else(|| unwritten(e))),
    };
    let (edge, messages, size) = (&args.edge, totals.messages, bytes(totals.bytes));
    let _ = writeln!(io::stderr(), "{edge}: {messages} messages, {size}; lost: {}", shown::lost(totals.lost));
    ended.map(drop)
}

/// Before anything is waited for: what somebody has recorded earlier is not lost by a slip.
fn refuse_existing(args: &Args) -> Result<(), Trouble> {
    match args.output.metadata() {
        Ok(found) if found.is_file() && !args.force => Err(exists(&args.output)),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> Trouble {
    Trouble::Usage(format!("{} is there already\nhelp: `--force` replaces it", path.display()))
}

/// The file of a recording.
fn create(path: &Path, force: bool) -> Result<Box<dyn Write + Send>, Trouble> {
    if path.to_str() == Some("-") {
        return Ok(Box::new(io::stdout()));
    }
    let mut options = OpenOptions::new();
    let opened = match path.metadata() {
        Ok(found) if found.file_type().is_char_device() || found.file_type().is_fifo() => {
            options.write(true).open(path)
        }
        _ if force => File::create(path),
        _ => options.write(true).create_new(true).open(path),
    };
    match opened {
        Ok(file) => Ok(Box::new(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(e) => Err(Trouble::Usage(format!("{}: {e}", path.display()))),
    }
}

fn failed(e: io::Error) -> Trouble {
    Trouble::Failed(e.to_string())
}
