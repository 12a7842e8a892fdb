//! The control socket of one attempt: answers its hello, lists its edges, hands its rings out once every
//! mate of its gang runs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nexusflow_stage::object::Keeper;
use nexusflow_stage::protocol::{
    self, Answer, EdgeInfo, EdgeKind, FromStage, Host, Identity, Malformed, Refusal, RingInfo, StoreInfo, ToStage,
};

use super::Context;
use super::wiring::{Gang, Late, Ring, by, own_edges, wait_mode};
use crate::pipeline::{Direction, EdgeId, StageId};
use crate::plan::TaskId;
use crate::spec::{Delivery, Kind};

/// Answers that one stage may let wait; one that asks for more without reading is cut off.
const MAX_PENDING: usize = 8192;

/// The runner's side of one attempt's socket.
pub(super) struct Control {
    socket: OwnedFd,
    host: Host,
    /// In the order of the host's edges.
    edges: Vec<(EdgeId, Direction)>,
    owner: (StageId, u32),
    pending: VecDeque<Answer>,
}

/// What is to be watched for after a socket has been served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    /// Its buffer is full: also when it can take more.
    ReadAndWrite,
    /// It has hung up, or spoke nonsense.
    Close,
    /// A ring could not be handed out.
    Failed(String),
}

impl Control {
    pub fn new(socket: OwnedFd, cx: &Context, gang: &Gang, task: TaskId, attempt: u32) -> Self {
        let planned = cx.plan.task(task);
        let stage = cx.pipeline.stage(planned.stage);
        let owner = (planned.stage, planned.replica);
        let edges: Vec<_> = own_edges(cx, planned.stage).collect();
        let identity = Identity {
            version: 0,
            run: cx.run_id.clone(),
            pipeline: cx.pipeline.name.clone(),
            stage: stage.name.clone(),
            replica: planned.replica,
            replicas: stage.replicas,
            attempt,
        };
        let infos = edges.iter().map(|&(id, direction)| {
            let edge = cx.pipeline.edge(id);
            let rings = match direction {
                Direction::Input if edge.kind == Kind::Object => gang.stores().read_by(owner, id).count(),
                Direction::Output if edge.kind == Kind::Object => gang.stores().written_by(owner, id).iter().count(),
                Direction::Input => gang.read_by(owner, id).count(),
                Direction::Output => gang.written_by(owner, id).count(),
            };
            EdgeInfo {
                name: edge.name.clone(),
                direction: match direction {
                    Direction::Input => protocol::Direction::Input,
                    Direction::Output => protocol::Direction::Output,
                },
                delivery: match edge.delivery {
                    Delivery::Broadcast => protocol::Delivery::Broadcast,
                    Delivery::Distribute => protocol::Delivery::Distribute,
                },
                by: by(edge.by),
                wait: wait_mode(edge.wait),
                max_message: edge.max_message,
                rings: rings as u32,
                kind: match edge.kind {
                    Kind::Object if edge.sealed => EdgeKind::Sealed,
                    Kind::Object => EdgeKind::Object,
                    Kind::Ring | Kind::Pipe => EdgeKind::Ring,
                },
            }
        });
        let host = Host::new(identity, infos.collect());
        Self { socket, host, edges, owner, pending: VecDeque::new() }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what has come and sends what can be sent.
    pub fn serve(&mut self, gang: &mut Gang) -> Next {
        loop {
            let (said, fds) = match protocol::receive::<FromStage>(&self.socket) {
                Ok(Some((said, fds))) => (Ok(said), fds),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    (Err(Malformed("no packet of this protocol")), vec![])
                }
                Ok(None) | Err(_) => return Next::Close,
            };
            if self.pending.len() >= MAX_PENDING {
                return Next::Close;
            }
            let answer = match self.host.answer(said) {
                Answer::Publish { edge, slot, serial, len } => self.keep(gang, edge, (slot, serial, len), fds),
                Answer::Sweep { edge } => self.sweep(gang, edge),
                answer => answer,
            };
            self.pending.push_back(answer);
        }
        self.flush(gang)
    }

