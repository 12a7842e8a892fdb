//! `edge stat`: how the edges of a running pipeline do, or what is in a recording.

use std::io;
use std::path::Path;

use serde_json::json;

use super::shown::{self, Contents};
use super::{Format, Trouble, connect, open, put};
use crate::ctl::{Answer, Connection, Error, Request, RingStat};
use crate::recording::{Fault, Reader, Record};

/// Show how the edges of a running pipeline do, or what a recording holds
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, the start of one, a pipeline's name (its newest run), or a file that `edge record` wrote
    #[arg(value_name = "RUN|FILE")]
    of: String,
    /// Only this edge
    edge: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> Result<(), Trouble> {
    let path = Path::new(&args.of);
    if path.exists() && !path.is_dir() || args.of == "-" {
        match open(path) {
            Ok(recording) => return of_recording(args, recording),
            // Another file, which happens to be called as a run is.
            Err(_) if is_other(path) && connect(&args.of).is_ok() => {}
            Err(e) => return Err(e),
        }
    }
    match connect(&args.of) {
        // Who names a file that is not there wants to know that, not which runs there are.
        Err(_) if args.of.contains('/') || path.extension().is_some_and(|e| e == "rec") => {
            Err(Trouble::Usage(format!("there is no file {}, and no run that goes on is called so", path.display())))
        }
        run => of_run(args, &run?),
    }
}

fn of_run(args: &Args, run: &Connection) -> Result<(), Trouble> {
    let rings = rings(run, args.edge.as_deref())?;
    let text = match args.format {
        Format::Human => shown::rings(&run.run, &rings),
        Format::Json => pretty(&json!({ "run": run.run, "pipeline": run.pipeline, "rings": rings })),
    };
    put(&mut io::stdout().lock(), text.as_bytes())
}

/// All rings that there are now: as many questions as it takes.
fn rings(run: &Connection, edge: Option<&str>) -> Result<Vec<RingStat>, Trouble> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match run.ask(&Request::Stat { edge: edge.map(str::to_owned), after })?.0 {
            Answer::Stat { rings, next } => {
                all.extend(rings);
                // It goes on behind where it was, or it would go on for ever.
                match next {
                    Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
                    _ => return Ok(all),
                }
            }
            other => return Err(Error::Nonsense(format!("{other:?}")).into()),
        }
    }
}

fn of_recording(args: &Args, mut recording: Reader<Box<dyn io::Read>>) -> Result<(), Trouble> {
    if let Some(edge) = &args.edge
        && *edge != recording.header().edge
    {
        return Err(Trouble::Usage(format!("{} is of edge `{}`, not `{edge}`", args.of, recording.header().edge)));
    }
    let mut contents = Contents::default();
    let end = loop {
        match recording.next_record() {
            Ok(Some(Record::Message { at_ns, body, .. })) => contents.message(at_ns, body.len()),
            Ok(Some(Record::Lost { lost, .. })) => contents.lost.add(lost),
            Ok(Some(Record::End(totals))) => contents.totals = Some(totals),
            Ok(None) => break Ok(()),
            Err(e) if e.is_cut() => {
                contents.cut = Some(e.to_string());
                break Ok(());
            }
            Err(e) => break Err(super::broken(Path::new(&args.of), &e)),
        }
    };
    let text = match args.format {
        Format::Human => contents.human(recording.header()),
        Format::Json => pretty(&contents.json(recording.header())),
    };
    put(&mut io::stdout().lock(), text.as_bytes())?;
    end
}

fn is_other(path: &Path) -> bool {
    let opened = std::fs::File::open(path).map(|file| Reader::open(file).map(drop));
    matches!(opened, Ok(Err(e)) if matches!(e.fault, Fault::NoRecording))
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
