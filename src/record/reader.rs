//! Questions to the history: which runs there were, and what happened in one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{Attempt, Edge, Run, RunStatus};
use super::schema::{self, Error};
use super::{EdgeConsumer, Usage, dir};

/// How long a question waits for a writer (it hardly ever must: WAL).
const BUSY: Duration = Duration::from_secs(5);
/// Runs named when a prefix fits several.
const AMBIGUOUS_SHOWN: usize = 8;
/// The word for the latest run.
const LAST: &str = "last";

#[derive(Debug)]
pub struct Reader {
    db: Connection,
    state: PathBuf,
}

/// Why a run was not found.
#[derive(Debug)]
pub enum NotFound {
    NoRuns,
    NoSuch(String),
    /// The word and some of the runs whose id starts so.
    Ambiguous(String, Vec<String>),
    Error(Error),
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuns => f.write_str("there is no run yet"),
            Self::NoSuch(word) => write!(
                f,
                "no run and no pipeline is called `{word}`: give a run's id, the start of one, a pipeline's name, or `{LAST}`"
            ),
            Self::Ambiguous(word, runs) => write!(f, "`{word}` is the start of several runs: {}", runs.join(", ")),
            Self::Error(e) => write!(f, "the history cannot be read: {e}"),
        }
    }
}

impl std::error::Error for NotFound {}

impl<E: Into<Error>> From<E> for NotFound {
    fn from(e: E) -> Self {
        Self::Error(e.into())
    }
}

const RUN: &str = "SELECT id, pipeline, file, logs, pid, version, stages, tasks, started_us, outcome, exit_code,
    ended_us, duration_s, key FROM runs";

impl Reader {
    pub fn open(state: &Path) -> Result<Self, Error> {
        Ok(Self { db: schema::open_existing(state, BUSY)?, state: state.to_owned() })
    }

