//! NexusFlow: declarative pipelines of pinned processes joined by shared memory.
//!
//! Text flows one way: text → tree ([`document`]) → [`spec`] → [`pipeline`] → [`plan`] → [`run`] ⇄ [`exec`]
//! → [`record`] → [`metrics`], [`view`]. ARCHITECTURE.md has the map and the invariants; `tests/house.rs`
//! keeps the import rule.

pub mod cli;
pub mod ctl;
pub mod demo;
pub mod diag;
pub mod document;
pub mod exec;
pub mod metrics;
pub mod pipeline;
pub mod plan;
pub mod probe;
pub mod record;
pub mod recording;
pub mod run;
pub mod spec;
pub mod topology;
pub mod view;
