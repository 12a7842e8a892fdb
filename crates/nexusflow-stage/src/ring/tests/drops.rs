//! Rings that drop what finds no room: what is lost is counted, by whoever dies when.

use super::super::steps::death;
use super::*;

const BOTH: [OnFull; 2] = [OnFull::DropNewest, OnFull::DropOldest];

fn dropping(on_full: OnFull, max_message: u64, consumers: usize) -> Segment {
    let capacity = if max_message == 0 { 4096 } else { 160 * 1024 };
    let wait = WaitMode::Block;
    Segment::create(&SegmentOptions { capacity, max_message, consumers, wait, on_full, ..Default::default() }).unwrap()
}

/// A message of this number.
fn numbered(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = payload(n as usize, len.max(8));
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// The numbers of all messages that are there now, each whole, and what was dropped before it.
fn drain(c: &mut Consumer) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    while let Next::Message(_) = c.try_peek().unwrap() {
        let missed = c.missed();
        let message = c.take().unwrap().to_vec();
        c.release();
        let n = u64::from_le_bytes(message[..8].try_into().unwrap());
        assert_eq!(message, numbered(n, message.len()));
        all.push((n, missed));
    }
    all
}

fn write(p: &mut Producer, n: u64, len: usize) {
    p.write(&numbered(n, len), Until::timeout(Duration::ZERO)).unwrap();
}

#[test]
fn the_newest_are_dropped_and_the_first_stay() {
    let segment = dropping(OnFull::DropNewest, 0, 1);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    (0..100).for_each(|n| write(&mut p, n, 100));
    let fit = 100 - p.dropped();
    assert!((30..40).contains(&fit));
    assert_eq!(drain(&mut c), (0..fit).map(|n| (n, 0)).collect::<Vec<_>>());
    assert_eq!(c.dropped(), 0, "it has not seen what follows");
    write(&mut p, 100, 100);
    (101..200).for_each(|n| write(&mut p, n, 100));
    assert_eq!(drain(&mut c)[0], (100, 100 - fit));
    p.finish();
    assert!(matches!(c.try_peek().unwrap(), Next::End));
    assert_eq!(c.dropped(), p.dropped());
    let stats = segment.stats();
    assert_eq!(stats.messages + stats.dropped, 200);
    assert_eq!(stats.consumers[0].messages, stats.messages);
    assert_eq!(stats.consumers[0].dropped, stats.dropped);
}

#[test]
fn the_oldest_are_dropped_and_the_last_stay() {
    for max_message in [0, 64 * 1024] {
        let segment = dropping(OnFull::DropOldest, max_message, 2);
        let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
        let mut quick = segment.consumer(1).unwrap();
        let len = if max_message == 0 { 100 } else { 40_000 };
        for n in 0..100 {
            write(&mut p, n, len);
            assert_eq!(drain(&mut quick), [(n, 0)]);
        }
        let got = drain(&mut c);
        assert!((2..40).contains(&got.len()), "{}", got.len());
        assert_eq!(got[0].1, 100 - got.len() as u64);
        assert_eq!(got.last(), Some(&(99, 0)));
        assert_eq!((p.dropped(), c.dropped(), quick.dropped()), (0, got[0].1, 0));
        p.finish();
        assert!(drain(&mut c).is_empty() && drain(&mut quick).is_empty());
        let stats = segment.stats();
        assert_eq!((stats.messages, stats.dropped), (100, 0));
        assert_eq!((stats.consumers[0].dropped, stats.consumers[1].dropped), (c.dropped(), 0));
        assert_eq!(stats.consumers[0].messages + stats.consumers[0].dropped, 100);
        assert!(segment.drained(0).unwrap());
    }
}

#[test]
fn what_is_being_read_is_never_taken_away() {
    let segment = dropping(OnFull::DropOldest, 0, 1);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    (0..3).for_each(|n| write(&mut p, n, 100));
    let Next::Message(held) = c.try_peek().unwrap() else { panic!() };
    (3..100).for_each(|n| write(&mut p, n, 100));
    assert_eq!(held.to_vec(), numbered(0, 100));
    let fit = 100 - p.dropped();
    let got = drain(&mut c);
    assert_eq!(got, (0..fit).map(|n| (n, 0)).collect::<Vec<_>>());
    p.finish();
    assert!(drain(&mut c).is_empty());
    assert_eq!(c.dropped(), p.dropped());
}

