//! Messages in the slab, staged batches, and journals of them.

use super::*;

/// A ring of 64 KiB beside a slab of 192 KiB.
fn segment(consumers: usize, wait: WaitMode) -> Segment {
    let options =
        SegmentOptions { capacity: 256 * 1024, max_message: 64 * 1024, consumers, wait, ..Default::default() };
    Segment::create(&options).unwrap()
}

/// What the consumer finds at once.
fn now(c: &mut Consumer) -> Option<Vec<u8>> {
    match c.try_peek().unwrap() {
        Next::Message(m) => Some(m.to_vec()),
        _ => None,
    }
}

#[test]
fn small_and_large_messages_come_out_in_order() {
    for wait in [WaitMode::Adaptive, WaitMode::Block] {
        let segment = segment(2, wait);
        let count = 3000;
        let len = |n: usize| if n.is_multiple_of(3) { length(n, 192 * 1024) } else { n % 700 };
        std::thread::scope(|s| {
            for i in 0..2 {
                let mut c = segment.consumer(i).unwrap();
                s.spawn(move || {
                    for n in 0..count {
                        let got = take(&mut c).unwrap();
                        assert!(got == payload(n, len(n)), "message {n} of {} bytes", len(n));
                    }
                    assert_eq!(take(&mut c), None);
                });
            }
            let mut p = segment.producer().unwrap();
            for n in 0..count {
                p.write(&payload(n, len(n)), long()).unwrap();
            }
            p.finish();
        });
        let stats = segment.stats();
        let bytes = (0..count).map(|n| len(n) as u64).sum::<u64>();
        assert_eq!((stats.messages, stats.bytes), (count as u64, bytes));
        assert!(stats.consumers.iter().all(|c| c.messages == count as u64 && c.bytes == bytes && c.backlog_bytes == 0));
        assert!(stats.high_water_bytes >= 192 * 1024);
        assert_eq!(stats.batches.iter().sum::<u64>(), count as u64);
    }
}

#[test]
fn a_slab_takes_exactly_what_fits_and_gives_it_back() {
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    assert_eq!(p.max_message(), 192 * 1024);
    assert!(matches!(p.try_write(&vec![0; 192 * 1024 + 1]), Err(Error::TooLong { .. })));
    for n in 0..3 {
        assert!(p.try_write(&payload(n, 64 * 1024)).unwrap());
    }
    assert!(!p.try_write(&payload(3, 64 * 1024)).unwrap());
    assert!(p.try_write(b"small").unwrap(), "the ring has room");
    assert_eq!(take(&mut c), Some(payload(0, 64 * 1024)));
    assert!(p.try_write(&payload(4, 64 * 1024)).unwrap());
    for n in [1, 2] {
        assert_eq!(take(&mut c), Some(payload(n, 64 * 1024)));
    }
    assert_eq!(take(&mut c), Some(b"small".to_vec()));
    assert_eq!(take(&mut c), Some(payload(4, 64 * 1024)));
    // Nobody holds any of it now: it is one piece again.
    assert!(p.try_write(&payload(5, 192 * 1024)).unwrap());
    assert_eq!(take(&mut c), Some(payload(5, 192 * 1024)));
}

#[test]
fn a_reservation_gives_back_what_it_does_not_use() {
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    for _ in 0..10 {
        drop(p.try_reserve(192 * 1024).unwrap().unwrap());
        p.wait_room(192 * 1024, long()).unwrap();
    }
    for n in 0..3 {
        let mut room = p.try_reserve(190 * 1024).unwrap().unwrap();
        room.as_mut_slice()[..100].copy_from_slice(&payload(n, 100));
        room.commit_len(100);
        let mut room = p.try_reserve(100 * 1024).unwrap().unwrap();
        room.as_mut_slice().fill(7);
        room.commit_len(0);
    }
    for n in 0..3 {
        assert_eq!(take(&mut c), Some(payload(n, 100)));
        assert_eq!(take(&mut c), Some(vec![]));
    }
    assert_eq!(segment.stats().bytes, 300);
}

#[test]
fn who_waits_for_the_slab_sleeps_and_is_woken() {
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    for n in 0..3 {
        p.write(&payload(n, 64 * 1024), long()).unwrap();
    }
    std::thread::scope(|s| {
        let start = Instant::now();
        let writer = s.spawn(|| p.write(&payload(3, 100 * 1024), long()));
        while !segment.stats().producer_sleeps {
            std::thread::yield_now();
        }
        for n in 0..4 {
            assert_eq!(take(&mut c), Some(payload(n, if n < 3 { 64 } else { 100 } * 1024)));
        }
        writer.join().unwrap().unwrap();
        assert!(start.elapsed() < MAX_SLEEP / 2);
    });
}

#[test]
fn a_successor_knows_which_extents_are_in_use() {
    let segment = segment(1, WaitMode::Block);
    let mut c = segment.consumer(0).unwrap();
    let mut next = 0;
    for n in 0..50 {
        let mut p = segment.producer().unwrap();
        let mut abandoned = p.try_reserve(40_000).unwrap();
        if let Some(room) = &mut abandoned {
            room.as_mut_slice().fill(0xee);
        }
        std::mem::forget(abandoned); // dies with it
        let mut p = segment.producer().unwrap();
        if !p.try_write(&payload(n, 50_000 + n)).unwrap() {
            assert_eq!(take(&mut c), Some(payload(next, 50_000 + next)));
            next += 1;
            assert!(p.try_write(&payload(n, 50_000 + n)).unwrap() || n - next >= 2);
        }
    }
    assert!(next > 40);
}

