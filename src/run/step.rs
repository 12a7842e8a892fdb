//! One event in, the actions that follow from it out.

use std::cmp::Reverse;

use super::state::{Course, News, Phase, State, Task};
use super::types::{Action, Cause, Ending, Event, Exit, Now, Outcome, Timer};
use crate::pipeline::{GangId, StageId};
use crate::plan::TaskId;
use crate::spec::{OnFailure, Signal};

const SIGPIPE: i32 = 13;
const SIGTERM: Signal = Signal(15);
/// Two requests to end that come closer together than this are one.
const SAME_REQUEST: Now = Now::from_millis(200);

/// Also as a shell passes it on.
fn is_broken_pipe(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(Signal(SIGPIPE))) || matches!(exit, Exit::Code(code) if code == 128 + SIGPIPE)
}

impl State {
    /// Takes one event and appends what is to be done about it.
    pub fn step(&mut self, event: Event, now: Now, actions: &mut Vec<Action>) {
        self.now = self.now.max(now); // a clock that runs backwards moves nothing
        match event {
            Event::Begin => self.begin(),
            Event::Prepared(gang) => self.prepared(gang, actions),
            Event::Started(task) => self.started(task, actions),
            Event::NotStarted(task) => self.not_started(task, actions),
            Event::Ended(task, exit) => self.ended(task, exit, actions),
            Event::Interrupted(signal) => self.interrupted(signal, actions),
            Event::Orphaned => self.orphaned(actions),
            Event::Drained(task, drained) => self.drained(task, drained),
            Event::Tick => self.tick(actions),
        }
        self.follow_up(actions);
    }

    /// Everything that follows from what has changed, whatever it was that changed.
    fn follow_up(&mut self, actions: &mut Vec<Action>) {
        self.decide(actions);
        self.spread(actions);
        if self.course == Course::Going && self.needed == Some(0) && self.to_settle > 0 {
            self.drain(actions);
        }
        match self.course {
            Course::Going => self.admit(actions),
            Course::Draining | Course::Stopping(_) => self.advance_stop(actions),
            Course::Finished => {}
        }
        // What was skipped or started just now has consequences of its own.
        self.spread(actions);
        if self.to_settle == 0 && self.course != Course::Finished {
            self.course = Course::Finished;
            actions.push(Action::Finish(self.trouble.unwrap_or(Ending::Succeeded)));
        }
    }

    fn begin(&mut self) {
        if let Some(timeout) = self.graph.timeout {
            self.timer(self.now.saturating_add(timeout), Timer::RunTimeout);
        }
        for gang in (0..self.gangs.len() as u32).map(GangId) {
            if self.graph.gang(gang).waits_for == 0 {
                self.enqueue(gang);
            }
        }
    }

    /// Starts what is ready: what needs no slot at once, the others as long as there are slots.
    fn admit(&mut self, actions: &mut Vec<Action>) {
        for gang in std::mem::take(&mut self.free) {
            self.start_gang(gang, actions);
        }
        while self.slots_used < self.graph.slots
            && let Some(gang) = self.queue.pop_front()
        {
            self.start_gang(gang, actions);
        }
    }

    fn start_gang(&mut self, id: GangId, actions: &mut Vec<Action>) {
        if self.gangs[id.0 as usize].phase != Phase::Queued {
            return; // skipped while it waited
        }
        self.gangs[id.0 as usize].phase = Phase::Preparing;
        self.gangs[id.0 as usize].admitted_at = self.now;
        self.slots_used += u32::from(self.graph.gang(id).takes_slot);
        actions.push(Action::Prepare(id));
    }

    fn prepared(&mut self, id: GangId, actions: &mut Vec<Action>) {
        if self.gangs[id.0 as usize].phase != Phase::Preparing {
            return; // skipped while its edges were made
        }
        self.gangs[id.0 as usize].phase = Phase::Starting;
        for at in 0..self.graph.gang(id).stages.len() {
            let stage = self.graph.gang(id).stages[at];
            if self.stages[stage.0 as usize].waits_for_mates == 0 {
                self.spawn_stage(stage, actions);
            }
        }
    }

