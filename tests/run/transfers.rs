//! Exactly once: stages that commit what they read and send together, killed again and again.

use crate::harness::{Home, KILL, pid, send};
use crate::sdk::role;

const AGAIN: &str = "restart: { when: on_failure, limit: 100, backoff: 1ms, backoff_max: 1ms }";

#[test]
fn every_number_is_counted_once_whoever_is_killed() {
    const N: u64 = 60_000;
    let home = Home::new();
    let mut live = home.start(&format!(
        "parallel: 4
stages:
  count: {{ {}, {AGAIN} }}
  pass: {{ {}, {AGAIN} }}
  sum: {{ {sum}, {AGAIN} }}
  shares: {{ {sum}, replicas: 2, {AGAIN} }}
edges:
  a: {{ from: count, to: pass, capacity: 16KiB }}
  b: {{ from: pass, to: sum, capacity: 16KiB }}
  c: {{ from: pass, to: shares, capacity: 16KiB, delivery: distribute, by: least_backlog }}
",
        role(&format!("count-once {N}")),
        role("pass-once"),
        sum = role("sum-once"),
    ));
    for attempt in 1..=6 {
        for stage in ["pass", "sum", "count", "shares"] {
            let started = live.wait_for(|f| {
                f["event"] == "stage_started" && f["stage"] == stage && f["attempt"].as_u64() == Some(attempt)
            });
            send(pid(started), KILL);
        }
    }
    let done = live.finish().with_code(0);
    let sums = |file: &str| -> Vec<u64> { home.read(file).split(' ').map(|n| n.parse().unwrap()).collect() };
    let all = [N, N * (N - 1) / 2];
    assert_eq!(sums("sum.sum.0"), all);
    let (a, b) = (sums("sum.shares.0"), sums("sum.shares.1"));
    assert_eq!([a[0] + b[0], a[1] + b[1]], all);
    let restarts = done.of("stage_ended").iter().filter(|f| f["restart_in_s"].is_number()).count();
    assert!(restarts >= 20, "{restarts}");
}
