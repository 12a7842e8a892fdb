//! The tree of processes under a stage: who belongs to it, and signals that reach all of it.
//!
//! A stage leads a process group of its own; what left the group is found as a descendant, and what
//! was orphaned is a child of the runner (a subreaper) whose environment still names its stage.

use std::collections::BTreeSet;

use nexusflow_sys::{family, process};

const SIGKILL: i32 = 9;

/// A tree deeper or wider than this is signalled in part; the guardian still gets the rest in the end.
const MAX_DESCENDANTS: usize = 65_536;

/// Names one attempt in the environment of everything it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    pub run: &'a str,
    pub stage: &'a str,
    pub replica: u32,
}

/// Sends `signal` to the group that `pid` leads and to every descendant outside of it.
pub(super) fn signal_tree(pid: u32, mark: Mark, signal: i32) {
    let stray: Vec<u32> = descendants(pid).into_iter().chain(orphans_of(mark)).collect();
    // ESRCH: gone already, which is what was wanted. EPERM cannot be mended here.
    let _ = process::signal_group(pid, signal);
    for child in stray {
        if family::group_of(child) != Some(pid) {
            let _ = family::signal(child, signal);
        }
    }
}

/// Kills what a reaped process left behind. Its own pid may be reused only once its group is empty.
pub(super) fn kill_leftovers(pid: u32, mark: Mark) {
    let _ = process::signal_group(pid, SIGKILL);
    // A killed parent's children become ours in turn: go on until nothing new appears.
    let mut seen = BTreeSet::new();
    loop {
        let fresh: Vec<u32> = orphans_of(mark)
            .into_iter()
            .flat_map(|o| std::iter::once(o).chain(descendants(o)))
            .filter(|p| seen.insert(*p))
            .collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            let _ = family::signal(pid, SIGKILL);
        }
    }
}

/// Every process below `pid`, parents first.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = family::children_of(pid);
    let mut at = 0;
    while at < found.len() && found.len() < MAX_DESCENDANTS {
        found.extend(family::children_of(found[at]));
        at += 1;
    }
    found
}

/// Orphans that this runner has adopted and whose environment says that the attempt started them.
/// Only spawner threads make processes here, so the main thread's children are the adopted ones.
fn orphans_of(mark: Mark) -> Vec<u32> {
    let mine = |pid: &u32| {
        let replica = mark.replica.to_string();
        let wanted = [("NEXUSFLOW_RUN", mark.run), ("NEXUSFLOW_STAGE", mark.stage), ("NEXUSFLOW_REPLICA", &replica)];
        process::environ_of(*pid)
            .is_ok_and(|env| wanted.iter().all(|(key, value)| env.contains(&format!("{key}={value}").into_bytes())))
    };
    family::adopted().into_iter().filter(mine).collect()
}