    /// The latest runs, latest first; of one pipeline if it is named.
    pub fn history(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<Run>, Error> {
        let sql = format!("{RUN} WHERE ?1 IS NULL OR pipeline = ?1 ORDER BY started_us DESC, key DESC LIMIT ?2");
        let mut query = self.db.prepare(&sql)?;
        let rows = query.query_map(params![pipeline, limit], |r| self.run_row(r))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The run that `word` means: an id, `last`, a pipeline (its latest run), or the start of one id.
    pub fn run(&self, word: &str) -> Result<Run, NotFound> {
        if let Some(run) = self.one("id = ?1", word)? {
            return Ok(run);
        }
        if word == LAST {
            return self.one("?1 IS NOT NULL", word)?.ok_or(NotFound::NoRuns);
        }
        if let Some(run) = self.one("pipeline = ?1", word)? {
            return Ok(run);
        }
        let mut query = self.db.prepare(&format!("{RUN} WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT ?2"))?;
        let rows = query.query_map(params![word, AMBIGUOUS_SHOWN as i64], |r| self.run_row(r))?;
        let mut runs: Vec<Run> = rows.collect::<Result<_, _>>()?;
        match runs.len() {
            0 => Err(NotFound::NoSuch(word.into())),
            1 => Ok(runs.remove(0)),
            _ => Err(NotFound::Ambiguous(word.into(), runs.into_iter().map(|r| r.run).collect())),
        }
    }

    /// All attempts of a run in the order of their start; those that never started come last.
    pub fn attempts(&self, run: &str) -> Result<Vec<Attempt>, Error> {
        let mut query = self.db.prepare(
            "SELECT stage, replica, attempt, pid, cpus, started_us, queue_wait_s, outcome, exit_code, signal, reason,
                ended_us, duration_s, user_s, system_s, max_rss_bytes, minor_faults, major_faults, voluntary_switches,
                involuntary_switches, log
             FROM attempts WHERE run = (SELECT key FROM runs WHERE id = ?1)
             ORDER BY started_us IS NULL, started_us, stage, replica, attempt",
        )?;
        let rows = query.query_map([run], attempt_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn edges(&self, run: &str) -> Result<Vec<Edge>, Error> {
        let mut query = self.db.prepare(
            "SELECT edge, messages, bytes, batches, dropped, backlog_bytes, high_water_bytes, blocked_s, waited_s
             FROM edges WHERE run = (SELECT key FROM runs WHERE id = ?1) ORDER BY edge",
        )?;
        let rows = query.query_map([run], |r| {
            Ok(Edge {
                edge: r.get(0)?,
                messages: count(r, 1)?,
                bytes: count(r, 2)?,
                batches: known_count(r, 3)?,
                dropped: count(r, 4)?,
                backlog_bytes: count(r, 5)?,
                high_water_bytes: known_count(r, 6)?,
                blocked_s: r.get(7)?,
                waited_s: r.get(8)?,
                consumers: Vec::new(),
            })
        })?;
        let mut edges: Vec<Edge> = rows.collect::<Result<_, _>>()?;
        let mut query = self.db.prepare(
            "SELECT edge, consumer, messages, dropped
             FROM edge_consumers WHERE run = (SELECT key FROM runs WHERE id = ?1) ORDER BY edge, consumer",
        )?;
        let rows = query.query_map([run], |r| {
            let consumer = EdgeConsumer { consumer: r.get(1)?, messages: count(r, 2)?, dropped: count(r, 3)? };
            Ok((r.get::<_, String>(0)?, consumer))
        })?;
        for row in rows {
            let (name, consumer) = row?;
            if let Ok(at) = edges.binary_search_by(|e| e.edge.as_str().cmp(&name)) {
                edges[at].consumers.push(consumer);
            }
        }
        Ok(edges)
    }

    fn one(&self, condition: &str, word: &str) -> Result<Option<Run>, Error> {
        let sql = format!("{RUN} WHERE {condition} ORDER BY started_us DESC, key DESC LIMIT 1");
        Ok(self.db.query_row(&sql, [word], |r| self.run_row(r)).optional()?)
    }

    fn run_row(&self, r: &Row) -> rusqlite::Result<Run> {
        let run: String = r.get(0)?;
        let status = match parse(r, 9)? {
            Some(outcome) => RunStatus::Ended(outcome),
            None if dir::is_alive(&self.state, &run) => RunStatus::Running,
            None => RunStatus::Died,
        };
        Ok(Run {
            run,
            pipeline: r.get(1)?,
            file: r.get(2)?,
            logs: r.get(3)?,
            pid: r.get(4)?,
            version: r.get(5)?,
            stages: r.get(6)?,
            tasks: r.get(7)?,
            started_at: time(r, 8)?.unwrap_or(Timestamp::UNIX_EPOCH),
            status,
            exit_code: r.get(10)?,
            ended_at: time(r, 11)?,
            duration_s: r.get(12)?,
        })
    }
}

fn attempt_row(r: &Row) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        stage: r.get(0)?,
        replica: r.get(1)?,
        attempt: r.get(2)?,
        pid: r.get(3)?,
        cpus: r.get(4)?,
        started_at: time(r, 5)?,
        queue_wait_s: r.get(6)?,
        outcome: parse(r, 7)?,
        exit_code: r.get(8)?,
        signal: r.get(9)?,
        reason: r.get(10)?,
        ended_at: time(r, 11)?,
        duration_s: r.get(12)?,
        usage: match r.get(13)? {
            None => None,
            Some(user_s) => Some(Usage {
                user_s,
                system_s: r.get(14)?,
                max_rss_bytes: known_count(r, 15)?,
                minor_faults: count(r, 16)?,
                major_faults: count(r, 17)?,
                voluntary_switches: count(r, 18)?,
                involuntary_switches: count(r, 19)?,
            }),
        },
        log: r.get(20)?,
    })
}

fn count(r: &Row, column: usize) -> rusqlite::Result<u64> {
    let n: i64 = r.get(column)?;
    Ok(n.try_into().unwrap_or(0))
}

fn known_count(r: &Row, column: usize) -> rusqlite::Result<Option<u64>> {
    let n: Option<i64> = r.get(column)?;
    Ok(n.and_then(|n| n.try_into().ok()))
}

fn time(r: &Row, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let us: Option<i64> = r.get(column)?;
    us.map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, e.into()))
}

fn parse<T: std::str::FromStr<Err = String>>(r: &Row, column: usize) -> rusqlite::Result<Option<T>> {
    let word: Option<String> = r.get(column)?;
    word.map(|w| w.parse())
        .transpose()
        .map_err(|e: String| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, e.into()))
}
