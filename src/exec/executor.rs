//! The loop of a run: waits for whatever happens, hands it to the decider as an event, performs the
//! actions that come back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use jiff::Timestamp;
use nexusflow_sys::event::{Epoll, EventFd, EventFlags, Events};
use nexusflow_sys::guardian::Guardian;
use nexusflow_sys::signal::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGTERM, SignalFd};
use nexusflow_sys::{children, guardian, process, signal};

use super::adapter::{self, Adapter, ProcessEnd};
use super::attempt::{Attempt, Told};
use super::control::{Control, Next};
use super::ctl::RunSocket;
use super::preparer::{self, Preparer};
use super::report::{self, Ran, task_name};
use super::spawner::{Answer, Request, Spawner};
use super::tree::{self, Mark};
use super::wiring::{Gang, Half, Late};
use super::{Context, Observer};
use crate::diag::{Diagnostic, codes};
use crate::pipeline::{EdgeId, GangId, StageId};
use crate::plan::TaskId;
use crate::record::{EdgeEnded, Fact, RunEnded, RunOutcome, RunStarted, StageStarted, Usage};
use crate::run::{Action, Ending, Event, Exit, Outcome, State};
use crate::spec::{Delivery, Scope, Signal};

const HELD: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGCHLD];

/// The exit code of a run that could not go on.
const BROKEN_OFF: u8 = 5;

/// What made it impossible to run at all; stages' own troubles are facts, not failures.
#[derive(Debug)]
pub struct Failure {
    pub what: &'static str,
    pub error: io::Error,
}

/// Blocks the signals that ask a run to end, and SIGCHLD, which [`execute`] reads as events. A thread that was made
/// before would get them instead, and take the process along.
pub fn hold_signals() -> io::Result<signal::Mask> {
    signal::block(&HELD)
}

/// Runs the plan to its end. Every thread of this process was made after [`hold_signals`].
pub fn execute(cx: Context, lifeline: &Guardian, observers: &mut [Box<dyn Observer>]) -> Result<Ending, Failure> {
    Executor::new(cx, lifeline, observers)
        .map_err(|error| Failure { what: "set the event loop up", error })?
        .run()
        .map_err(|error| Failure { what: "wait for events", error })
}

/// What an epoll token stands for: the kind above, the task below.
mod token {
    pub const SIGNALS: u64 = 1 << 32;
    pub const LIFELINE: u64 = 2 << 32;
    pub const SPAWNED: u64 = 3 << 32;
    pub const ADAPTERS: u64 = 4 << 32;
    pub const PROCESS: u64 = 5 << 32;
    pub const CONTROL: u64 = 6 << 32;
    pub const PREPARED: u64 = 7 << 32;
    pub const RUN_SOCKET: u64 = 8 << 32;
    /// Below it the number of a client of the run socket.
    pub const CLIENT: u64 = 9 << 32;

    pub fn split(token: u64) -> (u64, crate::plan::TaskId) {
        (token & !0xffff_ffff, crate::plan::TaskId(token as u32))
    }
}

struct Executor<'a> {
    cx: Arc<Context>,
    observers: &'a mut [Box<dyn Observer>],
    state: State,
    clock: Instant,
    epoll: Epoll,
    signals: SignalFd,
    /// Hangs up when the guardian dies.
    lifeline: OwnedFd,
    spawned: Arc<EventFd>,
    spawner: Spawner,
    prepared: Arc<EventFd>,
    preparer: Preparer,
    adapted: Arc<EventFd>,
    adapter_reports: Receiver<adapter::Report>,
    adapter_sender: adapter::Reporter,
    attempts: Vec<Option<Box<Attempt>>>,
    gangs: BTreeMap<GangId, Gang>,
    run_socket: RunSocket,
    /// What had gone through edges of gangs that began anew.
    emptied: HashMap<GangId, Vec<EdgeEnded>>,
    /// Why the gang's edges could not be made.
    unprepared: HashMap<GangId, Diagnostic>,
    pending: VecDeque<Event>,
    /// A child has died: look for orphans that are dead or whose stage is.
    bury: bool,
    ending: Option<Ending>,
}

