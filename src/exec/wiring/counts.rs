//! What has gone through a gang's edges, summed over their rings or stores: while they run, and when they end.

use jiff::Timestamp;
use nexusflow_stage::ring::{OnFull, Stats};

use super::Gang;
use crate::exec::Context;
use crate::pipeline::RingPlan;
use crate::record::{EdgeConsumer, EdgeEnded};

impl Gang {
    /// Adds to `ended` what has gone through each ring or object edge so far. All of it is what stages have told: they
    /// can write what they like into their counters.
    pub fn edges_ended(&self, cx: &Context, ended: &mut Vec<EdgeEnded>) {
        let at = Timestamp::now();
        for ring in self.rings() {
            let stats = ring.stats();
            let sum = sum_of(ended, &cx.pipeline.edge(ring.plan.edge).name, at);
            add(&mut sum.messages, stats.messages);
            add(&mut sum.bytes, stats.bytes);
            let batches = stats.batches.iter().fold(0, |n: u64, more| n.saturating_add(*more));
            add(sum.batches.get_or_insert(0), batches);
            let high = sum.high_water_bytes.get_or_insert(0);
            *high = stats.high_water_bytes.max(*high);
            add(&mut sum.backlog_bytes, stats.consumers.iter().map(|c| c.backlog_bytes).max().unwrap_or(0));
            sum.blocked_s += stats.blocked.as_secs_f64();
            sum.waited_s += stats.consumers.iter().map(|c| c.waited.as_secs_f64()).sum::<f64>();
            if ring.segment.shape().on_full != OnFull::Block {
                drops(cx, sum, &ring.plan, &stats);
            }
        }
        for stored in self.stores().iter() {
            let stats = stored.store.stats();
            let sum = sum_of(ended, &cx.pipeline.edge(stored.plan.edge).name, at);
            add(&mut sum.messages, stats.objects);
            add(&mut sum.bytes, stats.bytes);
            add(&mut sum.backlog_bytes, stats.consumers.iter().map(|c| c.held_bytes).max().unwrap_or(0));
            sum.blocked_s += stats.blocked.as_secs_f64();
            sum.waited_s += stats.consumers.iter().map(|c| c.waited.as_secs_f64()).sum::<f64>();
        }
    }
}

/// Adds what each consumer of a ring got and missed.
fn drops(cx: &Context, sum: &mut EdgeEnded, plan: &RingPlan, stats: &Stats) {
    for (&(stage, replica), had) in plan.consumers.iter().zip(&stats.consumers) {
        add(&mut sum.dropped, had.dropped);
        let name = cx.pipeline.stage(stage).task_name(replica);
        let slot = sum.consumers.iter().position(|c| c.consumer == name).unwrap_or(sum.consumers.len());
        if slot == sum.consumers.len() {
            sum.consumers.push(EdgeConsumer { consumer: name, messages: 0, dropped: 0 });
        }
        add(&mut sum.consumers[slot].messages, had.messages);
        add(&mut sum.consumers[slot].dropped, had.dropped);
    }
}

/// The edge's entry, empty at first.
fn sum_of<'a>(ended: &'a mut Vec<EdgeEnded>, edge: &str, at: Timestamp) -> &'a mut EdgeEnded {
    let slot = ended.iter().position(|e| e.edge == edge).unwrap_or(ended.len());
    if slot == ended.len() {
        ended.push(EdgeEnded {
            edge: edge.to_owned(),
            messages: 0,
            bytes: 0,
            batches: None,
            dropped: 0,
            backlog_bytes: 0,
            high_water_bytes: None,
            blocked_s: 0.0,
            waited_s: 0.0,
            consumers: Vec::new(),
            at,
        });
    }
    let sum = &mut ended[slot];
    sum.at = at;
    sum
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
