//! The tools of others that the full suite needs: found, or installed, or the suite fails.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Work, read};
use crate::cargo;
use crate::step::{Program, Result};

/// Programs and the Debian packages that have them.
const PACKAGES: &[(&str, &str)] = &[
    ("promtool", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("make", "make"),
    ("python3", "python3"),
    ("xargs", "findutils"),
];

/// Pinned, so that a new release of a tool cannot turn a good change red.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";
const SARIF_CRATE: &str = "0.8.0";

#[derive(Debug)]
pub struct Tools {
    pub check_jsonschema: PathBuf,
    pub sarif_schema: PathBuf,
}

pub fn install(work: &Work) -> Result<Tools> {
    let mut packages: Vec<&str> = PACKAGES.iter().filter(|(p, _)| !on_path(p)).map(|(_, package)| *package).collect();
    if Program::new("python3").args(["-c", "import ensurepip, venv"]).done().is_err() {
        packages.push("python3-venv");
    }
    if !packages.is_empty() {
        apt(&["update", "-qq"])?;
        apt(&[["install", "-y", "-qq", "--no-install-recommends"].as_slice(), &packages].concat())?;
    }
    match PACKAGES.iter().find(|(program, _)| !on_path(program)) {
        Some((program, package)) => Err(format!("`{program}` is still missing after package {package} was installed")),
        None => Ok(Tools { check_jsonschema: check_jsonschema(work)?, sarif_schema: sarif_schema(work)? }),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn apt(args: &[&str]) -> Result {
    let is_root = Program::new("id").arg("-u").stdout()? == b"0\n";
    let apt = if is_root { Program::new("apt-get") } else { Program::new("sudo").args(["-n", "apt-get"]) };
    apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").done()
}

fn check_jsonschema(work: &Work) -> Result<PathBuf> {
    let venv = work.path("venv");
    let program = venv.join("bin/check-jsonschema");
    if !program.is_file() {
        Program::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).done()?;
        Program::new(venv.join("bin/pip")).args(["install", "--quiet", CHECK_JSONSCHEMA]).done()?;
    }
    Ok(program)
}

/// The official schema of SARIF 2.1.0 lies in the sources of the crate `serde-sarif`, which cargo can bring.
fn sarif_schema(work: &Work) -> Result<PathBuf> {
    let dir = work.path("sarif-schema");
    super::make_dir(&dir.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"sarif-schema\"\nversion = \"0.0.0\"\n\n[workspace]\n\n\
         [dependencies]\nserde-sarif = {{ version = \"={SARIF_CRATE}\", default-features = false }}\n"
    );
    work.write("sarif-schema/Cargo.toml", manifest.as_bytes())?;
    work.write("sarif-schema/src/lib.rs", b"")?;
    let metadata = cargo("metadata --format-version 1 --manifest-path").arg(dir.join("Cargo.toml")).stdout()?;
    let metadata: Value = serde_json::from_slice(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let sarif = packages.iter().find(|p| p["name"] == "serde-sarif").ok_or("cargo brought no serde-sarif")?;
    let schema = Path::new(sarif["manifest_path"].as_str().unwrap_or_default()).with_file_name("src/schema.json");
    let text = String::from_utf8_lossy(&read(&schema)?).into_owned();
    match text.contains("SARIF) Version 2.1.0 JSON Schema") {
        true => Ok(schema),
        false => Err(format!("{} is not the schema of SARIF 2.1.0", schema.display())),
    }
}
