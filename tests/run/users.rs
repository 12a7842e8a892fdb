//! Stages of another user. Only root can try them; elsewhere it is tried that they are refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::harness::{Home, INT};

fn open_to_all(home: &Home) {
    for path in [home.path(""), home.file("")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
}

fn is_root() -> bool {
    nexusflow_sys::user::effective_uid() == 0
}

#[test]
fn a_stage_is_who_it_is_told_to_be() {
    let home = Home::new();
    open_to_all(&home);
    let text = "stages:
  s:
    user: nobody
    command: [sh, -c, 'id -un; id -un > /dev/stdout; echo $USER $LOGNAME; grep -i ^cap /proc/self/status | sort -u -k2; touch mine']
    stdout: { file: out }
";
    if !is_root() {
        home.apply_to(5, text).says(&["NF05", "user"]);
        return;
    }
    home.apply_to(0, text);
    let out = home.read("out");
    assert!(out.starts_with("nobody\n") && out.contains("nobody nobody\n"), "{out}");
    assert!(!out.lines().any(|l| l.starts_with("CapEff") && !l.ends_with("0000000000000000")), "{out}");
    for name in ["out", "mine"] {
        assert_ne!(std::fs::metadata(home.file(name)).unwrap().uid(), 0, "{name}");
    }
    // What it may not write, it is not given.
    std::fs::write(home.file("roots"), "precious").unwrap();
    std::fs::set_permissions(home.file("roots"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = home.apply_to(5, "stages: { s: { user: nobody, command: [echo, hurt], stdout: { file: roots } } }");
    done.says(&["NF05", "Permission denied"]);
    assert_eq!(home.read("roots"), "precious");
}

#[test]
fn edges_join_users_and_end_with_them() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    open_to_all(&home);
    home.apply_to(
        0,
        "stages:
  seq: { command: [seq, '1000'], user: nobody, stdout: { edge: a, framing: lines } }
  tee: { command: [tee, '${edge.b}'], user: daemon, stdin: { edge: a, framing: lines }, bind: { b: lines }, stdout: { file: /dev/null } }
  wc: { command: [wc, -l, '${edge.b}'], bind: { b: lines }, user: nobody, stdout: { file: count } }
edges: { a: { from: seq, to: tee }, b: { from: tee, to: wc } }
",
    );
    assert!(home.read("count").starts_with("1000 "));
    let mut live = home.start(
        "stages: { s: { user: nobody, shell: \"trap '' TERM; echo > ready; sleep 1000\", stop_timeout: 100ms } }",
    );
    live.said("ready");
    live.signal(INT);
    live.finish().with_code(130).outcomes(&[("s", "stopped")]);
}
