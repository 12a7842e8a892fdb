//! What the project does to itself: `cargo xtask ci` runs everything a change must pass.

mod bench;
mod chaos;
mod full;
mod licences;
mod sdk;
mod step;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use step::{Program, Result, Steps};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci         everything a change must pass: format, lints, tests, documentation, licences, full suite
  full       the full suite alone: real programs beside ours (brings what it needs)
  licences   the licences of all dependencies against deny.toml
  man        the manual pages, into target/man
  sdk-c      `sdk-c --prefix DIR` builds the C library and installs it: libraries, nexusflow.h, nexusflow.pc
  chaos      kills stages at random instants and counts what arrives
  bench      `bench dag`, `bench idle`, `bench edges`: what it costs, beside the limits and its peers
";

fn main() -> ExitCode {
    let started_in = std::env::current_dir().unwrap_or_default();
    std::env::set_current_dir(root()).expect("the folder this was built from is gone");
    let mut steps = Steps::default();
    let done = match std::env::args().nth(1).as_deref() {
        Some("ci") => ci(&mut steps),
        Some("full") => full::run(&mut steps),
        Some("licences") => steps.run("licences", licences::check),
        Some("bench") => {
            let args: Vec<String> = std::env::args().skip(2).collect();
            bench::run(&mut steps, &args)
        }
        Some("chaos") => {
            let args: Vec<String> = std::env::args().skip(2).collect();
            chaos::main(&mut steps, &args)
        }
        Some("man") => man(&mut steps),
        Some("sdk-c") => match &std::env::args().skip(2).collect::<Vec<_>>()[..] {
            [flag, prefix] if flag == "--prefix" => {
                let prefix = started_in.join(prefix);
                steps.run("C library", || sdk::install_c(&prefix))
            }
            _ => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        },
        Some("help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    steps.end(done)
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}

/// Where the steps may leave things behind.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo(args: &str) -> Program {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Program::new(cargo).args(args.split_whitespace()).minutes(30)
}

fn ci(steps: &mut Steps) -> Result {
    steps.run("format", || cargo("fmt --all --check").done())?;
    steps.run("lints", || cargo("clippy --workspace --all-targets --locked -- -D warnings").done())?;
    steps.run("tests", || cargo("test --workspace --locked").done())?;
    steps.run("documentation", || {
        cargo("doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings").done()
    })?;
    steps.run("licences", licences::check)?;
    sdk::ci(steps)?;
    full::run(steps)
}

fn man(steps: &mut Steps) -> Result {
    let out = target().join("man");
    steps.run("build", || cargo("build --release --locked").done())?;
    steps.run("manual pages", || {
        std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
        full::nexusflow().args(["man", "--out"]).arg(&out).done()
    })?;
    println!("{}", out.display());
    Ok(())
}
