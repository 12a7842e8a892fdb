//! What happens next: `step(State, Event, now) -> Actions`, the part that decides. Pure: no I/O, no clock,
//! so that a simulator can drive it through any history.
//!
//! [`crate::exec`] performs the actions and reports the events. Every task ends in exactly one
//! [`Outcome`], told once by [`Action::Settled`]; the last action of a run is [`Action::Finish`].

mod again;
mod graph;
mod state;
mod step;
mod stop;
#[cfg(test)]
mod tests;
mod types;

pub use state::State;
pub use types::{Action, Cause, Ending, Event, Exit, Outcome};
