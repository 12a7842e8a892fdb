//! `bench edges`: builds `benches/edges`, a package of its own since it brings our rivals along, and runs it.

use std::process::Command;

use super::folder;
use crate::cargo;
use crate::step::{Result, Steps};

/// The package explains its arguments itself.
pub fn run(steps: &mut Steps, args: &[String]) -> Result {
    let target = folder()?.join("edges");
    steps.run("edges: build, with iceoryx2 and ZeroMQ", || {
        cargo("build --release --locked --manifest-path benches/edges/Cargo.toml")
            .env("CARGO_TARGET_DIR", target.display().to_string())
            .done()
    })?;
    steps.run("edges", || {
        let program = target.join("release/edges-bench");
        let status = Command::new(&program).args(args).status().map_err(|e| format!("{}: {e}", program.display()))?;
        status.success().then_some(()).ok_or_else(|| format!("it ended with {status}"))
    })
}
