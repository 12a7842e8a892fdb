//! Everything one attempt of a task needs before its process can be made: program, arguments, environment,
//! descriptors, limits — each failure with the place in the file that asked for it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nexusflow_sys::fsuser::as_user;
use nexusflow_sys::pipe;
use nexusflow_sys::sched::{MemoryMode, MemoryPolicy, Scheduler};
use nexusflow_sys::signal::SIGKILL;
use nexusflow_sys::spawn::{Child, Identity, Resource, Spawn, SpawnError, Step};
use nexusflow_sys::user::{self, User};

use super::Context;
use super::program::{NoProgram, Programs};
use crate::diag::{Diagnostic, Span, codes};
use crate::pipeline::{Stage, Stdin, Stdout};
use crate::plan::{self, TaskId};
use crate::spec::{Command, Piece, SchedClass, Text};

/// Where a stage with edges of its own finds its control socket.
pub(super) const CONTROL_FD: RawFd = 3;

/// Of a replica that is restarted again and again, the logs of the first attempt and of this many more.
const KEPT_LOGS: u32 = 20;

/// The descriptors that gang and edges give to one attempt; closed here once the process has them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub control: Option<OwnedFd>,
    /// One per `bind`, in that order.
    pub binds: Vec<OwnedFd>,
}

/// A process that has exec'd.
#[derive(Debug)]
pub(super) struct Launched {
    pub child: Child,
    pub log: PathBuf,
}

/// Makes processes, and keeps what is the same for all of them.
pub(super) struct Launcher<'a> {
    cx: &'a Context,
    /// The inherited environment, by name and as `NAME=value`.
    inherited: Vec<(&'a OsStr, CString)>,
    programs: Programs,
}

impl<'a> Launcher<'a> {
    pub fn new(cx: &'a Context) -> Self {
        let inherited = cx.base_env.iter().map(|(k, v)| (k.as_os_str(), variable(k, v))).collect();
        Self { cx, inherited, programs: Programs::default() }
    }

    /// Makes the process of one attempt.
    pub fn launch(&mut self, task: TaskId, attempt: u32, ends: Ends) -> Result<Launched, Box<Diagnostic>> {
        let cx = self.cx;
        let planned = cx.plan.task(task);
        let stage = cx.pipeline.stage(planned.stage);
        let scene = Scene { cx, stage, planned, attempt, first_bind: CONTROL_FD + i32::from(ends.control.is_some()) };
        let user = scene.user()?;
        let env = scene.environment(user.as_ref(), ends.control.is_some());
        let argv = scene.argv();
        let path = [&env, &cx.base_env].into_iter().find_map(|env| env.get(OsStr::new("PATH")));
        let program = self
            .programs
            .find(&argv[0], path.map(OsString::as_os_str), &cx.pipeline.dir)
            .map_err(|e| scene.no_program(argv[0].as_bytes(), e))?;
        let cwd = match &stage.cwd {
            Some(text) => cx.pipeline.dir.join(scene.render_path(text)),
            None => cx.pipeline.dir.clone(),
        };
        let log_path = cx.log_path(stage, planned.replica, attempt);
        if let Some(old) = attempt.checked_sub(KEPT_LOGS).filter(|&old| old > 1) {
            let _ = std::fs::remove_file(cx.log_path(stage, planned.replica, old));
        }
        let log = open_log(&log_path).map_err(|e| {
            scene.failed(codes::STATE_FOLDER, &stage.span, format!("create the log {}", log_path.display()), e)
        })?;
        let stdin = scene.stdin(ends.stdin)?;
        let stdout = scene.stdout(ends.stdout, user.as_ref())?;
        if let Some(user) = &user {
            let pipes = ends.binds.iter().chain(stdin.owned()).chain(stdout.owned()).map(AsFd::as_fd);
            for fd in pipes.chain([log.as_fd()]) {
                // A program that opens /dev/fd/N or /dev/stderr opens what is there anew, as its own user.
                pipe::set_owner(fd, user.uid, user.gid).map_err(|e| scene.not_its_user(&user.name, &e))?;
            }
        }

        let mut fds: Vec<(BorrowedFd, RawFd)> = vec![(stdin.fd(), 0), (stdout.fd_or(&log), 1), (log.as_fd(), 2)];
        fds.extend(ends.control.as_ref().map(|c| (c.as_fd(), CONTROL_FD)));
        fds.extend(ends.binds.iter().zip(scene.first_bind..).map(|(fd, at)| (fd.as_fd(), at)));

        let argv = c_strings(argv.into_iter().map(OsString::into_vec));
        let inherited =
            self.inherited.iter().filter(|(name, _)| !env.contains_key(*name)).map(|(_, entry)| entry.clone());
        let envp: Vec<CString> = inherited.chain(env.iter().map(|(k, v)| variable(k, v))).collect();
        let program = c_string(program.into_os_string().into_vec());
        let cwd = c_string(cwd.into_os_string().into_vec());
        let identity = user.as_ref().map(|u| Identity { uid: u.uid, gid: u.gid, groups: &u.groups });
        let (scheduler, nice) = scene.scheduling();
        let spawn = Spawn {
            program: &program,
            argv: &argv,
            envp: &envp,
            cgroup: None,
            own_group: true,
            affinity: (!planned.cpus.is_empty()).then(|| planned.cpus.as_slice()),
            memory: memory_policy(planned),
            scheduler,
            nice,
            rlimits: &[(Resource::Nofile, cx.open_files.0, cx.open_files.1)],
            fds: &fds,
            cwd: Some(&cwd),
            identity,
            death_signal: Some(SIGKILL),
        };
        match spawn.run() {
            Ok(child) => Ok(Launched { child, log: log_path }),
            Err(e) => {
                let _ = std::fs::remove_file(&log_path); // nothing ran, so nothing is in it
                Err(scene.not_spawned(e))
            }
        }
    }
}

