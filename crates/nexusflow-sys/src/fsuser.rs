//! Touching files as another user, for the time of one call, in one thread.

use std::io;

use crate::raw::{call, error};
use crate::spawn::undumpable;
use crate::user::User;

/// Puts the thread's own identity back.
struct Back {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Runs `f` with the file-system rights of `user`. Only this thread changes: the kernel's calls are made directly,
/// where the C library's would change every thread.
pub fn as_user<T>(user: &User, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let back = Back {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: rustix::process::getgroups()?.into_iter().map(|g| g.as_raw()).collect(),
    };
    if back.uid == user.uid {
        return f();
    }
    // A change of identity costs the process its dumpable flag, which this puts back.
    undumpable(|| {
        set_groups(&user.groups)?;
        let result = (|| {
            set_id(libc::SYS_setfsgid, user.gid)?;
            set_id(libc::SYS_setfsuid, user.uid)?;
            f()
        })();
        back.restore()?;
        result
    })
}

impl Back {
    fn restore(&self) -> io::Result<()> {
        set_id(libc::SYS_setfsuid, self.uid)?;
        set_id(libc::SYS_setfsgid, self.gid)?;
        set_groups(&self.groups)
    }
}

fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: a list of numbers and its length.
    unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0]) }.map(drop).map_err(error)
}

/// setfsuid and setfsgid tell the old id and never fail: asking again shows what holds.
fn set_id(number: libc::c_long, id: u32) -> io::Result<()> {
    // SAFETY: numbers only.
    let now = unsafe {
        let _ = call(number, [id as usize, 0, 0, 0, 0]);
        call(number, [u32::MAX as usize, 0, 0, 0, 0])
    };
    if now == Ok(id as usize) { Ok(()) } else { Err(error(libc::EPERM)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_other_user_and_we_are_ourselves_again() {
        if rustix::process::geteuid().as_raw() != 0 {
            return; // only root may do this, and everyone else gets the error
        }
        let nobody = crate::user::by_name("nobody").unwrap().unwrap();
        let path = std::env::temp_dir().join(format!("fsuser-{}", crate::file::random().unwrap()));
        as_user(&nobody, || std::fs::write(&path, b"x")).unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
        assert_eq!(owner, nobody.uid);
        assert!(as_user(&nobody, || std::fs::read("/etc/shadow")).is_err());
        assert!(std::fs::read("/etc/shadow").is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
