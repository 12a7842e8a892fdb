//! A transfer is made exactly once, whatever store its process dies before, also while it finishes what another left.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nexusflow_sys::map::WriteMap;
use proptest::prelude::*;

use super::*;
use crate::journal;
use crate::protocol::By;
use crate::ring::steps::death;
use crate::ring::{LARGE, Segment, SegmentOptions, Until, WaitMode};

const MESSAGES: u64 = 8;

/// Two producers, a stage between, one broadcast edge with small and large messages, one that distributes.
struct Rig {
    from: [Segment; 2],
    copies: Segment,
    sums: [Segment; 2],
    journal: (OwnedFd, u64),
}

fn segment(capacity: u64, max_message: u64, consumers: usize) -> Segment {
    let options = SegmentOptions { capacity, max_message, consumers, wait: WaitMode::Block, ..Default::default() };
    Segment::create(&options).unwrap()
}

/// What is sent for a number: itself, or many of it.
fn copy(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(if n % 3 == 1 { LARGE / 8 + 3 } else { 1 })
}

fn number(message: &[u8]) -> u64 {
    let n = u64::from_le_bytes(message[..8].try_into().unwrap());
    assert!(message == copy(n), "{n} is torn");
    n
}

fn all(segment: &Segment, consumer: usize) -> Vec<Vec<u8>> {
    let mut consumer = segment.consumer(consumer).unwrap();
    let mut all = Vec::new();
    while let Some(message) = consumer.peek(Until::timeout(Duration::from_secs(20))).unwrap() {
        all.push(message.to_vec());
        consumer.advance();
        consumer.release();
    }
    all
}

impl Rig {
    fn new() -> Self {
        let rig = Self {
            from: [(); 2].map(|()| segment(4096, 1000, 1)),
            copies: segment(1 << 20, 100_000, 2),
            sums: [(); 2].map(|()| segment(4096, 1000, 1)),
            journal: journal::create(5).unwrap(),
        };
        for (i, segment) in (0..).zip(&rig.from) {
            let mut producer = segment.producer().unwrap();
            (0..MESSAGES)
                .filter(|n| n % 2 == i)
                .for_each(|n| producer.write(&n.to_le_bytes(), Until::forever()).unwrap());
            producer.finish();
        }
        rig
    }

    fn open(&self) -> Result<Transfer> {
        let (journal, entry) = Journal::open(&self.journal.0, self.journal.1)?;
        let from = self.from.iter().map(|s| s.consumer(0)).collect::<Result<_>>()?;
        let sums = self.sums.iter().map(Segment::producer).collect::<Result<_>>()?;
        let copies = Output::new("copies", 100_000, By::RoundRobin, vec![self.copies.producer()?]);
        let sums = Output::new("sums", 1000, By::RoundRobin, sums);
        Transfer::begin(journal, entry, vec![(0, Input::new("in", from))], vec![(1, copies), (2, sums)])
    }

    /// One process: passes all on, three at a time, with the sum so far, which the tag tells the next.
    fn process(&self) {
        let mut transfer = self.open().unwrap();
        assert_eq!(transfer.outputs[0].committed(), transfer.outputs[1].committed());
        let mut sum = transfer.tag().try_into().map_or(0, u64::from_le_bytes);
        loop {
            let mut read = 0;
            while read < 3
                && let Some(message) = transfer.inputs[0].recv().unwrap()
            {
                let n = u64::from_le_bytes(message.to_vec().try_into().unwrap());
                sum += n + 1;
                transfer.outputs[0].send(&copy(n)).unwrap();
                transfer.outputs[1].send(&sum.to_le_bytes()).unwrap();
                read += 1;
            }
            if read == 0 {
                break;
            }
            transfer.commit(&sum.to_le_bytes()).unwrap();
        }
        transfer.finish().unwrap();
    }

    fn check(&self) {
        for consumer in [0, 1] {
            let got: Vec<u64> = all(&self.copies, consumer).iter().map(|m| number(m)).collect();
            for parity in [0, 1] {
                let of = |n: &u64| n % 2 == parity;
                assert!(got.iter().copied().filter(of).eq((0..MESSAGES).filter(of)), "{got:?}");
            }
        }
        let sums = self.sums.iter().flat_map(|s| all(s, 0)).map(|m| u64::from_le_bytes(m.try_into().unwrap()));
        let mut sums: Vec<u64> = sums.collect();
        sums.sort_unstable();
        assert_eq!((sums.len() as u64, sums.last()), (MESSAGES, Some(&(MESSAGES * (MESSAGES + 1) / 2))), "{sums:?}");
        assert!(sums.is_sorted_by(|a, b| a < b), "{sums:?}");
        let (_, entry) = Journal::open(&self.journal.0, self.journal.1).unwrap();
        assert_eq!(entry.tag, sums.last().unwrap().to_le_bytes());
    }
}

