//! The full suite: the program beside the real tools it works with. A tool that is missing is brought;
//! one that cannot be had is a failure, never a skip.

mod exporter;
mod files;
mod jobs;
mod proofs;
mod sdk;
mod tools;

use std::path::PathBuf;

use crate::step::{Program, Result, Steps};
use crate::{cargo, target};

/// How often stages are killed in each run of the suite.
const KILLS: usize = 2000;

pub fn run(steps: &mut Steps) -> Result {
    let work = Work::new()?;
    let tools = steps.run("tools", || tools::find(&work))?;
    steps.run("release build", || cargo("build --release --locked --workspace --bins --examples").done())?;
    steps.run("duplicates in made-up files", || jobs::duplicates_made_up(&work))?;
    steps.run("duplicates in real files", || jobs::duplicates_real(&work))?;
    steps.run("word count", || jobs::word_count(&work))?;
    steps.run("build-like batch", jobs::build)?;
    steps.run("stages of one's own", || jobs::own_stages(&work))?;
    steps.run("soak", proofs::soak)?;
    steps.run("loom", proofs::loom)?;
    let sdks = steps.run("SDKs", || sdk::install(&work))?;
    steps.run("stages in Python", || sdk::python_tests(&sdks))?;
    steps.run("Rust to Python to C to Rust", || sdk::polyglot(&work, &sdks))?;
    steps.run("chaos", || crate::chaos::suite(KILLS))?;
    steps.run("promtool", || exporter::promtool(&tools, &work))?;
    steps.run("node exporter", || exporter::node_exporter(&tools, &work))?;
    steps.run("JSON Schema", || files::schema(&tools))?;
    steps.run("SARIF", || files::sarif(&tools, &work))
}

/// The release build of the program, with its state in a folder of the suite.
pub fn nexusflow() -> Program {
    let folder = |name| target().join("full").join(name).display().to_string();
    Program::new(target().join("release/nexusflow")).env("NEXUSFLOW_STATE_DIR", folder("state"))
}

/// Where the suite leaves what it makes: `target/full`.
#[derive(Debug)]
pub struct Work(PathBuf);

impl Work {
    fn new() -> Result<Self> {
        let dir = target().join("full");
        make_dir(&dir)?;
        Ok(Self(dir))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new and empty folder of this name.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(format!("{}: {e}", dir.display())),
            _ => make_dir(&dir)?,
        }
        Ok(dir)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

pub fn make_dir(dir: &std::path::Path) -> Result {
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
}

pub fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}