impl<'a> Executor<'a> {
    fn new(cx: Context, lifeline: &Guardian, observers: &'a mut [Box<dyn Observer>]) -> io::Result<Self> {
        let cx = Arc::new(cx);
        let signals = SignalFd::new(&HELD)?;
        let epoll = Epoll::new()?;
        let spawned = Arc::new(EventFd::new()?);
        let prepared = Arc::new(EventFd::new()?);
        let adapted = Arc::new(EventFd::new()?);
        epoll.add(signals.as_fd(), token::SIGNALS, EventFlags::IN)?;
        epoll.add(spawned.as_fd(), token::SPAWNED, EventFlags::IN)?;
        epoll.add(prepared.as_fd(), token::PREPARED, EventFlags::IN)?;
        epoll.add(adapted.as_fd(), token::ADAPTERS, EventFlags::IN)?;
        let lifeline = lifeline.lifeline.try_clone()?;
        epoll.add(&lifeline, token::LIFELINE, EventFlags::IN)?;
        let (adapter_sender, adapter_reports) = adapter::reports(&adapted);
        Ok(Self {
            state: State::new(&cx.pipeline, &cx.plan),
            spawner: Spawner::new(&cx, &spawned)?,
            preparer: Preparer::new(&cx, &prepared)?,
            attempts: (0..cx.plan.tasks.len()).map(|_| None).collect(),
            observers,
            clock: Instant::now(),
            epoll,
            signals,
            lifeline,
            spawned,
            prepared,
            adapted,
            adapter_reports,
            adapter_sender,
            gangs: BTreeMap::new(),
            run_socket: RunSocket::default(),
            emptied: HashMap::new(),
            unprepared: HashMap::new(),
            pending: VecDeque::from([Event::Begin]),
            bury: false,
            ending: None,
            cx,
        })
    }

    fn run(mut self) -> io::Result<Ending> {
        self.tell(Fact::RunStarted(RunStarted {
            run: self.cx.run_id.clone(),
            pipeline: self.cx.pipeline.name.clone(),
            file: self.cx.file.clone(),
            logs: self.cx.log_dir.display().to_string(),
            pid: std::process::id(),
            at: Timestamp::now(),
            stages: self.cx.pipeline.stages.len() as u32,
            tasks: self.cx.plan.tasks.len() as u32,
            version: env!("CARGO_PKG_VERSION").into(),
        }));
        let opened = self.run_socket.open(&self.cx, &self.epoll, token::RUN_SOCKET);
        self.trouble_if(opened);
        let ended = self.turn();
        // What hid from its stage (no group, no environment of ours) ends with the run.
        drop(self.spawner);
        children::kill_all_descendants(guardian::KILL_LIMIT);
        let (outcome, exit_code) = match &ended {
            Ok(ending) => (report::run_outcome(*ending), ending.exit_code()),
            Err(_) => (RunOutcome::Failed, BROKEN_OFF),
        };
        let fact = Fact::RunEnded(RunEnded {
            outcome,
            exit_code: exit_code.into(),
            at: Timestamp::now(),
            duration_s: self.clock.elapsed().as_secs_f64(),
        });
        self.observers.iter_mut().for_each(|o| o.fact(&fact));
        ended
    }

    /// Everything between the first and the last fact.
    fn turn(&mut self) -> io::Result<Ending> {
        let mut ready = Events::default();
        let mut actions = Vec::new();
        loop {
            while let Some(event) = self.pending.pop_front() {
                self.state.step(event, self.clock.elapsed(), &mut actions);
                for action in actions.drain(..) {
                    self.perform(action);
                }
            }
            if let Some(ending) = self.ending {
                return Ok(ending);
            }
            let timeout = self.state.next_deadline().map(|at| at.saturating_sub(self.clock.elapsed()));
            self.epoll.wait(&mut ready, timeout)?;
            for event in ready.iter() {
                self.happened(event.token)?;
            }
            if std::mem::take(&mut self.bury) {
                self.bury_orphans();
            }
            if self.state.next_deadline().is_some_and(|at| at <= self.clock.elapsed()) {
                self.pending.push_back(Event::Tick);
            }
        }
    }

