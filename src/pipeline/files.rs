//! Files that stages write: each process empties its file when it starts, so each needs one of its own.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

use super::tasks::{self, MAX_TASKS};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::{Piece, Spanned, Spec, Stage, Stream, Text};

/// `dir` is where relative paths start.
pub(super) fn check(spec: &Spec, dir: &Path, found: &mut Diagnostics) {
    if tasks::total(spec) > MAX_TASKS {
        return;
    }
    // Of a path only a hash is kept: many replicas with long names would be more text than the file has.
    let hasher = RandomState::new();
    let mut writers: HashMap<u64, (usize, u32)> = HashMap::new();
    let mut shared: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, stage) in spec.stages.iter().enumerate() {
        let Some(file) = file(stage) else { continue };
        let own = file.value.pieces.contains(&Piece::Replica);
        if !own && stage.replicas.value > 1 && path(&file.value, 0, dir).is_some() {
            found.push(of_replicas(stage, file));
        }
        for replica in 0..if own { stage.replicas.value } else { 1 } {
            let Some(this) = path(&file.value, replica, dir) else { continue };
            let (first, r) = match writers.entry(hasher.hash_one(&this)) {
                Entry::Vacant(free) => {
                    free.insert((i, replica));
                    continue;
                }
                Entry::Occupied(taken) => *taken.get(),
            };
            if first == i || self::file(&spec.stages[first]).and_then(|f| path(&f.value, r, dir)) != Some(this) {
                continue;
            }
            let others = shared.entry(first).or_default();
            if others.last() != Some(&i) {
                others.push(i);
            }
        }
    }
    found.list.extend(shared.iter().map(|(first, others)| of_stages(spec, *first, others)));
}

fn file(stage: &Stage) -> Option<&Spanned<Text>> {
    match &stage.stdout.as_ref()?.value {
        Stream::File(path) => Some(path),
        Stream::Edge { .. } => None,
    }
}

/// Where a replica writes. `None` below /dev: what is there loses nothing when it is opened twice, but for files in memory.
fn path(text: &Text, replica: u32, dir: &Path) -> Option<PathBuf> {
    let mut said = String::new();
    for piece in &text.pieces {
        match piece {
            Piece::Literal(text) => said += text,
            Piece::Replica => said += &replica.to_string(),
            // The same for all; an edge has no path here.
            Piece::SelfPath | Piece::Edge(_) => said += "${self}",
        }
    }
    // `./a//b` is `a/b`.
    let path: PathBuf = dir.join(said).components().collect();
    let device = path.starts_with("/dev") && !path.starts_with("/dev/shm");
    (!device).then_some(path)
}

fn of_replicas(stage: &Stage, file: &Spanned<Text>) -> Diagnostic {
    let (name, n) = (&stage.name.value, stage.replicas.value);
    Diagnostic::error(codes::SHARED_FILE, format!("the {n} replicas of stage `{name}` write the same file"))
        .at(&file.span, "each empties it and overwrites what the others wrote")
        .at(&stage.replicas.span, "more than one process")
        .help("write it with `${replica}`, as in `file: \"out-${replica}.txt\"`")
}

fn of_stages(spec: &Spec, first: usize, others: &[usize]) -> Diagnostic {
    let (first, second) = (&spec.stages[first], &spec.stages[others[0]]);
    let (a, b) = (&first.name.value, &second.name.value);
    let who = match others.len() {
        1 => format!("stages `{a}` and `{b}`"),
        2 => format!("stages `{a}`, `{b}` and 1 more"),
        n => format!("stages `{a}`, `{b}` and {} more", n - 1),
    };
    let d = Diagnostic::error(codes::SHARED_FILE, format!("{who} write the same file"));
    let d = match (file(first), file(second)) {
        // In `defaults`, or behind an anchor, both are the same place.
        (Some(one), Some(two)) if one.span.range == two.span.range => {
            d.at(&two.span, "each empties it and overwrites what others wrote").at(&second.name.span, "writes it too")
        }
        (Some(one), Some(two)) => d
            .at(&two.span, format!("`{b}` empties it and overwrites what others wrote"))
            .at(&one.span, format!("`{a}` writes it too")),
        _ => d,
    };
    d.help("give each stage a file of its own, or join their output with an edge")
}
