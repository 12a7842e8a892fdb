//! Programs that know nothing of us, joined by rings and pipes.

use std::process::Command;

use crate::harness::{Home, INT};

fn sum(text: &str) -> String {
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_million_lines_are_counted() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '1000000'], stdout: { edge: e, framing: lines } }
  wc: { command: [wc, -l], stdin: { edge: e, framing: lines }, stdout: { file: count } }
edges: { e: { from: seq, to: wc } }
",
    );
    assert_eq!(home.read("count").trim(), "1000000");
    assert_eq!((&done.edge("e")["messages"], &done.edge("e")["backlog_bytes"]), (&1_000_000.into(), &0.into()));
    assert_eq!(done.edge("e")["bytes"], 6_888_896 - 1_000_000);
}

#[test]
fn raw_bytes_arrive_as_they_were_by_ring_and_by_pipe() {
    let home = Home::new();
    for kind in ["ring, capacity: 1MiB", "pipe"] {
        let framing = if kind == "pipe" { "" } else { ", framing: raw" };
        home.apply_to(
            0,
            &format!(
                "stages:
  make: {{ shell: 'head -c 50000000 /dev/urandom > data; exec cat data', stdout: {{ edge: e{framing} }} }}
  sum: {{ command: [sha256sum], stdin: {{ edge: e{framing} }}, stdout: {{ file: got }} }}
edges: {{ e: {{ from: make, to: sum, kind: {kind} }} }}
"
            ),
        );
        let want = Command::new("sha256sum").arg(home.file("data")).output().unwrap();
        assert_eq!(sum(&home.read("got")), sum(&String::from_utf8(want.stdout).unwrap()), "{kind}");
    }
}

#[test]
fn records_with_a_length_before_them() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        r#"stages:
  write:
    command: [perl, -e, 'binmode STDOUT; for (0..9999) { my $m = "\n" x ($_ % 300) . chr($_ % 256); print pack("V/a", $m) }']
    stdout: { edge: e, framing: u32le }
  read:
    command: [perl, -e, 'binmode STDIN; my $n = 0; while (read STDIN, my $l, 4) { $l = unpack "V", $l; read STDIN, my $m, $l; die $n if $m ne "\n" x ($n % 300) . chr($n % 256); $n++ } print $n']
    stdin: { edge: e, framing: u32le }
    stdout: { file: count }
edges: { e: { from: write, to: read, capacity: 64KiB } }
"#,
    );
    assert_eq!((home.read("count").as_str(), &done.edge("e")["messages"]), ("10000", &10_000.into()));
}

#[test]
fn every_consumer_of_a_broadcast_gets_everything() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '100000'], stdout: { edge: e, framing: lines } }
  a: { command: [cat], stdin: { edge: e, framing: lines }, stdout: { file: a } }
  b: { command: [cat], stdin: { edge: e, framing: raw }, stdout: { file: b } }
  c: { command: [sh, -c, 'cat > c.$NEXUSFLOW_REPLICA'], replicas: 2, stdin: { edge: e, framing: lines } }
edges: { e: { from: seq, to: [a, b, c], capacity: 64KiB } }
",
    );
    let want: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    for name in ["a", "c.0", "c.1"] {
        assert_eq!(home.read(name), want);
    }
    assert_eq!(home.read("b"), want.replace('\n', ""), "raw has no newlines of its own");
}

#[test]
fn producers_are_merged_each_in_its_own_order() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  a: { shell: 'seq 30000 | sed s/^/a/', stdout: { edge: e, framing: lines } }
  b: { shell: 'seq 30000 | sed s/^/b/', stdout: { edge: e, framing: lines } }
  all: { command: [cat], stdin: { edge: e, framing: lines }, stdout: { file: all } }
edges: { e: { from: [a, b], to: all, capacity: 64KiB } }
",
    );
    let all = home.read("all");
    for name in ["a", "b"] {
        let want: Vec<String> = (1..=30_000).map(|i| format!("{name}{i}")).collect();
        assert_eq!(all.lines().filter(|l| l.starts_with(name)).collect::<Vec<_>>(), want);
    }
    assert_eq!(all.lines().count(), 60_000);
}

#[test]
fn distribution_is_even_and_loses_nothing() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '10000'], stdout: { edge: e, framing: lines } }
  part: { command: [sh, -c, 'cat > part.$NEXUSFLOW_REPLICA'], replicas: 3, stdin: { edge: e, framing: lines } }
