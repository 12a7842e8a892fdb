//! Tests of reading: both languages, their limits, and what is told of mistakes.

use super::*;

fn read(name: &str, text: &str) -> (Option<Node>, Diagnostics) {
    let mut found = Diagnostics::default();
    let source = source_from_bytes(name, text.as_bytes().to_vec(), &mut found);
    let format = Format::from_path(Path::new(name)).expect("a known ending");
    let node = source.and_then(|s| parse(&s, format, &mut found));
    (node, found)
}

/// A tree as compact text: what it holds, without places.
fn show(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::String(s) => format!("{s:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entries = map.entries.iter().map(|e| format!("{}: {}", e.key, show(&e.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The tree, or every mistake as `LINE:COLUMN CODE message @ each label's text`.
fn brief(name: &str, text: &str) -> String {
    let (node, found) = read(name, text);
    let mut lines: Vec<String> = node.iter().map(show).collect();
    for d in &found.list {
        let mut line = d.to_string();
        for label in &d.labels {
            let (before, rest) = label.span.source.text.split_at(label.span.range.start);
            let row = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            let covered = &rest[..label.span.range.len()];
            line += &format!(" @ {row}:{column} {covered:?} {}", label.text);
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn yaml(text: &str) -> String {
    brief("p.yaml", text)
}

fn toml(text: &str) -> String {
    brief("p.toml", text)
}

/// Every text with what became of it; read the snapshot critically when it changes.
fn gallery(snapshot: &str, file: &str, texts: &[&str]) {
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(snapshot, texts_and_trees(file, texts));
    });
}

fn texts_and_trees(name: &str, texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| {
            format!("{}\n=> {}\n\n", text.trim_end().replace('\t', "→"), brief(name, text).replace('\n', "\n   "))
        })
        .collect()
}

#[test]
fn yaml_values() {
    gallery(
        "yaml_values",
        "p.yaml",
        &[
            "plain: [1, -2, +3, 007, 0x1F, 0o17, 2.5, 1e3, .5, 3., .inf, -.INF, .nan]\n",
            "words: [true, False, yes, off, null, ~, '', 1_000, 1.2.3, 0x, 1e, 12:30, '5', \"6\"]\n",
            "empty:\nlist: []\nmap: {}\n",
            "items:\n- a\n- b: 1\n  c: 2\nafter: 3\n",
            "text: |\n  two\n  lines\nfolded: >-\n  one\n  line\n",
            "1: a\ntrue: b\n2.50: c\n99999999999999999999: d\n",
            "tags: [!!str 1, !!float 1, !!int 7, !!null '', ! 5, !!seq [1], !!map {a: 1}]\n",
            "base: &b {x: 1, y: 2}\nmore: &m\n  y: 3\n  z: 4\none: {<<: *b, x: 9}\ntwo:\n  a: 0\n  <<: [*m, *b]\n  z: 5\nagain: [*b, *b]\n",
            "key: &k name\n*k : value\n'<<': plain\n",
            "%YAML 1.2\n---\na: 1\n...\n",
        ],
    );
}

#[test]
fn yaml_mistakes() {
    gallery(
        "yaml_mistakes",
        "p.yaml",
        &[
            "",
            "# only a comment\n\n",
            "---\n",
            "a: 1\nb: 2\na: 3\n",
            "a: {b: 1, b: 2}\na: 1\n",
            "a: &x {}\nb:\n  <<: *x\n  <<: *x\n",
            "~: x\n[a]: q\n{b}: r\n: s\n",
            "a: ${x}\nb: {${x}: 1}\n",
            "a: [${x}]\n",
            "command: [x, -p ${y}]\n",
            "a: !foo 1\nb: !!int x\nc: !!set {a}\nd: !x!y z\n",
            "a: *b\nc: &d [*d]\n",
            "a: *.csv\n",
            "a: *\n",
            "a: <<\n<<: 5\n",
            "b: &b 1\na:\n  <<: [*b, {c: 1}]\n",
            "a: 1\n---\nb: 2\n",
            "a: 99999999999999999999\nb: 1e999\n",
            "a:\n\tb: 1\n",
            "a:1\nb: 2\n",
            "a: 1\nb:2\nc: 3\n",
            "a: b: c\n",
            "a: 1\n  b: 2\n",
            "a:\n  b: 1\n c: 2\n",
            "a: 1\nb\nc: 2\n",
            "a: [1, 2\nb: 3\n",
            "a: [1, 2\n",
            "a: {b: 1\n",
            "a: [1}\n",
            "a: ]\n",
            "a: [1,\n  b,\nc: [2]\n",
            "a: [1 2] 3\n",
            "a: \"x\nb: 2\n",
            "a: \"x\n",
            "a: 'it's'\n",
            "a: 'x' y\n",
            "a: \"\\q\"\n",
            "a: \"x\"#y\n",
            "a: - b\n",
            "- a\nb: 1\n",
            "a: 1\n- b\n",
            "a: -b\n-c\n",
            "a: @x\n",
            "a: %x\n",
            "a: `x`\n",
            "a: |x\n  b\n",
            "a: |\nb\n",
            "a: x\n\u{feff}b: 1\n",
            "just text\n",
        ],
    );
}

#[test]
fn toml_values() {
    gallery(
        "toml_values",
        "p.toml",
        &[
            "a = [1, -2, +3, 0x1F, 0o17, 0b11, 1_000, 2.5, 1e3, inf, -nan]\n",
            "a = ['x\\y', \"\\u00e9\\n\", \"\"\"\ntwo\nlines\"\"\", true]\n",
            "z = 1\na.b = 2\na.c.d = 3\n[m]\nx = {y = 1, z.w = 2}\n[m.n]\n[[l]]\nh = 1\n[l.i]\n[[l]]\n[o.p.q]\n[o]\nr = 1\n",
        ],
    );
}

#[test]
fn toml_mistakes() {
    gallery(
        "toml_mistakes",
        "p.toml",
        &[
            "",
            "# only a comment\n",
            "a = 1\na = 2\n",
            "[a]\n[b]\n[a]\n",
            "a.b = 1\n[a]\n",
            "a = {b = 1}\n[a.c]\n",
            "a = {b = 1}\na.c = 1\n",
            "[a.b]\nc = 1\n[a]\nb.d = 1\n",
            "a = [1]\n[[a]]\n",
            "[[a]]\n[a]\n",
            "a = x\nb =\nc\nd = \"x\n[e\nf = [1 2]\ng = 01\n",
            "a: 1\nb: 2\n",
            "a = 1 b = 2\n",
            "a b = 1\n",
            "= 1\n",
            "a = 'x' 'y'\n",
            "a = [1,\n",
            "a = {b = 1\n",
            "a = [1,, 2]\n",
            "[[a]\n",
            "a = \"\\q\"\n",
            "a = 1\rb = 2\n",
            "a = 1979-05-27\nb = 07:32:00\n",
            "a = 99999999999999999999\nb = 1e999\nc = 9'9\nd = 0xG\n",
            "a = yes\n",
            "naïve = 1\n",
        ],
    );
}

#[test]
fn bytes_that_are_no_text_are_told() {
    let told = |bytes: &[u8]| {
        let mut found = Diagnostics::default();
        let source = source_from_bytes("p.yaml", bytes.to_vec(), &mut found);
        assert_eq!(source.is_none(), found.has_errors());
        crate::diag::render(&found.list, crate::diag::Format::Human { color: false })
    };
    assert_eq!(told("\u{feff}a: 1".as_bytes()), "");
    insta::assert_snapshot!(told(b"a: 1\nb: caf\xe9 \xff\nc: 2\n"), @r#"
error[NF0104]: the file is not UTF-8 text
 --> p.yaml:2:7
  |
2 | b: caf� �
  |       ^ byte 0xe9 at offset 11 begins no character
  |
  = help: save the file as UTF-8

1 error in p.yaml
"#);
    insta::assert_snapshot!(told(b"\xff\xfea\0:\0 \0"), @r#"
error[NF0104]: the file is not UTF-8 text
 --> p.yaml:1:1
  |
1 | ��a␀:␀ ␀
  | ^ byte 0xff at offset 0 begins no character
  |
  = help: it looks like UTF-16: save it as UTF-8

1 error in p.yaml
"#);
    insta::assert_snapshot!(told(b"a: 1\nb: \0x\n"), @r#"
error[NF0105]: the file has a NUL byte
 --> p.yaml:2:4
  |
2 | b: ␀x
  |    ^ here
  |
  = note: neither YAML nor TOML, nor any argument or path of a process, can hold one
  = help: take it out; if there are many, the file is not a text file

1 error in p.yaml
"#);
    insta::assert_snapshot!(told(&vec![b' '; MAX_BYTES + 1]), @r##"
error[NF0103]: the file is larger than 16 MiB, the limit for a pipeline file
--> p.yaml
 = help: use `replicas` for many alike stages, and leave data to files that stages read

1 error in p.yaml
"##);
}

/// Collections without end, in every way a text can begin them, must stop at the limit.
#[test]
fn deep_nesting_is_told_and_never_overflows() {
    let yaml_flow = "[".repeat(MAX_BYTES);
    let yaml_maps = "{a: ".repeat(MAX_BYTES / 4);
    let yaml_lists = "- ".repeat(MAX_BYTES / 2);
    let yaml_keys = "? ".repeat(MAX_BYTES / 2);
    let yaml_lines: String = (0..5000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    for text in [&yaml_flow, &yaml_maps, &yaml_lists, &yaml_keys, &yaml_lines] {
        assert!(yaml(text).starts_with("NF0119"), "{}", &yaml(text)[..200]);
    }
    let toml_lists = format!("a = {}", "[".repeat(MAX_BYTES - 4));
    let toml_maps = format!("a = {}", "{b = ".repeat(MAX_BYTES / 5 - 4));
    let toml_dots = format!("a{} = 1", ".a".repeat(MAX_BYTES / 2 - 8));
    let toml_header = format!("[a{}]", ".a".repeat(MAX_BYTES / 2 - 8));
    for text in [&yaml_flow, &toml_lists, &toml_maps, &toml_dots, &toml_header] {
        let told = toml(text);
        assert!(told.starts_with("NF0119") || told.starts_with("NF0120"), "{}", &told[..200]);
    }
}

#[test]
fn hostile_texts_take_bounded_work() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    }
    assert!(yaml(&bomb).starts_with("NF0120"));
    let mut long = format!("a: &a {}\nb:\n", "x".repeat(1 << 20));
    long += &"- *a\n".repeat(1000);
    assert!(yaml(&long).starts_with("NF0120"));
    let many = format!("a: &a 1\nb:\n{}", "- *a\n".repeat(MAX_ALIASES + 1));
    assert!(yaml(&many).starts_with("NF0121"));
    let tags = "- !x 1\n".repeat(100_000);
    assert_eq!(read("p.yaml", &tags).1.list.len(), limits::MAX_TOLD);
    let lines = "a b\n".repeat(100_000);

    assert_eq!(read("p.toml", &lines).1.list.len(), limits::MAX_TOLD);
}
/// Each merge would carry what is deep further down.
#[test]
fn merging_does_not_get_around_the_depth_limit() {
    let mut text = "a0: &a0 {x: 1}\n".to_owned();
    for n in 1..2000 {
        text += &format!("a{n}: &a{n} {{k: {}{{<<: *a{}}}{}}}\n", "[".repeat(20), n - 1, "]".repeat(20));
    }
    let told = yaml(&text);
    assert!(told.starts_with("NF0119"), "{}", &told[..200]);
}
/// Where values are said to stand: what a message about each would underline.
#[test]
fn places_of_values() {
    fn places(prefix: &str, node: &Node, out: &mut String) {
        *out += &format!("{prefix} = {:?} {:?}\n", node.span.range, node.raw());
        match &node.value {
            Value::Map(map) => map.entries.iter().for_each(|e| places(&format!("{prefix}.{}", e.key), &e.value, out)),
            Value::List(items) => items.iter().for_each(|n| places(&format!("{prefix}[]"), n, out)),
            _ => {}
        }
    }
    let shown = |name, text| {
        let mut out = String::new();
        places("", &read(name, text).0.expect("a tree"), &mut out);
        out
    };
    insta::assert_snapshot!(shown("p.yaml", "# top\na:\nb: # none\nc:\n  d: &x [1, {e: 2}]\n  f: |\n    text\n\ng:\n- 'q'\n-\nh: *x\ni: !!str &y z\n"), @r#"
 = 6..89 "a:\nb: # none\nc:\n  d: &x [1, {e: 2}]\n  f: |\n    text\n\ng:\n- 'q'\n-\nh: *x\ni: !!str &y z"
.a = 7..7 ""
.b = 10..10 ""
.c = 24..59 "d: &x [1, {e: 2}]\n  f: |\n    text\n\n"
.c.d = 30..41 "[1, {e: 2}]"
.c.d[] = 31..32 "1"
.c.d[] = 34..40 "{e: 2}"
.c.d[].e = 38..39 "2"
.c.f = 53..59 "text\n\n"
.g = 64..69 "'q'\n-"
.g[] = 64..67 "'q'"
.g[] = 69..69 ""
.h = 30..41 "[1, {e: 2}]"
.h[] = 31..32 "1"
.h[] = 34..40 "{e: 2}"
.h[].e = 38..39 "2"
.i = 88..89 "z"
"#);
    insta::assert_snapshot!(shown("p.toml", "# top\na = \"x\"\nb.c = [1, { d = 2 }]\n[e.f]\ng = 1\n[[h]]\ni = 1\n"), @r#"
 = 6..58 "a = \"x\"\nb.c = [1, { d = 2 }]\n[e.f]\ng = 1\n[[h]]\ni = 1"
.a = 10..13 "\"x\""
.b = 14..15 "b"
.b.c = 20..34 "[1, { d = 2 }]"
.b.c[] = 21..22 "1"
.b.c[] = 24..33 "{ d = 2 }"
.b.c[].d = 30..31 "2"
.e = 36..37 "e"
.e.f = 35..40 "[e.f]"
.e.f.g = 45..46 "1"
.h = 49..50 "h"
.h[] = 47..52 "[[h]]"
.h[].i = 57..58 "1"
"#);
}
