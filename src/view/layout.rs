//! Pure geometry: boxes and the lines between them become places, curves and the outlines of groups.

use super::layers::{Cell, Layers, arrange};

/// Between two boxes of a column, two lines, and from a group to what is around it.
const ROW_GAP: f64 = 16.0;
const LINE_GAP: f64 = 9.0;
/// Where lines meet a box.
const NEAREST_LINES: f64 = 4.0;
pub const GROUP_PAD: f64 = 10.0;
const COLUMN_GAP: f64 = 30.0;
/// A column with many lines to the next is given more room, up to this.
const MAX_COLUMN_GAP: f64 = 84.0;
const PART_GAP: f64 = 34.0;
/// Parts that nothing joins stand side by side up to this width.
const SHELF: f64 = 1100.0;
const SWEEPS: usize = 12;
/// How much a long line wants to be straight, against a box wanting to be amid its neighbours.
const STRAIGHT: f64 = 4.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

#[derive(Debug, Clone)]
pub struct Shape {
    pub width: f64,
    pub height: f64,
    /// Shapes of one group are kept together and get an outline.
    pub group: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    /// The upper left corner of each shape.
    pub shapes: Vec<Point>,
    /// For each link the points it passes, from its beginning to its end, horizontally at each.
    pub links: Vec<Vec<Point>>,
    /// The outline of each group of more than one shape: its upper and its lower side from left to right.
    pub groups: Vec<(u32, Vec<(Point, Point)>)>,
}

/// Lays shapes out from left to right along the links, part by part where nothing joins them.
pub fn layout(shapes: &[Shape], links: &[(u32, u32)]) -> Layout {
    let mut whole = Layout {
        shapes: vec![Point { x: 0.0, y: 0.0 }; shapes.len()],
        links: vec![vec![]; links.len()],
        ..Layout::default()
    };
    let parts: Vec<_> = parts(shapes, links).into_iter().map(|part| (lay_part(shapes, links, &part), part)).collect();
    let shelf = parts.iter().map(|(l, _)| l.width).fold(SHELF, f64::max);
    let (mut x, mut y, mut row) = (0.0, 0.0, 0.0f64);
    for (part, members) in parts {
        if x > 0.0 && x + part.width > shelf {
            (x, y, row) = (0.0, y + row + PART_GAP, 0.0);
        }
        let moved = |p: Point| Point { x: p.x + x, y: p.y + y };
        members.shapes.iter().zip(part.shapes).for_each(|(&i, p)| whole.shapes[i as usize] = moved(p));
        for (&i, points) in members.links.iter().zip(part.links) {
            whole.links[i as usize] = points.into_iter().map(moved).collect();
        }
        for (group, sides) in part.groups {
            whole.groups.push((group, sides.into_iter().map(|(a, b)| (moved(a), moved(b))).collect()));
        }
        whole.width = whole.width.max(x + part.width);
        whole.height = whole.height.max(y + part.height);
        row = row.max(part.height);
        x += part.width + PART_GAP;
    }
    whole
}

/// What links join, by numbers of the whole picture.
#[derive(Default)]
struct Part {
    shapes: Vec<u32>,
    links: Vec<u32>,
}

fn parts(shapes: &[Shape], links: &[(u32, u32)]) -> Vec<Part> {
    let mut root: Vec<u32> = (0..shapes.len() as u32).collect();
    let find = |root: &mut Vec<u32>, mut x: u32| {
        while root[x as usize] != x {
            root[x as usize] = root[root[x as usize] as usize];
            x = root[x as usize];
        }
        x
    };
    for &(a, b) in links {
        let (a, b) = (find(&mut root, a), find(&mut root, b));
        root[a.max(b) as usize] = a.min(b);
    }
    let mut part_of = vec![usize::MAX; shapes.len()];
    let mut parts: Vec<Part> = vec![];
    for shape in 0..shapes.len() as u32 {
        let root = find(&mut root, shape) as usize;
        if part_of[root] == usize::MAX {
            part_of[root] = parts.len();
            parts.push(Part::default());
        }
        part_of[shape as usize] = part_of[root];
        parts[part_of[root]].shapes.push(shape);
    }
    for (i, &(from, _)) in links.iter().enumerate() {
        parts[part_of[from as usize]].links.push(i as u32);
    }
    parts
}

