//! A spawn does what was asked, or says which step failed and why; the child has nothing that was not meant for it.

use nexusflow_sys::process::{self, Exit, Status};
use nexusflow_sys::sched::{self, MemoryMode, MemoryPolicy, Scheduler};
use nexusflow_sys::signal;
use nexusflow_sys::spawn::{Child, Identity, Resource, Spawn, SpawnError, Step};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

const NOBODY: u32 = 65534;

/// The arguments of a call that is changed in one place by each test.
struct Words {
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Words {
    fn new(argv: &[&str]) -> Words {
        let strings = |list: &[&str]| list.iter().map(|s| CString::new(*s).unwrap()).collect();
        Words { argv: strings(argv), envp: strings(&["PATH=/usr/bin:/bin", "MARK=here"]) }
    }

    fn spawn(&self) -> Spawn<'_> {
        Spawn::new(&self.argv[0], &self.argv, &self.envp)
    }
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

/// Runs a shell script with its output caught.
fn shell(script: &str, change: impl FnOnce(&mut Spawn<'_>)) -> (Exit, String) {
    let words = Words::new(&["/bin/sh", "-c", script]);
    let (null, (mut read, write)) = (null(), std::io::pipe().unwrap());
    let fds = [(null.as_fd(), 0), (write.as_fd(), 1), (write.as_fd(), 2)];
    let mut spawn = words.spawn();
    spawn.fds = &fds;
    change(&mut spawn);
    let child = spawn.run().unwrap();
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    (process::wait(child.pidfd.as_fd()).unwrap(), text)
}

/// A child that does nothing until it is killed, to be looked at; killed and reaped when dropped.
struct Idler(Child, #[allow(dead_code, reason = "its end of the pipe keeps it waiting")] PipeWriter);

impl Idler {
    fn start(change: impl FnOnce(&mut Spawn<'_>)) -> Result<Idler, SpawnError> {
        let words = Words::new(&["/bin/cat"]);
        let ((stdin, mut to), (mut from, stdout)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let fds = [(borrow(&stdin), 0), (borrow(&stdout), 1), (borrow(&stdin), 2)];
        let mut spawn = words.spawn();
        spawn.fds = &fds;
        change(&mut spawn);
        let child = spawn.run()?;
        // A spawn returns early in execve: once it has echoed a byte, its memory and its loader's work are settled.
        to.write_all(b"?").unwrap();
        from.read_exact(&mut [0]).unwrap();
        Ok(Idler(child, to))
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.pid)).unwrap()
    }

    fn status(&self) -> BTreeMap<String, String> {
        let line = |l: &str| l.split_once(':').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
        self.file("status").lines().filter_map(line).collect()
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        let _ = process::signal(self.0.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.0.pidfd.as_fd());
    }
}

#[track_caller]
fn fails(step: Step, errno: i32, change: impl FnOnce(&mut Spawn<'_>)) {
    assert_eq!(Idler::start(change).map(|s| s.0.pid), Err(SpawnError { step, errno }));
}

#[test]
fn each_step_that_fails_is_named() {
    let read_only = File::open("/dev/null").unwrap();
    let beyond = [sched::MAX_CPUS as u32 - 1];
    let first = sched::affinity(0).unwrap()[0];
    let partly = [first, beyond[0]];
    let many = vec![1; 65537];
    let is_root = rustix::process::geteuid().is_root();
    fails(Step::Cgroup, libc::EBADF, |s| s.cgroup = Some(borrow(&read_only)));
    fails(Step::Affinity, libc::EINVAL, |s| s.affinity = Some(leak(&beyond)));
    fails(Step::Affinity, libc::EINVAL, |s| s.affinity = Some(leak(&partly)));
    fails(Step::Affinity, libc::EINVAL, |s| s.affinity = Some(&[]));
    fails(Step::Affinity, libc::EINVAL, |s| s.affinity = Some(&[u32::MAX]));
    fails(Step::Memory, libc::EINVAL, |s| s.memory = Some(MemoryPolicy { mode: MemoryMode::Bind, nodes: &[1023] }));
    fails(Step::Memory, libc::EINVAL, |s| s.memory = Some(MemoryPolicy { mode: MemoryMode::Bind, nodes: &[] }));
    fails(Step::Memory, libc::EINVAL, |s| {
        s.memory = Some(MemoryPolicy { mode: MemoryMode::Interleave, nodes: &[0, 1023] })
    });
    fails(Step::Scheduler, libc::EINVAL, |s| s.scheduler = Some(Scheduler::Fifo(1000)));
    fails(Step::Nice, libc::EINVAL, |s| s.nice = Some(20));
    fails(Step::Limits, libc::EINVAL, |s| s.rlimits = &[(Resource::Core, 2, 1)]);
    fails(Step::Limits, libc::EINVAL, |s| s.rlimits = &[(Resource::Nofile, 2, 1)]);
    fails(Step::Descriptors, libc::EBADF, |s| s.fds = leak(&[(borrow(&read_only), -1)]));
    fails(Step::Directory, libc::ENOENT, |s| s.cwd = Some(c"/no/such/folder"));
    fails(Step::Directory, libc::ENOTDIR, |s| s.cwd = Some(c"/dev/null"));
    let errno = if is_root { libc::EINVAL } else { libc::EPERM };
    fails(Step::Identity, errno, |s| s.identity = Some(Identity { uid: NOBODY, gid: NOBODY, groups: leak(&many) }));
    fails(Step::DeathSignal, libc::EINVAL, |s| s.death_signal = Some(200));
    fails(Step::Execute, libc::ENOENT, |s| s.program = c"/no/such/program");
    fails(Step::Execute, libc::EACCES, |s| s.program = c"/tmp");
    fails(Step::Execute, libc::EACCES, |s| s.program = c"/etc/passwd");
    assert_eq!(
        SpawnError { step: Step::Directory, errno: libc::ENOENT }.to_string(),
        "cannot change to the working directory: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_without_a_format_is_an_error() {
    let path = std::env::temp_dir().join(format!("nexusflow-sys-{:x}", nexusflow_sys::file::random().unwrap()));
    nexusflow_sys::file::atomic_write(&path, b"echo hello\n", 0o755, false).unwrap();
    let program = CString::new(path.to_str().unwrap()).unwrap();
    fails(Step::Execute, libc::ENOEXEC, |s| s.program = leak(&[program])[0].as_c_str());
    std::fs::remove_file(path).unwrap();
}

/// What a change borrows must outlive the spawn, whose lifetime a closure cannot name; a test may leak a little.
fn leak<T: Clone>(list: &[T]) -> &'static [T] {
    Vec::leak(list.to_vec())
}

type Fds = [(BorrowedFd<'static>, RawFd)];

fn add(fds: &[(BorrowedFd<'_>, RawFd)], more: &Fds) -> &'static Fds {
    leak(&fds.iter().map(|(fd, to)| (borrow(fd), *to)).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn borrow(fd: &impl AsRawFd) -> BorrowedFd<'static> {
    // SAFETY: each caller keeps the descriptor open until its child has been started.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

#[test]
fn ends_are_told_with_what_was_used() {
    let (exit, text) = shell("echo $MARK; exit 7", |_| {});
    assert_eq!((exit.status, exit.status.code(), text.as_str()), (Status::Exited(7), 7, "here\n"));
    assert!(exit.usage.max_rss_bytes > 0 && exit.usage.minor_faults > 0);
    assert!(process::own_max_rss_bytes() > 64 << 10);
    let (exit, _) = shell("kill -KILL $$", |_| {});
    assert_eq!(exit.status, Status::Signaled { signal: libc::SIGKILL, core: false });
    assert_eq!(exit.status.code(), 137);

    let idler = Idler::start(|_| {}).unwrap();
    assert_eq!(process::try_wait(idler.0.pidfd.as_fd()).unwrap(), None);
    assert!(nexusflow_sys::children::children().unwrap().contains(&idler.0.pid));
    assert!(process::environ_of(idler.0.pid).unwrap().contains(&b"MARK=here".to_vec()));
    process::signal(idler.0.pidfd.as_fd(), libc::SIGTERM).unwrap();
    let exit = process::wait(idler.0.pidfd.as_fd()).unwrap();
    assert_eq!(exit.status, Status::Signaled { signal: libc::SIGTERM, core: false });
    assert_eq!(process::try_wait(idler.0.pidfd.as_fd()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    assert_eq!(process::signal(idler.0.pidfd.as_fd(), 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn a_child_has_the_listed_descriptors_only() {
    let (null, kept) = (null(), null());
    // Someone's careless descriptors, below, between and above the targets.
    let careless = [40, 51, 700].map(|from| {
        let fd = rustix::io::fcntl_dupfd_cloexec(&null, from).unwrap();
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        fd
    });
    let idler = Idler::start(|s| s.fds = add(s.fds, &[(borrow(&kept), 50), (borrow(&null), 60)])).unwrap();
    drop(careless);
    let folder = std::fs::read_dir(format!("/proc/{}/fd", idler.0.pid)).unwrap();
    let mut open = folder.map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect::<Vec<RawFd>>();
    open.sort_unstable();
    assert_eq!(open, [0, 1, 2, 50, 60]);
}

#[test]
fn descriptors_may_change_places() {
    let texts = ["first", "second"].map(|text| {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(text.as_bytes()).unwrap();
        read
    });
    let [a, b] = [texts[0].as_raw_fd(), texts[1].as_raw_fd()];
    let words = Words::new(&["/bin/sh", "-c", &format!("cat /dev/fd/{a}; echo; cat /dev/fd/{b}")]);
    let (null, (mut read, write)) = (null(), std::io::pipe().unwrap());
    let fds = [(texts[0].as_fd(), b), (texts[1].as_fd(), a), (write.as_fd(), 1), (null.as_fd(), 0)];
    let child = Spawn { fds: &fds, ..words.spawn() }.run().unwrap();
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "second\nfirst");
    assert_eq!(process::wait(child.pidfd.as_fd()).unwrap().status, Status::Exited(0));
}

#[test]
fn a_low_limit_of_open_files_does_not_hinder_the_descriptors() {
    // All four sources have to make way for target 100, to numbers that the limit would forbid.
    let fourth = null();
    let (exit, text) = shell("ulimit -n", |s| {
        s.fds = add(s.fds, &[(borrow(&fourth), 100)]);
        s.rlimits = &[(Resource::Nofile, 101, 101)];
    });
    assert_eq!((exit.status, text.as_str()), (Status::Exited(0), "101\n"));
}

#[test]
fn placement_is_what_the_kernel_shows() {
    let first = sched::affinity(0).unwrap()[0];
    let idler = Idler::start(|s| {
        s.affinity = Some(leak(&[first]));
        s.scheduler = Some(Scheduler::Batch);
        s.nice = Some(5);
        s.own_group = true;
        s.rlimits = &[(Resource::Core, 0, 0)];
    })
    .unwrap();
    let pid = idler.0.pid;
    assert_eq!(idler.status()["Cpus_allowed_list"], first.to_string());
    assert_eq!(sched::affinity(pid).unwrap(), [first]);
    assert_eq!(sched::scheduler(pid).unwrap(), Some(Scheduler::Batch));
    assert_eq!(sched::nice(pid).unwrap(), 5);
    let pid = rustix::process::Pid::from_raw(pid as i32);
    assert_eq!(rustix::process::getpgid(pid).unwrap(), pid.unwrap());
    assert!(idler.file("limits").lines().any(|l| l.starts_with("Max core file size") && l.contains(" 0  ")));
    process::signal_group(idler.0.pid, libc::SIGTERM).unwrap();
    assert_eq!(process::wait(idler.0.pidfd.as_fd()).unwrap().status.code(), 128 + libc::SIGTERM);
    assert!(process::signal_group(1, 0).is_err() && process::signal_group(0, 0).is_err());
}

#[test]
fn memory_policy_is_what_the_kernel_shows() {
    let node = sched::memory_nodes_allowed().unwrap()[0];
    for (mode, shown) in [(MemoryMode::Bind, "bind:"), (MemoryMode::Interleave, "interleave:")] {
        let idler = Idler::start(|s| s.memory = Some(MemoryPolicy { mode, nodes: leak(&[node]) })).unwrap();
        let maps = idler.file("numa_maps");
        assert!(maps.lines().any(|l| l.contains(&format!("{shown}{node}"))), "{maps}");
    }
    for mode in [MemoryMode::Default, MemoryMode::Local] {
        Idler::start(|s| s.memory = Some(MemoryPolicy { mode, nodes: &[] })).unwrap();
    }
}

#[test]
fn signals_are_at_their_defaults_and_open() {
    signal::ignore(libc::SIGUSR1).unwrap();
    let before = signal::block(&[libc::SIGTERM, libc::SIGUSR2]).unwrap();
    let ours = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let blocked = |status: String| status.lines().find(|l| l.starts_with("SigBlk")).unwrap().to_owned();
    let mask = blocked(ours());
    let idler = Idler::start(|_| {}).unwrap();
    assert_eq!(blocked(ours()), mask);
    before.restore().unwrap();
    signal::default(libc::SIGUSR1).unwrap();
    let status = idler.status();
    for field in ["SigIgn", "SigBlk", "SigCgt", "SigPnd"] {
        assert_eq!(status[field], "0000000000000000", "{field}");
    }
    assert!(signal::is_ignored(libc::SIGPIPE).unwrap(), "Rust's own disposition is untouched");
}

#[test]
fn the_working_directory_and_the_cgroup_are_entered() {
    assert_eq!(shell("pwd -P", |s| s.cwd = Some(c"/usr/share")).1, "/usr/share\n");
    // Any file shows what would be written to a cgroup.procs.
    let path = std::env::temp_dir().join(format!("nexusflow-sys-{:x}", nexusflow_sys::file::random().unwrap()));
    let file = File::create(&path).unwrap();
    shell("", |s| s.cgroup = Some(borrow(&file)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "0");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_user_is_become_or_refused() {
    let identity = Some(Identity { uid: NOBODY, gid: NOBODY, groups: &[NOBODY, 12] });
    if !rustix::process::geteuid().is_root() {
        return fails(Step::Identity, libc::EPERM, |s| s.identity = identity);
    }
    let idler = Idler::start(|s| s.identity = identity).unwrap();
    let status = idler.status();
    assert_eq!(status["Uid"].split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(status["Gid"].split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    assert_eq!(status["Groups"], "12 65534");
}

#[test]
fn a_child_dies_with_the_thread_that_spawned_it() {
    let users = [None, Some(Identity { uid: NOBODY, gid: NOBODY, groups: &[] })];
    let users = if rustix::process::geteuid().is_root() { &users[..] } else { &users[..1] };
    for &identity in users {
        let start = move || {
            Idler::start(|s| {
                s.death_signal = Some(libc::SIGKILL);
                s.identity = identity;
            })
        };
        let idler = std::thread::spawn(start).join().unwrap().unwrap();
        let exit = process::wait(idler.0.pidfd.as_fd()).unwrap();
        assert_eq!(exit.status, Status::Signaled { signal: libc::SIGKILL, core: false });
    }
}

#[test]
fn programs_are_not_searched_for() {
    fails(Step::Execute, libc::ENOENT, |s| s.program = c"sleep");
}
