//! A process as a stage of a pipeline: the handshake, who it is, and its edges.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nexusflow_sys::socket;

use crate::error::{Error, Result};
use crate::input::Input;
use crate::journal::{Entry, Journal};
use crate::late::{Asked, Late};
use crate::names;
use crate::object::{Keeper, Link, ObjectInput, ObjectOutput, Reader, Writer};
use crate::output::Output;
use crate::protocol::{
    self, CONTROL_FD_VARIABLE, Direction, EdgeInfo, EdgeKind, EdgePage, FromStage, HANDSHAKE_TIMEOUT, Hello, Identity,
    MAX_EDGES, Refusal, RingInfo, StoreInfo, ToStage, VERSIONS,
};
use crate::ring::{Consumer, Producer};
use crate::transfer::Transfer;

/// The most rings of one edge that one stage has.
pub const MAX_RINGS: u32 = 4096;

/// This process as a stage.
#[derive(Debug)]
pub struct Stage {
    identity: Identity,
    edges: Vec<EdgeInfo>,
    session: Arc<Mutex<Session>>,
}

/// What the runner is asked through, by one at a time.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) control: OwnedFd,
    pub(crate) asked: Asked,
    /// By number of edge.
    opened: Vec<bool>,
    transfers: bool,
}

impl Stage {
    /// Takes up the socket that nexusflow started this process with. Once per process.
    pub fn from_env() -> Result<Self> {
        let not_a_stage = |why: String| Error::NotAStage(why);
        let value =
            std::env::var(CONTROL_FD_VARIABLE).map_err(|_| not_a_stage(format!("{CONTROL_FD_VARIABLE} is not set")))?;
        let number = value
            .parse()
            .map_err(|_| not_a_stage(format!("{CONTROL_FD_VARIABLE} is `{value}`, which is no descriptor")))?;
        let control = socket::take_inherited(number).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => not_a_stage("Stage::from_env was called before".to_owned()),
            _ => not_a_stage(format!("descriptor {number} of {CONTROL_FD_VARIABLE} is not the runner's socket")),
        })?;
        Self::from_socket(control)
    }

    /// Does the handshake on a control socket that came another way than through the environment.
    pub fn from_socket(control: OwnedFd) -> Result<Self> {
        let hello = FromStage::Hello(Hello::ours());
        let (answer, _) = request(&control, &hello, Some(HANDSHAKE_TIMEOUT))?;
        let ToStage::Welcome { identity, edges } = answer else { return Err(unexpected()) };
        let mut all = Vec::new();
        let mut page = edges;
        loop {
            let EdgePage { total, from, edges } = page;
            if from as usize != all.len() || total as usize > MAX_EDGES {
                return Err(unexpected());
            }
            let grown = !edges.is_empty();
            all.extend(edges);
            if all.len() >= total as usize {
                break;
            }
            let more = FromStage::ListEdges { from: all.len() as u32 };
            match request(&control, &more, Some(HANDSHAKE_TIMEOUT))?.0 {
                ToStage::Edges(next) if grown => page = next,
                _ => return Err(unexpected()),
            }
        }
        let opened = vec![false; all.len()];
        let session = Session { control, asked: Asked::default(), opened, transfers: false };
        Ok(Self { identity, edges: all, session: Arc::new(Mutex::new(session)) })
    }

    /// The stage's name in the pipeline file.
    pub fn name(&self) -> &str {
        &self.identity.stage
    }

    /// Which replica this is: from 0.
    pub fn replica(&self) -> u32 {
        self.identity.replica
    }

    /// How many replicas the stage has.
    pub fn replicas(&self) -> u32 {
        self.identity.replicas
    }

    /// Which process of this replica this is: 1, and one more after each restart.
    pub fn attempt(&self) -> u32 {
        self.identity.attempt
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.identity.run
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.identity.pipeline
    }

    /// The names of the edges that this stage reads, in the order of the pipeline file.
    pub fn inputs(&self) -> Vec<&str> {
        self.names(Direction::Input)
    }

    /// The names of the edges that this stage writes, in the order of the pipeline file.
    pub fn outputs(&self) -> Vec<&str> {
        self.names(Direction::Output)
    }

    /// Opens an edge to read. It waits until everyone on the edge runs.
    pub fn input(&self, name: &str) -> Result<Input> {
        let edge = self.find(name, Direction::Input, false)?;
        let rings = self.attach(edge, |answer, fds| Consumer::from_fds(name, ring(answer)?.shape, fds))?;
        let info = &self.edges[edge];
        let late = info.is_handed_on().then(|| Late::new(&self.session, name, info.rings)).transpose()?;
        Ok(Input::new(name, rings).with_late(late))
    }

    /// Opens an edge to write. It waits until everyone on the edge runs.
    pub fn output(&self, name: &str) -> Result<Output> {
        let edge = self.find(name, Direction::Output, false)?;
        let rings = self.attach(edge, |answer, fds| Producer::from_fds(name, ring(answer)?.shape, fds))?;
        let EdgeInfo { max_message, by, .. } = self.edges[edge];
        Ok(Output::new(name, usize::try_from(max_message).unwrap_or(usize::MAX), by, rings))
    }

    /// Opens edges whose messages are received, worked on and sent exactly once, also when this process is killed at any
    /// instant and followed by another: all that was received and sent, and a tag, is [committed](Transfer::commit)
    /// together.
    ///
    /// A stage has one transfer, and an edge in it is used in no other way. Inputs may be none, and so may outputs.
    pub fn transfer(&self, inputs: &[&str], outputs: &[&str]) -> Result<Transfer> {
        let find = |names: &[&str], direction| {
            names.iter().map(|n| self.find(n, direction, false)).collect::<Result<Vec<_>>>()
        };
        let (input_edges, output_edges) = (find(inputs, Direction::Input)?, find(outputs, Direction::Output)?);
        let (journal, entry) = self.journal()?;
        let number = |edge: &usize| u32::try_from(*edge).unwrap_or(u32::MAX); // at most MAX_EDGES
        let inputs = inputs.iter().map(|name| self.input(name)).collect::<Result<Vec<_>>>()?;
        let outputs = outputs.iter().map(|name| self.output(name)).collect::<Result<Vec<_>>>()?;
        let inputs = input_edges.iter().map(number).zip(inputs).collect();
        let outputs = output_edges.iter().map(number).zip(outputs).collect();
        Transfer::begin(journal, entry, inputs, outputs)
    }

    fn journal(&self) -> Result<(Journal, Entry)> {
        let mut session = lock(&self.session);
        if std::mem::replace(&mut session.transfers, true) {
            return Err(Error::SecondTransfer);
        }
        match session.ask(&FromStage::Journal, None)? {
            (ToStage::Journal { len }, fds) if fds.len() == 1 => Journal::open(&fds[0], len),
            _ => Err(unexpected()),
        }
    }

    /// Opens an object edge to read. It waits until everyone on the edge runs.
    pub fn object_input(&self, name: &str) -> Result<ObjectInput> {
        let edge = self.find(name, Direction::Input, true)?;
        let stores = self.attach(edge, |answer, fds| {
            let info = store(answer)?;
            Reader::from_fds(name, info.shape, fds, self.keeper(name, info.store))
        })?;
        Ok(ObjectInput::new(name, stores))
    }

    /// Opens an object edge to write. It waits until everyone on the edge runs.
    pub fn object_output(&self, name: &str) -> Result<ObjectOutput> {
        let edge = self.find(name, Direction::Output, true)?;
        let mut stores = self.attach(edge, |answer, fds| {
            let info = store(answer)?;
            Writer::from_fds(name, info.shape, fds, self.keeper(name, info.store))
        })?;
        let EdgeInfo { max_message, by, .. } = self.edges[edge];
        let (Some(store), true) = (stores.pop(), stores.is_empty()) else { return Err(unexpected()) };
        store.choose_by(by)?;
        Ok(ObjectOutput::new(name, usize::try_from(max_message).unwrap_or(usize::MAX), store))
    }

    /// The runner, which keeps sealed objects.
    fn keeper(&self, edge: &str, store: u32) -> Arc<dyn Keeper> {
        Arc::new(Link::new(self.session.clone(), edge, store))
    }

    fn names(&self, direction: Direction) -> Vec<&str> {
        self.edges.iter().filter(|e| e.direction == direction).map(|e| e.name.as_str()).collect()
    }

    /// The number of an edge.
    fn find(&self, name: &str, direction: Direction, objects: bool) -> Result<usize> {
        let (what, other) = match direction {
            Direction::Input => ("input", "output"),
            Direction::Output => ("output", "input"),
        };
        let help = match self.edges.iter().position(|e| e.name == name) {
            Some(number) if self.edges[number].direction == direction => {
                match (self.edges[number].kind != EdgeKind::Ring, objects) {
                    (true, false) => format!("it carries objects: open it with `object_{what}`"),
                    (false, true) => format!("it carries messages, not objects: open it with `{what}`"),
                    _ => return Ok(number),
                }
            }
            Some(number) if self.edges[number].kind != EdgeKind::Ring => {
                format!("it is an {other} of this stage: open it with `object_{other}`")
            }
            Some(_) => format!("it is an {other} of this stage: open it with `{other}`"),
            None => names::help(name, &self.names(direction), what),
        };
        Err(Error::UnknownEdge { name: name.to_owned(), help })
    }

    /// Asks for every ring or store of an edge.
    fn attach<T>(&self, edge: usize, open: impl Fn(ToStage, Vec<OwnedFd>) -> Result<T>) -> Result<Vec<T>> {
        let info = &self.edges[edge];
        let opened = std::mem::replace(&mut lock(&self.session).opened[edge], true);
        if opened {
            return Err(Error::AlreadyOpen { edge: info.name.clone() });
        }
        if info.rings == 0 || info.rings > MAX_RINGS {
            return Err(Error::Protocol(format!("announced {} rings for edge `{}`", info.rings, info.name)));
        }
        (0..info.rings)
            .map(|ring| {
                let wanted = FromStage::Attach { edge: info.name.clone(), ring };
                let (answer, fds) = lock(&self.session).ask(&wanted, None)?;
                let named = match &answer {
                    ToStage::Ring(got) => (&got.edge, got.ring),
                    ToStage::Store(got) => (&got.edge, got.store),
                    _ => return Err(unexpected()),
                };
                if named != (&info.name, ring) {
                    return Err(unexpected());
                }
                open(answer, fds)
            })
            .collect()
    }
}

