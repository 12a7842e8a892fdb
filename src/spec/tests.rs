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
"#), @r##"
NF0211: this program reads version 1 of the file format and no other @ "2" | write `version: 1`
NF0201: `nmae` is not a key of the top level of the file @ "nmae" | did you mean `name`?
NF0203: `timeout` must be a time like 90s, not an integer @ "64" | times have a unit: 64 seconds is written `64s`
NF0203: `parallel` must be an integer from 1 to 65536, not a string @ "\"4\"" | without quotes: `4`
NF0201: `cron` is not a key of the top level of the file @ "cron" | `cron` belongs under `schedule`
NF0203: `env` must be a mapping with a key for each environment variable, not a list @ "[A]" | for instance `env: { LOG_LEVEL: info }`
NF0206: `a b` cannot be the name of a stage @ "a b" | names are at most 64 letters, digits, `_`, `.` and `-`, and do not begin with `.` or `-`: they become labels, files and cgroups
NF0203: `command` must be a list, not a string @ "sort -u" | a list with the program first: `command: [sort, -u]`; for a line that a shell should read there is `shell`
NF0201: `cpus` is not a key of a stage @ "cpus" | `cpus` belongs under `placement`
NF0201: `cmd` is not a key of a stage @ "cmd" | it is called `command` here
NF0201: `x-y` is not a key of a stage @ "x-y" | keys of your own (`x-…`) stand at the top level of the file
NF0202: `retry` is not supported yet @ "retry" | retries come in a later release
NF0210: `command` is empty @ "[]" | a list with the program first: `command: [sort, -u]`; for a line that a shell should read there is `shell`
NF0203: `service` must be true or false, not a string @ "yes" | only `true` and `false` are booleans: write `true`
NF0207: `replicas` must be an integer from 1 to 1024, not 2000 @ "2000" | for instance `replicas: 4`
NF0206: an empty text cannot be a user's name @ "\"\"" | users are named by letters, digits, `_`, `.`, `@` and `-`
NF0205: `stop_signal` must be `TERM`, `INT`, `QUIT`, `HUP`, `ABRT`, `KILL`, `USR1`, `USR2`, `ALRM`, `WINCH` or `PWR`, not `SIGINT` @ "SIGINT" | did you mean `INT`?
NF0217: `command` and `shell` exclude each other @ "shell" | keep one of them
NF0209: the range `3-1` runs backwards @ "\"3-1\"" | write `1-3`
NF0205: `memory` must be `default`, `local`, `bind`, `preferred` or `interleave`, not `bnid` @ "bnid" | did you mean `bind`?
NF0205: `numa` must be an integer from 0 to 65535, a list or `auto`, not `x` @ "x" | for instance `numa: 0`
NF0202: `near` is not supported yet @ "{ device: eth0 }" | being near a device comes in a later release; stages work: `near: [ingest]`
NF0208: `memory_size` must be a size like 64MiB, not `64 M` @ "64 M" | write `64MiB` (powers of 1024) or `64MB` (powers of 1000)
NF0217: `cpus` and `cpuset` exclude each other @ "cpuset" | keep one of them
NF0203: `A` must be text, not nothing @ "" | give it a value, or leave the line out
NF0212: there is no var `nope` @ "${nope}" | declare it: `vars: { nope: … }`; to write it literally: `$${nope}`
NF0213: `${HOME}` is not the name of a var @ "${HOME}" | the environment is not filled in: declare `vars: { home: { env: HOME } }` and write `${home}`; for a shell, or literally, write `$${HOME}`
NF0214: `${edge.x}` is not known here, only when a process starts @ "${edge.x}" | it may stand in `command` and `env`
NF0202: `healthy` is not supported yet @ "healthy" | health checks come in a later release
NF0205: `b` must be `completed`, `exited` or `started`, not `done` @ "done" | did you mean `completed`?
NF0201: `form` is not a key of an edge @ "form" | did you mean `from`?
NF0218: `c` has nothing to run @ "c" | for instance `command: [sort, -u]`
NF0204: `stdin` says neither `edge` nor `file` @ "stdin" | add `edge: NAME` or `file: PATH`
NF0217: `framing` has no meaning for a file @ "framing" | leave it out: files are read and written as they are
NF0217: `priority` has no meaning for the class `other` @ "priority" | it is for `class: fifo` and `class: rr`; the others have `nice`
NF0217: objects are not dropped: what is full holds its producer back @ "drop_newest" | leave `on_full` out, or make it `kind: ring`
NF0217: `by` says how to distribute, but every consumer gets every message @ "by" | add `delivery: distribute`, or leave `by` out
NF0217: an object of 1GiB does not fit into a capacity of 16MiB @ "1GiB" | raise `capacity` to `max_message` or more
"##);
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
    let (spec, found) = read_with(text, &[("env", "te st"), ("n", "many"), ("big", "1"), ("on", "objcet")], true);
    assert!(spec.is_some() && found.has_errors(), "good for finding more");
    let messages: Vec<_> = found.list.iter().map(|d| d.to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"), @r##"
NF0206: `run-te st` cannot be a pipeline's name
NF0203: `parallel` must be an integer from 1 to 65536, not the text `many`
NF0203: `replicas` must be an integer from 1 to 1024, not the text `many`
NF0208: `cpuset` must be a CPU list like "0-3,8", not `many`
NF0203: `numa` must be an integer from 0 to 65535, a list or `auto`, not the text `many`
NF0206: `te st` cannot be a stage's name
NF0208: `capacity` must be a size from 1KiB to 64GiB, not `1`
NF0205: `kind` must be `ring`, `pipe` or `object`, not `objcet`
NF0203: `messages` must be a number above 0, not the text `many`
"##);
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
    insta::assert_snapshot!(mistakes(&text("replicas: \"${v}\"")), @r##"
NF0215: the var `v` has no value @ "v" | give it by `--set v=…` or in the environment as V
"##);
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
    insta::assert_snapshot!(mistakes(text), @r##"
NF0206: `Upper` cannot be the name of a var @ "Upper" | names of vars are at most 64 lower-case letters, digits and `_`, and do not begin with a digit
NF0203: `list` must be a plain value (text, number or boolean) or a mapping, not a list @ "[1]" | for instance `list: { default: 9000 }`
NF0206: `LOG` cannot be the name of a var @ "LOG" | names of vars are at most 64 lower-case letters, digits and `_`, and do not begin with a digit
NF0216: a var cannot be called `self` @ "self" | `${self}` has a meaning of its own; choose another name
NF0216: the default of a var does not refer to other values @ "${n}" | write the value itself; literally it is `$${n}`
NF0213: `${` is never closed by `}` @ "${" | `${` begins a name: write `${name}`, or `$${` for these two characters themselves
NF0214: `${replica}` is not known here, only when a process starts @ "${replica}" | such names may stand in `command`, `env`, `cwd` and `file`
NF0212: there is no var `om` @ "${om}" | declare it: `vars: { om: … }`; to write it literally: `$${om}`
NF0213: `${` is never closed by `}` @ "${" | `${` begins a name: write `${name}`, or `$${` for these two characters themselves
NF0213: `${}` is not the name of a var @ "${}" | `${` begins a name: write `${name}`, or `$${` for these two characters themselves
NF0213: `${n` is never closed by `}` @ "${n" | names are lower-case letters, digits and `_`, closed by `}`; literally it is `$${n`
NF0214: `${edge.e}` is not known here, only when a process starts @ "${edge.e}" | it may stand in `command` and `env`
NF0217: `command` and `shell` exclude each other @ "shell" | keep one of them
NF0203: `command` must be a list, not a string @ "\"${n}\"" | a list with the program first: `command: [sort, -u]`; for a line that a shell should read there is `shell`
NF0203: `depends_on` must be a list or a mapping with a key for each stage, not a string @ "\"${n}\"" | a list, also of one: `depends_on: [fetch]`
NF0216: `n` is both a var and an environment variable @ "n" | vars reach `shell` stages as environment variables of their own names: rename one of them
NF0216: `lit` is both a var and an environment variable @ "lit" | vars reach `shell` stages as environment variables of their own names: rename one of them
NF0216: `n` is both a var and an environment variable @ "n" | vars reach `shell` stages as environment variables of their own names: rename one of them
"##);
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
    insta::assert_snapshot!(cases.map(stage).join("\n"), @r##"
NF0217: `class: fifo` needs a `priority` @ "fifo" | add one from 1 to 99, for instance `priority: 50`
NF0207: `priority` must be an integer from 1 to 99, not 100 @ "100" | for instance `priority: 50`
NF0207: `nice` must be an integer from -20 to 19, not -21 @ "-21" | for instance `nice: -5`
NF0217: `nice` has no meaning for the class `rr` @ "nice" | leave it out
NF0217: `nice` has no meaning for the class `idle` @ "nice" | leave it out
NF0217: `priority` has no meaning for the class `batch` @ "priority" | it is for `class: fifo` and `class: rr`; the others have `nice`
NF0217: `command` and `shell` exclude each other @ "shell" | keep one of them
NF0217: `edge` and `file` exclude each other @ "file" | keep one of them
NF0217: the edge `e` is given to this stage twice @ "e" | keep one of `stdin`, `stdout` and `bind` for it
NF0206: a path cannot be empty @ "''" | for instance `cwd: ./python`
NF0209: `timeout` must be a time like 90s, not zero @ "0s" | for instance `timeout: 5m`
NF0219: text for a process cannot hold a NUL character @ "\"x\\0y\"" | take it out: the system ends such texts at the first NUL
NF0203: `near` must be a list, not a string @ "a" | a list, also of one: `near: [ingest]`
NF0207: `load` must be a number above 0 and up to 1, not 1.5 @ "1.5" | for instance `load: 0.8`
NF0207: `cpuset` must be a CPU list like "0-3,8", not 70000 @ "70000" | for instance `cpuset: "0-3,8"`
NF0217: `cpus` and `cores` exclude each other @ "cores" | keep one of them
NF0209: `99999999TiB` is more bytes than can be counted @ "99999999TiB" | for instance `memory_size: 4GiB`
NF0208: `memory_bandwidth` must be a rate like 400MB/s, not `5MB` @ "5MB" | a rate is per second: write `5MB/s`
"##);
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

#[test]
fn what_follows_from_a_mistake_is_not_told_again() {
    let text = "version: 1\nname: p\nstages: { a: { comand: [x] } }\nedges: { e: { source: a, to: b } }";
    insta::assert_snapshot!(mistakes(text), @r##"
NF0201: `comand` is not a key of a stage @ "comand" | did you mean `command`?
NF0201: `source` is not a key of an edge @ "source" | it is called `from` here
"##);
}

#[test]
fn a_small_file_cannot_ask_for_any_amount_of_memory() {
    let many = |n: usize, line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    for key in ["env", "defaults:\n  env"] {
        let env = many(3000, &|i| format!("    V{i}: x\n"));
        let text = format!(
            "version: 1\nname: p\n{key}:\n{env}stages:\n{}",
            many(2000, &|i| format!("  s{i}: {{ command: [x] }}\n"))
        );
        let told = mistakes(&text);
        assert!(told.starts_with("NF0210") && told.lines().count() == 1, "{told}");
    }
}
