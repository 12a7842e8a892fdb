//! Stores between threads of one process: what is sealed, held, released, waited for, and found again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::By;
use crate::ring::{Bell, Until};

const PAGE: usize = 4096;

fn store_of(capacity: usize, consumers: usize, sealed: bool, distribute: bool) -> Arc<Store> {
    let wait = WaitMode::Adaptive;
    let options = StoreOptions { name: "test", capacity: capacity as u64, consumers, wait, sealed, distribute };
    Arc::new(Store::create(&options).unwrap())
}

fn both(test: impl Fn(bool)) {
    test(false);
    test(true);
}

fn send(writer: &Writer, bytes: &[u8]) -> u64 {
    let mut draft = writer.create(bytes.len(), Until::forever()).unwrap();
    draft.as_mut_slice().copy_from_slice(bytes);
    draft.seal().unwrap()
}

fn next(reader: &mut Reader) -> Option<Object> {
    match reader.try_next().unwrap() {
        Next::Object(object) => Some(object),
        Next::Empty | Next::End => None,
    }
}

fn numbers(reader: &mut Reader) -> Vec<u64> {
    std::iter::from_fn(|| next(reader)).map(|o| o.number()).collect()
}

#[test]
fn what_is_sealed_is_read_by_every_consumer_and_the_end_follows() {
    both(|sealed| {
        let store = store_of(64 * PAGE, 2, sealed, false);
        let writer = store.writer().unwrap();
        let mut readers = [store.reader(0).unwrap(), store.reader(1).unwrap()];
        let all: Vec<Vec<u8>> = [0, 1, 64, 5000].map(|len| (0..len).map(|i| i as u8).collect()).into();
        for (i, bytes) in all.iter().enumerate() {
            assert_eq!(send(&writer, bytes), i as u64);
        }
        writer.finish();
        for reader in &mut readers {
            for bytes in &all {
                let object = reader.next(Until::forever()).unwrap().unwrap();
                assert_eq!((object.len(), &object.to_vec()), (bytes.len(), bytes));
                assert_eq!(object.sealed(), sealed.then_some(&bytes[..]));
                if let Some(last) = bytes.last() {
                    let mut byte = [0];
                    object.copy_at(bytes.len() - 1, &mut byte);
                    assert_eq!(byte, [*last]);
                }
            }
            assert!(reader.next(Until::forever()).unwrap().is_none());
        }
        assert!(matches!(writer.create(1, Until::forever()), Err(Error::Finished { .. })));
        let stats = store.stats();
        assert_eq!((stats.objects, stats.bytes), (4, 5065));
        assert!(stats.consumers.iter().all(|c| (c.objects, c.bytes, c.held) == (4, 5065, 0)));
        assert!(store.drained(0).unwrap() && store.held().is_empty());
    });
}

#[test]
fn objects_are_released_in_any_order_and_only_once_all_have() {
    both(|sealed| {
        let store = store_of(4 * PAGE, 2, sealed, false);
        let writer = store.writer().unwrap();
        let (mut a, mut b) = (store.reader(0).unwrap(), store.reader(1).unwrap());
        (0..4).for_each(|i| _ = send(&writer, &[i; PAGE]));
        let full = || writer.try_create(1).unwrap().is_none();
        assert!(full());
        let held: Vec<Object> = std::iter::from_fn(|| next(&mut a)).collect();
        drop(std::iter::from_fn(|| next(&mut b)).collect::<Vec<_>>());
        assert!(full(), "the other has released nothing");
        let mut held = held.into_iter();
        let (first, second) = (held.next().unwrap(), held.next().unwrap());
        drop(second);
        assert!(!full());
        let by: Vec<_> = store.held().into_iter().map(|h| (h.number, h.len, h.by)).collect();
        assert_eq!(by, [0, 2, 3].map(|n| (n, PAGE as u64, vec![0])));
        send(&writer, &[9; PAGE]);
        assert!(full() && first.to_vec() == [0; PAGE], "what is held stays as it is");
        assert_eq!(next(&mut a).unwrap().to_vec(), [9; PAGE]);
        drop(held);
        drop(first);
        b.detach();
        assert!(writer.try_create(4 * PAGE).unwrap().is_some());
    });
}

