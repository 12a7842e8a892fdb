//! The folder of a run, `STATE/runs/RUN`: its logs, and the lock that says that its runner lives.
//!
//! The lock is one of the opening of the file `lock` (F_OFD_SETLK): the kernel gives it up when the runner dies, however it
//! dies, across reboots, reused process ids and pid namespaces, which a process id would not survive.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nexusflow_sys::file::{is_locked, try_lock};

/// A run's folder, held by its runner for as long as the run lasts.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the folder of a new run and takes its lock. `state` exists and is private to its owner.
    pub fn create(state: &Path, run: &str) -> io::Result<Self> {
        let path = path_of(state, run);
        private(true).create(state.join("runs"))?;
        private(false).create(&path)?;
        private(true).create(path.join("logs"))?;
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join("lock"))?;
        if !try_lock(&lock)? {
            return Err(io::Error::other("the lock of a new run is already held"));
        }
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Whether the runner of this run still lives.
pub fn is_alive(state: &Path, run: &str) -> bool {
    File::open(path_of(state, run).join("lock")).and_then(is_locked).unwrap_or(false)
}

/// The log file's name of one attempt of one replica: `STAGE.log` where there is one of each, else
/// `STAGE@REPLICA~ATTEMPT.log`, from the second attempt on. No name of a stage has an `@` or a `~`, so that replica 0 of
/// `hash` and a stage named `hash.0` never share a file.
pub fn log_name(stage: &str, replica: u32, replicas: u32, attempt: u32) -> String {
    let replica = if replicas == 1 { String::new() } else { format!("@{replica}") };
    let attempt = if attempt <= 1 { String::new() } else { format!("~{attempt}") };
    format!("{stage}{replica}{attempt}.log")
}

/// The stage, replica and attempt that [`log_name`] was given.
pub fn parse_log_name(name: &str) -> Option<(&str, Option<u32>, u32)> {
    let stem = name.strip_suffix(".log")?;
    let (stem, attempt) = match stem.split_once('~') {
        None => (stem, 1),
        Some((stem, attempt)) => (stem, attempt.parse().ok()?),
    };
    match stem.split_once('@') {
        None => Some((stem, None, attempt)),
        Some((stage, replica)) => Some((stage, Some(replica.parse().ok()?), attempt)),
    }
}

fn path_of(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(run)
}

fn private(parents: bool) -> DirBuilder {
    let mut b = DirBuilder::new();
    b.mode(0o700).recursive(parents);
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lives_as_long_as_its_lock() {
        let state = tempfile::tempdir().unwrap();
        assert!(!is_alive(state.path(), "p-1"));
        let dir = RunDir::create(state.path(), "p-1").unwrap();
        assert!(dir.logs().is_dir());
        assert!(is_alive(state.path(), "p-1"));
        assert!(is_alive(state.path(), "p-1"), "looking does not disturb");
        drop(dir);
        assert!(!is_alive(state.path(), "p-1"));
    }

    #[test]
    fn a_run_id_is_used_once() {
        let state = tempfile::tempdir().unwrap();
        let _dir = RunDir::create(state.path(), "p-1").unwrap();
        assert_eq!(RunDir::create(state.path(), "p-1").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn log_names_of_different_replicas_differ() {
        assert_eq!(log_name("hash.0", 0, 1, 1), "hash.0.log");
        assert_eq!(log_name("hash", 0, 2, 1), "hash@0.log");
        assert_eq!((log_name("a", 0, 2, 3), log_name("a", 0, 1, 2)), ("a@0~3.log".into(), "a~2.log".into()));
        assert_eq!(parse_log_name("hash.0.log"), Some(("hash.0", None, 1)));
        assert_eq!(parse_log_name("hash@12.log"), Some(("hash", Some(12), 1)));
        assert_eq!(parse_log_name("hash@12~7.log"), Some(("hash", Some(12), 7)));
        assert_eq!(parse_log_name("hash~2.log"), Some(("hash", None, 2)));
        assert_eq!(parse_log_name("hash@x.log"), None);
        assert_eq!(parse_log_name("lock"), None);
    }
}