    fn started(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let Task::Starting { doomed } = self.task(task) else {
            unreachable!("only a task that is being started has started");
        };
        self.set(task, Task::Running { doomed: None });
        let number = self.attempt(task);
        match (doomed, self.graph.stage_of(task).1.timeout) {
            // It was given up while it started. It may have run for a while, unheard of: it gets its orderly end.
            (Some(outcome), _) => {
                self.stop_task(task, outcome, actions);
                if self.killing {
                    actions.push(Action::Kill(task));
                }
            }
            (None, Some(timeout)) => {
                self.timer(self.now.saturating_add(timeout), Timer::TaskTimeout(task, number));
            }
            (None, None) => {}
        }
        if !std::mem::replace(&mut self.attempts[task.0 as usize].has_started, true) {
            self.started_first(task, actions);
        }
    }

    /// Its first process since the gang began has exec'd.
    fn started_first(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let (stage_id, row) = self.graph.stage_of(task);
        let gang_id = row.gang;
        let stage = &mut self.stages[stage_id.0 as usize];
        stage.to_start -= 1;
        if stage.to_start == 0 {
            let anew = std::mem::replace(&mut stage.told_started, true);
            self.news.push_back((stage_id, if anew { News::StartedAnew } else { News::Started }));
        }
        let gang = &mut self.gangs[gang_id.0 as usize];
        gang.to_start -= 1;
        if gang.to_start == 0 && gang.phase == Phase::Starting {
            gang.phase = Phase::Running;
            actions.push(Action::OpenEdges(gang_id));
        }
    }

    fn not_started(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let Task::Starting { doomed } = self.task(task) else {
            unreachable!("only a task that is being started can fail to");
        };
        match doomed {
            // It was given up before it ran, for good …
            Some(Outcome::Stopped(cause)) if self.attempt(task) == 1 && !self.is_rewinding(task) => {
                self.settle(task, Outcome::Skipped(cause), actions);
            }
            Some(outcome) if !self.is_rewinding(task) => self.close(task, outcome, actions),
            // … or until its gang begins anew.
            Some(_) | None => self.conclude(task, Outcome::NotStarted, actions),
        }
    }

    fn ended(&mut self, task: TaskId, exit: Exit, actions: &mut Vec<Action>) {
        let Task::Running { doomed } = self.task(task) else {
            unreachable!("only a running task ends");
        };
        if doomed.is_none() && self.waits_for_its_reader(task, exit) {
            self.set(task, Task::Undecided);
            self.undecided.push((task, exit));
            return;
        }
        let outcome = doomed.unwrap_or_else(|| self.judge(task, exit));
        self.conclude(task, outcome, actions);
    }

    /// The kernel's pipe breaks before we hear that its reader has ended: `yes` may be gone before `head` is.
    fn waits_for_its_reader(&self, task: TaskId, exit: Exit) -> bool {
        let (_, row) = self.graph.stage_of(task);
        // Others that read what it wrote wait for its end, and it may not wait for theirs.
        is_broken_pipe(exit)
            && row.consumers.iter().all(|&s| self.is_over(s) || row.pipe_reader == Some(s))
            && row.pipe_reader.is_some_and(|reader| !self.is_over(reader))
    }

    /// Judges those whose readers have ended meanwhile.
    fn decide(&mut self, actions: &mut Vec<Action>) {
        loop {
            let before = self.undecided.len();
            for (task, exit) in std::mem::take(&mut self.undecided) {
                match self.task(task) {
                    Task::Undecided if self.waits_for_its_reader(task, exit) => self.undecided.push((task, exit)),
                    Task::Undecided => {
                        let outcome = self.judge(task, exit);
                        self.conclude(task, outcome, actions);
                    }
                    _ => {}
                }
            }
            // One that is judged may be the reader that another waits for.
            if self.undecided.len() == before {
                return;
            }
        }
    }

    /// Its process is gone, and this is what to make of it.
    pub(super) fn conclude(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.goes_on(task, outcome, actions) {
            return;
        }
        if outcome == Outcome::Succeeded && self.may_begin_anew(task) {
            return self.done(task, actions);
        }
        self.close(task, outcome, actions);
        // A gang that is already on its way out has its culprit.
        if !outcome.is_good() && !matches!(outcome, Outcome::Stopped(_)) {
            self.fail_gang(task, actions);
        }
    }

    /// Settles one that had a process, or was to have one again, with its edges.
    pub(super) fn close(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
        actions.push(if outcome.is_good() { Action::Release(task) } else { Action::Abandon(task) });
        self.settle(task, outcome, actions);
    }

