//! The stages of the pipelines that are shot at: `chaos stage ROLE FOLDER ARGUMENTS`, started by the runner.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::Path;

use nexusflow_stage::Stage;

use super::rng::mix;
use super::shapes::{BATCH, LINE_BYTES};
use super::verify::Entry;
use crate::step::Result;

/// Of each message: source and length, then its number; the rest follows from these.
const HEAD: usize = 16;
const SMALL: u64 = 200;
const LARGE: u64 = 300_000;
/// How many messages a source sends between two looks whether it shall stop.
const BETWEEN_LOOKS: u64 = 64;

pub fn main(args: &[String]) -> Result {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["source", folder, "object", sizes] => object_source(Path::new(folder), sizes),
        ["sink", folder, "stdin"] => stdin_sink(Path::new(folder)),
        ["sink", folder, "object"] => object_sink(Path::new(folder)),
        ["source", folder, how, sizes] => source(Path::new(folder), how, sizes),
        ["relay", _, _] => relay(),
        ["sink", folder, how] => sink(Path::new(folder), how),
        _ => return Err("chaos stage ROLE FOLDER ARGUMENTS".into()),
    };
    done.map_err(|e| e.to_string())
}

type Done = std::result::Result<(), Box<dyn std::error::Error>>;

/// How long message `number` of a source is.
fn len_of(source: u16, number: u64, sizes: &str) -> usize {
    let n = mix(number ^ u64::from(source) << 48);
    let large = match sizes {
        "large" => true,
        "mixed" => n.is_multiple_of(8),
        _ => false,
    };
    let most = if large { LARGE } else { SMALL };
    HEAD + ((n >> 8) % most) as usize
}

fn fill(message: &mut [u8], source: u16, number: u64) {
    let first = u64::from(source) << 48 | message.len() as u64;
    message[..8].copy_from_slice(&first.to_le_bytes());
    message[8..HEAD].copy_from_slice(&number.to_le_bytes());
    let (words, rest) = message[HEAD..].as_chunks_mut::<8>();
    let pattern = mix(number.wrapping_add(u64::from(source)));
    for (at, word) in words.iter_mut().enumerate() {
        *word = pattern.wrapping_add(at as u64).to_le_bytes();
    }
    rest.fill(pattern as u8);
}

/// Whose it is, its number, and whether it is whole.
fn check(message: &[u8]) -> (u16, u64, bool) {
    let (heads, _) = message.as_chunks::<8>();
    let [first, number, ..] = heads else { return (0, 0, false) };
    let (first, number) = (u64::from_le_bytes(*first), u64::from_le_bytes(*number));
    let (source, len) = ((first >> 48) as u16, first & 0xffff_ffff_ffff);
    let mut wanted = vec![0; message.len()];
    fill(&mut wanted, source, number);
    (source, number, len == message.len() as u64 && wanted == message)
}

/// Sends messages, numbered over all its attempts, until the folder says stop.
fn source(folder: &Path, how: &str, sizes: &str) -> Done {
    let stage = Stage::from_env()?;
    let name = stage.outputs()[0].to_owned();
    let source = u16::try_from(stage.replica())?;
    let mut output = stage.output(&name)?;
    let mut number = output.committed() + output.dropped();
    let stop = folder.join("stop");
    let mut messages = Vec::new();
    loop {
        if number % BETWEEN_LOOKS < BATCH as u64 && stop.exists() {
            break;
        }
        match how {
            "batch" => {
                let count = 1 + mix(number) % BATCH as u64;
                messages.clear();
                messages.extend((number..number + count).map(|n| {
                    let mut message = vec![0; len_of(source, n, sizes)];
                    fill(&mut message, source, n);
                    message
                }));
                output.send_batch(messages.iter().map(Vec::as_slice))?;
                number += count;
            }
            "line" => {
                let n = mix(number);
                let line = format!("{number:0width$} {n}", width = LINE_BYTES as usize);
                output.send(line.as_bytes())?;
                number += 1;
            }
            _ => {
                let mut room = output.reserve(len_of(source, number, sizes))?;
                fill(room.as_mut_slice(), source, number);
                room.commit();
                number += 1;
            }
        }
    }
    sent(folder, source, number)?;
    output.finish();
    Ok(())
}

