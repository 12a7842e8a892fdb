//! `edge cat`: the messages of a recording, on stdout.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;

use super::{READ_BYTES, Trouble, broken, open, put};
use crate::recording::Record;

/// Print the messages of a recording
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file that `edge record` wrote; `-` is stdin
    file: PathBuf,
    /// What stands between messages
    #[arg(long, value_enum, default_value_t)]
    framing: Framing,
    /// Take a recording that was cut off for a whole one
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Framing {
    /// A newline behind each
    #[default]
    Lines,
    /// Nothing
    Raw,
    /// Its length before each, as four little-endian bytes
    U32le,
}

pub fn run(args: &Args) -> Result<(), Trouble> {
    let mut recording = open(&args.file)?;
    let mut out = io::BufWriter::with_capacity(READ_BYTES, io::stdout().lock());
    let end = loop {
        match recording.next_record() {
            Ok(Some(Record::Message { body, .. })) => {
                if args.framing == Framing::U32le {
                    put(&mut out, &(body.len() as u32).to_le_bytes())?;
                }
                put(&mut out, body)?;
                if args.framing == Framing::Lines {
                    put(&mut out, b"\n")?;
                }
            }
            Ok(Some(Record::Lost { .. } | Record::End(_))) => {}
            Ok(None) => break Ok(()),
            Err(e) if e.is_cut() && args.partial => break Ok(()),
            Err(e) => break Err(broken(&args.file, &e)),
        }
    };
    // What there is comes before what is wrong with the rest.
    let flushed = out.flush().map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Trouble::Closed,
        _ => Trouble::Failed(format!("stdout: {e}")),
    });
    end.and(flushed)
}