    /// Reaps adopted processes that have died, and kills those whose attempt is over.
    fn bury_orphans(&self) {
        tree::bury_orphans(&self.cx.run_id, |stage, replica, attempt| {
            let task = self.cx.pipeline.stages.iter().position(|s| s.name == stage);
            let task = task.and_then(|s| tasks_of(&self.cx, StageId(s as u32)).nth(replica as usize));
            let current = task.and_then(|t| self.attempts[t.0 as usize].as_deref());
            current.is_some_and(|a| a.number == attempt && a.exit.is_none())
        });
    }

    fn happened(&mut self, token: u64) -> io::Result<()> {
        let (kind, task) = token::split(token);
        match kind {
            token::SIGNALS => {
                while let Some(arrived) = self.signals.read()? {
                    match arrived.signal {
                        SIGCHLD => self.bury = true,
                        signal => self.pending.push_back(Event::Interrupted(Signal(signal))),
                    }
                }
            }
            token::LIFELINE => {
                self.epoll.delete(&self.lifeline)?;
                self.pending.push_back(Event::Orphaned);
            }
            token::SPAWNED => {
                self.spawned.drain()?;
                while let Ok(answer) = self.spawner.answers.try_recv() {
                    self.spawn_answered(answer);
                }
            }
            token::PREPARED => {
                self.prepared.drain()?;
                while let Some(answer) = self.preparer.answer() {
                    self.edges_made(answer);
                }
            }
            token::ADAPTERS => {
                self.adapted.drain()?;
                while let Ok(report) = self.adapter_reports.try_recv() {
                    self.adapter_ended(report);
                }
            }
            token::PROCESS => self.process_ended(task),
            token::CONTROL => self.control_spoke(task),
            token::RUN_SOCKET => {
                let accepted = self.run_socket.accept(&self.epoll, token::CLIENT);
                self.trouble_if(accepted);
            }
            token::CLIENT => self.run_socket.serve(task.0, &self.epoll, token::CLIENT, &self.cx, &self.gangs),
            _ => unreachable!("no token of ours: {token:#x}"),
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Prepare(gang) => self.prepare(gang),
            Action::Spawn(task) => self.spawn(task),
            Action::OpenEdges(gang) => self.open_edges(gang),
            Action::Release(task) => self.release(task, Gang::release),
            Action::Abandon(task) => self.release(task, Gang::abandon),
            Action::Signal(task, signal) => self.signal(task, signal.0),
            Action::Kill(task) => self.signal(task, SIGKILL),
            Action::AskDrained(task) => {
                let adapters = self.attempts[task.0 as usize].iter().flat_map(|a| &a.adapters);
                let fed: Vec<EdgeId> = adapters.filter(|a| a.has_fed()).map(|a| a.edge).collect();
                let gang = self.gangs.get(&self.gang_of(task));
                let drained = gang.is_none_or(|gang| gang.drained(self.owner(task), &fed));
                self.pending.push_back(Event::Drained(task, drained));
            }
            Action::Restarting(task, outcome, wait) => {
                // One that is done has been told of.
                if let Some(attempt) = self.attempts[task.0 as usize].take() {
                    self.stage_ended(task, outcome, attempt.ran(Some(wait)));
                }
            }
            Action::Done(task) => {
                let attempt = self.attempts[task.0 as usize].take().expect("what succeeds has run");
                self.stage_ended(task, Outcome::Succeeded, attempt.ran(None));
            }
            Action::Settled(task, outcome) => match self.attempts[task.0 as usize].take() {
                Some(attempt) => self.stage_ended(task, outcome, attempt.ran(None)),
                None if outcome == Outcome::Succeeded => {} // told when it was done
                None => {
                    let attempts = self.state.attempt(task);
                    let attempt = if attempts == 0 { 0 } else { attempts + 1 }; // the one that was still to come
                    self.stage_ended(task, outcome, Ran { attempt, ..Ran::default() });
                }
            },
            Action::Dissolve(gang) => {
                self.preparer.cancel(gang);
                self.unprepared.remove(&gang);
                self.run_socket.dissolved(&self.cx, gang);
                let mut ended = self.emptied.remove(&gang).unwrap_or_default();
                if let Some(gang) = self.gangs.remove(&gang) {
                    gang.edges_ended(&self.cx, &mut ended);
                }
                ended.into_iter().for_each(|edge| self.tell(Fact::EdgeEnded(edge)));
            }
            Action::Finish(ending) => self.ending = Some(ending),
        }
    }