#[test]
fn one_that_is_held_for_long_holds_nobody_else_back() {
    both(|sealed| {
        let store = store_of(4 * PAGE, 1, sealed, false);
        let (writer, mut reader) = (store.writer().unwrap(), store.reader(0).unwrap());
        send(&writer, b"held");
        let held = next(&mut reader).unwrap();
        for i in 0..10 * store.shape().slots() as u64 {
            assert_eq!(send(&writer, &i.to_le_bytes()), i + 1);
            let object = next(&mut reader).unwrap();
            assert_eq!((object.number(), object.to_vec()), (i + 1, i.to_le_bytes().to_vec()));
        }
        store.sweep().unwrap();
        assert_eq!(held.to_vec(), b"held");
        held.keep();
        drop(reader);
        let again = next(&mut store.reader(0).unwrap()).unwrap();
        assert_eq!((again.number(), again.to_vec()), (0, b"held".to_vec()));
    });
}

#[test]
fn a_successor_is_given_again_exactly_what_was_not_released() {
    both(|sealed| {
        let store = store_of(64 * PAGE, 1, sealed, false);
        let writer = store.writer().unwrap();
        let mut reader = store.reader(0).unwrap();
        (0..6).for_each(|i| _ = send(&writer, &[i; 3]));
        let mut held: Vec<Object> = (0..5).map(|_| next(&mut reader).unwrap()).collect();
        drop(held.swap_remove(1));
        drop(held.swap_remove(3));
        held.into_iter().for_each(Object::keep);
        drop(reader);
        let mut reader = store.reader(0).unwrap();
        send(&writer, &[6; 3]);
        let held: Vec<Object> = std::iter::from_fn(|| next(&mut reader)).collect();
        assert_eq!(held.iter().map(Object::number).collect::<Vec<_>>(), [0, 2, 4, 5, 6]);
        assert!(held.iter().all(|o| o.to_vec() == [o.number() as u8; 3]));
        assert!(!store.drained(0).unwrap());
    });
}