fn sent(folder: &Path, source: u16, count: u64) -> std::io::Result<()> {
    std::fs::write(folder.join(format!("{source}.sent")), format!("{source} {count}"))
}

/// The same with objects.
fn object_source(folder: &Path, sizes: &str) -> Done {
    let stage = Stage::from_env()?;
    let (name, source) = (stage.outputs()[0].to_owned(), u16::try_from(stage.replica())?);
    let output = stage.object_output(&name)?;
    let mut number = output.committed();
    while !folder.join("stop").exists() {
        let mut object = output.create(len_of(source, number, sizes))?;
        fill(object.as_mut_slice(), source, number);
        object.seal()?;
        number += 1;
    }
    sent(folder, source, number)?;
    output.finish();
    Ok(())
}

/// Passes every message on, exactly once.
fn relay() -> Done {
    let stage = Stage::from_env()?;
    let mut transfer = stage.transfer(&["in"], &["out"])?;
    let mut bytes = Vec::new();
    while let Some(message) = transfer.inputs[0].recv()? {
        bytes.clear();
        message.append_to(&mut bytes);
        transfer.outputs[0].send(&bytes)?;
        transfer.commit(b"")?;
    }
    Ok(transfer.finish()?)
}

/// Logs every message before it lets go of it.
fn sink(folder: &Path, how: &str) -> Done {
    let stage = Stage::from_env()?;
    let name = stage.inputs()[0].to_owned();
    let mut log = Log::open(folder, &stage)?;
    let mut input = stage.input(&name)?;
    let mut bytes = Vec::new();
    match how {
        "batch" => loop {
            let mut entries = Vec::new();
            let Some(batch) = input.recv_batch(BATCH)? else { break };
            for message in batch {
                bytes.clear();
                message.append_to(&mut bytes);
                entries.extend(log.entry(&bytes, 0).to_bytes());
            }
            log.file.write_all(&entries)?;
        },
        _ => {
            while let Some(message) = input.recv()? {
                bytes.clear();
                message.append_to(&mut bytes);
                let missed = input.missed();
                let entry = log.entry(&bytes, missed);
                log.file.write_all(&entry.to_bytes())?;
            }
        }
    }
    Ok(())
}

/// The same with objects.
fn object_sink(folder: &Path) -> Done {
    let stage = Stage::from_env()?;
    let name = stage.inputs()[0].to_owned();
    let mut log = Log::open(folder, &stage)?;
    let mut input = stage.object_input(&name)?;
    while let Some(object) = input.recv()? {
        let entry = log.entry(&object.to_vec(), 0);
        log.file.write_all(&entry.to_bytes())?;
        object.release();
    }
    Ok(())
}

/// A program that reads lines, as any.
fn stdin_sink(folder: &Path) -> Done {
    let attempt: u32 = std::env::var("NEXUSFLOW_ATTEMPT")?.parse()?;
    let mut log = OpenOptions::new().create(true).append(true).open(folder.join("sink@0.seen"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (number, pattern) = line.split_once(' ').unwrap_or_default();
        let number = number.parse().unwrap_or(u64::MAX - 1);
        let torn = u16::from(pattern.parse() != Ok(mix(number)));
        log.write_all(&Entry { source: 0, torn, attempt, number, missed: 0 }.to_bytes())?;
    }
    Ok(())
}

struct Log {
    file: File,
    attempt: u32,
}

impl Log {
    fn open(folder: &Path, stage: &Stage) -> std::io::Result<Self> {
        let path = folder.join(format!("{}@{}.seen", stage.name(), stage.replica()));
        let (mut file, attempt) = (OpenOptions::new().create(true).append(true).open(path)?, stage.attempt());
        file.write_all(&Entry::begun(attempt).to_bytes())?;
        Ok(Self { file, attempt })
    }

    fn entry(&self, message: &[u8], missed: u64) -> Entry {
        let (source, number, whole) = check(message);
        Entry { source, torn: u16::from(!whole), attempt: self.attempt, number, missed }
    }
}
