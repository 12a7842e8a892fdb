//! What tests cannot show by running once or briefly: rings under loom, in every order in which their ends can meet;
//! a million messages for each thing to do when an edge is full.

use crate::step::Result;
use crate::{cargo, target};

pub fn soak() -> Result {
    cargo("test --release --locked --test run drops").env("NEXUSFLOW_TEST_MESSAGES", "1000000").done()
}

pub fn loom() -> Result {
    cargo("test --package nexusflow-stage --release --locked --test loom")
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target().join("loom").display().to_string())
        .done()
}
