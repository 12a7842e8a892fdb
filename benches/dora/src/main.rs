//! A ping-pong of two dora nodes, both blocking, every byte written and read, with messages of DORA_BENCH_BYTES. `ping`
//! writes them and the nanoseconds of one way to the file DORA_BENCH_OUT. Started by `bench edges` from a dataflow.

use std::error::Error;
use std::time::{Duration, Instant};

use dora_node_api::dora_core::config::DataId;
use dora_node_api::{DoraNode, Event, EventStream, MetadataParameters};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TIME: Duration = Duration::from_millis(500);
/// Messages before the clock runs.
const WARM_UP: u64 = 50;

fn main() -> Result<()> {
    let role = std::env::args().nth(1).unwrap_or_default();
    let (mut node, mut events) = DoraNode::init_from_env()?;
    match role.as_str() {
        "ping" => ping(&mut node, &mut events),
        "pong" => {
            while let Some((len, number)) = receive(&mut events)? {
                send(&mut node, len, number)?;
            }
            Ok(())
        }
        _ => Err("ping or pong".into()),
    }
}

fn ping(node: &mut DoraNode, events: &mut EventStream) -> Result<()> {
    let len: usize = std::env::var("DORA_BENCH_BYTES")?.parse()?;
    let mut number = 0;
    let mut exchange = || {
        number += 1;
        send(node, len, number)?;
        let (got, back) = receive(events)?.ok_or("the other node has gone")?;
        assert!(got == len && back == number, "another message came back");
        Ok::<_, Box<dyn Error>>(())
    };
    (0..WARM_UP).try_for_each(|_| exchange())?;
    let (started, mut n) = (Instant::now(), 0u64);
    while n == 0 || started.elapsed() < TIME {
        exchange()?;
        n += 1;
    }
    let one_way_ns = started.elapsed().as_nanos() as f64 / n as f64 / 2.0;
    Ok(std::fs::write(std::env::var("DORA_BENCH_OUT")?, format!("{len} {one_way_ns:.0}\n"))?)
}

fn send(node: &mut DoraNode, len: usize, number: u64) -> Result<()> {
    Ok(node.send_output_raw(DataId::from("out".to_owned()), MetadataParameters::default(), len, |room| {
        room.as_chunks_mut::<8>().0.iter_mut().for_each(|w| *w = number.to_ne_bytes());
    })?)
}

/// The next message's length and number; `None` when nothing will come.
fn receive(events: &mut EventStream) -> Result<Option<(usize, u64)>> {
    loop {
        match events.recv() {
            Some(Event::Input { data, .. }) => {
                let bytes: &[u8] = (&data).try_into().map_err(|e| format!("{e}"))?;
                let words = bytes.as_chunks::<8>().0;
                let first = u64::from_ne_bytes(words[0]);
                let different = words.iter().fold(0, |sum, w| sum | (u64::from_ne_bytes(*w) ^ first));
                assert!(different == 0, "a torn message");
                return Ok(Some((bytes.len(), first)));
            }
            Some(Event::Stop(_) | Event::InputClosed { .. }) | None => return Ok(None),
            Some(_) => {}
        }
    }
}
