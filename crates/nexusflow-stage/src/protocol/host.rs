//! The runner's side of one control socket, without the socket: what to answer to what a stage says. Pure.

use std::collections::HashMap;

use super::{EdgeInfo, EdgePage, FromStage, Identity, Malformed, Refusal, ToStage, VERSIONS};

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
                Some(&number) => {
                    let rings = self.edges[number].rings;
                    Answer::Send(refuse(Refusal::UnknownRing, format!("edge `{edge}` has {rings} rings here")))
                }
                None => {
                    let stage = &self.identity.stage;
                    Answer::Send(refuse(Refusal::UnknownEdge, format!("stage `{stage}` has no edge `{edge}`")))
                }
            },
            Ok(FromStage::Journal) if self.welcomed => Answer::Journal,
            Ok(_) => Answer::SendAndClose(refuse(Refusal::Malformed, "a packet out of its turn".to_owned())),
            Err(malformed) => Answer::SendAndClose(refuse(Refusal::Malformed, malformed.to_string())),
        }
    }
}

fn refuse(code: Refusal, text: String) -> ToStage {
    ToStage::Refuse { code, text }
}
