//! The runner's side of one control socket, without the socket: what to answer to what a stage says. Pure.

use std::collections::HashMap;

use super::{Direction, EdgeInfo, EdgeKind, EdgePage, FromStage, Identity, Malformed, Refusal, ToStage, VERSIONS};

/// One attempt of one stage, as the runner knows it.
#[derive(Debug)]
pub struct Host {
    identity: Identity,
    edges: Vec<EdgeInfo>,
    numbers: HashMap<String, usize>,
    welcomed: bool,
}

/// What the runner is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Send(ToStage),
    /// Send this, then close: the peer does not speak this protocol.
    SendAndClose(ToStage),
    /// Send ring `ring` of the edge that has this number in the list given to [`Host::new`], with its descriptors,
    /// as soon as everyone on the edge runs. Further requests may come before; answer in order.
    Ring { edge: usize, ring: u32 },
    /// Keep the object that came with the packet, then say Published.
    Publish { edge: usize, slot: u32, serial: u64, len: u64 },
    /// Let go of what nobody needs any more, then say Published.
    Sweep { edge: usize },
    /// Send this object of store `store` of an edge.
    Take { edge: usize, store: u32, slot: u32, serial: u64 },
    /// The same for a ring beyond those announced, with what another replica has left unread; [`ToStage::NoMore`] when
    /// nobody can leave anything any more.
    Late { edge: usize, ring: u32 },
    /// Send this replica's journal: the one that its earlier processes had, or a new one.
    Journal,
}

impl Host {
    /// `identity.version` is filled in by the handshake.
    pub fn new(identity: Identity, edges: Vec<EdgeInfo>) -> Self {
        let numbers = edges.iter().enumerate().map(|(i, edge)| (edge.name.clone(), i)).collect();
        Self { identity, edges, numbers, welcomed: false }
    }

    pub fn edges(&self) -> &[EdgeInfo] {
        &self.edges
    }

    /// Whether the handshake is done: a process that never says hello is no SDK stage, and that is no mistake.
    pub fn welcomed(&self) -> bool {
        self.welcomed
    }

    /// The answer to a packet, or to what was none.
    pub fn answer(&mut self, said: Result<FromStage, Malformed>) -> Answer {
        match said {
            Ok(FromStage::Hello(hello)) if !self.welcomed => match hello.common_version() {
                Some(version) => {
                    self.welcomed = true;
                    self.identity.version = version;
                    let edges = EdgePage::of(&self.edges, 0);
                    Answer::Send(ToStage::Welcome { identity: self.identity.clone(), edges })
                }
                None => {
                    let (min, max) = VERSIONS;
                    Answer::SendAndClose(refuse(
                        Refusal::Version,
                        format!(
                            "this nexusflow speaks versions {min} to {max}; rebuild the stage with {}",
                            if hello.min > max {
                                "an older nexusflow-stage, or update nexusflow"
                            } else {
                                "a newer nexusflow-stage"
                            }
                        ),
                    ))
                }
            },
            Ok(FromStage::ListEdges { from }) if self.welcomed => {
                Answer::Send(ToStage::Edges(EdgePage::of(&self.edges, from as usize)))
            }
            Ok(FromStage::Attach { edge, ring }) if self.welcomed => match self.numbers.get(&edge) {
                Some(&number) if ring < self.edges[number].rings => Answer::Ring { edge: number, ring },
                Some(&number) if self.edges[number].is_handed_on() => Answer::Late { edge: number, ring },
                Some(&number) => {
                    let rings = self.edges[number].rings;
                    Answer::Send(refuse(Refusal::UnknownRing, format!("edge `{edge}` has {rings} rings here")))
                }
                None => {
                    let stage = &self.identity.stage;
                    Answer::Send(refuse(Refusal::UnknownEdge, format!("stage `{stage}` has no edge `{edge}`")))
                }
            },
            Ok(FromStage::Publish { edge, slot, serial, len }) if self.welcomed => {
                self.sealed(&edge, Direction::Output, |edge| Answer::Publish { edge, slot, serial, len })
            }
            Ok(FromStage::Sweep { edge }) if self.welcomed => {
                self.sealed(&edge, Direction::Output, |edge| Answer::Sweep { edge })
            }
            Ok(FromStage::Take { edge, store, slot, serial }) if self.welcomed => {
                self.sealed(&edge, Direction::Input, |edge| Answer::Take { edge, store, slot, serial })
            }
            Ok(FromStage::Journal) if self.welcomed => Answer::Journal,
            Ok(_) => Answer::SendAndClose(refuse(Refusal::Malformed, "a packet out of its turn".to_owned())),
            Err(malformed) => Answer::SendAndClose(refuse(Refusal::Malformed, malformed.to_string())),
        }
    }
}

impl Host {
    /// What to do with a sealed object of an edge, if it can have one.
    fn sealed(&self, name: &str, direction: Direction, what: impl FnOnce(usize) -> Answer) -> Answer {
        match self.numbers.get(name) {
            Some(&at) if (self.edges[at].kind, self.edges[at].direction) == (EdgeKind::Sealed, direction) => what(at),
            _ => {
                let text = format!("stage `{}` has no sealed objects on an edge `{name}`", self.identity.stage);
                Answer::Send(refuse(Refusal::UnknownEdge, text))
            }
        }
    }
}

fn refuse(code: Refusal, text: String) -> ToStage {
    ToStage::Refuse { code, text }
}
