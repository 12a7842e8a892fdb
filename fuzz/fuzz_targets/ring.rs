//! An attacker scribbles over every shared byte of a segment between the moves of its ends.
#![no_main]

#[path = "../../crates/nexusflow-stage/tests/hostile/driver.rs"]
#[allow(dead_code)]
mod driver;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driver::play(bytes));
