//! The object edges of one gang: their stores, and whose they are.

use std::sync::Arc;

use nexusflow_stage::object::{ObjectInput, Store, StoreOptions, Writer};
use nexusflow_stage::ring::{Memory, WaitMode};
use nexusflow_stage::{Error, Result};

use super::wiring::{Owner, by, wait_mode};
use crate::pipeline::{Edge, EdgeId, RingPlan};
use crate::spec::Delivery;

/// A store and whose it is.
#[derive(Debug)]
pub(super) struct Stored {
    pub plan: RingPlan,
    pub store: Arc<Store>,
}

/// All of a gang.
#[derive(Debug, Default)]
pub(super) struct Stores(Vec<Stored>);

impl Stores {
    pub fn make(&mut self, plan: RingPlan, edge: &Edge, memory: Memory, one_cpu: bool) -> Result<()> {
        let options = StoreOptions {
            name: &edge.name,
            capacity: edge.capacity,
            consumers: plan.consumers.len(),
            wait: if one_cpu { WaitMode::Block } else { wait_mode(edge.wait) },
            sealed: edge.sealed,
            distribute: edge.delivery == Delivery::Distribute,
        };
        let store = Store::create_in(&options, memory)?;
        self.0.push(Stored { plan, store: Arc::new(store) });
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.0.iter()
    }

    /// The store of an edge that this replica writes: one, if any.
    pub fn written_by(&self, owner: Owner, edge: EdgeId) -> Option<&Stored> {
        self.0.iter().find(|s| s.plan.edge == edge && s.plan.producer == owner)
    }

    /// The stores of an edge that this replica reads, with its place among their consumers.
    pub fn read_by(&self, owner: Owner, edge: EdgeId) -> impl Iterator<Item = (&Stored, usize)> {
        self.0.iter().filter(move |s| s.plan.edge == edge).filter_map(move |s| Some((s, s.place_of(owner)?)))
    }

    /// The writing end, for a thread of the runner.
    pub fn writer(&self, owner: Owner, id: EdgeId, edge: &Edge) -> Result<Writer> {
        let Some(stored) = self.written_by(owner, id) else { return Err(Error::Closed { edge: edge.name.clone() }) };
        let writer = stored.store.writer()?;
        writer.choose_by(by(edge.by))?;
        Ok(writer)
    }

    /// The reading end, for a thread of the runner.
    pub fn input(&self, owner: Owner, id: EdgeId, edge: &Edge) -> Result<ObjectInput> {
        let readers = self.read_by(owner, id).map(|(stored, at)| stored.store.reader(at));
        Ok(ObjectInput::new(&edge.name, readers.collect::<Result<_>>()?))
    }

    /// The replica has ended well: what it wrote ends.
    pub fn close(&self, owner: Owner) -> Result<()> {
        let mine = self.0.iter().filter(|s| s.plan.producer == owner);
        mine.map(|s| s.store.close()).fold(Ok(()), Result::and)
    }

    /// The replica reads no more.
    pub fn detach(&self, owner: Owner) {
        for stored in &self.0 {
            if let Some(at) = stored.place_of(owner) {
                stored.store.detach(at);
            }
        }
    }

    /// Whether the replica has released all there will ever be for it.
    pub fn drained(&self, owner: Owner) -> bool {
        let mut mine = self.0.iter().filter_map(|s| Some(s.store.drained(s.place_of(owner)?)));
        mine.all(|drained| drained.unwrap_or(true))
    }

    pub fn wake_all(&self) {
        self.0.iter().for_each(|s| s.store.wake_all());
    }
}

impl Stored {
    /// The replica's place among the consumers.
    fn place_of(&self, owner: Owner) -> Option<usize> {
        self.plan.consumers.iter().position(|c| *c == owner)
    }
}
