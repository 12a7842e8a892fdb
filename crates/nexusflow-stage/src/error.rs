//! What can go wrong with an edge or the runner, in words for the author of a stage.

use std::fmt;
use std::io;

use crate::journal::MAX_TAG;

pub type Result<T> = std::result::Result<T, Error>;

#[non_exhaustive]
pub enum Error {
    /// The process was not started by nexusflow as a stage.
    NotAStage(String),
    /// The runner has gone away.
    RunnerGone,
    /// The runner said something that does not belong here, or refused.
    Protocol(String),
    /// The runner and this program know no common version of the protocol.
    Version { offered: (u16, u16), reason: String },
    /// The stage has no such edge in this direction.
    UnknownEdge { name: String, help: String },
    /// The edge was opened before, or is open.
    AlreadyOpen { edge: String },
    /// The message is longer than the edge takes.
    TooLong { edge: String, len: usize, max: usize },
    /// The messages of one batch or transfer do not fit into the edge together.
    BatchTooLong { edge: String, capacity: u64 },
    /// The edge is full of what a transfer has read and not committed.
    Uncommitted { edge: String, held: u64 },
    /// A transfer is to end with something that it has not committed.
    NotCommitted { edge: String },
    /// What is dropped when the edge is full cannot come exactly once.
    Dropping { edge: String },
    /// The stage has a transfer already.
    SecondTransfer,
    /// The edge distributes by key, and the message has none.
    NoKey { edge: String },
    /// The tag of a transfer is longer than [`MAX_TAG`](crate::journal::MAX_TAG).
    TagTooLong { len: usize },
    /// The journal of this stage's transfers cannot be right, or is another program's.
    Journal { what: String },
    /// Nobody reads the edge any more: stop producing.
    Closed { edge: String },
    /// The edge was finished: nothing can follow the end.
    Finished { edge: String },
    /// A peer left nonsense in the shared memory of the edge. It cannot be used any more.
    Poisoned { edge: String, what: &'static str },
    /// The time given has passed.
    TimedOut,
    /// A [`Bell`](crate::ring::Bell) rang.
    Interrupted,
    /// A system call failed.
    Io { doing: &'static str, source: io::Error },
}

impl Error {
    /// For `map_err`: says what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Nobody reads any more: for a program in a chain that is no failure, as SIGPIPE is none.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}

/// As for people: it is what `main` shows when it returns an error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAStage(why) => write!(
                f,
                "this program is a nexusflow stage: start it from a pipeline file with `nexusflow dag apply FILE` ({why})"
            ),
            Self::RunnerGone => f.write_str("the nexusflow runner has gone away"),
            Self::Protocol(what) => write!(f, "the nexusflow runner: {what}"),
            Self::Version { offered: (min, max), reason } => {
                write!(f, "this program speaks versions {min} to {max} of the stage protocol: {reason}")
            }
            Self::UnknownEdge { name, help } => write!(f, "no edge `{name}` here: {help}"),
            Self::AlreadyOpen { edge } => write!(f, "edge `{edge}` was opened before: an edge is opened once"),
            Self::TooLong { edge, len, max } => write!(
                f,
                "a message of {len} bytes is too long for edge `{edge}`, which takes at most {max}: raise its `max_message` or `capacity`"
            ),
            Self::BatchTooLong { edge, capacity } => write!(
                f,
                "edge `{edge}` holds {capacity} bytes, which is too little for the messages that are to be sent together: commit fewer at a time, or raise its `capacity`"
            ),
            Self::Uncommitted { edge, held } => write!(
                f,
                "edge `{edge}` is full: the {held} bytes that were read in the transfer under way stay there until it is committed: commit more often, or raise its `capacity`"
            ),
            Self::NotCommitted { edge } => write!(
                f,
                "what was read or sent on edge `{edge}` since the last commit would be lost: commit it before the transfer is finished"
            ),
            Self::Dropping { edge } => write!(
                f,
                "edge `{edge}` drops messages when it is full, so it has no place in a transfer: say `on_full: block` in the pipeline file"
            ),
            Self::SecondTransfer => {
                f.write_str("a stage has one transfer at most, with all inputs and outputs that belong together")
            }
            Self::NoKey { edge } => write!(
                f,
                "edge `{edge}` distributes `by: key`, so each message is sent with its key: `send_to(key, message)`, `reserve_to(key, len)`"
            ),
            Self::TagTooLong { len } => {
                write!(f, "a tag of {len} bytes is too long for a transfer, which takes at most {MAX_TAG}")
            }
            Self::Journal { what } => write!(
                f,
                "the journal of this stage's transfers holds {what}: a process of this stage wrote where it must not, or was another program"
            ),
            Self::Closed { edge } => write!(f, "nobody reads edge `{edge}` any more"),
            Self::Finished { edge } => write!(f, "edge `{edge}` was finished: nothing can be sent after the end"),
            Self::Poisoned { edge, what } => {
                write!(
                    f,
                    "edge `{edge}` holds what no correct peer writes ({what}): one of its stages writes where it must not"
                )
            }
            Self::TimedOut => f.write_str("the time given has passed"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
