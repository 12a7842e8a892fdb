//! The bindings for other languages, a workspace of their own below sdk/: their checks, and installing the C library.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::step::{Program, Result, Steps};
use crate::{cargo, full, target};

/// What rustc says that a program needs which links the static library (`--print native-static-libs`).
const PRIVATE_LIBS: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

/// Beside what the program builds: other profiles, other dependencies.
pub fn sdk_target() -> PathBuf {
    target().join("sdk")
}

/// `cargo WORDS` in the workspace of the bindings.
fn sdk_cargo(words: &str) -> Program {
    cargo(words).args(["--manifest-path", "sdk/Cargo.toml", "--target-dir"]).arg(sdk_target())
}

pub fn ci(steps: &mut Steps) -> Result {
    steps.run("SDKs: format", || cargo("fmt --all --check --manifest-path sdk/Cargo.toml").done())?;
    steps.run("SDKs: lints", || {
        cargo("clippy --workspace --all-targets --locked --manifest-path sdk/Cargo.toml --target-dir")
            .arg(sdk_target())
            .args(["--", "-D", "warnings"])
            .done()
    })?;
    steps.run("SDKs: tests", || sdk_cargo("test --workspace --locked").done())
}

/// Builds the C library and puts it below `prefix`, with its header and its pkg-config file.
pub fn install_c(prefix: &Path) -> Result {
    sdk_cargo("build --release --locked -p nexusflow-c").done()?;
    let text = String::from_utf8(full::read(Path::new("sdk/c/Cargo.toml"))?).map_err(|e| e.to_string())?;
    let manifest: toml::Table = text.parse().map_err(|e| format!("sdk/c/Cargo.toml: {e}"))?;
    let version = manifest["package"]["version"].as_str().ok_or("sdk/c/Cargo.toml names no version")?;
    let (lib, include) = (prefix.join("lib"), prefix.join("include"));
    full::make_dir(&lib.join("pkgconfig"))?;
    full::make_dir(&include)?;
    let shared = format!("libnexusflow.so.{version}");
    copy(&sdk_target().join("release/libnexusflow.so"), &lib.join(&shared))?;
    link(&shared, &lib.join("libnexusflow.so.0"))?;
    link("libnexusflow.so.0", &lib.join("libnexusflow.so"))?;
    copy(&sdk_target().join("release/libnexusflow.a"), &lib.join("libnexusflow.a"))?;
    copy(Path::new("sdk/c/nexusflow.h"), &include.join("nexusflow.h"))?;
    let template = String::from_utf8(full::read(Path::new("sdk/c/nexusflow.pc.in"))?).map_err(|e| e.to_string())?;
    let filled = template
        .replace("@PREFIX@", &prefix.display().to_string())
        .replace("@VERSION@", version)
        .replace("@PRIVATE_LIBS@", PRIVATE_LIBS);
    let file = lib.join("pkgconfig/nexusflow.pc");
    fs::write(&file, filled).map_err(|e| format!("{}: {e}", file.display()))?;
    println!("   PKG_CONFIG_PATH={}", lib.join("pkgconfig").display());
    Ok(())
}

/// Beside first, then renamed: a program that has the old library mapped keeps it.
fn copy(from: &Path, to: &Path) -> Result {
    let beside = to.with_extension("new");
    fs::copy(from, &beside).map_err(|e| format!("{} to {}: {e}", from.display(), beside.display()))?;
    fs::rename(&beside, to).map_err(|e| format!("{}: {e}", to.display()))
}

fn link(to: &str, at: &Path) -> Result {
    match fs::remove_file(at) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", at.display())),
        _ => symlink(to, at).map_err(|e| format!("{}: {e}", at.display())),
    }
}
