//! The three stages: their edges, and what they tell on stderr (which is the stage's log).

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use nexusflow_stage::Stage;

use super::Error;
use super::hash::Hasher;
use super::message::{self, Hashed};
use super::report::{Format, Report};
use super::walk::walk as each_file;

const PATHS: &str = "paths";
const HASHES: &str = "hashes";

/// Sends the path of every regular file under `root`.
pub fn walk(root: &Path) -> Result<(), Error> {
    let mut paths = Stage::from_env()?.output(PATHS)?;
    let send = |path: &Path| Ok::<(), Error>(paths.send(message::of_path(path))?);
    let seen = open(each_file(root, send, |path, e| tell(&format_args!("{}: {e}", path.display()))))?;
    if let Some(seen) = seen {
        tell(&format_args!("{} files in {} folders; {} unreadable", seen.files, seen.folders, seen.unreadable));
    }
    paths.finish();
    Ok(())
}

/// Reads the files it is told of and sends their hashes.
pub fn hash() -> Result<(), Error> {
    let stage = Stage::from_env()?;
    let (mut paths, mut hashes) = (stage.input(PATHS)?, stage.output(HASHES)?);
    let mut hasher = Hasher::default();
    let (mut path, mut answer) = (Vec::new(), Vec::new());
    while let Some(message) = paths.recv()? {
        path.clear();
        message.append_to(&mut path);
        let path = message::path(&path);
        match hasher.hash(path) {
            Ok(hashed) => {
                hashed.encode(&mut answer);
                if open(hashes.send(&answer).map_err(Error::from))?.is_none() {
                    break;
                }
            }
            Err(e) => tell(&format_args!("{}: {e}", path.display())),
        }
    }
    tell(&format_args!("{} files, {} bytes; {} unreadable", hasher.files, hasher.bytes, hasher.unreadable));
    hashes.finish();
    Ok(())
}

/// Prints what is equal, when all hashes are there.
pub fn report(format: Format) -> Result<(), Error> {
    let mut hashes = Stage::from_env()?.input(HASHES)?;
    let mut report = Report::default();
    let mut bytes = Vec::new();
    while let Some(message) = hashes.recv()? {
        bytes.clear();
        message.append_to(&mut bytes);
        report.add(Hashed::decode(&bytes).ok_or(Error::Message)?);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = report.print(format, &mut out).and_then(|totals| out.flush().map(|()| totals));
    if let Some(totals) = open(printed.map_err(Error::from))? {
        tell(&totals);
    }
    Ok(())
}

/// `None` when nobody reads on: for a stage, as for `yes | head`, a good end.
fn open<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Edge(e)) if e.is_closed() => Ok(None),
        Err(Error::Io(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(e) => Err(e),
    }
}

fn tell(line: &dyn std::fmt::Display) {
    // A log that cannot be written is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}