    fn release(&mut self, task: TaskId, how: fn(&Gang, (StageId, u32)) -> Result<(), String>) {
        let (id, owner) = (self.gang_of(task), self.owner(task));
        let Some(gang) = self.gangs.get_mut(&id) else { return };
        gang.somebody_left();
        if let Err(what) = how(gang, owner) {
            self.break_gang(task, &what);
        }
        self.answer_heirs(id);
    }

    /// Looks again at those who have read all and ask for what others leave, if they may have an answer now.
    fn answer_heirs(&mut self, id: GangId) {
        let cx = self.cx.clone();
        while self.gangs.get_mut(&id).is_some_and(Gang::take_news) {
            stages_of(&cx, id).flat_map(|s| tasks_of(&cx, s)).for_each(|task| {
                self.serve(task);
                self.serve_adapters(task);
            });
        }
    }

    /// Answers those of its threads that ask for what others leave, if there is an answer.
    fn serve_adapters(&mut self, task: TaskId) {
        let owner = self.owner(task);
        let gang = self.gangs.get_mut(&self.cx.stage(task).gang);
        let (Some(gang), Some(attempt)) = (gang, self.attempts[task.0 as usize].as_mut()) else { return };
        // A process that has ended wants no more.
        let asking = attempt.adapters.iter_mut().filter(|a| a.asks && attempt.exit.is_none());
        let mut failed = None;
        for adapter in asking {
            match gang.late(owner, adapter.edge, adapter.given) {
                Ok(Late::Wait) => {}
                Ok(Late::NoMore) => {
                    gang.answered(owner, adapter.edge);
                    adapter.give(None);
                }
                Ok(Late::Ring(i, at)) => match gang.ring(i).segment.consumer(at) {
                    Ok(ring) => adapter.give(Some(ring)),
                    Err(e) => failed = Some((adapter.edge, e.to_string())),
                },
                Err(what) => failed = Some((adapter.edge, what)),
            }
        }
        if let Some((edge, what)) = failed {
            let cx = self.cx.clone();
            let edge = cx.pipeline.edge(edge);
            let message = format!("what others left of edge `{}` could not be handed on: {what}", edge.name);
            let diagnostic = Diagnostic::error(codes::ADAPTER, message)
                .at(&edge.span, "this edge")
                .help("a stage on this edge wrote where it must not: look for the one that misuses its shared memory");
            self.fail(task, &diagnostic);
            self.trouble(&diagnostic);
        }
    }

    /// The edges of a task's gang cannot be ended as they should, so nobody on them would hear of the end: it fails.
    fn break_gang(&mut self, task: TaskId, what: &str) {
        let cx = self.cx.clone();
        let stage = cx.stage(task);
        let message = format!("the edges of stage `{}` could not be ended: {what}", task_name(&cx, task));
        let diagnostic = Diagnostic::error(codes::ADAPTER, message)
            .at(&stage.span, "this stage")
            .help("a stage on these edges wrote where it must not: look for the one that misuses its shared memory");
        for mate in stages_of(&cx, stage.gang).flat_map(|s| tasks_of(&cx, s)).filter(|t| *t != task) {
            self.fail(mate, &diagnostic);
            self.attempt_over_if_drained(mate);
        }
        self.trouble(&diagnostic);
    }

