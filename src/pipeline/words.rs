//! The few words that messages and pictures of a pipeline share.

use crate::spec::Condition;

/// As the file writes it.
pub fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Completed => "completed",
        Condition::Exited => "exited",
        Condition::Started => "started",
    }
}

/// What a stage waits for another stage to do: `waits for x to complete`.
pub(super) fn to_do(condition: Condition) -> &'static str {
    match condition {
        Condition::Completed => "complete",
        Condition::Exited => "exit",
        Condition::Started => "start",
    }
}
