//! The second process: the same program again, on the other CPU, told what to do over a socket.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nexusflow_sys::{sched, socket};

use crate::transport::{LAST, Rx, Tx, read};
use crate::{Result, objects, ours, queues, raw, streams};

const VARIABLE: &str = "EDGES_BENCH_PEER";
/// No measurement takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The other process, as this one sees it. One for each measurement that needs a transport: nothing is left over from
/// the last one.
pub struct Peer {
    child: Child,
    socket: OwnedFd,
}

/// What a process that is a peer was told at its start: its CPU.
pub fn order() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

impl Peer {
    pub fn start(cpu: u32) -> Result<Self> {
        let (ours, theirs) = socket::pair()?;
        let child =
            Command::new(std::env::current_exe()?).env(VARIABLE, cpu.to_string()).stdin(Stdio::from(theirs)).spawn()?;
        Ok(Self { child, socket: ours })
    }

    /// Tells it what to do next.
    pub fn order(&self, what: &str, len: usize, fds: Vec<OwnedFd>) -> Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        Ok(socket::send(&self.socket, format!("{what} {len}").as_bytes(), &fds)?)
    }

    /// Waits until it is ready, or has done what it was told.
    pub fn done(&self) -> Result<()> {
        if !socket::wait_readable(&self.socket, Some(PATIENCE))? {
            return Err("the other process does not answer".into());
        }
        let mut buffer = [0; 256];
        let (n, _) = socket::receive(&self.socket, &mut buffer)?;
        match &buffer[..n] {
            b"done" => Ok(()),
            [] => Err("the other process has died".into()),
            what => Err(String::from_utf8_lossy(what).into()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the second process does.
pub fn serve(cpu: &str) -> Result<()> {
    sched::set_affinity(0, &[cpu.parse()?])?;
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut buffer = [0; 256];
    loop {
        let (n, fds) = socket::receive(&control, &mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let Some((what, len)) = text.rsplit_once(' ') else { return Ok(()) };
        let answer = match act(&control, what, len.parse()?, fds) {
            Ok(()) => "done".to_owned(),
            Err(e) => e.to_string(),
        };
        socket::send(&control, &answer.as_bytes()[..answer.len().min(200)], &[])?;
    }
}

fn act(control: &OwnedFd, what: &str, len: usize, fds: Vec<OwnedFd>) -> Result<()> {
    let ready = || -> Result<()> { Ok(socket::send(control, b"done", &[])?) };
    if let ["objects", sealed, slots] = what.split(' ').collect::<Vec<_>>()[..] {
        return objects::serve(sealed.parse()?, slots.parse()?, len, fds);
    }
    match what.split_once(' ') {
        None => raw::echo(what == "futexes", &fds),
        Some((how, "ours")) => {
            let (tx, rx) = ours::attach(fds)?;
            ready()?;
            answer(how, len, tx, rx)
        }
        Some((how, "iceoryx2")) => {
            let (tx, rx) = queues::Ice::pair(fds, false, len, false)?;
            ready()?;
            answer(how, len, tx, rx)
        }
        Some((how, "iceoryx2-listener")) => {
            let (tx, rx) = queues::Ice::pair(fds, false, len, true)?;
            ready()?;
            answer(how, len, tx, rx)
        }
        Some((how, "zeromq")) => {
            let (tx, rx) = queues::zeromq(fds, false)?;
            ready()?;
            answer(how, len, tx, rx)
        }
        Some((how, _)) => {
            let (tx, rx) = streams::ends(fds)?;
            ready()?;
            answer(how, len, tx, rx)
        }
    }
}

/// `echo`: sends each message back. `sink`: reads all, then sends one back.
fn answer(how: &str, len: usize, mut tx: impl Tx, mut rx: impl Rx) -> Result<()> {
    loop {
        let mut number = 0;
        rx.recv(len, |message| number = read(message))?;
        if how == "echo" || number == LAST {
            tx.send(len, |message| crate::transport::write(message, number))?;
        }
        if number == LAST {
            return Ok(());
        }
    }
}
