//! Holds what the sinks have logged against what the sources have sent.
//!
//! A sink appends an entry for each message before it releases it, and sources number their messages without a gap over
//! all their attempts. So within one attempt of a sink the numbers of each source must go up; a new attempt may begin
//! with some that are there already, but only with those that the one before had not released.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::shapes::{Reads, Shape};
use crate::step::Result;

/// What a run of one shape came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub kills: usize,
    pub messages: u64,
    pub lost: u64,
    pub torn: u64,
    /// Came again though it must not have.
    pub duplicated: u64,
    pub redelivered: u64,
    /// On edges that drop.
    pub dropped: u64,
    pub stall_s: f64,
    pub first_wrong: Option<String>,
}

/// One message as a sink saw it. `missed`: how many were dropped just before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub source: u16,
    /// Not 0: its contents were not what was sent.
    pub torn: u16,
    pub attempt: u32,
    pub number: u64,
    pub missed: u64,
}

/// A power of two: a write that a kill cuts off is cut between two pages, so never within an entry.
pub const ENTRY_BYTES: usize = 32;
/// The source of an entry that says that an attempt began.
const BEGUN: u16 = u16::MAX;

impl Entry {
    pub fn begun(attempt: u32) -> Self {
        Self { source: BEGUN, torn: 0, attempt, number: 0, missed: 0 }
    }

    pub fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..2].copy_from_slice(&self.source.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.torn.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.attempt.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.missed.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = *bytes;
        let (numbers, _) = rest.as_chunks::<8>();
        Self {
            source: u16::from_le_bytes([a, b]),
            torn: u16::from_le_bytes([c, d]),
            attempt: u32::from_le_bytes([e, f, g, h]),
            number: u64::from_le_bytes(numbers[0]),
            missed: u64::from_le_bytes(numbers[1]),
        }
    }
}

/// `STAGE@REPLICA.seen` of each sink, `STAGE@REPLICA.sent` of each source: how many it has sent, in the end.
pub fn log_files(folder: &Path) -> Vec<PathBuf> {
    with_extension(folder, "seen")
}

fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut files: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

pub fn logs(shape: &Shape, folder: &Path) -> Result<Tally> {
    let mut tally = Tally::default();
    let sent = sent(folder)?;
    tally.messages = sent.values().sum();
    let files = log_files(folder);
    if files.is_empty() || sent.is_empty() {
        return Err(format!("nothing was logged: see {}", folder.display()));
    }
    let mut anyone: HashMap<u16, BTreeSet<u64>> = HashMap::new();
    for path in &files {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>(); // a last one may have been cut
        let entries: Vec<_> = entries.iter().map(Entry::from_bytes).collect();
        // Where all begin again, what earlier attempts saw is forgotten.
        let first = if shape.gang { entries.iter().map(|e| e.attempt).max().unwrap_or(0) } else { 0 };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut log = Log { shape, name: &name, tally: &mut tally, sources: BTreeMap::new() };
        entries.into_iter().filter(|e| e.attempt >= first && e.source != BEGUN).for_each(|entry| log.entry(entry));
        match shape.reads {
            Reads::Everything => log.all_there(&sent),
            Reads::WhatIsNotDropped => log.adds_up(&sent),
            Reads::Share => {
                for (source, seen) in log.sources {
                    let all = anyone.entry(source).or_default();
                    for number in seen.numbers {
                        if !all.insert(number) {
                            wrong(&mut tally, &name, format!("message {number} went to two"), |t| &mut t.duplicated);
                        }
                    }
                }
            }
        }
    }
    if matches!(shape.reads, Reads::Share) {
        for (source, count) in &sent {
            let there = anyone.get(source).map_or(0, |all| all.len() as u64);
            if there != *count {
                let what = format!("{there} of {count} messages of source {source} arrived");
                tally.lost += count.abs_diff(there);
                tally.first_wrong.get_or_insert(what);
            }
        }
    }
    Ok(tally)
}

