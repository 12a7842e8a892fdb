//! Nothing outlives the runner: whoever of runner and guardian dies first and however, a stage that has forked away and
//! made a session of its own is gone too. The test starts itself as the runner, which starts itself as such a stage.

use nexusflow_sys::children::kill_all_descendants;
use nexusflow_sys::guardian::{KILL_LIMIT, under_guardian};
use nexusflow_sys::process::{self, ForkSide, fork_single_threaded};
use nexusflow_sys::signal::{self, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio, exit};

/// Far longer than anything here takes.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["runner"] => runner(),
        ["daemon"] => daemon(),
        // What test runners ask before they run.
        _ if arguments.iter().any(|a| a == "--list") => {}
        _ => {
            for (name, test) in TESTS {
                test();
                println!("test {name} ... ok");
            }
        }
    }
}

/// What a runner here listens to: end with 3, say so, end with 5.
const ORDERS: [i32; 3] = [libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

const TESTS: [(&str, fn()); 6] = [
    ("a_killed_runner_takes_all_with_it", a_killed_runner_takes_all_with_it),
    ("a_killed_guardian_is_noticed", a_killed_guardian_is_noticed),
    ("an_ended_runner_leaves_nothing", an_ended_runner_leaves_nothing),
    ("signals_are_passed_on", signals_are_passed_on),
    ("a_stopped_guardian_does_not_stop_the_runner", a_stopped_guardian_does_not_stop_the_runner),
    ("a_process_with_threads_may_not_fork", a_process_with_threads_may_not_fork),
];

// The actors.

/// A line to whoever reads our stdout, in one write and with no buffer that a fork could double.
fn say(line: &str) {
    File::from(rustix::io::dup(std::io::stdout()).unwrap()).write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments);
    command
}

fn runner() -> ! {
    signal::default(libc::SIGCHLD).unwrap();
    let guardian = under_guardian().unwrap();
    assert_eq!(guardian.pid, process::getppid());
    signal::block(&ORDERS).unwrap();
    assert!(myself(&["daemon"]).status().unwrap().success());
    let signals = SignalFd::new(&ORDERS).unwrap();
    say(&format!("runner {}", process::getpid()));
    loop {
        let mut fds = [PollFd::new(&guardian.lifeline, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        poll(&mut fds, Some(&PATIENCE)).unwrap();
        if !fds[0].revents().is_empty() {
            say(&format!("alone {}", kill_all_descendants(KILL_LIMIT)));
            exit(0);
        }
        match signals.read().unwrap() {
            Some(arrived) if arrived.signal == libc::SIGTERM => exit(3),
            Some(arrived) if arrived.signal == libc::SIGUSR2 => exit(5),
            Some(arrived) => say(&format!("signal {}", arrived.signal)),
            None => exit(9),
        }
    }
}

/// Forks twice with a session between, as daemons do; returns to its starter at once.
fn daemon() -> ! {
    let forked = |side| {
        if let ForkSide::Parent(_) = side {
            exit(0)
        }
    };
    forked(fork_single_threaded().unwrap());
    rustix::process::setsid().unwrap();
    forked(fork_single_threaded().unwrap());
    say(&format!("daemon {}", process::getpid()));
    loop {
        std::thread::park();
    }
}

// The tests' side.

struct Scene {
    guardian: Child,
    lines: Lines<BufReader<ChildStdout>>,
    runner: (u32, OwnedFd),
    daemon: (u32, OwnedFd),
}

impl Scene {
    fn start() -> Scene {
        let mut guardian = myself(&["runner"]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(guardian.stdout.take().unwrap()).lines();
        let mut pids = [0, 0];
        for _ in 0..2 {
            let line = lines.next().unwrap().unwrap();
            let (who, pid) = line.split_once(' ').unwrap();
            pids[usize::from(who == "daemon")] = pid.parse().unwrap();
        }
        let [runner, daemon] = pids;
        let open = |pid| (pid, process::open(pid).unwrap());
        Scene { guardian, lines, runner: open(runner), daemon: open(daemon) }
    }

    /// Nobody is left, since nobody holds the pipe any more; and the pidfds agree.
    fn is_over(&mut self) {
        assert!(self.lines.next().is_none());
        assert!(has_ended(&self.runner.1) && has_ended(&self.daemon.1));
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&PATIENCE)).unwrap() == 1
}

fn send(pid: u32, signal: i32) {
    process::signal(process::open(pid).unwrap().as_fd(), signal).unwrap();
}

fn a_killed_runner_takes_all_with_it() {
    let mut scene = Scene::start();
    send(scene.runner.0, libc::SIGKILL);
    assert_eq!(scene.guardian.wait().unwrap().code(), Some(137));
    // Not merely soon: when the guardian has ended, all are gone.
    assert!(!std::path::Path::new(&format!("/proc/{}", scene.daemon.0)).exists());
    scene.is_over();
}

fn a_killed_guardian_is_noticed() {
    let mut scene = Scene::start();
    send(scene.guardian.id(), libc::SIGKILL);
    scene.guardian.wait().unwrap();
    assert_eq!(scene.lines.next().unwrap().unwrap(), "alone true");
    scene.is_over();
}

fn an_ended_runner_leaves_nothing() {
    let mut scene = Scene::start();
    send(scene.runner.0, libc::SIGUSR2);
    assert_eq!(scene.guardian.wait().unwrap().code(), Some(5));
    scene.is_over();
}

fn signals_are_passed_on() {
    let mut scene = Scene::start();
    send(scene.guardian.id(), libc::SIGUSR1);
    assert_eq!(scene.lines.next().unwrap().unwrap(), format!("signal {}", libc::SIGUSR1));
    send(scene.guardian.id(), libc::SIGTERM);
    assert_eq!(scene.guardian.wait().unwrap().code(), Some(3));
    scene.is_over();
}

fn a_stopped_guardian_does_not_stop_the_runner() {
    let mut scene = Scene::start();
    // As a terminal does it: to the whole foreground group.
    process::signal_group(scene.guardian.id(), libc::SIGSTOP).unwrap();
    send(scene.runner.0, libc::SIGUSR1);
    assert_eq!(scene.lines.next().unwrap().unwrap(), format!("signal {}", libc::SIGUSR1));
    process::signal_group(scene.guardian.id(), libc::SIGCONT).unwrap();
    send(scene.guardian.id(), libc::SIGTERM);
    assert_eq!(scene.guardian.wait().unwrap().code(), Some(3));
    scene.is_over();
}

fn a_process_with_threads_may_not_fork() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    assert!(fork_single_threaded().is_err());
    drop(sender);
    thread.join().unwrap().unwrap_err();
}
