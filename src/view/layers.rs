//! The order of a picture: which column each box stands in and in which order, so that few lines cross.
//! Columns are layers of the longest path; lines over several columns pass through waypoints of their own.

use std::collections::HashMap;

/// Waypoints that all long lines of a picture may have together; beyond, lines go straight, so that time stays linear.
const MAX_WAYPOINTS: usize = 10_000;
/// Up to this many cells crossings are counted, and the best of many sweeps is kept.
const CAREFUL: usize = 2_000;
const SWEEPS: usize = 24;
const QUICK_SWEEPS: usize = 4;

/// A box (those come first, with their own numbers) or a waypoint of a line.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub column: u32,
    /// Cells of one group stand together in their column.
    pub group: Option<u32>,
    pub waypoint: bool,
}

#[derive(Debug)]
pub(super) struct Layers {
    pub cells: Vec<Cell>,
    /// The cells of each column from top to bottom.
    pub columns: Vec<Vec<u32>>,
    /// For each link its cells from left to right; a link to itself has one.
    pub chains: Vec<Vec<u32>>,
    /// For each cell its neighbours in the chains through it.
    pub before: Vec<Vec<u32>>,
    pub after: Vec<Vec<u32>>,
}

pub(super) fn arrange(groups: &[Option<u32>], links: &[(u32, u32)]) -> Layers {
    let forward = without_cycles(groups.len(), links);
    let columns = columns(groups.len(), &forward);
    let mut layers = chains(groups, &forward, &columns);
    layers.sort();
    layers
}

