//! Drawing: a picture and its layout become an SVG that needs nothing from outside and follows light and dark.

use std::fmt::Write;

use super::layout::{GROUP_PAD, Layout, Point, Shape, layout};
use super::picture::{Figure, Line, Look, Picture, Style};
use super::words::{cells, clip};

/// Letters of a fixed width are this wide, relative to their size; the fonts asked for differ by less than the padding.
const LETTER: f64 = 0.605;
const TITLE: f64 = 13.0;
const TEXT: f64 = 11.0;
const HEADING: f64 = 17.0;
const MARGIN: f64 = 24.0;
/// Outlines of neighbouring groups differ in colour; after so many it begins again.
const GROUP_COLOURS: u32 = 5;
const DESCRIPTION_CELLS: usize = 110;

/// Colours twice: plain, and where the reader prefers dark. Every selector begins with `.nf`, so that the picture can
/// stand in a page of its own rules.
const STYLE: &str = "\
.nf{font-family:ui-monospace,'SF Mono',Menlo,'DejaVu Sans Mono','Liberation Mono',Consolas,monospace;font-size:11px}
.nf .page{fill:#ffffff}.nf text{fill:#57606a}.nf .title{fill:#1f2328;font-size:13px;font-weight:600}
.nf .heading{fill:#1f2328;font-size:17px;font-weight:600}.nf .badge{fill:#8250df;font-size:13px;font-weight:600}
.nf .edge{fill:#0550ae;font-weight:600}.nf .pipe .edge{fill:#7d4e00}
.nf .stage rect{fill:#ffffff;stroke:#afb8c1;stroke-width:1.2}.nf .service rect{fill:#f3faf5;stroke:#4ac26b;stroke-width:1.2}
.nf .ring rect{fill:#ddf4ff;stroke:#54aeff}.nf .pipe rect{fill:#fff8c5;stroke:#d4a72c;stroke-dasharray:5 3}
.nf .line{fill:none;stroke-width:1.4}.nf .line.ring{stroke:#218bff}.nf .line.pipe{stroke:#bf8700;stroke-dasharray:6 4}
.nf .line.wait{stroke:#8c959f;stroke-dasharray:1.5 3.5;stroke-linecap:round}
.nf .head.ring{fill:#218bff}.nf .head.pipe{fill:#bf8700}.nf .head.wait{fill:#8c959f}
.nf .group{stroke-width:1;fill-opacity:.07;stroke-opacity:.28}
.nf .g0{fill:#0969da;stroke:#0969da}.nf .g1{fill:#8250df;stroke:#8250df}.nf .g2{fill:#1a7f37;stroke:#1a7f37}
.nf .g3{fill:#bc4c00;stroke:#bc4c00}.nf .g4{fill:#bf3989;stroke:#bf3989}
@media (prefers-color-scheme:dark){
.nf .page{fill:#0d1117}.nf text{fill:#9198a1}.nf .title,.nf .heading{fill:#f0f6fc}.nf .badge{fill:#d2a8ff}
.nf .edge{fill:#79c0ff}.nf .pipe .edge{fill:#e3b341}
.nf .stage rect{fill:#161b22;stroke:#484f58}.nf .service rect{fill:#12261e;stroke:#2ea043}
.nf .ring rect{fill:#0c2d6b;stroke:#1f6feb}.nf .pipe rect{fill:#341a00;stroke:#9e6a03}
.nf .line.ring{stroke:#388bfd}.nf .line.pipe{stroke:#bb8009}.nf .line.wait{stroke:#6e7681}
.nf .head.ring{fill:#388bfd}.nf .head.pipe{fill:#bb8009}.nf .head.wait{fill:#6e7681}
.nf .group{fill-opacity:.13;stroke-opacity:.4}}
";

pub fn draw(picture: &Picture) -> String {
    let shapes: Vec<_> = picture.figures.iter().map(shape).collect();
    let links: Vec<_> = picture.lines.iter().map(|l| (l.from, l.to)).collect();
    let laid = layout(&shapes, &links);
    Drawing { out: String::with_capacity(4096 + 400 * shapes.len() + 200 * links.len()) }.all(picture, &shapes, &laid)
}

/// How much room a figure takes.
fn shape(figure: &Figure) -> Shape {
    let letters = |text: &str, size: f64| cells(text) as f64 * size * LETTER;
    let lines = figure.lines.iter().map(|l| letters(l, TEXT)).fold(0.0, f64::max);
    let badge = figure.badge.as_ref().map_or(0.0, |b| letters(b, TITLE) + 12.0);
    let (title, sides, height) = match figure.look {
        Look::Stage | Look::Service => {
            (letters(&figure.title, TITLE) + badge, 24.0, 30.0 + 16.0 * figure.lines.len() as f64)
        }
        Look::Ring | Look::Pipe => (letters(&figure.title, TEXT), 26.0, 20.0 + 13.0 * figure.lines.len() as f64),
        Look::Word => (letters(&figure.title, TEXT), 8.0, 14.0),
    };
    Shape { width: (title.max(lines) + sides).ceil(), height, group: figure.group }
}

struct Drawing {
    out: String,
}

/// Writing to a String does not fail.
macro_rules! put {
    ($to:expr, $($arg:tt)*) => {{ let _ = write!($to.out, $($arg)*); }};
}

impl Drawing {
    fn all(mut self, picture: &Picture, shapes: &[Shape], laid: &Layout) -> String {
        let description = clip(&picture.description, DESCRIPTION_CELLS);
        let top = MARGIN + HEADING + if description.is_empty() { 16.0 } else { 36.0 };
        let wide = [(&picture.title, HEADING), (&description, TEXT)].map(|(t, s)| cells(t) as f64 * s * LETTER);
        let width = laid.width.max(wide[0]).max(wide[1]).max(330.0) + 2.0 * MARGIN;
        let height = top + laid.height + 44.0;
        let (title, about) = (escape(&picture.title), escape(&description));
        let (w, h) = (length(width), length(height));
        put!(self, "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"nf\" role=\"img\" ");
        put!(self, "width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n");
        put!(self, "<title>{title}</title>\n<style>\n{STYLE}</style>\n");
        put!(self, "<rect class=\"page\" width=\"{w}\" height=\"{h}\" rx=\"8\"/>\n");
        self.text("heading", MARGIN, MARGIN + 14.0, "start", &title);
        if !about.is_empty() {
            self.text("about", MARGIN, MARGIN + 34.0, "start", &about);
        }
        put!(self, "<g transform=\"translate({} {})\">\n", length(MARGIN), length(top));
        laid.groups.iter().for_each(|(group, sides)| self.group(*group, sides));
        picture.lines.iter().zip(&laid.links).for_each(|(line, points)| self.line(line, points));
        for ((figure, shape), at) in picture.figures.iter().zip(shapes).zip(&laid.shapes) {
            self.figure(figure, shape, *at);
        }
        put!(self, "</g>\n");
        self.legend(picture, height - 18.0);
        put!(self, "</svg>\n");
        self.out
    }

    fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, escaped: &str) {
        let (x, y) = (length(x), length(y));
        put!(self, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{escaped}</text>\n");
    }

    fn figure(&mut self, figure: &Figure, shape: &Shape, at: Point) {
        let class = match figure.look {
            Look::Stage => "stage",
            Look::Service => "service",
            Look::Ring => "ring",
            Look::Pipe => "pipe",
            Look::Word => "word",
        };
        put!(self, "<g class=\"{class}\"><title>{}</title>\n", escape(&figure.tooltip));
        let middle = at.x + shape.width / 2.0;
        let radius = match figure.look {
            Look::Stage | Look::Service => 7.0,
            Look::Ring | Look::Pipe => shape.height / 2.0,
            Look::Word => {
                self.text("word", middle, at.y + 11.0, "middle", &escape(&figure.title));
                put!(self, "</g>\n");
                return;
            }
        };
        let sizes = [at.x, at.y, shape.width, shape.height, radius].map(length);
        let [x, y, width, height, radius] = sizes;
        put!(self, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\"/>\n");
        let title = escape(&figure.title);
        if matches!(figure.look, Look::Ring | Look::Pipe) {
            self.text("edge", middle, at.y + 14.5, "middle", &title);
            for (i, line) in figure.lines.iter().enumerate() {
                self.text("about", middle, at.y + 27.0 + 13.0 * i as f64, "middle", &escape(line));
            }
        } else {
            self.text("title", at.x + 12.0, at.y + 20.0, "start", &title);
            if let Some(badge) = &figure.badge {
                self.text("badge", at.x + shape.width - 12.0, at.y + 20.0, "end", &escape(badge));
            }
            for (i, line) in figure.lines.iter().enumerate() {
                self.text("about", at.x + 12.0, at.y + 37.0 + 16.0 * i as f64, "start", &escape(line));
            }
        }
        put!(self, "</g>\n");
    }

    fn line(&mut self, line: &Line, points: &[Point]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let class = match line.style {
            Style::Ring => "ring",
            Style::Pipe => "pipe",
            Style::Wait => "wait",
        };
        put!(self, "<path class=\"line {class}\" d=\"M{}", pair(*first));
        points.windows(2).for_each(|p| self.bend(p[0], p[1]));
        put!(self, "\"/>\n");
        if line.arrow {
            let back = if points[points.len() - 2].x <= last.x { -7.0 } else { 7.0 };
            let (x, y) = (length(last.x), length(last.y));
            put!(self, "<path class=\"head {class}\" d=\"M{x} {y}l{back} -3.6v7.2z\"/>\n");
        }
    }

    /// Horizontal at both ends.
    fn bend(&mut self, from: Point, to: Point) {
        if (from.y - to.y).abs() < 0.05 {
            put!(self, "H{}", length(to.x));
        } else {
            let x = length((from.x + to.x) / 2.0);
            put!(self, "C{x} {} {x} {} {}", length(from.y), length(to.y), pair(to));
        }
    }

    /// A band around all of a group: along its upper side to the right, and back along the lower one.
    fn group(&mut self, group: u32, sides: &[(Point, Point)]) {
        let (first, last) = (sides[0], sides[sides.len() - 1]);
        let r = GROUP_PAD;
        put!(
            self,
            "<path class=\"group g{}\" d=\"M{}",
            group % GROUP_COLOURS,
            pair(Point { x: first.0.x + r, y: first.0.y })
        );
        let upper: Vec<_> = sides.iter().map(|s| s.0).collect();
        let lower: Vec<_> = sides.iter().rev().map(|s| s.1).collect();
        self.side(&upper, r);
        put!(self, "q{r} 0 {r} {r}V{}q0 {r} -{r} {r}", length(last.1.y - r));
        self.side(&lower, -r);
        put!(self, "q-{r} 0 -{r} -{r}V{}q0 -{r} {r} -{r}z\"/>\n", length(first.0.y + r));
    }

    /// From the second corner on, ending `inset` before the last, where the corner is rounded.
    fn side(&mut self, corners: &[Point], inset: f64) {
        let last = corners.len() - 1;
        let mut at = Point { x: corners[0].x + inset, ..corners[0] };
        for (i, &corner) in corners.iter().enumerate().skip(1) {
            let to = if i == last { Point { x: corner.x - inset, ..corner } } else { corner };
            self.bend(at, to);
            at = to;
        }
    }

    /// Only what the picture has.
    fn legend(&mut self, picture: &Picture, y: f64) {
        let mut x = MARGIN;
        for (style, class, word) in
            [(Style::Ring, "ring", "ring"), (Style::Pipe, "pipe", "pipe"), (Style::Wait, "wait", "waits for")]
        {
            if picture.lines.iter().any(|l| l.style == style) {
                let (from, to, line) = (length(x), length(x + 26.0), length(y - 4.0));
                put!(self, "<path class=\"line {class}\" d=\"M{from} {line}H{to}\"/>\n");
                self.text("about", x + 33.0, y, "start", word);
                x += 33.0 + cells(word) as f64 * TEXT * LETTER + 22.0;
            }
        }
        if picture.figures.iter().any(|f| f.look == Look::Service) {
            let (at, up) = (length(x), length(y - 10.0));
            put!(self, "<g class=\"service\"><rect x=\"{at}\" y=\"{up}\" width=\"18\" height=\"12\" rx=\"3\"/></g>\n");
            self.text("about", x + 25.0, y, "start", "service");
        }
    }
}

/// To a tenth, without needless digits.
fn length(value: f64) -> String {
    let tenths = (value * 10.0).round() as i64;
    let sign = if tenths < 0 { "-" } else { "" };
    match (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

fn pair(p: Point) -> String {
    format!("{} {}", length(p.x), length(p.y))
}

/// Text as XML 1.0 allows it; what it cannot carry at all becomes the replacement character.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
