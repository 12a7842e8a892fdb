//! Starting a process: `clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD)` on a private stack, everything the process shall have
//! set up by itself before it executes its program, and every failure told as the step that failed and the errno.
//!
//! The child borrows the parent's memory while the calling thread is suspended, so nothing is copied and the cost does
//! not grow with the parent. All signals are blocked in the calling thread until the child has gone its own way.

mod child;
mod fds;
mod stack;

use crate::raw;
use crate::sched::{Bits, MemoryMode, MemoryPolicy, Scheduler};
use child::Order;
use fds::Moves;
use stack::Stack;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};

pub use rustix::process::Resource;

/// The nice values that Linux knows. The kernel would silently clamp others.
const NICE: std::ops::RangeInclusive<i32> = -20..=19;

/// What to start and how. What is `None` or empty is inherited, except descriptors: the child has the listed ones only. Its
/// signals are all at their default and open. (Handlers that other code than `crate::signal` installs must be there before
/// the first spawn.)
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The file to execute; no search in PATH.
    pub program: &'a CStr,
    pub argv: &'a [CString],
    pub envp: &'a [CString],
    /// An open `cgroup.procs` of the cgroup that the child moves into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether the child leads a process group of its own.
    pub own_group: bool,
    /// The CPUs, all of them: a mask that the kernel would narrow is an error.
    pub affinity: Option<&'a [u32]>,
    /// The memory policy; nodes that the kernel would leave out are an error.
    pub memory: Option<MemoryPolicy<'a>>,
    pub scheduler: Option<Scheduler>,
    pub nice: Option<i32>,
    /// Resource, soft, hard; `u64::MAX` is no limit.
    pub rlimits: &'a [(Resource, u64, u64)],
    /// What the child has open: (ours, its number). Any overlap is fine. Nothing else stays open.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    pub cwd: Option<&'a CStr>,
    pub identity: Option<Identity<'a>>,
    /// The signal that the child gets when the *thread* that spawned it ends.
    pub death_signal: Option<i32>,
}

/// The user that the child becomes.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
}

/// A started process. It must be waited for (`process::wait`).
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

/// What the child was about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Process,
    Cgroup,
    Group,
    Affinity,
    Memory,
    Scheduler,
    Nice,
    Limits,
    Descriptors,
    Directory,
    Identity,
    DeathSignal,
    Signals,
    Execute,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Process => "create a process",
            Step::Cgroup => "enter its cgroup",
            Step::Group => "make a process group",
            Step::Affinity => "set the CPU affinity",
            Step::Memory => "set the memory policy",
            Step::Scheduler => "set the scheduling class",
            Step::Nice => "set the nice value",
            Step::Limits => "set the resource limits",
            Step::Descriptors => "hand over the file descriptors",
            Step::Directory => "change to the working directory",
            Step::Identity => "become the user",
            Step::DeathSignal => "tie its life to the runner's",
            Step::Signals => "reset the signals",
            Step::Execute => "execute the program",
        })
    }
}

/// Why a process did not start. No process is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    pub step: Step,
    pub errno: i32,
}

impl SpawnError {
    pub fn io(&self) -> io::Error {
        raw::error(self.errno)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.io())
    }
}

impl std::error::Error for SpawnError {}

thread_local! {
    /// The stack that this thread's children start on: one at a time, since the thread waits for each.
    static STACK: Cell<Option<Stack>> = const { Cell::new(None) };
}

impl<'a> Spawn<'a> {
    /// Starts `program`, with nothing else asked for.
    pub fn new(program: &'a CStr, argv: &'a [CString], envp: &'a [CString]) -> Self {
        Spawn {
            program,
            argv,
            envp,
            cgroup: None,
            own_group: false,
            affinity: None,
            memory: None,
            scheduler: None,
            nice: None,
            rlimits: &[],
            fds: &[],
            cwd: None,
            identity: None,
            death_signal: None,
        }
    }