/// Where an edge drops, what each consumer got and what it missed is all that was offered, to the last message.
pub fn counters(counted: &Value, tally: &mut Tally) {
    for consumer in counted["consumers"].as_array().into_iter().flatten() {
        let sum = consumer["messages"].as_u64().zip(consumer["dropped"].as_u64()).map(|(got, missed)| got + missed);
        if sum != Some(tally.messages) {
            let what = format!("{} offered, and counted: {consumer}", tally.messages);
            wrong(tally, "the runner's counters", what, |t| &mut t.lost);
        }
    }
}

fn sent(folder: &Path) -> Result<BTreeMap<u16, u64>> {
    let mut sent = BTreeMap::new();
    for path in with_extension(folder, "sent") {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (source, count) = text.trim().split_once(' ').ok_or("a source that did not end")?;
        let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{}: {e}", path.display()));
        sent.insert(number(source)? as u16, number(count)?);
    }
    Ok(sent)
}

/// What one sink saw of one source.
#[derive(Default)]
struct Seen {
    attempt: u32,
    /// The number that would follow in this attempt.
    next: u64,
    /// The number that no attempt has seen yet.
    high: u64,
    /// Where gaps are no fault.
    numbers: BTreeSet<u64>,
}

struct Log<'a> {
    shape: &'a Shape,
    name: &'a str,
    tally: &'a mut Tally,
    sources: BTreeMap<u16, Seen>,
}

fn wrong(tally: &mut Tally, name: &str, what: String, count: fn(&mut Tally) -> &mut u64) {
    *count(tally) += 1;
    tally.first_wrong.get_or_insert(format!("{name}: {what}"));
}

impl Log<'_> {
    fn entry(&mut self, entry: Entry) {
        let Entry { source, torn, attempt, number, missed } = entry;
        if torn != 0 {
            wrong(self.tally, self.name, format!("message {number} of source {source} is torn"), |t| &mut t.torn);
        }
        let seen = self.sources.entry(source).or_default();
        let restarted = std::mem::replace(&mut seen.attempt, attempt) != attempt;
        let back = seen.high.saturating_sub(number);
        if back > 0 && (restarted || number == seen.next) && back <= self.shape.window {
            self.tally.redelivered += 1;
        } else if back > 0 {
            let what = format!("message {number} of source {source} after {} in attempt {attempt}", seen.next - 1);
            wrong(self.tally, self.name, what, |t| &mut t.duplicated);
        }
        // A new attempt is told of all that is missing since the last release, so also of what was seen before.
        let gap = number.saturating_sub(if restarted { seen.high } else { seen.next });
        let told = if restarted { missed >= gap || self.shape.at_most_once } else { missed == gap };
        let wrong_gap = match self.shape.reads {
            Reads::Everything => gap > 0,
            Reads::Share => false,
            Reads::WhatIsNotDropped => !told,
        };
        if wrong_gap {
            let what = format!("message {number} of source {source}: {gap} are missing, {missed} told");
            wrong(self.tally, self.name, what, |t| &mut t.lost);
        }
        seen.next = number + 1;
        seen.high = seen.high.max(number + 1);
        if matches!(self.shape.reads, Reads::Share | Reads::WhatIsNotDropped) {
            seen.numbers.insert(number);
        }
    }

    fn all_there(self, sent: &BTreeMap<u16, u64>) {
        for (source, count) in sent {
            let next = self.sources.get(source).map_or(0, |s| s.high);
            if next != *count {
                self.tally.lost += count.abs_diff(next);
                let what = format!("{}: {next} of {count} messages of source {source}", self.name);
                self.tally.first_wrong.get_or_insert(what);
            }
        }
    }

    /// Whatever did not come was dropped: each gap was told.
    fn adds_up(self, sent: &BTreeMap<u16, u64>) {
        for (source, count) in sent {
            let came = self.sources.get(source).map_or(0, |s| s.numbers.len() as u64);
            self.tally.dropped += count - came.min(*count);
        }
    }
}
