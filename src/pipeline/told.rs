//! The words and the places of every mistake that this module tells, from files as people write them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::diag::{Diagnostics, Source};
use crate::document::{Format, parse};
use crate::spec::{Inputs, read};

pub(crate) fn built(text: &str) -> (Option<Pipeline>, Diagnostics) {
    built_as("p.yaml", text)
}

pub(crate) fn built_as(name: &str, text: &str) -> (Option<Pipeline>, Diagnostics) {
    let mut found = Diagnostics::default();
    let source = Arc::new(Source { name: name.into(), text: text.into() });
    let format = Format::from_path(Path::new(name)).unwrap_or(Format::Yaml);
    let node = parse(&source, format, &mut found).unwrap_or_else(|| panic!("{:?}", found.list));
    let inputs = Inputs { set: &BTreeMap::new(), env: &|_| None, strict: true };
    let spec = read(&node, &inputs, &mut found).unwrap_or_else(|| panic!("{:?}", found.list));
    (build(&spec, Path::new("/tmp"), &mut found), found)
}

/// Stages and edges in YAML → every mistake: its words, then what each label points at and says.
fn told(stages_and_edges: &str) -> String {
    let (_, found) = built(&format!("version: 1\nname: p\n{}\n", stages_and_edges.trim_start_matches('\n')));
    let mut out = String::new();
    for d in &found.list {
        out += &format!("{:?} {d}\n", d.severity);
        for label in &d.labels {
            let Source { text, .. } = &*label.span.source;
            let line = text[..label.span.range.start].matches('\n').count() - 1;
            out += &format!("  {line}: {} <- {}\n", &text[label.span.range.clone()], label.text);
        }
        d.notes.iter().for_each(|note| out += &format!("  note: {note}\n"));
        d.help.iter().for_each(|help| out += &format!("  help: {help}\n"));
    }
    out
}

#[test]
fn unknown_stages_and_edges() {
    insta::assert_snapshot!(told(r"
stages:
  parse: { command: [a], depends_on: [prase, nothing] }
  count: { command: [b], placement: { cpus: 1, near: [pars], apart: [zzz] }, stdin: { edge: event, framing: lines } }
edges:
  events: { from: pares, to: [count, elsewhere] }
"), @r#"
    Error NF0302: there is no stage `prase`
      2: prase <- in `depends_on` of stage `parse`
      help: did you mean `parse`?
    Error NF0302: there is no stage `nothing`
      2: nothing <- in `depends_on` of stage `parse`
      help: declare it under `stages:`, or use the name of a stage that is there
    Error NF0302: there is no stage `pars`
      3: pars <- in `near` of stage `count`
      help: did you mean `parse`?
    Error NF0302: there is no stage `zzz`
      3: zzz <- in `apart` of stage `count`
      help: declare it under `stages:`, or use the name of a stage that is there
    Error NF0302: there is no stage `pares`
      5: pares <- in `from` of edge `events`
      help: did you mean `parse`?
    Error NF0302: there is no stage `elsewhere`
      5: elsewhere <- in `to` of edge `events`
      help: declare it under `stages:`, or use the name of a stage that is there
    Error NF0303: there is no edge `event`
      3: event <- in `stdin` of stage `count`
      help: did you mean `events`?
    "#);
}

#[test]
fn no_edges_at_all() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [b], bind: { x: lines } }
"), @r#"
    Error NF0303: there is no edge `x`
      2: x <- in `bind` of stage `a`
      help: the file has no edges: declare it under `edges:`
    "#);
}

#[test]
fn ends_of_edges() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a] }
  b: { command: [b] }
edges:
  loop: { from: [a, b], to: b }
  double: { from: [a, a], to: b }
  one: { from: a, to: b, delivery: distribute }
"), @r#"
    Error NF0304: edge `loop` leads from stage `b` to itself
      5: b <- reads it
      5: b <- writes it
      note: a stage that waits for room in its own input is the one that should be reading it
      help: remove the stage from one end, or let two stages exchange data over two edges
    Error NF0305: `a` is named twice in `from` of edge `double`
      6: a <- the second time
      6: a <- the first time
      help: remove one of the two
    Error NF0309: edge `one` has nothing to distribute: it has a single consumer
      7: distribute <- each message to one of several replicas
      3: b <- the only consumer, with 1 replica
      help: give `b` more `replicas`, or leave `delivery` out
    "#);
}

#[test]
fn circles_of_stages() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], depends_on: [b] }
  b: { command: [a], depends_on: { c: started } }
  c: { command: [a], depends_on: { a: exited, d: completed } }
  d: { command: [a], depends_on: [d, d] }
