//! Any bytes are a packet, or an error. What is a packet stays the same through writing and reading.
#![no_main]

use nexusflow_stage::protocol::{FromStage, MAX_PACKET, Packet, ToStage};

fn check<P: Packet + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(packet) = P::decode(bytes) {
        let written = packet.encode();
        assert!(written.len() <= bytes.len().max(MAX_PACKET));
        assert_eq!(P::decode(&written).as_ref(), Ok(&packet));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::<FromStage>(bytes);
    check::<ToStage>(bytes);
});
