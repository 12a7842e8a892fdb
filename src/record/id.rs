//! Names of runs.

use jiff::{Timestamp, tz::TimeZone};

/// No run id is longer: ids become folder names.
pub const RUN_ID_MAX: usize = 96;

/// `clickstream-20261122T105233-3f2a91c0`: the ids of one pipeline sort by the (UTC) second of their start.
/// `random` keeps runs of the same second apart.
pub fn run_id(now: Timestamp, pipeline: &str, random: u32) -> String {
    let at = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%S");
    let id = format!("{pipeline}-{at}-{random:08x}");
    debug_assert!(id.len() <= RUN_ID_MAX, "pipeline names have at most 64 characters");
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_stay_short() {
        let early: Timestamp = "2026-11-22T10:52:33.999Z".parse().unwrap();
        let late: Timestamp = "2026-11-22T10:52:34Z".parse().unwrap();
        assert_eq!(run_id(early, "clickstream", 0x3f2a), "clickstream-20261122T105233-00003f2a");
        assert!(run_id(early, "p", u32::MAX) < run_id(late, "p", 0));
        assert!(run_id(late, &"x".repeat(64), u32::MAX).len() <= RUN_ID_MAX);
    }
}