"), @r##"
Error NF0305: `d` is named twice in `depends_on` of stage `d`
  5: d <- the second time
  5: d <- the first time
  help: remove one of the two
Error NF0301: stages wait for one another in a circle: a → b → c → a
  2: b <- `a` waits for `b` to complete
  3: started <- `b` waits for `c` to start
  4: exited <- `c` waits for `a` to exit
  help: remove one of these dependencies
Error NF0301: stage `d` waits for itself
  5: d <- `d` waits for `d` to complete
  help: remove this dependency
"##);
}

#[test]
fn waiting_for_gang_mates() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a] }
  b: { command: [a], depends_on: [a] }
  c: { command: [a], depends_on: { a: exited, b: started } }
edges:
  x: { from: a, to: b }
  y: { from: b, to: c }
"), @r#"
    Error NF0306: `b` waits for `a` to complete, which starts together with it
      3: a <- would never hold
      6: x <- this edge ties the two together
      note: stages that edges tie together start together; a reader sees the end of its input when its writers have ended
      help: remove the dependency, or make its condition `started`
    Error NF0306: `c` waits for `a` to exit, which starts together with it
      4: exited <- would never hold
      7: y <- this edge and others tie the two together
      note: stages that edges tie together start together; a reader sees the end of its input when its writers have ended
      help: remove the dependency, or make its condition `started`
    "#);
}

#[test]
fn gangs_that_wait_for_one_another() {
    insta::assert_snapshot!(told(r"
stages:
  in: { command: [a], depends_on: [prep] }
  out: { command: [a] }
  prep: { command: [a], depends_on: { out: started } }
edges:
  x: { from: in, to: out }
"), @r#"
    Error NF0307: gangs wait for one another in a circle: in → prep → out ⇄ in
      2: prep <- `in` waits for `prep` to complete
      4: started <- `prep` waits for `out` to start
      note: `⇄` joins stages that edges tie together: they start together, once everything that any of them waits for holds
      help: remove one of these dependencies, or hand the data over in a file instead of an edge
    "#);
}

#[test]
fn services() {
    insta::assert_snapshot!(told(r"
stages:
  db: { command: [a], service: true }
  feed: { command: [a], depends_on: [db] }
  reader: { command: [a], service: false }
  after: { command: [a], depends_on: { reader: exited, feed: completed, db: started } }
  last: { command: [a], depends_on: [tail] }
  tail: { command: [a] }
edges:
  x: { from: db, to: reader }
  y: { from: reader, to: tail }
"), @r#"
    Error NF0321: stage `reader` reads from a service, so it is one too
      4: false <- says that it is not
      9: x <- a service writes this edge
      help: leave `service` out
    Error NF0308: `feed` waits for `db` to complete, but that is a service
      3: db <- would never hold
      2: true <- a service ends only when it is stopped
      help: wait for it to have started: `depends_on: { db: started }`
    Error NF0308: `after` waits for `reader` to exit, but that is a service
      5: exited <- would never hold
      9: x <- a service writes this edge, so its readers are services too
      help: wait for it to have started: `depends_on: { reader: started }`
    Error NF0308: `last` waits for `tail` to complete, but that is a service
      6: tail <- would never hold
      10: y <- a service writes this edge, so its readers are services too
      help: wait for it to have started: `depends_on: { tail: started }`
    "#);
}

#[test]
fn pipes() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], replicas: 2, stdout: { edge: p, framing: raw } }
  b: { command: [b], stdin: { edge: p, framing: raw } }
  c: { command: [c], bind: { q: raw } }
  d: { command: [d] }
edges:
  p: { from: a, to: b, kind: pipe, delivery: distribute }
  q: { from: c, to: d, kind: pipe }
  r: { from: [c, d], to: b, kind: pipe }
"), @r#"
    Error NF0310: pipe edge `p` joins one process to one, but `a` has 2 replicas
      7: pipe <- a kernel pipe
      2: 2 <- more than one process
      help: use `kind: ring`, or a single replica
    Error NF0310: pipe edge `p` cannot distribute: it has one reader
      7: pipe <- a kernel pipe
      7: distribute <- has no meaning on a pipe
      help: leave `delivery` out, or use `kind: ring`
    Error NF0310: pipe edge `r` has 2 stages in `from`: a pipe joins one to one
      9: pipe <- a kernel pipe
      9: d <- one too many
      help: use `kind: ring`, or one pipe edge for each pair
    Error NF0311: pipe edge `q` cannot be given as a path
      4: q <- bound as a path
      8: pipe <- a kernel pipe
      help: bind it as `stdout: { edge: q, framing: raw }`, or use `kind: ring`
    Error NF0311: pipe edge `q` is not the `stdin` of stage `d`
      5: d <- reads the pipe, but has no `stdin` for it
      8: pipe <- a kernel pipe
      help: say `stdin: { edge: q, framing: raw }` in stage `d`
    Error NF0311: pipe edge `r` is not the `stdout` of stage `c`
      4: c <- writes the pipe, but has no `stdout` for it
      9: pipe <- a kernel pipe
      help: say `stdout: { edge: r, framing: raw }` in stage `c`
    Error NF0311: pipe edge `r` is not the `stdout` of stage `d`
      5: d <- writes the pipe, but has no `stdout` for it
      9: pipe <- a kernel pipe
      help: say `stdout: { edge: r, framing: raw }` in stage `d`
    Error NF0311: pipe edge `r` is not the `stdin` of stage `b`
      3: b <- reads the pipe, but has no `stdin` for it
      9: pipe <- a kernel pipe
      help: say `stdin: { edge: r, framing: raw }` in stage `b`
    "#);
}

#[test]
fn directions() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], stdin: { edge: x, framing: lines } }
  b: { command: [b], stdout: { edge: x, framing: lines } }
  c: { command: [c], bind: { x: lines } }
