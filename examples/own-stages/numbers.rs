//! A source: sends the numbers from 2 up to its argument, as text.

use std::io::Write as _;
use std::process::ExitCode;

use nexusflow_stage::Stage;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("numbers: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let limit: u64 = std::env::args().nth(1).ok_or("usage: numbers LIMIT")?.parse()?;
    let stage = Stage::from_env()?;
    let mut numbers = stage.output("numbers")?;
    for n in 2..=limit {
        // Written in place: the room is in the edge's own memory.
        let mut room = numbers.reserve(20)?;
        let mut rest = room.as_mut_slice();
        write!(rest, "{n}")?;
        let unused = rest.len();
        room.commit_len(20 - unused);
    }
    numbers.finish();
    Ok(())
}
