//! Recordings as they are written, cut anywhere, and damaged anywhere.

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        pipeline: "clicks".into(),
        run: "clicks-20261122T105233-0000002a".into(),
        edge: "events".into(),
        producers: vec!["ingest".into()],
        started_at: "2026-11-22T10:52:33Z".into(),
        nexusflow: "0.1.0".into(),
    }
}

/// A file of these messages with a hole behind the first.
fn recorded(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Writer::new(Vec::new(), &header()).unwrap();
    for (i, body) in messages.iter().enumerate() {
        file.message(i as u16 % 3, 1000 + i as u64, body).unwrap();
        if i == 0 {
            file.lost(1, 1001, Lost { messages: Some(3), bytes: None }).unwrap();
        }
    }
    file.end(9999, "2026-11-22T10:52:34Z".into(), Why::Interrupted).unwrap().1
}

/// The messages of a file up to its end or to where it breaks.
fn read(file: &[u8]) -> (Vec<Vec<u8>>, Result<Totals, Broken>) {
    let mut messages = Vec::new();
    let mut reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(e) => return (messages, Err(e)),
    };
    loop {
        match reader.next_record() {
            Ok(Some(Record::Message { ring, at_ns, body })) => {
                assert_eq!((ring, at_ns), (messages.len() as u16 % 3, 1000 + messages.len() as u64));
                messages.push(body.to_vec());
            }
            Ok(Some(Record::Lost { ring, lost, .. })) => {
                assert_eq!((ring, lost), (1, Lost { messages: Some(3), bytes: None }));
            }
            Ok(Some(Record::End(totals))) => match reader.next_record() {
                Ok(None) => return (messages, Ok(totals)),
                Ok(Some(more)) => panic!("{more:?} behind the end"),
                Err(e) => return (messages, Err(e)),
            },
            Ok(None) => panic!("an end without totals"),
            Err(e) => return (messages, Err(e)),
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let messages = vec![b"one".to_vec(), vec![], vec![7; 100_000]];
    let file = recorded(&messages);
    assert_eq!(Reader::open(file.as_slice()).unwrap().header(), &header());
    let (got, totals) = read(&file);
    let totals = totals.unwrap();
    assert!(got == messages);
    assert_eq!((totals.messages, totals.bytes, totals.why), (3, 100_003, Why::Interrupted));
    assert_eq!(totals.lost, Lost { messages: Some(3), bytes: None });
}

#[test]
fn other_files_are_none() {
    for bytes in [&b""[..], b"x", b"nxflrecx", b"#!/bin/sh\nexit 0\n", &[0; 4096]] {
        let fault = Reader::open(bytes).unwrap_err().fault;
        assert!(matches!(fault, Fault::NoRecording), "{bytes:?}: {fault:?}");
    }
    let mut newer = recorded(&[]);
    newer[12] = 9;
    assert!(matches!(Reader::open(newer.as_slice()).unwrap_err().fault, Fault::Newer(9)));
    let mut more = recorded(&[]);
    more.push(0);
    assert!(matches!(read(&more).1.unwrap_err().fault, Fault::Damaged(_)));
}

proptest! {
    #[test]
    fn a_file_that_is_cut_is_read_up_to_there(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8), cut: prop::sample::Index,
    ) {
        let file = recorded(&messages);
        let cut = 1 + cut.index(file.len() - 1);
        let (got, end) = read(&file[..cut]);
        prop_assert!(messages.starts_with(&got));
        prop_assert!(end.unwrap_err().is_cut());
        // All that is there whole is read: what is missing did not fit.
        let whole = recorded(&messages[..got.len()]).len();
        prop_assert!(got.len() == messages.len() || cut < whole + RECORD_HEAD + messages[got.len()].len());
    }

    #[test]
    fn a_flipped_bit_is_seen_and_nothing_wrong_is_read(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        at: prop::sample::Index, bit in 0..8u8,
    ) {
        let mut file = recorded(&messages);
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        let (got, end) = read(&file);
        prop_assert!(messages.starts_with(&got));
        prop_assert!(end.is_err());
    }
}
