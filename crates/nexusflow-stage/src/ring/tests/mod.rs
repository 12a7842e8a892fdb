//! Rings within one process, each end with mappings of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nexusflow_sys::map::ReadMap;

use super::*;

mod death;
mod drops;
mod large;
mod tap;

const LONG: Duration = Duration::from_secs(60);

fn segment(capacity: u64, consumers: usize, wait: WaitMode) -> Segment {
    Segment::create(&SegmentOptions { name: "test", capacity, consumers, wait, ..Default::default() }).unwrap()
}

fn long() -> Until<'static> {
    Until::timeout(LONG)
}

/// The next message, released.
fn take(consumer: &mut Consumer) -> Option<Vec<u8>> {
    let message = consumer.peek(long()).unwrap().map(|m| m.to_vec());
    consumer.advance();
    consumer.release();
    message
}

/// A message that knows its number: `len` bytes of it.
fn payload(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number.wrapping_mul(31) + i) as u8).collect()
}

/// Lengths that look random and include 0 and the longest.
fn length(number: usize, max: usize) -> usize {
    match number % 97 {
        0 => 0,
        1 => max,
        _ => number.wrapping_mul(2_654_435_761) % (max / 4),
    }
}

#[test]
fn messages_come_out_as_they_went_in() {
    let segment = segment(1, 1, WaitMode::Adaptive);
    assert_eq!(segment.capacity(), 4096);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    for n in 0..5000 {
        let message = payload(n, length(n, p.max_message()));
        p.write(&message, long()).unwrap();
        assert_eq!(take(&mut c), Some(message));
        assert!(matches!(c.try_peek().unwrap(), Next::Empty));
    }
    p.finish();
    assert_eq!(take(&mut c), None);
    assert_eq!(take(&mut c), None, "the end stays the end");
    assert!(segment.drained(0).unwrap());
    let stats = segment.stats();
    assert_eq!((stats.messages, stats.consumers[0].messages), (5000, 5000));
    assert_eq!(stats.bytes, stats.consumers[0].bytes);
    assert_eq!(stats.consumers[0].backlog_bytes, 0);
}

#[test]
fn a_ring_takes_exactly_what_fits() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let max = p.max_message();
    assert!(p.try_write(&payload(1, max)).unwrap());
    assert!(!p.try_write(&[]).unwrap(), "not even an empty one");
    assert!(matches!(p.write(&[], Until::timeout(Duration::from_millis(1))), Err(Error::TimedOut)));
    assert!(matches!(p.try_write(&payload(1, max + 1)), Err(Error::TooLong { len: 4081, max: 4080, .. })));
    assert_eq!(take(&mut c), Some(payload(1, max)));
    // 255 records of 16 bytes leave 16: room for an empty record and the header behind it.
    for n in 0..255 {
        assert!(p.try_write(&payload(n, 8)).unwrap(), "{n}");
    }
    assert!(!p.try_write(&[1]).unwrap());
    assert!(p.try_write(&[]).unwrap());
    assert!(!p.try_write(&[]).unwrap());
    for n in 0..255 {
        assert_eq!(take(&mut c), Some(payload(n, 8)));
    }
    assert_eq!(take(&mut c), Some(vec![]));
    assert!(segment.stats().blocked > Duration::ZERO);
}

#[test]
fn a_stream_crosses_between_threads_in_every_mode() {
    for wait in [WaitMode::Adaptive, WaitMode::Block] {
        let segment = segment(16384, 3, wait);
        std::thread::scope(|s| {
            for i in 0..3 {
                let mut c = segment.consumer(i).unwrap();
                s.spawn(move || {
                    for n in 0..20_000 {
                        assert_eq!(take(&mut c), Some(payload(n, length(n, 4096))));
                    }
                    assert_eq!(take(&mut c), None);
                });
            }
            let mut p = segment.producer().unwrap();
            for n in 0..20_000 {
                p.write(&payload(n, length(n, 4096)), long()).unwrap();
            }
            p.finish();
        });
        assert_eq!(segment.stats().consumers.iter().map(|c| c.messages).sum::<u64>(), 60_000);
    }
}

