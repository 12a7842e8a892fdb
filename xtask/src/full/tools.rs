//! The tools of others that the full suite needs: found, or brought, or the suite fails.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Work, make_dir, read};
use crate::cargo;
use crate::step::{Program, Result};

/// Pinned, so that a new release of a tool cannot turn a good change red.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";
const SARIF_CRATE: &str = "0.8.0";

#[derive(Debug)]
pub struct Tools {
    pub promtool: PathBuf,
    pub node_exporter: PathBuf,
    pub check_jsonschema: PathBuf,
    pub sarif_schema: PathBuf,
}

pub fn find(work: &Work) -> Result<Tools> {
    Ok(Tools {
        promtool: from_debian(work, "prometheus", "promtool")?,
        node_exporter: from_debian(work, "prometheus-node-exporter", "prometheus-node-exporter")?,
        check_jsonschema: check_jsonschema(work)?,
        sarif_schema: sarif_schema(work)?,
    })
}

/// A program out of a Debian package. The package is unpacked into the suite's folder rather than installed:
/// that needs no rights, and it starts no server on the machine it is tested on.
fn from_debian(work: &Work, package: &str, program: &str) -> Result<PathBuf> {
    let path = work.path("debian").join("usr/bin").join(program);
    if path.is_file() {
        return Ok(path);
    }
    let folder = work.fresh(package)?;
    let download = Program::new("apt-get").args(["download", "-qq", package]).folder(&folder);
    if download.done().is_err() {
        as_root(&["apt-get", "update", "-qq"])?;
        download.done()?;
    }
    for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let archive = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        Program::new("dpkg-deb").arg("--extract").args([archive, work.path("debian")]).done()?;
    }
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("package {package} has no {program}")),
    }
}

fn as_root(command: &[&str]) -> Result {
    let is_root = Program::new("id").arg("-u").stdout()? == b"0\n";
    let words = if is_root { command.to_vec() } else { [&["sudo", "-n"], command].concat() };
    Program::new(words[0]).args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").done()
}

fn check_jsonschema(work: &Work) -> Result<PathBuf> {
    let venv = work.path("venv");
    let program = venv.join("bin/check-jsonschema");
    if program.is_file() {
        return Ok(program);
    }
    self::venv(&venv)?;
    Program::new(venv.join("bin/pip")).args(["install", "--quiet", CHECK_JSONSCHEMA]).done()?;
    Ok(program)
}

/// A new Python environment.
pub fn venv(folder: &Path) -> Result {
    if Program::new("python3").args(["-c", "import ensurepip, venv"]).done().is_err() {
        install("python3-venv")?;
    }
    Program::new("python3").args(["-m", "venv", "--clear"]).arg(folder).done()
}

/// Makes sure that a program can be called.
pub fn have(program: &str, package: &str) -> Result {
    match Program::new("sh").args(["-c", "command -v \"$0\"", program]).done() {
        Ok(()) => Ok(()),
        Err(_) => install(package),
    }
}

fn install(package: &str) -> Result {
    as_root(&["apt-get", "update", "-qq"])?;
    as_root(&["apt-get", "install", "-y", "-qq", "--no-install-recommends", package])
}

/// The official schema of SARIF 2.1.0 lies in the sources of the crate `serde-sarif`, which cargo can bring.
fn sarif_schema(work: &Work) -> Result<PathBuf> {
    let folder = work.path("sarif-schema");
    make_dir(&folder.join("src"))?;
    let manifest = format!(
        "[package]\nname = \"sarif-schema\"\nversion = \"0.0.0\"\n\n[workspace]\n\n\
         [dependencies]\nserde-sarif = {{ version = \"={SARIF_CRATE}\", default-features = false }}\n"
    );
    work.write("sarif-schema/Cargo.toml", manifest.as_bytes())?;
    work.write("sarif-schema/src/lib.rs", b"")?;
    let metadata = cargo("metadata --format-version 1 --manifest-path").arg(folder.join("Cargo.toml")).stdout()?;
    let metadata: Value = serde_json::from_slice(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let sarif = packages.iter().find(|p| p["name"] == "serde-sarif").ok_or("cargo brought no serde-sarif")?;
    let schema = Path::new(sarif["manifest_path"].as_str().unwrap_or_default()).with_file_name("src/schema.json");
    match String::from_utf8_lossy(&read(&schema)?).contains("(SARIF) Version 2.1.0 JSON Schema") {
        true => Ok(schema),
        false => Err(format!("{} is not the schema of SARIF 2.1.0", schema.display())),
    }
}
