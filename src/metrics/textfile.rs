//! The file of one pipeline's last run, in the text format of Prometheus.
//!
//! Every run rewrites the file, so each value speaks of one run and may fall with the next: all are
//! gauges. Names, help and labels are the same in every file, as a collector that reads several demands.

use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

use crate::record::{EdgeEnded, Outcome, StageSummary, Summary};

/// With more stages than this the series of stages are left out (and that is counted): a collector would choke.
const STAGES_MAX: usize = 5_000;

/// With more consumers of edges that drop than this only the sums over them are told.
const CONSUMERS_MAX: usize = 5_000;

const LAST_SUCCESS: &str = "nexusflow_run_last_success_timestamp_seconds";

/// The file's new text. `previous` is what it says now: a failed run keeps the time of the last success.
pub fn render(summary: &Summary, previous: Option<&str>) -> String {
    let Some(started) = &summary.started else { return String::new() };
    let pipeline = started.pipeline.as_str();
    let registry = Registry::new();
    run(&registry, summary, pipeline, &started.version, previous);
    let shown = if summary.stages.len() <= STAGES_MAX { summary.stages.as_slice() } else { &[] };
    let omitted =
        Family::new(&registry, "nexusflow_stages_omitted", "Stages too many to have series of their own.", &[]);
    omitted.set(pipeline, &[], (summary.stages.len() - shown.len()) as f64);
    stages(&registry, pipeline, shown);
    edges(&registry, pipeline, &summary.edges);
    let mut text = Vec::new();
    // Neither can fail: every family that is gathered has a series, and a Vec takes any text.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn run(registry: &Registry, summary: &Summary, pipeline: &str, version: &str, previous: Option<&str>) {
    let family = |name, help, labels| Family::new(registry, name, help, labels);
    family("nexusflow_pipeline_info", "The pipeline, and the nexusflow that ran it last.", &["version"]).set(
        pipeline,
        &[version],
        1.0,
    );
    let tasks = family("nexusflow_run_replicas", "Replicas of all stages of the last run by outcome.", &["outcome"]);
    for &outcome in Outcome::ALL {
        tasks.set(pipeline, &[outcome.word()], summary.count(outcome) as f64);
    }
    let last = family("nexusflow_run_last_timestamp_seconds", "When the last run ended, however it ended.", &[]);
    let duration = family("nexusflow_run_duration_seconds", "How long the last run took.", &[]);
    let exit_code = family("nexusflow_run_exit_code", "What the last run returned.", &[]);
    if let Some(ended) = &summary.ended {
        last.set(pipeline, &[], seconds(ended.at));
        duration.set(pipeline, &[], ended.duration_s);
        exit_code.set(pipeline, &[], f64::from(ended.exit_code));
    }
    family("nexusflow_run_success", "1 if the last run succeeded, else 0.", &[]).set(
        pipeline,
        &[],
        f64::from(u8::from(summary.succeeded())),
    );
    let success = match &summary.ended {
        Some(ended) if summary.succeeded() => Some(seconds(ended.at)),
        _ => previous.and_then(|text| last_success(text, pipeline)),
    };
    if let Some(at) = success {
        family(LAST_SUCCESS, "When the latest run that succeeded ended.", &[]).set(pipeline, &[], at);
    }
}