fn lay_part(shapes: &[Shape], links: &[(u32, u32)], part: &Part) -> Layout {
    let own: Vec<&Shape> = part.shapes.iter().map(|&s| &shapes[s as usize]).collect();
    let local = |s: u32| part.shapes.binary_search(&s).unwrap_or(0) as u32;
    let own_links: Vec<_> = part.links.iter().map(|&l| links[l as usize]).map(|(a, b)| (local(a), local(b))).collect();
    let groups: Vec<_> = own.iter().map(|s| s.group).collect();
    let layers = arrange(&groups, &own_links);
    let mut place = Place::new(&layers, &own);
    place.settle();
    place.finish(&own_links)
}

/// Cells on their way to a place.
struct Place<'a> {
    layers: &'a Layers,
    shapes: &'a [&'a Shape],
    /// Of each cell's middle.
    y: Vec<f64>,
    /// Left and right of each column.
    columns: Vec<(f64, f64)>,
}

impl<'a> Place<'a> {
    fn new(layers: &'a Layers, shapes: &'a [&'a Shape]) -> Self {
        let mut place = Self { layers, shapes, y: vec![0.0; layers.cells.len()], columns: vec![] };
        let mut left = 0.0;
        for column in &layers.columns {
            let width = column.iter().map(|&c| place.size(c).0).fold(0.0, f64::max);
            place.columns.push((left, left + width));
            let lines = column.iter().map(|&c| layers.after[c as usize].len()).sum::<usize>();
            left += width + (COLUMN_GAP + 3.0 * lines as f64).min(MAX_COLUMN_GAP);
            place.set(column, &vec![0.0; column.len()], &vec![1.0; column.len()]);
        }
        place
    }

    fn size(&self, cell: u32) -> (f64, f64) {
        self.shapes.get(cell as usize).map_or((0.0, 0.0), |s| (s.width, s.height))
    }

    /// Between the middles of two cells, the upper one first.
    fn apart(&self, upper: u32, lower: u32) -> f64 {
        let (a, b): (&Cell, &Cell) = (&self.layers.cells[upper as usize], &self.layers.cells[lower as usize]);
        let gap = if a.waypoint && b.waypoint { LINE_GAP } else { ROW_GAP };
        let pads =
            if a.group == b.group { 0.0 } else { [a.group, b.group].iter().flatten().count() as f64 * GROUP_PAD };
        (self.size(upper).1 + self.size(lower).1) / 2.0 + gap + pads
    }

    /// Puts the cells of a column as near to their wishes as their order and the gaps between them allow: least squares
    /// by pooling neighbours that would be too close.
    fn set(&mut self, column: &[u32], wishes: &[f64], weights: &[f64]) {
        let mut offset = 0.0;
        let mut offsets = Vec::with_capacity(column.len());
        // Pools: mean wish, weight, how many cells.
        let mut pools: Vec<(f64, f64, usize)> = vec![];
        for (i, (&wish, &weight)) in wishes.iter().zip(weights).enumerate() {
            if i > 0 {
                offset += self.apart(column[i - 1], column[i]);
            }
            offsets.push(offset);
            let mut pool = (wish - offset, weight, 1);
            while let Some(&(mean, heavy, count)) = pools.last().filter(|p| p.0 >= pool.0) {
                let sum = heavy + pool.1;
                pool = ((mean * heavy + pool.0 * pool.1) / sum, sum, count + pool.2);
                pools.pop();
            }
            pools.push(pool);
        }
        let means = pools.iter().flat_map(|&(mean, _, count)| std::iter::repeat_n(mean, count));
        for ((&cell, mean), offset) in column.iter().zip(means).zip(offsets) {
            self.y[cell as usize] = mean + offset;
        }
    }

    fn settle(&mut self) {
        let layers = self.layers;
        let last = layers.columns.len();
        for sweep in 0..SWEEPS {
            // The last sweeps look both ways, so that neither side is preferred.
            let both = sweep + 4 >= SWEEPS;
            for i in 0..last {
                let at = if sweep % 2 == 0 { i } else { last - 1 - i };
                let (before, after) = (both || sweep % 2 == 0, both || sweep % 2 == 1);
                let (wishes, weights): (Vec<_>, Vec<_>) =
                    layers.columns[at].iter().map(|&cell| self.wish(cell, before, after)).unzip();
                self.set(&layers.columns[at], &wishes, &weights);
            }
        }
    }

    /// The mean place of the neighbours, and how much it matters.
    fn wish(&self, cell: u32, before: bool, after: bool) -> (f64, f64) {
        let c = cell as usize;
        let near = before.then_some(&self.layers.before[c]).into_iter().chain(after.then_some(&self.layers.after[c]));
        let (mut sum, mut weight) = (0.0, 0.0);
        for &n in near.flatten() {
            let straight = self.layers.cells[c].waypoint && self.layers.cells[n as usize].waypoint;
            let w = if straight { STRAIGHT } else { 1.0 };
            (sum, weight) = (sum + w * self.y[n as usize], weight + w);
        }
        if weight > 0.0 { (sum / weight, weight) } else { (self.y[c], 0.1) }
    }

    fn finish(mut self, links: &[(u32, u32)]) -> Layout {
        let top = |place: &Self, cell: u32| place.y[cell as usize] - place.size(cell).1 / 2.0;
        let cells = || 0..self.layers.cells.len() as u32;
        let pad = if self.layers.cells.iter().any(|c| c.group.is_some()) { GROUP_PAD } else { 0.0 };
        let highest = cells().map(|c| top(&self, c)).fold(f64::INFINITY, f64::min);
        let lowest = cells().map(|c| top(&self, c) + self.size(c).1).fold(f64::NEG_INFINITY, f64::max);
        self.y.iter_mut().for_each(|y| *y += pad - highest);
        self.columns.iter_mut().for_each(|c| *c = (c.0 + pad, c.1 + pad));
        let shapes = (0..self.shapes.len() as u32).map(|s| Point { x: self.sides(s).0, y: top(&self, s) });
        Layout {
            width: self.columns.last().map_or(0.0, |c| c.1) + pad,
            height: lowest - highest + 2.0 * pad,
            shapes: shapes.collect(),
            links: self.lines(links),
            groups: self.outlines(),
        }
    }

    /// Left and right of a cell: boxes stand in the middle of their column, lines pass all of it.
    fn sides(&self, cell: u32) -> (f64, f64) {
        let (left, right) = self.columns[self.layers.cells[cell as usize].column as usize];
        match self.shapes.get(cell as usize) {
            Some(s) => ((left + right - s.width) / 2.0, (left + right + s.width) / 2.0),
            None => (left, right),
        }
    }

    fn lines(&self, links: &[(u32, u32)]) -> Vec<Vec<Point>> {
        let chains = &self.layers.chains;
        let leaves = self.ports(|chain| (chain[0], chain.get(1)));
        let enters = self.ports(|chain| (chain[chain.len() - 1], chain.iter().rev().nth(1)));
        let line = |i: usize, chain: &Vec<u32>| {
            let mut points = vec![];
            for (k, &cell) in chain.iter().enumerate().filter(|_| chain.len() > 1) {
                let (left, right) = self.sides(cell);
                let (y, column) =
                    (self.y[cell as usize], self.columns[self.layers.cells[cell as usize].column as usize]);
                let sides = if k == 0 {
                    [(right, y + leaves[i]), (column.1, y + leaves[i])]
                } else if k + 1 == chain.len() {
                    [(column.0, y + enters[i]), (left, y + enters[i])]
                } else {
                    [(left, y), (right, y)]
                };
                points.extend(sides.map(|(x, y)| Point { x, y }));
            }
            points.dedup();
            if chain[0] != links[i].0 {
                points.reverse();
            }
            points
        };
        chains.iter().enumerate().map(|(i, chain)| line(i, chain)).collect()
    }

    /// Where each line touches its box, from the box's middle: lines at one side are spread in the order of where they go.
    fn ports<'b>(&'b self, end: impl Fn(&'b [u32]) -> (u32, Option<&'b u32>)) -> Vec<f64> {
        let mut at: Vec<Vec<(f64, usize)>> = vec![vec![]; self.shapes.len()];
        for (i, chain) in self.layers.chains.iter().enumerate() {
            if let (shape, Some(&next)) = end(chain) {
                at[shape as usize].push((self.y[next as usize], i));
            }
        }
        let mut offsets = vec![0.0; self.layers.chains.len()];
        for (shape, mut lines) in at.into_iter().enumerate() {
            lines.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let step = (self.shapes[shape].height * 0.7 / lines.len() as f64).min(10.0);
            // So many that their arrows would overlap meet in one point.
            let step = if step < NEAREST_LINES { 0.0 } else { step };
            let middle = (lines.len() as f64 - 1.0) / 2.0;
            lines.iter().enumerate().for_each(|(k, &(_, i))| offsets[i] = (k as f64 - middle) * step);
        }
        offsets
    }

