//! Packets survive the journey; what is none is said to be none; the runner's answers.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn edge() -> impl Strategy<Value = EdgeInfo> {
    (text(), any::<bool>(), any::<bool>(), (0u32..3, 0usize..3, 0usize..3), any::<u64>(), any::<u32>()).prop_map(
        |(name, input, broadcast, (wait, by, kind), max_message, rings)| EdgeInfo {
            name,
            direction: if input { Direction::Input } else { Direction::Output },
            delivery: if broadcast { Delivery::Broadcast } else { Delivery::Distribute },
            wait: WaitMode::from_number(wait).unwrap(),
            by: [By::RoundRobin, By::LeastBacklog, By::Key][by],
            max_message,
            rings,
            kind: [EdgeKind::Ring, EdgeKind::Object, EdgeKind::Sealed][kind],
        },
    )
}

fn page() -> impl Strategy<Value = EdgePage> {
    (0..MAX_EDGES as u32, any::<u32>(), prop::collection::vec(edge(), 0..20))
        .prop_map(|(total, from, edges)| EdgePage { total, from, edges })
}

fn from_stage() -> impl Strategy<Value = FromStage> {
    prop_oneof![
        (any::<u16>(), any::<u16>(), text(), text()).prop_map(|(min, max, sdk, sdk_version)| FromStage::Hello(Hello {
            min,
            max,
            sdk,
            sdk_version
        })),
        any::<u32>().prop_map(|from| FromStage::ListEdges { from }),
        (text(), any::<u32>()).prop_map(|(edge, ring)| FromStage::Attach { edge, ring }),
        Just(FromStage::Journal),
        (text(), any::<(u32, u64, u64)>()).prop_map(|(edge, (slot, serial, len))| FromStage::Publish {
            edge,
            slot,
            serial,
            len
        }),
        (text(), any::<(u32, u32, u64)>()).prop_map(|(edge, (store, slot, serial))| FromStage::Take {
            edge,
            store,
            slot,
            serial
        }),
        text().prop_map(|edge| FromStage::Sweep { edge }),
    ]
}

fn to_stage() -> impl Strategy<Value = ToStage> {
    let identity = (any::<u16>(), text(), text(), text(), any::<(u32, u32, u32)>()).prop_map(
        |(version, run, pipeline, stage, (replica, replicas, attempt))| Identity {
            version,
            run,
            pipeline,
            stage,
            replica,
            replicas,
            attempt,
        },
    );
    prop_oneof![
        (identity, page()).prop_map(|(identity, edges)| ToStage::Welcome { identity, edges }),
        page().prop_map(ToStage::Edges),
        (text(), any::<(u32, u64, u64, u32, u32)>()).prop_map(|(edge, (ring, bytes, slab, consumer, consumers))| {
            let on_full = OnFull::from_number(consumers % 3).unwrap();
            let shape = Shape { ring: bytes, slab, on_full };
            ToStage::Ring(RingInfo { edge, ring, shape, consumer, consumers })
        }),
        any::<u64>().prop_map(|len| ToStage::Journal { len }),
        (text(), any::<(u32, u64, u32, u32)>(), 0u32..3, any::<(bool, bool)>()).prop_map(
            |(edge, (store, capacity, slots, consumers), wait, (sealed, distribute))| {
                let wait = WaitMode::from_number(wait).unwrap();
                let shape = object::Shape { capacity, slots, consumers, wait, sealed, distribute };
                ToStage::Store(StoreInfo { edge, store, shape })
            }
        ),
        Just(ToStage::Published),
        Just(ToStage::Object),
        (any::<u16>(), text()).prop_map(|(code, text)| ToStage::Refuse { code: Refusal::from_number(code), text }),
    ]
}

