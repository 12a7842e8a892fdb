//! Snapshots of the renderings.

use std::sync::Arc;

use super::*;

fn source(name: &str, text: &str) -> Arc<Source> {
    Arc::new(Source { name: name.to_owned(), text: text.to_owned() })
}

/// The first place where `part` stands.
fn span(source: &Arc<Source>, part: &str) -> Span {
    let start = source.text.find(part).expect("the part is there");
    Span { source: source.clone(), range: start..start + part.len() }
}

fn sample() -> Vec<Diagnostic> {
    let main = source(
        "dir/my pipeline.yaml",
        "version: 1\r\nstages:\r\n\tümlaut: 日本 x\r\n  comand: [a]\r\n  other: 1\r\n  list:\r\n    - 1\r\n    - 2\r\n",
    );
    let part = source("part.yaml", "stages:\n  a: {}\n");
    let end = Span { source: main.clone(), range: main.text.len()..main.text.len() };
    vec![
        Diagnostic::error(codes::UNKNOWN_KEY, "unknown key `comand`")
            .at(&span(&main, "comand"), "not a key of a stage")
            .help("did you mean `command`?"),
        Diagnostic::error(codes::DUPLICATE_KEY, "the key `a` is given twice")
            .at(&span(&main, "x\r"), "given again here")
            .at(&span(&main, "version"), "near the start")
            .at(&span(&part, "a:"), "first given here")
            .note("100% sure: yes, \u{1b}[31mreally"),
        Diagnostic::error(codes::DUPLICATE_KEY, "the key `a` is given twice")
            .at(&span(&main, "x\r"), "given again here")
            .at(&span(&main, "version"), "near the start")
            .at(&span(&part, "a:"), "first given here")
            .note("100% sure: yes, \u{1b}[31mreally"),
        Diagnostic::warning(codes::CYCLE, "several lines").at(&span(&main, "list:\r\n    - 1\r\n    - 2"), "this list"),
        Diagnostic::error(codes::EMPTY, "something is missing at the end").at(&end, "here"),
        Diagnostic::error(codes::UNREADABLE, "cannot read `x.yaml`: no such file"),
    ]
}

