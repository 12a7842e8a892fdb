//! The decider's words turned into the facts of the record.

use std::time::Duration;

use jiff::Timestamp;
use nexusflow_sys::process;

use super::Context;
use crate::plan::TaskId;
use crate::record::{self, RunOutcome, StageEnded, Usage};
use crate::run::{Cause, Ending, Exit, Outcome};
use crate::spec::Signal;

/// By how much the kernel may count our peak lower now than at an exec before: it adds up what each CPU counted only
/// now and then, tens of pages at a time.
const RSS_SLACK_BYTES: u64 = 1 << 20;

/// What is known of one attempt when its task settles.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub attempt: u32,
    pub duration: Duration,
    pub exit: Option<Exit>,
    pub usage: Option<Usage>,
    pub log: Option<String>,
    pub restart_in: Option<Duration>,
    /// Why it could not start, or what was wrong with what it wrote.
    pub trouble: Option<String>,
}

pub(super) fn stage_ended(cx: &Context, task: TaskId, outcome: Outcome, ran: Ran) -> StageEnded {
    let planned = cx.plan.task(task);
    let (exit_code, signal) = match ran.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal.0)),
        Some(Exit::Edge) | None => (None, None),
    };
    StageEnded {
        stage: cx.pipeline.stage(planned.stage).name.clone(),
        replica: planned.replica,
        attempt: ran.attempt,
        outcome: match outcome {
            Outcome::Succeeded => record::Outcome::Succeeded,
            Outcome::Failed(_) => record::Outcome::Failed,
            Outcome::TimedOut => record::Outcome::TimedOut,
            Outcome::Stopped(_) => record::Outcome::Stopped,
            Outcome::Skipped(_) => record::Outcome::Skipped,
            Outcome::NotStarted => record::Outcome::NotStarted,
        },
        exit_code,
        signal,
        reason: reason(cx, task, outcome, ran.trouble, ran.restart_in.is_some()),
        at: Timestamp::now(),
        duration_s: ran.duration.as_secs_f64(),
        usage: ran.usage,
        restart_in_s: ran.restart_in.map(|wait| wait.as_secs_f64()),
        log: ran.log,
    }
}

/// What a process that has just been waited for used. At exec it takes over the peak of the memory it was made in, ours,
/// so only a figure above that is its own.
pub(super) fn usage(u: process::Usage) -> Usage {
    let floor = process::own_max_rss_bytes() + RSS_SLACK_BYTES;
    Usage {
        user_s: u.user.as_secs_f64(),
        system_s: u.system.as_secs_f64(),
        max_rss_bytes: (u.max_rss_bytes > floor).then_some(u.max_rss_bytes),
        minor_faults: u.minor_faults,
        major_faults: u.major_faults,
        voluntary_switches: u.voluntary_switches,
        involuntary_switches: u.involuntary_switches,
    }
}

fn reason(cx: &Context, task: TaskId, outcome: Outcome, trouble: Option<String>, again: bool) -> Option<String> {
    let stage = cx.stage(task);
    match outcome {
        Outcome::Succeeded => None,
        Outcome::NotStarted => trouble.or_else(|| Some("it could not be started".into())),
        Outcome::Failed(Exit::Code(0)) => Some("a service is to stay, but it ended by itself with exit code 0".into()),
        Outcome::Failed(Exit::Code(code)) => Some(format!("it ended with exit code {code}")),
        Outcome::Failed(Exit::Signal(signal)) => Some(format!("it was killed by {}", signal_name(signal))),
        Outcome::Failed(Exit::Edge) => trouble.or_else(|| Some("what it wrote is no message of its edge".into())),
        Outcome::TimedOut => Some(format!("it ran longer than its timeout of {:?}", stage.timeout.unwrap_or_default())),
        Outcome::Stopped(cause) | Outcome::Skipped(cause) => Some(match cause {
            Cause::Mate(culprit) => {
                let does = if again { "is restarted with all of its gang" } else { "failed" };
                format!("`{}`, which edges tie it to, {does}", task_name(cx, culprit))
            }
            Cause::Dependency(culprit) => format!("`{}`, which it depends on, did not succeed", task_name(cx, culprit)),
            Cause::OnFailure => "another stage failed, and `on_failure: stop` ends the run".into(),
            Cause::Interrupted => "the run was interrupted".into(),
            Cause::RunTimeout => "the run's timeout has come".into(),
            Cause::NoLongerNeeded => "all that is not a service has ended".into(),
        }),
    }
}

pub(super) fn run_outcome(ending: Ending) -> RunOutcome {
    match ending {
        Ending::Succeeded => RunOutcome::Succeeded,
        Ending::StageFailed => RunOutcome::Failed,
        Ending::StageNotStarted => RunOutcome::NotStarted,
        Ending::TimedOut => RunOutcome::TimedOut,
        Ending::Interrupted(_) => RunOutcome::Interrupted,
    }
}

/// `enrich`, or `enrich@2` where there are replicas.
pub(super) fn task_name(cx: &Context, task: TaskId) -> String {
    let planned = cx.plan.task(task);
    cx.pipeline.stage(planned.stage).task_name(planned.replica)
}

fn signal_name(signal: Signal) -> String {
    nexusflow_sys::signal::name(signal.0).map_or_else(|| format!("signal {}", signal.0), |name| format!("SIG{name}"))
}
