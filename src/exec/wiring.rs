//! The edges of one gang: their shared memory, their pipes, and which end belongs to whom.

mod counts;
mod late;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nexusflow_stage::object::{ObjectInput, Writer};
use nexusflow_stage::ring::{self, Consumer, Memory, Producer, Segment, SegmentOptions, Stats, WaitMode};
use nexusflow_stage::{journal, protocol};
use nexusflow_sys::event::EventFd;
use nexusflow_sys::{pipe, socket};

use super::Context;
use super::adapter::packed::Tallies;
use super::adapter::{Hold, MAX_FRAME};
use super::launch::Ends;
use super::memory;
use super::stores::Stores;
use crate::diag::{Diagnostic, codes};
use crate::pipeline::{Direction, Edge, EdgeId, GangId, RingPlan, StageId, Stdin, Stdout};
use crate::plan::TaskId;
use crate::spec::{By, Delivery, Framing, Kind, OnFull, Scope, Wait};

/// One gang's edges while it runs.
#[derive(Debug, Default)]
pub(super) struct Gang {
    rings: Vec<Ring>,
    stores: Stores,
    /// Kernel pipes whose ends have not been taken yet.
    pipes: HashMap<EdgeId, (Option<OwnedFd>, Option<OwnedFd>)>,
    /// Of replicas that asked for one: the memory of their transfers, and how long it is. Kept through their restarts.
    journals: HashMap<Owner, Journal>,
    heirs: late::Heirs,
    open: bool,
}

/// The memory of a replica's transfers.
#[derive(Debug)]
struct Journal {
    fd: OwnedFd,
    len: u64,
    /// By the number that the stage knows them by.
    edges: Vec<EdgeId>,
}

/// A ring and whose it is.
#[derive(Debug)]
pub(super) struct Ring {
    pub plan: RingPlan,
    pub segment: Segment,
    /// If it carries blocks of messages, what is in them.
    pub packed: Option<Arc<Tallies>>,
}

/// An end of a bound edge that a thread of the runner serves.
pub(super) struct Half {
    pub edge: EdgeId,
    pub framing: Framing,
    pub max_message: usize,
    /// If its rings carry blocks: each one's, and which of its readers this is (0 for its writer).
    pub packed: Option<Vec<(Arc<Tallies>, usize)>>,
    /// If the program may have a successor that goes on where it had got to.
    pub hold: Option<Hold>,
    pub side: Side,
    /// The runner's end of the stage's pipe.
    pub pipe: OwnedFd,
    /// For the thread's orders; here, so that what it may lack is found before anything starts.
    pub wake: EventFd,
}

pub(super) enum Side {
    /// The stage reads.
    Input(Vec<Consumer>),
    /// The stage writes.
    Output(Vec<Producer>, protocol::By),
    /// The stage reads objects.
    Objects(ObjectInput),
    /// The stage writes an object.
    Object(Writer),
}

/// What one attempt of a task is given.
pub(super) struct Wired {
    pub ends: Ends,
    pub halves: Vec<Half>,
    /// The runner's end of its control socket.
    pub control: Option<OwnedFd>,
}

pub(super) use late::Late;

/// One replica of a stage, as rings name their owners.
pub(super) type Owner = (StageId, u32);

impl Ring {
    /// What has gone through it, as far as anyone has told.
    pub fn stats(&self) -> Stats {
        let mut stats = self.segment.stats();
        if let Some(packed) = &self.packed {
            packed.correct(&mut stats);
        }
        stats
    }
}

impl Half {
    pub fn is_output(&self) -> bool {
        matches!(self.side, Side::Output(..) | Side::Object(_))
    }
}

impl Gang {
    /// Whether there is anything to make before the gang's tasks can start.
    pub fn has_edges(cx: &Context, id: GangId) -> bool {
        cx.pipeline.gangs[id.0 as usize].iter().any(|&s| !cx.pipeline.stage(s).outputs.is_empty())
    }

    /// Makes all memory and pipes of the gang's edges; fewer, when it is told that nobody wants them any more.
    pub fn prepare(cx: &Context, id: GangId, cancelled: &AtomicBool) -> Result<Self, Box<Diagnostic>> {
        let mut gang = Self::default();
        memory::enough(cx, id)?;
        for &stage in &cx.pipeline.gangs[id.0 as usize] {
            // Each edge once: with the first stage that writes it.
            let outputs = &cx.pipeline.stage(stage).outputs;
            for &edge_id in outputs.iter().filter(|&&e| cx.pipeline.edge(e).from.first() == Some(&stage)) {
                let edge = cx.pipeline.edge(edge_id);
                gang.prepare_edge(cx, edge_id, edge, cancelled).map_err(|e| {
                    Box::new(
                        Diagnostic::error(codes::EDGE_MEMORY, format!("edge `{}` could not be made: {e}", edge.name))
                            .at(&edge.span, "this edge")
                            .help("lower its `capacity`, or raise the limits on memory and open files (`ulimit -n`)"),
                    )
                })?;
            }
        }
        Ok(gang)
    }

