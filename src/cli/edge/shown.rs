//! Edges and recordings as people and programs read them: `edge stat`.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::ctl::{ConsumerStat, RingStat};
use crate::record::human::{Align, bytes, duration, harmless, table};
use crate::recording::{Header, Lost, Totals};

/// The longest bar of a distribution.
const BAR_CHARS: u64 = 40;

/// The table of a run's rings: each producer, and below it its consumers.
pub fn rings(run: &str, rings: &[RingStat]) -> String {
    if rings.is_empty() {
        return format!("{run}: no ring is open (`nexusflow plasma ls` shows objects; nobody can look into pipes)\n");
    }
    let rows = rings.iter().flat_map(|ring| {
        let consumers = ring.consumers.iter().map(consumer);
        [producer(ring)].into_iter().chain(consumers)
    });
    let heading = [
        ("EDGE", Align::Left),
        ("STAGE", Align::Left),
        ("MESSAGES", Align::Right),
        ("BYTES", Align::Right),
        ("UNREAD", Align::Right),
        ("MOST", Align::Right),
        ("DROPPED", Align::Right),
        ("WAITED", Align::Right),
        ("BATCH", Align::Right),
        ("NOW", Align::Left),
    ];
    table(heading, &rows.collect::<Vec<_>>())
}

fn producer(ring: &RingStat) -> [String; 10] {
    let unread = ring.consumers.iter().map(|c| c.backlog_bytes).max().unwrap_or(0);
    [
        ring.edge.clone(),
        ring.producer.clone(),
        ring.messages.to_string(),
        bytes(ring.bytes),
        format!("{} of {}", bytes(unread), bytes(ring.capacity_bytes)),
        bytes(ring.high_water_bytes),
        ring.dropped.to_string(),
        duration(ring.blocked_s),
        batch(ring),
        if ring.producer_waits { "waits for room" } else { "" }.into(),
    ]
}

/// How many messages were sent at once, on average.
fn batch(ring: &RingStat) -> String {
    match ring.batches.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)) {
        0 => String::new(),
        publications => format!("{:.1}", ring.messages as f64 / publications as f64),
    }
}

fn consumer(c: &ConsumerStat) -> [String; 10] {
    let now = match c {
        ConsumerStat { detached: true, .. } => "has left",
        ConsumerStat { waits: true, .. } => "waits",
        _ => "",
    };
    [
        String::new(),
        format!("> {}", c.consumer),
        c.messages.to_string(),
        bytes(c.bytes),
        bytes(c.backlog_bytes),
        String::new(),
        c.dropped.to_string(),
        duration(c.waited_s),
        String::new(),
        now.into(),
    ]
}

/// What was found in a recording.
#[derive(Debug)]
pub struct Contents {
    messages: u64,
    bytes: u64,
    shortest: usize,
    longest: usize,
    /// How many messages were of 0, 1, 2–3, 4–7 … bytes.
    sizes: [u64; 34],
    /// When the first and the last were seen.
    first_ns: Option<u64>,
    last_ns: u64,
    pub lost: Lost,
    /// If it has an end.
    pub totals: Option<Totals>,
    pub cut: Option<String>,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            messages: 0,
            bytes: 0,
            shortest: usize::MAX,
            longest: 0,
            sizes: [0; 34],
            first_ns: None,
            last_ns: 0,
            lost: Lost::NOTHING,
            totals: None,
            cut: None,
        }
    }
}

impl Contents {
    pub fn message(&mut self, at_ns: u64, len: usize) {
        self.messages += 1;
        self.bytes += len as u64;
        self.shortest = self.shortest.min(len);
        self.longest = self.longest.max(len);
        self.sizes[(usize::BITS - len.leading_zeros()) as usize % 34] += 1;
        self.first_ns.get_or_insert(at_ns);
        self.last_ns = self.last_ns.max(at_ns);
    }

    fn span_s(&self) -> f64 {
        self.first_ns.map_or(0.0, |first| self.last_ns.saturating_sub(first) as f64 / 1e9)
    }

