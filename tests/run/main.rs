//! Runs of the built program with real processes: what `dag apply` promises, held to it.

mod harness;

mod counters;
mod drops;
mod edges;
mod handover;
mod logs;
mod objects;
mod order;
mod orphans;
mod record;
mod recordings;
mod restarts;
mod sdk;
mod services;
mod starts;
mod state;
mod stops;
mod surroundings;
mod transfers;
mod users;
mod watch;
