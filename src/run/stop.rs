//! Ending what runs: one task, a gang, the services at a run's natural end, everything.

use super::state::{Course, Phase, State, Task};
use super::types::{Action, Cause, Outcome, Timer};
use crate::pipeline::GangId;
use crate::plan::TaskId;

impl State {
    /// Asks a task to end; it will settle with `outcome`. One that is already asked, or over, is left alone.
    pub(super) fn stop_task(&mut self, task: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
        match self.task(task) {
            Task::Running { doomed: None } => {
                let (_, row) = self.graph.stage_of(task);
                let (signal, timeout) = (row.stop_signal, row.stop_timeout);
                self.set(task, Task::Running { doomed: Some(outcome) });
                actions.push(Action::Signal(task, signal));
                self.timer(self.now.saturating_add(timeout), Timer::KillAfterStop(task, self.attempt(task)));
            }
            Task::Starting { doomed: None } => self.set(task, Task::Starting { doomed: Some(outcome) }),
            Task::Undecided => self.conclude(task, outcome, actions),
            Task::Resting => self.close(task, outcome, actions),
            Task::Done => self.settle(task, Outcome::Succeeded, actions),
            Task::Waiting | Task::Starting { .. } | Task::Running { .. } | Task::Settled(_) => {}
        }
    }

    /// Ends a whole gang at once: what waits never starts, what runs is stopped.
    pub(super) fn stop_gang(&mut self, gang: GangId, cause: Cause, actions: &mut Vec<Action>) {
        self.gangs[gang.0 as usize].doomed = true;
        for task in self.graph.tasks_of_gang(gang).collect::<Vec<_>>() {
            match self.task(task) {
                Task::Waiting => self.settle(task, Outcome::Skipped(cause), actions),
                _ => self.stop_task(task, Outcome::Stopped(cause), actions),
            }
        }
    }

    /// All that is not a service has ended: services are no longer needed.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.course = Course::Draining;
        self.end_what_has_not_begun(Cause::NoLongerNeeded, actions);
    }

    /// The run is to end now, in order.
    pub(super) fn stop_all(&mut self, cause: Cause, actions: &mut Vec<Action>) {
        self.course = Course::Stopping(cause);
        self.end_what_has_not_begun(cause, actions);
    }

    pub(super) fn kill_all(&mut self, actions: &mut Vec<Action>) {
        self.killing = true;
        for &task in &self.live {
            let outcome = Outcome::Stopped(Cause::Interrupted);
            match &mut self.tasks[task.0 as usize] {
                Task::Starting { doomed } => _ = doomed.get_or_insert(outcome),
                Task::Running { doomed } => {
                    doomed.get_or_insert(outcome);
                    actions.push(Action::Kill(task));
                }
                _ => unreachable!("live tasks start or run"),
            }
        }
    }

    fn end_what_has_not_begun(&mut self, cause: Cause, actions: &mut Vec<Action>) {
        for gang in (0..self.gangs.len() as u32).map(GangId) {
            match self.gangs[gang.0 as usize].phase {
                Phase::Waiting | Phase::Queued | Phase::Preparing => self.skip_gang(gang, cause, actions),
                // At a natural end it finishes starting first: what has been written already is to be read.
                Phase::Starting if self.course == Course::Draining => {}
                Phase::Starting | Phase::Rewinding(_) => self.stop_gang(gang, cause, actions),
                Phase::Running | Phase::Over => {}
            }
        }
        self.end_what_rests(cause, actions);
    }

    /// Asks those to end whose turn has come: dependants before what they depend on; at a natural end
    /// what feeds edges before what it feeds, which then ends by itself when it has read everything.
    pub(super) fn advance_stop(&mut self, actions: &mut Vec<Action>) {
        let cause = match self.course {
            Course::Draining => Cause::NoLongerNeeded,
            Course::Stopping(cause) => cause,
            Course::Going | Course::Finished => return,
        };
        let due: Vec<TaskId> = self.live.iter().copied().filter(|&t| self.turn_has_come(t)).collect();
        for task in due {
            self.stop_task(task, Outcome::Stopped(cause), actions);
        }
        // What stays though its inputs have ended is asked to go once it has nothing left to read.
        let dry: Vec<TaskId> = self.live.iter().copied().filter(|&t| self.is_running_dry(t)).collect();
        for task in dry {
            if self.running_dry.insert(task) {
                let timeout = self.graph.stage_of(task).1.stop_timeout;
                self.timer(self.now.saturating_add(timeout), Timer::LookAgain(task, self.attempt(task), false));
            }
        }
        // Services that feed one another in a circle: nobody's turn would ever come.
        let someone_is_ending = !self.resting.is_empty()
            || self.live.iter().any(|&t| {
                matches!(self.task(t), Task::Running { doomed: Some(_) } | Task::Starting { doomed: Some(_) })
                    || self.is_running_dry(t)
                    || self.still_comes_up(t)
            });
        if !someone_is_ending {
            for task in self.live.clone() {
                self.stop_task(task, Outcome::Stopped(cause), actions);
            }
        }
    }

    fn turn_has_come(&self, task: TaskId) -> bool {
        let (_, row) = self.graph.stage_of(task);
        let draining = self.course == Course::Draining;
        if draining && !row.producers.is_empty() || self.still_comes_up(task) {
            return false;
        }
        row.dependants.iter().all(|&(d, _)| {
            let fed_by_it = draining && self.graph.stage(d).gang == row.gang;
            fed_by_it || self.is_over(d)
        })
    }

    /// At a natural end a gang that starts does so as a whole, before its turn to end comes.
    fn still_comes_up(&self, task: TaskId) -> bool {
        let gang = self.graph.stage_of(task).1.gang;
        self.course == Course::Draining && self.gangs[gang.0 as usize].phase == Phase::Starting
    }

    /// Its producers are gone: it reads what is left and then its end of stream.
    fn is_running_dry(&self, task: TaskId) -> bool {
        let producers = &self.graph.stage_of(task).1.producers;
        !producers.is_empty() && producers.iter().all(|&p| self.is_over(p))
    }
}