edges:
  x: { from: a, to: b }
"), @r#"
    Error NF0312: stage `a` does not read edge `x`
      2: x <- bound as `stdin`
      6: x <- `a` is in its `from`
      help: swap `from` and `to` of `x`, or bind it as `stdout`
    Error NF0312: stage `b` does not write edge `x`
      3: x <- bound as `stdout`
      6: x <- `b` is in its `to`
      help: swap `from` and `to` of `x`, or bind it as `stdin`
    Error NF0312: stage `c` is at neither end of edge `x`
      4: x <- bound as `bind`
      6: x <- `c` is in neither its `from` nor its `to`
      help: add `c` to `from` or `to` of edge `x`
    "#);
}

#[test]
fn raw_streams() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], replicas: 2, stdout: { edge: x, framing: raw } }
  b: { command: [b], stdin: { edge: y, framing: raw } }
  c: { command: [c], stdout: { edge: y, framing: lines } }
  d: { command: [c], stdin: { edge: x, framing: lines } }
edges:
  x: { from: a, to: d }
  y: { from: c, to: [b, d], delivery: distribute }
"), @r#"
    Error NF0313: `framing: raw` does not fit edge `x`
      2: x <- any piece of a byte stream
      7: x <- 2 producers, whose pieces would be mixed
      help: use `framing: lines` or `framing: u32le`, whose messages stay whole
    Error NF0313: `framing: raw` does not fit edge `y`
      3: y <- any piece of a byte stream
      8: distribute <- each consumer would see some of the pieces
      help: use `framing: lines` or `framing: u32le`, whose messages stay whole
    "#);
}

