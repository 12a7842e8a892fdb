//! Many spawns from several threads at once, good and bad, leave no descriptor, no process and no stack behind.

use nexusflow_sys::children::children;
use nexusflow_sys::process::{self, Status};
use nexusflow_sys::spawn::{Identity, Spawn, Step};
use std::ffi::CString;
use std::os::fd::AsFd;

const THREADS: usize = 4;
const SPAWNS: usize = 1000;

#[test]
fn a_thousand_spawns_leave_nothing_behind() {
    let (fds, maps) = (count("/proc/self/fd"), lines("/proc/self/maps"));
    let is_root = rustix::process::geteuid().is_root();
    let identity = is_root.then_some(Identity { uid: 65534, gid: 65534, groups: &[] });
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let argv = [CString::from(c"true")];
                for i in 0..SPAWNS / THREADS {
                    let program = if i % 5 == 0 { c"/no/such/program" } else { c"/bin/true" };
                    let identity = identity.filter(|_| i % 3 == 0);
                    match (Spawn { identity, ..Spawn::new(program, &argv, &[]) }).run() {
                        Ok(child) => {
                            assert_ne!(i % 5, 0);
                            assert_eq!(process::wait(child.pidfd.as_fd()).unwrap().status, Status::Exited(0));
                        }
                        Err(e) => assert_eq!((i % 5, e.step, e.errno), (0, Step::Execute, libc::ENOENT)),
                    }
                }
            });
        }
    });
    assert_eq!(children().unwrap(), []);
    // A uid change in memory shared with us makes it undumpable; that has been put right.
    let dumpable = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(dumpable, rustix::process::DumpableBehavior::Dumpable);
    assert_eq!(count("/proc/self/fd"), fds);
    // Four threads' own stacks and arenas may stay cached; a stack leaked by each spawn would show.
    assert!(lines("/proc/self/maps") < maps + SPAWNS / 4);
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn lines(file: &str) -> usize {
    std::fs::read_to_string(file).unwrap().lines().count()
}
