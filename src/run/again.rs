//! Processes started again: a task alone, or a whole gang.
//!
//! A task that is to be restarted does not settle; it rests. Its edges wait for it: they are neither closed nor detached.
//! A gang begins anew when all of it is down, with new edges; nothing of such a gang settles before all of it has ended.

use super::state::{Course, Phase, State, Task};
use super::types::{Action, Cause, Exit, Now, Outcome, Timer};
use crate::pipeline::GangId;
use crate::plan::TaskId;
use crate::spec::{Scope, When};

impl State {
    /// Whether another attempt follows on one that ended with `outcome`; if so, everything for that has been set going.
    pub(super) fn goes_on(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) -> bool {
        let (gang, row) = (self.gang_of(task), self.graph.stage_of(task).1);
        let scope = row.restart.map(|r| r.scope);
        if let Phase::Rewinding(wait) = self.gangs[gang.0 as usize].phase {
            if self.gangs[gang.0 as usize].doomed {
                return false;
            }
            self.rest(task, outcome, wait, actions);
            actions.push(Action::Abandon(task)); // its mates are to end, not to wait for it
            self.begin_anew_once_down(gang);
            return true;
        }
        let Some(wait) = self.next_wait(task, outcome) else { return false };
        self.rest(task, outcome, wait, actions);
        match scope {
            Some(Scope::Gang) => self.rewind(gang, task, wait, actions),
            _ => self.timer(self.now.saturating_add(wait), Timer::Restart(task, self.attempt(task))),
        }
        true
    }

    /// How long the task rests before its next attempt, which is counted; `None` if there is to be none.
    fn next_wait(&mut self, task: TaskId, outcome: Outcome) -> Option<Now> {
        let row = self.graph.stage_of(task).1;
        let policy = row.restart?;
        let wanted = match outcome {
            // A service that left by itself.
            Outcome::Failed(Exit::Code(0)) => policy.when == When::Always,
            Outcome::Failed(_) | Outcome::TimedOut => true,
            // What could not be started at all will not be the next time.
            Outcome::NotStarted => self.attempt(task) > 1,
            Outcome::Succeeded | Outcome::Stopped(_) | Outcome::Skipped(_) => false,
        };
        let course = match self.course {
            Course::Going => true,
            // What is still in its edges is to be read.
            Course::Draining => !row.producers.is_empty() && policy.scope == Scope::Stage,
            Course::Stopping(_) | Course::Finished => false,
        };
        if !wanted || !course || self.killing || self.gangs[row.gang.0 as usize].doomed {
            return None;
        }
        let now = self.now;
        let past = self.restarts.entry(task).or_default();
        while past.front().is_some_and(|&at| now.saturating_sub(at) >= policy.window) {
            past.pop_front();
        }
        if past.len() >= policy.limit as usize {
            return None;
        }
        let doubled = 1u32.checked_shl(past.len() as u32).unwrap_or(u32::MAX);
        past.push_back(now);
        Some(policy.backoff.saturating_mul(doubled).min(policy.backoff_max))
    }

    fn rest(&mut self, task: TaskId, outcome: Outcome, wait: Now, actions: &mut Vec<Action>) {
        self.set(task, Task::Resting);
        self.running_dry.remove(&task);
        actions.push(Action::Restarting(task, outcome, wait));
    }

    /// The task's wait is over.
    pub(super) fn restart(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let phase = self.gangs[self.gang_of(task).0 as usize].phase;
        // A gang that rewinds takes it along.
        if self.task(task) == Task::Resting && matches!(phase, Phase::Starting | Phase::Running) {
            self.spawn(task, actions);
        }
    }

