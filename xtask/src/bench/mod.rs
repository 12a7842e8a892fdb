//! Benches: what the program costs beside the limit and beside its peers, as ratios measured in one run. Nothing
//! here asserts a time.

mod dag;
mod edges;
mod graph;
mod idle;
mod noop;
mod raw;

use std::path::PathBuf;

use crate::full::make_dir;
use crate::step::{Result, Steps};
use crate::{cargo, target};

pub const USAGE: &str = "\
usage: cargo xtask bench dag [--stages N] [--rounds N] [--state DIR] [--json FILE]
       cargo xtask bench idle [--seconds N]
       cargo xtask bench edges [--quick] [--rounds N] [--case TEXT] [--cpus A,B] [--json FILE]

  dag        a layered graph of short processes: bare threads, ours, make; medians and ratios; history and logs
             go under DIR (target/bench): where earlier files were deleted minutes ago, ext4 is slow to make logs
  idle       what the runner costs while all of its stages wait
  edges      latency and throughput of an edge: ours, iceoryx2, pipe, Unix socket, ZeroMQ, and the raw limits, in
             turn; ratios within one round, apart for CPUs near to and far from each other
";

pub fn run(steps: &mut Steps, args: &[String]) -> Result {
    let (what, options) = args.split_first().ok_or(USAGE)?;
    let mut options = Options(options);
    match what.as_str() {
        "dag" => {
            let (stages, rounds) = (options.number("--stages", 10_000)?, options.number("--rounds", 5)?);
            let state = options.value("--state")?.map(std::path::absolute).transpose().map_err(|e| e.to_string())?;
            let json = options.value("--json")?.map(PathBuf::from);
            options.end()?;
            steps.run("release build", build)?;
            steps.run("dag", || dag::run(stages.max(1), rounds.max(1), state.as_deref(), json.as_deref()))
        }
        "idle" => {
            let seconds = options.number("--seconds", 30)?;
            options.end()?;
            steps.run("release build", build)?;
            steps.run("idle", || idle::run(seconds.max(1)))
        }
        "edges" => edges::run(steps, options.0),
        // One side of `dag`, in a process of its own so that it is measured as the others are.
        "raw" => raw::main(options.0),
        _ => Err(USAGE.into()),
    }
}

fn build() -> Result {
    cargo("build --release --locked --workspace --bins").done()
}

/// Where benches leave what they make: `target/bench`.
pub fn folder() -> Result<PathBuf> {
    let dir = target().join("bench");
    make_dir(&dir)?;
    std::path::absolute(&dir).map_err(|e| format!("{}: {e}", dir.display()))
}

/// `--name value` pairs that have not been asked for yet.
pub struct Options<'a>(pub &'a [String]);

impl<'a> Options<'a> {
    /// The value of the option if it comes next: options stand in the order of the usage.
    pub fn value(&mut self, name: &str) -> Result<Option<&'a str>> {
        match self.0 {
            [first, value, rest @ ..] if first == name => {
                self.0 = rest;
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    pub fn number(&mut self, name: &str, default: usize) -> Result<usize> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} {text}: not a number")),
        }
    }

    pub fn end(&self) -> Result {
        self.0.first().map_or(Ok(()), |left| Err(format!("not understood: {left}\n{USAGE}")))
    }
}
