//! The rivals that are whole systems, installed and started beside us: dora (its own Rust nodes), and the object stores
//! Plasma and vineyard (through Python, whose work is all in C).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Where they are installed; without, they take no part.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    /// dora's command, and the folder with `dataflow.yaml` and the built node.
    pub dora: Option<(PathBuf, PathBuf)>,
    /// Pythons that have the client and the server.
    pub plasma: Option<PathBuf>,
    pub vineyard: Option<PathBuf>,
    /// `peer.py`.
    pub script: PathBuf,
}

/// Objects of each measurement.
const OBJECTS: usize = 10;

/// One way of one message between two dora nodes that block, in nanoseconds.
pub fn dora((dora, folder): &(PathBuf, PathBuf), len: usize) -> Result<f64> {
    let out = std::env::temp_dir().join(format!("edges-bench-dora-{}", std::process::id()));
    let _ = std::fs::remove_file(&out);
    let log = Command::new("timeout")
        .args(["60".as_ref(), dora.as_os_str(), "run".as_ref(), "dataflow.yaml".as_ref()])
        .current_dir(folder)
        .env("DORA_BENCH_OUT", &out)
        .env("DORA_BENCH_BYTES", len.to_string())
        .stdin(Stdio::null())
        .output()?;
    let text = std::fs::read_to_string(&out)
        .map_err(|e| format!("dora wrote nothing ({e}): {}", String::from_utf8_lossy(&log.stderr)))?;
    let _ = std::fs::remove_file(&out);
    figure(&text, len)
}

/// From before an object's creation until the other process has read every byte, in nanoseconds.
pub fn store(python: &Path, script: &Path, which: &str, cpus: [u32; 2], len: usize) -> Result<f64> {
    let [mine, theirs] = cpus;
    let out = Command::new("timeout")
        .args(["120".as_ref(), python.as_os_str(), script.as_os_str()])
        .args([which, &format!("{mine},{theirs}"), &OBJECTS.to_string(), &len.to_string()])
        .stdin(Stdio::null())
        .output()?;
    figure(&String::from_utf8_lossy(&out.stdout), len)
        .map_err(|e| format!("{which}: {e}: {}", String::from_utf8_lossy(&out.stderr)).into())
}

/// The figure on the line of this size.
fn figure(text: &str, len: usize) -> Result<f64> {
    let of = |line: &str| {
        let (bytes, ns) = line.split_once(' ')?;
        (bytes.parse() == Ok(len)).then(|| ns.trim().parse().ok())?
    };
    text.lines().find_map(of).ok_or_else(|| "no figure came back".into())
}
