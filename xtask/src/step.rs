//! Steps with a name and a time, and the programs they call. A step that fails shows what it said.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

/// What is wrong, for people.
pub type Result<T = ()> = std::result::Result<T, String>;

/// No program of a step may take longer, unless it says so.
const MINUTES: u32 = 5;

/// This much of what a failing program said is shown: the end of it.
const SHOWN_BYTES: usize = 200_000;

#[derive(Debug, Default)]
pub struct Steps {
    done: usize,
    failed: Option<&'static str>,
}

impl Steps {
    pub fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("== {name}");
        let start = Instant::now();
        let result = step();
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(_) => {
                self.done += 1;
                println!("   ok, {seconds:.1} s");
            }
            Err(_) => {
                self.failed = Some(name);
                println!("   FAILED, {seconds:.1} s");
            }
        }
        result
    }

    pub fn end(&self, done: Result) -> ExitCode {
        match done {
            Ok(()) => {
                println!("all {} steps ok", self.done);
                ExitCode::SUCCESS
            }
            Err(message) => {
                eprintln!("{}\nfailed: {}", message.trim_end(), self.failed.unwrap_or("before the first step"));
                ExitCode::FAILURE
            }
        }
    }
}

/// A program with its arguments, stopped when it takes too long.
#[derive(Debug)]
pub struct Program {
    words: Vec<std::ffi::OsString>,
    env: Vec<(&'static str, String)>,
    stdin: Option<PathBuf>,
    folder: Option<PathBuf>,
    minutes: u32,
}

impl Program {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { words: vec![program.as_ref().to_owned()], env: vec![], stdin: None, folder: None, minutes: MINUTES }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.words.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub fn stdin(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Some(file.into());
        self
    }

    /// Where it runs; the root of the repository if not said.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    pub fn minutes(mut self, minutes: u32) -> Self {
        self.minutes = minutes;
        self
    }

    /// Runs to its end, which has to be a good one.
    pub fn done(&self) -> Result {
        self.stdout().map(drop)
    }

    /// What it wrote to stdout; the end has to be a good one.
    pub fn stdout(&self) -> Result<Vec<u8>> {
        self.ends(0)
    }

    /// What it wrote to stdout; it has to end with this exit code.
    pub fn ends(&self, code: i32) -> Result<Vec<u8>> {
        let output = self.output()?;
        match output.status.code() == Some(code) {
            true => Ok(output.stdout),
            false => Err(self.complain(&output, code)),
        }
    }

    pub fn output(&self) -> Result<Output> {
        let mut command = Command::new("timeout");
        // `timeout` puts itself and the program into a group of their own and kills that.
        command
            .args(["--kill-after=10", &format!("{}m", self.minutes)])
            .args(&self.words)
            .envs(self.env.iter().cloned());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let stdin = match &self.stdin {
            Some(path) => std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?.into(),
            None => Stdio::null(),
        };
        command.stdin(stdin).output().map_err(|e| format!("{self}: {e}"))
    }

    fn complain(&self, output: &Output, wanted: i32) -> String {
        let mut text = format!("$ {self}\n");
        for stream in [&output.stdout, &output.stderr] {
            let tail = &stream[stream.len().saturating_sub(SHOWN_BYTES)..];
            text.push_str(&String::from_utf8_lossy(tail));
        }
        match output.status.code() {
            Some(124) => _ = write!(text, "\nit did not end within {} minutes", self.minutes),
            _ if wanted == 0 => _ = write!(text, "\nit ended with {}", output.status),
            _ => _ = write!(text, "\nit ended with {} instead of {wanted}", output.status),
        }
        text
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = self.words.iter().map(|w| w.to_string_lossy()).collect();
        f.write_str(&words.join(" "))
    }
}