    /// Stops all mates of the task, whose end restarts them all.
    fn rewind(&mut self, gang: GangId, culprit: TaskId, wait: Now, actions: &mut Vec<Action>) {
        self.gangs[gang.0 as usize].phase = Phase::Rewinding(wait);
        actions.push(Action::Abandon(culprit));
        for task in self.graph.tasks_of_gang(gang).collect::<Vec<_>>() {
            match self.task(task) {
                Task::Done => {
                    self.uncount_end(task);
                    self.rest(task, Outcome::Succeeded, wait, actions);
                }
                Task::Waiting | Task::Resting => {}
                Task::Settled(_) => unreachable!("a gang that may begin anew settles as a whole"),
                _ => self.stop_task(task, Outcome::Stopped(Cause::Mate(culprit)), actions),
            }
        }
        self.begin_anew_once_down(gang);
    }

    fn begin_anew_once_down(&mut self, gang: GangId) {
        let Phase::Rewinding(wait) = self.gangs[gang.0 as usize].phase else { return };
        if self.graph.tasks_of_gang(gang).all(|t| matches!(self.task(t), Task::Waiting | Task::Resting)) {
            self.timer(self.now.saturating_add(wait), Timer::BeginAnew(gang));
        }
    }

    /// Everyone from the start, on new edges.
    pub(super) fn begin_anew(&mut self, id: GangId, actions: &mut Vec<Action>) {
        let gang = &mut self.gangs[id.0 as usize];
        if !matches!(gang.phase, Phase::Rewinding(_)) || gang.doomed {
            return;
        }
        gang.phase = Phase::Preparing;
        gang.to_start = self.graph.gang(id).tasks;
        for &stage in &self.graph.gang(id).stages {
            let row = self.graph.stage(stage);
            self.stages[stage.0 as usize].to_start = row.tasks.len() as u32;
            self.stages[stage.0 as usize].waits_for_mates = row.waits_for_mates;
            row.tasks.clone().for_each(|t| self.attempts[t as usize].has_started = false);
        }
        actions.push(Action::Prepare(id));
    }

    /// Nothing of its gang counts as over before all of it is.
    pub(super) fn may_begin_anew(&self, task: TaskId) -> bool {
        let gang = self.gang_of(task);
        self.graph.gang(gang).begins_anew && !self.gangs[gang.0 as usize].doomed && self.course == Course::Going
    }

    /// The task has succeeded; if it was the last of its gang, all of that has.
    pub(super) fn done(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        actions.push(Action::Release(task));
        actions.push(Action::Done(task));
        self.set(task, Task::Done);
        self.count_end(task);
        let gang = self.gang_of(task);
        if self.graph.tasks_of_gang(gang).all(|t| matches!(self.task(t), Task::Done)) {
            for task in self.graph.tasks_of_gang(gang).collect::<Vec<_>>() {
                self.settle(task, Outcome::Succeeded, actions);
            }
        }
    }

    fn uncount_end(&mut self, task: TaskId) {
        let (stage, row) = self.graph.stage_of(task);
        if !row.service {
            self.needed = self.needed.map(|n| n + 1);
        }
        self.stages[stage.0 as usize].to_end += 1;
    }

    /// The run ends: what rests or is done has no process to stop. At a natural end, what is fed still reads the rest.
    pub(super) fn end_what_rests(&mut self, cause: Cause, actions: &mut Vec<Action>) {
        for task in (0..self.tasks.len() as u32).map(TaskId) {
            let reads_the_rest = self.course == Course::Draining && !self.graph.stage_of(task).1.producers.is_empty();
            match self.task(task) {
                Task::Resting if reads_the_rest => {}
                Task::Resting | Task::Done => self.stop_task(task, Outcome::Stopped(cause), actions),
                _ => {}
            }
        }
    }

    pub(super) fn is_rewinding(&self, task: TaskId) -> bool {
        let gang = &self.gangs[self.gang_of(task).0 as usize];
        matches!(gang.phase, Phase::Rewinding(_)) && !gang.doomed
    }

    fn gang_of(&self, task: TaskId) -> GangId {
        self.graph.stage_of(task).1.gang
    }
}
