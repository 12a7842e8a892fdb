//! Edges that drop what finds no room: what was offered is what each consumer received and what it was told it missed.

use crate::harness::Home;
use crate::sdk::role;

/// A million in the full suite.
fn offered() -> u64 {
    std::env::var("NEXUSFLOW_TEST_MESSAGES").map_or(50_000, |n| n.parse().unwrap())
}

fn tallied(home: &Home, name: &str) -> (u64, u64) {
    let text = home.read(&format!("tally.{name}"));
    let (received, dropped) = text.split_once(' ').unwrap();
    (received.parse().unwrap(), dropped.parse().unwrap())
}

#[test]
fn what_was_offered_is_received_or_counted_as_dropped() {
    let n = offered();
    for on_full in ["block", "drop_newest", "drop_oldest"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  offer: {{ {} }}
  a: {{ {} }}
  b: {{ {}, replicas: 2 }}
edges: {{ e: {{ from: offer, to: [a, b], capacity: 16KiB, on_full: {on_full} }} }}
",
                role(&format!("offer {n}")),
                role("tally 0"),
                role("tally 0"),
            ),
        );
        for consumer in ["a.0", "b.0", "b.1"] {
            let (received, dropped) = tallied(&home, consumer);
            assert_eq!(received + dropped, n, "{on_full}, {consumer}: {received} received");
            assert_eq!(on_full == "block", dropped == 0, "{on_full}, {consumer}");
        }
    }
}

#[test]
fn a_consumer_that_is_killed_and_started_again_misses_nothing_uncounted() {
    let n = offered();
    for on_full in ["drop_newest", "drop_oldest"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  offer: {{ {} }}
  a: {{ {}, restart: {{ when: on_failure, backoff: 1ms }} }}
edges: {{ e: {{ from: offer, to: a, capacity: 16KiB, on_full: {on_full} }} }}
",
                role(&format!("offer {n}")),
                role("tally 300"),
            ),
        );
        let (received, dropped) = tallied(&home, "a.0");
        assert_eq!(received + dropped, n, "{on_full}");
        assert!(received > 300);
    }
}

#[test]
fn programs_that_know_nothing_of_us_may_lose_lines_too() {
    for on_full in ["drop_newest", "drop_oldest"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  seq: {{ shell: 'seq 100000; touch done', stdout: {{ edge: e, framing: lines }} }}
  slow: {{ shell: 'until [ -e done ]; do sleep 0.01; done; cat > got', stdin: {{ edge: e, framing: lines }} }}
edges: {{ e: {{ from: seq, to: slow, capacity: 16KiB, on_full: {on_full} }} }}
"
            ),
        );
        let got: Vec<u32> = home.read("got").lines().map(|l| l.parse().unwrap()).collect();
        assert!(got.windows(2).all(|w| w[0] < w[1]), "whole lines, in order");
        assert!(got.len() < 100_000);
        match on_full {
            "drop_newest" => assert_eq!(got[0], 1),
            _ => assert!(*got.last().unwrap() > 90_000),
        }
    }
}