#[test]
fn spinning_ends_never_sleep() {
    let segment = segment(4096, 1, WaitMode::Spin);
    std::thread::scope(|s| {
        let mut c = segment.consumer(0).unwrap();
        s.spawn(move || (0..300).for_each(|n| assert_eq!(take(&mut c), Some(payload(n, 100)))));
        let mut p = segment.producer().unwrap();
        (0..300).for_each(|n| p.write(&payload(n, 100), long()).unwrap());
    });
    assert!(!segment.stats().consumers[0].sleeps);
}

#[test]
fn a_batch_is_published_whole_or_as_far_as_it_fits() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let messages: Vec<_> = (0..10).map(|n| payload(n, n * 3)).collect();
    p.write_batch(messages.iter().map(Vec::as_slice), long()).unwrap();
    for message in &messages {
        assert_eq!(take(&mut c).as_ref(), Some(message));
    }
    let many = vec![vec![7u8; 1000]; 6];
    let soon = Until::timeout(Duration::from_millis(1));
    assert!(matches!(p.write_batch(many.iter().map(Vec::as_slice), soon), Err(Error::TimedOut)));
    for _ in 0..4 {
        assert_eq!(take(&mut c), Some(vec![7u8; 1000]));
    }
    assert!(matches!(c.try_peek().unwrap(), Next::Empty));
}

#[test]
fn what_is_not_released_is_read_again_by_the_next_to_attach() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    for n in 0..3 {
        p.write(&payload(n, 20), long()).unwrap();
    }
    let after_first = {
        c.peek(long()).unwrap();
        c.advance();
        c.position()
    };
    c.peek(long()).unwrap();
    c.advance();
    c.release_to(after_first);
    assert!(segment.consumer(0).is_ok_and(|mut again| take(&mut again) == Some(payload(1, 20))));
}

#[test]
fn a_new_producer_goes_on_where_the_old_one_died() {
    let segment = segment(4096, 1, WaitMode::Block);
    let mut c = segment.consumer(0).unwrap();
    for round in 0..200 {
        let mut p = segment.producer().unwrap();
        p.write(&payload(round, 100), long()).unwrap();
        // Dies with a reservation half filled.
        p.reserve(500, long()).unwrap().as_mut_slice()[..100].fill(0xff);
        assert_eq!(take(&mut c), Some(payload(round, 100)));
        assert!(matches!(c.try_peek().unwrap(), Next::Empty));
    }
    assert_eq!(segment.stats().messages, 200);
}

#[test]
fn a_producer_that_comes_back_when_all_have_left_spoils_nothing_of_what_is_handed_on() {
    let segment = segment(4096, 1, WaitMode::Block);
    let mut producer = segment.producer().unwrap();
    ["one", "two"].iter().for_each(|message| producer.write(message.as_bytes(), long()).unwrap());
    producer.hold_staged(true);
    producer.reserve(5, long()).unwrap().stage();
    let (position, word) = producer.first_staged().unwrap();
    drop(producer); // killed between the commit of a transfer and its publication
    segment.detach(0);
    let mut producer = segment.producer().unwrap();
    assert!(producer.redo(position, word).unwrap());
    assert!(matches!(producer.write(b"more", long()), Err(Error::Closed { .. })));
    producer.finish();
    drop(producer);
    let mut producer = segment.producer().unwrap();
    assert!(!producer.redo(position, word).unwrap());
    producer.finish();
    assert!(segment.hand_on(0).unwrap());
    let mut other = segment.consumer(0).unwrap();
    let mut lengths = vec![];
    while let Some(message) = take(&mut other) {
        lengths.push(message.len());
    }
    assert_eq!(lengths, [3, 3, 5]);
}

#[test]
fn the_supervisor_ends_the_stream_of_one_that_is_gone() {
    let segment = segment(4096, 2, WaitMode::Block);
    let (mut a, mut b) = (segment.consumer(0).unwrap(), segment.consumer(1).unwrap());
    let mut p = segment.producer().unwrap();
    for n in 0..3 {
        p.write(&payload(n, 50), long()).unwrap();
    }
    assert_eq!(take(&mut a), Some(payload(0, 50)));
    drop(p);
    assert!(!segment.drained(0).unwrap());
    segment.close().unwrap();
    segment.close().unwrap();
    for n in 1..3 {
        assert_eq!(take(&mut a), Some(payload(n, 50)));
    }
    assert_eq!(take(&mut a), None);
    assert!(segment.drained(0).unwrap() && !segment.drained(1).unwrap());
    for n in 0..3 {
        assert_eq!(take(&mut b), Some(payload(n, 50)));
    }
    assert_eq!(take(&mut b), None);
    assert!(matches!(segment.producer().unwrap().try_write(b"x"), Err(Error::Finished { .. })));
}

