//! The state of a run, and the small changes that every step is made of.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use super::graph::Graph;
use super::types::{Action, Cause, Ending, Exit, Now, Outcome, Timer};
use crate::pipeline::{GangId, Pipeline, StageId};
use crate::plan::{Plan, TaskId};
use crate::spec::Condition;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Waiting,
    /// `Spawn` was said. `doomed`: it is to end at once, with this outcome.
    Starting {
        doomed: Option<Outcome>,
    },
    /// `doomed`: it was told to stop, and will settle with this outcome.
    Running {
        doomed: Option<Outcome>,
    },
    /// It died of writing to a pipe, and the reader of it is still ending: how that one ends decides.
    Undecided,
    /// Its attempt has ended, and the next one is to come.
    Resting,
    /// It has succeeded; it settles with its gang, which may have to begin anew.
    Done,
    Settled(Outcome),
}

/// The processes of a task so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempts {
    pub number: u32,
    /// One has exec'd since the gang began.
    pub has_started: bool,
}

/// What is known of a stage's tasks together.
#[derive(Debug)]
pub(super) struct Stage {
    pub to_start: u32,
    /// To have neither a process nor one to come.
    pub to_end: u32,
    pub to_settle: u32,
    /// Its dependants were told that it has started.
    pub told_started: bool,
    /// The first task that did not end well.
    pub failed: Option<TaskId>,
    /// Every task so far ran.
    pub has_exited: bool,
    pub waits_for_mates: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    /// Its dependencies hold; it wants a slot.
    Queued,
    /// Its edges are being made; nothing of it runs.
    Preparing,
    Starting,
    Running,
    /// One of its tasks ended badly: when all of it is down, and this wait is over, it begins anew.
    Rewinding(Now),
    Over,
}

#[derive(Debug)]
pub(super) struct Gang {
    pub phase: Phase,
    pub queued_at: Now,
    pub admitted_at: Now,
    pub waits_for: u32,
    pub to_start: u32,
    pub to_settle: u32,
    /// It is being stopped for good: nothing of it is restarted.
    pub doomed: bool,
}

/// What the run as a whole is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Going,
    /// All that is not a service has ended: services end in order.
    Draining,
    /// Everything is being stopped, dependants first.
    Stopping(Cause),
    Finished,
}

/// The whole state of a run. Changed by [`State::step`] alone.
#[derive(Debug)]
pub struct State {
    pub(super) graph: Graph,
    /// The time of the step that is being taken.
    pub(super) now: Now,
    pub(super) tasks: Vec<Task>,
    pub(super) stages: Vec<Stage>,
    pub(super) gangs: Vec<Gang>,
    /// Gangs that want a slot, first come first served.
    pub(super) queue: VecDeque<GangId>,
    /// Gangs that need none.
    pub(super) free: Vec<GangId>,
    pub(super) slots_used: u32,
    /// Tasks that are `Starting` or `Running`.
    pub(super) live: BTreeSet<TaskId>,
    /// Tasks that are `Resting`.
    pub(super) resting: BTreeSet<TaskId>,
    pub(super) attempts: Vec<Attempts>,
    /// When each task was restarted, as far back as its `window` reaches.
    pub(super) restarts: BTreeMap<TaskId, VecDeque<Now>>,
    /// Tasks that are `Undecided`, with what their processes ended with.
    pub(super) undecided: Vec<(TaskId, Exit)>,
    pub(super) timers: BinaryHeap<Reverse<(Now, Timer)>>,
    pub(super) course: Course,
    /// When the first request to end came.
    pub(super) interrupted_at: Option<Now>,
    /// Nothing gets an orderly end any more.
    pub(super) killing: bool,
    /// Services whose inputs have ended, and who are looked at since.
    pub(super) running_dry: BTreeSet<TaskId>,
    /// The first thing that went wrong; an interruption beats it.
    pub(super) trouble: Option<Ending>,
    pub(super) to_settle: u32,
    /// Tasks to end that belong to no service. `None`: the pipeline has only services.
    pub(super) needed: Option<u32>,
    /// Stages whose last task has settled, or whose last task has started, still to be told to their dependants.
    pub(super) news: VecDeque<(StageId, News)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Started,
    /// Its gang has begun anew: to its mates alone.
    StartedAnew,
    Settled,
}

