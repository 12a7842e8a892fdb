//! Pictures of one pipeline that has everything, and of one that is hostile; and all of it stays well-formed.

use std::path::Path;

use crate::diag::Diagnostics;
use crate::pipeline::testing::Maker;
use crate::pipeline::{Pipeline, build};
use crate::spec::*;

fn built(spec: &Spec) -> Pipeline {
    let mut found = Diagnostics::default();
    build(spec, Path::new("/tmp"), &mut found).unwrap_or_else(|| panic!("{:?}", found.list))
}

/// Rings, one with two readers, a pipe, a service, replicas, two conditions.
fn sample() -> Pipeline {
    let m = Maker::default();
    let stage = |name: &str, command: &str, deps: &[(&str, Condition)]| {
        let mut stage = m.stage(name, deps);
        stage.command = m.at(Command::Argv(command.split(' ').map(|w| m.text(w)).collect()));
        stage
    };
    let mut db = stage("db", "postgres -D data", &[]);
    db.service = Some(m.at(true));
    let ingest = stage("ingest", "./ingest", &[("db", Condition::Started)]);
    let mut enrich = stage("enrich", "python3 \"e\" <x> \\N", &[]);
    enrich.replicas = m.at(4);
    let stream = || Some(m.at(Stream::Edge { edge: m.at("text".into()), framing: Framing::Raw }));
    let mut count = stage("count", "sort", &[]);
    count.stdout = stream();
    let mut wc = stage("wc", "wc -l", &[]);
    wc.stdin = stream();
    let store = stage("store", "zstd", &[]);
    let report = stage("report", "./report #1", &[("wc", Condition::Completed)]);
    let mut events = m.edge("events", &["ingest"], &["enrich"]);
    events.delivery = m.at(Delivery::Distribute);
    let enriched = m.edge("enriched", &["enrich"], &["count", "store"]);
    let mut text = m.edge("text", &["count"], &["wc"]);
    text.kind = m.at(Kind::Pipe);
    let stages = vec![db, ingest, enrich, count, store, wc, report];
    built(&Spec { description: Some("A & B\n\"C\"".into()), ..m.spec(stages, vec![events, enriched, text]) })
}