fn stages(registry: &Registry, pipeline: &str, stages: &[StageSummary]) {
    let family = |name: &str, help, labels: &[&'static str]| {
        Family::new(registry, &format!("nexusflow_stage_{name}"), help, &[&["stage"], labels].concat())
    };
    let duration = family("duration_seconds", "How long the stage's longest attempt took.", &[]);
    let exit_code =
        family("exit_code", "What the stage returned (128 + signal if killed); of replicas the worst.", &[]);
    let failed = family("failed", "1 if a replica failed, timed out or could not be started, else 0.", &[]);
    let attempts = family("attempts", "Processes started for the stage.", &[]);
    let restarts = family("restarts", "Processes started for the stage because an earlier one had ended.", &[]);
    let wait = family("queue_wait_seconds", "How long the stage waited for the machine when it could have run.", &[]);
    let cpu = family("cpu_seconds", "CPU time of all of the stage's processes.", &["mode"]);
    let rss = family(
        "max_rss_bytes",
        "Largest resident set of one of the stage's processes, known only where it exceeds the runner's own.",
        &[],
    );
    let switches = family("context_switches", "Context switches of all of the stage's processes.", &["kind"]);
    let faults = family("page_faults", "Page faults of all of the stage's processes.", &["kind"]);
    for s in stages {
        let stage = s.stage.as_str();
        duration.set(pipeline, &[stage], s.duration_s);
        failed.set(pipeline, &[stage], f64::from(u8::from(s.failed())));
        attempts.set(pipeline, &[stage], f64::from(s.attempts));
        restarts.set(pipeline, &[stage], f64::from(s.restarts));
        wait.set(pipeline, &[stage], s.queue_wait_s);
        if let Some(status) = s.status() {
            exit_code.set(pipeline, &[stage], f64::from(status));
        }
        if let Some(u) = &s.usage {
            cpu.set(pipeline, &[stage, "user"], u.user_s);
            cpu.set(pipeline, &[stage, "system"], u.system_s);
            if let Some(bytes) = u.max_rss_bytes {
                rss.set(pipeline, &[stage], bytes as f64);
            }
            switches.set(pipeline, &[stage, "voluntary"], u.voluntary_switches as f64);
            switches.set(pipeline, &[stage, "involuntary"], u.involuntary_switches as f64);
            faults.set(pipeline, &[stage, "minor"], u.minor_faults as f64);
            faults.set(pipeline, &[stage, "major"], u.major_faults as f64);
        }
    }
}

fn edges(registry: &Registry, pipeline: &str, edges: &[EdgeEnded]) {
    let family = |name: &str, help, labels: &[&'static str]| {
        Family::new(registry, &format!("nexusflow_edge_{name}"), help, &[&["edge"], labels].concat())
    };
    let messages = family("messages", "Messages that producers wrote to the edge.", &[]);
    let bytes = family("bytes", "Bytes of messages that producers wrote to the edge.", &[]);
    let batches = family("batches", "How often producers published messages of the edge, one or more at once.", &[]);
    let dropped = family(
        "dropped_messages",
        "Messages dropped for want of room, summed over the consumers that missed them.",
        &[],
    );
    let missed = family(
        "consumer_dropped_messages",
        "Messages that the consumer missed, of an edge that may drop.",
        &["consumer"],
    );
    let high = family("high_water_bytes", "The most that a ring of the edge was seen to hold, records and all.", &[]);
    let backlog = family("backlog_bytes", "What the edge still held, unread, when the run ended.", &[]);
    let blocked = family("blocked_seconds", "How long producers of the edge waited for room.", &[]);
    let waited = family("waited_seconds", "How long consumers of the edge waited for messages.", &[]);
    let consumers: usize = edges.iter().map(|e| e.consumers.len()).sum();
    for e in edges {
        messages.set(pipeline, &[&e.edge], e.messages as f64);
        bytes.set(pipeline, &[&e.edge], e.bytes as f64);
        backlog.set(pipeline, &[&e.edge], e.backlog_bytes as f64);
        blocked.set(pipeline, &[&e.edge], e.blocked_s);
        waited.set(pipeline, &[&e.edge], e.waited_s);
        dropped.set(pipeline, &[&e.edge], e.dropped as f64);
        if let Some(n) = e.batches {
            batches.set(pipeline, &[&e.edge], n as f64);
        }
        if let Some(n) = e.high_water_bytes {
            high.set(pipeline, &[&e.edge], n as f64);
        }
        for c in e.consumers.iter().filter(|_| consumers <= CONSUMERS_MAX) {
            missed.set(pipeline, &[&e.edge, &c.consumer], c.dropped as f64);
        }
    }
}

/// One metric: `pipeline` is its first label.
struct Family(GaugeVec);

