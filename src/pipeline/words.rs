//! The few words that messages and pictures of a pipeline share.

use crate::spec::Condition;

/// `64MiB`, `1500B`: the largest unit that says it exactly.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    UNITS
        .iter()
        .find(|(_, shift)| bytes >> shift > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| format!("{bytes}B"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

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

/// `1 replica`, `4 replicas`.
pub(super) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1536B"),
            (64 << 20, "64MiB"),
            (3 << 40, "3TiB"),
            ((1 << 20) + 1024, "1025KiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
