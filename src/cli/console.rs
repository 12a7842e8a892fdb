//! What a person sees of a run, on stderr: a live line on a terminal, plain lines elsewhere, and what
//! went wrong with the last words of who failed.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::mem;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::load;
use super::talker::Listener;
use crate::diag::Diagnostic;
use crate::exec::Observer;
use crate::pipeline::Pipeline;
use crate::record::human::{bytes, duration, harmless};
use crate::record::{Fact, Outcome, RunEnded, RunOutcome, StageEnded};

/// Of a failed stage's log: the last lines, looked for in the last bytes.
const TAIL_LINES: usize = 10;
const TAIL_BYTES: u64 = 8 * 1024;
/// With more processes than this, single starts and good ends are not worth a line each.
const MANY: u32 = 100;
/// Names in the live line.
const NAMES: usize = 4;
const TICK: Duration = Duration::from_millis(250);

pub struct Console {
    bar: Option<ProgressBar>,
    quiet: bool,
    color: bool,
    tasks: u32,
    ended: u32,
    running: BTreeSet<String>,
    /// To be started again.
    resting: BTreeSet<String>,
    counts: [u32; 6],
    /// Stages with more than one replica.
    replicated: HashSet<String>,
    edges: Vec<String>,
    /// What the last diagnostic said: the end that follows from it need not say it again.
    told: String,
}

impl Console {
    pub fn new(quiet: bool, pipeline: &Pipeline) -> Self {
        let replicated = pipeline.stages.iter().filter(|s| s.replicas > 1).map(|s| s.name.clone()).collect();
        let terminal = io::stderr().is_terminal() && !quiet;
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {elapsed} {pos}/{len} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        let color = load::colours(&io::stderr());
        Self {
            bar,
            quiet,
            color,
            tasks: 0,
            ended: 0,
            running: BTreeSet::new(),
            resting: BTreeSet::new(),
            counts: [0; 6],
            edges: vec![],
            replicated,
            told: String::new(),
        }
    }

    /// One line above the live one. A stderr that takes nothing is no reason to end a run.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => _ = writeln!(io::stderr(), "{text}"),
        }
    }

    fn chat(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(self.ended.into());
        let names: Vec<&str> = self.running.iter().take(NAMES).map(String::as_str).collect();
        let more = self.running.len().saturating_sub(NAMES);
        bar.set_message(match (names.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!("running {}", names.join(", ")),
            (false, _) => format!("running {} and {more} more", names.join(", ")),
        });
    }

    fn stage_ended(&mut self, ended: &StageEnded) {
        let name = self.name(&ended.stage, ended.replica);
        let reason = ended.reason.as_deref().unwrap_or_default();
        if !self.running.remove(&name) {
            self.revive(&name, ended.attempt);
        }
        if let Some(wait) = ended.restart_in_s {
            let (again, wait) = (self.paint("33;1", "again  "), duration(wait));
            self.line(&format!("{again} {name}: {reason}; attempt {} in {wait}", ended.attempt + 1));
            self.resting.insert(name);
            return;
        }
        self.ended += 1;
        self.counts[ended.outcome as usize] += 1;
        match ended.outcome {
            Outcome::Succeeded if self.tasks > MANY => self.milestone(),
            Outcome::Succeeded => {
                self.chat(&format!("{} {name} in {}", self.paint("32", "done   "), duration(ended.duration_s)))
            }
            Outcome::Stopped => self.chat(&format!("{} {name}: {reason}", self.paint("33", "stopped"))),
            Outcome::Skipped if self.tasks > MANY => {}
            Outcome::Skipped => self.chat(&format!("{} {name}: {reason}", self.paint("33", "skipped"))),
            // Its diagnostic has said it all.
            Outcome::NotStarted => {}
            Outcome::Failed | Outcome::TimedOut => {
                let colon = if reason == self.told { String::new() } else { format!(": {reason}") };
                self.line(&format!("{} {name}{colon}", self.paint("31;1", "failed ")));
                self.last_words(ended);
            }
        }
    }

    /// What had succeeded begins anew with its gang: it does not count yet.
    fn revive(&mut self, name: &str, attempt: u32) {
        if attempt > 1 && !self.resting.remove(name) {
            self.ended -= 1;
            self.counts[Outcome::Succeeded as usize] -= 1;
        }
    }

    /// Every tenth of a large run.
    fn milestone(&self) {
        if self.bar.is_none() && self.ended * 10 / self.tasks != (self.ended - 1) * 10 / self.tasks {
            self.chat(&format!("{}/{} done", self.ended, self.tasks));
        }
    }

    fn last_words(&self, ended: &StageEnded) {
        let Some(path) = &ended.log else { return };
        match tail(path) {
            Ok(text) if text.is_empty() => self.line(&format!("        it wrote nothing to its log, {path}")),
            Ok(text) => {
                self.line(&format!("        the last lines of {path}:"));
                text.lines().for_each(|l| self.line(&format!("        | {}", harmless(l))));
            }
            Err(e) => self.line(&format!("        its log {path} cannot be read: {e}")),
        }
    }

    fn run_ended(&mut self, ended: &RunEnded) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        for edge in std::mem::take(&mut self.edges) {
            self.chat(&edge);
        }
        let outcome = match ended.outcome {
            RunOutcome::Succeeded => self.paint("32;1", "succeeded"),
            other => self.paint("31;1", &other.to_string().replace('_', " ")),
        };
        let words = ["succeeded", "failed", "timed out", "not started", "stopped", "skipped"];
        let counts = words.iter().zip(self.counts).filter(|(_, n)| *n > 0).map(|(w, n)| format!("{n} {w}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let line = format!("{outcome} in {}: {counts}", duration(ended.duration_s));
        if ended.outcome == RunOutcome::Succeeded { self.chat(&line) } else { self.line(&line) }
    }

    /// `hash@2`, or `walk` where there is only one.
    fn name(&self, stage: &str, replica: u32) -> String {
        if self.replicated.contains(stage) { format!("{stage}@{replica}") } else { stage.to_owned() }
    }
}