/// Links from left to right: those that close a cycle are turned round.
fn without_cycles(nodes: usize, links: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut out = vec![vec![]; nodes];
    let mut entered = vec![false; nodes];
    for (i, &(from, to)) in links.iter().enumerate() {
        out[from as usize].push(i);
        entered[to as usize] |= from != to;
    }
    let mut forward = links.to_vec();
    // 0: not seen, 1: on the path from the start, 2: done.
    let mut state = vec![0u8; nodes];
    let starts = (0..nodes).filter(|&n| !entered[n]).chain(0..nodes);
    for start in starts {
        let mut path = if state[start] == 0 { vec![(start, 0)] } else { vec![] };
        while let Some((node, next)) = path.last_mut() {
            state[*node] = 1;
            let Some(&link) = out[*node].get(*next) else {
                state[*node] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            let to = links[link].1 as usize;
            match state[to] {
                0 => path.push((to, 0)),
                1 => forward[link] = (links[link].1, links[link].0),
                _ => {}
            }
        }
    }
    forward
}

/// Longest path from the left, then boxes are drawn towards what they are joined to.
fn columns(nodes: usize, links: &[(u32, u32)]) -> Vec<u32> {
    let (mut before, mut after) = (vec![vec![]; nodes], vec![vec![]; nodes]);
    for &(from, to) in links.iter().filter(|(from, to)| from != to) {
        after[from as usize].push(to);
        before[to as usize].push(from);
    }
    let mut open: Vec<_> = before.iter().map(Vec::len).collect();
    let mut order: Vec<u32> = (0..nodes as u32).filter(|&n| open[n as usize] == 0).collect();
    let mut column = vec![0; nodes];
    let mut at = 0;
    while at < order.len() {
        let node = order[at];
        for &to in &after[node as usize] {
            column[to as usize] = column[to as usize].max(column[node as usize] + 1);
            open[to as usize] -= 1;
            if open[to as usize] == 0 {
                order.push(to);
            }
        }
        at += 1;
    }
    for &node in order.iter().rev() {
        let n = node as usize;
        if let Some(next) = after[n].iter().map(|&a| column[a as usize]).min()
            && before[n].len() <= after[n].len()
        {
            column[n] = next - 1;
        }
    }
    for &node in &order {
        let n = node as usize;
        if let Some(last) = before[n].iter().map(|&b| column[b as usize]).max()
            && before[n].len() >= after[n].len()
        {
            column[n] = last + 1;
        }
    }
    let first = column.iter().min().copied().unwrap_or(0);
    column.iter().map(|c| c - first).collect()
}

/// Cells, chains and the first order of each column.
fn chains(groups: &[Option<u32>], links: &[(u32, u32)], column: &[u32]) -> Layers {
    let mut cells: Vec<_> =
        (groups.iter().zip(column)).map(|(&group, &column)| Cell { column, group, waypoint: false }).collect();
    let mut left = MAX_WAYPOINTS;
    let mut chains = Vec::with_capacity(links.len());
    for &(from, to) in links {
        let mut chain = vec![from];
        let (first, last) = (column[from as usize] + 1, column[to as usize]);
        let passes = last.saturating_sub(first) as usize;
        if passes <= left {
            left -= passes;
            // A line between two boxes of one group belongs to the group.
            let group = groups[from as usize].filter(|_| groups[from as usize] == groups[to as usize]);
            for column in first..last {
                chain.push(cells.len() as u32);
                cells.push(Cell { column, group, waypoint: true });
            }
        }
        if from != to {
            chain.push(to);
        }
        chains.push(chain);
    }
    let (mut before, mut after) = (vec![vec![]; cells.len()], vec![vec![]; cells.len()]);
    for pair in chains.iter().flat_map(|chain| chain.windows(2)) {
        after[pair[0] as usize].push(pair[1]);
        before[pair[1] as usize].push(pair[0]);
    }
    let count = cells.iter().map(|c| c.column as usize + 1).max().unwrap_or(0);
    let mut columns = vec![vec![]; count];
    for cell in first_order(&before, &after) {
        columns[cells[cell as usize].column as usize].push(cell);
    }
    Layers { cells, columns, chains, before, after }
}

/// Cells as a walk along the lines meets them, so that what is joined begins side by side.
fn first_order(before: &[Vec<u32>], after: &[Vec<u32>]) -> Vec<u32> {
    let mut seen = vec![false; before.len()];
    let mut order = Vec::with_capacity(before.len());
    let starts = (0..before.len() as u32).filter(|&c| before[c as usize].is_empty()).chain(0..before.len() as u32);
    for start in starts {
        let mut stack = vec![start];
        while let Some(cell) = stack.pop() {
            if !std::mem::replace(&mut seen[cell as usize], true) {
                order.push(cell);
                stack.extend(after[cell as usize].iter().rev().filter(|&&c| !seen[c as usize]));
            }
        }
    }
    order
}

impl Layers {
    /// Sweeps to and fro, each column by the mean place of its neighbours in the one before.
    fn sort(&mut self) {
        let careful = self.cells.len() <= CAREFUL;
        let mut places = vec![0; self.cells.len()];
        let mut best = (usize::MAX, self.columns.clone());
        for sweep in 0..if careful { SWEEPS } else { QUICK_SWEEPS } {
            self.columns.iter().for_each(|c| note_places(c, &mut places));
            let rightwards = sweep % 2 == 0;
            for i in 0..self.columns.len() {
                let at = if rightwards { i } else { self.columns.len() - 1 - i };
                let mut column = std::mem::take(&mut self.columns[at]);
                self.sort_column(&mut column, &places, if rightwards { &self.before } else { &self.after });
                note_places(&column, &mut places);
                self.columns[at] = column;
            }
            if careful {
                let crossings = self.crossings(&places);
                if crossings < best.0 {
                    best = (crossings, self.columns.clone());
                }
            }
        }
        if careful {
            self.columns = best.1;
        }
    }

    fn sort_column(&self, column: &mut [u32], places: &[u32], neighbours: &[Vec<u32>]) {
        let wish = |cell: u32| {
            let near = &neighbours[cell as usize];
            if near.is_empty() {
                return f64::from(places[cell as usize]);
            }
            near.iter().map(|&n| f64::from(places[n as usize])).sum::<f64>() / near.len() as f64
        };
        let mut of_group: HashMap<u32, (f64, f64)> = HashMap::new();
        for &cell in column.iter() {
            if let Some(group) = self.cells[cell as usize].group {
                let (sum, count) = of_group.entry(group).or_default();
                (*sum, *count) = (*sum + wish(cell), *count + 1.0);
            }
        }
        let key = |cell: u32| {
            let own = wish(cell);
            let group = self.cells[cell as usize].group;
            let together = group.map_or(own, |g| of_group[&g].0 / of_group[&g].1);
            (together, group, own, places[cell as usize])
        };
        let mut keyed: Vec<_> = column.iter().map(|&cell| (key(cell), cell)).collect();
        keyed.sort_by(|(a, _), (b, _)| {
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2)).then(a.3.cmp(&b.3))
        });
        column.iter_mut().zip(keyed).for_each(|(cell, (_, sorted))| *cell = sorted);
    }

    fn crossings(&self, places: &[u32]) -> usize {
        self.columns.iter().map(|column| crossings(column, &self.after, places)).sum()
    }
}

