//! `chaos`: pipelines whose stages are killed (`kill -9`) at random instants, again and again, while everything that
//! flows is counted: lost, torn, duplicated, redelivered, and the longest time nothing moved.

mod rng;
mod run;
mod shapes;
mod stage;
mod verify;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::{Options, folder};
use crate::cargo;
use crate::step::{Result, Steps};
use shapes::{SHAPES, Shape};
use verify::Tally;

pub const USAGE: &str = "\
usage: cargo xtask chaos [--kills N] [--seed S] [--shape NAME] [--json FILE]

  Kills stages N times (default 2000), spread over all shapes or at one, and counts what arrives. The instants follow
  from the seed, which is printed; where a process is at such an instant is the machine's own choice.
";

/// A stall longer than this is a failure.
const LONGEST_STALL_S: f64 = 1.0;

pub fn main(steps: &mut Steps, args: &[String]) -> Result {
    if let Some("stage") = args.first().map(String::as_str) {
        return stage::main(&args[1..]);
    }
    let mut options = Options(args);
    let kills = options.number("--kills", 2000).map_err(usage)?;
    let seed = options.number("--seed", std::process::id() as usize).map_err(usage)? as u64;
    let only = options.value("--shape").map_err(usage)?;
    let json = options.value("--json").map_err(usage)?.map(PathBuf::from);
    options.end().map_err(usage)?;
    let shapes: Vec<&Shape> = SHAPES.iter().filter(|s| only.is_none_or(|name| name == s.name)).collect();
    if shapes.is_empty() {
        let names: Vec<_> = SHAPES.iter().map(|s| s.name).collect();
        return Err(format!("no such shape; there are {}", names.join(", ")));
    }
    steps.run("release build", || cargo("build --release --locked --workspace --bins").done())?;
    println!("chaos: {kills} kills, seed {seed}");
    steps.run("chaos", || all(&shapes, kills, seed, json.as_deref()))
}

/// For the full suite: all shapes. The release build is there.
pub fn suite(kills: usize) -> Result {
    let seed = u64::from(std::process::id());
    println!("   {kills} kills, seed {seed}");
    all(&SHAPES.iter().collect::<Vec<_>>(), kills, seed, None)
}

fn usage(what: String) -> String {
    format!("{what}\n{USAGE}")
}

fn all(shapes: &[&Shape], kills: usize, seed: u64, json: Option<&std::path::Path>) -> Result {
    let folder = folder()?.join("chaos");
    println!(
        "   {:14} {:>7} {:>10} {:>6} {:>6} {:>10} {:>11} {:>9} {:>9}",
        "shape", "kills", "messages", "lost", "torn", "duplicated", "redelivered", "dropped", "stall s"
    );
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (at, shape) in shapes.iter().enumerate() {
        // The first ones take what does not divide.
        let share = kills / shapes.len() + usize::from(at < kills % shapes.len());
        let tally = run::run(shape, share, seed.wrapping_add(at as u64), &folder.join(shape.name))
            .map_err(|e| format!("{}, seed {seed}: {e}", shape.name))?;
        let Tally { kills, messages, lost, torn, duplicated, redelivered, dropped, stall_s, .. } = &tally;
        println!(
            "   {:14} {kills:>7} {messages:>10} {lost:>6} {torn:>6} {duplicated:>10} {redelivered:>11} {dropped:>9} {stall_s:>9.3}",
            shape.name
        );
        rows.push(row(shape, seed, &tally));
        if *lost + *torn + *duplicated > 0 || *stall_s > LONGEST_STALL_S {
            wrong.push(format!("{}: {}", shape.name, tally.first_wrong.as_deref().unwrap_or("a stall")));
        }
    }
    if let Some(path) = json {
        let text = format!("{:#}\n", Value::Array(rows));
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("seed {seed}\n{}", wrong.join("\n"))) }
}

/// `duplicated` counts what came again though it must not: beyond what was unreleased, or at all with `transfer`.
fn row(shape: &Shape, seed: u64, tally: &Tally) -> Value {
    json!({
        "shape": shape.name, "seed": seed, "kills": tally.kills, "messages": tally.messages, "lost": tally.lost,
        "torn": tally.torn, "duplicated": tally.duplicated, "redelivered": tally.redelivered,
        "dropped": tally.dropped, "longest_stall_s": tally.stall_s,
    })
}
