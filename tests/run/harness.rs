//! Runs pipelines and watches them through their JSON lines; nothing here waits by sleeping a guessed time.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nexusflow_sys::{family, process};
use serde_json::Value;

pub const INT: i32 = 2;
pub const KILL: i32 = 9;
pub const TERM: i32 = 15;

/// How long one run may take before its test fails and shows everything it said.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long nothing happens between two looks at /proc.
const LOOK: Duration = Duration::from_millis(2);

/// A folder of its own for a pipeline file and what its stages write, and a state folder.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.path("files")).unwrap();
        home
    }

    /// Beside the pipeline file, where stages work.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("files").join(name)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, with this home's state.
    pub fn nexusflow<A: AsRef<std::ffi::OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexusflow"));
        // Elsewhere than its stages: who works in our folder is a stage.
        command
            .args(args)
            .current_dir("/")
            .env("NEXUSFLOW_STATE_DIR", self.path("state"))
            .env("NEXUSFLOW_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    /// A verb that ends by itself: its exit code and what it said.
    pub fn verb<A: AsRef<std::ffi::OsStr>>(&self, args: &[A]) -> (Option<i32>, String, String) {
        let out = self.nexusflow(args).output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    }

    pub fn json<A: AsRef<std::ffi::OsStr> + Debug>(&self, args: &[A]) -> Value {
        let (code, out, err) = self.verb(args);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }

    /// Puts a pipeline file down: `text` follows its version and name.
    pub fn pipeline(&self, text: &str) -> PathBuf {
        self.write("test.yaml", &format!("version: 1\nname: test\n{text}"))
    }

    pub fn start(&self, text: &str) -> Live {
        self.start_with(text, &[], |_| {})
    }

    pub fn start_with(&self, text: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> Live {
        let file = self.pipeline(text);
        let mut command = self.nexusflow(&["dag", "apply", "--format", "json"]);
        command.args(args).arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        Live::watch(command.spawn().unwrap(), self.file(""))
    }

    /// Runs a pipeline to its end.
    pub fn apply(&self, text: &str) -> Done {
        self.start(text).finish()
    }

    /// Runs a pipeline that must end with this exit code.
    #[track_caller]
    pub fn apply_to(&self, code: i32, text: &str) -> Done {
        self.apply(text).with_code(code)
    }
}

/// A run that goes on.
pub struct Live {
    child: Child,
    facts: Receiver<Value>,
    pub seen: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
    folder: PathBuf,
    deadline: Instant,
}

impl Live {
    fn watch(mut child: Child, folder: PathBuf) -> Self {
        let (sender, facts) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines() {
                    let line = line.unwrap();
                    let fact = serde_json::from_str(&line).unwrap_or_else(|_| Value::String(line));
                    if sender.send(fact).is_err() {
                        return;
                    }
                }
            });
        }
        let stderr = child.stderr.take().map(|mut err| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                err.read_to_end(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        Self { child, facts, seen: Vec::new(), stderr, folder, deadline: Instant::now() + DEADLINE }
    }

    /// The process that was started, the guardian.
    pub fn guardian(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub fn runner(&mut self) -> u32 {
        pid(self.wait_for(|f| f["event"] == "run_started"))
    }

    #[track_caller]
    pub fn run_id(&mut self) -> String {
        self.wait_for(|f| f["event"] == "run_started")["run"].as_str().unwrap().to_owned()
    }

    /// Waits until the stage runs; its pid.
    #[track_caller]
    pub fn started(&mut self, stage: &str) -> u32 {
        pid(self.wait_for(|f| f["event"] == "stage_started" && f["stage"] == stage))
    }

    #[track_caller]
    pub fn ended(&mut self, stage: &str) -> Value {
        self.wait_for(|f| f["event"] == "stage_ended" && f["stage"] == stage)
    }

    /// The first fact of this kind, which may have come already.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(fact) = self.seen.iter().find(|f| wanted(f)) {
            return fact.clone();
        }
        while self.next() {
            if let Some(fact) = self.seen.last().filter(|f| wanted(f)) {
                return fact.clone();
            }
        }
        self.give_up("the run ended before what was waited for")
    }

    /// Waits until the file beside the pipeline has text in it.
    #[track_caller]
    pub fn said(&mut self, name: &str) -> String {
        let path = self.folder.join(name);
        self.until(&format!("{name} to be written"), || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    /// Looks until there is something to see.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            if Instant::now() > self.deadline {
                self.give_up(&format!("waited in vain for {what}"));
            }
            std::thread::sleep(LOOK);
        }
    }

    pub fn signal(&self, signal: i32) -> &Self {
        send(self.guardian(), signal);
        self
    }

    /// False when the run's output has ended.
    #[track_caller]
    fn next(&mut self) -> bool {
        match self.facts.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(fact) => self.seen.push(fact),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => self.give_up("the deadline has passed"),
        }
        true
    }

    /// The end of the run, which leaves no process behind.
    #[track_caller]
    pub fn finish(self) -> Done {
        let folder = self.folder.clone();
        let done = self.with_leftovers();
        assert_eq!(leftovers(&folder), Vec::<String>::new(), "left behind by {done:#?}");
        done
    }

    /// The end of the run, while another run may work in the same folder.
    #[track_caller]
    pub fn with_leftovers(mut self) -> Done {
        while self.next() {}
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > self.deadline => self.give_up("its output ended, but it did not"),
                None => std::thread::sleep(LOOK),
            }
        };
        let facts = std::mem::take(&mut self.seen);
        let stderr = self.stderr.take().map(|t| t.join().unwrap()).unwrap_or_default();
        Done { code: status.code(), facts, stderr }
    }

    #[track_caller]
    fn give_up(&mut self, why: &str) -> ! {
        let left = leftovers(&self.folder);
        self.end();
        let stderr = self.stderr.take().map(|t| t.join().unwrap()).unwrap_or_default();
        panic!("{why}\nprocesses: {left:#?}\nfacts: {:#?}\nstderr:\n{stderr}", self.seen);
    }

    /// Ends it hard.
    fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            family::children_of(self.guardian()).iter().for_each(|&runner| send(runner, KILL));
            let _ = self.child.wait();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub facts: Vec<Value>,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Where in the order of things the fact stands.
    #[track_caller]
    pub fn at(&self, event: &str, stage: &str) -> usize {
        let found = self.facts.iter().position(|f| f["event"] == event && f["stage"] == stage);
        found.unwrap_or_else(|| panic!("no {event} of {stage} in {self:#?}"))
    }

    #[track_caller]
    pub fn stage(&self, stage: &str) -> &Value {
        &self.facts[self.at("stage_ended", stage)]
    }

    #[track_caller]
    pub fn outcome(&self, stage: &str) -> &str {
        self.stage(stage)["outcome"].as_str().unwrap()
    }

    #[track_caller]
    pub fn outcomes(&self, wanted: &[(&str, &str)]) {
        for (stage, outcome) in wanted {
            assert_eq!(self.outcome(stage), *outcome, "{stage} in {self:#?}");
        }
    }

    #[track_caller]
    pub fn edge(&self, edge: &str) -> &Value {
        let found = self.facts.iter().find(|f| f["event"] == "edge_ended" && f["edge"] == edge);
        found.unwrap_or_else(|| panic!("no edge {edge} in {self:#?}"))
    }

    pub fn of(&self, event: &str) -> Vec<&Value> {
        self.facts.iter().filter(|f| f["event"] == event).collect()
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in stderr:\n{}\n{:#?}", self.stderr, self.facts);
        }
    }
}

pub fn pid(fact: Value) -> u32 {
    fact["pid"].as_u64().unwrap() as u32
}

/// To a process that may be gone.
pub fn send(pid: u32, signal: i32) {
    let _ = process::open(pid).and_then(|pidfd| process::signal(pidfd.as_fd(), signal));
}

/// Every living process that works in this folder: stages and what they started, whatever they did to their
/// environment, session and parents.
pub fn leftovers(folder: &Path) -> Vec<String> {
    let is_ours = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let name = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", line.replace('\0', " "))
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_ours).map(name).collect()
}
