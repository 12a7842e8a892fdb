//! Directed graphs as arrays: order and short cycles in linear time, without recursion, so that a chain of
//! 100,000 stages is as safe as a chain of three.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// In one strongly connected component a short cycle is looked for from this many nodes.
const STARTS: usize = 32;

/// Arcs by the node they leave; an arc keeps the index it was given with.
#[derive(Debug, Clone)]
pub struct Graph {
    first: Vec<u32>,
    arcs: Vec<Arc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arc {
    pub to: u32,
    /// Its index in the list the graph was built from.
    pub index: u32,
}

impl Graph {
    /// Arcs of one node stay in the order of the list.
    pub fn new(nodes: usize, list: &[(u32, u32)]) -> Self {
        let mut first = vec![0; nodes + 1];
        for &(from, _) in list {
            first[from as usize + 1] += 1;
        }
        for n in 0..nodes {
            first[n + 1] += first[n];
        }
        let mut next = first.clone();
        let mut arcs = vec![Arc { to: 0, index: 0 }; first[nodes] as usize];
        for (index, &(from, to)) in list.iter().enumerate() {
            let at = &mut next[from as usize];
            arcs[*at as usize] = Arc { to, index: index as u32 };
            *at += 1;
        }
        Self { first, arcs }
    }

    pub fn nodes(&self) -> usize {
        self.first.len() - 1
    }

    pub fn of(&self, node: u32) -> &[Arc] {
        &self.arcs[self.first[node as usize] as usize..self.first[node as usize + 1] as usize]
    }

    /// Every node after all nodes with an arc to it; among equals the lower number first. Nodes on cycles, and what
    /// only they lead to, are left out.
    pub fn order(&self) -> Vec<u32> {
        let mut open = vec![0u32; self.nodes()];
        for arc in &self.arcs {
            open[arc.to as usize] += 1;
        }
        let mut order: Vec<u32> = (0..self.nodes() as u32).filter(|&n| open[n as usize] == 0).collect();
        let mut at = 0;
        while at < order.len() {
            for arc in self.of(order[at]) {
                open[arc.to as usize] -= 1;
                if open[arc.to as usize] == 0 {
                    order.push(arc.to);
                }
            }
            at += 1;
        }
        order
    }

    /// One short cycle of each strongly connected component, as indices of its arcs, beginning at its lowest node.
    pub fn cycles(&self) -> Vec<Vec<u32>> {
        let mut ordered = vec![false; self.nodes()];
        let order = self.order();
        if order.len() == self.nodes() {
            return vec![];
        }
        order.iter().for_each(|&n| ordered[n as usize] = true);
        let left: Vec<u32> = (0..self.nodes() as u32).filter(|&n| !ordered[n as usize]).collect();
        let mut search = Search::new(self.nodes());
        let mut cycles = vec![];
        for part in self.components(&left) {
            part.iter().for_each(|&n| search.part[n as usize] = part[0]);
            if let Some(cycle) = search.shortest(self, &part) {
                cycles.push((part[0], cycle));
            }
        }
        cycles.sort_by_key(|&(lowest, _)| lowest);
        cycles.into_iter().map(|(_, cycle)| cycle).collect()
    }

    /// The strongly connected components among these nodes, each sorted.
    fn components(&self, nodes: &[u32]) -> Vec<Vec<u32>> {
        let mut local = vec![u32::MAX; self.nodes()];
        let mut graph = DiGraph::<u32, ()>::with_capacity(nodes.len(), 0);
        for &n in nodes {
            local[n as usize] = graph.add_node(n).index() as u32;
        }
        for &n in nodes {
            for arc in self.of(n).iter().filter(|a| local[a.to as usize] != u32::MAX) {
                graph.add_edge(
                    NodeIndex::new(local[n as usize] as usize),
                    NodeIndex::new(local[arc.to as usize] as usize),
                    (),
                );
            }
        }
        let mut parts: Vec<Vec<u32>> =
            kosaraju_scc(&graph).iter().map(|part| part.iter().map(|&i| graph[i]).collect()).collect();
        parts.iter_mut().for_each(|part| part.sort_unstable());
        parts
    }
}

/// Breadth-first search within one component, with arrays that outlive one search.
struct Search {
    /// The component of a node, by its lowest node.
    part: Vec<u32>,
    /// Node and arc by which a node was reached.
    reached: Vec<Option<(u32, u32)>>,
}

impl Search {
    fn new(nodes: usize) -> Self {
        Self { part: vec![u32::MAX; nodes], reached: vec![None; nodes] }
    }

    fn shortest(&mut self, graph: &Graph, part: &[u32]) -> Option<Vec<u32>> {
        part.iter().take(STARTS).filter_map(|&start| self.cycle_through(graph, start)).min_by_key(Vec::len)
    }

    fn cycle_through(&mut self, graph: &Graph, start: u32) -> Option<Vec<u32>> {
        let mut queue = vec![start];
        let mut at = 0;
        let mut closed = None;
        while at < queue.len() && closed.is_none() {
            let node = queue[at];
            at += 1;
            for arc in graph.of(node) {
                if arc.to == start {
                    closed = Some((node, arc.index));
                    break;
                }
                if self.part[arc.to as usize] == self.part[start as usize] && self.reached[arc.to as usize].is_none() {
                    self.reached[arc.to as usize] = Some((node, arc.index));
                    queue.push(arc.to);
                }
            }
        }
        let mut cycle = vec![];
        let mut step = closed;
        while let Some((node, arc)) = step {
            cycle.push(arc);
            step = if node == start { None } else { self.reached[node as usize] };
        }
        cycle.reverse();
        queue.iter().for_each(|&n| self.reached[n as usize] = None);
        if cycle.is_empty() { None } else { Some(cycle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn graph(nodes: usize, arcs: &[(u32, u32)]) -> Graph {
        Graph::new(nodes, arcs)
    }

    #[test]
    fn order_is_stable_and_leaves_cycles_out() {
        assert_eq!(graph(4, &[(3, 0), (1, 0)]).order(), [1, 2, 3, 0]);
        assert_eq!(graph(4, &[(0, 1), (1, 0), (1, 2)]).order(), [3]);
    }

    #[test]
    fn the_shortest_cycle_of_each_component_is_found() {
        // 0→1→2→3→0 with a shortcut 2→1; 4 on its own; 5→5.
        let arcs = [(0, 1), (1, 2), (2, 3), (3, 0), (2, 1), (3, 4), (5, 5)];
        assert_eq!(graph(6, &arcs).cycles(), [vec![1, 4], vec![6]]);
    }

    #[test]
    fn depth_is_no_danger() {
        let n = 200_000;
        let chain = Graph::new(n, &(1..n as u32).map(|i| (i, i - 1)).collect::<Vec<_>>());
        assert_eq!(chain.order().len(), n);
        assert!(chain.cycles().is_empty());
        let circle = Graph::new(n, &(0..n as u32).map(|i| (i, (i + 1) % n as u32)).collect::<Vec<_>>());
        assert_eq!(circle.cycles()[0].len(), n);
    }

    proptest! {
        #[test]
        fn cycles_are_closed_and_found_iff_there_is_no_order(arcs in prop::collection::vec((0u32..12, 0u32..12), 0..30)) {
            let g = graph(12, &arcs);
            let cycles = g.cycles();
            prop_assert_eq!(cycles.is_empty(), g.order().len() == 12);
            for cycle in cycles {
                for (i, &arc) in cycle.iter().enumerate() {
                    let next = cycle[(i + 1) % cycle.len()];
                    prop_assert_eq!(arcs[arc as usize].1, arcs[next as usize].0);
                }
            }
        }
    }
}