#[test]
fn paths_of_edges() {
    insta::assert_snapshot!(told(r"
env: { COMMON: '${edge.x}' }
stages:
  a: { command: [a, '${edge.x}', '${edge.z}'] }
  b: { command: [b, '${edge.x}', '${edge.xs}'], env: { X: '${edge.other}' }, bind: { x: lines } }
  c: { shell: 'paste ${edge.x}' }
edges:
  x: { from: a, to: b }
"), @r#"
    Error NF0318: stage `a` uses `${edge.x}` without binding edge `x`
      3: '${edge.x}' <- this path would not exist
      3: a <- has no `bind`
      help: bind it: `bind: { x: lines }`
    Error NF0318: stage `a` uses `${edge.z}` without binding edge `z`
      3: '${edge.z}' <- this path would not exist
      3: a <- has no `bind`
      help: there is no edge `z`: declare it under `edges:` and bind it
    Error NF0318: stage `b` uses `${edge.xs}` without binding edge `xs`
      4: '${edge.xs}' <- this path would not exist
      4: b <- does not bind it
      help: there is no edge `xs`: declare it under `edges:` and bind it
    Error NF0318: stage `b` uses `${edge.other}` without binding edge `other`
      4: '${edge.other}' <- this path would not exist
      4: b <- does not bind it
      help: there is no edge `other`: declare it under `edges:` and bind it
    Warning NF0318: in `shell` text every `$` belongs to the shell
      5: 'paste ${edge.x}' <- `${edge.…}` is not filled in here
      help: pass the path in a variable: `env: { LEFT: "${edge.left}" }`, then write "$LEFT"
    Error NF0318: `${edge.x}` has no meaning in the environment of every stage
      1: '${edge.x}' <- an edge's path exists in the process that binds it
      help: use it in the stage's own `command` or `env`
    "#);
}

#[test]
fn circles_of_edges_are_a_warning() {
    let text = r"
stages:
  a: { command: [a] }
  b: { command: [b] }
  c: { command: [c] }
edges:
  x: { from: a, to: [b, c] }
  y: { from: b, to: a }
  z: { from: b, to: c }
";
    insta::assert_snapshot!(told(text), @r#"
    Warning NF0314: edges lead in a circle: a → b → a
      6: x <- from `a` to `b`
      7: y <- from `b` to `a`
      note: when all of them are full nobody reads, and no stage sees the end of its input
      help: make sure that what goes round shrinks, and that a message says when to stop
    "#);
    assert!(built(&format!("version: 1\nname: p\n{text}")).0.is_some());
}

#[test]
fn sizes_of_rings() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a] }
  b: { command: [b] }
edges:
  x: { from: a, to: b, capacity: 64KiB, max_message: 32KiB }
  y: { from: a, to: b, max_message: 9MiB }
  fits: { from: a, to: b, capacity: 64KiB, max_message: 32752B }
"), @r#"
    Error NF0315: a message of 32KiB is too long for edge `x`
      5: 32KiB <- at most 32752 bytes in a ring of this capacity
      5: 64KiB <- the capacity
      note: two of a ring's longest messages fit into it, one being written and one being read, each with 16 bytes around it
      help: lower `max_message` to 32752B, or raise `capacity` to 128KiB
    Error NF0315: a message of 9MiB is too long for edge `y`
      6: 9MiB <- at most 8388592 bytes in a ring of this capacity
      6: y <- with the default capacity
      note: two of a ring's longest messages fit into it, one being written and one being read, each with 16 bytes around it
      help: lower `max_message` to 8388592B, or raise `capacity` to 64MiB
    "#);
}

#[test]
fn near_and_apart() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], placement: { cpus: 1, near: [b, a, b], apart: [b] } }
  b: { command: [b], placement: { cpus: 1, apart: [a], near: [floats] } }
  c: { command: [b], placement: { cpus: 1, policy: prefer, near: [floats] } }
  floats: { command: [c] }
"), @r#"
    Error NF0305: `b` is named twice in `near` of stage `a`
      2: b <- the second time
      2: b <- the first time
      help: remove one of the two
    Error NF0316: stage `a` names itself in `near`
      2: a <- the stage itself
      help: name another stage
    Error NF0317: stage `floats` has no place to be near to
      3: floats <- `b` is to be placed by it
      5: floats <- has no `placement`: it floats over all CPUs
      help: give `floats` a place too: `placement: { cpus: 1 }`
    Warning NF0317: stage `floats` has no place to be near to
      4: floats <- `c` is to be placed by it
      5: floats <- has no `placement`: it floats over all CPUs
      help: give `floats` a place too: `placement: { cpus: 1 }`
    Error NF0316: stages `a` and `b` are to be both near and apart
      2: b <- apart
      2: b <- near
      help: keep one of the two
    Error NF0316: stages `b` and `a` are to be both near and apart
      3: a <- apart
      2: b <- near
      help: keep one of the two
    "#);
}

