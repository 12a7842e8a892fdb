//! The facts of a run: what `dag apply --format json` prints one a line, what the history keeps, and
//! what the metrics are folded from.
//!
//! The form is stable: fields and events may be added, none changes its name or meaning. Times are
//! RFC 3339 in UTC, durations are seconds, sizes are bytes. A run's facts come in the order in which
//! things happened: `run_started` first, `run_ended` last.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Fact {
    RunStarted(RunStarted),
    StageStarted(StageStarted),
    /// Once for every [`Fact::StageStarted`]; once for an attempt that could not be started or was still to come; and
    /// once, with `attempt` 0, for each replica that never started.
    StageEnded(StageEnded),
    /// Once for each edge, when nothing will use it any more.
    EdgeEnded(EdgeEnded),
    RunEnded(RunEnded),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// As [`super::run_id`] makes it.
    pub run: String,
    pub pipeline: String,
    /// The pipeline file, absolute.
    pub file: String,
    /// The folder of the stages' logs, absolute.
    pub logs: String,
    /// The runner's.
    pub pid: u32,
    pub at: Timestamp,
    pub stages: u32,
    /// Replicas of all stages.
    pub tasks: u32,
    /// Of nexusflow.
    pub version: String,
}

/// The process of one attempt has exec'd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStarted {
    pub stage: String,
    /// From 0.
    pub replica: u32,
    /// From 1.
    pub attempt: u32,
    pub pid: u32,
    /// The CPUs it may run on, as cpuset(7) writes them: `0-3,8`.
    pub cpus: String,
    pub at: Timestamp,
    /// How long it waited for the machine after its dependencies held.
    pub queue_wait_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageEnded {
    pub stage: String,
    pub replica: u32,
    /// 0: this replica never started.
    pub attempt: u32,
    pub outcome: Outcome,
    /// What the process returned, if it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// For people: why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
    pub duration_s: f64,
    /// What the kernel counted for the process and the children it waited for; absent if it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Another attempt is to follow, after this wait at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_in_s: Option<f64>,
    /// Its log file, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// How one attempt of one replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    /// Ended by itself, and not well.
    Failed,
    /// Longer than its `timeout`.
    TimedOut,
    /// Its process could not be made to run: `reason` says which step failed.
    NotStarted,
    /// Ended by the runner: the run was stopped, a gang mate failed, or a service was no longer needed.
    Stopped,
    /// Never tried, because something it depends on did not succeed or the run ended first.
    Skipped,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub user_s: f64,
    pub system_s: f64,
    /// Of the largest process. Known only where it exceeds what the runner itself has had: the kernel counts that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// Sums over all rings of the edge; a pipe edge has no counters and no such fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeEnded {
    pub edge: String,
    /// Written by producers.
    pub messages: u64,
    /// Written by producers, without headers and padding.
    pub bytes: u64,
    /// Publications: `messages` by this is how many went at once. Absent where it is not counted, as for objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<u64>,
    /// Messages that were offered and not received, since there was no room: what each consumer missed, summed up.
    #[serde(default)]
    pub dropped: u64,
    /// What was still in the rings, unread by its slowest consumer.
    pub backlog_bytes: u64,
    /// The most that one of its rings was seen to hold, records and all. Absent where it is not counted, as for objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water_bytes: Option<u64>,
    /// How long producers waited for room.
    pub blocked_s: f64,
    /// How long consumers waited for messages.
    pub waited_s: f64,
    /// Where the edge may drop messages: what became of them, for each replica that reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<EdgeConsumer>,
    pub at: Timestamp,
}

/// What one replica had of an edge that may drop messages: all that were offered to it is the sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeConsumer {
    /// `stage`, or `stage@replica` where there are several.
    pub consumer: String,
    /// Read and released.
    pub messages: u64,
    /// Missed.
    pub dropped: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    pub outcome: RunOutcome,
    /// What `dag apply` exits with.
    pub exit_code: i32,
    pub at: Timestamp,
    pub duration_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Succeeded,
    /// A stage failed.
    Failed,
    /// Longer than the pipeline's `timeout`.
    TimedOut,
    /// A stage's process could not be made to run.
    NotStarted,
    /// Ctrl-C, SIGTERM, or `dag stop`.
    Interrupted,
}

/// The words of an enum: one table for its JSON form, the database and people.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|o| o.word() == s).ok_or_else(|| format!("`{s}` is not an outcome"))
            }
        }
    };
}

words!(Outcome {
    Succeeded = "succeeded",
    Failed = "failed",
    TimedOut = "timed_out",
    NotStarted = "not_started",
    Stopped = "stopped",
    Skipped = "skipped",
});

words!(RunOutcome {
    Succeeded = "succeeded",
    Failed = "failed",
    TimedOut = "timed_out",
    NotStarted = "not_started",
    Interrupted = "interrupted",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_tagged_objects() {
        let fact = Fact::StageEnded(StageEnded {
            stage: "hash".into(),
            replica: 1,
            attempt: 1,
            outcome: Outcome::TimedOut,
            exit_code: None,
            signal: Some(9),
            reason: Some("ran longer than 5s".into()),
            at: "2026-11-22T10:52:33.25Z".parse().unwrap(),
            duration_s: 5.5,
            usage: None,
            restart_in_s: None,
            log: None,
        });
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(
            text,
            r#"{"event":"stage_ended","stage":"hash","replica":1,"attempt":1,"outcome":"timed_out","signal":9,"reason":"ran longer than 5s","at":"2026-11-22T10:52:33.25Z","duration_s":5.5}"#
        );
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
    }

    #[test]
    fn words_are_the_serde_names() {
        for o in Outcome::ALL {
            assert_eq!(serde_json::to_value(o).unwrap(), o.word());
            assert_eq!(o.word().parse::<Outcome>().as_ref(), Ok(o));
        }
        for o in RunOutcome::ALL {
            assert_eq!(serde_json::to_value(o).unwrap(), o.word());
            assert_eq!(o.word().parse::<RunOutcome>().as_ref(), Ok(o));
        }
    }
}
