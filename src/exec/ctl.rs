//! What a run answers over its socket: who it is, and how its edges do.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use nexusflow_sys::event::{Epoll, EventFlags};

use super::Context;
use super::wiring::{Gang, Ring, packed};
use crate::ctl::{
    Answer, Blocks, ConsumerStat, EdgeState, Next, ObjectPlace, ObjectStat, PAGE_ENTRIES, Place, Reply, Request,
    RingMemory, RingStat, Server, VERSION,
};
use crate::diag::{Diagnostic, codes, did_you_mean};
use crate::pipeline::{EdgeId, GangId, StageId};
use crate::spec::{Framing, Kind};

/// Edges named to one who asked for another.
const MAX_NAMED: usize = 16;

/// A run's socket, watched by the runner's loop. A run that nobody can ask is still a run.
#[derive(Default)]
pub(super) struct RunSocket {
    server: Option<Server>,
    /// Their edges have been and are no more.
    dissolved: BTreeSet<GangId>,
    /// How often gangs have begun anew, those that have.
    anew: BTreeMap<GangId, u32>,
}

impl RunSocket {
    pub fn open(&mut self, cx: &Context, epoll: &Epoll, token: u64) -> Result<(), Box<Diagnostic>> {
        let server = Server::open(&cx.runtime, &cx.run_id).map_err(|why| nobody_can_ask(&why))?;
        epoll.add(server.listener(), token, EventFlags::IN).map_err(|e| nobody_can_ask(&e.to_string()))?;
        self.server = Some(server);
        Ok(())
    }

    /// Takes in who has connected; `first` is the token of client 0.
    pub fn accept(&mut self, epoll: &Epoll, first: u64) -> Result<(), Box<Diagnostic>> {
        let Some(server) = &mut self.server else { return Ok(()) };
        loop {
            match server.accept() {
                Ok(None) => return Ok(()),
                Ok(Some(client)) => {
                    let watched = server.socket(client).map(|s| epoll.add(s, first | client as u64, EventFlags::IN));
                    if !matches!(watched, Some(Ok(()))) {
                        server.close(client);
                    }
                }
                Err(e) => {
                    // Out of descriptors, for instance: whoever waits to be accepted would have us look for ever.
                    let _ = epoll.delete(server.listener());
                    return Err(nobody_can_ask(&e.to_string()));
                }
            }
        }
    }

    /// A client has something to say, or can take more.
    pub fn serve(&mut self, client: u32, epoll: &Epoll, first: u64, cx: &Context, gangs: &BTreeMap<GangId, Gang>) {
        let Some(server) = &mut self.server else { return };
        let edges = Edges { cx, gangs, dissolved: &self.dissolved, anew: &self.anew };
        let next = server.serve(client as usize, |request| edges.answer(request));
        let Some(socket) = server.socket(client as usize) else { return };
        let token = first | u64::from(client);
        let watched = match next {
            Next::Read => epoll.modify(socket, token, EventFlags::IN),
            Next::Write => epoll.modify(socket, token, EventFlags::OUT),
            Next::Close => Err(std::io::ErrorKind::ConnectionReset.into()),
        };
        if watched.is_err() {
            let _ = epoll.delete(socket);
            server.close(client as usize);
        }
    }

    /// The gang's edges are made again.
    pub fn begins_anew(&mut self, gang: GangId) {
        *self.anew.entry(gang).or_default() += 1;
    }

    /// The gang's edges are no more.
    pub fn dissolved(&mut self, cx: &Context, gang: GangId) {
        if self.server.is_some() && Gang::has_edges(cx, gang) {
            self.dissolved.insert(gang);
        }
    }
}

fn nobody_can_ask(why: &str) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::warning(codes::RUN_SOCKET, format!("nobody can ask how this run does: {why}"))
            .help("name a folder of yours in NEXUSFLOW_RUNTIME_DIR"),
    )
}

/// What there is to ask about.
struct Edges<'a> {
    cx: &'a Context,
    gangs: &'a BTreeMap<GangId, Gang>,
    dissolved: &'a BTreeSet<GangId>,
    anew: &'a BTreeMap<GangId, u32>,
}

