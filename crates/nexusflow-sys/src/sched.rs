//! Where and how a process is scheduled and where its memory comes from: reading and setting. And the clock.

use crate::raw::{call, call6, check, error};
use std::ffi::c_int;
use std::io;
use std::time::Duration;

/// Room for CPUs and for nodes: twice what the largest configuration of Linux has (8192 CPUs).
pub const MAX_CPUS: usize = 16384;
const WORDS: usize = MAX_CPUS / u64::BITS as usize;

pub(crate) const MPOL_PREFERRED_MANY: c_int = 5;
const PRIO_PROCESS: usize = 0;

/// May set real-time classes, negative nice values and the affinity of others.
pub const CAP_SYS_NICE: u32 = 23;
/// May become another user.
pub const CAP_SETUID: u32 = 7;

/// A scheduling class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    Other,
    Batch,
    Idle,
    Fifo(i32),
    RoundRobin(i32),
}

impl Scheduler {
    /// The kernel's policy number and priority.
    pub(crate) fn numbers(self) -> (c_int, c_int) {
        match self {
            Scheduler::Other => (libc::SCHED_OTHER, 0),
            Scheduler::Batch => (libc::SCHED_BATCH, 0),
            Scheduler::Idle => (libc::SCHED_IDLE, 0),
            Scheduler::Fifo(priority) => (libc::SCHED_FIFO, priority),
            Scheduler::RoundRobin(priority) => (libc::SCHED_RR, priority),
        }
    }
}

/// How pages are placed, as numactl names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMode {
    Default,
    Local,
    Bind,
    Preferred,
    Interleave,
}

impl MemoryMode {
    pub(crate) fn number(self) -> c_int {
        match self {
            MemoryMode::Default => 0,
            MemoryMode::Preferred => 1,
            MemoryMode::Bind => 2,
            MemoryMode::Interleave => 3,
            MemoryMode::Local => 4,
        }
    }

    fn from_number(number: c_int) -> Option<MemoryMode> {
        Some(match number {
            0 => MemoryMode::Default,
            1 | MPOL_PREFERRED_MANY => MemoryMode::Preferred,
            2 => MemoryMode::Bind,
            3 => MemoryMode::Interleave,
            4 => MemoryMode::Local,
            _ => return None,
        })
    }
}

/// A memory policy; `Default` and `Local` have no nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPolicy<'a> {
    pub mode: MemoryMode,
    pub nodes: &'a [u32],
}

/// A set of CPUs or nodes as the kernel takes it.
#[derive(PartialEq, Eq)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    const EMPTY: Bits = Bits([0; WORDS]);

    /// None if a number is beyond what any Linux has.
    pub fn of(list: &[u32]) -> Option<Bits> {
        let mut bits = Bits::EMPTY;
        for n in list {
            *bits.0.get_mut(*n as usize / 64)? |= 1 << (n % 64);
        }
        Some(bits)
    }

    fn list(&self) -> Vec<u32> {
        (0..MAX_CPUS as u32).filter(|n| self.0[*n as usize / 64] >> (n % 64) & 1 == 1).collect()
    }

    /// Confines a thread (0: the caller) to exactly these CPUs. Fails if the kernel leaves some out, which it does
    /// silently for those that do not exist or that a cpuset forbids. Async-signal-safe.
    pub fn set_affinity(&self, tid: u32) -> Result<(), i32> {
        // SAFETY: the kernel reads the array.
        unsafe {
            call(libc::SYS_sched_setaffinity, [tid as usize, size_of_val(&self.0), self.0.as_ptr() as usize, 0, 0])
        }?;
        if Bits::affinity(tid)? == *self { Ok(()) } else { Err(libc::EINVAL) }
    }

    fn affinity(tid: u32) -> Result<Bits, i32> {
        let mut bits = Bits::EMPTY;
        let args = [tid as usize, size_of_val(&bits.0), bits.0.as_mut_ptr() as usize, 0, 0];
        // SAFETY: the kernel writes at most the length given.
        unsafe { call(libc::SYS_sched_getaffinity, args) }?;
        Ok(bits)
    }

    /// Sets the calling thread's memory policy to exactly these nodes. Fails if the kernel leaves some out, which it does
    /// silently for those without memory or that a cpuset forbids. Async-signal-safe.
    pub fn set_memory_policy(&self, mode: c_int) -> Result<(), i32> {
        // The kernel counts one bit less than it is told.
        let (mask, bits) = if *self == Bits::EMPTY { (0, 0) } else { (self.0.as_ptr() as usize, MAX_CPUS + 1) };
        // SAFETY: the kernel reads the array.
        unsafe { call(libc::SYS_set_mempolicy, [mode as usize, mask, bits, 0, 0]) }?;
        if Bits::memory_policy()?.1 == *self { Ok(()) } else { Err(libc::EINVAL) }
    }

    /// Where the memory of a mapping that has none yet comes from.
    pub fn place_memory(&self, mode: c_int, at: usize, len: usize) -> Result<(), i32> {
        let mask = self.0.as_ptr() as usize;
        // SAFETY: the kernel reads the array; a policy changes no contents, whatever is mapped there.
        unsafe { call6(libc::SYS_mbind, [at, len, mode as usize, mask, MAX_CPUS + 1, 0]) }.map(|_| ())
    }

    fn memory_policy() -> Result<(c_int, Bits), i32> {
        let (mut mode, mut bits) = (0, Bits::EMPTY);
        let args = [&raw mut mode as usize, bits.0.as_mut_ptr() as usize, MAX_CPUS + 1, 0, 0];
        // SAFETY: the kernel writes one int and at most the bits given.
        unsafe { call(libc::SYS_get_mempolicy, args) }?;
        Ok((mode, bits))
    }
}