impl Observer for Console {
    fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::RunStarted(run) => {
                self.tasks = run.tasks;
                self.chat(&format!(
                    "run {}: {}, {}, logs in {}",
                    run.run,
                    count(run.stages.into(), "stage"),
                    count(run.tasks.into(), "process"),
                    run.logs
                ));
                if let Some(bar) = &self.bar {
                    bar.set_length(run.tasks.into());
                    bar.enable_steady_tick(TICK);
                }
            }
            Fact::StageStarted(started) => {
                let name = self.name(&started.stage, started.replica);
                if self.tasks <= MANY && self.bar.is_none() {
                    self.chat(&format!("started {name}, process {} on {}", started.pid, cpus(&started.cpus)));
                }
                self.revive(&name, started.attempt);
                self.running.insert(name);
            }
            Fact::StageEnded(ended) => self.stage_ended(ended),
            Fact::EdgeEnded(e) => {
                let dropped = if e.dropped > 0 { format!(", {} dropped", e.dropped) } else { String::new() };
                let messages = count(e.messages, "message");
                self.edges.push(format!("edge    {}: {messages}, {}{dropped}", e.edge, bytes(e.bytes)))
            }
            Fact::RunEnded(ended) => self.run_ended(ended),
        }
        self.draw();
    }

    fn trouble(&mut self, diagnostic: &Diagnostic) {
        self.told.clone_from(&diagnostic.message);
        let show = || load::show_one(diagnostic);
        match &self.bar {
            Some(bar) => bar.suspend(show),
            None => show(),
        }
    }
}

/// `1 stage`, `2 processes`.
fn count(n: u64, what: &str) -> String {
    match (n, what.ends_with('s')) {
        (1, _) => format!("1 {what}"),
        (_, true) => format!("{n} {what}es"),
        (_, false) => format!("{n} {what}s"),
    }
}

/// `CPU 1`, `CPUs 0-1`.
fn cpus(list: &str) -> String {
    let many = list.contains([',', '-']);
    format!("{} {list}", if many { "CPUs" } else { "CPU" })
}

impl Listener for Console {
    fn lost(&mut self, words: u64) {
        self.line(&format!("… {words} things happened faster than they could be shown here"));
    }
}

/// The last lines of a log, which may be huge and need not be text.
fn tail(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    // What begins in the middle of a line is no line.
    let from = lines.len().saturating_sub(TAIL_LINES).max(usize::from(len > TAIL_BYTES && lines.len() > 1));
    Ok(lines[from..].join("\n"))
}

/// Facts as they are, one JSON object a line, on stdout.
#[derive(Default)]
pub struct JsonLines {
    /// Stdout takes no more, which has been told.
    broken: bool,
}

impl JsonLines {
    /// Whoever read it may have gone, which is well; a full disk is told once. The run has its record all the same.
    fn write(&mut self, line: &[u8]) {
        let mut out = io::stdout().lock();
        if let Err(e) = out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
            && e.kind() != io::ErrorKind::BrokenPipe
            && !mem::replace(&mut self.broken, true)
        {
            let _ = writeln!(io::stderr(), "warning: events cannot be written to stdout: {e}");
        }
    }
}

impl Observer for JsonLines {
    fn fact(&mut self, fact: &Fact) {
        if let Ok(line) = serde_json::to_vec(fact) {
            self.write(&line);
        }
    }

    fn trouble(&mut self, diagnostic: &Diagnostic) {
        load::show_one(diagnostic);
    }
}

impl Listener for JsonLines {
    fn lost(&mut self, words: u64) {
        self.write(format!("{{\"event\":\"facts_lost\",\"count\":{words}}}").as_bytes());
    }
}
