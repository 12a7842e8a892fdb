//! What a replica leaves unread on an edge that distributes, and who reads it instead.
//!
//! A replica that has read all its rings asks for more. When every other one has read its share, has asked too, or has
//! left, nothing more can be written and nobody else is to come back: then the rings of those that left, from where they
//! had released, are handed to those that ask, each ring to one of them. Asked again, a restarted heir gets the same ones.

use std::collections::BTreeSet;

use super::{Gang, Owner};
use crate::pipeline::EdgeId;

/// One gang's rings with readers that are not the first.
#[derive(Debug, Default)]
pub struct Heirs {
    /// Ring, which of its consumers, and who that is now; in the order in which they were handed on.
    handed: Vec<(usize, usize, Owner)>,
    /// Who has read all, and has had no answer yet.
    asking: BTreeSet<(EdgeId, Owner)>,
    /// Who was told that there is no more.
    through: BTreeSet<(EdgeId, Owner)>,
    /// Others that ask may have an answer now.
    news: bool,
}

/// The answer to who asks for its `n`-th late ring.
#[derive(Debug, PartialEq, Eq)]
pub enum Late {
    /// This ring, as this consumer of it.
    Ring(usize, usize),
    NoMore,
    /// Somebody may still leave something.
    Wait,
}

impl Gang {
    pub fn late(&mut self, owner: Owner, edge: EdgeId, n: usize) -> Result<Late, String> {
        let handed = self.handed_to(owner, edge).nth(n);
        if let Some((ring, at)) = handed {
            return Ok(Late::Ring(ring, at));
        }
        self.heirs.news |= self.heirs.asking.insert((edge, owner));
        if !self.all_is_read(edge)? {
            return Ok(Late::Wait);
        }
        if self.hand_on(edge)? {
            self.heirs.news = true;
            return self.late(owner, edge, n);
        }
        Ok(Late::NoMore)
    }

    /// Who was told that there is no more has its answer.
    pub fn answered(&mut self, owner: Owner, edge: EdgeId) {
        self.heirs.asking.remove(&(edge, owner));
        self.heirs.through.insert((edge, owner));
    }

    /// The replica's process has ended: it asks for nothing, and its successor asks anew.
    pub fn asks_no_more(&mut self, owner: Owner) {
        self.heirs.asking.retain(|(_, asks)| *asks != owner);
        self.heirs.through.retain(|(_, asked)| *asked != owner);
    }

    /// Somebody has left, so that others may be answered.
    pub fn somebody_left(&mut self) {
        self.heirs.news |= !self.heirs.asking.is_empty();
    }

    /// Whether those that ask should be looked at again.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.heirs.news)
    }

    /// Who reads as this consumer of the ring.
    pub fn reader(&self, ring: usize, at: usize) -> Owner {
        let handed = self.heirs.handed.iter().rev().find(|h| (h.0, h.1) == (ring, at));
        handed.map_or(self.rings[ring].plan.consumers[at], |h| h.2)
    }

    /// The ends that a replica reads now.
    pub fn read_now_by(&self, owner: Owner) -> impl Iterator<Item = (usize, usize)> {
        let consumers = |(i, ring): (usize, &super::Ring)| (0..ring.plan.consumers.len()).map(move |at| (i, at));
        self.rings.iter().enumerate().flat_map(consumers).filter(move |&(i, at)| self.reader(i, at) == owner)
    }

    /// All rings of an edge that the replica has been given, by its own numbers.
    pub fn given_to(&self, owner: Owner, edge: EdgeId) -> impl Iterator<Item = (usize, usize)> {
        let rings = self.rings.iter().enumerate().filter(move |(_, r)| r.plan.edge == edge);
        let first = rings.filter_map(move |(i, r)| Some((i, r.plan.consumers.iter().position(|c| *c == owner)?)));
        first.chain(self.handed_to(owner, edge))
    }

    fn handed_to(&self, owner: Owner, edge: EdgeId) -> impl Iterator<Item = (usize, usize)> {
        let of_edge =
            move |&&(ring, _, heir): &&(usize, usize, Owner)| heir == owner && self.rings[ring].plan.edge == edge;
        self.heirs.handed.iter().filter(of_edge).map(|h| (h.0, h.1))
    }

    /// Whoever reads the edge has read all of its share, asks for more, or has left.
    fn all_is_read(&self, edge: EdgeId) -> Result<bool, String> {
        for (i, ring) in self.rings.iter().enumerate().filter(|(_, r)| r.plan.edge == edge) {
            for at in 0..ring.plan.consumers.len() {
                let reader = (edge, self.reader(i, at));
                let through = self.heirs.asking.contains(&reader) || self.heirs.through.contains(&reader);
                if !through && !ring.segment.drained(at).map_err(|e| e.to_string())? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Hands what others left unread to those that ask, in turn: whether there was anything.
    fn hand_on(&mut self, edge: EdgeId) -> Result<bool, String> {
        let asking: Vec<Owner> = self.heirs.asking.iter().filter(|a| a.0 == edge).map(|a| a.1).collect();
        let mut turn = asking.iter().cycle();
        let mut found = false;
        for i in 0..self.rings.len() {
            if self.rings[i].plan.edge != edge {
                continue;
            }
            for at in 0..self.rings[i].plan.consumers.len() {
                if self.rings[i].segment.hand_on(at).map_err(|e| e.to_string())? {
                    let heir = *turn.next().expect("somebody asks");
                    self.heirs.handed.push((i, at, heir));
                    self.heirs.asking.remove(&(edge, heir)); // it has something to read
                    found = true;
                }
            }
        }
        Ok(found)
    }
}
