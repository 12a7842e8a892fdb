//! The tree of processes under a stage: who belongs to it, and signals that reach all of it.
//!
//! A stage leads a process group of its own; what left the group is found as a descendant, and what
//! was orphaned is a child of the runner (a subreaper) whose environment still names its stage.

use std::os::fd::BorrowedFd;

use nexusflow_sys::signal::SIGKILL;
use nexusflow_sys::{family, process};

/// A tree wider than this is signalled in part; the guardian still gets the rest in the end.
const MAX_DESCENDANTS: usize = 65_536;

/// Names one attempt of a replica in the environment of everything it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    pub run: &'a str,
    pub stage: &'a str,
    pub replica: u32,
    pub attempt: u32,
}

/// Sends `signal` to the process `leader`, to the group that it leads as `pid` and to every descendant outside of it.
pub(super) fn signal_tree(pid: u32, leader: BorrowedFd<'_>, mark: Mark, signal: i32) {
    let orphans = family::adopted().into_iter().filter(|&p| owner(p, mark.run).is_some_and(|o| o.is(mark)));
    let stray: Vec<u32> = std::iter::once(pid).chain(orphans).flat_map(with_descendants).collect();
    // ESRCH: gone already, which is what was wanted. EPERM cannot be mended here.
    let _ = process::signal_group(pid, signal);
    for member in stray.into_iter().filter(|&p| family::group_of(p) != Some(pid)) {
        let _ = match member == pid {
            true => process::signal(leader, signal),
            false => family::signal_descendant(member, signal),
        };
    }
}

/// Kills the group of a process that is a zombie still: its number is nobody else's.
pub(super) fn kill_group(pid: u32) {
    let _ = process::signal_group(pid, SIGKILL);
}

/// Reaps the orphans that have died, and kills those that name an attempt which is not alive, with all below them.
/// Only spawner threads make processes here, so the main thread's children are the adopted ones.
pub(super) fn bury_orphans(run: &str, is_alive: impl Fn(&str, u32, u32) -> bool) {
    for pid in family::adopted() {
        // One that is dying has no environment any more; its end is told by SIGCHLD, and we are here again.
        if matches!(process::try_wait_pid(pid), Ok(None))
            && let Some(owner) = owner(pid, run)
            && !is_alive(&owner.stage, owner.replica, owner.attempt)
        {
            for member in with_descendants(pid) {
                let _ = family::signal_descendant(member, SIGKILL);
            }
        }
    }
}

/// The process and everything below it, parents first.
fn with_descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() && found.len() < MAX_DESCENDANTS {
        found.extend(family::children_of(found[at]));
        at += 1;
    }
    found
}

/// Whose process an orphan says it is.
struct Owner {
    stage: String,
    replica: u32,
    attempt: u32,
}

impl Owner {
    fn is(&self, mark: Mark) -> bool {
        (self.stage.as_str(), self.replica, self.attempt) == (mark.stage, mark.replica, mark.attempt)
    }
}

fn owner(pid: u32, run: &str) -> Option<Owner> {
    let env = process::environ_of(pid).ok()?;
    let value = |name: &str| env.iter().find_map(|e| e.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let text = |name| value(name).and_then(|v| std::str::from_utf8(v).ok());
    let ours = text("NEXUSFLOW_RUN")? == run;
    let number = |name| text(name)?.parse().ok();
    let (replica, attempt) = (number("NEXUSFLOW_REPLICA")?, number("NEXUSFLOW_ATTEMPT")?);
    ours.then_some(Owner { stage: text("NEXUSFLOW_STAGE")?.to_owned(), replica, attempt })
}
