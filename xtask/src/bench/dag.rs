//! `bench dag`: the same graph of short processes run by bare threads, by us and by make, in turn, several rounds.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nexusflow_sys::process::{self, Status};
use nexusflow_sys::spawn::Spawn;
use serde_json::{Value, json};

use super::{folder, graph, noop};
use crate::step::{Program, Result};
use crate::target;

const SIDES: [&str; 3] = ["raw", "nexusflow", "make -j2"];

pub fn run(stages: usize, rounds: usize, state: Option<&Path>, out: Option<&Path>) -> Result {
    let folder = folder()?;
    let states = state.unwrap_or(&folder).join(format!("states-{}", std::process::id()));
    let done = compare(stages, rounds, &folder, &states, out);
    // All of them at once and only now: for minutes ext4 goes round inodes that were just freed, and making logs would
    // cost several times what it costs else.
    let removed = std::fs::remove_dir_all(&states).map_err(|e| format!("{}: {e}", states.display()));
    done.and(removed)
}

fn compare(stages: usize, rounds: usize, folder: &Path, states: &Path, out: Option<&Path>) -> Result {
    let programs = [("noop", noop::build(folder)?), ("true", PathBuf::from("/bin/true"))];
    let mut results = Vec::new();
    println!("   {stages} stages, {rounds} rounds, medians; ratios are to raw in the same round");
    println!("   history and logs in {}", states.display());
    println!("   program  side        wall s   ratio   CPU s   ratio");
    for (name, program) in programs {
        let mut bench = Bench { stages, program: &program, folder, state: PathBuf::new() };
        let sides = bench.sides()?;
        let mut rows: [Vec<Cost>; 3] = Default::default();
        for round in 0..rounds {
            bench.state = states.join(format!("{name}-{round}"));
            crate::full::make_dir(&bench.state)?;
            for (side, row) in sides.iter().zip(&mut rows) {
                row.push(bench.measure(side)?);
            }
            bench.check_record()?;
        }
        for (side, row) in SIDES.iter().zip(&rows) {
            let ratio = |of: fn(&Cost) -> f64| median(row.iter().zip(&rows[0]).map(|(c, raw)| of(c) / of(raw)));
            let (wall_s, cpu_s) = (median(row.iter().map(|c| c.wall_s)), median(row.iter().map(|c| c.cpu_s)));
            let (wall_ratio, cpu_ratio) = (ratio(|c| c.wall_s), ratio(|c| c.cpu_s));
            println!("   {name:7}  {side:10} {wall_s:7.3} {wall_ratio:7.2} {cpu_s:7.3} {cpu_ratio:7.2}");
            results.push(json!({
                "program": name, "side": side, "wall_seconds": wall_s, "wall_ratio": wall_ratio,
                "cpu_seconds": cpu_s, "cpu_ratio": cpu_ratio,
            }));
        }
    }
    let report = json!({ "stages": stages, "rounds": rounds, "results": results });
    match out {
        Some(path) => std::fs::write(path, format!("{report:#}\n")).map_err(|e| format!("{}: {e}", path.display())),
        None => Ok(()),
    }
}

/// What one side took, with all processes it started.
struct Cost {
    wall_s: f64,
    cpu_s: f64,
}

struct Bench<'a> {
    stages: usize,
    program: &'a Path,
    folder: &'a Path,
    /// Where the round leaves its history and logs.
    state: PathBuf,
}

impl Bench<'_> {
    /// The command lines, in the order of [`SIDES`].
    fn sides(&self) -> Result<[Vec<CString>; 3]> {
        let (yaml, makefile) = (self.folder.join("bench.yaml"), self.folder.join("Makefile"));
        for (path, text) in [
            (&yaml, graph::pipeline(self.stages, self.program)),
            (&makefile, graph::makefile(self.stages, self.program)),
        ] {
            std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let [own, ours] = ["xtask", "nexusflow"].map(|name| target().join("release").join(name));
        let (prom, count) = (self.folder.join("bench.prom"), self.stages.to_string());
        let words = |words: &[&Path]| words.iter().map(|w| c_string(w)).collect::<Result<Vec<_>>>();
        let path = |text: &'static str| Path::new(text);
        Ok([
            words(&[&own, path("bench"), path("raw"), self.program, Path::new(&count)])?,
            words(&[&ours, path("dag"), path("apply"), &yaml, path("--quiet"), path("--prom-file"), &prom])?,
            words(&[path("/usr/bin/make"), path("-rRs"), path("-j2"), path("-f"), &makefile])?,
        ])
    }

    fn measure(&self, argv: &[CString]) -> Result<Cost> {
        // Nobody pays for what the side before left to be written.
        Program::new("sync").arg("-f").arg(self.folder).done()?;
        let state = c_string(Path::new(&format!("NEXUSFLOW_STATE_DIR={}", self.state.display())))?;
        let envp = [state, c"PATH=/usr/local/bin:/usr/bin:/bin".to_owned()];
        let said = self.folder.join("said");
        let open = || Ok((File::open("/dev/null")?, File::create(&said)?));
        let (null, log) = open().map_err(|e: std::io::Error| format!("{}: {e}", said.display()))?;
        let fds = [(null.as_fd(), 0), (log.as_fd(), 1), (log.as_fd(), 2)];
        let start = Instant::now();
        let child = Spawn { fds: &fds, ..Spawn::new(&argv[0], argv, &envp) }.run().map_err(|e| e.to_string())?;
        let exit = process::wait(child.pidfd.as_fd()).map_err(|e| e.to_string())?;
        let wall_s = start.elapsed().as_secs_f64();
        if exit.status != Status::Exited(0) {
            let said = std::fs::read_to_string(said).unwrap_or_default();
            return Err(format!("{}: {:?}\n{said}", argv[0].to_string_lossy(), exit.status));
        }
        Ok(Cost { wall_s, cpu_s: (exit.usage.user + exit.usage.system).as_secs_f64() })
    }

    /// Every stage has succeeded, and none began before what it depends on had ended.
    fn check_record(&self) -> Result {
        let shown = Program::new(target().join("release/nexusflow"))
            .args(["dag", "show", "last", "--format", "json"])
            .env("NEXUSFLOW_STATE_DIR", self.state.display().to_string())
            .stdout()?;
        let shown: Value = serde_json::from_slice(&shown).map_err(|e| format!("dag show: {e}"))?;
        let attempts = shown["attempts"].as_array().ok_or("dag show: no attempts")?;
        let by_name: HashMap<&str, &Value> = attempts.iter().filter_map(|a| Some((a["stage"].as_str()?, a))).collect();
        let find = |stage: usize| {
            let name = graph::name(stage);
            let attempt = by_name.get(name.as_str()).ok_or_else(|| format!("{name} is not in the record"))?;
            match attempt["outcome"].as_str() {
                Some("succeeded") => Ok(*attempt),
                other => Err(format!("{name}: {other:?} in the record")),
            }
        };
        for stage in 0..self.stages {
            let started = moment(&find(stage)?["started_at"])?;
            for before in graph::dependencies(stage) {
                if started < moment(&find(before)?["ended_at"])? {
                    return Err(format!("s{stage} began before s{before} had ended"));
                }
            }
        }
        Ok(())
    }
}

/// A time of the record, `2026-11-22T11:52:27.123456Z`, in a form whose order as text is that of time.
fn moment(time: &Value) -> Result<String> {
    let text = time.as_str().and_then(|t| t.strip_suffix('Z')).ok_or_else(|| format!("no time: {time}"))?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    Ok(format!("{seconds}.{fraction:0<9}"))
}

fn c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|e| format!("{}: {e}", path.display()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