edges: { e: { from: seq, to: part, delivery: distribute } }
",
    );
    let parts: Vec<String> = (0..3).map(|i| home.read(&format!("part.{i}"))).collect();
    let counts: Vec<usize> = parts.iter().map(|p| p.lines().count()).collect();
    assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    let mut all: Vec<u32> = parts.iter().flat_map(|p| p.lines()).map(|l| l.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=10_000).collect::<Vec<u32>>());
}

/// The first reads nothing until the second has read far more than its share.
#[test]
fn by_backlog_one_that_is_busy_holds_nobody_up() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '100000'], stdout: { edge: e, framing: lines } }
  part:
    shell: 'if [ $NEXUSFLOW_REPLICA = 0 ]; then while [ ! -e go ]; do sleep 0.01; done; cat > part.0; else head -n 60000 > part.1; touch go; cat >> part.1; fi'
    replicas: 2
    stdin: { edge: e, framing: lines }
edges: { e: { from: seq, to: part, delivery: distribute, by: least_backlog, capacity: 16KiB } }
",
    );
    let mut all: Vec<u32> = ["part.0", "part.1"]
        .iter()
        .flat_map(|p| home.read(p).lines().map(|l| l.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 60_000);
}

#[test]
fn several_edges_are_paths() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  old: { command: [seq, '1', '5000'], stdout: { edge: left, framing: lines } }
  new: { command: [seq, '5001', '10000'], stdout: { edge: right, framing: lines } }
  paste:
    command: [paste, '${edge.left}', '${edge.right}']
    bind: { right: lines, left: lines }
    stdout: { edge: out, framing: lines }
  tee: { command: [tee, '${edge.copy}'], stdin: { edge: out, framing: lines }, bind: { copy: lines }, stdout: { file: main } }
  copy: { command: [cat], stdin: { edge: copy, framing: lines }, stdout: { file: copy } }
edges:
  left: { from: old, to: paste }
  right: { from: new, to: paste }
  out: { from: paste, to: tee }
  copy: { from: tee, to: copy }
",
    );
    let want: String = (1..=5_000).map(|i| format!("{i}\t{}\n", i + 5_000)).collect();
    assert_eq!((home.read("main") == want, home.read("copy") == want), (true, true));
}

