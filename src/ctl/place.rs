//! Where run sockets lie, what they are called, and which are left over from runs that are dead.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nexusflow_sys::listen;

const SUFFIX: &str = ".sock";
/// A pipeline's name is cut to this in the name of a socket, so that the whole path fits an address (108 bytes).
const PIPELINE_CHARS: usize = 32;
/// Of the names in a folder no more are looked at.
const MAX_NAMES: usize = 4096;
/// A socket with an unfinished name, which nobody listens to any more, is this old before it is removed: its maker may be
/// just about to listen.
const UNFINISHED: Duration = Duration::from_secs(60);

/// What a run is called in the name of its socket: its id, but for a pipeline with a very long name.
pub(super) fn stem(run: &str) -> String {
    match split(run) {
        Some((pipeline, rest)) => {
            let cut: String = pipeline.chars().take(PIPELINE_CHARS).collect();
            format!("{cut}-{rest}")
        }
        None => run.chars().take(PIPELINE_CHARS).collect(),
    }
}

/// The pipeline of a run id or of a [`stem`], and what follows: the time of its start and a random number.
pub(super) fn split(run: &str) -> Option<(&str, &str)> {
    let (random, _) = run.rmatch_indices('-').next()?;
    let (time, _) = run[..random].rmatch_indices('-').next()?;
    Some((&run[..time], &run[time + 1..]))
}

pub(super) fn path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}{SUFFIX}"))
}

/// Not listed until it is finished.
pub(super) fn unfinished(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!(".{stem}{SUFFIX}"))
}

/// The stems of the sockets in a folder, in the order of their names.
pub(super) fn stems(folder: &Path) -> Vec<String> {
    let mut stems: Vec<_> = names(folder)
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| Some(name.strip_suffix(SUFFIX)?.to_owned()))
        .collect();
    stems.sort();
    stems
}

/// Removes the sockets that nobody listens to any more.
pub(super) fn sweep(folder: &Path) {
    for name in names(folder).filter(|name| name.ends_with(SUFFIX)) {
        let path = folder.join(&name);
        let dead = listen::connect(&path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if dead && (!name.starts_with('.') || is_old(&path)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_old(path: &Path) -> bool {
    let made = path.symlink_metadata().and_then(|m| m.modified());
    made.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > UNFINISHED))
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MAX_NAMES);
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_short_and_tell_runs_apart() {
        assert_eq!(stem("clicks-20261122T105233-0000002a"), "clicks-20261122T105233-0000002a");
        let long = format!("{}-20261122T105233-0000002a", "a-b.".repeat(16));
        assert_eq!(stem(&long), format!("{}-20261122T105233-0000002a", "a-b.".repeat(8)));
        assert!(path(Path::new("/run/user/4294967294/nexusflow"), &stem(&long)).as_os_str().len() < 108);
        assert_eq!(split(&long).unwrap().0, "a-b.".repeat(16));
        assert_eq!(split("p-1"), None);
        assert_eq!(stem("p-1"), "p-1");
    }

    #[test]
    fn only_what_is_dead_is_swept() {
        let tmp = tempfile::tempdir().unwrap();
        let _alive = listen::listen(&path(tmp.path(), "alive"), 1).unwrap();
        drop(listen::listen(&path(tmp.path(), "dead"), 1).unwrap());
        drop(listen::listen(&unfinished(tmp.path(), "new"), 1).unwrap());
        std::fs::write(tmp.path().join("file.sock"), "").unwrap();
        std::fs::write(tmp.path().join("notes"), "").unwrap();
        sweep(tmp.path());
        assert_eq!(stems(tmp.path()), ["alive"]);
        assert!(unfinished(tmp.path(), "new").exists() && tmp.path().join("notes").exists());
    }
}
