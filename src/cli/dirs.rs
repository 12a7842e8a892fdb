//! The folders of this user: for state (history and logs), made when asked for, with mode 0700, and refused if it
//! is not ours alone to write; and for the sockets of runs.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nexusflow_sys::{file::private_dir, user::effective_uid};

/// `NEXUSFLOW_STATE_DIR`, else /var/lib/nexusflow for root, else `$XDG_STATE_HOME/nexusflow`.
pub fn state() -> Result<PathBuf, String> {
    make(&state_path(&env, effective_uid())?).map_err(|e| format!("no folder for state: {e}"))
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn state_path(env: Env, uid: u32) -> Result<PathBuf, String> {
    let chosen = env("NEXUSFLOW_STATE_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    Ok(match chosen {
        Some(path) => path,
        None if uid == 0 => "/var/lib/nexusflow".into(),
        None => xdg(env, "XDG_STATE_HOME")
            .or_else(|| xdg(env, "HOME").map(|home| home.join(".local/state")))
            .ok_or("no folder for state: set HOME, XDG_STATE_HOME or NEXUSFLOW_STATE_DIR")?
            .join("nexusflow"),
    })
}

/// Where run sockets may lie, the preferred first: `NEXUSFLOW_RUNTIME_DIR` and nowhere else if it is set, else for root
/// /run/nexusflow, else `$XDG_RUNTIME_DIR/nexusflow`, then /tmp/nexusflow-UID.
pub fn runtime() -> Vec<PathBuf> {
    runtime_paths(&env, effective_uid())
}

fn runtime_paths(env: Env, uid: u32) -> Vec<PathBuf> {
    if let Some(chosen) = env("NEXUSFLOW_RUNTIME_DIR").filter(|v| !v.is_empty()) {
        return std::path::absolute(chosen).into_iter().collect();
    }
    let first = match uid {
        0 => Some("/run/nexusflow".into()),
        _ => xdg(env, "XDG_RUNTIME_DIR").map(|dir| dir.join("nexusflow")),
    };
    first.into_iter().chain([format!("/tmp/nexusflow-{uid}").into()]).collect()
}

/// The XDG specification has relative paths ignored.
fn xdg(env: Env, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|p| p.is_absolute())
}

fn make(path: &Path) -> io::Result<PathBuf> {
    let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut path = std::path::absolute(path)?;
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| named(parent, e))?;
    }
    // A link there was put by us or by root.
    if path.is_symlink() {
        path = path.canonicalize().map_err(|e| named(&path, e))?;
    }
    private_dir(&path).map_err(|e| named(&path, e))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn with<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
    }

    fn state_of(vars: &[(&str, &str)], uid: u32) -> Option<String> {
        state_path(&with(vars), uid).ok().map(|p| p.to_str().unwrap().to_owned())
    }

    #[test]
    fn state_follows_xdg_but_for_root() {
        let home = ("HOME", "/home/u");
        assert_eq!(state_of(&[home], 1000).unwrap(), "/home/u/.local/state/nexusflow");
        assert_eq!(state_of(&[home, ("XDG_STATE_HOME", "/s")], 1000).unwrap(), "/s/nexusflow");
        assert_eq!(state_of(&[home, ("XDG_STATE_HOME", "s")], 1000).unwrap(), "/home/u/.local/state/nexusflow");
        assert_eq!(state_of(&[home, ("XDG_STATE_HOME", "/s")], 0).unwrap(), "/var/lib/nexusflow");
        assert_eq!(state_of(&[home, ("NEXUSFLOW_STATE_DIR", "/n")], 0).unwrap(), "/n");
        assert_eq!(state_of(&[], 1000), None);
    }

    #[test]
    fn sockets_lie_where_the_session_has_them() {
        let paths = |vars: &[(&str, &str)], uid| {
            let paths = runtime_paths(&with(vars), uid);
            paths.iter().map(|p| p.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let session = ("XDG_RUNTIME_DIR", "/run/user/1000");
        assert_eq!(paths(&[session], 1000), ["/run/user/1000/nexusflow", "/tmp/nexusflow-1000"]);
        assert_eq!(paths(&[("XDG_RUNTIME_DIR", "run")], 1000), ["/tmp/nexusflow-1000"]);
        assert_eq!(paths(&[session], 0), ["/run/nexusflow", "/tmp/nexusflow-0"]);
        assert_eq!(paths(&[session, ("NEXUSFLOW_RUNTIME_DIR", "/r")], 0), ["/r"]);
    }

    #[test]
    fn the_folder_is_made_private() {
        let tmp = tempfile::tempdir().unwrap();
        let make = |name: &str| super::make(&tmp.path().join(name));
        let made = make("a/b/state").unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        symlink(&made, tmp.path().join("link")).unwrap();
        assert_eq!(make("link").unwrap(), made.canonicalize().unwrap());
        std::fs::write(tmp.path().join("file"), "").unwrap();
        assert!(make("file").unwrap_err().to_string().contains("file: "));
    }
}
