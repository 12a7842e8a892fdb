//! Keeps a run's facts in the history without ever slowing or ending the run: a thread of its own
//! writes them in batches, and what goes wrong is told once, at the end.
//!
//! While the database is full or locked the facts wait in memory, up to a limit, and are tried again
//! with the next batch. An attempt that starts and ends within one batch costs one row.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::rows::{Attempt, Run, RunStatus};
use super::schema::{self, Error};
use super::{EdgeEnded, Fact};

/// How long a batch gathers after its first fact …
const GATHER: Duration = Duration::from_millis(100);
/// … unless it has so many.
const BATCH_FACTS: usize = 1_000;
/// Facts not yet taken by the thread; a run that is faster than its history waits here …
const QUEUE_FACTS: usize = 65_536;
/// … but no longer than this for one fact, which is then lost.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// Rows that wait for a database that cannot be written; the oldest beyond them are lost.
const PENDING_ROWS: usize = 50_000;
/// How long one batch waits for another writer of the database.
const BUSY: Duration = Duration::from_millis(250);
/// The same for the last batch.
const BUSY_AT_END: Duration = Duration::from_secs(5);

/// What could not be kept of a run.
#[derive(Debug)]
pub struct Loss {
    /// The latest reason, if the database gave one.
    pub error: Option<Error>,
    pub facts: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the history of this run is incomplete (facts lost: {})", self.facts)?;
        match &self.error {
            Some(e) => write!(f, ": {e}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Loss {}

/// The history of one run, being written.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Loss>>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    facts: Vec<Fact>,
    lost: u64,
    closing: bool,
}

impl Writer {
    /// Starts the thread; the database is opened by it, so this takes no time and fails only without threads.
    pub fn start(state: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (state, theirs) = (state.to_owned(), shared.clone());
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || work(state, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub fn record(&self, fact: Fact) {
        let mut queue = self.shared.lock();
        if queue.facts.len() >= QUEUE_FACTS {
            let full = |q: &mut Queue| q.facts.len() >= QUEUE_FACTS;
            let wait = self.shared.taken.wait_timeout_while(queue, QUEUE_WAIT, full);
            queue = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.facts.len() >= QUEUE_FACTS {
            queue.lost += 1;
            return;
        }
        queue.facts.push(fact);
        // The thread sleeps for nothing or for a full batch: only those two are worth a system call.
        if matches!(queue.facts.len(), 1 | BATCH_FACTS) {
            self.shared.filled.notify_one();
        }
    }

    /// Writes what is left and says once what was lost.
    pub fn close(mut self) -> Result<(), Loss> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Loss> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.lock().closing = true;
        self.shared.filled.notify_one();
        thread
            .join()
            .unwrap_or_else(|_| Err(Loss { error: Some(io::Error::other("its writer panicked").into()), facts: 0 }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch, and whether it is the last.
    fn take(&self) -> (Vec<Fact>, bool) {
        let idle = |q: &mut Queue| q.facts.is_empty() && !q.closing;
        let queue = self.filled.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        // A run that is killed a moment after its start shall be seen to have died: its first fact does not wait.
        let gathering = |q: &mut Queue| {
            q.facts.len() < BATCH_FACTS && !q.closing && !matches!(q.facts.first(), Some(Fact::RunStarted(_)))
        };
        let wait = self.filled.wait_timeout_while(queue, GATHER, gathering);
        let mut queue = wait.unwrap_or_else(PoisonError::into_inner).0;
        let facts = std::mem::take(&mut queue.facts);
        self.taken.notify_all();
        (facts, queue.closing)
    }
}

fn work(state: PathBuf, shared: &Shared) -> Result<(), Loss> {
    let mut db = None;
    let mut pending = Pending::default();
    loop {
        let (facts, last) = shared.take();
        facts.into_iter().for_each(|f| pending.fold(f));
        let written = pending.write(&mut db, &state, if last { BUSY_AT_END } else { BUSY });
        if last {
            let unwritten = pending.rows() as u64;
            let facts = pending.lost + shared.lock().lost + unwritten;
            return match written {
                Ok(()) if facts == 0 => Ok(()),
                written => Err(Loss { error: written.err().or(pending.error), facts }),
            };
        }
        if let Err(e) = written {
            pending.error = Some(e);
            pending.forget_oldest();
        }
    }
}

/// Rows that are not yet in the database.
#[derive(Default)]
struct Pending {
    run: Option<Run>,
    run_changed: bool,
    /// Attempts that have not ended, and whether the database does not know them yet.
    running: HashMap<(String, u32, u32), (Attempt, bool)>,
    ended: Vec<Attempt>,
    edges: Vec<EdgeEnded>,
    lost: u64,
    error: Option<Error>,
}

impl Pending {
    fn fold(&mut self, fact: Fact) {
        match fact {
            Fact::RunStarted(f) => {
                self.run = Some(Run::started(f));
                self.run_changed = true;
            }
            Fact::StageStarted(f) => {
                let key = (f.stage.clone(), f.replica, f.attempt);
                self.running.insert(key, (Attempt::started(f), true));
            }
            Fact::StageEnded(f) => match self.running.remove(&(f.stage.clone(), f.replica, f.attempt)) {
                Some((mut row, _)) => {
                    row.end(f);
                    self.ended.push(row);
                }
                None => self.ended.push(Attempt::never_started(f)),
            },
            Fact::EdgeEnded(f) => self.edges.push(f),
            Fact::RunEnded(f) => {
                if let Some(run) = &mut self.run {
                    run.end(&f);
                    self.run_changed = true;
                }
            }
        }
    }

    fn rows(&self) -> usize {
        usize::from(self.run_changed) + self.ended.len() + self.edges.len()
    }

    fn forget_oldest(&mut self) {
        let excess = self.ended.len().saturating_sub(PENDING_ROWS);
        self.ended.drain(..excess);
        self.lost += excess as u64;
    }

    /// Writes everything in one transaction; on failure everything stays pending.
    fn write(&mut self, db: &mut Option<Connection>, state: &Path, busy: Duration) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let db = match db {
            Some(db) => db,
            None => db.insert(schema::open(state, busy)?),
        };
        db.busy_timeout(busy)?;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let key = write_run(&tx, run)?;
        let started = self.running.values().filter(|(_, new)| *new).map(|(row, _)| row);
        write_attempts(&tx, key, started.chain(&self.ended))?;
        write_edges(&tx, key, &self.edges)?;
        tx.commit()?;
        self.run_changed = false;
        self.running.values_mut().for_each(|(_, new)| *new = false);
        self.ended.clear();
        self.edges.clear();
        Ok(())
    }
}

fn write_run(db: &Connection, run: &Run) -> Result<i64, Error> {
    let outcome = match run.status {
        RunStatus::Ended(outcome) => Some(outcome.word()),
        RunStatus::Running | RunStatus::Died => None,
    };
    let mut insert = db.prepare_cached(
        "INSERT INTO runs (id, pipeline, file, logs, pid, version, stages, tasks, started_us, outcome, exit_code,
             ended_us, duration_s)
         VALUES (:id, :pipeline, :file, :logs, :pid, :version, :stages, :tasks, :started_us, :outcome, :exit_code,
             :ended_us, :duration_s)
         ON CONFLICT (id) DO UPDATE SET outcome = :outcome, exit_code = :exit_code, ended_us = :ended_us,
             duration_s = :duration_s
         RETURNING key",
    )?;
    Ok(insert.query_row(
        named_params! {
            ":id": run.run, ":pipeline": run.pipeline, ":file": run.file, ":logs": run.logs, ":pid": run.pid,
            ":version": run.version, ":stages": run.stages, ":tasks": run.tasks,
            ":started_us": run.started_at.as_microsecond(), ":outcome": outcome, ":exit_code": run.exit_code,
            ":ended_us": run.ended_at.map(Timestamp::as_microsecond), ":duration_s": run.duration_s.map(finite),
        },
        |r| r.get(0),
    )?)
}

fn write_attempts<'a>(db: &Connection, run: i64, rows: impl Iterator<Item = &'a Attempt>) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO attempts VALUES (:run, :stage, :replica, :attempt, :pid, :cpus, :started_us,
            :queue_wait_s, :outcome, :exit_code, :signal, :reason, :ended_us, :duration_s, :user_s, :system_s,
            :max_rss_bytes, :minor_faults, :major_faults, :voluntary_switches, :involuntary_switches, :log)",
    )?;
    for a in rows {
        let u = a.usage.as_ref();
        insert.execute(named_params! {
            ":run": run, ":stage": a.stage, ":replica": a.replica, ":attempt": a.attempt, ":pid": a.pid,
            ":cpus": a.cpus, ":started_us": a.started_at.map(Timestamp::as_microsecond),
            ":queue_wait_s": a.queue_wait_s.map(finite), ":outcome": a.outcome.map(|o| o.word()),
            ":exit_code": a.exit_code, ":signal": a.signal, ":reason": a.reason,
            ":ended_us": a.ended_at.map(Timestamp::as_microsecond), ":duration_s": a.duration_s.map(finite),
            ":user_s": u.map(|u| finite(u.user_s)), ":system_s": u.map(|u| finite(u.system_s)),
            ":max_rss_bytes": u.and_then(|u| u.max_rss_bytes).map(count), ":minor_faults": u.map(|u| count(u.minor_faults)),
            ":major_faults": u.map(|u| count(u.major_faults)),
            ":voluntary_switches": u.map(|u| count(u.voluntary_switches)),
            ":involuntary_switches": u.map(|u| count(u.involuntary_switches)), ":log": a.log,
        })?;
    }
    Ok(())
}

fn write_edges(db: &Connection, run: i64, edges: &[EdgeEnded]) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO edges VALUES (:run, :edge, :messages, :bytes, :backlog_bytes, :blocked_s, :waited_s,
            :batches, :dropped, :high_water_bytes)",
    )?;
    let mut consumer = db
        .prepare_cached("INSERT OR REPLACE INTO edge_consumers VALUES (:run, :edge, :consumer, :messages, :dropped)")?;
    for e in edges {
        insert.execute(named_params! {
            ":run": run, ":edge": e.edge, ":messages": count(e.messages), ":bytes": count(e.bytes),
            ":backlog_bytes": count(e.backlog_bytes), ":blocked_s": finite(e.blocked_s),
            ":waited_s": finite(e.waited_s), ":batches": e.batches.map(count), ":dropped": count(e.dropped),
            ":high_water_bytes": e.high_water_bytes.map(count),
        })?;
        for c in &e.consumers {
            consumer.execute(named_params! {
                ":run": run, ":edge": e.edge, ":consumer": c.consumer, ":messages": count(c.messages),
                ":dropped": count(c.dropped),
            })?;
        }
    }
    Ok(())
}

/// Edges' counters lie in memory that stages write: no value of theirs may keep a row from being written.
fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// SQLite keeps NaN as NULL, which the table refuses.
fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}
