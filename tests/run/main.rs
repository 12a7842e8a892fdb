//! Runs of the built program with real processes: what `dag apply` promises, held to it.

mod harness;

mod edges;
mod order;
mod starts;
mod stops;
