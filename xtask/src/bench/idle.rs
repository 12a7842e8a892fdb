//! `bench idle`: what the runner uses while all of its stages wait: CPU time over some seconds, and memory.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::folder;
use crate::step::Result;
use crate::target;

const SIGTERM: i32 = 15;
const STAGES: usize = 100;
/// What a run may use at most while nothing happens.
const MOST_BYTES: u64 = 20 << 20;

pub fn run(seconds: usize) -> Result {
    println!("   {STAGES} stages that wait, {seconds} s");
    println!("   stages                CPU s   CPU %   RSS MB   of it anonymous, file, shared MB");
    let chain = |at: usize| match at {
        0 => "{ command: [sleep, \"1000\"], stdout: { edge: e1, framing: raw } }".to_owned(),
        _ if at == STAGES - 1 => format!("{{ command: [cat], stdin: {{ edge: e{at}, framing: raw }} }}"),
        _ => format!(
            "{{ command: [cat], stdin: {{ edge: e{at}, framing: raw }}, stdout: {{ edge: e{}, framing: raw }} }}",
            at + 1
        ),
    };
    let mut edges = "edges:\n".to_owned();
    for at in 1..STAGES {
        let _ = writeln!(edges, "  e{at}: {{ from: s{}, to: s{at} }}", at - 1);
    }
    measure("apart", &pipeline(|_| "{ command: [sleep, \"1000\"] }".to_owned()), seconds)?;
    measure("a chain of rings", &(pipeline(chain) + &edges), seconds)
}

fn pipeline(stage: impl Fn(usize) -> String) -> String {
    let mut text = format!("version: 1\nname: idle\nparallel: {STAGES}\nstages:\n");
    for at in 0..STAGES {
        let _ = writeln!(text, "  s{at}: {}", stage(at));
    }
    text
}

fn measure(what: &str, pipeline: &str, seconds: usize) -> Result {
    let folder = folder()?;
    let file = folder.join("idle.yaml");
    std::fs::write(&file, pipeline).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut run = Running(
        Command::new(target().join("release/nexusflow"))
            .args(["dag", "apply", "--format", "json", "--prom-file"])
            .arg(folder.join("idle.prom"))
            .arg(&file)
            .env("NEXUSFLOW_STATE_DIR", folder.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("nexusflow: {e}"))?,
    );
    let runner = run.wait_until_all_run()?;
    // Let what follows from the last start, and the history's batch, come to rest.
    std::thread::sleep(Duration::from_secs(2));
    let before = cpu_ticks(runner)?;
    std::thread::sleep(Duration::from_secs(seconds as u64));
    let ticks = cpu_ticks(runner)? - before;
    let cpu_s = ticks as f64 / TICKS_PER_SECOND;
    let cpu_percent = 100.0 * cpu_s / seconds as f64;
    let [rss, anonymous, file, shared] = ["VmRSS", "RssAnon", "RssFile", "RssShmem"].map(|key| memory(runner, key));
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let (rss, shared) = (rss?, shared?);
    println!(
        "   {what:20} {cpu_s:6.2}  {cpu_percent:6.2}  {:7.1}   {:.1}, {:.1}, {:.1}",
        mega(rss),
        mega(anonymous?),
        mega(file?),
        mega(shared)
    );
    match cpu_percent < 0.05 && rss < MOST_BYTES {
        true => Ok(()),
        false => Err(format!("{what}: 0.0 % CPU and at most {} MiB were promised", MOST_BYTES >> 20)),
    }
}

/// USER_HZ, which Linux shows everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// utime + stime of all threads of a process.
fn cpu_ticks(pid: u64) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // After the name, which may hold anything: state is the first, utime the twelfth.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().skip(11).take(2));
    let times = fields.map(|f| f.map(str::parse::<u64>).collect::<std::result::Result<Vec<_>, _>>());
    match times {
        Some(Ok(times)) if times.len() == 2 => Ok(times[0] + times[1]),
        _ => Err(format!("{path}: {stat}")),
    }
}

fn memory(pid: u64, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')?.strip_suffix("kB"));
    let kib: u64 = line.and_then(|l| l.trim().parse().ok()).ok_or_else(|| format!("{path}: no {key}"))?;
    Ok(kib * 1024)
}

/// A run that is told to end when we look no further.
struct Running(Child);

impl Running {
    /// Reads events until every stage has started; gives the runner's process.
    fn wait_until_all_run(&mut self) -> Result<u64> {
        let mut runner = None;
        let mut started = 0;
        for line in BufReader::new(self.0.stdout.take().ok_or("no stdout")?).lines() {
            let line = line.map_err(|e| e.to_string())?;
            let event: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
            match event["event"].as_str() {
                Some("run_started") => runner = event["pid"].as_u64(),
                Some("stage_started") => started += 1,
                _ => return Err(format!("nothing shall end, but: {line}")),
            }
            if started == STAGES {
                return runner.ok_or_else(|| "no run_started".into());
            }
        }
        Err(format!("the run ended with {started} of {STAGES} stages started"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its guardian passes it on.
        let _ = nexusflow_sys::family::signal_descendant(self.0.id(), SIGTERM);
        let _ = self.0.wait();
    }
}
