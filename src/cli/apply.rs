//! `dag apply`: runs a pipeline to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::ValueEnum;
use jiff::Timestamp;
use nexusflow_sys::{file, guardian, limits, signal};

use super::console::{Console, JsonLines};
use super::load::{self, FileArgs};
use super::talker::{Listener, Talker};
use super::{complain, dirs, exit, plan};
use crate::diag::{Diagnostic, codes};
use crate::exec::{self, Context, Observer};
use crate::metrics;
use crate::pipeline::Pipeline;
use crate::record::{Fact, RunDir, Summary, Writer, run_id};
use crate::spec::EnvInherit;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Let every stage float, whatever the file asks
    #[arg(long)]
    no_pin: bool,
    /// Write metrics of the run here, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    prom_file: Option<PathBuf>,
    /// Write the stages' logs into this folder [default: beside the run's record]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// What happens: for people on stderr, or one JSON object a line on stdout
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Say only what goes wrong
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

pub fn run(args: Args) -> ExitCode {
    // Whatever happens to us, someone must be left to end our processes. First of all, while there is little to fork.
    let lifeline = match guardian::under_guardian() {
        Ok(guardian) => guardian,
        Err(e) => return complain(format_args!("no guardian could be started: {e}"), exit::NOT_STARTED),
    };
    if let Some(path) = &args.prom_file {
        if !load::folder_of(path).is_dir() {
            return complain(format_args!("--prom-file {}: its folder does not exist", path.display()), exit::USAGE);
        }
        if path.extension().is_none_or(|e| e != "prom") {
            let _ = writeln!(io::stderr(), "warning: collectors read only files named *.prom, not {}", path.display());
        }
    }
    let pipeline = match args.file.load() {
        Ok(pipeline) => pipeline,
        Err(code) => return code,
    };
    let plan = match plan::here(&pipeline, args.no_pin) {
        Ok((plan, _)) => plan,
        Err(code) => return code,
    };
    let signals = match hold_signals() {
        Ok(before) => before,
        Err(e) => return complain(format_args!("signals cannot be set up: {e}"), exit::NOT_STARTED),
    };
    let home = match Home::make(&args, &pipeline) {
        Ok(home) => home,
        Err(diagnostic) => {
            load::show(&[*diagnostic]);
            return ExitCode::from(exit::NOT_STARTED);
        }
    };
    let open_files = match limits::raise_open_files() {
        Ok(old) => old,
        Err(e) => return complain(format_args!("the limit on open files cannot be raised: {e}"), exit::NOT_STARTED),
    };
    let listener: Box<dyn Listener> = match args.format {
        Format::Human => Box::new(Console::new(args.quiet, &pipeline)),
        Format::Json => Box::new(JsonLines::default()),
    };
    let (books, talker) = match Books::open(&home.state).and_then(|b| Ok((b, Talker::start(listener)?))) {
        Ok(both) => both,
        Err(e) => return complain(format_args!("no threads to tell of the run: {e}"), exit::NOT_STARTED),
    };
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(books.clone()), Box::new(talker)];
    let cx = Context {
        base_env: base_env(&pipeline.env_inherit),
        self_path: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
        file: std::path::absolute(&args.file.file).unwrap_or(args.file.file.clone()).display().to_string(),
        open_files,
        run_id: home.run.clone(),
        log_dir: home.logs.clone(),
        runtime: dirs::runtime(),
        pipeline,
        plan,
    };
    let ended = exec::execute(cx, &lifeline, &mut observers);
    let late = books.close(args.prom_file.as_deref());
    // Whoever listens may take as long as it likes to hear the rest; but from here on a signal ends us at once.
    let _ = signals.restore();
    drop(observers);
    load::show(&late);
    match ended {
        Ok(ending) => ExitCode::from(ending.exit_code()),
        Err(failure) => {
            let message = format!("the run broke off: could not {}: {}", failure.what, failure.error);
            complain(message, exit::NOT_STARTED)
        }
    }
}

/// A pipe that breaks and a file over its limit (`ulimit -f`) are errors of one write, not ends of the run.
fn hold_signals() -> io::Result<signal::Mask> {
    [signal::SIGPIPE, signal::SIGXFSZ].into_iter().try_for_each(signal::ignore)?;
    exec::hold_signals()
}

/// Where a run keeps what it leaves behind, and its claim to be the only one of its pipeline.
struct Home {
    state: PathBuf,
    run: String,
    logs: PathBuf,
    /// The folder of the run, locked as long as we live.
    _dir: RunDir,
    _claim: File,
}

