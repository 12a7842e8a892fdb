//! The expansion of a ring edge into rings, each with one producing and one or many consuming processes.

use super::edges::{PAGE, Resolved, replicas};
use super::{Edge, EdgeId, Pipeline, StageId};
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::units::show_size as size;
use crate::spec::{Delivery, Kind, Spec};

/// Their descriptors travel in one message of the stage's socket.
pub const MAX_CONSUMERS_PER_RING: u64 = 128;
pub const MAX_RINGS_PER_EDGE: u64 = 4096;
/// Of all rings of a pipeline together, in bytes.
pub const MAX_RING_MEMORY: u64 = 1 << 40;

/// One replica of a stage.
pub type Replica = (StageId, u32);

/// One ring, or one store of objects: what one process writes and one or many read, each at its own pace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingPlan {
    pub edge: EdgeId,
    pub producer: Replica,
    pub consumers: Vec<Replica>,
}

impl Pipeline {
    /// The rings of an edge, by producer and, when distributing, by consumer, both in the order of the file and then of
    /// their replicas. A pipe edge has none. Broadcast: one ring for each producer, with every consumer. Distribute:
    /// one ring for each pair; of objects one store for each producer, whoever of the consumers gets them.
    pub fn rings(&self, id: EdgeId) -> Vec<RingPlan> {
        let edge = self.edge(id);
        if edge.kind == Kind::Pipe {
            return vec![];
        }
        let consumers = self.replicas_of(&edge.to);
        let ring = |producer, consumers| RingPlan { edge: id, producer, consumers };
        let producers = self.replicas_of(&edge.from).into_iter();
        match edge.delivery {
            Delivery::Distribute if edge.kind == Kind::Object => {
                producers.map(|p| ring(p, consumers.clone())).collect()
            }
            Delivery::Broadcast => producers.map(|p| ring(p, consumers.clone())).collect(),
            Delivery::Distribute => producers.flat_map(|p| consumers.iter().map(move |&c| ring(p, vec![c]))).collect(),
        }
    }

    fn replicas_of(&self, stages: &[StageId]) -> Vec<Replica> {
        stages.iter().flat_map(|&s| (0..self.stage(s).replicas).map(move |r| (s, r))).collect()
    }
}

/// How many rings an edge has.
fn rings(spec: &Spec, edge: &Edge) -> u64 {
    match edge.delivery {
        Delivery::Broadcast => replicas(spec, &edge.from),
        Delivery::Distribute if edge.kind == Kind::Object => replicas(spec, &edge.from),
        Delivery::Distribute => replicas(spec, &edge.from).saturating_mul(replicas(spec, &edge.to)),
    }
}

pub(super) fn check(spec: &Spec, edges: &[Resolved], found: &mut Diagnostics) {
    let ring_edges = || edges.iter().enumerate().filter(|(_, r)| r.whole && r.edge.kind != Kind::Pipe);
    for (_, Resolved { edge, .. }) in ring_edges() {
        limits(spec, edge, found);
    }
    let mut asked: Vec<_> = ring_edges().map(|(i, r)| (memory(spec, &r.edge), i)).collect();
    let total = asked.iter().fold(0u128, |sum, &(bytes, _)| sum.saturating_add(bytes));
    if total <= u128::from(MAX_RING_MEMORY) {
        return;
    }
    asked.sort_by_key(|&(bytes, i)| (std::cmp::Reverse(bytes), i));
    let limit = size(MAX_RING_MEMORY);
    let message = format!("the rings of this pipeline ask for more than {limit} of memory");
    let d = asked.iter().take(3).fold(Diagnostic::error(codes::RING_MEMORY, message), |d, &(bytes, i)| {
        let (edge, n) = (&spec.edges[i], rings(spec, &edges[i].edge));
        d.at(&edge.capacity.span, format!("{n} × {} is {}", size(edge.capacity.value), about(bytes)))
    });
    found.push(
        d.note("`capacity` is per ring, and rings are populated before anything starts").help("lower `capacity`"),
    );
}

/// Of all rings of an edge, each rounded up to pages.
fn memory(spec: &Spec, edge: &Edge) -> u128 {
    u128::from(edge.capacity).next_multiple_of(u128::from(PAGE)).saturating_mul(u128::from(rings(spec, edge)))
}

/// In words for people, to a tenth.
fn about(bytes: u128) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib < 1024.0 { format!("{gib:.1}GiB") } else { format!("{:.1}TiB", gib / 1024.0) }
}

fn limits(spec: &Spec, edge: &Edge, found: &mut Diagnostics) {
    let (writing, reading, rings) = (replicas(spec, &edge.from), replicas(spec, &edge.to), rings(spec, edge));
    let name = &edge.name;
    if edge.kind == Kind::Object && reading > MAX_CONSUMERS_PER_RING {
        found.push(
            Diagnostic::error(codes::RING_LIMITS, format!("edge `{name}` has {reading} consumers"))
                .at(&edge.span, format!("objects have at most {MAX_CONSUMERS_PER_RING}"))
                .help("lower `replicas`, or put a stage in between"),
        );
    } else if edge.delivery == Delivery::Broadcast && reading > MAX_CONSUMERS_PER_RING {
        found.push(
            Diagnostic::error(codes::RING_LIMITS, format!("edge `{name}` has {reading} consumers"))
                .at(&edge.span, format!("a ring has at most {MAX_CONSUMERS_PER_RING}"))
                .note("with `delivery: broadcast` every consumer sees every message")
                .help("lower `replicas`, or use `delivery: distribute`"),
        );
    }
    if rings > MAX_RINGS_PER_EDGE {
        let how = if edge.delivery == Delivery::Distribute {
            format!("{writing} producers × {reading} consumers")
        } else {
            format!("{writing} producers")
        };
        found.push(
            Diagnostic::error(codes::RING_LIMITS, format!("edge `{name}` expands into {rings} rings"))
                .at(&edge.span, format!("{how}: at most {MAX_RINGS_PER_EDGE} rings"))
                .help("lower `replicas`, or put a stage in between"),
        );
    }
}
