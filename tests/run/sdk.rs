//! Stages that use the SDK: this test binary, started again as a stage.

use std::io::Write;

use nexusflow_stage::Stage;

/// A stage's `command` in YAML: this program in one of the roles below.
pub fn role(role: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    format!("command: ['{}', --ignored, --exact, sdk::as_a_stage], env: {{ ROLE: '{role}' }}", exe.display())
}

#[test]
#[ignore = "a stage of other tests"]
fn as_a_stage() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let stage = Stage::from_env().unwrap();
    match words[0] {
        "count" => count(&stage, number(1)),
        "keep" => keep(&stage),
        "pass" => pass(&stage),
        other => panic!("no role {other}"),
    }
    std::process::exit(0);
}

/// The numbers below `n`, on from the last that its earlier attempts have noted.
fn count(stage: &Stage, n: u64) {
    let mut out = stage.output(stage.outputs()[0]).unwrap();
    let note = format!("sent.{}.{}", stage.name(), stage.replica());
    let from = std::fs::read_to_string(&note).map_or(0, |text| text.parse().unwrap());
    for i in from..n {
        out.send(i.to_string().as_bytes()).unwrap();
        if i % 100 == 0 {
            // Renamed, since a kill may come while it is written.
            std::fs::write(format!("{note}.new"), (i + 1).to_string()).unwrap();
            std::fs::rename(format!("{note}.new"), &note).unwrap();
        }
    }
    out.finish();
}

/// Each message as a line of a file: one write each, so that a kill leaves whole lines.
fn keep(stage: &Stage) {
    let name = format!("kept.{}.{}", stage.name(), stage.replica());
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    while let Some(message) = input.recv().unwrap() {
        let mut line = message.to_vec();
        line.push(b'\n');
        file.write_all(&line).unwrap();
    }
}

/// From its input to its output.
fn pass(stage: &Stage) {
    let mut input = stage.input(stage.inputs()[0]).unwrap();
    let mut output = stage.output(stage.outputs()[0]).unwrap();
    while let Some(message) = input.recv().unwrap() {
        output.send(&message.to_vec()).unwrap();
    }
}