#[test]
fn limits_of_rings() {
    insta::assert_snapshot!(told(r"
stages:
  a: { command: [a], replicas: 100 }
  b: { command: [b], replicas: 129 }
edges:
  wide: { from: a, to: b }
  many: { from: a, to: b, delivery: distribute }
  huge: { from: a, to: b, capacity: 16GiB }
"), @r#"
    Error NF0319: edge `wide` has 129 consumers
      5: wide <- a ring has at most 128
      note: with `delivery: broadcast` every consumer sees every message
      help: lower `replicas`, or use `delivery: distribute`
    Error NF0319: edge `many` expands into 12900 rings
      6: many <- 100 producers × 129 consumers: at most 4096 rings
      help: lower `replicas`, or put a stage in between
    Error NF0319: edge `huge` has 129 consumers
      7: huge <- a ring has at most 128
      note: with `delivery: broadcast` every consumer sees every message
      help: lower `replicas`, or use `delivery: distribute`
    Error NF0320: the rings of this pipeline ask for more than 1TiB of memory
      7: 16GiB <- 100 × 16GiB is 1.6TiB
      6: many <- 12900 × 16MiB is 201.6GiB
      5: wide <- 100 × 16MiB is 1.6GiB
      note: `capacity` is per ring, and rings are populated before anything starts
      help: lower `capacity`
    "#);
}

#[test]
fn too_many_tasks() {
    let stages: String = (0..100).map(|i| format!("  s{i}: {{ command: [a], replicas: 1001 }}\n")).collect();
    insta::assert_snapshot!(told(&format!("stages:\n{stages}")), @r#"
    Error NF0322: the stages of this pipeline are 100100 processes, with at most 100000 in one run
      2: 1001 <- `s0` has the most replicas
      help: lower `replicas`, or split the pipeline
    "#);
}

#[test]
fn files_written_by_several() {
    insta::assert_snapshot!(told(r"
defaults: { stdout: { file: all } }
stages:
  each: { command: [a], replicas: 2, stdout: { file: 'own-${replica}' } }
  last: { command: [a], stdout: { file: ./own-1 } }
  both: { command: [a], replicas: 3, stdout: { file: /tmp/x } }
  again: { command: [a], depends_on: [both], stdout: { file: .//x } }
  third: { command: [a], stdout: { file: /tmp//x } }
  memory: { command: [a], replicas: 2, stdout: { file: /dev/shm/x } }
  screen: { command: [a], replicas: 2, stdout: { file: /dev/stdout } }
  screen2: { command: [a], stdout: { file: /dev/stdout } }
  d1: { command: [a] }
  d2: { command: [a] }
"), @r#"
    Error NF0323: the 3 replicas of stage `both` write the same file
      5: /tmp/x <- each empties it and overwrites what the others wrote
      5: 3 <- more than one process
      help: write it with `${replica}`, as in `file: "out-${replica}.txt"`
    Error NF0323: the 2 replicas of stage `memory` write the same file
      8: /dev/shm/x <- each empties it and overwrites what the others wrote
      8: 2 <- more than one process
      help: write it with `${replica}`, as in `file: "out-${replica}.txt"`
    Error NF0323: stages `each` and `last` write the same file
      4: ./own-1 <- `last` empties it and overwrites what others wrote
      3: 'own-${replica}' <- `each` writes it too
      help: give each stage a file of its own, or join their output with an edge
    Error NF0323: stages `both`, `again` and 1 more write the same file
      6: .//x <- `again` empties it and overwrites what others wrote
      5: /tmp/x <- `both` writes it too
      help: give each stage a file of its own, or join their output with an edge
    Error NF0323: stages `d1` and `d2` write the same file
      1: all <- each empties it and overwrites what others wrote
      12: d2 <- writes it too
      help: give each stage a file of its own, or join their output with an edge
    "#);
}

#[test]
fn a_pipeline_is_what_its_file_means() {
    let (pipeline, found) = built(
        r"
version: 1
name: p
env: { A: common, B: common }
stages:
  a: { command: [a], replicas: 2, env: { B: own }, service: true }
  alone: { command: [x] }
  b: { command: [b], replicas: 3, depends_on: { a: started }, bind: { x: u32le } }
  c: { command: [c], stdin: { edge: z, framing: raw } }
  d: { command: [d], stdout: { edge: z, framing: raw }, depends_on: { alone: completed, b: started } }
edges:
  x: { from: a, to: b, delivery: distribute }
  y: { from: a, to: [b, c], capacity: 1MiB }
  z: { from: d, to: c, kind: pipe }
",
    );
    let p = pipeline.unwrap_or_else(|| panic!("{:?}", found.list));
    assert_eq!(p.gangs, [vec![StageId(0), StageId(2), StageId(3), StageId(4)], vec![StageId(1)]]);
    assert_eq!(p.task_count(), 8);
    assert_eq!(p.stages.iter().map(|s| s.service).collect::<Vec<_>>(), [true, false, true, true, false]);
    assert_eq!(p.topological().iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 3, 2, 4]);
    assert_eq!(p.dependents().of(StageId(0)), [(StageId(2), crate::spec::Condition::Started)]);
    assert_eq!(p.stage(StageId(0)).task_name(1), "a@1");
    assert_eq!(p.stage(StageId(2)).inputs, [EdgeId(0), EdgeId(1)]);
    assert_eq!(p.stage(StageId(2)).bind[0].direction, Direction::Input);
    assert_eq!(p.edge(EdgeId(1)).max_message, 256 << 10);
    let b = |r| (StageId(2), r);
    let x = p.rings(EdgeId(0));
    assert_eq!(x.len(), 6);
    assert_eq!(x[4], RingPlan { edge: EdgeId(0), producer: (StageId(0), 1), consumers: vec![b(1)] });
    let y = p.rings(EdgeId(1));
    assert_eq!(y.len(), 2);
    assert_eq!(y[1].consumers, [b(0), b(1), b(2), (StageId(3), 0)]);
    assert!(p.rings(EdgeId(2)).is_empty());
}