    fn prepare_edge(&mut self, cx: &Context, id: EdgeId, edge: &Edge, cancelled: &AtomicBool) -> Result<(), String> {
        if edge.kind == Kind::Pipe {
            let (read, write) = pipe::pipe().map_err(|e| super::launch::reason(&e))?;
            let _ = pipe::set_size(&write, edge.capacity); // a wish: what the system grants is what there is
            self.pipes.insert(id, (Some(read), Some(write)));
            return Ok(());
        }
        for (plan, place) in cx.pipeline.rings(id).into_iter().zip(&cx.plan.edges[id.0 as usize].rings) {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(());
            }
            let memory = Memory { node: place.node, strict: place.strict, hugepages: memory::pages(edge) };
            if edge.kind == Kind::Object {
                self.stores.make(plan, edge, memory, place.one_cpu).map_err(|e| e.to_string())?;
                continue;
            }
            let segment = Segment::create(&SegmentOptions {
                name: &edge.name,
                capacity: edge.capacity,
                max_message: edge.max_message,
                consumers: plan.consumers.len(),
                wait: if place.one_cpu { WaitMode::Block } else { wait_mode(edge.wait) },
                memory,
                on_full: on_full(edge.on_full),
            })
            .map_err(|e| e.to_string())?;
            let packed = packed(cx, id).map(|_| Arc::new(Tallies::new(plan.consumers.len())));
            self.rings.push(Ring { plan, segment, packed });
        }
        Ok(())
    }

    /// The descriptors and threads that one attempt of a task needs.
    pub fn ends(&mut self, cx: &Context, task: TaskId) -> io::Result<Wired> {
        let planned = cx.plan.task(task);
        let owner = (planned.stage, planned.replica);
        let stage = cx.pipeline.stage(planned.stage);
        let mut wired = Wired { ends: Ends::default(), halves: Vec::new(), control: None };
        if let Stdin::Edge { edge, framing } = stage.stdin {
            wired.ends.stdin = Some(self.bound(cx, owner, edge, framing, Direction::Input, &mut wired.halves)?);
        }
        if let Stdout::Edge { edge, framing } = stage.stdout {
            wired.ends.stdout = Some(self.bound(cx, owner, edge, framing, Direction::Output, &mut wired.halves)?);
        }
        for b in &stage.bind {
            let fd = self.bound(cx, owner, b.edge, b.framing, b.direction, &mut wired.halves)?;
            wired.ends.binds.push(fd);
        }
        if own_edges(cx, planned.stage).next().is_some() {
            let (ours, theirs) = socket::pair()?;
            socket::set_nonblocking(&ours)?;
            wired.control = Some(ours);
            wired.ends.control = Some(theirs);
        }
        Ok(wired)
    }

    /// The stage's end of an edge that is bound to a stream or a path.
    fn bound(
        &mut self,
        cx: &Context,
        owner: Owner,
        edge_id: EdgeId,
        framing: Framing,
        direction: Direction,
        halves: &mut Vec<Half>,
    ) -> io::Result<OwnedFd> {
        if let Some((read, write)) = self.pipes.get_mut(&edge_id) {
            let end = if direction == Direction::Input { read.take() } else { write.take() };
            return end.ok_or_else(|| io::Error::other("this end of the pipe is taken"));
        }
        let (read, write) = pipe::pipe()?;
        let failed = |e: nexusflow_stage::Error| io::Error::other(e.to_string());
        let packed = |(ring, at): (&Ring, usize)| Some((ring.packed.clone()?, at));
        let edge = cx.pipeline.edge(edge_id);
        let (theirs, ours, side, packed) = match direction {
            Direction::Input if edge.kind == Kind::Object => {
                (read, write, Side::Objects(self.stores.input(owner, edge_id, edge).map_err(failed)?), None)
            }
            Direction::Output if edge.kind == Kind::Object => {
                (write, read, Side::Object(self.stores.writer(owner, edge_id, edge).map_err(failed)?), None)
            }
            Direction::Input => {
                let packed = self.read_by(owner, edge_id).map(packed).collect();
                let rings = self.read_by(owner, edge_id).map(|(ring, at)| ring.segment.consumer(at));
                (read, write, Side::Input(rings.collect::<Result<_, _>>().map_err(failed)?), packed)
            }
            Direction::Output => {
                let packed = self.written_by(owner, edge_id).map(|ring| packed((ring, 0))).collect();
                let rings = self.written_by(owner, edge_id).map(|ring| ring.segment.producer());
                (
                    write,
                    read,
                    Side::Output(rings.collect::<Result<_, _>>().map_err(failed)?, by(cx.pipeline.edge(edge_id).by)),
                    packed,
                )
            }
        };
        let max_message = edge.max_message as usize;
        let hold = self.hold(cx, owner, edge_id, direction);
        let wake = EventFd::new()?;
        halves.push(Half { edge: edge_id, framing, max_message, packed, hold, side, pipe: ours, wake });
        Ok(theirs)
    }

    /// A program that may be started again alone is given again what it had perhaps not read.
    fn hold(&self, cx: &Context, owner: Owner, id: EdgeId, direction: Direction) -> Option<Hold> {
        let alone = cx.pipeline.stage(owner.0).restart.is_some_and(|r| r.scope == Scope::Stage);
        let rings = self.read_by(owner, id).map(|(ring, _)| ring.segment.shape().ring);
        let kept = cx.pipeline.edge(id).on_full == OnFull::Block;
        (alone && kept && direction == Direction::Input)
            .then(|| Hold { redeliver_bytes: cx.pipeline.edge(id).redeliver, most_bytes: rings.min().unwrap_or(0) / 2 })
    }

    /// The replica's process has died: it reads nothing any more. What adapters read for it is another matter.
    pub fn stopped_reading(&self, cx: &Context, owner: Owner) {
        for (edge, direction) in own_edges(cx, owner.0) {
            if direction == Direction::Input {
                self.read_by(owner, edge).for_each(|(ring, at)| ring.segment.stopped_reading(at));
            }
        }
    }

    /// The rings of an edge that this replica writes, in the order of its consumers.
    pub fn written_by(&self, owner: Owner, edge: EdgeId) -> impl Iterator<Item = &Ring> {
        self.rings.iter().filter(move |r| r.plan.edge == edge && r.plan.producer == owner)
    }

    /// The rings of an edge that this replica reads, with its place among their consumers.
    pub fn read_by(&self, owner: Owner, edge: EdgeId) -> impl Iterator<Item = (&Ring, usize)> {
        self.rings.iter().filter(move |r| r.plan.edge == edge).filter_map(move |r| {
            let at = r.plan.consumers.iter().position(|c| *c == owner)?;
            Some((r, at))
        })
    }

    /// What carries objects.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    pub fn ring(&self, i: usize) -> &Ring {
        &self.rings[i]
    }

    pub fn rings(&self) -> &[Ring] {
        &self.rings
    }

    /// Whoever writes or reads them.
    pub fn rings_of(&self, edge: EdgeId) -> impl Iterator<Item = &Ring> {
        self.rings.iter().filter(move |r| r.plan.edge == edge)
    }

    /// The journal of a replica's transfers, made when it is first asked for.
    pub fn journal(&mut self, owner: Owner, edges: impl Iterator<Item = EdgeId>) -> io::Result<(BorrowedFd<'_>, u64)> {
        let reads: BTreeSet<EdgeId> =
            self.rings.iter().filter(|r| r.plan.consumers.contains(&owner)).map(|r| r.plan.edge).collect();
        // Those of others it may be handed.
        let mine = |r: &&Ring| r.plan.producer == owner || reads.contains(&r.plan.edge);
        let rings = self.rings.iter().filter(mine).count();
        let made = match self.journals.entry(owner) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(none) => {
                let (fd, len) = journal::create(rings)?;
                none.insert(Journal { fd, len, edges: edges.collect() })
            }
        };
        Ok((made.fd.as_fd(), made.len))
    }

    /// Finishes the transfer that the replica had committed to, should it have died on the way: a next process of it
    /// would, and there will be none. What it has left is its own doing, so that nonsense is no more than not finished.
    fn finish_transfer(&self, owner: Owner) -> nexusflow_stage::Result<()> {
        let Some(Journal { fd, len, edges }) = self.journals.get(&owner) else { return Ok(()) };
        let (_, last) = journal::Journal::open(fd, *len)?;
        for mark in last.marks {
            let Some(&edge) = edges.get(mark.edge as usize) else { continue };
            if mark.word != 0 {
                let Some(ring) = self.written_by(owner, edge).nth(mark.ring as usize) else { continue };
                ring.segment.producer()?.redo(mark.position, mark.word)?;
            } else if let Some((ring, at)) = self.given_to(owner, edge).nth(mark.ring as usize)
                && self.reader(ring, at) == owner
            {
                self.rings[ring].segment.consumer(at)?.go_to(mark.position)?;
            }
        }
        Ok(())
    }

    /// Every mate runs: edges may be handed out.
    pub fn open(&mut self) {
        self.open = true;
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The replica ended well: what it wrote ends, what it read goes on without it.
    pub fn release(&self, owner: Owner) -> Result<(), String> {
        let _ = self.finish_transfer(owner);
        let mine = self.rings.iter().filter(|r| r.plan.producer == owner);
        let closed = first_failure(mine.map(|r| r.segment.close()));
        // What could not be closed is poisoned, and its readers find the same when they are woken.
        let closed = closed.and(self.stores.close(owner));
        closed.map_err(|e| e.to_string()).and(self.abandon(owner))
    }

    /// The replica reads no more. What it wrote has no end: that is for an end that was well.
    pub fn abandon(&self, owner: Owner) -> Result<(), String> {
        let _ = self.finish_transfer(owner);
        self.read_now_by(owner).for_each(|(ring, at)| self.rings[ring].segment.detach(at));
        self.stores.detach(owner);
        self.wake_all()
    }

    /// Whether the replica has released all there will ever be for it, or its program was given it on these edges. Of a
    /// kernel pipe nobody can tell from here.
    pub fn drained(&self, owner: Owner, fed: &[EdgeId]) -> bool {
        let mut mine = self.read_now_by(owner).map(|(ring, at)| (&self.rings[ring], at));
        mine.all(|(r, at)| fed.contains(&r.plan.edge) || r.segment.drained(at).unwrap_or(true))
            && self.stores.drained(owner)
    }

    /// A process has died, perhaps between its last word and waking whom it should have.
    pub fn wake_all(&self) -> Result<(), String> {
        self.stores.wake_all();
        first_failure(self.rings.iter().map(|r| r.segment.wake_all())).map_err(|e| e.to_string())
    }
}

