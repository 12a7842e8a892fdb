//! What the history gives back: runs, attempts and edges, as rows.

use jiff::Timestamp;
use serde::Serialize;

use super::{EdgeConsumer, Outcome, RunEnded, RunOutcome, RunStarted, StageEnded, StageStarted, Usage};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub run: String,
    pub pipeline: String,
    pub file: String,
    pub logs: String,
    pub pid: u32,
    pub version: String,
    pub stages: u32,
    pub tasks: u32,
    pub started_at: Timestamp,
    pub status: RunStatus,
    pub exit_code: Option<i32>,
    pub ended_at: Option<Timestamp>,
    pub duration_s: Option<f64>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    Running,
    /// Its runner was killed before it could write how the run ended.
    Died,
    Ended(RunOutcome),
}

impl RunStatus {
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Died => "died",
            Self::Ended(outcome) => outcome.word(),
        }
    }
}

impl RunStatus {
    /// The word for an attempt of this run whose end is not known.
    pub(super) fn unfinished(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Died | Self::Ended(_) => "died",
        }
    }
}

impl Serialize for RunStatus {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.word())
    }
}

/// One process of a stage, or (`attempt` 0) a replica that never became one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    pub stage: String,
    pub replica: u32,
    pub attempt: u32,
    pub pid: Option<u32>,
    pub cpus: Option<String>,
    pub started_at: Option<Timestamp>,
    pub queue_wait_s: Option<f64>,
    /// `None`: it still runs, or its runner died.
    pub outcome: Option<Outcome>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub ended_at: Option<Timestamp>,
    pub duration_s: Option<f64>,
    pub usage: Option<Usage>,
    pub log: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Edge {
    pub edge: String,
    pub messages: u64,
    pub bytes: u64,
    pub batches: Option<u64>,
    pub dropped: u64,
    pub backlog_bytes: u64,
    pub high_water_bytes: Option<u64>,
    pub blocked_s: f64,
    pub waited_s: f64,
    /// Of an edge that may drop messages.
    pub consumers: Vec<EdgeConsumer>,
}

impl Run {
    pub(super) fn started(f: RunStarted) -> Self {
        Self {
            run: f.run,
            pipeline: f.pipeline,
            file: f.file,
            logs: f.logs,
            pid: f.pid,
            version: f.version,
            stages: f.stages,
            tasks: f.tasks,
            started_at: f.at,
            status: RunStatus::Running,
            exit_code: None,
            ended_at: None,
            duration_s: None,
        }
    }

    pub(super) fn end(&mut self, f: &RunEnded) {
        self.status = RunStatus::Ended(f.outcome);
        self.exit_code = Some(f.exit_code);
        self.ended_at = Some(f.at);
        self.duration_s = Some(f.duration_s);
    }
}

impl Attempt {
    pub(super) fn started(f: StageStarted) -> Self {
        Self {
            stage: f.stage,
            replica: f.replica,
            attempt: f.attempt,
            pid: Some(f.pid),
            cpus: Some(f.cpus),
            started_at: Some(f.at),
            queue_wait_s: Some(f.queue_wait_s),
            outcome: None,
            exit_code: None,
            signal: None,
            reason: None,
            ended_at: None,
            duration_s: None,
            usage: None,
            log: None,
        }
    }

    /// An attempt that ended without having started.
    pub(super) fn never_started(f: StageEnded) -> Self {
        let mut row = Self {
            stage: f.stage.clone(),
            replica: f.replica,
            attempt: f.attempt,
            pid: None,
            cpus: None,
            started_at: None,
            queue_wait_s: None,
            outcome: None,
            exit_code: None,
            signal: None,
            reason: None,
            ended_at: None,
            duration_s: None,
            usage: None,
            log: None,
        };
        row.end(f);
        row
    }

    pub(super) fn end(&mut self, f: StageEnded) {
        self.outcome = Some(f.outcome);
        self.exit_code = f.exit_code;
        self.signal = f.signal;
        self.reason = f.reason;
        self.ended_at = Some(f.at);
        self.duration_s = Some(f.duration_s);
        self.usage = f.usage;
        self.log = f.log;
    }
}
