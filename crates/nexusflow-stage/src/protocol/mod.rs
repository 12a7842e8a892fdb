//! What a stage and its runner say to each other over the control socket. docs/protocol.md has it for people.
//!
//! Every packet of the runner answers one of the stage's, in order. [`Packet::encode`] and [`Packet::decode`] are
//! pure; [`send`] and [`receive`] put them on a socket, blocking or not as the socket is; [`Host`] is the runner's
//! side without its sockets.

mod host;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nexusflow_sys::socket;

pub use host::{Answer, Host};
pub use wire::{MAX_TEXT, Malformed};
use wire::{Reader, Writer};

use crate::object;
use crate::ring::{OnFull, Shape, WaitMode};

/// Versions of the protocol that this crate speaks, oldest and newest.
pub const VERSIONS: (u16, u16) = (1, 1);
/// Names the descriptor of the control socket in a stage's environment.
pub const CONTROL_FD_VARIABLE: &str = "NEXUSFLOW_CONTROL_FD";
/// The longest packet.
pub const MAX_PACKET: usize = 64 * 1024;
/// How long each side waits for the other during the handshake (hello, welcome).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most edges of one stage.
pub const MAX_EDGES: usize = 65_536;
/// Of a packet that lists edges, what is kept for all the rest in it.
const WELCOME_RESERVE: usize = 8 * MAX_TEXT;

/// Something that travels as one packet.
pub trait Packet: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(packet: &[u8]) -> Result<Self, Malformed>;
}

/// What a stage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromStage {
    Hello(Hello),
    /// Asks for the edges from number `from` on, which had no room in the answers before.
    ListEdges {
        from: u32,
    },
    /// Asks for one ring of an edge: 0 … [`EdgeInfo::rings`]-1. The answer may take as long as other stages need to
    /// start.
    Attach {
        edge: String,
        ring: u32,
    },
    /// With the memory of a sealed object that is about to be announced on an edge this stage writes: the runner keeps it.
    Publish {
        edge: String,
        slot: u32,
        serial: u64,
        len: u64,
    },
    /// Asks for the memory of a sealed object, in the store of this number of an edge the stage reads.
    Take {
        edge: String,
        store: u32,
        slot: u32,
        serial: u64,
    },
    /// Asks the runner to let go of objects that all consumers of the edge, which this stage writes, have released.
    Sweep {
        edge: String,
    },
    /// Asks for the memory that makes [transfers](crate::Transfer) exact. It is this replica's, and outlives its
    /// processes.
    Journal,
}

/// The first packet. Its layout never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the protocol that the stage speaks.
    pub min: u16,
    pub max: u16,
    /// What it is built with, for people.
    pub sdk: String,
    pub sdk_version: String,
}

/// What the runner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToStage {
    /// To a hello: who you are, and your first edges.
    Welcome { identity: Identity, edges: EdgePage },
    /// To ListEdges.
    Edges(EdgePage),
    /// To Attach; with it come the descriptors: head, ring, slab if it has one, then for a producer every consumer's
    /// cursor, for a consumer its own.
    Ring(RingInfo),
    /// To Attach of a ring beyond the announced ones: there is nothing left that others have not read.
    NoMore,
    /// To Journal; with it comes its descriptor. How many bytes it has.
    Journal { len: u64 },
    /// To Attach, of an edge that carries objects; with it come the descriptors: the head, the slab if it has one, then
    /// for a producer every consumer's cursor, for a consumer its own.
    Store(StoreInfo),
    /// To Publish and Sweep: it is done.
    Published,
    /// To Take; with it comes the descriptor.
    Object,
    /// To anything.
    Refuse { code: Refusal, text: String },
}

/// Who a stage is in this run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The version of the protocol both speak from now on.
    pub version: u16,
    pub run: String,
    pub pipeline: String,
    pub stage: String,
    pub replica: u32,
    pub replicas: u32,
    /// Counts the processes of this replica, from 1.
    pub attempt: u32,
}

