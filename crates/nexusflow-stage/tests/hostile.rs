//! A peer that writes nonsense into the shared memory poisons the edge. It never crashes or holds up who uses it.

#[path = "hostile/driver.rs"]
mod driver;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nexusflow_stage::ring::{Next, Producer, Segment, SegmentOptions, Until, WaitMode};
use proptest::prelude::*;

use driver::expected;

const CAPACITY: u64 = 4096;

fn segment() -> Segment {
    Segment::create(&SegmentOptions { capacity: CAPACITY, wait: WaitMode::Block, ..Default::default() }).unwrap()
}

/// What is written where: whole words at the places where words are, or any bytes anywhere.
fn scribbles(file_len: u64) -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let word = prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        Just(0),
        0u64..10_000,
        // A ready header in its turn, of any length.
        (0u64..600, any::<u32>()).prop_map(|(at, len)| u64::from(len) << 32 | at << 2 | 1),
    ];
    let one = prop_oneof![
        (0..file_len / 8, word).prop_map(|(at, word)| (at * 8, word.to_le_bytes().to_vec())),
        (0..file_len - 64, prop::collection::vec(any::<u8>(), 1..64)),
    ];
    prop::collection::vec(one, 1..20)
}

fn scribble(file: &File, all: &[(u64, Vec<u8>)]) {
    for (at, bytes) in all {
        file.write_all_at(bytes, *at).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_reader_survives_any_data(
        sent in prop::collection::vec(0usize..300, 0..8),
        scribbled in scribbles(CAPACITY),
        which in 0usize..2,
    ) {
        let segment = segment();
        let file = File::from(segment.producer_fds().unwrap().remove(which));
        let mut producer = segment.producer().unwrap();
        let mut consumer = segment.consumer(0).unwrap();
        for len in sent {
            prop_assert!(producer.try_write(&vec![1; len]).is_ok());
        }
        let _ = consumer.try_peek().unwrap();
        scribble(&file, &scribbled);
        let mut read = 0;
        loop {
            match consumer.peek(Until::timeout(Duration::ZERO)) {
                Ok(Some(message)) => {
                    read += message.to_vec().len() + 8;
                    prop_assert!(message.len() as u64 <= CAPACITY);
                }
                Ok(None) => break,
                Err(e) => {
                    prop_assert!(expected(&e), "{}", e);
                    break;
                }
            }
            consumer.advance();
            if read.is_multiple_of(3) {
                consumer.release();
            }
            prop_assert!(read as u64 <= 2 * CAPACITY, "it never goes round for ever");
        }
        let _ = (segment.close(), segment.drained(0), segment.wake_all(), segment.stats());
        for again in [segment.consumer(0).map(drop), segment.producer().map(drop)] {
            if let Err(e) = again {
                prop_assert!(expected(&e), "{}", e);
            }
        }
        let _ = producer.try_write(b"more");
    }

    #[test]
    fn a_writer_survives_any_cursor(
        sent in prop::collection::vec(0usize..300, 0..8),
        scribbled in scribbles(CAPACITY),
    ) {
        let segment = segment();
        let file = File::from(segment.consumer_fds(0).unwrap().remove(2));
        let mut producer = segment.producer().unwrap();
        for len in sent {
            prop_assert!(producer.try_write(&vec![1; len]).is_ok());
        }
        scribble(&file, &scribbled);
        for _ in 0..100 {
            if let Err(e) = producer.write(&[2; 100], Until::timeout(Duration::ZERO)) {
                prop_assert!(expected(&e), "{}", e);
                break;
            }
        }
        producer.finish();
        let _ = (segment.close(), segment.drained(0), segment.wake_all(), segment.stats());
        match Producer::from_fds("test", segment.shape(), segment.producer_fds().unwrap()) {
            Ok(mut again) => drop(again.try_write(b"x")),
            Err(e) => prop_assert!(expected(&e), "{}", e),
        }
        if let Ok(mut consumer) = segment.consumer(0) {
            let _ = consumer.try_peek();
        }
    }
}

#[test]
fn scribbling_while_the_reader_reads_is_harmless() {
    let segment = segment();
    let file = File::from(segment.producer_fds().unwrap().remove(1));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut n = 1u64;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let word = if n & 1 << 40 == 0 { n } else { (n >> 50) << 32 | 1 };
                file.write_all_at(&word.to_le_bytes(), (n >> 52) / 8 * 8).unwrap();
            }
        });
        for _ in 0..2000 {
            let mut consumer = segment.consumer(0).unwrap();
            for _ in 0..100 {
                match consumer.try_peek() {
                    Ok(Next::Message(message)) => assert!(message.to_vec().len() as u64 <= CAPACITY),
                    Ok(_) => {}
                    Err(e) => {
                        assert!(expected(&e), "{e}");
                        break;
                    }
                }
                consumer.advance();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// splitmix64.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[test]
fn games_with_an_attacker_end() {
    for game in 0..1000 {
        let mut seed = game;
        let bytes: Vec<u8> = (0..random(&mut seed) % 150).flat_map(|_| random(&mut seed).to_le_bytes()).collect();
        driver::play(&bytes);
    }
}

#[test]
fn an_attacker_may_strike_at_any_moment() {
    for game in 0..40 {
        let segment = driver::segment((game * 37 % 256) as u8);
        let attacker = driver::Attacker::new(&segment);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut seed = game;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    attacker.strike(&mut || random(&mut seed));
                }
            });
            let mut seed = !game;
            let mut ends = driver::Ends::new(&segment);
            for _ in 0..300 {
                ends.go(&segment, random(&mut seed) as u8, random(&mut seed) as usize % 65536);
            }
            ends.finish(&segment);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

#[test]
fn descriptors_that_are_none_of_a_segment_are_refused() {
    driver::wrong_descriptors();
}