impl State {
    pub fn new(pipeline: &Pipeline, plan: &Plan) -> Self {
        let graph = Graph::new(pipeline, plan);
        let stages = graph.stages.iter().map(|s| Stage {
            to_start: s.tasks.len() as u32,
            to_end: s.tasks.len() as u32,
            told_started: false,
            to_settle: s.tasks.len() as u32,
            failed: None,
            has_exited: true,
            waits_for_mates: s.waits_for_mates,
        });
        let gangs = graph.gangs.iter().map(|g| Gang {
            phase: Phase::Waiting,
            queued_at: Now::ZERO,
            admitted_at: Now::ZERO,
            waits_for: g.waits_for,
            to_start: g.tasks,
            to_settle: g.tasks,
            doomed: false,
        });
        let total = graph.stage_of_task.len() as u32;
        let needed: u32 = graph.stages.iter().filter(|s| !s.service).map(|s| s.tasks.len() as u32).sum();
        Self {
            tasks: vec![Task::Waiting; total as usize],
            stages: stages.collect(),
            gangs: gangs.collect(),
            queue: VecDeque::new(),
            free: Vec::new(),
            slots_used: 0,
            live: BTreeSet::new(),
            resting: BTreeSet::new(),
            attempts: vec![Attempts::default(); total as usize],
            restarts: BTreeMap::new(),
            undecided: Vec::new(),
            timers: BinaryHeap::new(),
            course: Course::Going,
            interrupted_at: None,
            killing: false,
            running_dry: BTreeSet::new(),
            trouble: None,
            to_settle: total,
            now: Now::ZERO,
            needed: (needed > 0).then_some(needed),
            news: VecDeque::new(),
            graph,
        }
    }

    /// When [`super::Event::Tick`] is next wanted.
    pub fn next_deadline(&self) -> Option<Now> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// How long the task waited for a slot after its dependencies held.
    pub fn queue_wait(&self, task: TaskId) -> Now {
        let gang = &self.gangs[self.graph.stage_of(task).1.gang.0 as usize];
        gang.admitted_at.saturating_sub(gang.queued_at)
    }

    /// Tasks that wait only for a slot.
    pub fn queued(&self) -> usize {
        self.queue.iter().map(|&g| self.graph.gang(g).tasks as usize).sum()
    }

    /// Which process of the task is the latest: from 1; 0 if there was none yet.
    pub fn attempt(&self, task: TaskId) -> u32 {
        self.attempts[task.0 as usize].number
    }

    pub(super) fn task(&self, id: TaskId) -> Task {
        self.tasks[id.0 as usize]
    }

    pub(super) fn set(&mut self, id: TaskId, task: Task) {
        match task {
            Task::Starting { .. } | Task::Running { .. } => self.live.insert(id),
            _ => self.live.remove(&id),
        };
        match task {
            Task::Resting => self.resting.insert(id),
            _ => self.resting.remove(&id),
        };
        self.tasks[id.0 as usize] = task;
    }

    /// It has no process any more, and there is none to come.
    pub(super) fn is_over(&self, stage: StageId) -> bool {
        self.stages[stage.0 as usize].to_end == 0
    }

    /// The task will have no further process, for all that is known now.
    pub(super) fn count_end(&mut self, id: TaskId) {
        let (stage, row) = self.graph.stage_of(id);
        if !row.service {
            self.needed = self.needed.map(|n| n - 1);
        }
        self.stages[stage.0 as usize].to_end -= 1;
    }

