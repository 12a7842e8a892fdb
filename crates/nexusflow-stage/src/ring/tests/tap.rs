//! Looking on: what is copied is whole, what is missed is counted, and nobody waits.

use super::super::{Missed, Tap, Tapped};
use super::*;

/// Everything a tap finds until the end: the numbers of the messages, and what it missed.
fn watch(mut tap: Tap, len: impl Fn(usize) -> usize, mut between: impl FnMut()) -> (Vec<usize>, Missed) {
    let (mut seen, mut missed) = (Vec::new(), Missed { messages: Some(0), bytes: Some(0) });
    let mut next = 0;
    loop {
        match tap.look().unwrap() {
            Tapped::Message(bytes) => {
                assert!(bytes == payload(next, len(next)), "message {next} of {} bytes is torn", len(next));
                seen.push(next);
                next += 1;
                between();
            }
            Tapped::Missed(some) => {
                next += some.messages.unwrap() as usize;
                missed.messages = Some(missed.messages.unwrap() + some.messages.unwrap());
                missed.bytes = Some(missed.bytes.unwrap() + some.bytes.unwrap());
            }
            Tapped::Empty => std::thread::yield_now(),
            Tapped::End => return (seen, missed),
        }
    }
}

#[test]
fn who_looks_on_from_the_beginning_sees_all_and_is_not_waited_for() {
    let segment = segment(4096, 2, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let (mut tap, mut lazy) = (segment.tap().unwrap(), segment.tap().unwrap());
    assert_eq!(tap.look().unwrap(), Tapped::Empty);
    segment.detach(1);
    for n in 0..1000 {
        p.write(&payload(n, 100), long()).unwrap();
        assert_eq!(tap.look().unwrap(), Tapped::Message(&payload(n, 100)));
        assert_eq!(tap.look().unwrap(), Tapped::Empty);
        take(&mut c);
    }
    // It begins with what is not released.
    p.write(&payload(1000, 9), long()).unwrap();
    assert_eq!(segment.tap().unwrap().look().unwrap(), Tapped::Message(&payload(1000, 9)));
    p.finish();
    assert_eq!(tap.look().unwrap(), Tapped::Message(&payload(1000, 9)));
    assert_eq!(tap.look().unwrap(), Tapped::End);
    // The other one has not looked once.
    assert_eq!(lazy.look().unwrap(), Tapped::Missed(Missed { messages: Some(1000), bytes: Some(100_000) }));
    assert_eq!(lazy.look().unwrap(), Tapped::Message(&payload(1000, 9)));
    assert_eq!(lazy.look().unwrap(), Tapped::End);
    drop(c);
    segment.detach(0);
    assert_eq!(segment.tap().unwrap().look().unwrap(), Tapped::End, "nobody reads any more");
}

#[test]
fn what_is_seen_is_whole_and_what_is_missed_is_counted() {
    for (capacity, max_message, count) in [(4096, 0, 10_000), (256 * 1024, 64 * 1024, 1000)] {
        for consumers in [1, 2] {
            let options = SegmentOptions { capacity, max_message, consumers, ..Default::default() };
            let segment = Segment::create(&options).unwrap();
            let longest = segment.shape().max_message() as usize;
            let len = |n: usize| if n.is_multiple_of(3) { length(n, longest) } else { n % 300 };
            std::thread::scope(|s| {
                let taps = [0, 1, 50].map(|naps| {
                    let tap = segment.tap().unwrap();
                    let lazy = move || (0..naps).for_each(|_| std::thread::yield_now());
                    s.spawn(move || watch(tap, len, lazy))
                });
                for i in 0..consumers {
                    let mut c = segment.consumer(i).unwrap();
                    s.spawn(move || while take(&mut c).is_some() {});
                }
                let mut p = segment.producer().unwrap();
                for n in 0..count {
                    p.write(&payload(n, len(n)), long()).unwrap();
                }
                p.finish();
                let bytes = |seen: &[usize]| seen.iter().map(|n| len(*n) as u64).sum::<u64>();
                for tap in taps {
                    let (seen, missed) = tap.join().unwrap();
                    assert_eq!(seen.len() as u64 + missed.messages.unwrap(), count as u64);
                    let all: u64 = (0..count).map(|n| len(n) as u64).sum();
                    assert_eq!(bytes(&seen) + missed.bytes.unwrap(), all);
                }
            });
        }
    }
}

#[test]
fn a_large_message_is_missed_once_its_place_is_anothers() {
    let options = SegmentOptions { capacity: 256 * 1024, max_message: 64 * 1024, ..Default::default() };
    let segment = Segment::create(&options).unwrap();
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let mut send = |n| p.write(&payload(n, 64 * 1024), long()).unwrap();
    let seen = |tap: &mut Tap| match tap.look().unwrap() {
        Tapped::Message(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    let (mut early, mut tap) = (segment.tap().unwrap(), segment.tap().unwrap());
    send(0);
    send(1);
    assert!(seen(&mut early) == payload(0, 64 * 1024), "held by the consumer, however many came after");
    take(&mut c);
    // Message 0 is released, and nothing was taken since but message 1, which lies elsewhere.
    assert!(seen(&mut tap) == payload(0, 64 * 1024));
    take(&mut c);
    send(2); // where message 0 was
    send(3); // where message 1 was
    assert_eq!(tap.look().unwrap(), Tapped::Missed(Missed { messages: Some(1), bytes: Some(64 * 1024) }));
    assert!(seen(&mut tap) == payload(2, 64 * 1024));
    assert!(seen(&mut tap) == payload(3, 64 * 1024));
    assert_eq!(tap.look().unwrap(), Tapped::Empty);
}

#[test]
fn nonsense_is_an_error_and_ends() {
    let segment = segment(4096, 1, WaitMode::Block);
    let fds = segment.tap_fds().unwrap();
    let scribble = |fd: usize, offset: u64, word: u64| {
        let fd = segment.producer_fds().unwrap().swap_remove(fd);
        File::from(fd).write_all_at(&word.to_le_bytes(), offset).unwrap();
    };
    let mut tap = segment.tap().unwrap();
    assert!(Tap::from_fds("test", Shape { ring: 8192, ..segment.shape() }, fds).is_err());
    assert!(Tap::from_fds("test", segment.shape(), vec![]).is_err());
    scribble(0, layout::H_CLAIM as u64, u64::MAX);
    assert!(matches!(tap.look(), Err(Error::Poisoned { .. })));
    scribble(0, layout::H_CLAIM as u64, 0);
    scribble(1, 0, u64::MAX);
    assert!(matches!(tap.look(), Err(Error::Poisoned { .. })));
    scribble(1, 0, 0);
    assert_eq!(tap.look().unwrap(), Tapped::Empty);
}

#[test]
fn drops_are_no_reason_to_miss_anything() {
    for on_full in [OnFull::DropNewest, OnFull::DropOldest] {
        let options = SegmentOptions { capacity: 4096, on_full, ..Default::default() };
        let segment = Segment::create(&options).unwrap();
        let mut p = segment.producer().unwrap();
        let (mut tap, mut lazy) = (segment.tap().unwrap(), segment.tap().unwrap());
        let (mut seen, mut next) = (0, 0);
        for n in 0..1000 {
            p.write(&payload(n, 100), long()).unwrap();
            if n % 7 == 0 {
                let mut c = segment.consumer(0).unwrap();
                for _ in 0..3 {
                    if matches!(c.try_peek().unwrap(), Next::Message(_)) {
                        c.advance();
                        c.release();
                    }
                }
            }
            while let Tapped::Message(bytes) = tap.look().unwrap() {
                let number = (next..=n).find(|&i| payload(i, 100) == bytes).expect("in order");
                (seen, next) = (seen + 1, number + 1);
            }
        }
        p.finish();
        let sent = segment.stats().messages;
        // Those that were dropped because they were old have been sent.
        assert_eq!(seen, sent, "{on_full:?}");
        let (mut got, mut missed) = (0, 0);
        loop {
            match lazy.look().unwrap() {
                Tapped::Message(_) => got += 1,
                Tapped::Missed(some) => missed += some.messages.unwrap_or_default(),
                Tapped::Empty => panic!("it has ended"),
                Tapped::End => break,
            }
        }
        assert!(got > 0 && got + missed <= 1000, "{on_full:?}: {got} and {missed}");
    }
}
