//! The database file, `STATE/history.db`: opened privately, brought to the present form, set up for
//! one writer and many readers at once (WAL).

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

pub const FILE_NAME: &str = "history.db";

/// One step per version of the file; a step that was released is never changed. Times are microseconds since the
/// epoch. Attempts are kept by stage so that one row is written for a short one, not two and an index.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE runs (
        key         INTEGER PRIMARY KEY,
        id          TEXT NOT NULL UNIQUE,
        pipeline    TEXT NOT NULL,
        file        TEXT NOT NULL,
        logs        TEXT NOT NULL,
        pid         INTEGER NOT NULL,
        version     TEXT NOT NULL,
        stages      INTEGER NOT NULL,
        tasks       INTEGER NOT NULL,
        started_us  INTEGER NOT NULL,
        outcome     TEXT,
        exit_code   INTEGER,
        ended_us    INTEGER,
        duration_s  REAL
    ) STRICT;
    CREATE INDEX runs_by_time ON runs (started_us);
    CREATE INDEX runs_by_pipeline ON runs (pipeline, started_us);
    CREATE TABLE attempts (
        run         INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
        stage       TEXT NOT NULL,
        replica     INTEGER NOT NULL,
        attempt     INTEGER NOT NULL,
        pid         INTEGER,
        cpus        TEXT,
        started_us  INTEGER,
        queue_wait_s REAL,
        outcome     TEXT,
        exit_code   INTEGER,
        signal      INTEGER,
        reason      TEXT,
        ended_us    INTEGER,
        duration_s  REAL,
        user_s      REAL,
        system_s    REAL,
        max_rss_bytes INTEGER,
        minor_faults INTEGER,
        major_faults INTEGER,
        voluntary_switches INTEGER,
        involuntary_switches INTEGER,
        log         TEXT,
        PRIMARY KEY (run, stage, replica, attempt)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE edges (
        run         INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
        edge        TEXT NOT NULL,
        messages    INTEGER NOT NULL,
        bytes       INTEGER NOT NULL,
        backlog_bytes INTEGER NOT NULL,
        blocked_s   REAL NOT NULL,
        waited_s    REAL NOT NULL,
        PRIMARY KEY (run, edge)
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE edges ADD COLUMN batches INTEGER;
    ALTER TABLE edges ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE edges ADD COLUMN high_water_bytes INTEGER;
    CREATE TABLE edge_consumers (
        run         INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
        edge        TEXT NOT NULL,
        consumer    TEXT NOT NULL,
        messages    INTEGER NOT NULL,
        dropped     INTEGER NOT NULL,
        PRIMARY KEY (run, edge, consumer)
    ) STRICT, WITHOUT ROWID;
",
];

#[derive(Debug)]
pub enum Error {
    Io(io::Error),
    Sqlite(rusqlite::Error),
    /// Its version, and the newest that this program knows.
    Newer(i64, usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Sqlite(e) => write!(f, "{e}"),
            Self::Newer(is, knows) => {
                write!(f, "the history was written by a newer nexusflow (version {is}; this one knows up to {knows})")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

/// Opens or makes the history of a state folder. `busy` is how long it waits for another writer.
pub fn open(state: &Path, busy: Duration) -> Result<Connection, Error> {
    let path = state.join(FILE_NAME);
    // SQLite gives its -wal and -shm files the mode of the database, so the mode is settled before it sees the file.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&path, flags)?;
    db.busy_timeout(busy)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    // With WAL this survives every crash of the program, and of the machine all but the last commits.
    db.pragma_update(None, "synchronous", "normal")?;
    // The last to close would copy the log into the database and wait for the disk: 50 ms at the end of each run.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    migrate(&mut db)?;
    Ok(db)
}

/// Opens the history for reading; where there is none yet, an empty one.
pub fn open_existing(state: &Path, busy: Duration) -> Result<Connection, Error> {
    if state.join(FILE_NAME).try_exists()? {
        return open(state, busy);
    }
    let mut db = Connection::open_in_memory()?;
    migrate(&mut db)?;
    Ok(db)
}

fn migrate(db: &mut Connection) -> Result<(), Error> {
    db.pragma_update(None, "foreign_keys", true)?;
    let version = |db: &Connection| db.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0));
    if version(db)? == MIGRATIONS.len() as i64 {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated while this one waited for the lock.
    let is = version(&tx)?;
    let Some(missing) = usize::try_from(is).ok().and_then(|v| MIGRATIONS.get(v..)) else {
        return Err(Error::Newer(is, MIGRATIONS.len()));
    };
    for step in missing {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    Ok(tx.commit()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const BUSY: Duration = Duration::from_secs(5);

    #[test]
    fn is_private_and_reopens() {
        let state = tempfile::tempdir().unwrap();
        let db = open(state.path(), BUSY).unwrap();
        db.execute("INSERT INTO runs VALUES (1,'a','p','f','l',1,'v',1,1,0,NULL,NULL,NULL,NULL)", []).unwrap();
        for file in std::fs::read_dir(state.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        }
        drop(db);
        let db = open(state.path(), BUSY).unwrap();
        let runs: i64 = db.query_row("SELECT count(*) FROM runs", [], |r| r.get(0)).unwrap();
        assert_eq!(runs, 1);
    }

    #[test]
    fn an_older_history_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let old = Connection::open(state.path().join(FILE_NAME)).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO runs VALUES (1,'a','p','f','l',1,'v',1,1,0,NULL,NULL,NULL,NULL);
             INSERT INTO edges VALUES (1,'e',5,6,7,0.5,0.25)",
        )
        .unwrap();
        drop(old);
        let edges = super::super::Reader::open(state.path()).unwrap().edges("a").unwrap();
        assert_eq!((edges[0].messages, edges[0].dropped, edges[0].batches), (5, 0, None));
    }

    #[test]
    fn a_newer_history_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        open(state.path(), BUSY).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open(state.path(), BUSY), Err(Error::Newer(99, _))));
    }

    #[test]
    fn two_may_make_it_at_once() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|s| {
            let openers: Vec<_> = (0..4).map(|_| s.spawn(|| open(state.path(), BUSY).map(drop))).collect();
            for o in openers {
                if let Err(e) = o.join().unwrap() {
                    // Switching to WAL does not wait for others; the writer tries again by itself.
                    assert!(e.to_string().contains("locked"), "{e}");
                }
            }
        });
        open(state.path(), BUSY).unwrap();
    }
}