/// One attempt's surroundings, and the words for what goes wrong in it.
struct Scene<'a> {
    cx: &'a Context,
    stage: &'a Stage,
    planned: &'a plan::Task,
    attempt: u32,
    first_bind: RawFd,
}

impl Scene<'_> {
    fn render(&self, text: &Text) -> OsString {
        let mut out = OsString::new();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(s) => out.push(s),
                Piece::Replica => out.push(self.planned.replica.to_string()),
                Piece::SelfPath => out.push(&self.cx.self_path),
                Piece::Edge(name) => {
                    let at = self.stage.bind.iter().position(|b| self.cx.pipeline.edge(b.edge).name == *name);
                    // The pipeline stage has checked that every `${edge.NAME}` is bound.
                    out.push(format!("/dev/fd/{}", self.first_bind + at.unwrap_or(0) as i32));
                }
            }
        }
        out
    }

    fn render_path(&self, text: &Text) -> PathBuf {
        PathBuf::from(self.render(text))
    }

    fn argv(&self) -> Vec<OsString> {
        match &self.stage.command {
            Command::Argv(words) => words.iter().map(|w| self.render(&w.value)).collect(),
            Command::Shell { run, with } => with.iter().chain([run]).map(OsString::from).collect(),
        }
    }

    /// What the process finds in its environment beside, or in place of, what it inherits: what the file says, then ours.
    fn environment(&self, user: Option<&User>, control: bool) -> BTreeMap<OsString, OsString> {
        let mut env = BTreeMap::<OsString, OsString>::new();
        if let Some(user) = user {
            env.insert("HOME".into(), user.home.clone().into());
            env.insert("USER".into(), user.name.clone().into());
            env.insert("LOGNAME".into(), user.name.clone().into());
        }
        if matches!(self.stage.command, Command::Shell { .. }) {
            env.extend(self.cx.pipeline.vars.iter().map(|(k, v)| (k.into(), v.into())));
        }
        if self.planned.pinned {
            // Numeric libraries otherwise start a thread for every CPU of the machine.
            let places = self.planned.cpus.iter().map(|c| format!("{{{c}}}")).collect::<Vec<_>>().join(",");
            for (name, value) in [("OMP_NUM_THREADS", self.planned.cpus.len().to_string()), ("OMP_PLACES", places)] {
                if !self.cx.base_env.contains_key(OsStr::new(name)) {
                    env.entry(name.into()).or_insert(value.into());
                }
            }
        }
        env.extend(self.stage.env.iter().map(|(k, text)| (k.into(), self.render(text))));
        let ours = [
            ("NEXUSFLOW_BIN", self.cx.self_path.clone().into_os_string()),
            ("NEXUSFLOW_RUN", self.cx.run_id.clone().into()),
            ("NEXUSFLOW_PIPELINE", self.cx.pipeline.name.clone().into()),
            ("NEXUSFLOW_STAGE", self.stage.name.clone().into()),
            ("NEXUSFLOW_REPLICA", self.planned.replica.to_string().into()),
            ("NEXUSFLOW_REPLICAS", self.stage.replicas.to_string().into()),
            ("NEXUSFLOW_ATTEMPT", self.attempt.to_string().into()),
        ];
        env.extend(ours.map(|(k, v)| (OsString::from(k), v)));
        if control {
            env.insert("NEXUSFLOW_CONTROL_FD".into(), CONTROL_FD.to_string().into());
        }
        env
    }

    fn user(&self) -> Result<Option<User>, Box<Diagnostic>> {
        let Some(name) = &self.stage.user else { return Ok(None) };
        let span = self.stage.user_span.as_ref().unwrap_or(&self.stage.span);
        match user::by_name(name) {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => Err(Box::new(
                Diagnostic::error(codes::USER, format!("stage `{}`: there is no user `{name}`", self.stage.name))
                    .at(span, "not a user of this machine")
                    .help("`getent passwd` lists the users there are"),
            )),
            Err(e) => Err(self.failed(codes::USER, span, format!("look the user `{name}` up"), e)),
        }
    }

    fn stdin(&self, given: Option<OwnedFd>) -> Result<Input, Box<Diagnostic>> {
        if let Some(fd) = given {
            return Ok(Input(fd, true));
        }
        let (path, span) = match &self.stage.stdin {
            Stdin::File(text) => (self.cx.pipeline.dir.join(self.render_path(&text.value)), &text.span),
            Stdin::Null | Stdin::Edge { .. } => (PathBuf::from("/dev/null"), &self.stage.span),
        };
        match refuse_fifo(&path).and_then(|()| File::open(&path)) {
            Ok(file) => Ok(Input(file.into(), false)),
            Err(e) => Err(self.failed(codes::STREAM_FILE, span, format!("open {} as its stdin", path.display()), e)),
        }
    }

    fn stdout(&self, given: Option<OwnedFd>, user: Option<&User>) -> Result<Output, Box<Diagnostic>> {
        if let Some(fd) = given {
            return Ok(Output(Some((fd, true))));
        }
        let Stdout::File(text) = &self.stage.stdout else { return Ok(Output(None)) };
        let written = self.render_path(&text.value);
        let failed =
            |e| self.failed(codes::STREAM_FILE, &text.span, format!("open {} as its stdout", written.display()), e);
        // The runner's own streams: shared, never emptied.
        let own = match written.to_str() {
            Some("/dev/stdout") => Some(io::stdout().as_fd().try_clone_to_owned()),
            Some("/dev/stderr") => Some(io::stderr().as_fd().try_clone_to_owned()),
            _ => None,
        };
        if let Some(fd) = own {
            return Ok(Output(Some((fd.map_err(failed)?, false))));
        }
        let path = self.cx.pipeline.dir.join(&written);
        let open = || {
            refuse_fifo(&path)?;
            OpenOptions::new().write(true).create(true).truncate(true).open(&path)
        };
        let file = match user {
            Some(u) => as_user(u, open),
            None => open(),
        };
        Ok(Output(Some((file.map_err(failed)?.into(), false))))
    }

    fn scheduling(&self) -> (Option<Scheduler>, Option<i32>) {
        let s = &self.stage.scheduling;
        let scheduler = match s.class {
            SchedClass::Other => None,
            SchedClass::Batch => Some(Scheduler::Batch),
            SchedClass::Idle => Some(Scheduler::Idle),
            SchedClass::Fifo { priority } => Some(Scheduler::Fifo(priority as i32)),
            SchedClass::RoundRobin { priority } => Some(Scheduler::RoundRobin(priority as i32)),
        };
        (scheduler, s.nice)
    }

    fn failed(&self, code: crate::diag::Code, span: &Span, what: impl AsRef<str>, e: io::Error) -> Box<Diagnostic> {
        Box::new(
            Diagnostic::error(
                code,
                format!("stage `{}` cannot start: could not {}: {}", self.stage.name, what.as_ref(), reason(&e)),
            )
            .at(span, "asked for here")
            .help("mend this and run the pipeline again"),
        )
    }

    fn not_its_user(&self, user: &str, e: &io::Error) -> Box<Diagnostic> {
        let stage = self.stage;
        let message = format!("stage `{}` cannot start: could not become the user `{user}`: {}", stage.name, reason(e));
        Box::new(
            Diagnostic::error(codes::USER, message)
                .at(stage.user_span.as_ref().unwrap_or(&stage.span), "asked for here")
                .help("start nexusflow as root (or with CAP_SETUID, CAP_SETGID and CAP_CHOWN), or leave `user` out"),
        )
    }

    fn no_program(&self, name: &[u8], e: NoProgram) -> Box<Diagnostic> {
        let name = String::from_utf8_lossy(name);
        let stage = &self.stage.name;
        let span = &self.stage.command_span;
        Box::new(match e {
            NoProgram::Missing { looked_in } => Diagnostic::error(
                codes::PROGRAM_NOT_FOUND,
                format!("stage `{stage}` cannot start: there is no program `{name}`"),
            )
            .at(span, "not found")
            .note(format!("looked in {looked_in}"))
            .help(match name.contains([' ', '|', '>', ';']) {
                true => "`command` is a list of words, without a shell; for a line of shell write `shell: …` instead",
                false => "check the spelling, install the program, or give its path with a slash",
            }),
            NoProgram::Directory(path) => Diagnostic::error(
                codes::PROGRAM_NOT_EXECUTABLE,
                format!("stage `{stage}` cannot start: {} is a directory, not a program", path.display()),
            )
            .at(span, "a directory")
            .help("name the program inside it"),
            NoProgram::NotExecutable(path) => Diagnostic::error(
                codes::PROGRAM_NOT_EXECUTABLE,
                format!("stage `{stage}` cannot start: {} is not executable", path.display()),
            )
            .at(span, "may not be executed")
            .help(format!("`chmod +x {}`, or name its interpreter first in `command`", path.display())),
        })
    }

    fn not_spawned(&self, e: SpawnError) -> Box<Diagnostic> {
        let stage = self.stage;
        let placement = stage.placement.as_ref().map_or(&stage.span, |p| &p.span);
        let error = io::Error::from_raw_os_error(e.errno);
        let (code, span, help) = match e.step {
            Step::Directory => (
                codes::WORKING_DIRECTORY,
                stage.cwd_span.as_ref().unwrap_or(&stage.span),
                "create the directory, or correct `cwd`; a relative one starts at the pipeline file's folder",
            ),
            Step::Identity => (
                codes::USER,
                stage.user_span.as_ref().unwrap_or(&stage.span),
                "start nexusflow as root (or with CAP_SETUID and CAP_SETGID), or leave `user` out",
            ),
            Step::Affinity => (
                codes::START_FAILED,
                placement,
                "the CPUs this process may use have changed since the plan was made: run it again",
            ),
            Step::Memory => (
                codes::START_FAILED,
                placement,
                "the kernel refused this memory policy: is NUMA support there, and are the nodes allowed here?",
            ),
            Step::Scheduler | Step::Nice => (
                codes::START_FAILED,
                &stage.span,
                "real-time classes and negative nice values need CAP_SYS_NICE (or RLIMIT_RTPRIO, RLIMIT_NICE)",
            ),
            Step::Process => {
                (codes::LIMIT, &stage.span, "raise the limit on processes (`ulimit -u`) or memory, or lower `parallel`")
            }
            Step::Execute => (codes::PROGRAM_NOT_EXECUTABLE, &stage.command_span, help_with_execute(error.kind())),
            _ => (codes::START_FAILED, &stage.span, "mend this and run the pipeline again"),
        };
        Box::new(
            Diagnostic::error(
                code,
                format!("stage `{}` cannot start: could not {}: {}", stage.name, e.step, reason(&error)),
            )
            .at(span, "asked for here")
            .help(help),
        )
    }
}

