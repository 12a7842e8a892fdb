//! The one place where system calls that rustix does not offer go through: numbers in, errno out.

use std::io;

/// Makes one system call and returns its result, or the errno. Allocates nothing.
///
/// # Safety
/// The call must be one whose effects are sound for these arguments: every pointer among them valid for what the kernel
/// does with it.
pub(crate) unsafe fn call(number: libc::c_long, args: [usize; 5]) -> Result<usize, i32> {
    // SAFETY: the caller vouches for the call; unused arguments are ignored by the kernel.
    unsafe { call6(number, [args[0], args[1], args[2], args[3], args[4], 0]) }
}

/// As [`call`], for the few that take six arguments.
///
/// # Safety
/// As of [`call`].
pub(crate) unsafe fn call6(number: libc::c_long, args: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: as above.
    let value = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    // SAFETY: __errno_location always returns the calling thread's errno.
    if value == -1 { Err(unsafe { *libc::__errno_location() }) } else { Ok(value as usize) }
}

/// What a libc function that returns -1 on failure returned, as a Result.
pub(crate) fn check(value: i32) -> io::Result<i32> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// An errno as io::Error.
pub(crate) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
