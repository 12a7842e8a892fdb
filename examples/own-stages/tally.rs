//! A sink that counts each line once, however often it is killed: the count travels in the tag, with what it has read.

use std::process::ExitCode;

use nexusflow_stage::Stage;

/// Lines that are counted together.
const BATCH: usize = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tally: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    // To see that nothing is counted twice: this many of its processes end in the middle of their work.
    let deaths: u32 = std::env::args().nth(1).unwrap_or_default().parse().unwrap_or(0);
    let stage = Stage::from_env()?;
    let mut transfer = stage.transfer(&["lines"], &[])?;
    let mut tally = Tally::from_tag(transfer.tag());
    while let Some(lines) = transfer.inputs[0].recv_batch(BATCH)? {
        for line in lines {
            tally.lines += 1;
            tally.bytes += line.len() as u64;
        }
        if stage.attempt() <= deaths && transfer.commits() >= 20 * u64::from(stage.attempt()) {
            std::process::abort(); // what it has counted since the last commit never was
        }
        transfer.commit(&tally.tag())?;
    }
    println!("{} lines, {} bytes, counted by {} processes", tally.lines, tally.bytes, stage.attempt());
    Ok(transfer.finish()?)
}

struct Tally {
    lines: u64,
    bytes: u64,
}

impl Tally {
    fn from_tag(tag: &[u8]) -> Self {
        let number = |at: usize| tag.get(at..at + 8).and_then(|n| n.try_into().ok()).map_or(0, u64::from_le_bytes);
        Self { lines: number(0), bytes: number(8) }
    }

    fn tag(&self) -> [u8; 16] {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&self.lines.to_le_bytes());
        tag[8..].copy_from_slice(&self.bytes.to_le_bytes());
        tag
    }
}