/// Some of a stage's edges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EdgePage {
    /// How many there are.
    pub total: u32,
    /// The number of the first of `edges`.
    pub from: u32,
    pub edges: Vec<EdgeInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeInfo {
    pub name: String,
    pub direction: Direction,
    pub delivery: Delivery,
    /// How distribute chooses.
    pub by: By,
    pub wait: WaitMode,
    /// Bytes.
    pub max_message: u64,
    /// How many rings this stage has of it: to read, one per producer (replicas counted); to write, one, or with
    /// distribute one per consumer.
    pub rings: u32,
    pub kind: EdgeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The stage reads it.
    Input = 0,
    /// The stage writes it.
    Output = 1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Broadcast = 0,
    Distribute = 1,
}

/// How a producer chooses the consumer of a message that only one of them gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// In strict turn.
    #[default]
    RoundRobin = 0,
    /// The one that has the fewest unreleased bytes.
    LeastBacklog = 1,
    /// The one that the message's key belongs to.
    Key = 2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingInfo {
    pub edge: String,
    pub ring: u32,
    /// The lengths of its memory.
    pub shape: Shape,
    /// For a consumer, which of the ring's consumers it is; for a producer 0.
    pub consumer: u32,
    pub consumers: u32,
}

/// What an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EdgeKind {
    /// Messages.
    #[default]
    Ring = 0,
    /// Objects in the edge's own memory.
    Object = 1,
    /// Objects, each in a memory of its own that nobody can write once it is sealed.
    Sealed = 2,
}

/// A store of objects, as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    pub edge: String,
    pub store: u32,
    pub shape: object::Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No common version.
    Version,
    /// Not understood, or not at this point.
    Malformed,
    UnknownEdge,
    /// The edge has not so many rings.
    UnknownRing,
    /// The run is ending.
    Stopping,
    /// A newer runner's reason: the text says it.
    Other(u16),
}

impl Refusal {
    const KNOWN: [Self; 5] = [Self::Version, Self::Malformed, Self::UnknownEdge, Self::UnknownRing, Self::Stopping];

    fn number(self) -> u16 {
        match self {
            Self::Version => 1,
            Self::Malformed => 2,
            Self::UnknownEdge => 3,
            Self::UnknownRing => 4,
            Self::Stopping => 5,
            Self::Other(n) => n,
        }
    }

    fn from_number(n: u16) -> Self {
        Self::KNOWN.into_iter().find(|known| known.number() == n).unwrap_or(Self::Other(n))
    }
}

