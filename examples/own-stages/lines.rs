//! A source that goes on where it had got to: sends the lines of a file, each once, also when it is killed and
//! started again.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::process::ExitCode;

use nexusflow_stage::Stage;

/// Lines that are sent together.
const BATCH: usize = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lines: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: lines FILE")?;
    let stage = Stage::from_env()?;
    let mut transfer = stage.transfer(&[], &["lines"])?;
    // The tag is how far the file has been sent.
    let mut at = transfer.tag().try_into().map_or(0, u64::from_le_bytes);
    eprintln!("attempt {} begins at byte {at}", stage.attempt());
    let mut file = BufReader::new(File::open(path)?);
    file.seek(SeekFrom::Start(at))?;
    let mut line = Vec::new();
    loop {
        let before = at;
        for _ in 0..BATCH {
            line.clear();
            at += file.read_until(b'\n', &mut line)? as u64;
            if line.is_empty() {
                break;
            }
            transfer.outputs[0].send(line.strip_suffix(b"\n").unwrap_or(&line))?;
        }
        if at == before {
            break;
        }
        transfer.commit(&at.to_le_bytes())?;
    }
    transfer.finish()?;
    Ok(())
}