    /// Around each group, column by column: nothing else stands between its cells there.
    fn outlines(&self) -> Vec<(u32, Vec<(Point, Point)>)> {
        let mut groups: std::collections::BTreeMap<u32, (usize, Vec<(Point, Point)>)> = Default::default();
        for column in &self.layers.columns {
            for cells in
                column.chunk_by(|a, b| self.layers.cells[*a as usize].group == self.layers.cells[*b as usize].group)
            {
                let Some(group) = self.layers.cells[cells[0] as usize].group else { continue };
                let (first, last) = (cells[0], cells[cells.len() - 1]);
                let top = self.y[first as usize] - self.size(first).1 / 2.0 - GROUP_PAD;
                let bottom = self.y[last as usize] + self.size(last).1 / 2.0 + GROUP_PAD;
                let left = cells.iter().map(|&c| self.sides(c).0).fold(f64::INFINITY, f64::min) - GROUP_PAD;
                let right = cells.iter().map(|&c| self.sides(c).1).fold(f64::NEG_INFINITY, f64::max) + GROUP_PAD;
                let (count, sides) = groups.entry(group).or_default();
                *count += cells.iter().filter(|&&c| !self.layers.cells[c as usize].waypoint).count();
                sides.extend([left, right].map(|x| (Point { x, y: top }, Point { x, y: bottom })));
            }
        }
        groups.into_iter().filter(|(_, (count, _))| *count > 1).map(|(group, (_, sides))| (group, sides)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(group: Option<u32>) -> Shape {
        Shape { width: 100.0, height: 40.0, group }
    }

    #[test]
    fn a_chain_is_a_straight_row() {
        let laid = layout(&[shape(None), shape(None), shape(None)], &[(0, 1), (1, 2)]);
        assert!(laid.shapes.windows(2).all(|s| s[0].y == s[1].y && s[0].x + 100.0 < s[1].x));
        assert_eq!(laid.links[0], [Point { x: 100.0, y: 20.0 }, Point { x: laid.shapes[1].x, y: 20.0 }]);
        assert_eq!(laid.height, 40.0);
    }

    #[test]
    fn a_line_back_runs_from_left_to_right_side() {
        let laid = layout(&[shape(None), shape(None)], &[(0, 1), (1, 0)]);
        let back = &laid.links[1];
        assert!(back[0].x > back[back.len() - 1].x);
    }

    #[test]
    fn very_many_are_laid_out_too() {
        let shapes = vec![shape(None); 20_000];
        let links: Vec<_> = (1..20_000u32).flat_map(|i| [(i - 1, i), (i / 2, i)]).collect();
        assert!(layout(&shapes, &links).width.is_finite());
    }

    proptest! {
        #[test]
        fn boxes_do_not_overlap_and_all_is_inside(
            groups in prop::collection::vec(prop::option::of(0u32..3), 1..16),
            links in prop::collection::vec((0u32..16, 0u32..16), 0..30),
        ) {
            let shapes: Vec<_> = groups.iter().map(|&g| shape(g)).collect();
            let n = shapes.len() as u32;
            let links: Vec<_> = links.into_iter().map(|(a, b)| (a % n, b % n)).collect();
            let laid = layout(&shapes, &links);
            for (i, a) in laid.shapes.iter().enumerate() {
                prop_assert!(a.x >= 0.0 && a.y >= -0.001);
                prop_assert!(a.x + 100.0 <= laid.width + 0.001 && a.y + 40.0 <= laid.height + 0.001);
                for b in &laid.shapes[i + 1..] {
                    prop_assert!((a.x - b.x).abs() >= 100.0 || (a.y - b.y).abs() >= 40.0, "{:?} {:?}", a, b);
                }
            }
            for (&(from, to), points) in links.iter().zip(&laid.links) {
                prop_assert_eq!(points.is_empty(), from == to);
                prop_assert!(points.iter().all(|p| p.x.is_finite() && p.y.is_finite()));
            }
        }
    }
}
