//! What the child does between clone and execve. It runs in its parent's memory: raw system calls only, no allocation, no
//! lock, no panic, nothing of libc that would signal or speak to the parent's other threads.

use super::fds::Moves;
use super::{Identity, Resource, SpawnError, Step};
use crate::raw;
use crate::sched::Bits;
use std::convert::Infallible;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::RawFd;

/// A kernel `struct sigaction` of zeroes (the default disposition, no flags, no mask) is at most this many words.
const SIGACTION_WORDS: usize = 8;
const PRIO_PROCESS: usize = 0;

/// Everything that the child needs, laid out by the parent before the clone.
pub(super) struct Order<'a> {
    pub program: *const c_char,
    pub argv: *const *const c_char,
    pub envp: *const *const c_char,
    pub cgroup: Option<RawFd>,
    pub own_group: bool,
    pub affinity: Option<Bits>,
    pub memory: Option<(c_int, Bits)>,
    /// Policy and priority.
    pub scheduler: Option<(c_int, c_int)>,
    pub nice: Option<i32>,
    pub rlimits: &'a [(Resource, u64, u64)],
    pub moves: Moves,
    pub cwd: Option<*const c_char>,
    pub identity: Option<Identity<'a>>,
    pub death_signal: Option<i32>,
    pub parent: u32,
    /// Those to reset, bit n - 1 for signal n.
    pub signals: u64,
    /// The child's answer.
    pub failure: Option<SpawnError>,
}

/// The child's first and last function: carries out the order that `argument` points to, or says why not and ends.
pub(super) extern "C" fn main(argument: *mut c_void) -> c_int {
    // SAFETY: the parent passes its Order and is suspended until we have executed or ended: it is ours alone.
    let order = unsafe { &mut *argument.cast::<Order<'_>>() };
    let Err(failure) = order.carry_out();
    order.failure = Some(failure);
    // SAFETY: ends this process only. Not libc's exit: its handlers are the parent's.
    let _ = unsafe { raw::call(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    127
}

/// One system call of a step.
///
/// # Safety
/// As for `raw::call`.
unsafe fn call(step: Step, number: libc::c_long, args: [usize; 5]) -> Result<usize, SpawnError> {
    // SAFETY: the caller vouches.
    unsafe { raw::call(number, args) }.map_err(|errno| SpawnError { step, errno })
}

impl Order<'_> {
    fn carry_out(&mut self) -> Result<Infallible, SpawnError> {
        self.enter_groups()?;
        self.set_placement()?;
        self.set_limits(|r| r != Resource::Nofile)?;
        self.moves.carry_out().map_err(|errno| SpawnError { step: Step::Descriptors, errno })?;
        // Last of the limits, since it would forbid the detour by which descriptors reach their places.
        self.set_limits(|r| r == Resource::Nofile)?;
        if let Some(cwd) = self.cwd {
            // SAFETY: a C string of the caller of `run`.
            unsafe { call(Step::Directory, libc::SYS_chdir, [cwd as usize, 0, 0, 0, 0]) }?;
        }
        self.become_user()?;
        self.follow_parent()?;
        self.reset_signals()?;
        let args = [self.program as usize, self.argv as usize, self.envp as usize, 0, 0];
        // SAFETY: C strings and null-terminated arrays that the suspended parent keeps.
        unsafe { call(Step::Execute, libc::SYS_execve, args) }?;
        // execve does not return but with an error.
        Err(SpawnError { step: Step::Execute, errno: libc::ENOEXEC })
    }

    fn enter_groups(&self) -> Result<(), SpawnError> {
        if let Some(fd) = self.cgroup {
            // SAFETY: writes one static byte; "0" means the writer.
            unsafe { call(Step::Cgroup, libc::SYS_write, [fd as usize, c"0".as_ptr() as usize, 1, 0, 0]) }?;
        }
        if self.own_group {
            // SAFETY: no pointers.
            unsafe { call(Step::Group, libc::SYS_setpgid, [0; 5]) }?;
        }
        Ok(())
    }

    fn set_placement(&self) -> Result<(), SpawnError> {
        if let Some(cpus) = &self.affinity {
            cpus.set_affinity(0).map_err(|errno| SpawnError { step: Step::Affinity, errno })?;
        }
        if let Some((mode, nodes)) = &self.memory {
            nodes.set_memory_policy(*mode).map_err(|errno| SpawnError { step: Step::Memory, errno })?;
        }
        if let Some((policy, priority)) = self.scheduler {
            // SAFETY: struct sched_param is one int.
            unsafe {
                call(
                    Step::Scheduler,
                    libc::SYS_sched_setscheduler,
                    [0, policy as usize, &raw const priority as usize, 0, 0],
                )
            }?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: no pointers.
            unsafe { call(Step::Nice, libc::SYS_setpriority, [PRIO_PROCESS, 0, nice as usize, 0, 0]) }?;
        }
        Ok(())
    }

    fn set_limits(&self, which: impl Fn(Resource) -> bool) -> Result<(), SpawnError> {
        for (resource, soft, hard) in self.rlimits.iter().filter(|limit| which(limit.0)) {
            let limit = [*soft, *hard];
            // SAFETY: struct rlimit64 is two u64; the old limit is not asked for.
            unsafe { call(Step::Limits, libc::SYS_prlimit64, [0, *resource as usize, limit.as_ptr() as usize, 0, 0]) }?;
        }
        Ok(())
    }

    fn become_user(&self) -> Result<(), SpawnError> {
        let Some(Identity { uid, gid, groups }) = self.identity else { return Ok(()) };
        let (uid, gid) = (uid as usize, gid as usize);
        // Raw calls: libc's would send signals to all threads of the process that we share memory with.
        // SAFETY: groups is a slice that the caller of `run` keeps; the others take no pointers.
        unsafe {
            call(Step::Identity, libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0])?;
            call(Step::Identity, libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
            call(Step::Identity, libc::SYS_setresuid, [uid, uid, uid, 0, 0])?;
        }
        Ok(())
    }

    /// After the uid change, which would clear it.
    fn follow_parent(&self) -> Result<(), SpawnError> {
        let Some(signal) = self.death_signal else { return Ok(()) };
        // SAFETY: neither takes pointers.
        let parent = unsafe {
            call(Step::DeathSignal, libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, signal as usize, 0, 0, 0])?;
            call(Step::DeathSignal, libc::SYS_getppid, [0; 5])?
        };
        // It may have died before the prctl: then we have another parent by now and nobody will tell us.
        if parent == self.parent as usize {
            Ok(())
        } else {
            Err(SpawnError { step: Step::DeathSignal, errno: libc::ESRCH })
        }
    }

    /// Every signal to its default and none blocked. Before the mask opens, so that no handler of the parent runs here. The
    /// child has a table of dispositions of its own, since CLONE_SIGHAND is not among the flags.
    fn reset_signals(&self) -> Result<(), SpawnError> {
        let (default, mask) = ([0_usize; SIGACTION_WORDS], 0_u64);
        for signal in (1..=64).filter(|signal| self.signals >> (signal - 1) & 1 == 1) {
            // SAFETY: the action is larger than the kernel's and all zeroes; the old one is not asked for.
            unsafe { call(Step::Signals, libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0]) }?;
        }
        let args = [libc::SIG_SETMASK as usize, &raw const mask as usize, 0, size_of_val(&mask), 0];
        // SAFETY: reads eight bytes.
        unsafe { call(Step::Signals, libc::SYS_rt_sigprocmask, args) }?;
        Ok(())
    }
}