    /// What the task's process does no longer matters: it fails with this.
    fn fail(&mut self, task: TaskId, diagnostic: &Diagnostic) {
        let mark = mark(&self.cx, task, self.state.attempt(task));
        if let Some(attempt) = self.attempts[task.0 as usize].as_mut() {
            attempt.trouble.get_or_insert(diagnostic.message.clone());
            attempt.signal(mark, SIGKILL);
        }
    }

    /// Most gangs are one stage without edges, and nothing is to be made for them.
    fn prepare(&mut self, id: GangId) {
        if let Some(old) = self.gangs.remove(&id) {
            self.run_socket.begins_anew(id);
            let emptied = self.emptied.entry(id).or_default();
            old.edges_ended(&self.cx, emptied);
            emptied.iter_mut().for_each(|edge| edge.backlog_bytes = 0); // which nobody will read
        }
        if Gang::has_edges(&self.cx, id) {
            return self.preparer.request(id);
        }
        self.edges_made(preparer::Answer { gang: id, result: Ok(Gang::default()) });
    }

    fn edges_made(&mut self, preparer::Answer { gang, result }: preparer::Answer) {
        match result {
            Ok(made) => {
                self.gangs.insert(gang, made);
                self.unprepared.remove(&gang); // it may be another time
            }
            Err(diagnostic) => {
                self.trouble(&diagnostic);
                self.unprepared.insert(gang, *diagnostic);
            }
        }
        self.pending.push_back(Event::Prepared(gang));
    }

    fn spawn(&mut self, task: TaskId) {
        let gang_id = self.gang_of(task);
        let number = self.state.attempt(task);
        let mut attempt = Box::new(Attempt::new(number));
        let ends = match (self.gangs.get_mut(&gang_id), self.unprepared.get(&gang_id)) {
            (Some(gang), None) => gang.ends(&self.cx, task).map_err(|e| {
                let stage = self.cx.stage(task);
                let what = format!(
                    "stage `{}` cannot start: no pipes for its edges: {}",
                    stage.name,
                    super::launch::reason(&e)
                );
                Diagnostic::error(codes::LIMIT, what)
                    .at(&stage.span, "this stage")
                    .help("raise the limit on open files (`ulimit -n`)")
            }),
            (_, Some(diagnostic)) => Err(diagnostic.clone()),
            (None, None) => unreachable!("a gang is prepared before its tasks are spawned"),
        };
        match ends {
            Ok(wired) => {
                attempt.halves = wired.halves;
                let gang = &self.gangs[&gang_id];
                attempt.control = wired.control.map(|socket| Control::new(socket, &self.cx, gang, task, number));
                self.attempts[task.0 as usize] = Some(attempt);
                self.spawner.request(Request { task, attempt: number, ends: wired.ends });
            }
            Err(diagnostic) => {
                if !self.unprepared.contains_key(&gang_id) {
                    self.trouble(&diagnostic);
                }
                attempt.trouble = Some(diagnostic.message);
                self.attempts[task.0 as usize] = Some(attempt);
                self.pending.push_back(Event::NotStarted(task));
            }
        }
    }

    fn spawn_answered(&mut self, answer: Answer) {
        let Answer { task, result } = answer;
        match result.and_then(|launched| self.welcome(task, launched)) {
            Ok(()) => {
                let fact = self.stage_started(task);
                self.tell(fact);
                self.pending.push_back(Event::Started(task));
                if self.gangs.get(&self.gang_of(task)).is_some_and(Gang::is_open) {
                    self.start_adapters(task); // its mates run already
                }
            }
            Err(diagnostic) => {
                self.trouble(&diagnostic);
                self.attempt(task).trouble = Some(diagnostic.message);
                self.pending.push_back(Event::NotStarted(task));
            }
        }
    }

