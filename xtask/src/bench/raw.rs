//! The limit: as many threads as we may use CPUs, two at most, each starting a process and waiting for it, again
//! and again. No order, no logs, no record.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nexusflow_sys::process::{self, Status};
use nexusflow_sys::sched;
use nexusflow_sys::spawn::Spawn;

use crate::step::Result;

const THREADS: usize = 2;

/// `bench raw PROGRAM COUNT`.
pub fn main(args: &[String]) -> Result {
    let [program, count] = args else { return Err("bench raw PROGRAM COUNT".into()) };
    let count: usize = count.parse().map_err(|_| "COUNT is not a number")?;
    let program = CString::new(OsStr::new(program).as_bytes()).map_err(|e| e.to_string())?;
    let cpus = sched::affinity(0).map_err(|e| e.to_string())?;
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            cpus.iter().take(THREADS).map(|cpu| scope.spawn(|| work(*cpu, &program, &begun, count))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })
}

fn work(cpu: u32, program: &CString, begun: &AtomicUsize, count: usize) -> Result {
    sched::set_affinity(0, &[cpu]).map_err(|e| format!("CPU {cpu}: {e}"))?;
    let argv = [program.clone()];
    while begun.fetch_add(1, Ordering::Relaxed) < count {
        let child = Spawn::new(program, &argv, &[]).run().map_err(|e| e.to_string())?;
        let exit = process::wait(child.pidfd.as_fd()).map_err(|e| e.to_string())?;
        if exit.status != Status::Exited(0) {
            return Err(format!("{}: {:?}", Path::new(OsStr::from_bytes(program.as_bytes())).display(), exit.status));
        }
    }
    Ok(())
}
