//! The files we ship and the reports we write, against the schemas by the schemas' own judges.

use std::path::{Path, PathBuf};

use super::tools::Tools;
use super::{Work, nexusflow};
use crate::step::{Program, Result};

const OUR_SCHEMA: &str = "schemas/pipeline.v1.schema.json";

/// Every pipeline file in the repository that is meant to be right.
pub fn schema(tools: &Tools) -> Result {
    let mut files = vec![];
    for dir in ["pipelines", "examples"] {
        pipelines_below(Path::new(dir), &mut files)?;
    }
    if files.is_empty() {
        return Err("no pipeline file was found".into());
    }
    nexusflow().args(["dag", "validate"]).args(&files).done()?;
    Program::new(&tools.check_jsonschema).arg("--check-metaschema").arg(OUR_SCHEMA).done()?;
    Program::new(&tools.check_jsonschema).args(["--schemafile", OUR_SCHEMA]).args(&files).done()
}

/// The report about each broken file of the tests, and the one about all of them.
pub fn sarif(tools: &Tools, work: &Work) -> Result {
    let mut files = vec![];
    pipelines_below(Path::new("tests/diagnostics"), &mut files)?;
    if files.is_empty() {
        return Err("no broken file was found".into());
    }
    work.fresh("sarif")?;
    let mut reports = vec![report(work, "all", &files)?];
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        reports.push(report(work, &name, std::slice::from_ref(file))?);
    }
    // A pattern of the official schema is only a pattern to Python.
    let judge = Program::new(&tools.check_jsonschema).args(["--regex-variant", "python", "--schemafile"]);
    judge.arg(&tools.sarif_schema).args(&reports).done()
}

fn report(work: &Work, name: &str, files: &[PathBuf]) -> Result<PathBuf> {
    let text = nexusflow().args(["dag", "validate", "--format", "sarif"]).args(files).ends(3)?;
    work.write(&format!("sarif/{name}.json"), &text)
}

fn pipelines_below(dir: &Path, files: &mut Vec<PathBuf>) -> Result {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut paths = vec![];
    for entry in entries {
        paths.push(entry.map_err(|e| format!("{}: {e}", dir.display()))?.path());
    }
    paths.sort();
    for path in paths {
        let is_pipeline = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "toml");
        if path.is_dir() {
            pipelines_below(&path, files)?;
        } else if is_pipeline && !path.ends_with("Cargo.toml") {
            files.push(path);
        }
    }
    Ok(())
}
