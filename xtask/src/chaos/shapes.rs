//! The pipelines that are shot at: every shape and layout of an edge.

use std::fmt::Write as _;
use std::path::Path;

/// What a sink must have seen in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// All messages, in order.
    Everything,
    /// With the other sinks together all messages, each once but for what was redelivered.
    Share,
    /// In order, and each gap was told.
    WhatIsNotDropped,
}

pub struct Shape {
    pub name: &'static str,
    /// Stages that are killed.
    pub victims: &'static [&'static str],
    pub reads: Reads,
    /// How many messages a sink that is killed may be given again.
    pub window: u64,
    /// A message is released as it is taken, and dies with its sink, and with it what the sink was told just then.
    pub at_most_once: bool,
    sources: u32,
    sinks: u32,
    /// Of the messages: `small`, `large` or `mixed`.
    sizes: &'static str,
    /// The source's way: `send`, `batch`; the sink's: `recv`, `batch`.
    how: [&'static str; 2],
    edge: &'static str,
    /// Between source and sink.
    relay: Option<&'static str>,
    /// Each death starts all from the beginning: only the last attempts count.
    pub gang: bool,
}

/// As many messages as a sink takes at once where it takes batches.
pub const BATCH: usize = 16;

/// What an unmodified program may be given again: the key `redeliver`'s default, and what may be counted with it.
const REDELIVER_BYTES: u64 = 128 << 10;
/// The shortest line that a source sends.
pub const LINE_BYTES: u64 = 16;

const PLAIN: Shape = Shape {
    name: "one-to-one",
    victims: &["source", "sink"],
    reads: Reads::Everything,
    window: 1,
    at_most_once: false,
    sources: 1,
    sinks: 1,
    sizes: "small",
    how: ["send", "recv"],
    edge: "capacity: 64KiB",
    relay: None,
    gang: false,
};

pub static SHAPES: &[Shape] = &[
    PLAIN,
    Shape { name: "batches", how: ["batch", "batch"], window: BATCH as u64, ..PLAIN },
    Shape { name: "blocking", edge: "capacity: 16KiB, wait: block", ..PLAIN },
    Shape { name: "large", sizes: "large", edge: "capacity: 4MiB, max_message: 1MiB", ..PLAIN },
    Shape {
        name: "mixed",
        sizes: "mixed",
        how: ["batch", "batch"],
        window: BATCH as u64,
        edge: "capacity: 8MiB, max_message: 1MiB",
        ..PLAIN
    },
    Shape { name: "one-to-many", sinks: 3, ..PLAIN },
    Shape { name: "many-to-one", sources: 3, ..PLAIN },
    Shape { name: "distribute", sinks: 3, reads: Reads::Share, edge: "capacity: 64KiB, delivery: distribute", ..PLAIN },
    Shape {
        name: "least-backlog",
        sinks: 3,
        reads: Reads::Share,
        edge: "capacity: 64KiB, delivery: distribute, by: least_backlog",
        ..PLAIN
    },
    Shape {
        name: "drop-newest",
        reads: Reads::WhatIsNotDropped,
        edge: "capacity: 16KiB, on_full: drop_newest",
        ..PLAIN
    },
    Shape {
        name: "drop-oldest",
        at_most_once: true,
        reads: Reads::WhatIsNotDropped,
        edge: "capacity: 16KiB, on_full: drop_oldest",
        ..PLAIN
    },
    // The sink lives: what it sees twice was sent twice.
    Shape { name: "transfer", victims: &["source", "relay"], window: 0, relay: Some("transfer"), ..PLAIN },
    Shape {
        name: "transfer-large",
        victims: &["source", "relay"],
        window: 0,
        sizes: "mixed",
        edge: "capacity: 8MiB, max_message: 1MiB",
        relay: Some("transfer"),
        ..PLAIN
    },
    Shape { name: "objects", sizes: "large", edge: "kind: object, capacity: 8MiB", how: ["object", "object"], ..PLAIN },
    Shape {
        name: "sealed",
        sizes: "large",
        edge: "kind: object, capacity: 8MiB, sealed: true",
        how: ["object", "object"],
        ..PLAIN
    },
    // The sink is a program that knows nothing of us. It is given again what it had perhaps not read: so many bytes.
    Shape {
        name: "unmodified",
        how: ["line", "stdin"],
        window: REDELIVER_BYTES / LINE_BYTES + 1,
        edge: "capacity: 1MiB",
        ..PLAIN
    },
    Shape { name: "gang", gang: true, window: 0, ..PLAIN },
];

impl Shape {
    /// The pipeline file. `program` is this one, which plays all stages.
    pub fn pipeline(&self, program: &Path, folder: &Path) -> String {
        let (program, folder) = (program.display(), folder.display());
        let [writes, reads] = self.how;
        let mut text = format!("version: 1\nname: chaos-{}\nparallel: 64\nstages:\n", self.name);
        let mut stage = |name: &str, replicas: u32, arguments: &str| {
            // One that may be killed without end, at once.
            let scope = if self.gang { "gang" } else { "stage" };
            let restart = match self.victims.contains(&name) {
                true => format!(
                    ", restart: {{ when: on_failure, limit: 1000000, backoff: 1ms, backoff_max: 1ms, window: 1s, scope: {scope} }}"
                ),
                false => String::new(),
            };
            let stdin = if name == "sink" && reads == "stdin" { ", stdin: { edge: out, framing: lines }" } else { "" };
            let _ = writeln!(
                text,
                "  {name}: {{ command: [{program}, chaos, stage, {name}, {folder}, {arguments}], replicas: {replicas}{restart}{stdin} }}"
            );
        };
        stage("source", self.sources, &format!("{writes}, {}", self.sizes));
        if let Some(how) = self.relay {
            stage("relay", 1, how);
        }
        stage("sink", self.sinks, reads);
        let edge = self.edge;
        let _ = match self.relay {
            None => writeln!(text, "edges:\n  out: {{ from: source, to: sink, {edge} }}"),
            Some(_) => writeln!(
                text,
                "edges:\n  in: {{ from: source, to: relay, {edge} }}\n  out: {{ from: relay, to: sink, {edge} }}"
            ),
        };
        text
    }
}