/// Does all, so that what fails at one ring keeps nothing from the others. Tells the first failure.
fn first_failure<E>(all: impl Iterator<Item = Result<(), E>>) -> Result<(), E> {
    all.fold(Ok(()), Result::and)
}

/// Edges that the stage uses itself, through its control socket: all that are not bound.
pub(super) fn own_edges(cx: &Context, id: StageId) -> impl Iterator<Item = (EdgeId, Direction)> + '_ {
    let stage = cx.pipeline.stage(id);
    let bound = move |e: EdgeId| {
        matches!(stage.stdin, Stdin::Edge { edge, .. } if edge == e)
            || matches!(stage.stdout, Stdout::Edge { edge, .. } if edge == e)
            || stage.bind.iter().any(|b| b.edge == e)
    };
    let inputs = stage.inputs.iter().map(|&e| (e, Direction::Input));
    let outputs = stage.outputs.iter().map(|&e| (e, Direction::Output));
    inputs.chain(outputs).filter(move |&(e, _)| !bound(e))
}

/// Whether the rings of an edge carry blocks of messages, and how those are framed in them: unmodified programs at both
/// ends, which frame alike. When each message goes its own way, or may be dropped, it must stand for itself.
pub(super) fn packed(cx: &Context, id: EdgeId) -> Option<Framing> {
    let edge = cx.pipeline.edge(id);
    let framing = |&stage: &StageId| {
        let stage = cx.pipeline.stage(stage);
        match (&stage.stdin, &stage.stdout) {
            (Stdin::Edge { edge, framing }, _) if *edge == id => Some(*framing),
            (_, Stdout::Edge { edge, framing }) if *edge == id => Some(*framing),
            _ => stage.bind.iter().find(|b| b.edge == id).map(|b| b.framing),
        }
    };
    let mut framings = edge.from.iter().chain(&edge.to).map(framing);
    let Some(Some(first @ (Framing::Lines | Framing::U32le))) = framings.next() else { return None };
    // The longest message and what frames it must fit as ever.
    let packed = edge.delivery == Delivery::Broadcast
        && edge.on_full == OnFull::Block
        && edge.max_message.saturating_add(MAX_FRAME) <= edge.capacity / 2
        && framings.all(|framing| framing == Some(first));
    packed.then_some(first)
}

pub(super) fn by(by: By) -> protocol::By {
    match by {
        By::RoundRobin => protocol::By::RoundRobin,
        By::LeastBacklog => protocol::By::LeastBacklog,
        By::Key => protocol::By::Key,
    }
}

fn on_full(on_full: OnFull) -> ring::OnFull {
    match on_full {
        OnFull::Block => ring::OnFull::Block,
        OnFull::DropNewest => ring::OnFull::DropNewest,
        OnFull::DropOldest => ring::OnFull::DropOldest,
    }
}

pub(super) fn wait_mode(wait: Wait) -> WaitMode {
    match wait {
        Wait::Adaptive => WaitMode::Adaptive,
        Wait::Spin => WaitMode::Spin,
        Wait::Block => WaitMode::Block,
    }
}