#[test]
fn who_has_read_enough_ends_the_rest_well() {
    for kind in ["ring", "pipe"] {
        let framing = if kind == "pipe" { "" } else { ", framing: lines" };
        for _ in 0..5 {
            let home = Home::new();
            let done = home.apply_to(
                0,
                &format!(
                    "stages:
  many: {{ command: [\"yes\"], stdout: {{ edge: e{framing} }} }}
  head: {{ command: [head, '-1'], stdin: {{ edge: e{framing} }}, stdout: {{ file: first }} }}
edges: {{ e: {{ from: many, to: head, kind: {kind} }} }}
"
                ),
            );
            assert_eq!(home.read("first"), "y\n");
            done.outcomes(&[("many", "succeeded"), ("head", "succeeded")]);
        }
    }
}

#[test]
fn who_closes_its_input_early_may_go_on() {
    for kind in ["ring", "pipe"] {
        let framing = if kind == "pipe" { "" } else { ", framing: lines" };
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  many: {{ command: [\"yes\"], stdout: {{ edge: e{framing} }} }}
  few: {{ shell: 'read x; exec <&-; sleep 0.2; echo $x > x', stdin: {{ edge: e{framing} }} }}
edges: {{ e: {{ from: many, to: few, kind: {kind} }} }}
"
            ),
        );
        assert_eq!(home.read("x"), "y\n");
    }
}

#[test]
fn the_end_of_a_failed_producer_is_no_end_of_stream() {
    for end in ["exit 3", "kill -KILL $$"] {
        let home = Home::new();
        let done = home.apply_to(
            1,
            &format!(
                "stages:
  bad: {{ shell: 'seq 1000; printf unfinished; {end}', stdout: {{ edge: e, framing: lines }} }}
  counts: {{ shell: 'wc -l > count; echo complete > complete', stdin: {{ edge: e, framing: lines }} }}
  after: {{ command: [touch, after], depends_on: [counts] }}
  free: {{ command: [\"true\"] }}
edges: {{ e: {{ from: bad, to: counts }} }}
"
            ),
        );
        done.outcomes(&[("bad", "failed"), ("counts", "stopped"), ("after", "skipped"), ("free", "succeeded")]);
        assert!(!home.file("complete").exists(), "the reader never saw an end");
    }
}

#[test]
fn a_failed_consumer_ends_its_producers() {
    let done = Home::new().apply_to(
        1,
        "stages:
  many: { command: [\"yes\"], stdout: { edge: e, framing: lines } }
  bad: { shell: 'head -c 100000 > /dev/null; exit 9', stdin: { edge: e, framing: lines } }
edges: { e: { from: many, to: bad } }
",
    );
    done.outcomes(&[("bad", "failed"), ("many", "stopped")]);
}

#[test]
fn a_last_line_without_its_newline_is_a_line() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        "stages:
  a: { shell: \"printf 'one\\\\n\\\\ntwo'\", stdout: { edge: e, framing: lines } }
  b: { command: [cat], stdin: { edge: e, framing: lines }, stdout: { file: got } }
edges: { e: { from: a, to: b } }
",
    );
    assert_eq!(done.edge("e")["messages"], 3);
    assert_eq!(home.read("got").trim_end_matches('\n'), "one\n\ntwo");
}

#[test]
fn a_message_too_long_fails_who_wrote_it() {
    for write in [
        "head -c 5000 /dev/zero",
        "echo fine; head -c 5000 /dev/zero; echo; sleep 1000",
        "head -c 200000 /dev/zero; echo",
    ] {
        let done = Home::new().apply_to(
            1,
            &format!(
                "stages:
  a: {{ shell: '{write}', stdout: {{ edge: small, framing: lines }} }}
  b: {{ command: [cat], stdin: {{ edge: small, framing: lines }} }}
edges: {{ small: {{ from: a, to: b, max_message: 4KiB }} }}
"
            ),
        );
        done.outcomes(&[("a", "failed"), ("b", "stopped")]);
        done.says(&["NF05", "edge `small`", "4096", "max_message"]);
    }
}

#[test]
fn a_record_cut_short_fails_who_wrote_it() {
    let done = Home::new().apply_to(
        1,
        "stages:
  a: { shell: 'printf \"\\\\005\\\\000\\\\000\\\\000abc\"', stdout: { edge: e, framing: u32le } }
  b: { command: [cat], stdin: { edge: e, framing: u32le } }
edges: { e: { from: a, to: b } }
",
    );
    done.says(&["ended inside a record"]);
    done.outcomes(&[("a", "failed")]);
}

#[test]
fn nothing_at_all_is_a_stream_too() {
    let home = Home::new();
    home.apply_to(
        0,
        "stages:
  a: { command: [\"true\"], stdout: { edge: e, framing: lines } }
  b: { command: [wc, -c], stdin: { edge: e, framing: u32le }, stdout: { file: count } }
edges: { e: { from: a, to: b } }
",
    );
    assert_eq!(home.read("count").trim(), "0");
}

#[test]
fn a_full_edge_does_not_hinder_the_end() {
    for kind in ["ring, capacity: 64KiB", "pipe"] {
        let framing = if kind == "pipe" { "" } else { ", framing: lines" };
        let home = Home::new();
        let mut live = home.start(&format!(
            "stages:
  many: {{ command: [\"yes\"], stdout: {{ edge: e{framing} }} }}
  lazy: {{ command: [sleep, '1000'], stdin: {{ edge: e{framing} }} }}
edges: {{ e: {{ from: many, to: lazy, kind: {kind} }} }}
"
        ));
        let many = live.started("many");
        live.started("lazy");
        live.until("the edge to be full", || {
            let stat = std::fs::read_to_string(format!("/proc/{many}/stat")).unwrap();
            stat.contains(") S ").then_some(())
        });
        live.signal(INT);
        live.finish().with_code(130).outcomes(&[("many", "stopped"), ("lazy", "stopped")]);
    }
}

#[test]
fn a_killed_program_is_given_again_what_it_had_not_read() {
    for framing in ["lines", "raw"] {
        let home = Home::new();
        home.apply_to(
            0,
            &format!(
                "stages:
  seq: {{ command: [seq, '20000'], stdout: {{ edge: e, framing: {framing} }} }}
  read:
    shell: '[ -e ran ] || {{ touch ran; read x; kill -KILL $$; }}; cat > got'
    stdin: {{ edge: e, framing: {framing} }}
    restart: {{ when: on_failure, backoff: 1ms, scope: stage }}
edges: {{ e: {{ from: seq, to: read }} }}
"
            ),
        );
        // All of it is shorter than what is held, so nothing may be missing, not even the line that it had read.
        let want: String = (1..=20_000).map(|i| format!("{i}\n")).collect();
        assert!(home.read("got") == want, "{framing}: {} bytes", home.read("got").len());
    }
}

#[test]
fn the_memory_of_an_edge_lies_where_the_file_says() {
    let apply = |memory: &str| {
        let home = Home::new();
        let done = home.apply(&format!(
            "stages:
  maps: {{ shell: 'cat /proc/$PPID/numa_maps', stdout: {{ edge: e, framing: lines }} }}
  keep: {{ command: [cat], stdin: {{ edge: e, framing: lines }}, stdout: {{ file: maps }} }}
edges: {{ e: {{ from: maps, to: keep, capacity: 1MiB, memory: {memory} }} }}
"
        ));
        (done, home)
    };
    let node = nexusflow_sys::sched::memory_nodes_allowed().unwrap()[0];
    let (done, home) = apply(&format!("{{ numa: {node} }}"));
    assert_eq!(done.code, Some(0), "{done:#?}");
    // The runner's own mappings.
    let maps = home.read("maps");
    for memory in ["e", "e.ring", "e.slab", "e.0"] {
        let mut lines = maps.lines().filter(|l| l.contains(&format!("nexusflow:{memory}\\")));
        assert!(lines.all(|l| l.contains(&format!(" bind:{node} "))), "{memory}: {maps}");
        assert!(maps.contains(&format!("nexusflow:{memory}\\")), "{memory}: {maps}");
    }
    let (done, _) = apply("{ numa: 1000 }");
    assert_eq!(done.code, Some(4), "{done:#?}");
    done.says(&["NF0404", "edge `e` cannot come from node 1000"]);
    let (done, _) = apply(&format!("{{ numa: {node}, hugepages: 2MiB }}"));
    if done.code != Some(0) {
        done.with_code(5).says(&["NF0507", "need 1 huge page of 2", "are free", "nr_hugepages"]);
    }
}

#[test]
fn a_run_can_be_interrupted_while_its_edges_get_their_memory() {
    for _ in 0..5 {
        let home = Home::new();
        let mut live = home.start(
            "stages:
  a: { command: [sleep, '1000'], stdout: { edge: e, framing: lines } }
  b: { command: [cat], stdin: { edge: e, framing: lines } }
edges: { e: { from: a, to: b, capacity: 512MiB } }
",
        );
        live.run_id();
        live.signal(INT);
        let done = live.finish().with_code(130);
        if done.outcome("a") == "skipped" {
            return; // in time: who waits for the memory would start the stages first
        }
    }
    panic!("the memory was always faster");
}

#[test]
fn programs_with_the_sdk_and_without_share_edges() {
    let home = Home::new();
    std::fs::create_dir(home.file("tree")).unwrap();
    for name in ["a", "b", "c"] {
        home.write(&format!("tree/{name}"), "same");
    }
    let done = home.apply_to(
        0,
        r#"stages:
  find: { command: [find, tree, -type, f], stdout: { edge: paths, framing: lines } }
  hash: { command: ["${self}", demo, hash], replicas: 2 }
  count:
    command: [perl, -e, 'binmode STDIN; while (read STDIN, my $l, 4) { read STDIN, my $m, unpack "V", $l; print unpack("H64", $m), " ", substr($m, 56), "\n" }']
    stdin: { edge: hashes, framing: u32le }
    stdout: { file: hashes }
edges:
  paths: { from: find, to: hash, delivery: distribute }
  hashes: { from: hash, to: count }
"#,
    );
    assert_eq!((&done.edge("paths")["messages"], &done.edge("hashes")["messages"]), (&3.into(), &3.into()));
    let sums = Command::new("sh").args(["-c", "sha256sum tree/*"]).current_dir(home.file("")).output().unwrap();
    let want: Vec<String> = String::from_utf8(sums.stdout).unwrap().lines().map(|l| l.replace("  ", " ")).collect();
    let hashes = home.read("hashes");
    let mut got: Vec<&str> = hashes.lines().collect();
    got.sort_by_key(|l| l.rsplit(' ').next().unwrap().to_owned());
    assert_eq!(got, want);
}

#[test]
fn nonsense_on_the_control_socket_harms_nobody_else() {
    let home = Home::new();
    let done = home.apply_to(
        0,
        r#"parallel: 4
stages:
  floods: { command: [perl, -e, '$SIG{PIPE} = "IGNORE"; open my $c, "+<&=3" or die; syswrite $c, "x" x 900 for 1..50000'] }
  hangs_up: { command: [perl, -e, 'open my $c, "+<&=3" or die; close $c; select undef, undef, undef, 0.05'] }
  good: { command: [seq, '100000'], stdout: { edge: f, framing: lines } }
  counts: { command: [wc, -l], stdin: { edge: f, framing: lines }, stdout: { file: count } }
edges: { e: { from: floods, to: hangs_up }, f: { from: good, to: counts } }
"#,
    );
    assert_eq!((home.read("count").trim(), &done.edge("e")["messages"]), ("100000", &0.into()));
}