    pub(super) fn timer(&mut self, at: Now, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    /// Gives the task its final state: the only place where that happens.
    pub(super) fn settle(&mut self, id: TaskId, outcome: Outcome, actions: &mut Vec<Action>) {
        assert!(!matches!(self.task(id), Task::Settled(_)), "a task settles once");
        if self.task(id) != Task::Done {
            self.count_end(id);
        }
        self.set(id, Task::Settled(outcome));
        actions.push(Action::Settled(id, outcome));
        let (stage_id, row) = self.graph.stage_of(id);
        let gang_id = row.gang;
        self.to_settle -= 1;
        let stage = &mut self.stages[stage_id.0 as usize];
        stage.to_settle -= 1;
        stage.has_exited &= outcome.has_exited();
        if !outcome.is_good() {
            stage.failed.get_or_insert(id);
        }
        if stage.to_settle == 0 {
            self.news.push_back((stage_id, News::Settled));
        }
        let gang = &mut self.gangs[gang_id.0 as usize];
        gang.to_settle -= 1;
        if gang.to_settle == 0 {
            if !matches!(gang.phase, Phase::Waiting | Phase::Queued) {
                self.slots_used -= u32::from(self.graph.gang(gang_id).takes_slot);
                actions.push(Action::Dissolve(gang_id));
            }
            gang.phase = Phase::Over;
        }
        self.trouble = self.trouble.or(match outcome {
            Outcome::Failed(_) => Some(Ending::StageFailed),
            Outcome::NotStarted => Some(Ending::StageNotStarted),
            Outcome::TimedOut => Some(Ending::TimedOut),
            Outcome::Succeeded | Outcome::Stopped(_) | Outcome::Skipped(_) => None,
        });
    }

    /// Tells dependants what has come about, until nothing new follows from it.
    pub(super) fn spread(&mut self, actions: &mut Vec<Action>) {
        while let Some((stage_id, news)) = self.news.pop_front() {
            let dependants = std::mem::take(&mut self.graph.stages[stage_id.0 as usize].dependants);
            let gang = self.graph.stage(stage_id).gang;
            let concerns = |s: StageId, graph: &Graph| news != News::StartedAnew || graph.stage(s).gang == gang;
            for &(dependant, condition) in &dependants {
                if !concerns(dependant, &self.graph) {
                    continue;
                }
                match self.verdict(stage_id, condition, news) {
                    Verdict::NotYet => {}
                    Verdict::Holds => self.satisfy(dependant, actions),
                    Verdict::Never(cause) => {
                        let gang = self.graph.stage(dependant).gang;
                        self.skip_gang(gang, Cause::Dependency(cause), actions);
                    }
                }
            }
            self.graph.stages[stage_id.0 as usize].dependants = dependants;
        }
    }

    /// What this piece of news means for one who waits for `condition`. Each condition holds or fails once.
    fn verdict(&self, stage_id: StageId, condition: Condition, news: News) -> Verdict {
        let stage = &self.stages[stage_id.0 as usize];
        let culprit = || stage.failed.unwrap_or(TaskId(self.graph.stage(stage_id).tasks.start));
        match (condition, news) {
            (Condition::Started, News::Started | News::StartedAnew) => Verdict::Holds,
            // All started long ago, and that was told then.
            (Condition::Started, News::Settled) if stage.told_started => Verdict::NotYet,
            (Condition::Started, News::Settled) => Verdict::Never(culprit()),
            (Condition::Completed | Condition::Exited, News::Started | News::StartedAnew) => Verdict::NotYet,
            (Condition::Completed, News::Settled) if stage.failed.is_none() => Verdict::Holds,
            (Condition::Exited, News::Settled) if stage.has_exited => Verdict::Holds,
            (Condition::Completed | Condition::Exited, News::Settled) => Verdict::Never(culprit()),
        }
    }

    fn satisfy(&mut self, dependant: StageId, actions: &mut Vec<Action>) {
        let gang_id = self.graph.stage(dependant).gang;
        let stage = &mut self.stages[dependant.0 as usize];
        let gang = &mut self.gangs[gang_id.0 as usize];
        // The graph counted mates and others apart: what a mate fulfils comes while the gang starts.
        if gang.phase == Phase::Waiting {
            gang.waits_for -= 1;
            if gang.waits_for == 0 {
                self.enqueue(gang_id);
            }
        } else if gang.phase == Phase::Starting {
            stage.waits_for_mates -= 1;
            if stage.waits_for_mates == 0 {
                self.spawn_stage(dependant, actions);
            }
        }
    }

    pub(super) fn enqueue(&mut self, gang: GangId) {
        self.gangs[gang.0 as usize].phase = Phase::Queued;
        self.gangs[gang.0 as usize].queued_at = self.now;
        match self.graph.gang(gang).takes_slot {
            true => self.queue.push_back(gang),
            false => self.free.push(gang),
        }
    }

    pub(super) fn spawn_stage(&mut self, stage: StageId, actions: &mut Vec<Action>) {
        for task in self.graph.stage(stage).tasks.clone().map(TaskId) {
            if matches!(self.task(task), Task::Waiting | Task::Resting) {
                self.spawn(task, actions);
            }
        }
    }

    pub(super) fn spawn(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.set(task, Task::Starting { doomed: None });
        self.attempts[task.0 as usize].number += 1;
        actions.push(Action::Spawn(task));
    }

    /// A gang that has not begun, perhaps anew, never will.
    pub(super) fn skip_gang(&mut self, gang: GangId, cause: Cause, actions: &mut Vec<Action>) {
        if !matches!(self.gangs[gang.0 as usize].phase, Phase::Waiting | Phase::Queued | Phase::Preparing) {
            return;
        }
        for task in self.graph.tasks_of_gang(gang).collect::<Vec<_>>() {
            let outcome = if self.attempt(task) == 0 { Outcome::Skipped(cause) } else { Outcome::Stopped(cause) };
            self.settle(task, outcome, actions);
        }
    }
}

enum Verdict {
    NotYet,
    Holds,
    Never(TaskId),
}
