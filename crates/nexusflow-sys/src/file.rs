//! Files and folders as a careful program makes them: written whole or not at all, private, locked.

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, fchmod, flock, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often another random name is tried beside a file.
const NAME_ATTEMPTS: usize = 16;

/// Replaces a file by `bytes` so that a reader sees the old one or the new one, whole. `sync` also survives a power cut.
pub fn atomic_write(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path)?;
    let written = (|| {
        file.write_all(bytes)?;
        // Not at the creation, where the umask would have its say.
        fchmod(&file, Mode::from_raw_mode(mode))?;
        if sync {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    } else if sync {
        File::open(folder(path))?.sync_all()?;
    }
    written
}

/// A new file beside `path`: hidden, and with an ending that nobody collects.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    for _ in 0..NAME_ATTEMPTS {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}.tmp", random()?));
        let temporary = folder(path).join(temporary);
        match File::options().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A number that nobody can guess.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    loop {
        // SAFETY: writes at most these eight bytes; so few come whole or not at all.
        match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
            8 => return Ok(u64::from_ne_bytes(bytes)),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

/// Opens a folder of mode 0700 that is ours, and makes it if need be (its parent must exist). One that belongs to someone
/// else, that others could write to, or that is a symbolic link is refused.
pub fn private_dir(path: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(CWD, path, flags, Mode::empty())?;
    let stat = fstat(&dir)?;
    let refuse =
        |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", path.display())));
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us {
        return refuse(format!("belongs to uid {}, not to {us}", stat.st_uid));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return refuse(format!("others may write to it (mode {mode:04o})"));
    }
    if mode != 0o700 {
        fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

/// Locks an open file for this process alone, without waiting: false if another holds it. Ends with the last descriptor
/// of this opening.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether someone holds [`try_lock`] on this file. Any number may ask at once.
pub fn is_locked(file: impl AsFd) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockShared)) {
        Ok(()) => flock(&file, FlockOperation::Unlock).map(|()| false).map_err(io::Error::from),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Removes a name if it is there.
pub fn remove_if_exists(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Scratch {
            let path = std::env::temp_dir().join(format!("nexusflow-sys-{:016x}", random().unwrap()));
            private_dir(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_write_replaces_whole_and_leaves_nothing_beside() {
        let scratch = Scratch::new();
        let path = scratch.0.join("metrics.prom");
        for (text, sync) in [("one\n", true), ("two, longer\n", false)] {
            atomic_write(&path, text.as_bytes(), 0o644, sync).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(mode(&path), 0o644);
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
        let folder = scratch.0.join("folder");
        std::fs::create_dir_all(folder.join("full")).unwrap();
        assert!(atomic_write(&folder, b"x", 0o600, false).is_err());
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 2);
        assert!(atomic_write(Path::new("/"), b"x", 0o600, false).is_err());
    }

    #[test]
    fn a_private_folder_is_ours_and_closed() {
        let scratch = Scratch::new();
        let path = scratch.0.join("state");
        private_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(private_dir(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        std::os::unix::fs::symlink(&scratch.0, scratch.0.join("link")).unwrap();
        assert!(private_dir(&scratch.0.join("link")).is_err());
    }

    #[test]
    fn a_lock_has_one_holder() {
        let scratch = Scratch::new();
        let path = scratch.0.join("lock");
        let (first, second) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        assert!(is_locked(&second).unwrap());
        drop(first);
        assert!(!is_locked(&second).unwrap());
        assert!(try_lock(&second).unwrap());
        remove_if_exists(&path).unwrap();
        remove_if_exists(&path).unwrap();
    }
}
