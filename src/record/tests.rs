//! Facts written and read back, also when the database does not want to.

use std::time::Duration;

use super::*;

pub(crate) fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_795_344_000 + second).unwrap()
}

pub(crate) fn run_started(run: &str, second: i64) -> Fact {
    let pipeline = run.split('-').next().unwrap().to_owned();
    let file = format!("/etc/{pipeline}.yaml");
    Fact::RunStarted(RunStarted {
        run: run.into(),
        pipeline,
        file,
        logs: "/var/log".into(),
        pid: 7,
        at: at(second),
        stages: 2,
        tasks: 3,
        version: "0.1.0".into(),
    })
}

pub(crate) fn stage_started(stage: &str, replica: u32, second: i64) -> Fact {
    Fact::StageStarted(StageStarted {
        stage: stage.into(),
        replica,
        attempt: 1,
        pid: 100 + replica,
        cpus: "0-1".into(),
        at: at(second),
        queue_wait_s: 0.25,
    })
}

pub(crate) const USAGE: Usage = Usage {
    user_s: 1.5,
    system_s: 0.5,
    max_rss_bytes: Some(4 << 20),
    minor_faults: 100,
    major_faults: 1,
    voluntary_switches: 10,
    involuntary_switches: 2,
};

pub(crate) fn stage_ended(stage: &str, replica: u32, outcome: Outcome, second: i64) -> Fact {
    let ran = !matches!(outcome, Outcome::Skipped | Outcome::NotStarted);
    Fact::StageEnded(StageEnded {
        stage: stage.into(),
        replica,
        attempt: u32::from(ran),
        outcome,
        exit_code: match outcome {
            Outcome::Succeeded => Some(0),
            Outcome::Failed => Some(7),
            _ => None,
        },
        signal: None,
        reason: (outcome != Outcome::Succeeded).then(|| "exited with 7".into()),
        at: at(second),
        duration_s: if ran { 2.0 } else { 0.0 },
        // The first replica has more memory than its runner; of the others it is not known.
        usage: ran.then_some(Usage { max_rss_bytes: USAGE.max_rss_bytes.filter(|_| replica == 0), ..USAGE }),
        restart_in_s: None,
        log: None,
    })
}

pub(crate) fn edge_ended(edge: &str) -> Fact {
    Fact::EdgeEnded(EdgeEnded {
        edge: edge.into(),
        messages: 1_000,
        bytes: 64_000,
        batches: Some(400),
        dropped: 30,
        backlog_bytes: 0,
        high_water_bytes: Some(4_096),
        blocked_s: 0.5,
        waited_s: 1.25,
        consumers: [(0, 980, 20), (1, 990, 10)]
            .map(|(replica, messages, dropped)| EdgeConsumer { consumer: format!("hash@{replica}"), messages, dropped })
            .into(),
        at: at(9),
    })
}

pub(crate) fn run_ended(outcome: RunOutcome, second: i64) -> Fact {
    let exit_code = i32::from(outcome != RunOutcome::Succeeded);
    Fact::RunEnded(RunEnded { outcome, exit_code, at: at(second), duration_s: 10.5 })
}

fn write(state: &std::path::Path, facts: impl IntoIterator<Item = Fact>) {
    let writer = Writer::start(state).unwrap();
    facts.into_iter().for_each(|f| writer.record(f));
    writer.close().unwrap();
}