#[test]
fn the_supervisor_can_end_a_ring_that_is_exactly_full() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    p.write(&payload(0, 4080), long()).unwrap();
    segment.close().unwrap();
    assert_eq!(take(&mut c), Some(payload(0, 4080)));
    assert_eq!(take(&mut c), None);
}

#[test]
fn sleepers_are_woken() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    std::thread::scope(|s| {
        let reader = s.spawn(|| {
            let first = take(&mut c);
            while !segment.stats().producer_sleeps {
                std::thread::yield_now();
            }
            (first, take(&mut c), take(&mut c))
        });
        while !segment.stats().consumers[0].sleeps {
            std::thread::yield_now();
        }
        for n in 0..3 {
            p.write(&payload(n, 3000), long()).unwrap();
        }
        let all = reader.join().unwrap();
        assert_eq!(all, (Some(payload(0, 3000)), Some(payload(1, 3000)), Some(payload(2, 3000))));
    });
}

#[test]
fn the_last_to_detach_wakes_the_producer_and_closes_the_edge() {
    let segment = segment(4096, 2, WaitMode::Block);
    let mut p = segment.producer().unwrap();
    segment.consumer(0).unwrap().detach();
    p.write(&payload(0, 4080), long()).unwrap();
    std::thread::scope(|s| {
        let writer = s.spawn(|| p.write(b"more", long()));
        while !segment.stats().producer_sleeps {
            std::thread::yield_now();
        }
        segment.detach(1);
        assert!(matches!(writer.join().unwrap(), Err(Error::Closed { .. })));
    });
    assert!(p.try_write(b"x").unwrap_err().is_closed());
    assert!(matches!(segment.consumer(0), Err(Error::Closed { .. })));
    assert!(segment.drained(0).unwrap());
    segment.close().unwrap();
}

#[test]
fn one_that_detaches_holds_nobody_back_any_more() {
    let segment = segment(4096, 2, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    p.write(&payload(0, 4000), long()).unwrap();
    assert_eq!(take(&mut c), Some(payload(0, 4000)));
    assert!(!p.try_write(&payload(1, 4000)).unwrap());
    segment.detach(1);
    assert!(p.try_write(&payload(1, 4000)).unwrap());
    assert_eq!(take(&mut c), Some(payload(1, 4000)));
}

#[test]
fn a_bell_ends_waits_on_both_sides() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let bell = Bell::new();
    let until = Until::forever().or_bell(&bell);
    std::thread::scope(|s| {
        let reader = s.spawn(|| c.peek(until).map(|m| m.map(|m| m.len())));
        while !segment.stats().consumers[0].sleeps {
            std::thread::yield_now();
        }
        bell.ring();
        assert!(matches!(reader.join().unwrap(), Err(Error::Interrupted)));
    });
    bell.silence();
    p.write(&payload(0, 4080), long()).unwrap();
    std::thread::scope(|s| {
        let writer = s.spawn(|| p.write(b"more", until));
        while !segment.stats().producer_sleeps {
            std::thread::yield_now();
        }
        bell.ring();
        assert!(matches!(writer.join().unwrap(), Err(Error::Interrupted)));
    });
}

#[test]
fn several_rings_are_waited_for_at_once() {
    let segments: Vec<_> = (0..5).map(|_| segment(4096, 1, WaitMode::Block)).collect();
    let mut consumers: Vec<_> = segments.iter().map(|s| s.consumer(0).unwrap()).collect();
    for (i, segment) in segments.iter().enumerate() {
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                wait_any(&mut consumers, long()).unwrap();
                done.store(true, Ordering::Relaxed);
            });
            while !segments[4].stats().consumers[0].sleeps && !done.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            segment.producer().unwrap().write(b"x", long()).unwrap();
        });
        assert_eq!(take(&mut consumers[i]), Some(b"x".to_vec()));
    }
    wait_any(&mut [], long()).unwrap();
    assert!(matches!(wait_any(&mut consumers, Until::timeout(Duration::ZERO)), Err(Error::TimedOut)));
}

