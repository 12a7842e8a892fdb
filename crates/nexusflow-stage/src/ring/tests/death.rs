//! A writer or a reader dies before its first, its second … its last store that others see, and another goes on.

use super::super::steps::death;
use super::*;

const MAX_STEPS: u32 = 10_000;

fn segment() -> Segment {
    let options =
        SegmentOptions { capacity: 160 * 1024, max_message: 64 * 1024, wait: WaitMode::Block, ..Default::default() };
    Segment::create(&options).unwrap()
}

/// Some messages, in groups that are published together.
fn groups() -> Vec<Vec<Vec<u8>>> {
    let lens: [&[usize]; 9] =
        [&[10], &[40_000], &[0, 5, 300, 7], &[35_000, 1, 34_000], &[9000], &[50], &[33_000], &[0], &[8, 8, 8]];
    let mut n = 0;
    let mut message = |len: &usize| {
        n += 1;
        payload(n, *len)
    };
    lens.iter().map(|group| group.iter().map(&mut message).collect()).collect()
}

/// Reads on until nothing is there now.
fn read_on(c: &mut Consumer, got: &mut Vec<Vec<u8>>) {
    while let Next::Message(m) = c.try_peek().unwrap() {
        got.push(m.to_vec());
        c.advance();
        c.release();
    }
}

#[test]
fn a_writer_that_dies_anywhere_leaves_whole_groups_exact_counts_and_room_for_the_next() {
    let groups = groups();
    for steps in 0..MAX_STEPS {
        let segment = segment();
        let (mut c, mut got) = (segment.consumer(0).unwrap(), vec![]);
        let mut done = 0;
        let lived = death::after(steps, || {
            let mut p = segment.producer().unwrap();
            for group in &groups {
                p.write_batch(group.iter().map(Vec::as_slice), long()).unwrap();
                done += 1;
                read_on(&mut c, &mut got);
            }
            p.finish();
        });
        // Reading steps count too: what was read and not released comes again.
        let mut c = segment.consumer(0).unwrap();
        got.truncate(segment.stats().consumers[0].messages as usize);
        read_on(&mut c, &mut got);
        let all: Vec<_> = groups.iter().flatten().cloned().collect();
        let sent = segment.producer().map(|_| segment.stats()).unwrap();
        let whole: Vec<usize> = (done..=groups.len()).map(|n| groups[..n].iter().map(Vec::len).sum()).collect();
        assert!(whole[..whole.len().min(2)].contains(&got.len()), "after {steps} steps {} messages", got.len());
        assert_eq!(got, all[..got.len()], "after {steps} steps");
        let bytes = |some: &[Vec<u8>]| some.iter().map(|m| m.len() as u64).sum::<u64>();
        assert_eq!((sent.messages, sent.bytes), (got.len() as u64, bytes(&got)), "after {steps} steps");
        assert_eq!((sent.consumers[0].messages, sent.consumers[0].bytes), (sent.messages, sent.bytes));
        let mut next = segment.producer().unwrap();
        match next.try_write(&payload(99, 90_000)) {
            Ok(sent) => {
                assert!(sent, "all of the slab is free");
                assert_eq!(take(&mut c), Some(payload(99, 90_000)));
            }
            Err(Error::Finished { .. }) => assert_eq!(take(&mut c), None),
            Err(e) => panic!("{e}"),
        }
        if lived.is_some() {
            assert!(steps > 100);
            return;
        }
    }
    panic!("it never comes to the end");
}

#[test]
fn the_supervisor_counts_for_a_writer_that_died_anywhere_and_ends_its_stream() {
    let groups = groups();
    for steps in 0..MAX_STEPS {
        let segment = segment();
        let lived = death::after(steps, || {
            let mut p = segment.producer().unwrap();
            for group in &groups[..4] {
                p.write_batch(group.iter().map(Vec::as_slice), Until::timeout(Duration::ZERO)).unwrap();
            }
        });
        segment.close().unwrap();
        let stats = segment.stats();
        let mut c = segment.consumer(0).unwrap();
        let mut n = 0;
        while let Some(message) = take(&mut c) {
            assert_eq!(&message, groups.iter().flatten().nth(n).unwrap());
            n += 1;
        }
        assert_eq!((stats.messages, stats.consumers[0].backlog_bytes), (n as u64, stats.bytes));
        assert!(segment.drained(0).unwrap());
        if lived.is_some() {
            assert_eq!(n, groups[..4].iter().map(Vec::len).sum::<usize>());
            return;
        }
    }
    panic!("it never comes to the end");
}

#[test]
fn a_journal_and_a_death_anywhere_make_a_batch_once_or_not_at_all() {
    for steps in 0..MAX_STEPS {
        let segment = segment();
        let mut journal = None;
        let lived = death::after(steps, || {
            let mut p = segment.producer().unwrap();
            p.hold_staged(true);
            p.write(b"before", long()).unwrap();
            for len in [33_000, 5, 34_000] {
                let mut room = p.reserve(len, long()).unwrap();
                room.as_mut_slice().copy_from_slice(&payload(len, len));
                room.stage_len(len);
            }
            journal = p.first_staged();
            p.publish();
        });
        let mut next = segment.producer().unwrap();
        if let Some((position, word)) = journal {
            next.redo(position, word).unwrap();
        }
        let (mut c, mut got) = (segment.consumer(0).unwrap(), vec![]);
        next.write(b"after", long()).unwrap();
        read_on(&mut c, &mut got);
        let batch = [33_000, 5, 34_000].map(|len| payload(len, len));
        assert_eq!(got.iter().filter(|m| batch.contains(m)).count(), if journal.is_some() { 3 } else { 0 });
        let stats = segment.stats();
        assert_eq!((stats.messages, stats.consumers[0].messages), (got.len() as u64, got.len() as u64));
        if lived.is_some() {
            return;
        }
    }
    panic!("it never comes to the end");
}