/// A descriptor for 0, and whether it is a pipe of ours.
struct Input(OwnedFd, bool);
/// A descriptor for 1 (`None`: the log), and whether it is a pipe of ours.
struct Output(Option<(OwnedFd, bool)>);

impl Input {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn owned(&self) -> Option<&OwnedFd> {
        self.1.then_some(&self.0)
    }
}

impl Output {
    fn fd_or<'a>(&'a self, log: &'a File) -> BorrowedFd<'a> {
        self.0.as_ref().map_or(log.as_fd(), |(fd, _)| fd.as_fd())
    }

    fn owned(&self) -> Option<&OwnedFd> {
        self.0.as_ref().filter(|(_, ours)| *ours).map(|(fd, _)| fd)
    }
}

/// Opening a FIFO waits for who opens its other end, and all that is to be started or stopped after it would wait too.
/// The runner's own /dev/stdin may be a pipe: that has its other end, and no path.
fn refuse_fifo(path: &Path) -> io::Result<()> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo());
    if is_fifo && path.canonicalize().is_ok() {
        return Err(io::Error::other("it is a FIFO; join stages by an edge, or let the stage open it itself"));
    }
    Ok(())
}

/// A new log, whatever lies in its place.
fn open_log(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            options.open(path)
        }
        result => result,
    }
}