#[test]
fn an_end_that_was_seen_is_nothing_new() {
    let segments: Vec<_> = (0..3).map(|_| segment(4096, 1, WaitMode::Block)).collect();
    let mut consumers: Vec<_> = segments.iter().map(|s| s.consumer(0).unwrap()).collect();
    segments[0].close().unwrap();
    wait_any(&mut consumers, long()).unwrap();
    let soon = Until::timeout(Duration::from_millis(5));
    assert!(matches!(wait_any(&mut consumers, soon), Err(Error::TimedOut)));
    std::thread::scope(|s| {
        let waiting = s.spawn(|| wait_any(&mut consumers, long()));
        while !segments[2].stats().consumers[0].sleeps {
            std::thread::yield_now();
        }
        segments[1].close().unwrap();
        waiting.join().unwrap().unwrap();
    });
    segments[2].close().unwrap();
    wait_any(&mut consumers, long()).unwrap();
    wait_any(&mut consumers, long()).unwrap();
    assert!(consumers.iter_mut().all(|c| take(c).is_none()));
}

#[test]
fn wrong_descriptors_are_refused() {
    for max_message in [100, 100_000] {
        let options = SegmentOptions { name: "e", capacity: 131_072, max_message, consumers: 2, ..Default::default() };
        let segment = Segment::create(&options).unwrap();
        let shape = segment.shape();
        assert_eq!(shape.slab > 0, max_message > 100);
        let (producer, consumer) = (|| segment.producer_fds().unwrap(), || segment.consumer_fds(0).unwrap());
        assert!(Producer::from_fds("e", shape, producer()).is_ok());
        for ring in [4096, shape.ring - 1, shape.ring + 4096, u64::MAX, !4095] {
            assert!(Producer::from_fds("e", Shape { ring, ..shape }, producer()).is_err());
            assert!(Consumer::from_fds("e", Shape { ring, ..shape }, consumer()).is_err());
        }
        for slab in [1, shape.slab ^ 8192, !4095] {
            assert!(Producer::from_fds("e", Shape { slab, ..shape }, producer()).is_err());
            assert!(Consumer::from_fds("e", Shape { slab, ..shape }, consumer()).is_err());
        }
        assert!(Producer::from_fds("e", shape, vec![]).is_err());
        assert!(Producer::from_fds("e", shape, consumer()).is_err(), "read-only");
        assert!(Consumer::from_fds("e", shape, consumer()).is_ok());
        assert!(Consumer::from_fds("e", shape, producer()).is_err());
        let mut swapped = consumer();
        swapped.reverse();
        assert!(Consumer::from_fds("e", shape, swapped).is_err());
    }
    let wrong = |options: SegmentOptions<'_>| assert!(Segment::create(&options).is_err(), "{options:?}");
    wrong(SegmentOptions { consumers: 0, ..Default::default() });
    wrong(SegmentOptions { consumers: MAX_CONSUMERS + 1, ..Default::default() });
    wrong(SegmentOptions { capacity: u64::MAX, ..Default::default() });
    wrong(SegmentOptions { max_message: u64::MAX, ..Default::default() });
}

/// Writes a word into the cursor file of consumer `i`, as only that consumer could.
fn scribble_cursor(segment: &Segment, i: usize, at: usize, word: u64) {
    let file = File::from(segment.consumer_fds(i).unwrap().pop().unwrap());
    file.write_all_at(&word.to_le_bytes(), at as u64).unwrap();
}

#[test]
fn a_consumer_that_lies_keeps_the_end_from_nobody() {
    for lie in [7, 16, 8000, 1 << 40, u64::MAX - 7] {
        for wrapped in [0, 100] {
            let segment = segment(4096, 2, WaitMode::Block);
            let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(1).unwrap());
            let mut other = segment.consumer(0).unwrap();
            for n in 0..wrapped {
                p.write(&payload(n, 100), long()).unwrap();
                assert_eq!(take(&mut c), take(&mut other));
            }
            for n in 0..3 {
                p.write(&payload(n, 50), long()).unwrap();
            }
            drop(p);
            scribble_cursor(&segment, 0, layout::C_RELEASED, lie);
            let told = segment.close();
            assert!(matches!(told, Ok(()) | Err(Error::Poisoned { .. })), "{told:?}");
            for n in 0..3 {
                assert_eq!(take(&mut c), Some(payload(n, 50)));
            }
            assert!(c.peek(Until::timeout(Duration::ZERO)).unwrap().is_none(), "{lie} {wrapped}");
        }
    }
}