    /// What an end that nobody ordered means.
    fn judge(&self, task: TaskId, exit: Exit) -> Outcome {
        let (_, row) = self.graph.stage_of(task);
        let all_over = |stages: &[StageId]| !stages.is_empty() && stages.iter().all(|&s| self.is_over(s));
        match exit {
            // As in a shell: who writes to nobody dies of SIGPIPE, and that is no failure.
            _ if is_broken_pipe(exit) && all_over(&row.consumers) => Outcome::Succeeded,
            // A service is to stay, unless what fed it has come to its end.
            Exit::Code(0) if !row.service || all_over(&row.producers) => Outcome::Succeeded,
            _ => Outcome::Failed(exit),
        }
    }

    /// A task failed: its mates cannot go on, and perhaps nobody may.
    fn fail_gang(&mut self, culprit: TaskId, actions: &mut Vec<Action>) {
        let gang = self.graph.stage_of(culprit).1.gang;
        self.stop_gang(gang, Cause::Mate(culprit), actions);
        if self.graph.on_failure == OnFailure::Stop && self.course == Course::Going {
            self.stop_all(Cause::OnFailure, actions);
        }
    }

    fn interrupted(&mut self, signal: Signal, actions: &mut Vec<Action>) {
        if self.course == Course::Finished {
            return;
        }
        match self.interrupted_at {
            None => {
                self.interrupted_at = Some(self.now);
                self.trouble = Some(Ending::Interrupted(signal));
                self.stop_all(Cause::Interrupted, actions);
            }
            // `pkill nexusflow` reaches us twice, once through our guardian: that is one request.
            Some(first) if self.now.saturating_sub(first) < SAME_REQUEST => {}
            Some(_) => self.kill_all(actions),
        }
    }

    fn orphaned(&mut self, actions: &mut Vec<Action>) {
        if self.course == Course::Finished {
            return;
        }
        self.trouble = Some(Ending::Interrupted(SIGTERM));
        self.stop_all(Cause::Interrupted, actions);
        self.kill_all(actions);
    }

    /// A service that still runs after its inputs have ended: it stays only as long as it has something to read.
    fn drained(&mut self, task: TaskId, drained: bool) {
        if self.task(task) == (Task::Running { doomed: None }) {
            let timeout = self.graph.stage_of(task).1.stop_timeout;
            self.timer(self.now.saturating_add(timeout), Timer::LookAgain(task, self.attempt(task), drained));
        }
    }

    fn tick(&mut self, actions: &mut Vec<Action>) {
        while let Some(&Reverse((at, timer))) = self.timers.peek()
            && at <= self.now
        {
            self.timers.pop();
            match timer {
                Timer::RunTimeout if matches!(self.course, Course::Going | Course::Draining) => {
                    self.trouble = self.trouble.or(Some(Ending::TimedOut));
                    self.stop_all(Cause::RunTimeout, actions);
                }
                Timer::TaskTimeout(task, n) if self.runs_unasked(task, n) => {
                    self.stop_task(task, Outcome::TimedOut, actions);
                }
                Timer::KillAfterStop(task, n)
                    if matches!(self.task(task), Task::Running { .. }) && self.attempt(task) == n =>
                {
                    actions.push(Action::Kill(task));
                }
                // Twice in a row with nothing left to read: what it had in hand it has had the time to finish.
                Timer::LookAgain(task, n, drained) if self.runs_unasked(task, n) => match drained {
                    true => self.stop_task(task, Outcome::Stopped(Cause::NoLongerNeeded), actions),
                    false => actions.push(Action::AskDrained(task)),
                },
                Timer::Restart(task, n) if self.attempt(task) == n => self.restart(task, actions),
                Timer::BeginAnew(gang) => self.begin_anew(gang, actions),
                Timer::RunTimeout
                | Timer::TaskTimeout(..)
                | Timer::KillAfterStop(..)
                | Timer::LookAgain(..)
                | Timer::Restart(..) => {}
            }
        }
    }

    /// This attempt of the task runs, and nobody has asked it to end.
    fn runs_unasked(&self, task: TaskId, attempt: u32) -> bool {
        self.task(task) == (Task::Running { doomed: None }) && self.attempt(task) == attempt
    }
}