    /// Per second; nothing where all came at once.
    fn rate(&self, n: u64) -> Option<f64> {
        let span = self.span_s();
        (span > 0.0).then(|| n as f64 / span)
    }

    pub fn json(&self, header: &Header) -> Value {
        let sizes = self.sizes.iter().enumerate().filter(|(_, n)| **n > 0);
        json!({
            "recording": header,
            "messages": self.messages,
            "bytes": self.bytes,
            "lost": self.lost,
            "duration_s": self.span_s(),
            "messages_per_s": self.rate(self.messages),
            "bytes_per_s": self.rate(self.bytes),
            "shortest_bytes": (self.messages > 0).then_some(self.shortest),
            "longest_bytes": (self.messages > 0).then_some(self.longest),
            "sizes": sizes.map(|(i, n)| {
                let (from, to) = bucket(i);
                json!({ "from_bytes": from, "to_bytes": to, "messages": n })
            }).collect::<Vec<_>>(),
            "complete": self.totals.is_some(),
            "ended": self.totals,
        })
    }

    pub fn human(&self, header: &Header) -> String {
        let mut out = format!("edge {} of {}\n", harmless(&header.edge), harmless(&header.run));
        let _ = writeln!(out, "  from      {}", harmless(&header.producers.join(", ")));
        let _ = writeln!(out, "  recorded  {}, over {}", harmless(&header.started_at), duration(self.span_s()));
        let _ = write!(out, "  messages  {}, {}", self.messages, bytes(self.bytes));
        if let (Some(messages), Some(rate)) = (self.rate(self.messages), self.rate(self.bytes)) {
            let _ = write!(out, "; {messages:.0} and {} a second", bytes(rate as u64));
        }
        let _ = writeln!(out, "\n  lost      {}", lost(self.lost));
        let _ = match (&self.cut, &self.totals) {
            (Some(cut), _) => writeln!(out, "  end       {cut}"),
            (None, Some(totals)) => {
                let why = serde_json::to_value(totals.why).ok();
                let why = why.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
                writeln!(out, "  end       {why}")
            }
            (None, None) => Ok(()),
        };
        if self.messages > 0 {
            let mean = self.bytes as f64 / self.messages as f64;
            let (least, most) = (bytes(self.shortest as u64), bytes(self.longest as u64));
            let _ = writeln!(out, "  sizes     {least} to {most}, {} on average", bytes(mean.round() as u64));
            let _ = write!(out, "\n{}", self.distribution());
        }
        out
    }

    fn distribution(&self) -> String {
        let most = self.sizes.iter().copied().max().unwrap_or(0).max(1);
        let rows: Vec<_> = (0..self.sizes.len())
            .filter(|&i| self.sizes[i] > 0)
            .map(|i| {
                let (n, (from, to)) = (self.sizes[i], bucket(i));
                let bar = (u128::from(n) * u128::from(BAR_CHARS)).div_ceil(u128::from(most)) as usize;
                let size = if from == to { bytes(from) } else { format!("{} – {}", bytes(from), bytes(to)) };
                [size, n.to_string(), "#".repeat(bar)]
            })
            .collect();
        table([("SIZE", Align::Left), ("MESSAGES", Align::Right), ("", Align::Left)], &rows)
    }
}

/// The shortest and the longest message that are counted in place `i`.
fn bucket(i: usize) -> (u64, u64) {
    match i {
        0 => (0, 0),
        i => (1 << (i - 1), (1 << i) - 1),
    }
}

/// What was missed, in words.
pub fn lost(lost: Lost) -> String {
    match (lost.messages, lost.bytes) {
        (Some(0), _) => "nothing".into(),
        (Some(n), Some(b)) => format!("{n} messages, {}", bytes(b)),
        (Some(n), None) => format!("{n} messages"),
        (None, Some(b)) => format!("{} with what frames them, and nobody knows how many messages", bytes(b)),
        (None, None) => "nobody knows how much".into(),
    }
}
