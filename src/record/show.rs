//! Runs as people read them: `dag history` and `dag show`. (Programs read the rows as JSON.)

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::human::{Align, bytes, duration, harmless, table};
use super::{Attempt, Edge, Outcome, Run, Summary};

/// So many troubles are told; the table above them has all.
const TROUBLES_MAX: usize = 20;

use Align::{Left, Right};

/// The table of `dag history`.
pub fn history(runs: &[Run], zone: &TimeZone) -> String {
    if runs.is_empty() {
        return "no runs yet\n".into();
    }
    let rows: Vec<_> = runs
        .iter()
        .map(|r| {
            [
                r.run.clone(),
                r.status.word().into(),
                or_dash(r.exit_code),
                local(r.started_at, zone),
                r.duration_s.map_or("-".into(), duration),
                r.stages.to_string(),
            ]
        })
        .collect();
    let heading =
        [("RUN", Left), ("STATUS", Left), ("EXIT", Right), ("STARTED", Left), ("TOOK", Right), ("STAGES", Right)];
    table(heading, &rows)
}

/// Everything that is known of a run.
pub fn run(run: &Run, attempts: &[Attempt], edges: &[Edge], zone: &TimeZone) -> String {
    let mut out = format!("{}  {}", run.run, run.status.word());
    let _ = match run.exit_code {
        Some(code) => writeln!(out, " (exit {code})"),
        None => writeln!(out),
    };
    let _ = writeln!(out, "  file     {}", harmless(&run.file));
    let _ = write!(out, "  started  {}", local(run.started_at, zone));
    let _ = match run.duration_s {
        Some(s) => writeln!(out, ", took {}", duration(s)),
        None => writeln!(out, ", runner's pid {}", run.pid),
    };
    let _ = writeln!(out, "  logs     {}", harmless(&run.logs));
    let _ = writeln!(out, "  by       nexusflow {}", harmless(&run.version));
    let names = Names::new(attempts);
    if !attempts.is_empty() {
        let _ = write!(out, "\n{}", stages(attempts, &names, run));
    }
    if !edges.is_empty() {
        let _ = write!(out, "\n{}", edge_table(edges));
        missed(&mut out, edges);
    }
    troubles(&mut out, attempts, &names);
    out
}

/// The end of a run in a line, and below it what went wrong by itself.
pub fn ending(summary: &Summary) -> String {
    let (Some(started), Some(ended)) = (&summary.started, &summary.ended) else { return String::new() };
    let counts = Outcome::ALL.iter().map(|&o| (summary.count(o), o.word())).filter(|(n, _)| *n > 0);
    let counts: Vec<_> = counts.map(|(n, word)| format!("{n} {word}")).collect();
    let cpu: f64 = summary.stages.iter().filter_map(|s| s.usage).map(|u| u.user_s + u.system_s).sum();
    let mut out = format!("{}  {}", started.run, ended.outcome);
    if ended.exit_code != 0 {
        let _ = write!(out, " (exit {})", ended.exit_code);
    }
    let _ = writeln!(out, " in {}, {} of CPU: {}", duration(ended.duration_s), duration(cpu), counts.join(", "));
    let bad: Vec<_> = summary.stages.iter().filter(|s| s.failed()).collect();
    for stage in bad.iter().take(TROUBLES_MAX) {
        let reason = stage.trouble.as_ref().and_then(|t| t.reason.as_deref()).unwrap_or("failed");
        let _ = writeln!(out, "  {}: {}", stage.stage, harmless(reason));
    }
    if bad.len() > TROUBLES_MAX {
        let _ = writeln!(out, "  and {} more", bad.len() - TROUBLES_MAX);
    }
    out
}