#[test]
fn a_thread_that_panics_releases_nothing() {
    let store = store_of(4 * PAGE, 1, false, false);
    send(&store.writer().unwrap(), b"x");
    let mut reader = store.reader(0).unwrap();
    let result = std::thread::spawn(move || {
        let _object = next(&mut reader).unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(result.join().is_err());
    assert_eq!(store.held().len(), 1);
}

#[test]
fn what_was_not_sealed_was_never_there() {
    both(|sealed| {
        let store = store_of(4 * PAGE, 1, sealed, false);
        let writer = store.writer().unwrap();
        let draft = writer.create(4 * PAGE, Until::forever()).unwrap();
        assert!(writer.try_create(1).unwrap().is_none());
        drop(draft);
        assert_eq!(send(&writer, b"one"), 0);
        // As if it had been killed while it filled the next.
        std::mem::forget(writer.create(3 * PAGE, Until::forever()).unwrap());
        let successor = store.writer().unwrap();
        assert!(successor.try_create(4 * PAGE).unwrap().is_none(), "what is sealed stays");
        assert_eq!(send(&successor, &[2; 3 * PAGE]), 1);
        let mut reader = store.reader(0).unwrap();
        assert_eq!(numbers(&mut reader), [0, 1]);
        assert_eq!(store.stats().bytes, 3 + 3 * PAGE as u64);
    });
}

#[test]
fn an_object_grows_and_shrinks_with_its_bytes() {
    both(|sealed| {
        let store = store_of(16 * PAGE, 1, sealed, false);
        let writer = store.writer().unwrap();
        let mut draft = writer.create(0, Until::forever()).unwrap();
        assert!(draft.is_empty() && draft.as_mut_slice().is_empty());
        let other = writer.create(PAGE, Until::forever()).unwrap(); // in the way, if it is in a slab
        let want: Vec<u8> = (0..9 * PAGE).map(|i| (i / 7) as u8).collect();
        for end in [1, 100, PAGE, 3 * PAGE + 1, 9 * PAGE] {
            let begin = draft.len();
            draft.resize(end, Until::forever()).unwrap();
            draft.as_mut_slice()[begin..].copy_from_slice(&want[begin..end]);
        }
        drop(other);
        assert!(matches!(draft.resize(16 * PAGE + 1, Until::forever()), Err(Error::TooLong { .. })));
        draft.resize(8 * PAGE + 5, Until::forever()).unwrap();
        draft.seal().unwrap();
        let mut reader = store.reader(0).unwrap();
        let object = next(&mut reader).unwrap();
        assert!(object.to_vec() == want[..8 * PAGE + 5]);
        assert!(writer.try_create(6 * PAGE).unwrap().is_some(), "the rest is free again");
        drop(object);
        assert!(writer.try_create(16 * PAGE).unwrap().is_some());
    });
}

#[test]
fn a_full_store_holds_its_producer_back_until_something_is_released() {
    both(|sealed| {
        let store = store_of(4 * PAGE, 1, sealed, false);
        let writer = store.writer().unwrap();
        let mut reader = store.reader(0).unwrap();
        send(&writer, &[1; 4 * PAGE]);
        let held = next(&mut reader).unwrap();
        let soon = || Until::timeout(Duration::from_millis(1));
        assert!(matches!(writer.create(1, soon()), Err(Error::TimedOut)));
        let bell = Bell::new();
        bell.ring();
        assert!(matches!(writer.create(1, Until::forever().or_bell(&bell)), Err(Error::Interrupted)));
        assert!(matches!(writer.create(4 * PAGE + 1, soon()), Err(Error::TooLong { .. })));
        std::thread::scope(|s| {
            let sleeper = s.spawn(|| writer.create(PAGE, Until::forever()).map(|_| ()));
            while !store.stats().producer_sleeps {
                std::thread::yield_now();
            }
            drop(held);
            sleeper.join().unwrap().unwrap();
            // Room that a thread of its own gives back.
            let draft = writer.create(4 * PAGE, Until::forever()).unwrap();
            let sleeper = s.spawn(|| writer.create(PAGE, Until::forever()).map(|_| ()));
            while !store.stats().producer_sleeps {
                std::thread::yield_now();
            }
            drop(draft);
            sleeper.join().unwrap().unwrap();
        });
        assert!(store.stats().blocked > Duration::ZERO);
        store.detach(0);
        assert!(matches!(writer.create(1, Until::forever()), Err(Error::Closed { .. })));
    });
}

#[test]
fn sleepers_are_woken_by_an_object_and_by_the_end() {
    let store = store_of(4 * PAGE, 1, false, false);
    let (writer, mut reader) = (store.writer().unwrap(), store.reader(0).unwrap());
    let asleep = || {
        while !store.stats().consumers[0].sleeps {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|s| {
        let sleeper = s.spawn(|| {
            let first = reader.next(Until::forever()).unwrap().map(|o| o.to_vec());
            (first, reader.next(Until::forever()).unwrap().is_none())
        });
        asleep();
        send(&writer, b"x");
        asleep();
        drop(writer);
        store.close().unwrap();
        store.close().unwrap();
        assert_eq!(sleeper.join().unwrap(), (Some(b"x".to_vec()), true));
    });
}

#[test]
fn distributed_objects_go_to_one_consumer_each_in_turn() {
    both(|sealed| {
        let store = store_of(64 * PAGE, 3, sealed, true);
        let writer = store.writer().unwrap();
        let mut readers: Vec<_> = (0..3).map(|i| store.reader(i).unwrap()).collect();
        (0..7).for_each(|i| assert_eq!(send(&writer, &[i]), i.into()));
        let held = next(&mut readers[0]).unwrap(); // and keeps the others from nothing
        assert_eq!(numbers(&mut readers[1]), [1, 4]);
        store.detach(1);
        let writer = store.writer().unwrap();
        (7..10).for_each(|i| _ = send(&writer, &[i]));
        for i in 10..5000 {
            send(&writer, b"x");
            assert!([0, 2].iter().any(|r| next(&mut readers[*r]).is_some()), "{i}");
        }
        assert_eq!((held.number(), held.to_vec()), (0, vec![0]));
        drop(held);
        store.close().unwrap();
        for reader in [0, 2] {
            while next(&mut readers[reader]).is_some() {}
            assert!(store.drained(reader).unwrap());
        }
        assert_eq!((store.stats().objects, store.held()), (5000, vec![]));
    });
}

#[test]
fn the_one_with_the_least_to_do_gets_the_next() {
    let store = store_of(64 * PAGE, 3, false, true);
    let writer = store.writer().unwrap();
    writer.choose_by(By::LeastBacklog).unwrap();
    assert!(writer.choose_by(By::Key).is_err());
    let mut readers = [0, 1, 2].map(|i| store.reader(i).unwrap());
    for len in [5000, 64, 64, 64, 64] {
        send(&writer, &vec![0; len]);
    }
    let held = readers.each_mut().map(|r| std::iter::from_fn(|| next(r)).collect::<Vec<_>>());
    assert_eq!(
        held.each_ref().map(|held| held.iter().map(Object::number).collect::<Vec<_>>()),
        [vec![0], vec![1, 3], vec![2, 4]]
    );
    drop(held);
    assert_eq!(send(&writer, b"x"), 5);
    assert_eq!(readers.each_mut().map(numbers), [vec![5], vec![], vec![]], "where all are idle the turn goes on");
}

#[test]
fn sealed_objects_are_let_go_as_they_are_released_and_the_capacity_is_for_all() {
    let store = store_of(4 * PAGE, 1, true, false);
    let (writer, mut reader) = (store.writer().unwrap(), store.reader(0).unwrap());
    for i in 0..100 {
        (0..4).for_each(|_| _ = send(&writer, &[i; PAGE]));
        assert!(writer.try_create(1).unwrap().is_none());
        while next(&mut reader).is_some() {}
    }
    assert!(store.take(0, 0).is_err());
    let other = nexusflow_sys::memfd::create("x", PAGE as u64).unwrap();
    assert!(store.publish(0, 400, PAGE as u64, other.try_clone().unwrap()).is_err(), "not sealed");
    nexusflow_sys::memfd::seal_contents(std::os::fd::AsFd::as_fd(&other)).unwrap();
    assert!(store.publish(0, 400, 2 * PAGE as u64, other.try_clone().unwrap()).is_err(), "another length");
    assert!(store.publish(9999, 400, PAGE as u64, other.try_clone().unwrap()).is_err(), "no such slot");
    for slot in 0..8 {
        store.publish(slot, 400 + u64::from(slot), PAGE as u64, other.try_clone().unwrap()).unwrap();
    }
    assert!(store.publish(8, 408, PAGE as u64, other).is_err(), "far more than the capacity");
}

#[test]
fn a_store_that_is_not_what_was_announced_is_refused() {
    let store = store_of(4 * PAGE, 2, false, false);
    let attach = |shape: Shape| Reader::from_fds("e", shape, store.reader_fds(0).unwrap(), store.clone()).err();
    assert!(attach(store.shape()).is_none());
    for shape in [
        Shape { capacity: 0, ..store.shape() },
        Shape { capacity: 1, ..store.shape() },
        Shape { capacity: 8 * PAGE as u64, ..store.shape() },
        Shape { slots: 32, ..store.shape() },
        Shape { slots: 0, ..store.shape() },
        Shape { consumers: 1, ..store.shape() },
        Shape { consumers: 1000, ..store.shape() },
        Shape { sealed: true, ..store.shape() },
        Shape { distribute: true, ..store.shape() },
        Shape { wait: WaitMode::Spin, ..store.shape() },
    ] {
        assert!(attach(shape).is_some(), "{shape:?}");
    }
    assert!(Writer::from_fds("e", store.shape(), store.reader_fds(0).unwrap(), store.clone()).is_err());
    assert!(Reader::from_fds("e", store.shape(), store.writer_fds().unwrap(), store.clone()).is_err());
}

fn expected(e: &Error) -> bool {
    matches!(
        e,
        Error::Poisoned { .. } | Error::Closed { .. } | Error::Finished { .. } | Error::TimedOut | Error::Io { .. }
    )
}

/// Whatever a peer writes anywhere, the others report or go on: they never crash, and read nothing outside.
#[test]
fn scribbling_over_every_word_is_survived() {
    both(|sealed| {
        let store = store_of(4 * PAGE, 2, sealed, false);
        let files: Vec<_> = store
            .writer_fds()
            .unwrap()
            .into_iter()
            .chain((0..2).map(|i| store.reader_fds(i).unwrap().pop().unwrap()))
            .collect();
        let shape = store.shape();
        let head = nexusflow_sys::map::WriteMap::new(&files[0], shape.head_len()).unwrap();
        let cursors: Vec<_> = files[files.len() - 2..]
            .iter()
            .map(|fd| nexusflow_sys::map::WriteMap::new(fd, shape.cursor_len()).unwrap())
            .collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut n = 1u64;
                while !done.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (map, from) = match n >> 62 {
                        0 => (&cursors[0], 64),
                        1 => (&cursors[1], 64),
                        _ => (&head, 64),
                    };
                    let at = from + (n >> 20) as usize % (map.len() - from) / 8 * 8;
                    // Small values are more often nearly right.
                    let word = if n & 1 == 0 { n >> 58 } else { n };
                    map.atomic64(at).store(word, Ordering::Relaxed);
                }
            });
            for round in 0..3000 {
                let step = || -> Result<()> {
                    let writer = store.writer()?;
                    let mut reader = store.reader(round % 2)?;
                    for _ in 0..20 {
                        if let Some(draft) = writer.try_create(round * 7 % (2 * PAGE))? {
                            draft.seal()?;
                        }
                        if let Next::Object(object) = reader.try_next()? {
                            assert!(object.to_vec().len() <= 4 * PAGE);
                        }
                    }
                    reader.next(Until::timeout(Duration::from_micros(50)))?;
                    Ok(())
                };
                if let Err(e) = step() {
                    assert!(expected(&e), "{e}");
                }
                let _ = (store.stats(), store.held(), store.drained(0), store.sweep(), store.wake_all());
                if round % 16 == 0 {
                    let _ = store.close();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// A model: what is sealed is received by each once released, in any order, through any restarts.
    #[test]
    fn nothing_is_lost_whoever_restarts(
        steps in proptest::collection::vec((0u8..8, 0usize..9000), 1..150), sealed: bool
    ) {
        let store = store_of(8 * PAGE, 2, sealed, false);
        let mut writer = store.writer().unwrap();
        let mut readers: Vec<Reader> = (0..2).map(|i| store.reader(i).unwrap()).collect();
        let mut held: [Vec<Object>; 2] = Default::default();
        let mut released: [Vec<u64>; 2] = Default::default();
        let mut sent = 0u64;
        for (step, n) in steps {
            let i = n % 2;
            match step {
                0..=2 => if let Some(mut draft) = writer.try_create(n).unwrap() {
                    draft.as_mut_slice().fill(sent as u8);
                    prop_assert_eq!(draft.seal().unwrap(), sent);
                    sent += 1;
                },
                3 | 4 => held[i].extend(next(&mut readers[i])),
                5 => if !held[i].is_empty() {
                    let len = held[i].len();
                    let object = held[i].swap_remove(n / 2 % len);
                    prop_assert!(object.to_vec().iter().all(|b| *b == object.number() as u8));
                    released[i].push(object.number());
                },
                6 => {
                    std::mem::take(&mut held[i]).into_iter().for_each(Object::keep);
                    readers[i] = store.reader(i).unwrap();
                }
                _ => writer = store.writer().unwrap(),
            }
        }
        drop(writer);
        store.close().unwrap();
        for i in 0..2 {
            std::mem::take(&mut held[i]).into_iter().for_each(Object::keep);
            readers[i] = store.reader(i).unwrap();
            while let Some(object) = readers[i].next(Until::forever()).unwrap() {
                prop_assert!(object.to_vec().iter().all(|b| *b == object.number() as u8));
                released[i].push(object.number());
            }
            released[i].sort_unstable();
            prop_assert_eq!(&released[i], &(0..sent).collect::<Vec<_>>());
            prop_assert!(store.drained(i).unwrap());
        }
        prop_assert_eq!(store.stats().objects, sent);
    }
}
