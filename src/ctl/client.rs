//! The other end of a run socket: finding the run that is meant, and asking it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nexusflow_sys::user::effective_uid;
use nexusflow_sys::{listen, socket};

use super::packets::{Answer, MAX_ANSWER, Request, VERSION};
use super::place;
use crate::diag::did_you_mean;

/// How long a run may take to answer: its loop waits for nothing, so one that takes longer is stopped or stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Runs named when none or several are meant.
const MAX_NAMED: usize = 8;

/// A run that can be asked.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    pub run: String,
    pub pipeline: String,
    pub pid: u32,
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum Error {
    /// The run will not: its reason, and what to do.
    Refused(String, Option<String>),
    /// The run has ended meanwhile.
    Gone,
    /// It does not answer.
    Silent,
    /// It says what no nexusflow says.
    Nonsense(String),
    Io(io::Error),
}

/// Why there is no run to ask.
#[derive(Debug)]
pub enum NotFound {
    /// The word, the runs that there are, and one that may be meant.
    NoSuch(String, Vec<String>, Option<String>),
    /// The word and some of the runs whose id starts so.
    Ambiguous(String, Vec<String>),
    /// There is one, and this is wrong with it.
    Failed(String, Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason, None) => f.write_str(reason),
            Self::Refused(reason, Some(help)) => write!(f, "{reason}\nhelp: {help}"),
            Self::Gone => f.write_str("the run has ended"),
            Self::Silent => write!(f, "the run does not answer within {} seconds", ANSWER_WITHIN.as_secs()),
            Self::Nonsense(what) => write!(f, "the run does not speak as a nexusflow of this version does: {what}"),
            Self::Io(e) => write!(f, "the run cannot be asked: {e}"),
        }
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuch(word, running, meant) => {
                write!(f, "no run that goes on, and no pipeline of one, is called `{word}`")?;
                match (running.as_slice(), meant) {
                    ([], _) => write!(f, ": nothing runs"),
                    (_, Some(meant)) => write!(f, "; did you mean `{meant}`?"),
                    (running, None) => write!(f, "; there are: {}", named(running)),
                }
            }
            Self::Ambiguous(word, runs) => write!(f, "`{word}` is the start of several runs: {}", named(runs)),
            Self::Failed(run, e) => write!(f, "{run}: {e}"),
        }
    }
}

impl std::error::Error for Error {}
impl std::error::Error for NotFound {}

fn named(runs: &[String]) -> String {
    let more = if runs.len() > MAX_NAMED { ", …" } else { "" };
    format!("{}{more}", runs[..runs.len().min(MAX_NAMED)].join(", "))
}

/// All runs that go on and answer, by their ids.
pub fn all(folders: &[PathBuf]) -> Vec<Connection> {
    let paths =
        folders.iter().flat_map(|folder| place::stems(folder).into_iter().map(|stem| place::path(folder, &stem)));
    let mut all: Vec<_> = paths.filter_map(|path| Connection::open(&path).ok()).collect();
    all.sort_by(|a, b| a.run.cmp(&b.run));
    all
}

/// The run that `word` means among those that go on: its id, the start of it, or a pipeline's name (its newest run).
pub fn find(folders: &[PathBuf], word: &str) -> Result<Connection, NotFound> {
    let all: Vec<(&Path, String)> = folders
        .iter()
        .flat_map(|folder| place::stems(folder).into_iter().map(move |stem| (folder.as_path(), stem)))
        .collect();
    let wanted = place::stem(word);
    let mut found: Vec<_> = all.iter().filter(|(_, stem)| *stem == wanted).collect();
    if found.is_empty() {
        // A pipeline's runs, newest first: the ids of one pipeline sort by their start.
        found = all.iter().filter(|(_, stem)| place::split(stem).is_some_and(|(p, _)| p == wanted)).collect();
        found.sort_by(|a, b| b.1.cmp(&a.1));
    }
    if found.is_empty() {
        found = all.iter().filter(|(_, stem)| !word.is_empty() && stem.starts_with(word)).collect();
        if found.len() > 1 {
            return Err(NotFound::Ambiguous(word.into(), found.into_iter().map(|(_, stem)| stem.clone()).collect()));
        }
    }
    for (folder, stem) in found {
        match Connection::open(&place::path(folder, stem)) {
            // Long names are cut short in the socket's name: this may be another's.
            Ok(c) if c.run.starts_with(word) || c.pipeline == word => return Ok(c),
            Ok(_) | Err(Error::Gone) => {}
            Err(e) => return Err(NotFound::Failed(stem.clone(), e)),
        }
    }
    let running: Vec<String> = all.into_iter().map(|(_, stem)| stem).collect();
    let pipelines = running.iter().filter_map(|run| Some(place::split(run)?.0));
    let meant = did_you_mean(word, running.iter().map(String::as_str).chain(pipelines)).map(str::to_owned);
    Err(NotFound::NoSuch(word.into(), running, meant))
}

impl Connection {
    fn open(path: &Path) -> Result<Self, Error> {
        let socket = listen::connect(path).map_err(|e| match e.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Error::Gone,
            io::ErrorKind::WouldBlock => Error::Silent,
            _ => Error::Io(e),
        })?;
        let (them, us) = (listen::peer_uid(&socket).map_err(Error::Io)?, effective_uid());
        if them != us && them != 0 && us != 0 {
            return Err(Error::Nonsense(format!("it is uid {them}'s")));
        }
        let mut connection = Self { socket, run: String::new(), pipeline: String::new(), pid: 0 };
        match connection.ask(&Request::Hello)?.0 {
            Answer::Hello { version, run, pipeline, pid } if version == VERSION => {
                (connection.run, connection.pipeline, connection.pid) = (run, pipeline, pid);
                Ok(connection)
            }
            Answer::Hello { version, .. } => Err(Error::Nonsense(format!("version {version}, not {VERSION}"))),
            other => Err(Error::Nonsense(format!("{other:?}"))),
        }
    }

    /// Asks and waits for the answer.
    pub fn ask(&self, request: &Request) -> Result<(Answer, Vec<OwnedFd>), Error> {
        self.send(request)?;
        if !socket::wait_readable(&self.socket, Some(ANSWER_WITHIN)).map_err(Error::Io)? {
            return Err(Error::Silent);
        }
        self.receive()
    }

    /// Asks; the answer is there once the socket can be read.
    pub fn send(&self, request: &Request) -> Result<(), Error> {
        let packet = serde_json::to_vec(request).map_err(|e| Error::Nonsense(e.to_string()))?;
        match socket::send(&self.socket, &packet, &[]) {
            // It may have said why before it hung up.
            Err(e) if !is_gone(&e) => Err(Error::Io(e)),
            _ => Ok(()),
        }
    }

    /// The answer to what was [sent](Self::send).
    pub fn receive(&self) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let mut buffer = vec![0; MAX_ANSWER];
        let received = match socket::receive(&self.socket, &mut buffer) {
            // Told once, before what it had sent, if it left something of ours unread.
            Err(e) if is_gone(&e) => socket::receive(&self.socket, &mut buffer),
            received => received,
        };
        let (n, fds) = received.map_err(|e| if is_gone(&e) { Error::Gone } else { Error::Io(e) })?;
        if n == 0 {
            return Err(Error::Gone);
        }
        match serde_json::from_slice(&buffer[..n]) {
            Ok(Answer::Refused { reason, help }) => Err(Error::Refused(reason, help)),
            Ok(answer) => Ok((answer, fds)),
            Err(e) => Err(Error::Nonsense(e.to_string())),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