impl Hello {
    /// What this crate says.
    pub fn ours() -> Self {
        let (min, max) = VERSIONS;
        Self { min, max, sdk: env!("CARGO_PKG_NAME").to_owned(), sdk_version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The newest version that both speak.
    pub fn common_version(&self) -> Option<u16> {
        let version = self.max.min(VERSIONS.1);
        (version >= self.min.max(VERSIONS.0)).then_some(version)
    }
}

impl EdgePage {
    /// As many edges from number `from` on as fit into a packet.
    pub fn of(all: &[EdgeInfo], from: usize) -> Self {
        let from = from.min(all.len());
        let mut room = MAX_PACKET - WELCOME_RESERVE;
        let mut edges = Vec::new();
        for edge in &all[from..] {
            let Some(left) = room.checked_sub(edge.encoded_len()) else { break };
            room = left;
            edges.push(edge.clone());
        }
        Self { total: all.len() as u32, from: from as u32, edges }
    }

    fn write(&self, mut w: Writer) -> Writer {
        w = w.u32(self.total).u32(self.from).u32(self.edges.len() as u32);
        for edge in &self.edges {
            w = w.text(&edge.name).u8(edge.direction as u8).u8(edge.delivery as u8).u8(edge.wait as u8);
            w = w.u8(edge.by as u8).u64(edge.max_message).u32(edge.rings).u8(edge.kind as u8);
        }
        w
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (total, from, count) = (r.u32()?, r.u32()?, r.u32()?);
        if total as usize > MAX_EDGES {
            return Err(Malformed("too many edges"));
        }
        let mut edges = Vec::new(); // grows with what is really there, not with what `count` claims
        for _ in 0..count {
            edges.push(EdgeInfo::read(r)?);
        }
        Ok(Self { total, from, edges })
    }
}

impl EdgeInfo {
    /// Whether this stage is given what others leave unread.
    pub fn is_handed_on(&self) -> bool {
        self.kind == EdgeKind::Ring && (self.direction, self.delivery) == (Direction::Input, Delivery::Distribute)
    }

    fn encoded_len(&self) -> usize {
        2 + self.name.len().min(MAX_TEXT) + 4 + 8 + 4 + 1
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: r.text()?,
            direction: match r.u8()? {
                0 => Direction::Input,
                1 => Direction::Output,
                _ => return Err(Malformed("an unknown direction")),
            },
            delivery: match r.u8()? {
                0 => Delivery::Broadcast,
                1 => Delivery::Distribute,
                _ => return Err(Malformed("an unknown delivery")),
            },
            wait: WaitMode::from_number(r.u8()?.into()).ok_or(Malformed("an unknown way to wait"))?,
            by: match r.u8()? {
                0 => By::RoundRobin,
                1 => By::LeastBacklog,
                2 => By::Key,
                _ => return Err(Malformed("an unknown way to choose a consumer")),
            },
            max_message: r.u64()?,
            rings: r.u32()?,
            kind: match r.u8()? {
                0 => EdgeKind::Ring,
                1 => EdgeKind::Object,
                2 => EdgeKind::Sealed,
                _ => return Err(Malformed("an edge of an unknown kind")),
            },
        })
    }
}

// Kinds of packets: a stage's are odd, a runner's even.
const HELLO: u16 = 1;
const WELCOME: u16 = 2;
const LIST_EDGES: u16 = 3;
const EDGES: u16 = 4;
const ATTACH: u16 = 5;
const RING: u16 = 6;
const JOURNAL_WANTED: u16 = 7;
const REFUSE: u16 = 8;
const JOURNAL: u16 = 10;
const PUBLISH: u16 = 9;
const PUBLISHED: u16 = 12;
const TAKE: u16 = 11;
const OBJECT: u16 = 14;
const SWEEP: u16 = 13;
const STORE: u16 = 18;
const NO_MORE: u16 = 16;

impl Packet for FromStage {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(h) => Writer::new(HELLO).u16(h.min).u16(h.max).text(&h.sdk).text(&h.sdk_version),
            Self::ListEdges { from } => Writer::new(LIST_EDGES).u32(*from),
            Self::Attach { edge, ring } => Writer::new(ATTACH).text(edge).u32(*ring),
            Self::Journal => Writer::new(JOURNAL_WANTED),
            Self::Publish { edge, slot, serial, len } => {
                Writer::new(PUBLISH).text(edge).u32(*slot).u64(*serial).u64(*len)
            }
            Self::Take { edge, store, slot, serial } => {
                Writer::new(TAKE).text(edge).u32(*store).u32(*slot).u64(*serial)
            }
            Self::Sweep { edge } => Writer::new(SWEEP).text(edge),
        }
        .bytes()
    }

    fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut r) = Reader::new(packet)?;
        Ok(match kind {
            HELLO => Self::Hello(Hello { min: r.u16()?, max: r.u16()?, sdk: r.text()?, sdk_version: r.text()? }),
            LIST_EDGES => Self::ListEdges { from: r.u32()? },
            ATTACH => Self::Attach { edge: r.text()?, ring: r.u32()? },
            JOURNAL_WANTED => Self::Journal,
            PUBLISH => Self::Publish { edge: r.text()?, slot: r.u32()?, serial: r.u64()?, len: r.u64()? },
            TAKE => Self::Take { edge: r.text()?, store: r.u32()?, slot: r.u32()?, serial: r.u64()? },
            SWEEP => Self::Sweep { edge: r.text()? },
            _ => return Err(Malformed("of no kind that a stage sends")),
        })
    }
}

