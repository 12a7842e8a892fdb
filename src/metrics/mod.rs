//! Prometheus: what a run leaves behind for node_exporter's textfile collector.

mod textfile;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nexusflow_sys::file::atomic_write;

use crate::record::Summary;
pub use textfile::render;

/// Of the file that is replaced no more than this is read, in search of the last success.
const PREVIOUS_MAX_BYTES: u64 = 64 << 20;
/// The collector is another user.
const MODE: u32 = 0o644;

/// Replaces the file at `path` whole: a collector sees the old one or the new one.
pub fn write(path: &Path, summary: &Summary) -> io::Result<()> {
    // Unreadable or no text is as good as none; whether the file can be replaced will be seen.
    let previous = read(path).ok();
    atomic_write(path, render(summary, previous.as_deref()).as_bytes(), MODE, false)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(PREVIOUS_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::record::tests::{run_ended, run_started};
    use crate::record::{Fact, RunOutcome};

    fn summary(facts: [Fact; 2]) -> Summary {
        let mut s = Summary::default();
        facts.iter().for_each(|f| s.fold(f));
        s
    }

    #[test]
    fn a_failed_run_keeps_the_time_of_the_last_success() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("p.prom");
        write(&path, &summary([run_started("p-1", 0), run_ended(RunOutcome::Succeeded, 5)])).unwrap();
        write(&path, &summary([run_started("p-2", 60), run_ended(RunOutcome::Failed, 65)])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("nexusflow_run_last_success_timestamp_seconds{pipeline=\"p\"} 1795344005\n"), "{text}");
        assert!(text.contains("nexusflow_run_last_timestamp_seconds{pipeline=\"p\"} 1795344065\n"), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn no_text_is_no_hindrance() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("p.prom");
        std::fs::write(&path, b"\xff\xfe\0").unwrap();
        write(&path, &summary([run_started("p-1", 0), run_ended(RunOutcome::Failed, 5)])).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# HELP "));
    }
}