fn stages(attempts: &[Attempt], names: &Names, run: &Run) -> String {
    let rows: Vec<_> = attempts
        .iter()
        .map(|a| {
            let outcome = match a.outcome {
                Some(outcome) => outcome.word(),
                None => run.status.unfinished(),
            };
            let exit = a.exit_code.map(|c| c.to_string()).or(a.signal.map(|s| format!("signal {s}")));
            let cpu = a.usage.map(|u| duration(u.user_s + u.system_s));
            [
                names.of(a),
                outcome.into(),
                exit.unwrap_or("-".into()),
                a.duration_s.filter(|_| a.started_at.is_some()).map_or("-".into(), duration),
                cpu.unwrap_or("-".into()),
                a.usage.and_then(|u| u.max_rss_bytes).map_or("-".into(), bytes),
                a.cpus.clone().unwrap_or("-".into()),
                a.queue_wait_s.map_or("-".into(), duration),
            ]
        })
        .collect();
    let heading = [
        ("STAGE", Left),
        ("OUTCOME", Left),
        ("EXIT", Right),
        ("TOOK", Right),
        ("CPU", Right),
        ("RSS", Right),
        ("CPUS", Left),
        ("QUEUED", Right),
    ];
    table(heading, &rows)
}

fn edge_table(edges: &[Edge]) -> String {
    let rows: Vec<_> = edges
        .iter()
        .map(|e| {
            [
                e.edge.clone(),
                e.messages.to_string(),
                bytes(e.bytes),
                e.dropped.to_string(),
                e.batches.filter(|n| *n > 0).map_or("-".into(), |n| format!("{:.1}", e.messages as f64 / n as f64)),
                e.high_water_bytes.map_or("-".into(), bytes),
                bytes(e.backlog_bytes),
                duration(e.blocked_s),
                duration(e.waited_s),
            ]
        })
        .collect();
    let heading = [
        ("EDGE", Left),
        ("MESSAGES", Right),
        ("BYTES", Right),
        ("DROPPED", Right),
        ("BATCH", Right),
        ("HIGH WATER", Right),
        ("UNREAD", Right),
        ("PRODUCERS BLOCKED", Right),
        ("CONSUMERS WAITED", Right),
    ];
    table(heading, &rows)
}

/// Who did not get what edges dropped.
fn missed(out: &mut String, edges: &[Edge]) {
    let all = edges.iter().flat_map(|e| e.consumers.iter().map(move |c| (e, c))).filter(|(_, c)| c.dropped > 0);
    for (i, (e, c)) in all.clone().take(TROUBLES_MAX).enumerate() {
        let before = if i == 0 { "\n" } else { "" };
        let _ =
            writeln!(out, "{before}{}: {} got {} messages and missed {}", e.edge, c.consumer, c.messages, c.dropped);
    }
    let more = all.count().saturating_sub(TROUBLES_MAX);
    if more > 0 {
        let _ = writeln!(out, "and {more} more");
    }
}

/// What did not succeed, with its reason; what failed by itself before what was stopped or skipped because of it.
fn troubles(out: &mut String, attempts: &[Attempt], names: &Names) {
    let mut bad: Vec<_> = attempts.iter().filter(|a| a.reason.is_some()).collect();
    bad.sort_by_key(|a| !a.outcome.is_some_and(Outcome::is_failure));
    for (i, a) in bad.iter().take(TROUBLES_MAX).enumerate() {
        let before = if i == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{before}{}: {}", names.of(a), harmless(a.reason.as_deref().unwrap_or_default()));
        if let (Some(log), true) = (&a.log, a.outcome.is_some_and(Outcome::is_failure)) {
            let _ = writeln!(out, "  log: {}", harmless(log));
        }
    }
    if bad.len() > TROUBLES_MAX {
        let _ = writeln!(out, "and {} more", bad.len() - TROUBLES_MAX);
    }
}

