//! The Rust ends of pipelines with stages in other languages: makes messages and checks what came of them, or sends and
//! receives as fast as it can. See sdk/tests and sdk/python/bench.

use std::process::ExitCode;
use std::time::Instant;

use nexusflow_stage::Stage;

const USAGE: &str = "usage: polyglot make COUNT | check COUNT SUFFIX | send COUNT LEN BATCH | recv BATCH";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["make", count] => number(count).and_then(make),
        ["check", count, suffix] => number(count).and_then(|count| check(count, suffix.as_bytes())),
        ["send", count, len, batch] => number(count).and_then(|count| send(count, number(len)?, number(batch)?)),
        ["recv", batch] => number(batch).and_then(recv),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("polyglot: {e}");
            ExitCode::FAILURE
        }
    }
}

fn number(word: &str) -> Result<usize> {
    word.parse().map_err(|_| USAGE.into())
}

/// Message number n: short ones mostly, now and then none at all or one that is long.
fn message(n: usize) -> Vec<u8> {
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let len = match next() % 100 {
        0 => 0,
        1..=90 => next() % 300,
        91..=98 => next() % 10_000,
        _ => next() % 200_000,
    };
    let words = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes());
    words.take(len as usize).collect()
}

fn make(count: usize) -> Result {
    let mut out = only_output()?;
    (0..count).try_for_each(|n| out.send(&message(n)))?;
    out.finish();
    Ok(())
}

fn check(count: usize, suffix: &[u8]) -> Result {
    let mut input = only_input()?;
    for n in 0..count {
        let wanted = [&message(n), suffix].concat();
        let got = input.recv()?.ok_or_else(|| format!("only {n} messages of {count} came"))?.to_vec();
        if got != wanted {
            let at = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            return Err(format!(
                "message {n}: {} bytes instead of {}, other from byte {at} on",
                got.len(),
                wanted.len()
            )
            .into());
        }
    }
    match input.recv()? {
        None => {
            println!("{count} messages, every byte as it should be");
            Ok(())
        }
        Some(_) => Err(format!("more than {count} messages came").into()),
    }
}

/// Every byte of every message is written: filled in place, or copied from a batch of small ones.
fn send(count: usize, len: usize, batch: usize) -> Result {
    let mut out = only_output()?;
    let source = vec![7u8; len];
    if batch > 1 {
        let many = vec![&source[..]; batch];
        for _ in 0..count / batch {
            out.send_batch(many.iter().copied())?;
        }
    } else {
        for _ in 0..count {
            out.send(&source)?;
        }
    }
    out.finish();
    Ok(())
}

/// Every byte of every message is read: copied into memory of one's own that stays in the cache.
fn recv(batch: usize) -> Result {
    let mut input = only_input()?;
    let mut own = vec![0; 4 << 20];
    let (mut count, mut bytes) = (0u64, 0u64);
    input.peek()?;
    let start = Instant::now();
    while let Some(messages) = input.recv_batch(batch)? {
        for message in messages {
            message.copy_to(&mut own);
            std::hint::black_box(&mut own); // else nobody reads it, and the copy is left out
            (count, bytes) = (count + 1, bytes + message.len() as u64);
        }
    }
    println!("{count} {bytes} {}", start.elapsed().as_secs_f64());
    Ok(())
}

fn only_input() -> Result<nexusflow_stage::Input> {
    let stage = Stage::from_env()?;
    Ok(stage.input(stage.inputs().first().ok_or("no input")?)?)
}

fn only_output() -> Result<nexusflow_stage::Output> {
    let stage = Stage::from_env()?;
    Ok(stage.output(stage.outputs().first().ok_or("no output")?)?)
}