#[test]
fn dot_says_it_all() {
    insta::assert_snapshot!(super::dot(&sample()), @r#"
    digraph "test" {
      rankdir=LR;
      label="A & B \"C\""; labelloc=t;
      node [shape=box, style=rounded, fontname="monospace", fontsize=11];
      edge [fontname="monospace", fontsize=9];
      s0 [label="db\npostgres -D data", tooltip="postgres -D data", peripheries=2];
      subgraph cluster_1 {
        label=""; style="rounded,dotted";
        s1 [label="ingest\n./ingest", tooltip="./ingest"];
        s2 [label="enrich ×4\npython3 \"e\" <x> \\N", tooltip="python3 \"e\" <x> \\N"];
        s3 [label="count\nsort", tooltip="sort"];
        s4 [label="store\nzstd", tooltip="zstd"];
        s5 [label="wc\nwc -l", tooltip="wc -l"];
        e1 [shape=plaintext, label="enriched\n16MiB"];
      }
      s6 [label="report\n./report #1", tooltip="./report #1"];
      s1 -> s2 [style=solid, label="events\n16MiB distribute"];
      s2 -> e1 [style=solid, arrowhead=none];
      e1 -> s3 [style=solid];
      e1 -> s4 [style=solid];
      s3 -> s5 [style=dashed, label="text\npipe"];
      s0 -> s1 [style=dotted, label="started"];
      s5 -> s6 [style=dotted, label="completed"];
    }
    "#);
}

#[test]
fn mermaid_says_it_all() {
    insta::assert_snapshot!(super::mermaid(&sample()), @r#"
    flowchart LR
      s0[["<b>db</b><br/><small>postgres -D data</small>"]]
      subgraph g1[" "]
        s1["<b>ingest</b><br/><small>./ingest</small>"]
        s2["<b>enrich</b> ×4<br/><small>python3 #34;e#34; #60;x#62; #92;N</small>"]
        s3["<b>count</b><br/><small>sort</small>"]
        s4["<b>store</b><br/><small>zstd</small>"]
        s5["<b>wc</b><br/><small>wc -l</small>"]
      end
      s6["<b>report</b><br/><small>./report #35;1</small>"]
      s1 -->|"events · 16MiB distribute"| s2
      e1(["enriched · 16MiB"])
      s2 --- e1
      e1 --> s3
      e1 --> s4
      s3 -->|"text · pipe"| s5
      s0 -->|"started"| s1
      s5 -->|"completed"| s6
      linkStyle 4 stroke-dasharray:6 4
      linkStyle 5,6 stroke-dasharray:1 4
    "#);
}

#[test]
fn svg_is_well_formed_and_says_it_all() {
    let svg = super::svg(&sample());
    let texts = well_formed(&svg);
    for text in ["test", "A & B \"C\"", "enrich", "×4", "events", "16MiB distribute", "pipe", "started", "./report #1"]
    {
        assert!(texts.iter().any(|t| t == text), "{text} is not in {texts:?}");
    }
    assert_eq!(svg, super::svg(&sample()));
}

#[test]
fn hostile_text_stays_text() {
    let m = Maker::default();
    let mut stage = m.stage("a", &[]);
    let evil = "]]><script>alert('1')</script> --> \" \\\" `x` \u{1b}[31m \u{0} \u{ffff} %%{init}%% 日本";
    stage.command = m.at(Command::Argv(vec![m.text(evil)]));
    let pipeline = built(&Spec { description: Some(evil.into()), ..m.spec(vec![stage], vec![]) });
    well_formed(&super::svg(&pipeline));
    insta::assert_snapshot!(super::mermaid(&pipeline), @r#"
    flowchart LR
      s0["<b>a</b><br/><small>#39;#93;#93;#62;#60;script#62;alert#40;#39;1#39;#41;#60;/script#62; --#62; #34; #92;…</small>"]
    "#);
    insta::assert_snapshot!(super::dot(&pipeline), @r#"
    digraph "test" {
      rankdir=LR;
      label="]]><script>alert('1')</script> --> \" \\\" `x` [31m ￿ %%{init}%% 日本"; labelloc=t;
      node [shape=box, style=rounded, fontname="monospace", fontsize=11];
      edge [fontname="monospace", fontsize=9];
      s0 [label="a\n']]><script>alert('1')</script> --> \" \\…", tooltip="']]><script>alert('1')</script> --> \" \\\" `x` [31m ￿ %%{init}%% 日本'"];
    }
    "#);
}

#[test]
fn a_pipeline_without_stages_is_a_picture_too() {
    well_formed(&super::svg(&built(&Maker::default().spec(vec![], vec![]))));
}

#[test]
fn thousands_of_stages_are_drawn() {
    let m = Maker::default();
    let name = |i: usize| format!("s{i}");
    let stages = (0..5_000).map(|i| {
        let on: Vec<_> = if i == 0 { vec![] } else { vec![name(i / 2), name(i - 1)] };
        let on: std::collections::BTreeSet<_> = on.iter().map(String::as_str).filter(|&n| n != name(i)).collect();
        m.stage(&name(i), &on.into_iter().map(|n| (n, Condition::Completed)).collect::<Vec<_>>())
    });
    well_formed(&super::svg(&built(&m.spec(stages.collect(), vec![]))));
}

#[test]
fn the_pipelines_of_this_repository_are_drawn() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (pipeline, found) = crate::pipeline::told::built_as(path.to_str().unwrap(), &text);
        let pipeline = pipeline.unwrap_or_else(|| panic!("{:?}", found.list));
        assert!(found.list.is_empty(), "{:?}", found.list);
        well_formed(&super::svg(&pipeline));
    }
}

/// Checks tags, attributes and references of what we write; gives all texts, unescaped.
fn well_formed(xml: &str) -> Vec<String> {
    let (mut open, mut texts, mut rest) = (vec![], vec![], xml);
    let plain = |text: &str| {
        let bare = ["&amp;", "&lt;", "&gt;", "&quot;"].iter().fold(text.to_string(), |t, r| t.replace(r, ""));
        assert!(!bare.contains(['<', '&']), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
    };
    while let Some((text, tail)) = rest.split_once('<') {
        texts.push(plain(text));
        let (tag, tail) = tail.split_once('>').expect("a tag ends");
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "tags are nested");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or("");
        let mut attributes = tag[name.len()..].trim_end_matches('/').trim();
        while !attributes.is_empty() {
            let (key, tail) = attributes.split_once("=\"").expect("a value is quoted");
            assert!(key.chars().all(|c| c.is_ascii_alphabetic() || c == '-'), "{key}");
            let (value, tail) = tail.split_once('"').expect("a value ends");
            plain(value);
            attributes = tail.trim_start();
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty());
    texts
}