fn memory_policy(task: &plan::Task) -> Option<MemoryPolicy<'_>> {
    let mode = match task.memory {
        plan::MemoryPolicy::Default => return None,
        plan::MemoryPolicy::Local => return Some(MemoryPolicy { mode: MemoryMode::Local, nodes: &[] }),
        plan::MemoryPolicy::Bind => MemoryMode::Bind,
        plan::MemoryPolicy::Preferred => MemoryMode::Preferred,
        plan::MemoryPolicy::Interleave => MemoryMode::Interleave,
    };
    Some(MemoryPolicy { mode, nodes: task.nodes.as_slice() })
}

fn help_with_execute(kind: io::ErrorKind) -> &'static str {
    match kind {
        // It was there a moment ago: what is missing is what it needs.
        io::ErrorKind::NotFound => {
            "its interpreter is missing: the one its `#!` line names, or the loader it was linked for"
        }
        io::ErrorKind::ArgumentListTooLong => {
            "arguments and environment are too long: pass a file, or set `env_inherit`"
        }
        io::ErrorKind::PermissionDenied => "may this user execute it, and is its file system mounted without `noexec`?",
        _ => "is it a program for this machine, or a script with a `#!` line?",
    }
}

/// The system's reason without Rust's `(os error 2)`.
pub(super) fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// NUL cannot stand in a file that was accepted, so nothing is cut short here.
fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_else(|e| {
        let at = e.nul_position();
        CString::new(&e.into_vec()[..at]).unwrap_or_default()
    })
}

fn variable(name: &OsStr, value: &OsStr) -> CString {
    c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
}

fn c_strings(words: impl Iterator<Item = Vec<u8>>) -> Vec<CString> {
    words.map(c_string).collect()
}
