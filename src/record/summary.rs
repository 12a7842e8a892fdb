//! A run in short, folded from its facts while it runs: the source of the metrics and of the report at its end.
//! Memory grows with the number of replicas, never with what they do.

use std::collections::HashMap;

use super::{EdgeEnded, Fact, Outcome, RunEnded, RunOutcome, RunStarted, StageEnded, Usage};

#[derive(Debug, Default)]
pub struct Summary {
    pub started: Option<RunStarted>,
    pub ended: Option<RunEnded>,
    /// In the order in which they were first heard of.
    pub stages: Vec<StageSummary>,
    pub edges: Vec<EdgeEnded>,
    index: HashMap<String, usize>,
}

/// All attempts of all replicas of a stage.
#[derive(Debug, Clone, Default)]
pub struct StageSummary {
    pub stage: String,
    /// The latest attempt of each replica, if it has ended.
    pub replicas: Vec<Option<Last>>,
    /// Processes started.
    pub attempts: u32,
    /// Those of them that followed on an earlier one.
    pub restarts: u32,
    /// Of the longest attempt.
    pub duration_s: f64,
    /// Of the attempt that waited longest.
    pub queue_wait_s: f64,
    /// Sums, but for `max_rss_bytes`, which is the largest known of one process. `None`: nothing ran.
    pub usage: Option<Usage>,
    /// The first last attempt that ended badly by itself; before there is one, the first that did not succeed.
    pub trouble: Option<Box<StageEnded>>,
}

/// How a replica's latest attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub outcome: Outcome,
    pub status: Option<i32>,
}

impl Summary {
    pub fn fold(&mut self, fact: &Fact) {
        match fact {
            Fact::RunStarted(f) => {
                self.stages.reserve_exact(f.stages as usize);
                self.started = Some(f.clone());
            }
            Fact::StageStarted(f) => {
                let stage = self.stage(&f.stage);
                stage.attempts += 1;
                stage.restarts += u32::from(f.attempt > 1);
                stage.queue_wait_s = stage.queue_wait_s.max(f.queue_wait_s);
            }
            Fact::StageEnded(f) => self.stage(&f.stage).end(f),
            Fact::EdgeEnded(f) => self.edges.push(f.clone()),
            Fact::RunEnded(f) => self.ended = Some(f.clone()),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.ended.as_ref().is_some_and(|e| e.outcome == RunOutcome::Succeeded)
    }

    /// How many replicas ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.stages.iter().map(|s| s.count(outcome)).sum()
    }

    fn stage(&mut self, name: &str) -> &mut StageSummary {
        let at = match self.index.get(name) {
            Some(&at) => at,
            None => {
                self.index.insert(name.to_owned(), self.stages.len());
                self.stages.push(StageSummary { stage: name.to_owned(), ..StageSummary::default() });
                self.stages.len() - 1
            }
        };
        &mut self.stages[at]
    }
}

impl StageSummary {
    fn end(&mut self, f: &StageEnded) {
        let replica = f.replica as usize;
        if self.replicas.len() <= replica {
            self.replicas.reserve_exact(replica + 1 - self.replicas.len());
            self.replicas.resize(replica + 1, None);
        }
        self.replicas[replica] = Some(Last { outcome: f.outcome, status: f.status() });
        self.duration_s = self.duration_s.max(f.duration_s);
        if let Some(u) = &f.usage {
            self.usage.get_or_insert_default().add(u);
        }
        let known = self.trouble.as_ref().map(|t| t.outcome.is_failure());
        if f.outcome != Outcome::Succeeded
            && f.restart_in_s.is_none()
            && known.is_none_or(|failure| !failure && f.outcome.is_failure())
        {
            self.trouble = Some(Box::new(f.clone()));
        }
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.ended().filter(|l| l.outcome == outcome).count()
    }

    /// A replica ended badly by itself; one that was skipped or stopped did not.
    pub fn failed(&self) -> bool {
        self.ended().any(|l| l.outcome.is_failure())
    }

    /// What the stage returned, as a shell says it; of several replicas the worst.
    pub fn status(&self) -> Option<i32> {
        self.ended().filter_map(|l| l.status).max()
    }

    fn ended(&self) -> impl Iterator<Item = Last> + '_ {
        self.replicas.iter().flatten().copied()
    }
}

impl Outcome {
    /// It ended badly by itself.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::NotStarted)
    }
}

impl StageEnded {
    /// The exit code, or 128 and the signal, as a shell says it.
    pub fn status(&self) -> Option<i32> {
        self.exit_code.or(self.signal.map(|s| 128 + s))
    }
}

impl Usage {
    /// Sums; of resident sets the larger.
    pub fn add(&mut self, other: &Self) {
        self.user_s += other.user_s;
        self.system_s += other.system_s;
        self.max_rss_bytes = self.max_rss_bytes.max(other.max_rss_bytes);
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn replicas_and_attempts_fold_into_their_stage() {
        let mut s = Summary::default();
        for fact in [
            run_started("p-1", 0),
            stage_started("a", 1, 1),
            stage_started("a", 0, 1),
            stage_ended("a", 0, Outcome::Succeeded, 3),
            stage_ended("a", 1, Outcome::Failed, 3),
            stage_ended("b", 0, Outcome::Skipped, 3),
            run_ended(RunOutcome::Failed, 4),
        ] {
            s.fold(&fact);
        }
        let a = &s.stages[0];
        assert_eq!((a.attempts, a.status(), a.failed()), (2, Some(7), true));
        assert_eq!(a.usage.unwrap().user_s, 2.0 * USAGE.user_s);
        assert_eq!(a.usage.unwrap().max_rss_bytes, USAGE.max_rss_bytes);
        assert_eq!(a.trouble.as_ref().unwrap().replica, 1);
        let b = &s.stages[1];
        assert_eq!((b.attempts, b.status(), b.usage, b.failed()), (0, None, None, false));
        assert_eq!((s.count(Outcome::Skipped), s.count(Outcome::Succeeded)), (1, 1));
        assert!(!s.succeeded());
    }
}
