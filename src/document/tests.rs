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

#[test]
fn probe() {
    for t in [
        "a: 1\nb:\nc: [1, 2.5, yes, 0x1F, ~, 1e3, .5, 0o17, '5', .inf]\n",
        "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\ne:\n  - *x\n  - 1\nf: 2\n",
        "a: 1\na: 2\n",
        "- a\n- b\n",
        "1: x\ntrue: y\n~: z\n[a]: q\n",
        "a: !foo 1\nb: !!str 1\nc: !!int x\nd: ! 5\n",
        "a: *b\nc: &d [*d]\n",
        "a: <<\n<<: 5\n",
        "a: 1\n---\nb: 2\n",
        "",
        "# c\n",
        "---\n",
        "a:\n\tb: 1\n",
        "a:1\nb: 2\n",
        "a: [1, 2\nb: 3\n",
        "a: {b: 1\n",
        "a: \"x\nb: 2\n",
        "a: 'x' y\n",
        "a: b: c\n",
        "a\n",
        "a: 1\nb\nc: 2\n",
        "a: 1\n  b: 2\n",
        "a:\n  b: 1\n c: 2\n",
        "a: - b\n",
        "a: @x\n",
        "a: *\n",
        "a: ]\n",
        "a: [1}\n",
        "a: \"\\q\"\n",
        "a: %x\n",
        "a: |x\n  b\n",
        "a: 99999999999999999999\n99999999999999999999: 1\n",
        "a: ${x}\n",
        "a: [${x}]\n",
        "- a\nb: 1\n",
        "a:\n- b\n- c\nd: 1\n",
        "a: x#y\nb: \"x\"#y\n",
        "a: !x!y z\n",
        "a: -b\n-c\n",
    ] {
        println!("--- {t:?}\n{}", yaml(t));
    }
    for t in [
        "a = 1\nb.c = 2\n[d]\ne = [1, {x = 1, y.z = 2}]\n[d.f]\n[[g]]\nh=1\n[[g]]\nh=2\n[g.i]\n",
        "a = 1\na = 2\n",
        "[a]\n[a]\n",
        "a = {b=1}\n[a.c]\n",
        "a = {b=1}\na.c = 1\n",
        "[a.b]\nc=1\n[a]\nb.d = 1\n",
        "a = x\nb = \nc\nd = \"x\n[e\nf = [1 2]\n",
        "a = 1979-05-27\n",
        "a = 99999999999999999999\n",
        "a = 01\n",
        "",
        "# x\n",
        "a = [1,\n",
        "a = {b = 1\n",
        "a = \"\\q\"\n",
        "a b = 1\n",
        "a = 'x' 'y'\n",
        "= 1\n",
        "a = +inf\nb=-nan\nc=1_000\nd=0xff\n",
        "a: 1\n",
        "a = 1 b = 2\n",
    ] {
        println!("--- {t:?}\n{}", toml(t));
    }
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
