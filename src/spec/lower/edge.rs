//! An edge's keys, and the rules between them.

use super::{Lower, spanned, word};
use crate::diag::codes;
use crate::spec::types::*;
use crate::spec::units::show_size;
use crate::spec::value::{Data, Fields, Val};

const DEFAULT_RING_BYTES: u64 = 16 << 20;
/// What anyone may ask of a pipe where nobody changed /proc/sys/fs/pipe-max-size.
const DEFAULT_PIPE_BYTES: u64 = 1 << 20;

impl Lower<'_> {
    pub(super) fn edge(&mut self, name: Spanned<String>, mut fields: Fields) -> Option<Edge> {
        self.decides(&fields, &["from", "to", "kind", "capacity", "max_message", "delivery"]);
        let kind = spanned(&mut fields, "kind", |w| match w {
            "pipe" => Kind::Pipe,
            "object" => Kind::Object,
            _ => Kind::Ring,
        });
        let delivery = spanned(&mut fields, "delivery", |w| match w {
            "distribute" => Delivery::Distribute,
            _ => Delivery::Broadcast,
        });
        self.words_that_fit(&fields, kind.value, delivery.value);
        let by = spanned(&mut fields, "by", |w| match w {
            "least_backlog" => By::LeastBacklog,
            "key" => By::Key,
            _ => By::RoundRobin,
        });
        let capacity = fields.take("capacity").and_then(Val::bytes);
        let max_message = fields.take("max_message").and_then(Val::bytes);
        let default = if kind.value == Kind::Pipe { DEFAULT_PIPE_BYTES } else { DEFAULT_RING_BYTES };
        let capacity = capacity.unwrap_or(Spanned { value: default, span: name.span.clone() });
        if let Some(max) = &max_message
            && max.value > capacity.value
        {
            let (largest, room) = (show_size(max.value), show_size(capacity.value));
            let (what, help) = match kind.value {
                Kind::Object => ("an object", "raise `capacity` to `max_message` or more"),
                _ => ("a message", "raise `capacity` to four times `max_message` or more"),
            };
            let message = format!("{what} of {largest} does not fit into a capacity of {room}");
            let d = self.error(codes::CONTRADICTION, message, &max.span, help);
            *d = d.clone().at(&capacity.span, "the capacity");
        }
        let redeliver = fields.take("redeliver").and_then(Val::bytes);
        if let Some(again) = &redeliver
            && again.value >= capacity.value / 2
        {
            let (kept, room) = (show_size(again.value), show_size(capacity.value));
            let message = format!("{kept} kept for a restarted reader leave too little of a capacity of {room}");
            let help = "keep it under half of `capacity`: what is kept is room that the producer does not have";
            let d = self.error(codes::CONTRADICTION, message, &again.span, help);
            *d = d.clone().at(&capacity.span, "the capacity");
        }
        Some(Edge {
            from: fields.take("from").map(Val::strings).unwrap_or_default(),
            to: fields.take("to").map(Val::strings).unwrap_or_default(),
            kind,
            capacity,
            max_message,
            delivery,
            by,
            on_full: match word(&mut fields, "on_full") {
                Some("drop_newest") => OnFull::DropNewest,
                Some("drop_oldest") => OnFull::DropOldest,
                _ => OnFull::Block,
            },
            redeliver,
            wait: match word(&mut fields, "wait") {
                Some("spin") => Wait::Spin,
                Some("block") => Wait::Block,
                _ => Wait::Adaptive,
            },
            sealed: fields.take("sealed").and_then(Val::bool).is_some_and(|s| s.value),
            memory: fields.take("memory").and_then(Val::record).map(memory).unwrap_or_default(),
            rate: fields.take("rate").and_then(|v| v.number()),
            messages: fields.take("messages").and_then(|v| v.number()),
            name,
        })
    }

    fn words_that_fit(&mut self, fields: &Fields, kind: Kind, delivery: Delivery) {
        if kind == Kind::Pipe {
            for key in ["max_message", "wait", "on_full", "redeliver", "memory"] {
                if let Some(field) = fields.find(key) {
                    let message = format!("`{key}` has no meaning for a pipe");
                    self.error(codes::CONTRADICTION, message, &field.key_span, "leave it out, or make it `kind: ring`");
                }
            }
        }
        if let Some(sealed) = fields.find("sealed")
            && kind != Kind::Object
        {
            let message = "`sealed` says how objects are kept, and this edge carries none";
            let help = "leave it out, or make it `kind: object`";
            self.error(codes::CONTRADICTION, message, &sealed.key_span, help);
        }
        if let Some(memory) = fields.find("memory")
            && let Some(Data::Bool(true)) = fields.find("sealed").map(|f| &f.value.data)
        {
            let message = "the memory of `sealed` objects comes with each, where its producer runs";
            self.error(codes::CONTRADICTION, message, &memory.key_span, "leave it out, or `sealed`");
        }
        let drops = |word| matches!(word, "drop_newest" | "drop_oldest");
        let on_full = fields.find("on_full").filter(|on_full| on_full.value.word().is_some_and(drops));
        if let Some(on_full) = on_full
            && kind == Kind::Object
        {
            let message = "objects are not dropped: what is full holds its producer back";
            let help = "leave `on_full` out, or make it `kind: ring`";
            self.error(codes::CONTRADICTION, message, &on_full.value.span, help);
        }
        if let (Some(_), Some(redeliver)) = (on_full, fields.find("redeliver"))
            && kind == Kind::Ring
        {
            let message = "what may be dropped is not given again: `redeliver` has no meaning here";
            let help = "leave it out, or say `on_full: block`";
            self.error(codes::CONTRADICTION, message, &redeliver.key_span, help);
        }
        if let Some(redeliver) = fields.find("redeliver")
            && kind == Kind::Object
        {
            let message = "objects are given again whole: `redeliver` has no meaning for them";
            self.error(codes::CONTRADICTION, message, &redeliver.key_span, "leave it out, or make it `kind: ring`");
        }
        if let Some(by) = fields.find("by").filter(|by| by.value.word() == Some("key"))
            && kind == Kind::Object
        {
            let message = "objects are not distributed by a key";
            let help = "say `by: round_robin` or `by: least_backlog`, or make it `kind: ring`";
            self.error(codes::CONTRADICTION, message, &by.value.span, help);
        }
        if let Some(by) = fields.find("by")
            && delivery == Delivery::Broadcast
        {
            let message = "`by` says how to distribute, but every consumer gets every message";
            let help = "add `delivery: distribute`, or leave `by` out";
            self.error(codes::CONTRADICTION, message, &by.key_span, help);
        }
    }
}

fn memory(mut fields: Fields) -> EdgeMemory {
    let numa = fields.take("numa");
    EdgeMemory {
        numa_span: numa.as_ref().map(|v| v.span.clone()),
        numa: match numa.map(|v| (v.word(), v.int())) {
            Some((Some("consumer"), _)) => EdgeNuma::Consumer,
            Some((Some("producer"), _)) => EdgeNuma::Producer,
            Some((_, Some(node))) => EdgeNuma::Node(node.value),
            _ => EdgeNuma::Auto,
        },
        hugepages: match word(&mut fields, "hugepages") {
            Some("2MiB") => Hugepages::TwoMiB,
            Some("1GiB") => Hugepages::OneGiB,
            _ => Hugepages::None,
        },
    }
}
