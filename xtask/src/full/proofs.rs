//! What tests cannot show by running once: rings under loom, in every order in which their ends can meet.

use crate::step::Result;
use crate::{cargo, target};

pub fn loom() -> Result {
    cargo("test --package nexusflow-stage --release --locked --test loom")
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target().join("loom").display().to_string())
        .done()
}
