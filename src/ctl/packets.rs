//! What is asked and answered over the run socket: JSON, one object a packet. Fields and questions may be added; who does
//! not know a question refuses it, and nobody minds fields that it does not know.

use serde::{Deserialize, Serialize};

/// Of what is said here. Grows when an answer can no longer be understood by who knew it before.
pub const VERSION: u32 = 1;
/// The longest question.
pub const MAX_REQUEST: usize = 4096;
/// The longest answer.
pub const MAX_ANSWER: usize = 96 * 1024;
/// An answer that lists rings goes on until it has so many rings and consumers.
pub const PAGE_ENTRIES: usize = 64;

/// A question to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Who are you?
    Hello,
    /// How do your rings do: all that there are now, or those of one edge; behind `after` if that is given.
    Stat {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edge: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Place>,
    },
    /// Which objects are held, of all edges that carry objects or of one; behind `after` if that is given.
    Objects {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        edge: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ObjectPlace>,
    },
    /// Is there anything to watch on this edge?
    Edge { edge: String },
    /// Let me look on at one of its rings.
    Tap { edge: String, ring: u32 },
}

/// Where in the order of a run's rings one stands: its gang, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place(pub u32, pub u32);

/// Where in the order of a run's objects one stands: its gang, its store's number there, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectPlace(pub u32, pub u32, pub u64);

/// What a run answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Hello {
        version: u32,
        run: String,
        pipeline: String,
        /// The runner's.
        pid: u32,
    },
    Stat {
        rings: Vec<RingStat>,
        /// Ask again from behind here; absent when these were the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Place>,
    },
    Objects {
        objects: Vec<ObjectStat>,
        /// Ask again from behind here; absent when these were the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<ObjectPlace>,
    },
    Edge(EdgeState),
    /// With it come the descriptors of the ring's memory, all to read: head, ring, slab (if it has one), every cursor.
    Tap(RingMemory),
    Refused {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        help: Option<String>,
    },
}

/// What there is of an edge at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EdgeState {
    /// Its stages have not started yet.
    Waiting,
    /// Its rings can be watched: these many, and made anew so often since the run began, with the stages at their ends.
    Open { rings: u32, anew: u32 },
    /// Its stages have ended.
    Ended,
}

/// What one must know of a ring to look on at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingMemory {
    pub ring_bytes: u64,
    pub slab_bytes: u64,
    /// What becomes of a message for which there is no room, as the ring's head says it.
    pub on_full: u32,
    /// The stage that writes it.
    pub producer: String,
    /// If its messages are blocks of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
}

/// How the messages of a block are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    Lines,
    U32le,
}

/// One ring: what one producer has written, for whom. Counters are as of now and only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RingStat {
    pub edge: String,
    /// Counts the rings of the edge, from 0.
    pub ring: u32,
    /// The stage that writes it, `hash@1` for one of several replicas.
    pub producer: String,
    pub capacity_bytes: u64,
    pub messages: u64,
    pub bytes: u64,
    /// What there was no room for.
    pub dropped: u64,
    /// The most of its capacity that was in use at once, as far as the producer has looked.
    pub high_water_bytes: u64,
    /// How many times 1, 2–3, 4–7 … messages were sent at once.
    pub batches: Vec<u64>,
    /// How long the producer has waited for room.
    pub blocked_s: f64,
    /// It waits right now.
    pub producer_waits: bool,
    pub consumers: Vec<ConsumerStat>,
}

/// An object that is held.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectStat {
    pub edge: String,
    /// The stage that made it, `camera@1` for one of several replicas.
    pub producer: String,
    /// Counts what this producer has made on the edge, from 0.
    pub object: u64,
    pub bytes: u64,
    /// Since it was sealed.
    pub age_s: f64,
    /// The consumers that have not released it.
    pub held_by: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConsumerStat {
    pub consumer: String,
    /// Read, as of its last release.
    pub messages: u64,
    pub bytes: u64,
    /// Missed, since they were dropped.
    pub dropped: u64,
    /// What was sent and it has not released.
    pub backlog_bytes: u64,
    /// How long it has waited for messages.
    pub waited_s: f64,
    /// It waits right now.
    pub waits: bool,
    /// It takes no part any more.
    pub detached: bool,
}
