//! Looking a user up: ids, home, shell and all groups.

use std::ffi::{CStr, CString, OsString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

/// The first buffer for a user's entry, and where growing it stops.
const ENTRY_BYTES: usize = 1 << 10;
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// The first list for groups, and the most that Linux gives a process (NGROUPS_MAX).
const GROUPS: usize = 64;
const MAX_GROUPS: usize = 65536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: PathBuf,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
}

/// Whom this process acts as.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user of this name; None if there is none.
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    look_up(|entry, buffer, result| {
        // SAFETY: a C string, room for one entry, and a buffer with its length.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), result) }
    })
}

/// The user of this number; None if there is none.
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    look_up(|entry, buffer, result| {
        // SAFETY: room for one entry and a buffer with its length.
        unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr(), buffer.len(), result) }
    })
}

fn look_up(ask: impl Fn(*mut libc::passwd, &mut [c_char], *mut *mut libc::passwd) -> i32) -> io::Result<Option<User>> {
    let mut buffer: Vec<c_char> = vec![0; ENTRY_BYTES];
    loop {
        let (mut entry, mut result) = (MaybeUninit::<libc::passwd>::uninit(), ptr::null_mut());
        match ask(entry.as_mut_ptr(), &mut buffer, &raw mut result) {
            // SAFETY: non-null, so it points to `entry`, filled in, whose strings lie in `buffer`.
            0 if !result.is_null() => return user(unsafe { &*result }).map(Some),
            // What "there is none" looks like differs between the sources of users.
            0 | libc::ENOENT | libc::ESRCH => return Ok(None),
            libc::ERANGE if buffer.len() < MAX_ENTRY_BYTES => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Our copy of libc's entry.
fn user(entry: &libc::passwd) -> io::Result<User> {
    let bytes = |s: *const c_char| match s.is_null() {
        true => Vec::new(),
        // SAFETY: libc fills these with C strings or leaves them null.
        false => unsafe { CStr::from_ptr(s) }.to_bytes().to_vec(),
    };
    let path = |s| PathBuf::from(OsString::from_vec(bytes(s)));
    Ok(User {
        name: String::from_utf8_lossy(&bytes(entry.pw_name)).into_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: path(entry.pw_dir),
        shell: path(entry.pw_shell),
        groups: groups(entry)?,
    })
}

fn groups(entry: &libc::passwd) -> io::Result<Vec<u32>> {
    let mut room = GROUPS;
    loop {
        let (mut list, mut count) = (vec![0_u32; room], room as i32);
        // SAFETY: the entry's name is a C string; at most `count` groups are written.
        if unsafe { libc::getgrouplist(entry.pw_name, entry.pw_gid, list.as_mut_ptr(), &raw mut count) } >= 0 {
            list.truncate(count as usize);
            return Ok(list);
        }
        if room >= MAX_GROUPS {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        room = MAX_GROUPS.min((room * 4).max(count as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_else() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(by_uid(0).unwrap(), Some(root));
        assert_eq!(by_name("no such user, surely").unwrap(), None);
        assert_eq!(by_name("nul\0").unwrap(), None);
        assert_eq!(by_uid(u32::MAX - 7).unwrap(), None);
    }
}