impl Family {
    fn new(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Self {
        let labels = [&["pipeline"], labels].concat();
        let gauges =
            GaugeVec::new(Opts::new(name, help), &labels).expect("names and labels are constants of this file");
        registry.register(Box::new(gauges.clone())).expect("each name is used once");
        Self(gauges)
    }

    fn set(&self, pipeline: &str, labels: &[&str], value: f64) {
        self.0.with_label_values(&[&[pipeline], labels].concat()).set(value);
    }
}

fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

/// What an earlier file says of the last success. Names of pipelines need no escaping.
fn last_success(text: &str, pipeline: &str) -> Option<f64> {
    let series = format!("{LAST_SUCCESS}{{pipeline=\"{pipeline}\"}} ");
    let value = text.lines().find_map(|l| l.strip_prefix(&series))?;
    value.trim().parse().ok().filter(|at: &f64| at.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::*;
    use crate::record::{Fact, RunOutcome};

    fn summary(facts: impl IntoIterator<Item = Fact>) -> Summary {
        let mut s = Summary::default();
        facts.into_iter().for_each(|f| s.fold(&f));
        s
    }

    fn short(outcome: RunOutcome, second: i64) -> Summary {
        summary([run_started("p-1", 0), run_ended(outcome, second)])
    }

    #[test]
    fn the_whole_file() {
        let text = render(
            &summary([
                run_started("clicks-1", 0),
                stage_started("hash", 0, 1),
                stage_started("hash", 1, 1),
                stage_ended("hash", 0, Outcome::Succeeded, 3),
                stage_ended("hash", 1, Outcome::Failed, 3),
                stage_ended("report", 0, Outcome::Skipped, 3),
                edge_ended("paths"),
                run_ended(RunOutcome::Failed, 4),
            ]),
            Some("nexusflow_run_last_success_timestamp_seconds{pipeline=\"clicks\"} 1795000000.5\n"),
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_documentation_names_every_series() {
        let doc = include_str!("../../docs/record.md");
        let facts = [
            run_started("p-1", 0),
            stage_started("s", 0, 1),
            stage_ended("s", 0, Outcome::Succeeded, 2),
            edge_ended("e"),
            run_ended(RunOutcome::Succeeded, 3),
        ];
        let text = render(&summary(facts), None);
        let names: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(names.len() > 15);
        for name in names {
            assert!(doc.contains(&format!("`{name}`")), "docs/record.md does not name {name}");
        }
    }

    #[test]
    fn the_last_success_moves_only_with_a_success() {
        let line = |text: &str| text.lines().find(|l| l.starts_with(LAST_SUCCESS)).map(str::to_owned);
        let never = render(&short(RunOutcome::Failed, 5), None);
        assert_eq!(line(&never), None);
        let good = render(&short(RunOutcome::Succeeded, 6), Some(&never));
        assert_eq!(line(&good).unwrap(), format!("{LAST_SUCCESS}{{pipeline=\"p\"}} 1795344006"));
        let bad = render(&short(RunOutcome::TimedOut, 7), Some(&good));
        assert_eq!(line(&bad), line(&good));
        assert_eq!(line(&render(&short(RunOutcome::Failed, 8), Some(&bad))), line(&good));
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let text = render(&summary([run_started("p-1", 0), stage_ended("s", 1, Outcome::Succeeded, 2)]), None);
        assert!(text.contains("nexusflow_stage_cpu_seconds{") && !text.contains("max_rss_bytes"), "{text}");
    }

    #[test]
    fn a_spoilt_or_foreign_file_is_not_believed() {
        for spoilt in [
            "\0\u{1}",
            "nexusflow_run_last_success_timestamp_seconds{pipeline=\"q\"} 1",
            &format!("{LAST_SUCCESS}{{pipeline=\"p\"}} NaN"),
        ] {
            assert!(!render(&short(RunOutcome::Failed, 5), Some(spoilt)).contains(LAST_SUCCESS));
        }
    }

    #[test]
    fn a_file_has_no_series_twice_and_ends_with_a_newline() {
        let stages = (0..50).flat_map(|i| [stage_started("s", i, 1), stage_ended("s", i, Outcome::Succeeded, 2)]);
        let text =
            render(&summary(std::iter::once(run_started("p-1", 0)).chain(stages).chain([edge_ended("e")])), None);
        let mut series: Vec<_> =
            text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' ')).collect();
        let all = series.len();
        series.sort();
        series.dedup_by_key(|s| s.0);
        assert_eq!(series.len(), all);
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
    }

    #[test]
    fn too_many_stages_are_counted_instead() {
        let stages = (0..=STAGES_MAX as i64).map(|i| stage_started(&format!("s{i}"), 0, i));
        let text = render(&summary(std::iter::once(run_started("p-1", 0)).chain(stages)), None);
        assert!(text.contains(&format!("nexusflow_stages_omitted{{pipeline=\"p\"}} {}", STAGES_MAX + 1)));
        assert!(!text.contains("nexusflow_stage_attempts"));
    }
}