    fn flush(&mut self, gang: &mut Gang) -> Next {
        while let Some(answer) = self.pending.front() {
            let sent = match answer {
                Answer::Send(packet) | Answer::SendAndClose(packet) => protocol::send(&self.socket, packet, &[]),
                Answer::Journal => match self.send_journal(gang) {
                    Err(e) if !is_peers(e.kind()) => {
                        return Next::Failed(format!("the journal of its transfers could not be made: {e}"));
                    }
                    sent => sent,
                },
                Answer::Take { edge, store, slot, serial } => self.send_object(gang, *edge, *store, (*slot, *serial)),
                Answer::Publish { .. } | Answer::Sweep { .. } => unreachable!("done when it came"),
                Answer::Ring { .. } | Answer::Late { .. } if !gang.is_open() => return Next::Read,
                Answer::Late { edge, ring } => {
                    let (id, number) = (self.edges[*edge].0, *ring as usize - self.host.edges()[*edge].rings as usize);
                    let sent = match gang.late(self.owner, id, number) {
                        Ok(Late::Wait) => return Next::Read,
                        Ok(Late::NoMore) => protocol::send(&self.socket, &ToStage::NoMore, &[])
                            .inspect(|()| gang.answered(self.owner, id)),
                        Ok(Late::Ring(i, at)) => self.send(*edge, *ring, gang.ring(i), Some(at)),
                        Err(what) => Err(io::Error::other(what)),
                    };
                    match sent {
                        Err(e) if !is_peers(e.kind()) => {
                            let edge = &self.host.edges()[*edge].name;
                            return Next::Failed(format!(
                                "what others left of edge `{edge}` could not be handed on: {e}"
                            ));
                        }
                        sent => sent,
                    }
                }
                Answer::Ring { edge, ring } => match self.send_ring(gang, *edge, *ring) {
                    Err(e) if !is_peers(e.kind()) => {
                        let edge = &self.host.edges()[*edge].name;
                        return Next::Failed(format!("edge `{edge}` could not be handed out: {e}"));
                    }
                    sent => sent,
                },
            };
            match sent {
                Ok(()) if matches!(answer, Answer::SendAndClose(_)) => return Next::Close,
                Ok(()) => _ = self.pending.pop_front(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Next::ReadAndWrite,
                Err(_) => return Next::Close,
            }
        }
        Next::Read
    }

    fn send_journal(&self, gang: &mut Gang) -> io::Result<()> {
        let (fd, len) = gang.journal(self.owner, self.edges.iter().map(|e| e.0))?;
        protocol::send(&self.socket, &ToStage::Journal { len }, &[fd])
    }

    /// Takes over a sealed object, then says so.
    fn keep(&self, gang: &Gang, edge: usize, what: (u32, u64, u64), mut fds: Vec<OwnedFd>) -> Answer {
        let (slot, serial, len) = what;
        let stored = gang.stores().written_by(self.owner, self.edges[edge].0);
        let kept = match (stored, fds.pop()) {
            (Some(stored), Some(object)) if fds.is_empty() => {
                stored.store.publish(slot, serial, len, object).map_err(|e| e.to_string())
            }
            _ => Err("an object comes with one descriptor".to_owned()),
        };
        self.published(edge, kept)
    }

    fn sweep(&self, gang: &Gang, edge: usize) -> Answer {
        let stored = gang.stores().written_by(self.owner, self.edges[edge].0);
        self.published(edge, stored.map_or(Ok(()), |s| s.store.sweep().map_err(|e| e.to_string())))
    }

    fn published(&self, edge: usize, done: Result<(), String>) -> Answer {
        Answer::Send(match done {
            Ok(()) => ToStage::Published,
            Err(what) => {
                let text = format!("edge `{}`: {what}", self.host.edges()[edge].name);
                ToStage::Refuse { code: Refusal::Malformed, text }
            }
        })
    }

    fn send_object(&self, gang: &Gang, edge: usize, store: u32, (slot, serial): (u32, u64)) -> io::Result<()> {
        let found = gang.stores().read_by(self.owner, self.edges[edge].0).nth(store as usize);
        match found.map(|(stored, _)| stored.store.take(slot, serial)) {
            Some(Ok(object)) => protocol::send(&self.socket, &ToStage::Object, &[object.as_fd()]),
            _ => {
                let text = format!("edge `{}` holds no such object", self.host.edges()[edge].name);
                protocol::send(&self.socket, &ToStage::Refuse { code: Refusal::UnknownRing, text }, &[])
            }
        }
    }

    fn send_store(&self, gang: &Gang, edge: usize, store: u32) -> io::Result<()> {
        let (id, direction) = self.edges[edge];
        let stores = gang.stores();
        let found = match direction {
            Direction::Input => stores.read_by(self.owner, id).nth(store as usize).map(|(s, at)| (s, Some(at))),
            Direction::Output => stores.written_by(self.owner, id).map(|s| (s, None)),
        };
        // The host has counted the stores: there is one.
        let (found, consumer) = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let fds = match consumer {
            Some(at) => found.store.reader_fds(at),
            None => found.store.writer_fds(),
        }
        .map_err(|e| io::Error::other(e.to_string()))?;
        let edge = self.host.edges()[edge].name.clone();
        let packet = ToStage::Store(StoreInfo { edge, store, shape: found.store.shape() });
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        protocol::send(&self.socket, &packet, &fds)
    }

    fn send_ring(&self, gang: &Gang, edge: usize, ring: u32) -> io::Result<()> {
        if self.host.edges()[edge].kind != EdgeKind::Ring {
            return self.send_store(gang, edge, ring);
        }
        let (id, direction) = self.edges[edge];
        let found = match direction {
            Direction::Input => gang.read_by(self.owner, id).nth(ring as usize).map(|(r, at)| (r, Some(at))),
            Direction::Output => gang.written_by(self.owner, id).nth(ring as usize).map(|r| (r, None)),
        };
        // The host has counted the rings: there is one.
        let (found, consumer) = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.send(edge, ring, found, consumer)
    }

    /// Ring number `ring` of the edge, to its producer or as this consumer of it.
    fn send(&self, edge: usize, ring: u32, found: &Ring, consumer: Option<usize>) -> io::Result<()> {
        let fds = match consumer {
            Some(at) => found.segment.consumer_fds(at),
            None => found.segment.producer_fds(),
        }
        .map_err(|e| io::Error::other(e.to_string()))?;
        let packet = ToStage::Ring(RingInfo {
            edge: self.host.edges()[edge].name.clone(),
            ring,
            shape: found.segment.shape(),
            consumer: consumer.unwrap_or(0) as u32,
            consumers: found.segment.consumers() as u32,
        });
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        protocol::send(&self.socket, &packet, &fds)
    }
}

/// The peer's doing: it has gone, or does not read.
fn is_peers(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
