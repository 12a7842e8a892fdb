//! Gangs: stages that edges tie together, directly or through others. They start together.

use super::edges::Resolved;
use super::{GangId, StageId};

/// Each stage's gang, numbered by the first stage of each, and each gang's stages in the order of the file.
pub(super) fn find(stages: usize, edges: &[Resolved]) -> (Vec<GangId>, Vec<Vec<StageId>>) {
    let mut sets = UnionFind::new(stages);
    for Resolved { edge, .. } in edges {
        let mut ends = edge.from.iter().chain(&edge.to);
        if let Some(first) = ends.next() {
            ends.for_each(|other| sets.join(first.0, other.0));
        }
    }
    let mut gang_of_root = vec![None; stages];
    let mut gangs: Vec<Vec<StageId>> = vec![];
    let of = (0..stages as u32).map(|stage| {
        let gang = *gang_of_root[sets.root(stage) as usize].get_or_insert_with(|| {
            gangs.push(vec![]);
            GangId(gangs.len() as u32 - 1)
        });
        gangs[gang.0 as usize].push(StageId(stage));
        gang
    });
    let of = of.collect();
    (of, gangs)
}

struct UnionFind {
    parent: Vec<u32>,
}

impl UnionFind {
    fn new(n: usize) -> Self {
        Self { parent: (0..n as u32).collect() }
    }

    /// With path halving.
    fn root(&mut self, mut x: u32) -> u32 {
        while self.parent[x as usize] != x {
            self.parent[x as usize] = self.parent[self.parent[x as usize] as usize];
            x = self.parent[x as usize];
        }
        x
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }
}