    /// The process runs: watch it, serve its streams.
    fn welcome(&mut self, task: TaskId, launched: super::launch::Launched) -> Result<(), Box<Diagnostic>> {
        let cx = self.cx.clone();
        let attempt = self.attempts[task.0 as usize].as_mut().expect("an attempt was requested");
        attempt.log = Some(launched.log.display().to_string());
        attempt.pid = launched.child.pid;
        let watch = || -> io::Result<()> {
            self.epoll.add(launched.child.pidfd.as_fd(), token::PROCESS | u64::from(task.0), EventFlags::IN)?;
            if let Some(control) = &attempt.control {
                self.epoll.add(control.socket(), token::CONTROL | u64::from(task.0), EventFlags::IN)?;
            }
            Ok(())
        };
        match watch() {
            Ok(()) => {
                attempt.pidfd = Some(launched.child.pidfd);
                Ok(())
            }
            Err(e) => {
                tree::signal_tree(attempt.pid, launched.child.pidfd.as_fd(), mark(&cx, task, attempt.number), SIGKILL);
                let _ = process::wait(launched.child.pidfd.as_fd());
                attempt.pid = 0;
                let stage = cx.stage(task);
                let what =
                    format!("stage `{}` cannot start: could not watch it: {}", stage.name, super::launch::reason(&e));
                Err(Box::new(
                    Diagnostic::error(codes::LIMIT, what)
                        .at(&stage.span, "this stage")
                        .help("raise the limits on open files (`ulimit -n`) and processes (`ulimit -u`)"),
                ))
            }
        }
    }

    fn stage_ended(&mut self, task: TaskId, outcome: Outcome, ran: Ran) {
        let fact = Fact::StageEnded(report::stage_ended(&self.cx, task, outcome, ran));
        self.tell(fact);
    }

    fn stage_started(&mut self, task: TaskId) -> Fact {
        let planned = self.cx.plan.task(task);
        let first = self.state.attempt(task) == 1;
        let queue_wait_s = if first { self.state.queue_wait(task).as_secs_f64() } else { 0.0 };
        let attempt = self.attempts[task.0 as usize].as_ref().expect("it has just been welcomed");
        Fact::StageStarted(StageStarted {
            stage: self.cx.stage(task).name.clone(),
            replica: planned.replica,
            attempt: attempt.number,
            pid: attempt.pid,
            cpus: planned.cpus.to_string(),
            at: Timestamp::now(),
            queue_wait_s,
        })
    }

    fn process_ended(&mut self, task: TaskId) {
        let Some(attempt) = self.attempts[task.0 as usize].as_mut() else { return };
        let Some(pidfd) = attempt.pidfd.take() else { return };
        // Still a zombie: its pid and group are nobody else's.
        tree::kill_group(attempt.pid);
        let waited = process::wait(pidfd.as_fd());
        let _ = self.epoll.delete(pidfd.as_fd());
        let (exit, usage) = match waited {
            Ok(exit) => (
                match exit.status {
                    process::Status::Exited(code) => Exit::Code(code),
                    process::Status::Signaled { signal, .. } => Exit::Signal(Signal(signal)),
                },
                report::usage(exit.usage),
            ),
            // Only if someone else reaped it, which nobody does: count it as a failure rather than hide it.
            Err(_) => (Exit::Code(-1), Usage::default()),
        };
        attempt.exit = Some((exit, usage));
        let planned = self.cx.plan.task(task);
        if let Some(gang) = self.gangs.get_mut(&self.cx.stage(task).gang) {
            gang.asks_no_more((planned.stage, planned.replica));
            gang.stopped_reading(&self.cx, (planned.stage, planned.replica));
            let _ = gang.wake_all(); // what cannot be woken looks again by itself, after a while
        }
        if let Some(control) = attempt.control.take() {
            let _ = self.epoll.delete(control.socket());
        }
        let end = match (exit, attempt.told) {
            (_, Told::Kill) => ProcessEnd::Badly,
            (Exit::Code(0), _) => ProcessEnd::Well,
            // It was asked to, and how it ends says nothing of what it wrote.
            (_, Told::Stop) => ProcessEnd::Stopped,
            // Its edges outlive it.
            _ if self.cx.stage(task).restart.is_some_and(|r| r.scope == Scope::Stage) => ProcessEnd::Stopped,
            _ => ProcessEnd::Badly,
        };
        attempt.end = Some(end);
        if end == ProcessEnd::Badly {
            attempt.halves.clear();
        }
        attempt.adapters.iter().for_each(|a| a.process_ended(end));
        self.bury = true;
        self.attempt_over_if_drained(task);
    }