#[test]
fn human() {
    insta::assert_snapshot!(render(&sample(), Format::Human { color: false }), @r#"
error[NF0101]: cannot read `x.yaml`: no such file

error[NF0112]: the key `a` is given twice
 --> dir/my pipeline.yaml:3:13
  |
1 | version: 1
  | ------- near the start
2 | stages:
3 |     ümlaut: 日本 x
  |                  ^ given again here
  |
 ::: part.yaml:2:3
  |
2 |   a: {}
  |   -- first given here
  |
  = note: 100% sure: yes, ␛[31mreally

error[NF0201]: unknown key `comand`
 --> dir/my pipeline.yaml:4:3
  |
4 |   comand: [a]
  |   ^^^^^^ not a key of a stage
  |
  = help: did you mean `command`?

warning[NF0301]: several lines
 --> dir/my pipeline.yaml:6:3
  |
6 |   list:
  |   ^^^^^ this list

error[NF0106]: something is missing at the end
 --> dir/my pipeline.yaml:8:8
  |
8 |     - 2
  |        ^ here

4 errors, 1 warning in dir/my pipeline.yaml
"#);
}

#[test]
fn colours_are_written_only_when_asked_for() {
    assert!(render(&sample(), Format::Human { color: true }).contains("\u{1b}["));
    assert!(!render(&sample(), Format::Human { color: false }).contains('\u{1b}'));
}

#[test]
fn json() {
    let text = render(&sample(), Format::Json);
    serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
    insta::assert_snapshot!(text, @r#"
{"diagnostics":[
{"file":null,"line":null,"column":null,"end_line":null,"end_column":null,"code":"NF0101","name":"unreadable","severity":"error","message":"cannot read `x.yaml`: no such file","help":null,"notes":[],"labels":[]},
{"file":"dir/my pipeline.yaml","line":3,"column":13,"end_line":3,"end_column":15,"code":"NF0112","name":"duplicate-key","severity":"error","message":"the key `a` is given twice","help":null,"notes":["100% sure: yes, \u001b[31mreally"],"labels":[{"file":"dir/my pipeline.yaml","line":3,"column":13,"end_line":3,"end_column":15,"text":"given again here"},{"file":"dir/my pipeline.yaml","line":1,"column":1,"end_line":1,"end_column":8,"text":"near the start"},{"file":"part.yaml","line":2,"column":3,"end_line":2,"end_column":5,"text":"first given here"}]},
{"file":"dir/my pipeline.yaml","line":4,"column":3,"end_line":4,"end_column":9,"code":"NF0201","name":"unknown-key","severity":"error","message":"unknown key `comand`","help":"did you mean `command`?","notes":[],"labels":[{"file":"dir/my pipeline.yaml","line":4,"column":3,"end_line":4,"end_column":9,"text":"not a key of a stage"}]},
{"file":"dir/my pipeline.yaml","line":6,"column":3,"end_line":8,"end_column":8,"code":"NF0301","name":"cycle","severity":"warning","message":"several lines","help":null,"notes":[],"labels":[{"file":"dir/my pipeline.yaml","line":6,"column":3,"end_line":8,"end_column":8,"text":"this list"}]},
{"file":"dir/my pipeline.yaml","line":8,"column":8,"end_line":8,"end_column":8,"code":"NF0106","name":"empty","severity":"error","message":"something is missing at the end","help":null,"notes":[],"labels":[{"file":"dir/my pipeline.yaml","line":8,"column":8,"end_line":8,"end_column":8,"text":"here"}]}
]}
"#);
}

#[test]
fn github() {
    insta::assert_snapshot!(render(&sample(), Format::Github), @r#"
::error title=NF0101 unreadable::cannot read `x.yaml`: no such file
::error file=dir/my pipeline.yaml,line=3,col=13,endLine=3,endColumn=15,title=NF0112 duplicate-key::the key `a` is given twice%0Anote: 100%25 sure: yes, ␛[31mreally
::error file=dir/my pipeline.yaml,line=4,col=3,endLine=4,endColumn=9,title=NF0201 unknown-key::unknown key `comand`%0Ahelp: did you mean `command`?
::warning file=dir/my pipeline.yaml,line=6,endLine=8,title=NF0301 cycle::several lines
::error file=dir/my pipeline.yaml,line=8,col=8,endLine=8,endColumn=8,title=NF0106 empty::something is missing at the end
"#);
}

#[test]
fn sarif() {
    let log: serde_json::Value = serde_json::from_str(&render(&sample(), Format::Sarif)).expect("it is JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules: Vec<_> = run["tool"]["driver"]["rules"].as_array().into_iter().flatten().map(|r| &r["id"]).collect();
    assert_eq!(rules, ["NF0101", "NF0106", "NF0112", "NF0201", "NF0301"]);
    assert_eq!(run["results"][2]["ruleIndex"], 3);
    insta::assert_snapshot!(run["results"][1], @r#"{"ruleId":"NF0112","ruleIndex":2,"level":"error","message":{"text":"the key `a` is given twice\n100% sure: yes, \u001b[31mreally"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"dir/my%20pipeline.yaml"},"region":{"startLine":3,"startColumn":13,"endLine":3,"endColumn":15}},"message":{"text":"given again here"}}],"relatedLocations":[{"physicalLocation":{"artifactLocation":{"uri":"dir/my%20pipeline.yaml"},"region":{"startLine":1,"startColumn":1,"endLine":1,"endColumn":8}},"message":{"text":"near the start"},"id":1},{"physicalLocation":{"artifactLocation":{"uri":"part.yaml"},"region":{"startLine":2,"startColumn":3,"endLine":2,"endColumn":5}},"message":{"text":"first given here"},"id":2}]}"#);
}

#[test]
fn nothing_found_is_nothing_said() {
    assert_eq!(render(&[], Format::Human { color: false }), "");
    assert_eq!(render(&[], Format::Json), "{\"diagnostics\":[]}\n");
    assert_eq!(render(&[], Format::Github), "");
    assert!(render(&[], Format::Sarif).contains("\"results\": []"));
}

/// Labels far apart, and lines of megabytes, are cut rather than drawn.
#[test]
fn long_texts_are_cut() {
    let long = source("long.yaml", &format!("{}wrong{}\n", "é".repeat(1 << 20), "y".repeat(1 << 20)));
    let d = Diagnostic::error(codes::YAML_SYNTAX, "no").at(&span(&long, "wrong"), "here");
    insta::assert_snapshot!(render(&[d], Format::Human { color: false }), @r#"
error[NF0110]: no
 --> long.yaml:1:1048577
  |
1 | …ééééééééééééééééééééééééééééééwrongyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
  |                                ^^^^^ here

1 error in long.yaml
"#);
    let tall = source("tall.yaml", &format!("first\n{}last", "middle\n".repeat(100_000)));
    let d = Diagnostic::error(codes::DUPLICATE_KEY, "no")
        .at(&span(&tall, "last"), "again")
        .at(&span(&tall, "first"), "first");
    insta::assert_snapshot!(render(&[d], Format::Human { color: false }), @r#"
error[NF0112]: no
      --> tall.yaml:100002:1
       |
100002 | last
       | ^^^^ again
       |
      ::: tall.yaml:1:1
       |
     1 | first
       | ----- first

1 error in tall.yaml
"#);
    let wide = source("wide.yaml", &format!("{}wrong{}\n", "x ".repeat(300), "y ".repeat(300)));
    let d = Diagnostic::error(codes::YAML_SYNTAX, "no").at(&span(&wide, "wrong"), "here");
    insta::assert_snapshot!(render(&[d], Format::Human { color: false }), @r#"
error[NF0110]: no
 --> wide.yaml:1:601
  |
1 | ...x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x wrongy y y y y y y y y y y y y y y y y y y y y y y y y y y y y y y y y...
  |                                                                ^^^^^ here

1 error in wide.yaml
"#);
}

/// Any range at all in any text: a rendering never panics.
#[test]
fn no_place_is_too_odd_to_render() {
    for text in ["", "\n", "\r\n", "a", "é\n", "日本\r\n\r\n", "\t\u{feff}x\u{7f}\n\n\n", "a\rb\n\u{202e}c"] {
        let source = source("odd.yaml", text);
        for start in 0..=text.len() + 1 {
            for end in start..=text.len() + 2 {
                let place = Span { source: source.clone(), range: start..end };
                let list = [Diagnostic::error(codes::EMPTY, "odd").at(&place, "here").at(&place, "")];
                for format in [Format::Human { color: false }, Format::Json, Format::Github, Format::Sarif] {
                    render(&list, format);
                }
            }
        }
    }
}