/// `hash`, `hash@1` where there are replicas, `hash@1 #2` for a second attempt.
struct Names<'a> {
    replicated: std::collections::HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn new(attempts: &'a [Attempt]) -> Self {
        Self { replicated: attempts.iter().filter(|a| a.replica > 0).map(|a| a.stage.as_str()).collect() }
    }

    fn of(&self, a: &Attempt) -> String {
        let replica =
            if self.replicated.contains(a.stage.as_str()) { format!("@{}", a.replica) } else { String::new() };
        let attempt = if a.attempt > 1 { format!(" #{}", a.attempt) } else { String::new() };
        format!("{}{replica}{attempt}", a.stage)
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn or_dash(n: Option<i32>) -> String {
    n.map_or("-".into(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::super::{Fact, Reader, RunOutcome, Writer};
    use super::*;

    fn shown(facts: impl IntoIterator<Item = Fact>) -> String {
        let state = tempfile::tempdir().unwrap();
        let writer = Writer::start(state.path()).unwrap();
        facts.into_iter().for_each(|f| writer.record(f));
        writer.close().unwrap();
        let reader = Reader::open(state.path()).unwrap();
        let r = reader.run("last").unwrap();
        run(&r, &reader.attempts(&r.run).unwrap(), &reader.edges(&r.run).unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn a_failed_run() {
        let text = shown([
            run_started("p-1", 0),
            stage_started("walk", 0, 1),
            stage_started("hash", 0, 1),
            stage_started("hash", 1, 1),
            stage_ended("walk", 0, Outcome::Stopped, 3),
            stage_ended("hash", 0, Outcome::Succeeded, 3),
            stage_ended("hash", 1, Outcome::Failed, 3),
            stage_ended("report", 0, Outcome::Skipped, 3),
            edge_ended("paths"),
            run_ended(RunOutcome::Failed, 4),
        ]);
        insta::assert_snapshot!(text, @r"
        p-1  failed (exit 1)
          file     /etc/p.yaml
          started  2026-11-22 10:40:00 +00:00, took 10.5s
          logs     /var/log
          by       nexusflow 0.1.0

        STAGE   OUTCOME    EXIT   TOOK    CPU   RSS  CPUS  QUEUED
        hash@0  succeeded     0  2.00s  2.00s  4MiB  0-1    250ms
        hash@1  failed        7  2.00s  2.00s     -  0-1    250ms
        walk    stopped       -  2.00s  2.00s  4MiB  0-1    250ms
        report  skipped       -      -      -     -  -          -

        EDGE   MESSAGES    BYTES  DROPPED  BATCH  HIGH WATER  UNREAD  PRODUCERS BLOCKED  CONSUMERS WAITED
        paths      1000  62.5KiB       30    2.5        4KiB      0B              500ms             1.25s

        paths: hash@0 got 980 messages and missed 20
        paths: hash@1 got 990 messages and missed 10

        hash@1: exited with 7
        walk: exited with 7
        report: exited with 7
        ");
    }

    #[test]
    fn a_run_that_died() {
        insta::assert_snapshot!(shown([run_started("p-1", 0), stage_started("walk", 0, 1)]), @r"
        p-1  died
          file     /etc/p.yaml
          started  2026-11-22 10:40:00 +00:00, runner's pid 7
          logs     /var/log
          by       nexusflow 0.1.0

        STAGE  OUTCOME  EXIT  TOOK  CPU  RSS  CPUS  QUEUED
        walk   died        -     -    -    -  0-1    250ms
        ");
    }

    #[test]
    fn endings() {
        let ending = |outcome, hash| {
            let mut s = Summary::default();
            let facts =
                [run_started("p-1", 0), stage_started("walk", 0, 1), stage_ended("walk", 0, Outcome::Succeeded, 3)];
            let more = [stage_started("hash", 0, 1), stage_ended("hash", 0, hash, 3), run_ended(outcome, 4)];
            facts.iter().chain(&more).for_each(|f| s.fold(f));
            super::ending(&s)
        };
        assert_eq!(
            ending(RunOutcome::Succeeded, Outcome::Succeeded),
            "p-1  succeeded in 10.5s, 4.00s of CPU: 2 succeeded\n"
        );
        assert_eq!(
            ending(RunOutcome::Failed, Outcome::Failed),
            "p-1  failed (exit 1) in 10.5s, 4.00s of CPU: 1 succeeded, 1 failed\n  hash: exited with 7\n"
        );
    }

    #[test]
    fn histories() {
        assert_eq!(history(&[], &TimeZone::UTC), "no runs yet\n");
        let Fact::RunStarted(started) = run_started("p-1", 0) else { unreachable!() };
        let Fact::RunEnded(ended) = run_ended(RunOutcome::TimedOut, 9) else { unreachable!() };
        let mut runs = vec![Run::started(started); 2];
        runs[1].end(&ended);
        insta::assert_snapshot!(history(&runs, &TimeZone::fixed(jiff::tz::offset(1))), @r"
        RUN  STATUS     EXIT  STARTED                      TOOK  STAGES
        p-1  running       -  2026-11-22 11:40:00 +01:00      -       2
        p-1  timed_out     1  2026-11-22 11:40:00 +01:00  10.5s       2
        ");
    }
}