/// The CPUs that a thread (0: the caller) may run on.
pub fn affinity(tid: u32) -> io::Result<Vec<u32>> {
    Bits::affinity(tid).map(|b| b.list()).map_err(error)
}

/// Confines a thread (0: the caller) to exactly these CPUs; an error, with the mask narrowed, if some are not to be had.
pub fn set_affinity(tid: u32, cpus: &[u32]) -> io::Result<()> {
    Bits::of(cpus).ok_or(libc::EINVAL).and_then(|b| b.set_affinity(tid)).map_err(error)
}

/// The calling thread's memory policy; the mode is None where it is one that we do not name.
pub fn memory_policy() -> io::Result<(Option<MemoryMode>, Vec<u32>)> {
    Bits::memory_policy().map(|(mode, bits)| (MemoryMode::from_number(mode), bits.list())).map_err(error)
}

/// The nodes that this process may take memory from.
pub fn memory_nodes_allowed() -> io::Result<Vec<u32>> {
    const MPOL_F_MEMS_ALLOWED: usize = 4;
    let mut bits = Bits::EMPTY;
    let args = [0, bits.0.as_mut_ptr() as usize, MAX_CPUS + 1, 0, MPOL_F_MEMS_ALLOWED];
    // SAFETY: the kernel writes at most the bits given.
    unsafe { call(libc::SYS_get_mempolicy, args) }.map_err(error)?;
    Ok(bits.list())
}

/// The nice value of a process (0: the caller).
pub fn nice(pid: u32) -> io::Result<i32> {
    // The raw call returns 20 - nice, so that no value looks like an error.
    // SAFETY: no pointers.
    let value = unsafe { call(libc::SYS_getpriority, [PRIO_PROCESS, pid as usize, 0, 0, 0]) };
    value.map(|v| 20 - v as i32).map_err(error)
}

/// The scheduling class of a thread (0: the caller); None for one that we do not name, such as a deadline.
pub fn scheduler(tid: u32) -> io::Result<Option<Scheduler>> {
    // SAFETY: no pointers.
    let policy = check(unsafe { libc::sched_getscheduler(tid as libc::pid_t) })?;
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel writes one sched_param.
    check(unsafe { libc::sched_getparam(tid as libc::pid_t, &raw mut param) })?;
    Ok(match policy & !libc::SCHED_RESET_ON_FORK {
        libc::SCHED_OTHER => Some(Scheduler::Other),
        libc::SCHED_BATCH => Some(Scheduler::Batch),
        libc::SCHED_IDLE => Some(Scheduler::Idle),
        libc::SCHED_FIFO => Some(Scheduler::Fifo(param.sched_priority)),
        libc::SCHED_RR => Some(Scheduler::RoundRobin(param.sched_priority)),
        _ => None,
    })
}

/// Whether this process has a capability in effect.
pub fn has_capability(capability: u32) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = effective.and_then(|v| u64::from_str_radix(v.trim(), 16).ok());
    let effective = effective.ok_or_else(|| io::Error::other("/proc/self/status has no CapEff"))?;
    Ok(effective.checked_shr(capability).unwrap_or(0) & 1 == 1)
}

/// CLOCK_MONOTONIC: the clock of every deadline.
pub fn monotonic_now() -> Duration {
    clock(rustix::time::ClockId::Monotonic)
}

/// CLOCK_BOOTTIME: goes on while the machine sleeps.
pub fn boottime_now() -> Duration {
    clock(rustix::time::ClockId::Boottime)
}

fn clock(id: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(id);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Tells one boot of this machine from the next.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_lists_agree() {
        let list = [0, 1, 63, 64, 1024, MAX_CPUS as u32 - 1];
        assert_eq!(Bits::of(&list).unwrap().list(), list);
        assert!(Bits::of(&[MAX_CPUS as u32]).is_none());
    }

    #[test]
    fn affinity_is_set_exactly_or_refused() {
        std::thread::spawn(|| {
            let all = affinity(0).unwrap();
            set_affinity(0, &all[..1]).unwrap();
            assert_eq!(affinity(0).unwrap(), &all[..1]);
            let beyond = set_affinity(0, &[all[0], MAX_CPUS as u32 - 1]).unwrap_err();
            assert_eq!(beyond.raw_os_error(), Some(libc::EINVAL));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn reads_what_the_caller_runs_under() {
        assert!((-20..=19).contains(&nice(0).unwrap()));
        scheduler(0).unwrap();
        memory_policy().unwrap();
        assert!(!memory_nodes_allowed().unwrap().is_empty());
        has_capability(CAP_SYS_NICE).unwrap();
        assert!(!has_capability(64).unwrap());
        assert!(monotonic_now() <= boottime_now());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
