//! The words between the decider and the executor.

use std::time::Duration;

use crate::pipeline::GangId;
use crate::plan::TaskId;
use crate::spec::Signal;

/// What the executor reports. Times are handed to [`super::State::step`] beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Once, first.
    Begin,
    /// To [`Action::Prepare`]: its edges are made; or they could not be, and no `Spawn` will succeed.
    Prepared(GangId),
    /// The task's process has exec'd.
    Started(TaskId),
    /// It could not be started; nothing of it runs.
    NotStarted(TaskId),
    /// Its process has been reaped, what it left behind is dead, and what it wrote has been passed on.
    Ended(TaskId, Exit),
    /// Someone asked the run to end: SIGINT, SIGTERM or SIGHUP.
    Interrupted(Signal),
    /// Nobody is left to clear up after us: everything must go, at once.
    Orphaned,
    /// To [`Action::AskDrained`]: whether it has read all there will ever be.
    Drained(TaskId, bool),
    /// A deadline that [`super::State::next_deadline`] named has come.
    Tick,
}

/// How a process ended, as waitid(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
    /// An adapter failed it: a message over the limit, a poisoned edge. The executor has the story.
    Edge,
}

/// What the executor is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the gang's edges, anew if they are there; answered by `Prepared`, unless [`Action::Dissolve`] comes before.
    Prepare(GangId),
    /// Start the task's process, [`super::State::attempt`]; answered by `Started` or `NotStarted`.
    Spawn(TaskId),
    /// Every mate has exec'd: hand edges out.
    OpenEdges(GangId),
    /// The task ended well: its outputs end, its inputs are detached.
    Release(TaskId),
    /// The task ended otherwise: its inputs are detached, so that nobody waits for it to read.
    Abandon(TaskId),
    /// Send a signal to the task's whole tree.
    Signal(TaskId, Signal),
    /// SIGKILL the task's whole tree.
    Kill(TaskId),
    /// Its inputs have ended and it is still there: has it read everything? Answered by `Drained`.
    AskDrained(TaskId),
    /// The task's attempt has ended so, and after this wait it is spawned again. With its gang: when all of it is down.
    Restarting(TaskId, Outcome, Duration),
    /// It has succeeded, and settles when all of its gang has: until then the gang may have to begin anew.
    Done(TaskId),
    /// The task's final state; told exactly once a task.
    Settled(TaskId, Outcome),
    /// Every task of the gang is settled: its edges can be taken down.
    Dissolve(GangId),
    /// The run is over. Nothing follows.
    Finish(Ending),
}

/// The final state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed(Exit),
    /// It ran past its own timeout, or the run's.
    TimedOut,
    /// Ended by us: a gang mate failed, the run was stopped, or a service was no longer needed.
    Stopped(Cause),
    /// It never ran: what it needs did not come about.
    Skipped(Cause),
    NotStarted,
}

/// Why a task was stopped or skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This task failed, and took its gang along.
    Mate(TaskId),
    /// This task, which it depends on, did not end as needed.
    Dependency(TaskId),
    /// A stage failed and `on_failure: stop` says so.
    OnFailure,
    Interrupted,
    RunTimeout,
    /// A service, and all that is not a service has ended.
    NoLongerNeeded,
}

/// How the run ended; the exit code of the program follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    /// The first stage that failed.
    StageFailed,
    StageNotStarted,
    TimedOut,
    Interrupted(Signal),
}

impl Ending {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::StageFailed => 1,
            Self::StageNotStarted => 5,
            Self::TimedOut => 124,
            Self::Interrupted(signal) => 128u8.saturating_add(signal.0.clamp(0, 64) as u8),
        }
    }
}

impl Outcome {
    /// It ran and ended, well or not: what `depends_on: exited` waits for.
    pub(super) fn has_exited(self) -> bool {
        !matches!(self, Self::Skipped(_) | Self::NotStarted)
    }

    /// Not its own fault and not the run's: a service that was told to go did what it should.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::Stopped(Cause::NoLongerNeeded))
    }
}

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    RunTimeout,
    /// The stage's `timeout`. Here and below: of this attempt and no other.
    TaskTimeout(TaskId, u32),
    /// A service whose inputs have ended is looked at again; whether it had read everything the last time.
    LookAgain(TaskId, u32, bool),
    /// The stage's `stop_timeout` after its `stop_signal`.
    KillAfterStop(TaskId, u32),
    /// The wait after this attempt is over.
    Restart(TaskId, u32),
    /// The same for a whole gang that is down.
    BeginAnew(GangId),
}

/// Time since the run began.
pub(super) type Now = Duration;
