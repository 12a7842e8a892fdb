//! Medians, spread and ratios, for people and as JSON.

use serde_json::{Value, json};

use crate::Options;
use crate::bucket::{Bucket, Sample};
use crate::cases::{Case, Metric};

/// Ours beside one peer, in one case and bucket.
pub struct Row {
    case: String,
    bytes: usize,
    batch: usize,
    mode: &'static str,
    metric: Metric,
    bucket: Bucket,
    rounds: usize,
    ours: f64,
    peer: &'static str,
    peer_value: f64,
    /// Ours divided by the peer's, median of the rounds; the least and the greatest.
    ratio: [f64; 3],
    raw_ns: f64,
}

pub fn machine(options: &Options) {
    let [a, b] = options.cpus;
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    println!("{model}, CPUs {a} and {b}, medians of {} rounds, every byte written and read", options.rounds);
    println!("ratio: ours / peer; for latency below 1 is faster, for throughput above 1");
    let head = ["case", "bucket", "rounds", "ours", "peer", "", "ratio"];
    println!(
        "\n{:24} {:6} {:>6} {:>12} {:>18} {:>12} {:>7}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6]
    );
}

/// Each peer beside ours, where a round has both in the same bucket.
pub fn compare(case: &Case, rounds: &[Vec<Option<Sample>>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for bucket in [Bucket::Near, Bucket::Far] {
        for (at, who) in case.who.iter().enumerate().skip(1) {
            let both = rounds.iter().filter_map(|round| {
                let (ours, peer) = (round[0]?, round[at]?);
                (ours.bucket == bucket && peer.bucket == bucket).then_some((ours, peer))
            });
            let both: Vec<_> = both.collect();
            if both.is_empty() {
                continue;
            }
            let ratios = sorted(both.iter().map(|(ours, peer)| ours.value / peer.value));
            rows.push(Row {
                case: case.name.clone(),
                bytes: case.bytes,
                batch: case.batch,
                mode: case.mode,
                metric: case.metric,
                bucket,
                rounds: both.len(),
                ours: median(&sorted(both.iter().map(|(ours, _)| ours.value))),
                peer: who.name(),
                peer_value: median(&sorted(both.iter().map(|(_, peer)| peer.value))),
                ratio: [median(&ratios), ratios[0], ratios[ratios.len() - 1]],
                raw_ns: median(&sorted(both.iter().map(|(ours, _)| ours.raw_ns))),
            });
        }
    }
    rows
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}

pub fn show(case: &Case, rows: &[Row]) {
    if rows.is_empty() {
        println!("{:24} the CPUs did not stay where they were: nothing to compare", case.name);
    }
    for row in rows {
        let (name, bucket, rounds) = (&row.case, row.bucket.to_string(), row.rounds);
        let (ours, peer) = (figure(row.metric, row.ours), figure(row.metric, row.peer_value));
        let [ratio, least, greatest] = row.ratio;
        println!(
            "{name:24} {bucket:6} {rounds:>6} {ours:>12} {:>18} {peer:>12} {ratio:>7.2}  ({least:.2} to {greatest:.2})",
            row.peer
        );
    }
}

fn figure(metric: Metric, value: f64) -> String {
    match metric {
        Metric::LatencyNs | Metric::ObjectNs if value < 1e4 => format!("{value:.0} ns"),
        Metric::LatencyNs | Metric::ObjectNs if value < 1e7 => format!("{:.1} µs", value / 1e3),
        Metric::LatencyNs | Metric::ObjectNs => format!("{:.2} ms", value / 1e6),
        Metric::MessagesPerSecond => format!("{:.2} M/s", value / 1e6),
        Metric::BytesPerSecond => format!("{:.2} GB/s", value / 1e9),
    }
}

pub fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case, "bytes": row.bytes, "batch": row.batch, "mode": row.mode,
                "bucket": row.bucket.to_string(), "metric": row.metric.name(), "rounds": row.rounds,
                "ours": row.ours, "peer": row.peer, "peer_value": row.peer_value,
                "ratio": row.ratio[0], "ratio_min": row.ratio[1], "ratio_max": row.ratio[2], "raw_line_ns": row.raw_ns,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}
