//! The bindings for C and Python, built and installed as their users do, then run: Python's own tests, and one
//! stream through Rust, Python, C and Rust again whose every byte is compared.

use std::path::PathBuf;

use super::{Work, nexusflow, read, tools};
use crate::sdk::{install_c, sdk_target};
use crate::step::{Program, Result};
use crate::target;

/// What the tests of views look through.
const NUMPY: &str = "numpy>=2,<3";

#[derive(Debug)]
pub struct Sdks {
    c_prefix: PathBuf,
    python: PathBuf,
}

pub fn install(work: &Work) -> Result<Sdks> {
    let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|e| format!("{}: {e}", path.display()));
    let c_prefix = absolute(work.fresh("sdk-c")?)?;
    install_c(&c_prefix)?;
    let venv = absolute(work.path("sdk-venv"))?;
    tools::venv(&venv)?;
    let pip = Program::new(venv.join("bin/pip")).args(["install", "--quiet", NUMPY]);
    let target = absolute(sdk_target())?.display().to_string();
    pip.arg("./sdk/python").env("CARGO_TARGET_DIR", target).minutes(15).done()?;
    Ok(Sdks { c_prefix, python: venv.join("bin/python") })
}

pub fn python_tests(sdks: &Sdks) -> Result {
    let bin = std::path::absolute(target().join("release/nexusflow")).map_err(|e| e.to_string())?;
    let python = Program::new(&sdks.python).args(["-m", "unittest", "discover", "sdk/python/tests"]);
    python.env("NEXUSFLOW_BIN", bin.display().to_string()).done()
}

/// Compiles as docs/c.md says: the page's example, and a stage that tries everything, with either library.
pub fn polyglot(work: &Work, sdks: &Sdks) -> Result {
    tools::have("pkg-config", "pkg-config")?;
    let lib = sdks.c_prefix.join("lib");
    let compile = |source: &str, name: &str, how: &str| -> Result<PathBuf> {
        let program = std::path::absolute(work.path(name)).map_err(|e| e.to_string())?;
        let script = format!("cc -std=c11 -Wall -Wextra -Werror -O2 {source} {how} -o \"$0\"");
        let compiler = Program::new("sh").args(["-ec", &script]).arg(&program);
        compiler.env("PKG_CONFIG_PATH", lib.join("pkgconfig").display().to_string()).done()?;
        Ok(program)
    };
    let shared = format!("$(pkg-config --cflags --libs nexusflow) -Wl,-rpath,{}", lib.display());
    let archive = format!(
        "$(pkg-config --cflags nexusflow) {}/libnexusflow.a $(pkg-config --static --libs nexusflow | sed s/-lnexusflow//)",
        lib.display()
    );
    compile("sdk/c/examples/filter.c", "c-filter", &shared)?;
    for (name, how) in [("c-relay-shared", &shared), ("c-relay-static", &archive)] {
        let relay = compile("sdk/tests/relay.c", name, how)?;
        let logs = work.fresh("polyglot")?;
        let rust = std::path::absolute(target().join("release/examples/polyglot")).map_err(|e| e.to_string())?;
        let apply = nexusflow().args(["dag", "apply", "sdk/tests/pipeline.yaml", "--quiet", "--log-dir"]).arg(&logs);
        let set = |name: &str, value: &PathBuf| format!("{name}={}", value.display());
        let settings = [set("rust", &rust), set("python", &sdks.python), set("c", &relay)];
        settings.iter().fold(apply, |apply, setting| apply.args(["--set", setting])).done()?;
        let said = String::from_utf8_lossy(&read(&logs.join("check.log"))?).into_owned();
        if !said.contains("20000 messages, every byte as it should be") {
            return Err(format!("{name}: the checker says: {said}"));
        }
    }
    Ok(())
}
