//! The folders of this user: state (history, logs; kept) and runtime (sockets; gone with the machine).
//! Both are made when asked for, with mode 0700, and refused if they are not ours alone to write.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nexusflow_sys::{file::private_dir, user::effective_uid};

/// `NEXUSFLOW_STATE_DIR`, else /var/lib/nexusflow for root, else `$XDG_STATE_HOME/nexusflow`.
pub fn state() -> Result<PathBuf, String> {
    state_path(&env, effective_uid())?.make().map_err(|e| format!("no folder for state: {e}"))
}

/// `NEXUSFLOW_RUNTIME_DIR`, else /run/nexusflow for root, else `$XDG_RUNTIME_DIR/nexusflow`, else /tmp/nexusflow-UID.
pub fn runtime() -> Result<PathBuf, String> {
    runtime_path(&env, effective_uid()).make().map_err(|e| format!("no folder for sockets: {e}"))
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

#[derive(Debug, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    /// Its parent is ours to trust, so that a symbolic link there was put by us or by root.
    follow: bool,
}

fn state_path(env: Env, uid: u32) -> Result<Folder, String> {
    let chosen = env("NEXUSFLOW_STATE_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = match chosen {
        Some(path) => path,
        None if uid == 0 => "/var/lib/nexusflow".into(),
        None => xdg(env, "XDG_STATE_HOME")
            .or_else(|| xdg(env, "HOME").map(|home| home.join(".local/state")))
            .ok_or("no folder for state: set HOME, XDG_STATE_HOME or NEXUSFLOW_STATE_DIR")?
            .join("nexusflow"),
    };
    Ok(Folder { path, follow: true })
}

fn runtime_path(env: Env, uid: u32) -> Folder {
    let chosen = env("NEXUSFLOW_RUNTIME_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
    let root = || (uid == 0).then(|| "/run/nexusflow".into());
    match chosen.or_else(root).or_else(|| xdg(env, "XDG_RUNTIME_DIR").map(|d| d.join("nexusflow"))) {
        Some(path) => Folder { path, follow: true },
        None => Folder { path: format!("/tmp/nexusflow-{uid}").into(), follow: false },
    }
}

/// The XDG specification has relative paths ignored.
fn xdg(env: Env, name: &str) -> Option<PathBuf> {
    env(name).map(PathBuf::from).filter(|p| p.is_absolute())
}

impl Folder {
    fn make(self) -> io::Result<PathBuf> {
        let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut path = std::path::absolute(&self.path)?;
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| named(parent, e))?;
        }
        if self.follow && path.is_symlink() {
            path = path.canonicalize().map_err(|e| named(&path, e))?;
        }
        private_dir(&path).map_err(|e| named(&path, e))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn with<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
    }

    fn state_of(vars: &[(&str, &str)], uid: u32) -> Option<String> {
        state_path(&with(vars), uid).ok().map(|f| f.path.to_str().unwrap().to_owned())
    }

    fn runtime_of(vars: &[(&str, &str)], uid: u32) -> String {
        runtime_path(&with(vars), uid).path.to_str().unwrap().to_owned()
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
    fn runtime_follows_xdg_but_for_root() {
        assert_eq!(runtime_of(&[], 0), "/run/nexusflow");
        assert_eq!(runtime_of(&[("XDG_RUNTIME_DIR", "/run/user/7")], 7), "/run/user/7/nexusflow");
        assert_eq!(runtime_of(&[("NEXUSFLOW_RUNTIME_DIR", "/r"), ("XDG_RUNTIME_DIR", "/x")], 7), "/r");
        assert_eq!(runtime_path(&with(&[]), 7), Folder { path: "/tmp/nexusflow-7".into(), follow: false });
    }

    #[test]
    fn folders_are_made_private_and_foreign_links_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let make = |name: &str, follow| Folder { path: tmp.path().join(name), follow }.make();
        let made = make("a/b/state", true).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        symlink(&made, tmp.path().join("link")).unwrap();
        assert_eq!(make("link", true).unwrap(), made.canonicalize().unwrap());
        assert!(make("link", false).is_err());
        std::fs::write(tmp.path().join("file"), "").unwrap();
        assert!(make("file", true).unwrap_err().to_string().contains("file: "));
    }
}
