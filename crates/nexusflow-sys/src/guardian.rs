//! The guardian: the runner's parent, a tiny process that outlives it just long enough to kill every descendant it left,
//! and that passes signals on meanwhile.
//!
//! Runner and guardian each notice the other's end: the guardian by SIGCHLD, the runner by a pipe whose writing end only
//! the guardian holds. Both are child subreapers, so what a stage leaves behind becomes the runner's child, and the
//! guardian's when the runner has died.

use crate::children::kill_all_descendants;
use crate::process::{self, ForkSide, Status};
use crate::raw::{check, error};
use crate::{signal, spawn};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long descendants get to die by SIGKILL. Only what sits in the kernel, or another user's process, takes longer.
pub const KILL_LIMIT: Duration = Duration::from_secs(10);

const LAST_WORDS: &[u8] = b"nexusflow: the runner was killed; whatever it had started is being killed too\n";

/// What is passed on to the runner. Ctrl-Z does nothing: a guardian that is stopped guards nothing.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// The runner's view of its guardian.
#[derive(Debug)]
pub struct Guardian {
    /// Hangs up (readable, end of file) when the guardian has died; then `kill_all_descendants` is the runner's duty.
    pub lifeline: OwnedFd,
    pub pid: u32,
}

/// Puts this process under a guardian: forks, and returns in the child, which is from now on the runner, in a process group
/// of its own. The parent becomes the guardian and ends as the runner does. Call it early, while single-threaded.
pub fn under_guardian() -> io::Result<Guardian> {
    let (lifeline, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let guardian = process::getpid();
    // Before there is a runner, or what it leaves would be init's if it died before we are scheduled again. The runner does
    // not inherit it.
    process::set_child_subreaper()?;
    // An inherited SIG_IGN would have the kernel reap the runner, and its exit code with it.
    signal::default(libc::SIGCHLD)?;
    // Nothing may kill the guardian before it listens.
    let before = signal::block_all_but(&[libc::SIGCONT])?;
    match process::fork_single_threaded() {
        Ok(ForkSide::Child) => {
            drop(held);
            become_runner(&before)?;
            Ok(Guardian { lifeline, pid: guardian })
        }
        Ok(ForkSide::Parent(runner)) => {
            drop(lifeline);
            guard(&runner)
        }
        Err(e) => {
            before.restore()?;
            Err(e)
        }
    }
}

fn become_runner(before: &signal::Mask) -> io::Result<()> {
    own_group(0)?;
    process::set_child_subreaper()?;
    // In the background of its terminal now, it shall write to it all the same.
    signal::ignore(libc::SIGTTOU)?;
    signal::ignore(libc::SIGTTIN)?;
    before.restore()
}

fn own_group(pid: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setpgid(pid, pid) }).map(drop)
}

/// The guardian's whole life. No heap from here on: the fork left it as it was, but a small process needs none.
fn guard(runner: &spawn::Child) -> ! {
    // On both sides, so that it holds whoever runs first; fails once the runner has set it or ended, which is as well.
    let _ = own_group(runner.pid as i32);
    let _ = rustix::thread::set_name(c"nexusflow-guard");
    let code = match wait_for(runner) {
        Ok(status) => {
            if let Status::Signaled { .. } = status {
                // Nobody else is left to say it.
                let _ = rustix::io::write(rustix::stdio::stderr(), LAST_WORDS);
            }
            status.code()
        }
        Err(_) => {
            // Cannot happen, since we have a child and blocked what we wait for; a runner without a guardian must not go on.
            let _ = process::signal(runner.pidfd.as_fd(), libc::SIGKILL);
            128 + libc::SIGKILL
        }
    };
    kill_all_descendants(KILL_LIMIT);
    // SAFETY: ends the process without the exit handlers and buffers that are the runner's.
    unsafe { libc::_exit(code) }
}

/// Passes signals on until the runner has ended; reaps what it leaves to us meanwhile, which is nothing as long as it lives.
fn wait_for(runner: &spawn::Child) -> io::Result<Status> {
    // Who was told to ignore a signal (nohup, a script's background job) stays deaf to it.
    let mut deaf = [false; FORWARDED.len()];
    for (deaf, signal) in deaf.iter_mut().zip(FORWARDED) {
        *deaf = signal::is_ignored(signal)?;
    }
    let awaited = signal::set(FORWARDED.iter().chain(&[libc::SIGCHLD]))?;
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: reads the set, writes one siginfo.
        match unsafe { libc::sigwaitinfo(&raw const awaited, info.as_mut_ptr()) } {
            libc::SIGCHLD => {
                while let Some((pid, exit)) = process::wait_any_nonblocking()? {
                    if pid == runner.pid {
                        return Ok(exit.status);
                    }
                }
            }
            number if FORWARDED.iter().zip(deaf).any(|(s, deaf)| *s == number && deaf) => {}
            number if number > 0 => {
                // It may just have ended; then SIGCHLD is next.
                let _ = process::signal(runner.pidfd.as_fd(), number);
            }
            // Interrupted by a stop and continue.
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => return Err(error(libc::EINVAL)),
        }
    }
}