impl Edges<'_> {
    fn answer(&self, request: Request) -> Reply {
        let answer = match request {
            Request::Tap { edge, ring } => match self.edge(&edge).and_then(|id| self.tap(id, ring)) {
                Ok(reply) => return reply,
                Err(refused) => Err(refused),
            },
            Request::Hello => Ok(Answer::Hello {
                version: VERSION,
                run: self.cx.run_id.clone(),
                pipeline: self.cx.pipeline.name.clone(),
                pid: std::process::id(),
            }),
            Request::Stat { edge: None, after } => Ok(self.page(None, after)),
            Request::Stat { edge: Some(edge), after } => self.edge(&edge).map(|id| self.page(Some(id), after)),
            Request::Objects { edge: None, after } => Ok(self.objects(None, after)),
            Request::Objects { edge: Some(edge), after } => {
                self.object_edge(&edge).map(|id| self.objects(Some(id), after))
            }
            Request::Edge { edge } => self.edge(&edge).map(|id| Answer::Edge(self.state(id))),
        };
        (answer.unwrap_or_else(|refused| refused), Vec::new())
    }

    /// The object edge of this name.
    fn object_edge(&self, name: &str) -> Result<EdgeId, Answer> {
        let id = self.named(name)?;
        if self.cx.pipeline.edge(id).kind != Kind::Object {
            let reason = format!("edge `{name}` carries no objects");
            let help = Some("`nexusflow edge stat` shows the others".into());
            return Err(Answer::Refused { reason, help });
        }
        Ok(id)
    }

    /// The edge of this name that messages go over.
    fn edge(&self, name: &str) -> Result<EdgeId, Answer> {
        let id = self.named(name)?;
        let (reason, help) = match self.cx.pipeline.edge(id).kind {
            Kind::Ring => return Ok(id),
            Kind::Pipe => {
                let reason = format!("edge `{name}` is a pipe of the kernel's, which nobody can look into");
                (reason, "make it `kind: ring`")
            }
            Kind::Object => (format!("edge `{name}` carries objects"), "`nexusflow plasma ls` shows what is held"),
        };
        Err(Answer::Refused { reason, help: Some(help.into()) })
    }

    fn named(&self, name: &str) -> Result<EdgeId, Answer> {
        let edges = &self.cx.pipeline.edges;
        let Some(at) = edges.iter().position(|e| e.name == name) else {
            let names = || edges.iter().map(|e| e.name.as_str());
            let help = match did_you_mean(name, names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if edges.is_empty() => "it has no edges at all".into(),
                None => {
                    let shown: Vec<_> = names().take(MAX_NAMED).collect();
                    let more = if edges.len() > MAX_NAMED { ", …" } else { "" };
                    format!("its edges are: {}{more}", shown.join(", "))
                }
            };
            let reason = format!("pipeline `{}` has no edge `{name}`", self.cx.pipeline.name);
            return Err(Answer::Refused { reason, help: Some(help) });
        };
        Ok(EdgeId(at as u32))
    }

    fn state(&self, edge: EdgeId) -> EdgeState {
        let gang = self.gang_of(edge);
        match self.gangs.get(&gang) {
            Some(open) if open.is_open() => EdgeState::Open {
                rings: open.rings_of(edge).count() as u32,
                anew: self.anew.get(&gang).copied().unwrap_or_default(),
            },
            None if self.dissolved.contains(&gang) => EdgeState::Ended,
            _ => EdgeState::Waiting,
        }
    }

    /// A ring's memory, to look on.
    fn tap(&self, edge: EdgeId, ring: u32) -> Result<Reply, Answer> {
        let refused = |reason: String| Answer::Refused { reason, help: None };
        let name = || &self.cx.pipeline.edge(edge).name;
        let gang = self.gangs.get(&self.gang_of(edge)).filter(|gang| gang.is_open());
        let gang = gang.ok_or_else(|| refused(format!("edge `{}` is not open", name())))?;
        let found = gang.rings_of(edge).nth(ring as usize);
        let found = found.ok_or_else(|| refused(format!("edge `{}` has no ring {ring}", name())))?;
        let fds = found.segment.tap_fds().map_err(|e| refused(e.to_string()))?;
        let shape = found.segment.shape();
        let producer = self.name(found.plan.producer);
        let blocks = match packed(self.cx, edge) {
            Some(Framing::Lines) => Some(Blocks::Lines),
            Some(Framing::U32le) => Some(Blocks::U32le),
            Some(Framing::Raw) | None => None,
        };
        let (ring_bytes, slab_bytes, on_full) = (shape.ring, shape.slab, shape.on_full as u32);
        let memory = RingMemory { ring_bytes, slab_bytes, on_full, producer, blocks };
        Ok((Answer::Tap(memory), fds))
    }

    fn gang_of(&self, edge: EdgeId) -> GangId {
        let pipeline = &self.cx.pipeline;
        pipeline.stage(pipeline.edge(edge).from[0]).gang
    }

    /// As many rings as one answer holds.
    fn page(&self, edge: Option<EdgeId>, after: Option<Place>) -> Answer {
        let (mut rings, mut entries) = (Vec::new(), 0);
        let first = after.map_or(Bound::Unbounded, |place| Bound::Included(GangId(place.0)));
        for (id, gang) in self.gangs.range((first, Bound::Unbounded)) {
            for (at, ring) in gang.rings().iter().enumerate() {
                let place = Place(id.0, at as u32);
                if after.is_some_and(|after| place <= after) || edge.is_some_and(|edge| edge != ring.plan.edge) {
                    continue;
                }
                entries += 1 + ring.plan.consumers.len();
                rings.push(self.stat(gang, ring));
                if entries >= PAGE_ENTRIES {
                    return Answer::Stat { rings, next: Some(place) };
                }
            }
        }
        Answer::Stat { rings, next: None }
    }

    /// As many objects as one answer holds.
    fn objects(&self, edge: Option<EdgeId>, after: Option<ObjectPlace>) -> Answer {
        let (mut objects, mut entries) = (Vec::new(), 0);
        let first = after.map_or(Bound::Unbounded, |place| Bound::Included(GangId(place.0)));
        for (id, gang) in self.gangs.range((first, Bound::Unbounded)) {
            for (at, stored) in gang.stores().iter().enumerate() {
                let at = at as u32;
                let wanted = edge.is_none_or(|edge| edge == stored.plan.edge);
                if !wanted || after.is_some_and(|after| (id.0, at) < (after.0, after.1)) {
                    continue;
                }
                for held in stored.store.held() {
                    let place = ObjectPlace(id.0, at, held.number);
                    if after.is_some_and(|after| place <= after) {
                        continue;
                    }
                    entries += 1 + held.by.len();
                    objects.push(ObjectStat {
                        edge: self.cx.pipeline.edge(stored.plan.edge).name.clone(),
                        producer: self.name(stored.plan.producer),
                        object: held.number,
                        bytes: held.len,
                        age_s: held.age.as_secs_f64(),
                        held_by: held.by.iter().map(|&i| self.name(stored.plan.consumers[i])).collect(),
                    });
                    if entries >= PAGE_ENTRIES {
                        return Answer::Objects { objects, next: Some(place) };
                    }
                }
            }
        }
        Answer::Objects { objects, next: None }
    }

    fn stat(&self, gang: &Gang, ring: &Ring) -> RingStat {
        let stats = ring.stats();
        let before = gang.rings_of(ring.plan.edge).position(|other| std::ptr::eq(other, ring));
        let consumers = ring.plan.consumers.iter().zip(stats.consumers).map(|(&owner, c)| ConsumerStat {
            consumer: self.name(owner),
            messages: c.messages,
            bytes: c.bytes,
            dropped: c.dropped,
            backlog_bytes: c.backlog_bytes,
            waited_s: c.waited.as_secs_f64(),
            waits: c.sleeps,
            detached: c.detached,
        });
        RingStat {
            edge: self.cx.pipeline.edge(ring.plan.edge).name.clone(),
            ring: before.unwrap_or_default() as u32,
            producer: self.name(ring.plan.producer),
            capacity_bytes: ring.segment.capacity(),
            messages: stats.messages,
            bytes: stats.bytes,
            dropped: stats.dropped,
            high_water_bytes: stats.high_water_bytes,
            batches: stats.batches.to_vec(),
            blocked_s: stats.blocked.as_secs_f64(),
            producer_waits: stats.producer_sleeps,
            consumers: consumers.collect(),
        }
    }

    fn name(&self, (stage, replica): (StageId, u32)) -> String {
        self.cx.pipeline.stage(stage).task_name(replica)
    }
}
