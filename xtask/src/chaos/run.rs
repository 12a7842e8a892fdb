//! One shape under fire: starts its pipeline, kills, lets it end, and has the logs verified.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nexusflow_sys::family;
use serde_json::Value;

use super::rng::Rng;
use super::shapes::Shape;
use super::verify::{self, Tally};
use crate::step::Result;
use crate::target;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// Between two kills lie up to 2ⁿ microseconds, with n from this range: in the midst of a start, and in the midst of work.
const PAUSES: std::ops::Range<u64> = 6..15;
/// What sinks log after the last kill, at least.
const WORK_AFTER_BYTES: u64 = 20 * verify::ENTRY_BYTES as u64;
/// How often it is looked whether anything moves.
const LOOK: Duration = Duration::from_millis(10);
/// A run that has not ended so long after the last kill hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who may be killed, and who lives.
struct Victims {
    names: &'static [&'static str],
    /// What the runner counted on the edge to the sinks.
    counted: Value,
    alive: HashMap<(String, u64), u32>,
}

/// The runner under test; it is told to go when we give up.
struct Runner(Child);

pub fn run(shape: &Shape, kills: usize, seed: u64, folder: &Path) -> Result<Tally> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let own = target().join("release/xtask");
    let own = std::path::absolute(&own).map_err(|e| format!("{}: {e}", own.display()))?;
    let file = folder.join("pipeline.yaml");
    std::fs::write(&file, shape.pipeline(&own, folder)).map_err(|e| format!("{}: {e}", file.display()))?;
    let (mut runner, events) = start(&file, folder)?;
    let mut victims = Victims { names: shape.victims, counted: Value::Null, alive: HashMap::new() };
    let mut watch = Watch::new(folder);
    let mut rng = Rng(seed);
    let mut killed = 0;
    let begun = Instant::now();
    while killed < kills {
        let longest_us = 1 << (PAUSES.start + rng.below(PAUSES.end - PAUSES.start));
        if victims.hear(&events, Instant::now() + Duration::from_micros(rng.below(longest_us)))? {
            return Err(format!("the run ended after {killed} kills: see {}", folder.join("stderr").display()));
        }
        watch.look();
        if watch.since.is_some()
            && let Some(pid) = victims.choose(&mut rng)
        {
            let _ = family::signal_descendant(pid, SIGKILL); // it may have gone by itself
            killed += 1;
        }
        if watch.since.unwrap_or(begun).elapsed() > PATIENCE {
            return Err(format!("nothing has moved for {PATIENCE:?} after {killed} kills: see {}", folder.display()));
        }
    }
    // Those who came last have work to do, too.
    let wanted = watch.bytes + WORK_AFTER_BYTES;
    while watch.bytes < wanted {
        if victims.hear(&events, Instant::now() + LOOK)? || watch.since.unwrap_or(begun).elapsed() > PATIENCE {
            return Err(format!("nothing moves after the last kill: see {}", folder.display()));
        }
        watch.look();
    }
    std::fs::write(folder.join("stop"), "").map_err(|e| e.to_string())?;
    let given_up = Instant::now() + PATIENCE;
    while !victims.hear(&events, Instant::now() + LOOK)? {
        watch.look();
        if Instant::now() > given_up {
            return Err(format!("it does not end: see {}", folder.display()));
        }
    }
    let status = runner.0.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("the run ended with {status}: see {}", folder.join("stderr").display()));
    }
    let mut tally = verify::logs(shape, folder)?;
    verify::counters(&victims.counted, &mut tally);
    (tally.kills, tally.stall_s) = (killed, watch.longest.as_secs_f64());
    Ok(tally)
}

fn start(file: &Path, folder: &Path) -> Result<(Runner, Receiver<Value>)> {
    let stderr = std::fs::File::create(folder.join("stderr")).map_err(|e| e.to_string())?;
    let mut child = Command::new(target().join("release/nexusflow"))
        .args(["dag", "apply", "--format", "json"])
        .arg(file)
        .env("NEXUSFLOW_STATE_DIR", folder.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|e| format!("nexusflow: {e}"))?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let (sender, events) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
        let events = lines.filter_map(|line| serde_json::from_str(&line).ok());
        events.map_while(|event| sender.send(event).ok()).for_each(drop);
    });
    Ok((Runner(child), events))
}

impl Victims {
    /// What the runner says until then. True: it has said all.
    fn hear(&mut self, events: &Receiver<Value>, until: Instant) -> Result<bool> {
        loop {
            let event = match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
            };
            if event["event"] == "edge_ended" && event["edge"] == "out" {
                self.counted = event;
                continue;
            }
            let (Some(stage), Some(replica)) = (event["stage"].as_str(), event["replica"].as_u64()) else { continue };
            let who = (stage.to_owned(), replica);
            match event["event"].as_str() {
                Some("stage_started") if self.names.contains(&stage) => {
                    let pid = event["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or("no pid")?;
                    self.alive.insert(who, pid);
                }
                Some("stage_ended") => _ = self.alive.remove(&who),
                _ => {}
            }
        }
    }

    fn choose(&mut self, rng: &mut Rng) -> Option<u32> {
        let mut alive: Vec<_> = self.alive.keys().cloned().collect();
        alive.sort_unstable();
        let at = rng.below(alive.len().max(1) as u64) as usize;
        self.alive.remove(alive.get(at)?) // until it is heard of again
    }
}

/// Whether the logs grow.
struct Watch<'a> {
    folder: &'a Path,
    bytes: u64,
    since: Option<Instant>,
    looked: Instant,
    longest: Duration,
}

impl<'a> Watch<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, bytes: 0, since: None, looked: Instant::now(), longest: Duration::ZERO }
    }

    fn look(&mut self) {
        let now = Instant::now();
        if now - self.looked < LOOK {
            return;
        }
        self.looked = now;
        let bytes = verify::log_files(self.folder).iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum();
        if bytes != self.bytes {
            self.bytes = bytes;
            // The time before the first message is the start's.
            if let Some(since) = self.since.replace(now) {
                self.longest = self.longest.max(now - since);
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = family::signal_descendant(self.0.id(), SIGTERM);
        let _ = self.0.wait();
    }
}
