//! `bench edges`: builds `benches/edges`, a package of its own since it brings our rivals along, and runs it. Rivals
//! that are whole systems (dora, Plasma, vineyard) are installed under `target/bench`, or left out where they cannot be.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder;
use crate::step::{Program, Result, Steps};
use crate::{cargo, root};

/// The package explains its arguments itself.
pub fn run(steps: &mut Steps, args: &[String]) -> Result {
    let target = folder()?.join("edges");
    steps.run("edges: build, with iceoryx2 and ZeroMQ", || build("edges", &target))?;
    let mut words = args.to_vec();
    if !args.iter().any(|a| a == "--quick") {
        words.extend(installed(steps)?);
    }
    steps.run("edges", || {
        let program = target.join("release/edges-bench");
        let status = Command::new(&program).args(&words).status().map_err(|e| format!("{}: {e}", program.display()))?;
        status.success().then_some(()).ok_or_else(|| format!("it ended with {status}"))
    })
}

fn build(package: &str, target: &Path) -> Result {
    cargo("build --release --locked")
        .args(["--manifest-path", &format!("benches/{package}/Cargo.toml")])
        .env("CARGO_TARGET_DIR", target.display().to_string())
        .done()
}

/// Installs what can be, and says where it is.
fn installed(steps: &mut Steps) -> Result<Vec<String>> {
    let mut words = vec!["--script".to_owned(), root().join("benches/objects/peer.py").display().to_string()];
    let mut rival = |name: &str, step: &'static str, what: &dyn Fn() -> Result<String>| {
        let mut found = None;
        let _ = steps.run(step, || {
            match what() {
                Ok(value) => found = Some(value),
                Err(e) => println!("   {name} takes no part: {}", e.lines().last().unwrap_or_default()),
            }
            Ok(())
        });
        words.extend(found.into_iter().flat_map(|value| [format!("--{name}"), value]));
    };
    rival("plasma", "edges: install Plasma", &|| {
        Ok(python("plasma", &["pyarrow==11.*", "numpy<2"])?.join("python").display().to_string())
    });
    rival("vineyard", "edges: install vineyard", &|| {
        Ok(python("vineyard", &["vineyard"])?.join("python").display().to_string())
    });
    rival("dora", "edges: install dora", &|| {
        let dora = python("dora", &["dora-rs-cli==1.1.*"])?.join("dora");
        // Where its dataflow looks for the node.
        let folder = root().join("benches/dora");
        build("dora", &folder.join("target"))?;
        Ok(format!("{},{}", dora.display(), folder.display()))
    });
    Ok(words)
}

/// A virtual environment with these packages; where its programs are.
fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = folder()?.join("rivals").join(name);
    let bin = venv.join("bin");
    if !bin.join("pip").exists() {
        Program::new("python3").args(["-m", "venv"]).arg(&venv).done()?;
    }
    Program::new(bin.join("pip")).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages).done()?;
    Ok(bin)
}
