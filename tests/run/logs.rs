//! What stages say, however much it is.

use crate::harness::{Home, INT};

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_gigabyte_of_complaints_costs_the_runner_nothing() {
    const BYTES: u64 = 1 << 30;
    let home = Home::new();
    let mut live = home.start_with(
        &format!(
            "stages:
  loud: {{ shell: 'head -c {BYTES} /dev/zero >&2' }}
  waits: {{ shell: 'echo > ready; sleep 1000', depends_on: [loud] }}
"
        ),
        &[],
        |_| {},
    );
    live.said("ready");
    let peak = peak_kib(live.runner());
    let log = live.ended("loud")["log"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), BYTES);
    std::fs::remove_file(log).unwrap();
    live.signal(INT);
    live.finish().with_code(130);
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[test]
fn one_line_of_a_megabyte_is_kept_and_told_in_part() {
    let home = Home::new();
    let file = home.pipeline(
        "stages: { s: { shell: \"head -c 1000000 /dev/zero | tr '\\\\0' x; echo; echo the end >&2; exit 1\" } }",
    );
    let (code, out, err) = home.verb(&["dag".as_ref(), "apply".as_ref(), file.as_os_str()]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("the end") && err.len() < 20_000, "{}", err.len());
    let (code, log, _) = home.verb(&["dag", "logs", "last", "s"]);
    assert_eq!((code, log.len()), (Some(0), 1_000_001 + "the end\n".len()));
}

#[test]
fn nothing_a_stage_says_harms_the_terminal() {
    let home = Home::new();
    let file = home.pipeline(
        r#"stages: { s: { shell: "printf '\\033]0;owned\\007 \\377\\376 \\033[2J last words\\n'; exit 1" } }"#,
    );
    let (_, _, err) = home.verb(&["dag".as_ref(), "apply".as_ref(), file.as_os_str()]);
    assert!(err.contains("last words") && !err.contains('\x1b') && !err.contains('\x07'), "{err:?}");
}

#[test]
fn the_folder_of_logs_can_be_chosen() {
    let home = Home::new();
    let logs = home.path("my logs/deep");
    let text = "stages:
  one: { shell: echo out; echo err >&2 }
  two: { shell: echo $NEXUSFLOW_REPLICA, replicas: 2 }
";
    home.start_with(text, &["--log-dir", logs.to_str().unwrap()], |_| {}).finish().with_code(0);
    let read = |name: &str| std::fs::read_to_string(logs.join(name)).unwrap();
    assert_eq!(read("one.log"), "out\nerr\n");
    assert_eq!((read("two@0.log"), read("two@1.log")), ("0\n".into(), "1\n".into()));
    let (code, log, err) = home.verb(&["dag", "logs", "last", "one"]);
    assert_eq!((code, log.as_str()), (Some(0), "out\nerr\n"), "{err}");
}