impl Packet for ToStage {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome { identity: i, edges } => {
                let w = Writer::new(WELCOME).u16(i.version).text(&i.run).text(&i.pipeline).text(&i.stage);
                edges.write(w.u32(i.replica).u32(i.replicas).u32(i.attempt))
            }
            Self::Edges(edges) => edges.write(Writer::new(EDGES)),
            Self::Ring(ring) => {
                let w = Writer::new(RING).text(&ring.edge).u32(ring.ring);
                let w = w.u64(ring.shape.ring).u64(ring.shape.slab).u32(ring.consumer).u32(ring.consumers);
                w.u8(ring.shape.on_full as u8)
            }
            Self::NoMore => Writer::new(NO_MORE),
            Self::Journal { len } => Writer::new(JOURNAL).u64(*len),
            Self::Store(StoreInfo { edge, store, shape }) => {
                let w = Writer::new(STORE).text(edge).u32(*store).u64(shape.capacity).u32(shape.slots);
                let w = w.u32(shape.consumers).u8(shape.wait as u8);
                w.u8(shape.sealed.into()).u8(shape.distribute.into())
            }
            Self::Published => Writer::new(PUBLISHED),
            Self::Object => Writer::new(OBJECT),
            Self::Refuse { code, text } => Writer::new(REFUSE).u16(code.number()).text(text),
        }
        .bytes()
    }

    fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut r) = Reader::new(packet)?;
        let r = &mut r;
        Ok(match kind {
            WELCOME => Self::Welcome {
                identity: Identity {
                    version: r.u16()?,
                    run: r.text()?,
                    pipeline: r.text()?,
                    stage: r.text()?,
                    replica: r.u32()?,
                    replicas: r.u32()?,
                    attempt: r.u32()?,
                },
                edges: EdgePage::read(r)?,
            },
            EDGES => Self::Edges(EdgePage::read(r)?),
            RING => {
                let (edge, ring) = (r.text()?, r.u32()?);
                let (bytes, slab) = (r.u64()?, r.u64()?);
                let (consumer, consumers) = (r.u32()?, r.u32()?);
                let on_full = OnFull::from_number(r.u8()?.into()).ok_or(Malformed("nothing to do when it is full"))?;
                Self::Ring(RingInfo { edge, ring, shape: Shape { ring: bytes, slab, on_full }, consumer, consumers })
            }
            NO_MORE => Self::NoMore,
            JOURNAL => Self::Journal { len: r.u64()? },
            STORE => Self::Store(StoreInfo {
                edge: r.text()?,
                store: r.u32()?,
                shape: object::Shape {
                    capacity: r.u64()?,
                    slots: r.u32()?,
                    consumers: r.u32()?,
                    wait: WaitMode::from_number(r.u8()?.into()).ok_or(Malformed("an unknown way to wait"))?,
                    sealed: flag(r.u8()?)?,
                    distribute: flag(r.u8()?)?,
                },
            }),
            PUBLISHED => Self::Published,
            OBJECT => Self::Object,
            REFUSE => Self::Refuse { code: Refusal::from_number(r.u16()?), text: r.text()? },
            _ => return Err(Malformed("of no kind that a runner sends")),
        })
    }
}

fn flag(n: u8) -> Result<bool, Malformed> {
    match n {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("neither yes nor no")),
    }
}

/// Sends one packet, with descriptors. `WouldBlock` from a socket that does not wait.
pub fn send(socket: impl AsFd, packet: &impl Packet, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    socket::send(socket, &packet.encode(), fds)
}

/// Receives one packet; `None` when the peer has closed. `WouldBlock` from a socket that does not wait,
/// `InvalidData` if it is none of this protocol.
pub fn receive<P: Packet>(socket: impl AsFd) -> io::Result<Option<(P, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_PACKET];
    match socket::receive(socket, &mut buffer) {
        Ok((0, _)) => Ok(None),
        Ok((len, fds)) => Ok(Some((P::decode(&buffer[..len])?, fds))),
        // The peer died with something of ours unread.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(e) => Err(e),
    }
}