impl Home {
    fn make(args: &Args, pipeline: &Pipeline) -> Result<Self, Box<Diagnostic>> {
        let state = dirs::state().map_err(|e| {
            Diagnostic::error(codes::STATE_FOLDER, e).help("name another folder in NEXUSFLOW_STATE_DIR")
        })?;
        let run =
            run_id(Timestamp::now(), &pipeline.name, file::random().unwrap_or(u64::from(std::process::id())) as u32);
        let claim = claim(&state, &pipeline.name, &run)?;
        let failed = |what: &Path, e: io::Error| {
            Diagnostic::error(codes::STATE_FOLDER, format!("{} cannot be used: {e}", what.display()))
                .help("free space there, correct its permissions, or name another folder in NEXUSFLOW_STATE_DIR")
        };
        let dir = RunDir::create(&state, &run).map_err(|e| failed(&state, e))?;
        let logs = match &args.log_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
                std::path::absolute(dir).map_err(|e| failed(dir, e))?
            }
            None => dir.logs(),
        };
        Ok(Self { state, run, logs, _dir: dir, _claim: claim })
    }
}

/// `concurrency: refuse`: one run of a pipeline at a time within one state folder. The lock goes with the process
/// that holds it, however that ends.
fn claim(state: &Path, pipeline: &str, run: &str) -> Result<File, Box<Diagnostic>> {
    let folder = state.join("pipelines");
    let path = folder.join(format!("{pipeline}.lock"));
    let open = || -> io::Result<File> {
        std::fs::create_dir_all(&folder)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
    };
    let failed = |e: io::Error| {
        Box::new(
            Diagnostic::error(codes::STATE_FOLDER, format!("{} cannot be used: {e}", path.display()))
                .help("free space there, correct its permissions, or name another folder in NEXUSFLOW_STATE_DIR"),
        )
    };
    let mut lock = open().map_err(failed)?;
    if !file::try_lock(&lock).map_err(failed)? {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        let message = format!("pipeline `{pipeline}` is running already: {}", holder.trim());
        return Err(Box::new(
            Diagnostic::error(codes::ALREADY_RUNNING, message)
                .help("wait for it, stop it, or give this run a NEXUSFLOW_STATE_DIR of its own"),
        ));
    }
    let write = |lock: &mut File| -> io::Result<()> {
        lock.set_len(0)?;
        writeln!(lock, "run {run}, process {}", std::process::id())
    };
    write(&mut lock).map_err(failed)?;
    Ok(lock)
}

/// What stages inherit of our environment.
fn base_env(inherit: &EnvInherit) -> BTreeMap<OsString, OsString> {
    std::env::vars_os()
        .filter(|(name, _)| match inherit {
            EnvInherit::All => true,
            EnvInherit::None => false,
            EnvInherit::Only(names) => names.iter().any(|n| name == n.as_str()),
        })
        // We may be a stage ourselves: its socket is not our stages'.
        .filter(|(name, _)| name != "NEXUSFLOW_CONTROL_FD")
        .collect()
}

/// What a run leaves behind: its history, and the summary that the metrics are made of.
#[derive(Clone)]
struct Books {
    writer: Rc<RefCell<Option<Writer>>>,
    summary: Rc<RefCell<Summary>>,
}

impl Books {
    fn open(state: &Path) -> io::Result<Self> {
        Ok(Self { writer: Rc::new(RefCell::new(Some(Writer::start(state)?))), summary: Rc::default() })
    }

    /// Writes what is to be kept. What could not be is told, and fails no run.
    fn close(&self, prom_file: Option<&Path>) -> Vec<Diagnostic> {
        let mut late = Vec::new();
        if let Some(writer) = self.writer.borrow_mut().take()
            && let Err(loss) = writer.close()
        {
            late.push(
                Diagnostic::warning(codes::RECORD, loss.to_string())
                    .help("free space in the state folder, or correct its permissions"),
            );
        }
        if let Some(path) = prom_file
            && let Err(e) = metrics::write(path, &self.summary.borrow())
        {
            let message = format!("{} could not be written: {e}", path.display());
            late.push(Diagnostic::warning(codes::PROM_FILE, message).help("its folder must exist and be writable"));
        }
        late
    }
}

impl Observer for Books {
    fn fact(&mut self, fact: &Fact) {
        self.summary.borrow_mut().fold(fact);
        if let Some(writer) = self.writer.borrow().as_ref() {
            writer.record(fact.clone());
        }
    }

    fn trouble(&mut self, _: &Diagnostic) {}
}
