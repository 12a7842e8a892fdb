//! Files read to the end, and the words of every mistake.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::diag::Source;
use crate::document::{Format, parse};

fn tree(text: &str, found: &mut Diagnostics) -> Node {
    let source = Arc::new(Source { name: "p.yaml".into(), text: text.into() });
    parse(&source, Format::Yaml, found).unwrap_or_else(|| panic!("{:?}", found.list))
}

fn read_with(text: &str, set: &[(&str, &str)], strict: bool) -> (Option<Spec>, Diagnostics) {
    let mut found = Diagnostics::default();
    let node = tree(text, &mut found);
    let set: BTreeMap<String, String> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let env = |name: &str| (name == "CLICK_PORT").then(|| "9100".to_string());
    let spec = read(&node, &Inputs { set: &set, env: &env, strict }, &mut found);
    (spec, found)
}

fn spec_of(text: &str) -> Spec {
    let (spec, found) = read_with(text, &[], true);
    spec.unwrap_or_else(|| panic!("{:#?}", found.list))
}

/// Each mistake as `CODE message @ the text it points at [| help]`, in the order in which it was found.
fn mistakes(text: &str) -> String {
    let (spec, found) = read_with(text, &[], true);
    assert!(spec.is_some() || found.has_errors(), "{found:?}");
    let line = |d: &crate::diag::Diagnostic| {
        let place = &d.labels[0].span;
        let help = d.help.as_ref().map(|h| format!(" | {h}")).unwrap_or_default();
        format!("{d} @ {:?}{help}", place.source.text.get(place.range.clone()).unwrap())
    };
    found.list.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A file around the keys of one stage.
fn stage(keys: &str) -> String {
    mistakes(&format!("version: 1\nname: p\nvars: {{ n: 3, s: x }}\nstages:\n  a:\n    command: [a]\n    {keys}\n"))
}

#[test]
fn a_file_is_read_to_its_end() {
    let spec = spec_of(
        r#"
version: 1
name: clickstream
vars: { work: /w, port: { default: 9000, env: CLICK_PORT }, n: 2 }
env: { LOG: info, V: 1.10 }
env_inherit: [PATH]
timeout: 2h
parallel: 8
on_failure: stop
defaults: { placement: { smt: avoid, cpus: 1 }, env: { A: a, B: b }, stop_signal: INT, shell: "true" }
x-mine: { anything: [1] }
stages:
  ingest:
    command: [./in, --port, "${port}", "$HOME $${port} x${replica}", 1.50, true, "${edge.events}", "${self}"]
    placement: { cores: "${n}", numa: [1, 0, 1], near: [count], load: 0.5 }
    env: { B: own }
    replicas: ${n}
    stop_timeout: 0s
    scheduling: { class: fifo, priority: 50 }
    bind: { events: u32le }
  count:
    shell: sort > "$work/${x}"
    depends_on: { ingest: started }
    stdin: { edge: events, framing: lines }
    stdout: { file: "${work}/out" }
    user: 1000
edges:
  events: { from: ingest, to: [count], capacity: 64 MiB, delivery: distribute, rate: 1.5GiB/s, messages: 10000 }
"#,
    );
    assert_eq!((spec.name.value.as_str(), spec.parallel, spec.on_failure), ("clickstream", Some(8), OnFailure::Stop));
    assert_eq!(spec.env_inherit, EnvInherit::Only(vec!["PATH".into()]));
    assert_eq!(spec.vars["port"], "9100");
    let text = |s: &str| Text { pieces: vec![Piece::Literal(s.into())] };
    assert_eq!(spec.env["V"].value, text("1.10"));
    let [ingest, count] = &spec.stages[..] else { panic!("{:?}", spec.stages) };
    let Command::Argv(argv) = &ingest.command.value else { panic!("{:?}", ingest.command) };
    let argv: Vec<_> = argv.iter().map(|t| t.value.clone()).collect();
    assert_eq!(argv[2], text("9100"));
    assert_eq!(argv[3].pieces, [Piece::Literal("$HOME ${port} x".into()), Piece::Replica]);
    assert_eq!((&argv[4], &argv[5]), (&text("1.50"), &text("true")));
    assert_eq!(
        (&argv[6].pieces[..], &argv[7].pieces[..]),
        (&[Piece::Edge("events".into())][..], &[Piece::SelfPath][..])
    );
    let placement = ingest.placement.as_ref().unwrap();
    assert_eq!(placement.cpus.as_ref().unwrap().value, Cpus::Cores(2), "displaces the default cpus");
    assert_eq!((placement.smt.value, &placement.numa.as_ref().unwrap().value), (Smt::Avoid, &vec![0, 1]));
    assert_eq!((&ingest.env["A"].value, &ingest.env["B"].value), (&text("a"), &text("own")));
    assert_eq!((ingest.replicas.value, ingest.stop_signal, ingest.stop_timeout.as_secs()), (2, Signal(2), 0));
    assert_eq!(ingest.scheduling.unwrap().class, SchedClass::Fifo { priority: 50 });
    assert_eq!(ingest.bind[0].framing, Framing::U32le);
    assert_eq!(
        count.command.value,
        Command::Shell { run: "sort > \"$work/${x}\"".into(), with: vec!["/bin/sh".into(), "-ec".into()] }
    );
    assert_eq!(count.depends_on[0].condition, Condition::Started);
    assert_eq!(count.user.as_ref().unwrap().value, "1000");
    assert!(matches!(&count.stdout.as_ref().unwrap().value, Stream::File(p) if p.value == text("/w/out")));
    let edge = &spec.edges[0];
    assert_eq!(
        (edge.capacity.value, edge.delivery.value, edge.rate),
        (64 << 20, Delivery::Distribute, Some(1.5 * 1073741824.0))
    );
}

#[test]
fn the_least_file_has_the_documented_defaults() {
    let spec = spec_of(
        "version: 1\nname: p\nstages:\n  a: { command: [\"true\"] }\nedges:\n  e: { from: a, to: b }\n  p: { from: a, to: b, kind: pipe }",
    );
    let a = &spec.stages[0];
    assert_eq!((a.replicas.value, a.stop_signal, a.stop_timeout.as_secs()), (1, Signal(15), 10));
    assert!(a.placement.is_none() && a.service.is_none() && a.stdin.is_none() && spec.timeout.is_none());
    assert_eq!((spec.edges[0].capacity.value, spec.edges[1].capacity.value), (16 << 20, 1 << 20));
}

#[test]
fn every_mistake_is_told_at_once() {
    insta::assert_snapshot!(mistakes(
            r#"
version: 2
nmae: p
timeout: 64
parallel: "4"
cron: x
env: [A]
stages:
  a b: { command: sort -u, cpus: 2, cmd: x, x-y: 1, retry: { limit: 3 } }
  b: { command: [], shell: x, service: yes, replicas: 2000, user: "", stop_signal: SIGINT }
  c: { placement: { cpus: 2, cpuset: "3-1", memory: bnid, numa: x, near: { device: eth0 }, memory_size: 64 M }, env: { A: } }
  d: { command: [a, "${nope} ${HOME} ${edge.x} $${x}"], cwd: "${edge.x}", depends_on: { a: healthy, b: done } }
  e: { command: [a], stdin: { framing: raw }, stdout: { file: x, framing: raw }, scheduling: { priority: 3 } }
edges:
  e: { form: a, to: b, max_message: 1GiB, on_full: drop_newest, sealed: true, by: round_robin, kind: object }
"#), @"");
}

#[test]
fn vars_take_the_type_that_their_place_wants() {
    let text = "
version: 1
name: \"run-${env}\"
vars: { env: { help: which }, n: 3, big: 64MiB, yes: true, on: ring }
parallel: \"${n}\"
stages:
  a: { command: [x], replicas: \"${n}\", service: \"${yes}\", placement: { cpuset: \"${n}\", numa: \"${n}\" } }
edges:
  e: { from: \"${env}\", to: [a], capacity: \"${big}\", kind: \"${on}\", messages: \"${n}\" }
";
    let (spec, found) = read_with(text, &[("env", "test")], true);
    let spec = spec.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((spec.name.value.as_str(), spec.parallel), ("run-test", Some(3)));
    let placement = spec.stages[0].placement.as_ref().unwrap();
    assert_eq!(placement.cpus.as_ref().unwrap().value, Cpus::Set(vec![3]));
    assert_eq!((placement.numa.as_ref().unwrap().value.as_slice(), spec.stages[0].replicas.value), (&[3][..], 3));
    assert_eq!((spec.edges[0].from[0].value.as_str(), spec.edges[0].capacity.value), ("test", 64 << 20));
    let (spec, found) = read_with(text, &[("env", "te st"), ("n", "many"), ("big", "1"), ("on", "object")], true);
    assert!(spec.is_none());
    let messages: Vec<_> = found.list.iter().map(|d| d.to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"), @"");
}

#[test]
fn a_var_without_a_value_is_an_error_only_when_values_are_needed() {
    let text = |place: &str| {
        format!("version: 1\nname: p\nvars: {{ v: {{ env: V }} }}\nstages:\n  a: {{ command: [x], {place} }}\n")
    };
    let (spec, found) = read_with(&text("timeout: \"${v}\", env: { A: \"${v}\" }"), &[], false);
    assert!(spec.is_some() && !found.has_errors(), "what does not make the graph is simply open");
    let (spec, found) = read_with(&text("replicas: \"${v}\""), &[], false);
    assert!(spec.is_none() && !found.has_errors(), "the graph is not known");
    let (_, found) = read_with(&text("replicas: \"${v}\", user: 1.5"), &[], false);
    assert_eq!(found.list.len(), 1, "the rest is checked");
    insta::assert_snapshot!(mistakes(&text("replicas: \"${v}\"")), @"");
}

#[test]
fn vars_and_references_that_cannot_be() {
    let text = r#"
version: 1
name: "${replica}"
vars: { self: x, Upper: y, other: "${n}", n: 1, lit: "$${n} $n", open: "${", list: [1], LOG: 1 }
env: { n: x, A: "${om}" , B: "${ n }" }
defaults: { env: { lit: z } }
stages:
  a: { command: ["${}", "${n", "${self}${replica}${edge.a}"], shell: "${nothing} is ours", stdin: { file: "${edge.e}" } }
  b: { command: "${n}", env: { n: x }, depends_on: "${n}" }
"#;
    insta::assert_snapshot!(mistakes(text), @"");
}

#[test]
fn rules_between_the_keys_of_one_record() {
    let cases = [
        "scheduling: { class: fifo }",
        "scheduling: { class: rr, priority: 100, nice: -21 }",
        "scheduling: { class: idle, nice: 3 }",
        "scheduling: { class: batch, priority: 3 }",
        "shell: { with: [bash] }",
        "stdin: { edge: e, file: f }",
        "stdin: { edge: e }\n    bind: { e: lines }",
        "cwd: ''",
        "timeout: 0s",
        "env: { A: \"x\\0y\" }",
        "placement: { cores: 1, cpus: 1, near: a, load: 1.5, cpuset: 70000 }",
        "placement: { memory_size: 99999999TiB, memory_bandwidth: 5MB }",
    ];
    insta::assert_snapshot!(cases.map(stage).join("\n"), @"");
}

#[test]
fn sets_that_the_file_does_not_declare() {
    let node = tree("vars: { a: 1 }", &mut Diagnostics::default());
    let set = ["a", "b"].map(|k| (k.to_string(), String::new())).into();
    assert_eq!(undeclared_sets(&node, &set), ["b"]);
}

#[test]
fn the_file_of_the_reference_is_valid() {
    let page = reference();
    let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let spec = spec_of(yaml);
    assert_eq!((spec.stages.len(), spec.edges.len()), (8, 4));
    // Its merge key, its var, its defaults.
    assert_eq!(spec.stages[1].stop_timeout.as_secs(), 5);
    assert_eq!(spec.stages[2].placement.as_ref().unwrap().smt.value, Smt::Avoid);
}