    /// An attempt is over when its process is, and everything it wrote has been passed on; one that may have a successor,
    /// when nobody holds its ends of edges any more.
    fn attempt_over_if_drained(&mut self, task: TaskId) {
        let successor = self.cx.stage(task).restart.is_some();
        let Some(attempt) = self.attempts[task.0 as usize].as_mut() else { return };
        if let Some((exit, _)) = attempt.exit
            && attempt.adapters.iter().all(|a| a.is_done() || a.is_input() && !successor)
            && !attempt.halves.iter().any(Half::is_output)
            && attempt.over.is_none()
        {
            attempt.over = Some(attempt.begun.elapsed());
            let exit = if attempt.trouble.is_some() { Exit::Edge } else { exit };
            self.pending.push_back(Event::Ended(task, exit));
        }
    }

    fn adapter_ended(&mut self, report: adapter::Report) {
        let task = report.task;
        let attempt = self.attempts[task.0 as usize].as_mut().filter(|a| a.number == report.attempt);
        let Some(attempt) = attempt else { return };
        let Some(result) = report.result else {
            attempt.adapters[report.index].asks = true;
            self.serve_adapters(task);
            return self.answer_heirs(self.gang_of(task));
        };
        attempt.adapters[report.index].done();
        // What a stage that has ended did not read is no trouble of its.
        let late = attempt.exit.is_some() && attempt.adapters[report.index].is_input();
        if let Err(problem) = result
            && !late
        {
            let cx = self.cx.clone();
            let edge = cx.pipeline.edge(report.edge);
            let diagnostic = Diagnostic::error(
                problem.code(),
                format!("stage `{}`, edge `{}`: {problem}", task_name(&cx, task), edge.name),
            )
            .at(&edge.span, "this edge")
            .at(&cx.stage(task).span, "this stage")
            .help(problem.help());
            self.fail(task, &diagnostic);
            self.trouble(&diagnostic);
        }
        self.attempt_over_if_drained(task);
    }

    fn control_spoke(&mut self, task: TaskId) {
        self.serve(task);
        self.answer_heirs(self.gang_of(task));
    }

    fn serve(&mut self, task: TaskId) {
        let gang = self.gangs.get_mut(&self.cx.stage(task).gang);
        let Some(attempt) = self.attempts[task.0 as usize].as_mut() else { return };
        let (Some(control), Some(gang)) = (attempt.control.as_mut(), gang) else { return };
        let token = token::CONTROL | u64::from(task.0);
        let watched = match control.serve(gang) {
            Next::Read => self.epoll.modify(control.socket(), token, EventFlags::IN),
            Next::ReadAndWrite => self.epoll.modify(control.socket(), token, EventFlags::IN | EventFlags::OUT),
            Next::Close => Err(io::ErrorKind::ConnectionReset.into()),
            Next::Failed(what) => {
                let name = task_name(&self.cx, task);
                let diagnostic = Diagnostic::error(codes::LIMIT, format!("stage `{name}`: {what}"))
                    .at(&self.cx.stage(task).span, "this stage")
                    .help("raise the limit on open files (`ulimit -n`)");
                self.fail(task, &diagnostic);
                return self.trouble(&diagnostic);
            }
        };
        if watched.is_err() {
            let _ = self.epoll.delete(control.socket());
            attempt.control = None;
        }
    }