#[test]
fn who_died_reading_holds_nothing_any_more() {
    let segment = dropping(OnFull::DropOldest, 0, 1);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    (0..3).for_each(|n| write(&mut p, n, 100));
    assert!(matches!(c.try_peek().unwrap(), Next::Message(_)));
    segment.stopped_reading(0);
    segment.stopped_reading(0);
    (3..100).for_each(|n| write(&mut p, n, 100));
    assert_eq!(p.dropped(), 0);
    let mut c = segment.consumer(0).unwrap();
    assert_eq!(drain(&mut c).last(), Some(&(99, 0)));
}

#[test]
fn a_room_that_is_not_sent_is_no_drop() {
    for on_full in BOTH {
        let segment = dropping(on_full, 0, 1);
        let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
        write(&mut p, 0, 3000);
        assert!(matches!(c.try_peek().unwrap(), Next::Message(_)), "held, so that even the oldest stays");
        drop(p.reserve(3000, long()).unwrap());
        assert_eq!(p.dropped(), 0);
        let mut room = p.try_reserve(3000).unwrap().unwrap();
        room.as_mut_slice().fill(1);
        room.commit_len(10);
        assert_eq!(p.dropped(), 1);
        p.write_batch([&[1u8; 3000][..], &numbered(7, 200)], long()).unwrap();
        assert_eq!(p.dropped(), 2, "the small one fits");
        assert!(matches!(p.write(&[0; 5000], long()), Err(Error::TooLong { .. })));
        assert_eq!(drain(&mut c), [(0, 0), (7, 2)]);
    }
}

#[test]
fn offered_is_received_and_dropped_between_threads() {
    for on_full in BOTH {
        for max_message in [0, 64 * 1024] {
            let segment = dropping(on_full, max_message, 2);
            let offered = 5000u64;
            std::thread::scope(|s| {
                for i in 0..2 {
                    let mut c = segment.consumer(i).unwrap();
                    s.spawn(move || {
                        let (mut next, mut received) = (0, 0);
                        while c.peek(long()).unwrap().is_some() {
                            for (n, missed) in drain(&mut c) {
                                assert_eq!(n, next + missed);
                                next = n + 1;
                                received += 1;
                            }
                        }
                        assert_eq!(received + c.dropped(), offered);
                    });
                }
                let mut p = segment.producer().unwrap();
                for n in 0..offered {
                    let len = if max_message == 0 { length(n as usize, 1000) } else { length(n as usize, 50_000) };
                    write(&mut p, n, len);
                }
                p.finish();
            });
            let stats = segment.stats();
            assert_eq!(stats.messages + stats.dropped, offered);
            assert!(stats.consumers.iter().all(|c| c.messages + c.dropped == offered), "{stats:?}");
        }
    }
}

/// Whoever dies before any of its stores, what the next ones find adds up.
#[test]
fn counts_add_up_whoever_dies_when() {
    for on_full in BOTH {
        for steps in 0..5000 {
            let segment = dropping(on_full, 0, 1);
            let lived = death::after(steps, || {
                let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
                for n in 0..12 {
                    write(&mut p, n, 900);
                    if n % 5 == 4 {
                        c.try_peek().unwrap();
                        c.advance();
                        c.try_peek().unwrap();
                        c.advance();
                        c.release();
                    }
                    if n == 8 {
                        c.try_peek().unwrap();
                    }
                }
                p.finish();
            });
            segment.stopped_reading(0);
            let mut p = segment.producer().unwrap();
            if lived.is_none() && !matches!(p.try_write(&numbered(50, 900)), Err(Error::Finished { .. })) {
                (51..60).for_each(|n| write(&mut p, n, 900));
            }
            p.finish();
            let mut c = segment.consumer(0).unwrap();
            let got = drain(&mut c);
            assert!(got.windows(2).all(|w| w[0].0 < w[1].0));
            let stats = segment.stats();
            let consumer = &stats.consumers[0];
            assert_eq!(consumer.messages + consumer.dropped, stats.messages + stats.dropped, "{steps}: {stats:?}");
            if lived.is_some() {
                assert!(steps > 100);
                break;
            }
        }
    }
}