proptest! {
    #[test]
    fn packets_survive_the_journey(a in from_stage(), b in to_stage(), newer in prop::collection::vec(any::<u8>(), 0..9)) {
        let (mut bytes_a, mut bytes_b) = (a.encode(), b.encode());
        prop_assert!(bytes_a.len() <= MAX_PACKET && bytes_b.len() <= MAX_PACKET);
        prop_assert_eq!(FromStage::decode(&bytes_a), Ok(a.clone()));
        prop_assert_eq!(ToStage::decode(&bytes_b), Ok(b.clone()));
        bytes_a.extend(&newer);
        bytes_b.extend(&newer);
        prop_assert_eq!(FromStage::decode(&bytes_a), Ok(a), "fields of a newer peer");
        prop_assert_eq!(ToStage::decode(&bytes_b), Ok(b));
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..20) {
        let _ = (FromStage::decode(&bytes), ToStage::decode(&bytes));
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Some(second) = bytes.get_mut(1) {
            *second = 0;
        }
        let _ = (FromStage::decode(&bytes), ToStage::decode(&bytes));
    }

    #[test]
    fn a_packet_cut_short_is_an_error(packet in to_stage(), cut in any::<prop::sample::Index>()) {
        let bytes = packet.encode();
        prop_assert!(ToStage::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

#[test]
fn a_thousand_edges_come_in_pages_that_fit() {
    let edge = |n: usize| EdgeInfo {
        name: format!("{n:0>64}"),
        direction: Direction::Input,
        delivery: Delivery::Broadcast,
        wait: WaitMode::Adaptive,
        by: By::RoundRobin,
        max_message: 1,
        rings: 1,
        kind: EdgeKind::Ring,
    };
    let all: Vec<_> = (0..2000).map(edge).collect();
    let identity = Identity { run: "r".repeat(5000), stage: "s".repeat(5000), ..Identity::default() };
    let mut host = Host::new(identity, all.clone());
    let mut listed = Vec::new();
    let mut said = FromStage::Hello(Hello::ours());
    loop {
        let Answer::Send(answer) = host.answer(Ok(said)) else { panic!("refused") };
        let bytes = answer.encode();
        assert!(bytes.len() <= MAX_PACKET);
        let page = match ToStage::decode(&bytes).unwrap() {
            ToStage::Welcome { identity, edges } => {
                assert_eq!((identity.version, identity.run.len()), (VERSIONS.1, MAX_TEXT), "longer text is cut");
                edges
            }
            ToStage::Edges(edges) => edges,
            other => panic!("{other:?}"),
        };
        assert_eq!((page.total, page.from as usize), (2000, listed.len()));
        listed.extend(page.edges);
        if listed.len() == 2000 {
            break;
        }
        said = FromStage::ListEdges { from: listed.len() as u32 };
    }
    assert_eq!(listed, all);
    let attach = |edge: &str, ring| Ok(FromStage::Attach { edge: edge.to_owned(), ring });
    assert_eq!(host.answer(attach(&all[7].name, 0)), Answer::Ring { edge: 7, ring: 0 });
    assert_eq!(host.answer(Ok(FromStage::Journal)), Answer::Journal);
    let refused = |answer| matches!(answer, Answer::Send(ToStage::Refuse { .. }));
    assert!(refused(host.answer(attach(&all[7].name, 1))));
    assert!(refused(host.answer(attach("other", 0))));
    let closed = |answer| matches!(answer, Answer::SendAndClose(ToStage::Refuse { code: Refusal::Malformed, .. }));
    assert!(closed(host.answer(Ok(FromStage::Hello(Hello::ours())))), "a second hello");
    assert!(closed(host.answer(Err(Malformed("x")))));
    let mut fresh = Host::new(Identity::default(), vec![]);
    assert!(closed(fresh.answer(Ok(FromStage::ListEdges { from: 0 }))), "before the hello");
}

#[test]
fn neighbouring_versions_agree_on_the_newest_common_one() {
    let (min, max) = VERSIONS;
    let hello = |a, b| Hello { min: a, max: b, ..Hello::ours() };
    assert_eq!(Hello::ours().common_version(), Some(max));
    assert_eq!(hello(min, max + 5).common_version(), Some(max));
    assert_eq!(hello(0, min).common_version(), Some(min));
    assert_eq!(hello(max + 1, max + 2).common_version(), None);
    assert_eq!(hello(0, min - 1).common_version(), None);
    assert_eq!(hello(5, 0).common_version(), None, "a range the wrong way round");
    let mut host = Host::new(Identity::default(), vec![]);
    let answer = host.answer(Ok(FromStage::Hello(hello(max + 1, max + 2))));
    assert!(matches!(answer, Answer::SendAndClose(ToStage::Refuse { code: Refusal::Version, .. })));
}

#[test]
fn sealed_objects_go_the_way_their_edge_goes() {
    let edge = |name: &str, direction, kind| EdgeInfo {
        name: name.to_owned(),
        direction,
        delivery: Delivery::Broadcast,
        wait: WaitMode::Adaptive,
        by: By::RoundRobin,
        max_message: 1,
        rings: 1,
        kind,
    };
    let edges = vec![
        edge("in", Direction::Input, EdgeKind::Sealed),
        edge("out", Direction::Output, EdgeKind::Sealed),
        edge("slab", Direction::Output, EdgeKind::Object),
    ];
    let mut host = Host::new(Identity::default(), edges);
    let publish = |edge: &str| Ok(FromStage::Publish { edge: edge.to_owned(), slot: 3, serial: 4, len: 5 });
    let take = |edge: &str| Ok(FromStage::Take { edge: edge.to_owned(), store: 0, slot: 3, serial: 4 });
    assert!(matches!(host.answer(publish("out")), Answer::SendAndClose(_)), "before the hello");
    host.answer(Ok(FromStage::Hello(Hello::ours())));
    assert_eq!(host.answer(publish("out")), Answer::Publish { edge: 1, slot: 3, serial: 4, len: 5 });
    assert_eq!(host.answer(Ok(FromStage::Sweep { edge: "out".to_owned() })), Answer::Sweep { edge: 1 });
    assert_eq!(host.answer(take("in")), Answer::Take { edge: 0, store: 0, slot: 3, serial: 4 });
    for wrong in [publish("in"), publish("slab"), publish("none"), take("out"), take("slab")] {
        assert!(matches!(host.answer(wrong), Answer::Send(ToStage::Refuse { .. })));
    }
}