    fn open_edges(&mut self, id: GangId) {
        let Some(gang) = self.gangs.get_mut(&id) else { return };
        gang.open();
        let cx = self.cx.clone();
        for task in stages_of(&cx, id).flat_map(|s| tasks_of(&cx, s)) {
            self.start_adapters(task);
            self.control_spoke(task); // what it has asked for meanwhile
        }
    }

    /// Its bound streams begin to flow.
    fn start_adapters(&mut self, task: TaskId) {
        let cx = self.cx.clone();
        // One that is being made again gets them when it runs.
        let Some(attempt) = self.attempts[task.0 as usize].as_mut().filter(|a| a.pid != 0) else { return };
        let mut failed = None;
        for half in std::mem::take(&mut attempt.halves) {
            let index = attempt.adapters.len(); // where it will be found, whether or not others could be started
            let inherits = !half.is_output() && cx.pipeline.edge(half.edge).delivery == Delivery::Distribute;
            let cpus = &cx.plan.task(task).cpus;
            match Adapter::start(half, (task, attempt.number), index, inherits, cpus, self.adapter_sender.clone()) {
                Ok(adapter) => attempt.adapters.push(adapter),
                Err(e) => failed = Some(e),
            }
        }
        if let Some(end) = attempt.end {
            attempt.adapters.iter().for_each(|a| a.process_ended(end)); // it was quick
        }
        if let Some(e) = failed {
            let stage = cx.stage(task);
            let what = format!("stage `{}`: no thread for its streams: {}", stage.name, super::launch::reason(&e));
            let diagnostic = Diagnostic::error(codes::LIMIT, what)
                .at(&stage.span, "this stage")
                .help("raise the limit on processes (`ulimit -u`)");
            self.fail(task, &diagnostic);
            self.trouble(&diagnostic);
        }
        self.attempt_over_if_drained(task);
    }

    fn signal(&mut self, task: TaskId, signal: i32) {
        let mark = mark(&self.cx, task, self.state.attempt(task));
        if let Some(attempt) = self.attempts[task.0 as usize].as_mut() {
            attempt.signal(mark, signal);
            self.attempt_over_if_drained(task);
        }
    }

    fn attempt(&mut self, task: TaskId) -> &mut Attempt {
        self.attempts[task.0 as usize].as_mut().expect("an attempt lives until its task settles")
    }

    fn owner(&self, task: TaskId) -> (StageId, u32) {
        let planned = self.cx.plan.task(task);
        (planned.stage, planned.replica)
    }

    fn gang_of(&self, task: TaskId) -> GangId {
        self.cx.stage(task).gang
    }

    fn tell(&mut self, fact: Fact) {
        self.observers.iter_mut().for_each(|o| o.fact(&fact));
    }

    fn trouble_if(&mut self, done: Result<(), Box<Diagnostic>>) {
        if let Err(diagnostic) = done {
            self.trouble(&diagnostic);
        }
    }

    fn trouble(&mut self, diagnostic: &Diagnostic) {
        self.observers.iter_mut().for_each(|o| o.trouble(diagnostic));
    }
}

fn mark(cx: &Context, task: TaskId, attempt: u32) -> Mark<'_> {
    let planned = cx.plan.task(task);
    Mark { run: &cx.run_id, stage: &cx.pipeline.stage(planned.stage).name, replica: planned.replica, attempt }
}

fn stages_of(cx: &Context, gang: GangId) -> impl Iterator<Item = StageId> + '_ {
    cx.pipeline.gangs[gang.0 as usize].iter().copied()
}

/// Tasks are planned stage by stage, so a stage's tasks stand in a row.
fn tasks_of(cx: &Context, stage: StageId) -> impl Iterator<Item = TaskId> + '_ {
    let first = cx.plan.tasks.partition_point(|t| t.stage < stage) as u32;
    (first..).map(TaskId).take(cx.pipeline.stage(stage).replicas as usize)
}
