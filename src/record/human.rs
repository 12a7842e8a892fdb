//! Durations, sizes, tables and foreign text, as people read them on a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `350ms`, `1.25s`, `2m03s`, `1h02m`: three digits, more or less.
pub fn duration(seconds: f64) -> String {
    let s = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let whole = s.round() as u64;
    match s {
        0.0 => "0s".into(),
        _ if s < 0.001 => format!("{:.0}us", s * 1e6),
        _ if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        _ if s < 9.995 => format!("{s:.2}s"),
        _ if s < 59.95 => format!("{s:.1}s"),
        _ if whole < 3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
    }
}

/// `512B`, `1.5KiB`, `64MiB`: as sizes are written in pipeline files.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}{}", UNITS[unit])
}

/// Text from elsewhere made harmless for a terminal: control characters, but for newline and tab, are spelt out.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let dangerous = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            c if dangerous(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Which way a column of a [`table`] is flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a heading, two spaces apart, without trailing spaces.
pub fn table<const N: usize>(heading: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|(h, _)| h.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let start = out.len();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(heading) {
            let _ = match align {
                Align::Left => write!(out, "{cell:<width$}  "),
                Align::Right => write!(out, "{cell:>width$}  "),
            };
        }
        let end = out[start..].trim_end_matches(' ').len();
        out.truncate(start + end);
        out.push('\n');
    };
    line(heading.map(|(h, _)| h));
    rows.iter().for_each(|row| line(row.each_ref().map(String::as_str)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let all = [0.0, 0.00025, 0.35, 0.9999, 1.25, 9.999, 59.94, 59.99, 123.4, 3_599.9, 3_725.0, f64::NAN, -1.0];
        let text: Vec<_> = all.map(duration).into();
        let want = [
            "0s", "250us", "350ms", "1.00s", "1.25s", "10.0s", "59.9s", "1m00s", "2m03s", "1h00m", "1h02m", "0s", "0s",
        ];
        assert_eq!(text, want);
    }

    #[test]
    fn sizes_are_short() {
        let all = [0, 1023, 1024, 1536, 64 << 20, (1 << 30) - 1, u64::MAX];
        assert_eq!(all.map(bytes), ["0B", "1023B", "1KiB", "1.5KiB", "64MiB", "1GiB", "16EiB"]);
    }

    #[test]
    fn escapes_lose_their_power_and_text_stays() {
        assert_eq!(harmless("grün\tok\n"), "grün\tok\n");
        assert_eq!(harmless("\x1b]0;evil\x07\u{9b}2J a\r\nb\rc"), "\\u{1b}]0;evil\\u{7}\\u{9b}2J a\nb\\rc");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".into(), "10".into(), "x".into()], ["größe".into(), "2".into(), String::new()]];
        let text = table([("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)], &rows);
        assert_eq!(text, "NAME    N  WHY\na      10  x\ngröße   2\n");
    }
}
