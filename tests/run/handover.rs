//! What replicas leave unread on edges that distribute is read by those that stay.

use crate::harness::Home;
use crate::sdk::role;

/// Runs replicas that share `n` messages and read only so many each; who read what.
fn shared(n: usize, replicas: usize, most: &str, more: &str) -> Vec<Vec<usize>> {
    let home = Home::new();
    home.apply_to(
        0,
        &format!(
            "parallel: 8
stages:
  count: {{ {} }}
  share: {{ {}, replicas: {replicas}{more} }}
edges: {{ e: {{ from: count, to: share, delivery: distribute }} }}
",
            role(&format!("count {n}")),
            role(&format!("share {most}")),
        ),
    );
    let read = |i| home.read(&format!("kept.share.{i}")).lines().map(|l| l.parse().unwrap()).collect();
    (0..replicas).map(read).collect()
}

fn each_once(kept: &[Vec<usize>], n: usize) {
    let mut all: Vec<usize> = kept.iter().flatten().copied().collect();
    all.sort_unstable();
    assert!(all == (0..n).collect::<Vec<_>>(), "{:?}", kept.iter().map(Vec::len).collect::<Vec<_>>());
}

#[test]
fn what_one_leaves_another_reads() {
    let kept = shared(3000, 3, "10", "");
    each_once(&kept, 3000);
    assert_eq!(kept[0].len(), 10);
}

#[test]
fn what_heirs_leave_is_read_too() {
    let kept = shared(3000, 3, "10 1200", "");
    each_once(&kept, 3000);
    assert_eq!(kept[0].len(), 10);
    let kept = shared(4000, 4, "0 0 0", "");
    each_once(&kept, 4000);
    assert_eq!(kept[3].len(), 4000);
}

#[test]
fn programs_that_know_nothing_of_edges_inherit_too() {
    let home = Home::new();
    home.apply_to(
        0,
        "parallel: 8
stages:
  count: { command: [seq, '300000'], stdout: { edge: e, framing: lines } }
  part:
    shell: 'if [ $NEXUSFLOW_REPLICA = 0 ]; then head -n 1; else exec cat > part.$NEXUSFLOW_REPLICA; fi'
    replicas: 3
    stdin: { edge: e, framing: lines }
edges: { e: { from: count, to: part, delivery: distribute, capacity: 4MiB } }
",
    );
    let mut all: Vec<u32> = [1, 2]
        .iter()
        .flat_map(|i| home.read(&format!("part.{i}")).lines().map(|l| l.parse().unwrap()).collect::<Vec<u32>>())
        .collect();
    let read = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), read, "each line to one");
    // What was in the pipe of the one that left is what it was given.
    let given = 4 * 64 * 1024 / 6;
    assert!(read > 300_000 - given, "{read}");
}
