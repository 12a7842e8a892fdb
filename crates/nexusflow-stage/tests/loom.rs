//! The rings under loom: every order in which few threads can meet, as far as bounded preemptions reach.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nexusflow-stage --release --test loom`, with a target folder of its own. The
//! code is the real one; below it lies `nexusflow_sys::model`. No sleep ends by itself there: a wake-up that is lost is
//! a deadlock, and fails the test.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;
use nexusflow_stage::Error;
use nexusflow_stage::ring::{Consumer, Next, OnFull, Producer, Segment, SegmentOptions, Until, WaitMode, wait_any};

/// A ring of 512 bytes: two messages of this length and their headers, not three.
const LEN: usize = 200;
/// And one message of this length, not two.
const LONG: usize = 400;

fn segment(consumers: usize, wait: WaitMode) -> Segment {
    Segment::create(&SegmentOptions { name: "loom", capacity: 1, consumers, wait, ..Default::default() }).unwrap()
}

fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    // Of std: it counts through all runs of the model.
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} runs");
    assert!(runs > 50, "too few orders to show anything");
}

fn message(n: u8, len: usize) -> Vec<u8> {
    vec![n; len]
}

fn send(p: &mut Producer, n: u8, len: usize) {
    p.write(&message(n, len), Until::forever()).unwrap();
}

/// Reads `0 … count` in order, then the end.
fn read_all(mut c: Consumer, count: u8, len: usize) {
    for n in 0..count {
        assert_eq!(c.peek(Until::forever()).unwrap().unwrap().to_vec(), message(n, len));
        c.advance();
        c.release();
    }
    assert!(c.peek(Until::forever()).unwrap().is_none());
}