#[test]
fn a_consumer_whose_own_cursor_was_overwritten_finds_the_end_all_the_same() {
    let segment = segment(4096, 1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    p.write(b"x", long()).unwrap();
    drop(p);
    scribble_cursor(&segment, 0, layout::C_RELEASED, 12345);
    segment.close().unwrap();
    assert_eq!(take(&mut c), Some(b"x".to_vec()));
    assert!(c.peek(Until::timeout(Duration::ZERO)).unwrap().is_none());
}

#[test]
fn counts_that_hold_nonsense_stop_nobody() {
    let segment = segment(4096, 1, WaitMode::Block);
    let data = File::from(segment.producer_fds().unwrap().remove(0));
    for at in (layout::H_COUNTS..layout::H_COUNTS + 64).step_by(8).chain([layout::H_BLOCKED_NS]) {
        data.write_all_at(&[0xff; 8], at as u64).unwrap();
    }
    for at in (layout::C_COUNTS..layout::C_COUNTS + 64).step_by(8).chain([layout::C_WAITED_NS]) {
        scribble_cursor(&segment, 0, at, u64::MAX);
    }
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let soon = Until::timeout(Duration::from_millis(1));
    assert!(matches!(c.peek(soon), Err(Error::TimedOut)));
    p.write(&payload(0, 4080), long()).unwrap();
    assert!(matches!(p.write(b"x", Until::timeout(Duration::from_millis(1))), Err(Error::TimedOut)));
    assert_eq!(take(&mut c), Some(payload(0, 4080)));
}

#[test]
fn a_ring_that_spins_is_not_slept_on_beside_one_that_blocks() {
    let segments = [segment(4096, 1, WaitMode::Block), segment(4096, 1, WaitMode::Spin)];
    let mut consumers = segments.each_ref().map(|s| s.consumer(0).unwrap());
    let mut p = segments[1].producer().unwrap();
    std::thread::scope(|s| {
        let start = Instant::now();
        s.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            p.write(b"x", long()).unwrap();
        });
        wait_any(&mut consumers, long()).unwrap();
        assert!(start.elapsed() < MAX_SLEEP / 2);
    });
}

/// A release and the last look of a producer that goes to sleep may pass each other. What wakes it then, the consumer's
/// next release or sleep, may be far off.
#[test]
fn who_polls_or_gives_back_wakes_a_producer_that_missed_an_earlier_release() {
    for polls in [true, false] {
        let segments = [segment(4096, 1, WaitMode::Block), segment(4096, 1, WaitMode::Block)];
        let mut input = crate::Input::new("e", segments.iter().map(|s| s.consumer(0).unwrap()).collect());
        for segment in &segments {
            segment.producer().unwrap().write(b"x", long()).unwrap();
            input.recv().unwrap().unwrap(); // which gives back what came from the ring before
        }
        let data = File::from(segments[0].producer_fds().unwrap().remove(0));
        data.write_all_at(&1u64.to_le_bytes(), layout::H_SLEEPING as u64).unwrap();
        let cursor = ReadMap::new(&segments[0].consumer_fds(0).unwrap()[2], page_size() as usize).unwrap();
        let word = cursor.word32(layout::C_WAKES);
        std::thread::scope(|s| {
            let asleep = s.spawn(|| {
                let start = Instant::now();
                nexusflow_sys::futex::wait(word, word.load(Ordering::SeqCst), LONG).unwrap();
                start.elapsed()
            });
            std::thread::sleep(Duration::from_millis(200)); // until it sleeps
            match polls {
                true => assert!(matches!(input.try_recv(), Err(Error::TimedOut))),
                false => input.release(),
            }
            assert!(asleep.join().unwrap() < LONG / 2);
        });
    }
}

/// One step of somebody at a ring with two consumers.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Batch(Vec<usize>),
    /// Consumer, how many messages.
    Read(usize, usize),
    Release(usize),
    /// Dies, and another attaches.
    Reattach(usize),
    ProducerReattach,
    Detach,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0usize..1500).prop_map(Step::Write),
        2 => prop::collection::vec(0usize..200, 0..12).prop_map(Step::Batch),
        6 => (0usize..2, 0usize..6).prop_map(|(i, n)| Step::Read(i, n)),
        5 => (0usize..2).prop_map(Step::Release),
        1 => (0usize..2).prop_map(Step::Reattach),
        1 => Just(Step::ProducerReattach),
        1 => Just(Step::Detach),
    ]
}