    /// Starts the process and returns once it executes its program, or has failed to.
    pub fn run(&self) -> Result<Child, SpawnError> {
        let (argv, envp) = (pointers(self.argv), pointers(self.envp));
        let mut order = self.order(&argv, &envp)?;
        let stack = STACK.try_with(Cell::take).ok().flatten().map_or_else(Stack::new, Ok);
        let stack = stack.map_err(|e| failed(Step::Process, e))?;
        let (pid, pidfd) = match self.identity {
            Some(_) => undumpable(|| clone(&stack, &mut order)),
            None => clone(&stack, &mut order),
        }
        .map_err(|e| failed(Step::Process, e))?;
        // The child has executed or ended: it is off the stack. A thread that is ending just unmaps it.
        let _ = STACK.try_with(|s| s.set(Some(stack)));
        match order.failure {
            None => Ok(Child { pid, pidfd }),
            Some(error) => {
                // Someone who reaps any child may have been faster: then there is nothing left to reap.
                let _ = crate::process::wait(pidfd.as_fd());
                Err(error)
            }
        }
    }

    /// Checks what the kernel would not and lays out everything so that the child need not allocate.
    fn order(&self, argv: &[*const c_char], envp: &[*const c_char]) -> Result<Order<'a>, SpawnError> {
        let invalid = |step, errno| SpawnError { step, errno };
        if self.nice.is_some_and(|n| !NICE.contains(&n)) {
            return Err(invalid(Step::Nice, libc::EINVAL));
        }
        let bits = |list, step| Bits::of(list).ok_or(invalid(step, libc::EINVAL));
        let affinity = self.affinity.map(|cpus| bits(cpus, Step::Affinity)).transpose()?;
        let memory = self.memory.map(|m| Ok((mode_number(m), bits(m.nodes, Step::Memory)?))).transpose()?;
        Ok(Order {
            program: self.program.as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cgroup: self.cgroup.map(|fd| fd.as_raw_fd()),
            own_group: self.own_group,
            affinity,
            memory,
            scheduler: self.scheduler.map(Scheduler::numbers),
            nice: self.nice,
            rlimits: self.rlimits,
            moves: Moves::plan(self.fds).ok_or(invalid(Step::Descriptors, libc::EBADF))?,
            cwd: self.cwd.map(CStr::as_ptr),
            identity: self.identity,
            death_signal: self.death_signal,
            parent: std::process::id(),
            signals: crate::signal::not_default(),
            failure: None,
        })
    }
}

/// `preferred` over several nodes is another mode to the kernel than over one.
fn mode_number(policy: MemoryPolicy<'_>) -> c_int {
    match policy.mode {
        MemoryMode::Preferred if policy.nodes.len() > 1 => crate::sched::MPOL_PREFERRED_MANY,
        mode => mode.number(),
    }
}

fn failed(step: Step, error: io::Error) -> SpawnError {
    SpawnError { step, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}

/// The strings' pointers with the null that ends them.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Clones a child that carries out `order`; returns when it has executed its program or ended.
fn clone(stack: &Stack, order: &mut Order<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let all = u64::MAX;
    let mut before = 0_u64;
    set_mask(&all, &mut before);
    // SAFETY: the stack is ours alone and large enough for `child::main`; CLONE_VFORK suspends this thread until the child
    // has executed or exited, so `order`, `pidfd` and the stack outlive its use of them and are not touched meanwhile. The
    // child shares this thread's TLS: it touches errno there and nothing else, while we are suspended.
    let pid = raw::check(unsafe {
        libc::clone(
            child::main,
            stack.top(),
            flags,
            (&raw mut *order).cast(),
            &raw mut pidfd,
            ptr::null::<u8>(),
            ptr::null::<u8>(),
        )
    });
    set_mask(&before, &mut 0);
    let pid = pid?;
    // SAFETY: the kernel has just opened this descriptor for us; nobody else knows it.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Swaps the calling thread's signal mask. By the raw call, since libc's keeps its internal signals open.
fn set_mask(new: &u64, old: &mut u64) {
    let args = [libc::SIG_SETMASK as usize, &raw const *new as usize, &raw mut *old as usize, size_of::<u64>(), 0];
    // It cannot fail: pointers, size and how are valid.
    // SAFETY: the kernel reads and writes eight bytes where the references point.
    let _ = unsafe { raw::call(libc::SYS_rt_sigprocmask, args) };
}

/// Runs `f` while this process may not be traced by others of its users: a child that has changed its uid still shares our
/// memory until it executes, and whoever else has that uid could write to it. The kernel drops the flag itself at the uid
/// change, for both of us; so it is put back after, one such spawn at a time lest one opens what another needs closed.
pub(crate) fn undumpable<T>(f: impl FnOnce() -> T) -> T {
    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dumpable = matches!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let value = f();
    if dumpable {
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
    value
}
