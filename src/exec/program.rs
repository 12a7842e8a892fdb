//! Finding a stage's program, as execvp(3) does but relative to the pipeline's folder and with its failures told apart.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// PATH where the environment has none, as execvp(3) has it.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[derive(Debug)]
pub(super) enum NoProgram {
    Missing { looked_in: String },
    Directory(PathBuf),
    NotExecutable(PathBuf),
}

/// What has been found so far: thousands of stages run the same few programs.
#[derive(Debug, Default)]
pub(super) struct Programs {
    found: HashMap<(OsString, Option<OsString>), PathBuf>,
}

impl Programs {
    pub fn find(&mut self, name: &OsStr, path: Option<&OsStr>, dir: &Path) -> Result<PathBuf, NoProgram> {
        if name.as_bytes().contains(&b'/') {
            let full = dir.join(name);
            return match check_program(&full) {
                Checked::Fine => Ok(full),
                Checked::Missing => Err(NoProgram::Missing { looked_in: full.display().to_string() }),
                Checked::Directory => Err(NoProgram::Directory(full)),
                Checked::NotExecutable => Err(NoProgram::NotExecutable(full)),
            };
        }
        let key = (name.to_owned(), path.map(OsStr::to_owned));
        // It may have gone since.
        if let Some(full) = self.found.get(&key).filter(|full| matches!(check_program(full), Checked::Fine)) {
            return Ok(full.clone());
        }
        let full = search(name, path, dir)?;
        self.found.insert(key, full.clone());
        Ok(full)
    }
}

fn search(name: &OsStr, path: Option<&OsStr>, dir: &Path) -> Result<PathBuf, NoProgram> {
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut near_miss = None;
    for folder in std::env::split_paths(path) {
        let full = dir.join(folder).join(name);
        match check_program(&full) {
            Checked::Fine => return Ok(full),
            Checked::NotExecutable => near_miss = near_miss.or(Some(full)),
            Checked::Missing | Checked::Directory => {}
        }
    }
    Err(match near_miss {
        Some(full) => NoProgram::NotExecutable(full),
        None => NoProgram::Missing { looked_in: format!("PATH={}", path.to_string_lossy()) },
    })
}

enum Checked {
    Fine,
    Missing,
    Directory,
    NotExecutable,
}

fn check_program(path: &Path) -> Checked {
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => Checked::Directory,
        // Whether this user may execute it is the kernel's to say; no bit at all is plain.
        Ok(m) if m.permissions().mode() & 0o111 == 0 => Checked::NotExecutable,
        Ok(_) => Checked::Fine,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Checked::NotExecutable,
        Err(_) => Checked::Missing,
    }
}