#[test]
fn a_run_is_read_back() {
    let state = tempfile::tempdir().unwrap();
    write(
        state.path(),
        [
            run_started("p-1", 0),
            stage_started("b", 0, 1),
            stage_started("a", 1, 2),
            stage_ended("a", 1, Outcome::Failed, 3),
            stage_ended("b", 0, Outcome::Succeeded, 4),
            stage_ended("c", 0, Outcome::Skipped, 4),
            edge_ended("e"),
            run_ended(RunOutcome::Failed, 5),
        ],
    );
    let reader = Reader::open(state.path()).unwrap();
    let run = reader.run("p-1").unwrap();
    assert_eq!(run.status, RunStatus::Ended(RunOutcome::Failed));
    assert_eq!((run.exit_code, run.ended_at, run.duration_s), (Some(1), Some(at(5)), Some(10.5)));
    let attempts = reader.attempts("p-1").unwrap();
    assert_eq!(attempts.iter().map(|a| a.stage.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
    assert_eq!(attempts[1].outcome, Some(Outcome::Failed));
    assert_eq!((attempts[1].exit_code, attempts[1].pid), (Some(7), Some(101)));
    assert_eq!(attempts[0].usage, Some(USAGE));
    assert_eq!(attempts[1].usage, Some(Usage { max_rss_bytes: None, ..USAGE }));
    assert_eq!((attempts[2].started_at, attempts[2].outcome), (None, Some(Outcome::Skipped)));
    let edge = &reader.edges("p-1").unwrap()[0];
    assert_eq!((edge.messages, edge.batches, edge.dropped, edge.high_water_bytes), (1_000, Some(400), 30, Some(4_096)));
    let consumers: Vec<_> = edge.consumers.iter().map(|c| (c.consumer.as_str(), c.messages, c.dropped)).collect();
    assert_eq!(consumers, [("hash@0", 980, 20), ("hash@1", 990, 10)]);
}

#[test]
fn runs_are_found_by_id_start_pipeline_and_last() {
    let state = tempfile::tempdir().unwrap();
    for (second, run) in ["p-1a", "p-1b", "q-2", "p_q-9"].into_iter().enumerate() {
        write(state.path(), [run_started(run, second as i64), run_ended(RunOutcome::Succeeded, 60)]);
    }
    let reader = Reader::open(state.path()).unwrap();
    let found = |word| reader.run(word).map(|r| r.run);
    assert_eq!(found("p-1a").unwrap(), "p-1a");
    assert_eq!(found("p").unwrap(), "p-1b", "a pipeline means its latest run");
    assert_eq!(found("q-").unwrap(), "q-2");
    assert_eq!(found("last").unwrap(), "p_q-9");
    assert!(matches!(found("p-1"), Err(NotFound::Ambiguous(_, runs)) if runs == ["p-1a", "p-1b"]));
    assert!(matches!(found("p%"), Err(NotFound::NoSuch(_))));
    let ids = |p, n| reader.history(p, n).unwrap().into_iter().map(|r| r.run).collect::<Vec<_>>();
    assert_eq!(ids(None, 2), ["p_q-9", "q-2"]);
    assert_eq!(ids(Some("p"), 9), ["p-1b", "p-1a"]);
}

#[test]
fn nothing_is_a_history_too() {
    let state = tempfile::tempdir().unwrap();
    let reader = Reader::open(state.path()).unwrap();
    assert!(reader.history(None, 10).unwrap().is_empty());
    assert!(matches!(reader.run("last"), Err(NotFound::NoRuns)));
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "asking makes nothing");
}

#[test]
fn a_run_without_an_end_runs_or_has_died() {
    let state = tempfile::tempdir().unwrap();
    let dir = RunDir::create(state.path(), "p-1").unwrap();
    write(state.path(), [run_started("p-1", 0), stage_started("a", 0, 1)]);
    let reader = Reader::open(state.path()).unwrap();
    assert_eq!(reader.run("p-1").unwrap().status, RunStatus::Running);
    assert_eq!(reader.attempts("p-1").unwrap()[0].outcome, None);
    drop(dir);
    assert_eq!(reader.run("p-1").unwrap().status, RunStatus::Died);
}

#[test]
fn many_stages_of_a_fast_run_are_all_kept() {
    let state = tempfile::tempdir().unwrap();
    let stages = (0..20_000).flat_map(|i| {
        let name = format!("s{i}");
        [stage_started(&name, 0, i), stage_ended(&name, 0, Outcome::Succeeded, i)]
    });
    write(state.path(), std::iter::once(run_started("p-1", 0)).chain(stages));
    let attempts = Reader::open(state.path()).unwrap().attempts("p-1").unwrap();
    assert_eq!(attempts.len(), 20_000);
    assert!(attempts.iter().all(|a| a.outcome == Some(Outcome::Succeeded)));
}

#[test]
fn a_locked_database_delays_the_record_not_the_run() {
    let state = tempfile::tempdir().unwrap();
    let other = schema::open(state.path(), Duration::ZERO).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writer = Writer::start(state.path()).unwrap();
    writer.record(run_started("p-1", 0));
    for replica in 0..2_000 {
        writer.record(stage_started("a", replica, 1));
        writer.record(stage_ended("a", replica, Outcome::Succeeded, 2));
    }
    other.execute_batch("ROLLBACK").unwrap();
    writer.close().unwrap();
    assert_eq!(Reader::open(state.path()).unwrap().attempts("p-1").unwrap().len(), 2_000);
}

#[test]
fn a_hopeless_database_is_told_once_at_the_end() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("history.db"), "this is no database, however long one looks at it".repeat(99))
        .unwrap();
    let writer = Writer::start(state.path()).unwrap();
    writer.record(run_started("p-1", 0));
    writer.record(run_ended(RunOutcome::Succeeded, 1));
    let loss = writer.close().unwrap_err();
    assert_eq!(loss.to_string(), "the history of this run is incomplete (facts lost: 1): file is not a database");
}

#[test]
fn hostile_counters_do_not_keep_a_run_out_of_the_history() {
    let state = tempfile::tempdir().unwrap();
    let edge = Fact::EdgeEnded(EdgeEnded {
        edge: "e".into(),
        messages: u64::MAX,
        bytes: u64::MAX,
        batches: Some(u64::MAX),
        dropped: u64::MAX,
        backlog_bytes: 0,
        high_water_bytes: Some(u64::MAX),
        blocked_s: f64::NAN,
        waited_s: f64::INFINITY,
        consumers: vec![EdgeConsumer { consumer: "c".into(), messages: u64::MAX, dropped: u64::MAX }],
        at: at(0),
    });
    write(state.path(), [run_started("p-1", 0), edge]);
    let edges = Reader::open(state.path()).unwrap().edges("p-1").unwrap();
    assert_eq!((edges[0].messages, edges[0].blocked_s), (i64::MAX as u64, 0.0));
}
