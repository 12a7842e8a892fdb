//! Files and folders as a careful program makes them: written whole or not at all, private, locked.

use crate::raw;
use rustix::fs::{CWD, Mode, OFlags, fchmod, fstat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsString, c_int, c_short};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
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
        // Ours alone until it is whole: who opened it before it got its mode would read on.
        match File::options().write(true).create_new(true).mode(0o600).open(&temporary) {
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

/// Opens a folder that is ours alone to write, and makes it with mode 0700 if need be (its parent must exist). One that
/// belongs to someone else, that others could write to, or that is a symbolic link is refused; the mode of one that is
/// there is its owner's choice.
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
        return refuse(format!("others may write to it (mode {mode:04o}): `chmod go-w` it, or name another folder"));
    }
    Ok(dir)
}

/// Locks a file that is open for writing, without waiting: false if another opening of it holds the lock. Ends with the
/// last descriptor of this opening.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match lock_call(file, libc::F_OFD_SETLK) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether someone else holds [`try_lock`] on this file. Only a look: with flock(2) one would have to take the lock for a
/// moment, and who wants it in that moment would be told that it is held.
pub fn is_locked(file: impl AsFd) -> io::Result<bool> {
    Ok(lock_call(file, libc::F_OFD_GETLK)? != libc::F_UNLCK)
}

/// Takes, or asks for, the lock of a whole file for writing that belongs to the opening; says what the kernel answers.
fn lock_call(file: impl AsFd, command: c_int) -> io::Result<c_int> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as c_short,
        l_whence: libc::SEEK_SET as c_short,
        l_start: 0,
        l_len: 0, // to its end, however long it gets
        l_pid: 0, // as these commands want it
    };
    // SAFETY: the kernel reads and writes one struct flock.
    raw::check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut lock) })?;
    Ok(c_int::from(lock.l_type))
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
        assert_eq!(mode(&path), 0o755, "its owner's choice");
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

    #[test]
    fn who_asks_for_a_lock_is_never_in_the_way_of_who_takes_it() {
        let scratch = Scratch::new();
        let path = scratch.0.join("lock");
        File::create(&path).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    is_locked(File::open(&path).unwrap()).unwrap();
                }
            });
            let refused = (0..20_000).filter(|_| {
                let file = File::options().write(true).open(&path).unwrap();
                !try_lock(&file).unwrap()
            });
            let refused = refused.count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn what_is_not_written_yet_is_nobody_elses_to_read() {
        let scratch = Scratch::new();
        let (temporary, _file) = create_beside(&scratch.0.join("secret")).unwrap();
        assert_eq!(mode(&temporary), 0o600);
    }
}