proptest::proptest! {
    /// Against the obvious model: a list of what was sent, and two numbers for each consumer.
    #[test]
    fn a_ring_does_what_a_list_does(steps in proptest::collection::vec(step(), 1..120)) {
        let segment = segment(4096, 2, WaitMode::Block);
        let mut p = segment.producer().unwrap();
        let mut consumers: Vec<_> = (0..2).map(|i| segment.consumer(i).unwrap()).collect();
        let (mut sent, mut read, mut released) = (Vec::new(), [0, 0], [0, 0]);
        let mut detached = false;
        let now = Until::timeout(Duration::ZERO);
        for step in steps {
            match step {
                Step::Write(len) => {
                    let message = payload(sent.len(), len);
                    if p.try_write(&message).unwrap() {
                        sent.push(message);
                    }
                }
                Step::Batch(lens) => {
                    let batch: Vec<_> = (sent.len()..).zip(lens).map(|(n, len)| payload(n, len)).collect();
                    let before = segment.stats().messages as usize;
                    assert!(matches!(
                        p.write_batch(batch.iter().map(Vec::as_slice), now),
                        Ok(()) | Err(Error::TimedOut)
                    ));
                    let written = segment.stats().messages as usize - before;
                    sent.extend(batch.into_iter().take(written));
                }
                Step::Read(1, _) | Step::Release(1) | Step::Reattach(1) if detached => {}
                Step::Read(i, n) => {
                    for _ in 0..n {
                        match consumers[i].try_peek().unwrap() {
                            Next::Message(m) => assert_eq!(m.to_vec(), sent[read[i]]),
                            _ => {
                                assert_eq!(read[i], sent.len());
                                break;
                            }
                        }
                        consumers[i].advance();
                        read[i] += 1;
                    }
                }
                Step::Release(i) => {
                    consumers[i].release();
                    released[i] = read[i];
                }
                Step::Reattach(i) => {
                    consumers[i] = segment.consumer(i).unwrap();
                    read[i] = released[i];
                }
                Step::ProducerReattach => p = segment.producer().unwrap(),
                Step::Detach => {
                    segment.detach(1);
                    detached = true;
                }
            }
        }
        drop(p);
        segment.close().unwrap();
        while let Some(message) = take(&mut consumers[0]) {
            assert_eq!(message, sent[read[0]]);
            read[0] += 1;
        }
        assert_eq!(read[0], sent.len());
        assert!(segment.drained(0).unwrap());
    }
}

#[test]
fn memory_can_be_asked_for_on_a_node_and_in_huge_pages() {
    let node = Some(nexusflow_sys::sched::memory_nodes_allowed().unwrap()[0]);
    for max_message in [1 << 10, 1 << 20] {
        for (strict, hugepages) in [(true, Hugepages::None), (false, Hugepages::None), (true, Hugepages::TwoMiB)] {
            let memory = Memory { node, strict, hugepages };
            let options = SegmentOptions { name: "e", capacity: 3 << 20, max_message, memory, ..Default::default() };
            let segment = match Segment::create(&options) {
                Ok(segment) => segment,
                Err(Error::Io { source, .. }) if hugepages != Hugepages::None => {
                    assert_eq!(source.raw_os_error(), Some(12), "none are reserved on this machine: {source}");
                    continue;
                }
                Err(e) => panic!("{e}"),
            };
            let (mut producer, mut consumer) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
            let message = vec![7; max_message as usize];
            for _ in 0..8 {
                producer.write(&message, Until::forever()).unwrap();
                assert_eq!(consumer.peek(Until::forever()).unwrap().unwrap().to_vec(), message);
                consumer.advance();
                consumer.release();
            }
        }
    }
    let shape = Shape::of(3 << 20, 1 << 20).in_pages(Hugepages::TwoMiB);
    assert_eq!((shape.ring, shape.slab), (768 << 10, 4 << 20));
    assert_eq!(Shape::of(3 << 20, 1 << 10).in_pages(Hugepages::TwoMiB).ring, 4 << 20);
}