#[test]
fn whatever_store_it_dies_before_all_comes_exactly_once() {
    let mut steps = 0;
    let mut random = 0x9e37_79b9u32;
    loop {
        let rig = Rig::new();
        let whole = death::after(steps, || rig.process()).is_some();
        // The next ones die too: soon, so while they finish what they found; then somewhere.
        for within in [40, 40, 200] {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            death::after((random >> 8) % within, || rig.process());
        }
        if !whole || steps == 0 {
            rig.process();
        }
        rig.check();
        if whole {
            break;
        }
        steps += 1;
    }
    assert!(steps > 100, "only {steps} stores");
}

#[test]
fn nothing_is_seen_or_released_before_the_commit() {
    let rig = Rig::new();
    let mut transfer = rig.open().unwrap();
    assert!(transfer.inputs[0].recv().unwrap().is_some());
    transfer.inputs[0].release();
    transfer.outputs[0].send(b"abc").unwrap();
    let mut batch = transfer.outputs[1].batch();
    batch.send(b"1").unwrap();
    batch.commit();
    transfer.outputs[1].batch().send(b"2").unwrap();
    let mut seen = rig.copies.consumer(0).unwrap();
    assert!(matches!(seen.try_peek(), Ok(crate::ring::Next::Empty)));
    assert_eq!(rig.from[0].stats().consumers[0].messages, 0);
    assert_eq!((transfer.outputs[0].committed(), transfer.commits(), transfer.tag()), (0, 0, &b""[..]));
    transfer.commit(b"first").unwrap();
    assert!(matches!(seen.try_peek(), Ok(crate::ring::Next::Message(_))));
    assert_eq!(rig.from[0].stats().consumers[0].messages, 1);
    assert_eq!((transfer.outputs[1].committed(), transfer.commits(), transfer.tag()), (1, 1, &b"first"[..]));
    assert!(matches!(transfer.commit(&[0; 257]), Err(Error::TagTooLong { len: 257 })));
    assert!(transfer.inputs[0].recv().unwrap().is_some());
    assert!(transfer.finish().unwrap_err().to_string().contains("edge `in`"));
}

#[test]
fn a_transfer_that_can_never_fit_is_an_error_not_a_hang() {
    let rig = Rig::new();
    let mut transfer = rig.open().unwrap();
    let sent = (0..).take_while(|_| transfer.outputs[1].send(&[1; 1000]).is_ok()).count();
    assert_eq!(sent, 8);
    let told = transfer.outputs[1].send(&[1; 1000]).unwrap_err().to_string();
    assert!(told.contains("holds 4096 bytes"), "{told}");

    let from = segment(4096, 1000, 1);
    let (journal, entry) = Journal::open(&rig.journal.0, rig.journal.1).unwrap();
    let input = Input::new("in", vec![from.consumer(0).unwrap()]);
    let mut transfer = Transfer::begin(journal, entry, vec![(0, input)], vec![]).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut producer = from.producer().unwrap();
            (0..9).for_each(|_| producer.write(&[1; 1000], Until::forever()).unwrap());
            producer.finish();
        });
        let told = loop {
            match transfer.inputs[0].recv() {
                Ok(message) => assert!(message.is_some()),
                Err(e) => break e.to_string(),
            }
        };
        assert!(told.contains("edge `in` is full: the 4032 bytes"), "{told}");
        transfer.commit(b"").unwrap();
        let mut more = 0;
        while transfer.inputs[0].recv().unwrap().is_some() {
            more += 1;
            transfer.commit(b"").unwrap();
        }
        assert_eq!(more, 5);
    });
}

#[test]
fn an_edge_that_drops_is_refused() {
    use crate::ring::OnFull::{DropNewest, DropOldest};
    let rig = Rig::new();
    for (on_full, reads) in [(DropNewest, false), (DropOldest, false), (DropOldest, true)] {
        let segment = Segment::create(&SegmentOptions { on_full, ..Default::default() }).unwrap();
        let (journal, entry) = Journal::open(&rig.journal.0, rig.journal.1).unwrap();
        let (mut inputs, mut outputs) = (vec![], vec![]);
        match reads {
            true => inputs.push((0, Input::new("e", vec![segment.consumer(0).unwrap()]))),
            false => outputs.push((0, Output::new("e", 9, By::RoundRobin, vec![segment.producer().unwrap()]))),
        }
        assert!(matches!(Transfer::begin(journal, entry, inputs, outputs), Err(Error::Dropping { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_journal_of_nonsense_is_an_error_or_harmless(
        steps in 100u32..300,
        words in prop::collection::vec((32usize..110, prop_oneof![any::<u64>(), 0u64..2000, Just(0x1_0000_0000)]), 1..4),
    ) {
        let rig = Rig::new();
        death::after(steps, || rig.process());
        let map = WriteMap::new(&rig.journal.0, rig.journal.1 as usize).unwrap();
        for (at, word) in words {
            map.atomic64(at * 8).store(word, std::sync::atomic::Ordering::Relaxed);
        }
        if let Ok(mut transfer) = rig.open() {
            while let Ok(Some(_)) = transfer.inputs[0].try_recv() {}
            transfer.commit(b"").unwrap();
        }
    }
}
