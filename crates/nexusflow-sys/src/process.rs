//! Processes by pidfd: waiting with what they used, signalling, forking while single-threaded.

use crate::raw::{call, check, error};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How a process ended and what it and the children it had waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub status: Status,
    pub usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Signaled { signal: i32, core: bool },
}

impl Status {
    /// As a shell gives it: 128 and the signal for who died by one.
    pub fn code(self) -> i32 {
        match self {
            Status::Exited(code) => code,
            Status::Signaled { signal, .. } => 128 + signal,
        }
    }
}

/// What getrusage knows. `max_rss_bytes` is never below the spawner's own at the time of the spawn (`own_max_rss_bytes`): the
/// kernel counts the memory that a process ran in before it executed its program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    pub max_rss_bytes: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// Waits for a child to end, and reaps it. ECHILD if it has been reaped already.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    loop {
        if let Some((_, exit)) = wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, 0)? {
            return Ok(exit);
        }
    }
}

/// The same without waiting: None while it runs.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    Ok(wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WNOHANG)?.map(|(_, exit)| exit))
}

/// Reaps one child by its number if it has ended. For adopted orphans, which come without a pidfd.
pub fn try_wait_pid(pid: u32) -> io::Result<Option<Exit>> {
    Ok(wait_id(libc::P_PID, pid, libc::WNOHANG)?.map(|(_, exit)| exit))
}

/// Reaps any child that has ended: None if none has, ECHILD if there is none at all. It takes a spawned child from whoever
/// waits for it by pidfd, too.
pub fn wait_any_nonblocking() -> io::Result<Option<(u32, Exit)>> {
    wait_id(libc::P_ALL, 0, libc::WNOHANG)
}

/// Whether this is a child of ours that has not been reaped, ended or not.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Whether the calling thread itself, not another of this process, has a child that has not been reaped. True also
/// where the system will not tell.
pub(crate) fn this_thread_has_children() -> bool {
    let options = libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
    !matches!(wait_id(libc::P_ALL, 0, options), Err(e) if e.raw_os_error() == Some(libc::ECHILD))
}

/// waitid with rusage, which only the raw call has. __WALL: also children that announce their end by another signal.
fn wait_id(kind: libc::idtype_t, id: u32, options: c_int) -> io::Result<Option<(u32, Exit)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let options = options | libc::WEXITED | libc::__WALL;
    loop {
        let args =
            [kind as usize, id as usize, info.as_mut_ptr() as usize, options as usize, usage.as_mut_ptr() as usize];
        // SAFETY: the kernel writes one siginfo and one rusage.
        match unsafe { call(libc::SYS_waitid, args) } {
            Ok(_) => break,
            Err(libc::EINTR) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
    // SAFETY: both are plain numbers, zeroed and then written by the kernel.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: waitid fills the fields of a child's end, or leaves all zero when nobody has ended.
    let (pid, value) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = match info.si_code {
        libc::CLD_EXITED => Status::Exited(value),
        code => Status::Signaled { signal: value, core: code == libc::CLD_DUMPED },
    };
    Ok(Some((pid as u32, Exit { status, usage: Usage::of(&usage) })))
}

impl Usage {
    fn of(r: &libc::rusage) -> Usage {
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Usage {
            user: time(r.ru_utime),
            system: time(r.ru_stime),
            max_rss_bytes: r.ru_maxrss as u64 * 1024,
            minor_faults: r.ru_minflt as u64,
            major_faults: r.ru_majflt as u64,
            voluntary_switches: r.ru_nvcsw as u64,
            involuntary_switches: r.ru_nivcsw as u64,
        }
    }
}

/// The most memory that this process has had resident: what `Usage::max_rss_bytes` of those it spawned begins with.
pub fn own_max_rss_bytes() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one rusage. It cannot fail: who and where are valid.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: plain numbers, zeroed and then written by the kernel.
    unsafe { usage.assume_init() }.ru_maxrss as u64 * 1024
}

/// Sends a signal to exactly this process, never to another that got its number. ESRCH once it has ended.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let args = [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0];
    // SAFETY: no siginfo is passed.
    unsafe { call(libc::SYS_pidfd_send_signal, args) }.map(drop).map_err(error)
}

/// Sends a signal to a process group; 0 and 1, which would mean others, are refused.
pub fn signal_group(pgid: u32, signal: i32) -> io::Result<()> {
    match i32::try_from(pgid) {
        // SAFETY: no pointers.
        Ok(pgid) if pgid > 1 => check(unsafe { libc::kill(-pgid, signal) }).map(drop),
        _ => Err(error(libc::EINVAL)),
    }
}

/// A pidfd of a process that is known by its number.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| error(libc::EINVAL))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

pub fn getpid() -> u32 {
    std::process::id()
}

pub fn getppid() -> u32 {
    std::os::unix::process::parent_id()
}

/// Orphans among our descendants become our children rather than init's.
pub fn set_child_subreaper() -> io::Result<()> {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER as usize, 1, 0, 0, 0]) }.map(drop).map_err(error)
}

/// The environment that a process was started with, one `NAME=value` each.
pub fn environ_of(pid: u32) -> io::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ"))?;
    Ok(bytes.split(|b| *b == 0).filter(|entry| !entry.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Which of the two a fork's caller is.
#[derive(Debug)]
pub enum ForkSide {
    Parent(crate::spawn::Child),
    Child,
}

/// Forks. Refused when this process has a second thread, since the child could then find locks held by nobody.
pub fn fork_single_threaded() -> io::Result<ForkSide> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("cannot fork: this process has more than one thread"));
    }
    // SAFETY: there is no other thread, so the child finds every lock and the heap in a consistent state.
    match check(unsafe { libc::fork() })? {
        0 => Ok(ForkSide::Child),
        pid => match open(pid as u32) {
            Ok(pidfd) => Ok(ForkSide::Parent(crate::spawn::Child { pid: pid as u32, pidfd })),
            Err(e) => {
                // Nobody could watch it: it shall not go on.
                // SAFETY: our own child, not reaped yet; the status is not asked for.
                unsafe { (libc::kill(pid, libc::SIGKILL), libc::waitpid(pid, std::ptr::null_mut(), 0)) };
                Err(e)
            }
        },
    }
}