#[test]
fn references_that_cannot_be_poison_the_edge() {
    let wrong = |slab: u64| [u64::MAX, slab, slab - 64, 1, 63, 8];
    for (n, offset) in wrong(192 * 1024).into_iter().enumerate() {
        let segment = segment(1, WaitMode::Block);
        let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
        let ring = File::from(segment.producer_fds().unwrap().remove(1));
        p.write(&payload(n, 40_000), long()).unwrap();
        ring.write_all_at(&offset.to_le_bytes(), 8).unwrap();
        assert!(matches!(c.try_peek(), Err(Error::Poisoned { .. })));
        assert!(matches!(segment.producer(), Err(Error::Poisoned { .. })));
    }
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    let ring = File::from(segment.producer_fds().unwrap().remove(1));
    p.write(&payload(0, 40_000), long()).unwrap();
    p.write(&payload(1, 40_000), long()).unwrap();
    ring.write_all_at(&64u64.to_le_bytes(), 24 + 8).unwrap();
    assert!(matches!(segment.producer(), Err(Error::Poisoned { .. })), "two in one place");
    ring.write_all_at(&layout::ready_large(0, 0).to_le_bytes(), 0).unwrap();
    assert!(matches!(c.try_peek(), Err(Error::Poisoned { .. })), "a large one of no bytes");
}

#[test]
fn what_is_staged_is_published_together() {
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    p.hold_staged(true);
    for n in 0..3 {
        p.reserve(60_000, long()).unwrap().stage_len(50_000 + n);
        p.reserve(100, long()).unwrap().stage_len(n);
    }
    assert_eq!(now(&mut c), None);
    // Neither can ever fit behind what is held.
    assert!(matches!(p.reserve(100_000, long()), Err(Error::TooLong { .. })));
    while let Some(room) = p.try_reserve(20_000).unwrap() {
        room.stage_len(20_000);
    }
    assert!(matches!(p.reserve(20_000, long()), Err(Error::TooLong { .. })));
    assert_eq!(segment.stats().messages, 0);
    p.publish();
    let lens: Vec<_> = c.batch(5).map(|m| m.len()).collect();
    assert_eq!(lens, [50_000, 0, 50_001, 1, 50_002]);
    assert!(c.held());
    let all = 5 + c.batch(1000).count();
    assert_eq!(segment.stats().messages as usize, all);
    c.release();
    assert!(!c.held());
    assert_eq!(segment.stats().consumers[0].messages as usize, all);
    let stats = segment.stats();
    assert_eq!(stats.batches.iter().sum::<u64>(), 1);
    assert_eq!(stats.batches[all.ilog2() as usize], 1);
}

#[test]
fn a_journal_brings_a_batch_about_that_its_writer_did_not_come_to_publish() {
    let segment = segment(1, WaitMode::Block);
    let mut c = segment.consumer(0).unwrap();
    let mut p = segment.producer().unwrap();
    p.write(b"before", long()).unwrap();
    assert_eq!(p.first_staged(), None);
    for n in 0..3 {
        let len = 40_000 * n;
        let mut room = p.reserve(len, long()).unwrap();
        room.as_mut_slice().copy_from_slice(&payload(n, len));
        room.stage_len(len);
    }
    let (position, word) = p.first_staged().unwrap();
    drop(p); // dies
    let mut p = segment.producer().unwrap();
    for (position, word) in [(position + 8, word), (position, word ^ 1), (position, word ^ 16), (position | 1, word)] {
        assert!(matches!(p.redo(position, word), Err(Error::Poisoned { .. })));
    }
    assert!(!p.redo(0, word).unwrap(), "done long ago");
    assert!(p.redo(position, word).unwrap());
    assert!(!p.redo(position, word).unwrap());
    p.write(b"after", long()).unwrap();
    assert_eq!(take(&mut c), Some(b"before".to_vec()));
    for n in 0..3 {
        assert_eq!(take(&mut c), Some(payload(n, 40_000 * n)));
    }
    assert_eq!(take(&mut c), Some(b"after".to_vec()));
    let stats = segment.stats();
    assert_eq!((stats.messages, stats.bytes), (5, 120_011));
    assert_eq!((stats.consumers[0].messages, stats.consumers[0].bytes), (5, 120_011));
}

#[test]
fn a_cursor_that_goes_back_to_the_middle_of_what_was_read_counts_exactly() {
    let segment = segment(1, WaitMode::Block);
    let (mut p, mut c) = (segment.producer().unwrap(), segment.consumer(0).unwrap());
    for n in 0..6 {
        p.write(&payload(n, 20_000 * (n % 3)), long()).unwrap();
    }
    let mut after = vec![];
    while now(&mut c).is_some() {
        c.advance();
        after.push(c.position());
    }
    c.release_to(after[3]);
    let stats = &segment.stats().consumers[0];
    assert_eq!((stats.messages, stats.bytes, stats.backlog_bytes), (4, 60_000, 60_000));
    c.release_to(after[1]);
    assert_eq!(segment.stats().consumers[0].messages, 4);
    let mut c = segment.consumer(0).unwrap();
    assert_eq!(take(&mut c), Some(payload(4, 20_000)));
    assert_eq!(segment.stats().consumers[0].messages, 5);
}
