//! What edges count: the same numbers in the event line, the history and the metrics, and those that the stages know.

use serde_json::Value;

use crate::harness::Home;
use crate::sdk::role;

/// Messages offered, and those sent nine at once.
const OFFERED: u64 = 20_000;
const SENT: u64 = 900;
const AT_ONCE: u64 = 9;
const CAPACITY: u64 = 16 << 10;

#[test]
fn what_was_dropped_how_high_it_stood_and_how_it_was_batched_is_told_everywhere() {
    let home = Home::new();
    let prom = home.path("t.prom");
    let text = format!(
        "stages:
  offer: {{ {} }}
  a: {{ {} }}
  b: {{ {}, replicas: 2 }}
  count: {{ {} }}
  sum: {{ {} }}
  seq: {{ command: [seq, '10000'], stdout: {{ edge: lines, framing: lines }} }}
  cat: {{ command: [cat], stdin: {{ edge: lines, framing: lines }} }}
edges:
  lossy: {{ from: offer, to: [a, b], capacity: {CAPACITY}B, on_full: drop_oldest }}
  batched: {{ from: count, to: sum, capacity: {CAPACITY}B }}
  lines: {{ from: seq, to: cat }}
",
        role(&format!("offer {OFFERED}")),
        role("tally 0"),
        role("tally 0"),
        role(&format!("count-once {SENT}")),
        role("sum-once"),
    );
    let done = home.start_with(&text, &["--prom-file", prom.to_str().unwrap()], |_| {}).finish().with_code(0);
    let shown = home.json(&["dag", "show", "last", "--format", "json"]);
    let of_history = |edge: &str| shown["edges"].as_array().unwrap().iter().find(|e| e["edge"] == edge).unwrap();
    let prom = std::fs::read_to_string(prom).unwrap();
    let series = |name: &str, labels: &str| -> u64 {
        let start = format!("nexusflow_edge_{name}{{{labels},pipeline=\"test\"}} ");
        let value = prom.lines().find_map(|l| l.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {start} in {prom}")).parse().unwrap()
    };
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {shown:#}"));

    for edge in ["lossy", "batched", "lines"] {
        let (told, kept) = (done.edge(edge), of_history(edge));
        for (field, name) in [
            ("messages", "messages"),
            ("bytes", "bytes"),
            ("batches", "batches"),
            ("dropped", "dropped_messages"),
            ("high_water_bytes", "high_water_bytes"),
        ] {
            assert_eq!(told[field], kept[field], "{edge} {field}");
            assert_eq!(number(&kept[field]), series(name, &format!("edge=\"{edge}\"")), "{edge} {field}");
        }
        assert_eq!(told.get("consumers").is_some(), edge == "lossy");
    }

    let lossy = of_history("lossy");
    let mut dropped = 0;
    for (consumer, note) in [("a", "a.0"), ("b@0", "b.0"), ("b@1", "b.1")] {
        let tally = home.read(&format!("tally.{note}"));
        let (received, missed) = tally.split_once(' ').map(|(r, m)| (r.parse().unwrap(), m.parse().unwrap())).unwrap();
        let mut consumers = lossy["consumers"].as_array().unwrap().iter();
        let counted = consumers.find(|c| c["consumer"] == consumer).unwrap();
        assert_eq!((number(&counted["messages"]), number(&counted["dropped"])), (received, missed), "{consumer}");
        assert_eq!(series("consumer_dropped_messages", &format!("consumer=\"{consumer}\",edge=\"lossy\"")), missed);
        assert_eq!(received + missed, OFFERED);
        dropped += missed;
    }
    assert_eq!(number(&lossy["dropped"]), dropped);
    assert!(dropped > 0);
    assert!((1..=CAPACITY).contains(&number(&lossy["high_water_bytes"])), "{lossy}");

    let batched = of_history("batched");
    assert_eq!((number(&batched["messages"]), number(&batched["batches"])), (SENT, SENT / AT_ONCE));
    assert!(number(&batched["high_water_bytes"]) <= CAPACITY, "{batched}");
    let lines = of_history("lines");
    assert_eq!(number(&lines["messages"]), 10_000);
    assert!((1..1_000).contains(&number(&lines["batches"])), "whole blocks move: {lines}");

    let (code, human, _) = home.verb(&["dag", "show", "last"]);
    assert!(code == Some(0) && human.contains("lossy: a got ") && human.contains("9.0"), "{human}");
}