fn stream(wait: WaitMode, consumers: usize, count: u8, len: usize, preemptions: usize) {
    check(preemptions, move || {
        let segment = segment(consumers, wait);
        let mut p = segment.producer().unwrap();
        let readers: Vec<_> = (0..consumers)
            .map(|i| segment.consumer(i).unwrap())
            .map(|c| thread::spawn(move || read_all(c, count, len)))
            .collect();
        for n in 0..count {
            send(&mut p, n, len);
        }
        p.finish();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_consumer_that_sleeps_is_woken() {
    stream(WaitMode::Block, 1, 2, 8, 3);
}

#[test]
fn one_that_looks_a_while_first_is_woken_too() {
    stream(WaitMode::Adaptive, 1, 1, 8, 3);
}

#[test]
fn a_spinning_pair_needs_nobody_to_wake_it() {
    stream(WaitMode::Spin, 1, 2, 8, 2);
}

/// Three messages, of which two fit: the last record goes round the end of the ring, over the first.
#[test]
fn a_producer_that_sleeps_for_room_is_woken() {
    stream(WaitMode::Block, 1, 3, LEN, 3);
}

#[test]
fn the_slower_of_two_consumers_makes_room() {
    stream(WaitMode::Block, 2, 2, LONG, 1);
}

#[test]
fn a_batch_comes_whole_and_in_order() {
    for lens in [[8, 8, 8], [LEN, LEN, LEN]] {
        check(3, move || {
            let segment = segment(1, WaitMode::Block);
            let mut p = segment.producer().unwrap();
            let c = segment.consumer(0).unwrap();
            let reader = thread::spawn(move || read_all(c, 3, lens[0]));
            let messages: Vec<_> = (0..3).map(|n| message(n, lens[usize::from(n)])).collect();
            p.write_batch(messages.iter().map(Vec::as_slice), Until::forever()).unwrap();
            p.finish();
            reader.join().unwrap();
        });
    }
}

/// A consumer that keeps messages for a while, and gives several back at once.
#[test]
fn late_releases_make_room_too() {
    check(2, || {
        let segment = segment(1, WaitMode::Block);
        let mut p = segment.producer().unwrap();
        let mut c = segment.consumer(0).unwrap();
        let reader = thread::spawn(move || {
            for n in 0..4 {
                assert_eq!(c.peek(Until::forever()).unwrap().unwrap().to_vec(), message(n, LEN));
                c.advance();
                if n % 2 == 1 {
                    c.release();
                }
            }
            assert!(c.peek(Until::forever()).unwrap().is_none());
        });
        (0..4).for_each(|n| send(&mut p, n, LEN));
        p.finish();
        reader.join().unwrap();
    });
}

/// The producer dies anywhere; the supervisor writes the end in its place.
#[test]
fn a_consumer_that_sleeps_hears_of_the_end_that_another_wrote() {
    check(3, || {
        let segment = segment(1, WaitMode::Block);
        let mut p = segment.producer().unwrap();
        let c = segment.consumer(0).unwrap();
        let reader = thread::spawn(move || read_all(c, 1, 8));
        send(&mut p, 0, 8);
        drop(p);
        segment.close().unwrap();
        reader.join().unwrap();
    });
}

/// It published and died before it woke anybody: the supervisor wakes all, then another producer goes on.
#[test]
fn the_supervisor_wakes_for_the_dead() {
    check(3, || {
        let segment = Arc::new(segment(1, WaitMode::Block));
        let c = segment.consumer(0).unwrap();
        let reader = thread::spawn(move || read_all(c, 2, 8));
        let mut p = segment.producer().unwrap();
        send(&mut p, 0, 8);
        drop(p);
        segment.wake_all().unwrap();
        let mut p = segment.producer().unwrap();
        send(&mut p, 1, 8);
        p.finish();
        reader.join().unwrap();
    });
}

/// The consumer it sleeps for is gone: by the supervisor's hand, or its own.
#[test]
fn a_producer_that_sleeps_hears_that_nobody_reads_any_more() {
    for by_itself in [false, true] {
        check(3, move || {
            let segment = segment(1, WaitMode::Block);
            let mut p = segment.producer().unwrap();
            let c = by_itself.then(|| segment.consumer(0).unwrap());
            let writer = thread::spawn(move || {
                let sent = (0..3).try_for_each(|n| p.write(&message(n, LEN), Until::forever()));
                assert!(matches!(sent, Err(Error::Closed { .. })));
            });
            match c {
                Some(c) => c.detach(),
                None => segment.detach(0),
            }
            writer.join().unwrap();
        });
    }
}

#[test]
fn one_of_two_consumers_leaves_and_the_other_goes_on() {
    check(2, || {
        let segment = segment(2, WaitMode::Block);
        let mut p = segment.producer().unwrap();
        let (stays, leaves) = (segment.consumer(0).unwrap(), segment.consumer(1).unwrap());
        let reader = thread::spawn(move || read_all(stays, 2, LONG));
        let leaver = thread::spawn(move || leaves.detach());
        (0..2).for_each(|n| send(&mut p, n, LONG));
        p.finish();
        reader.join().unwrap();
        leaver.join().unwrap();
    });
}

#[test]
fn one_reader_of_two_rings_is_woken_by_either() {
    check(2, || {
        let rings = [segment(1, WaitMode::Block), segment(1, WaitMode::Block)];
        let mut consumers: Vec<_> = rings.iter().map(|r| r.consumer(0).unwrap()).collect();
        let writers: Vec<_> = rings
            .iter()
            .map(|r| r.producer().unwrap())
            .map(|mut p| {
                thread::spawn(move || {
                    send(&mut p, 7, 8);
                    p.finish();
                })
            })
            .collect();
        let (mut seen, mut ended) = (0, [false; 2]);
        while ended != [true; 2] {
            wait_any(&mut consumers, Until::forever()).unwrap();
            for (c, ended) in consumers.iter_mut().zip(&mut ended) {
                match c.try_peek().unwrap() {
                    Next::Message(m) => {
                        assert_eq!(m.to_vec(), message(7, 8));
                        seen += 1;
                    }
                    Next::Empty => continue,
                    Next::End => *ended = true,
                }
                c.advance();
                c.release();
            }
        }
        assert_eq!(seen, 2);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}

/// The producer takes the oldest away while the consumer begins to read it: one of the two gets it, and all is counted.
#[test]
fn what_is_dropped_is_not_read_and_what_is_read_is_not_dropped() {
    check(4, || {
        let (wait, on_full) = (WaitMode::Spin, OnFull::DropOldest);
        let segment = Segment::create(&SegmentOptions { capacity: 1, wait, on_full, ..Default::default() }).unwrap();
        let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
        send(&mut p, 0, LONG);
        let reader = thread::spawn(move || {
            let mut got = 0;
            if let Next::Message(m) = c.try_peek().unwrap() {
                let bytes = m.to_vec();
                assert_eq!(bytes, message(bytes[0], LONG));
                c.advance();
                c.release();
                got += 1;
            }
            (c, got)
        });
        send(&mut p, 1, LONG);
        p.finish();
        let (mut c, mut got) = reader.join().unwrap();
        while let Next::Message(_) = c.try_peek().unwrap() {
            c.advance();
            c.release();
            got += 1;
        }
        assert_eq!(got + c.dropped(), 2);
    });
}