fn note_places(column: &[u32], places: &mut [u32]) {
    column.iter().enumerate().for_each(|(place, &cell)| places[cell as usize] = place as u32);
}

/// Pairs of lines to the next column that cross: inversions, counted with a Fenwick tree.
fn crossings(column: &[u32], after: &[Vec<u32>], places: &[u32]) -> usize {
    let mut ends: Vec<Vec<usize>> =
        column.iter().map(|&c| after[c as usize].iter().map(|&a| places[a as usize] as usize).collect()).collect();
    ends.iter_mut().for_each(|e| e.sort_unstable());
    let ends: Vec<usize> = ends.into_iter().flatten().collect();
    let mut tree = vec![0usize; ends.iter().max().map_or(0, |m| m + 2)];
    let mut crossings = 0;
    for (seen, &end) in ends.iter().enumerate() {
        let mut at = end + 1;
        let mut not_below = 0;
        while at > 0 {
            not_below += tree[at];
            at &= at - 1;
        }
        crossings += seen - not_below;
        at = end + 1;
        while at < tree.len() {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crossings_are_inversions() {
        let after = vec![vec![4], vec![3], vec![2, 3], vec![], vec![]];
        // Lines 0→4, 1→3, 2→2', 2→3 with places 0,1,2 of the ends 2,3,4.
        let places = vec![0, 1, 0, 1, 2];
        assert_eq!(crossings(&[0, 1, 2], &after, &places), 1 + 2 + 1);
    }

    #[test]
    fn a_crossing_that_need_not_be_is_undone() {
        let layers = arrange(&[None; 4], &[(0, 3), (1, 2)]);
        let place = |cell: u32| layers.columns.iter().flat_map(|c| c.iter().position(|&x| x == cell)).next().unwrap();
        assert_eq!(place(0) < place(1), place(3) < place(2));
    }

    #[test]
    fn a_source_stands_beside_what_it_feeds() {
        // 0→1→2→3, and 4→3.
        let layers = arrange(&[None; 5], &[(0, 1), (1, 2), (2, 3), (4, 3)]);
        assert_eq!(layers.cells[4].column, 2);
    }

    proptest! {
        #[test]
        fn lines_go_right_through_every_column_and_groups_stay_together(
            links in prop::collection::vec((0u32..14, 0u32..14), 0..30),
            groups in prop::collection::vec(prop::option::of(0u32..3), 14),
        ) {
            let layers = arrange(&groups, &links);
            prop_assert_eq!(layers.columns.iter().map(Vec::len).sum::<usize>(), layers.cells.len());
            for chain in &layers.chains {
                for pair in chain.windows(2) {
                    let column = |c: u32| layers.cells[c as usize].column;
                    prop_assert_eq!(column(pair[0]) + 1, column(pair[1]));
                }
            }
            for column in &layers.columns {
                let mut groups: Vec<_> = column.iter().filter_map(|&c| layers.cells[c as usize].group).collect();
                let stretches = column.chunk_by(|a, b| layers.cells[*a as usize].group == layers.cells[*b as usize].group);
                let stretches = stretches.filter(|s| layers.cells[s[0] as usize].group.is_some()).count();
                groups.sort();
                groups.dedup();
                prop_assert_eq!(stretches, groups.len());
            }
        }
    }
}