impl Session {
    #[cfg(test)]
    pub(crate) fn of(control: OwnedFd) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { control, asked: Asked::default(), opened: vec![], transfers: false }))
    }

    /// Asks the runner, for as long as it takes.
    pub(crate) fn ask(&mut self, what: &FromStage, fd: Option<BorrowedFd<'_>>) -> Result<(ToStage, Vec<OwnedFd>)> {
        self.asked.settle(&self.control)?;
        request_with(&self.control, what, fd.as_slice(), None)
    }
}

/// What the runner said last is whole, also if a thread that asked has panicked.
pub(crate) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ring(answer: ToStage) -> Result<RingInfo> {
    if let ToStage::Ring(info) = answer { Ok(info) } else { Err(unexpected()) }
}

fn store(answer: ToStage) -> Result<StoreInfo> {
    if let ToStage::Store(info) = answer { Ok(info) } else { Err(unexpected()) }
}

pub(crate) fn unexpected() -> Error {
    Error::Protocol("sent an answer to another question".to_owned())
}

/// Asks, and waits for the answer.
fn request(control: impl AsFd, what: &FromStage, timeout: Option<Duration>) -> Result<(ToStage, Vec<OwnedFd>)> {
    request_with(control, what, &[], timeout)
}

fn request_with(
    control: impl AsFd,
    what: &FromStage,
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> Result<(ToStage, Vec<OwnedFd>)> {
    protocol::send(&control, what, fds).map_err(failed)?;
    answer(&control, timeout)
}

pub(crate) fn ask(control: impl AsFd, what: &FromStage) -> Result<()> {
    protocol::send(&control, what, &[]).map_err(failed)
}

pub(crate) fn answer(control: impl AsFd, timeout: Option<Duration>) -> Result<(ToStage, Vec<OwnedFd>)> {
    if !socket::wait_readable(&control, timeout).map_err(failed)? {
        return Err(Error::Protocol("did not answer in time".to_owned()));
    }
    match protocol::receive(&control).map_err(failed)? {
        None => Err(Error::RunnerGone),
        Some((ToStage::Refuse { code: Refusal::Version, text }, _)) => {
            Err(Error::Version { offered: VERSIONS, reason: text })
        }
        Some((ToStage::Refuse { text, .. }, _)) => Err(Error::Protocol(text)),
        Some(answer) => Ok(answer),
    }
}

fn failed(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Error::RunnerGone,
        std::io::ErrorKind::InvalidData => Error::Protocol(e.to_string()),
        _ => Error::Io { doing: "talk to the nexusflow runner", source: e },
    }
}
