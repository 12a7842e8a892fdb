//! Sizes, rates and durations as a pipeline file writes them: `64MiB`, `400MB/s`, `1h30m`.

use std::time::Duration;

/// Larger times are mistakes, and sums of a few of them must not overflow anything.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// In the order in which they are written.
const TIMES_MS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub const SIZE_REGEX: &str = r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?)?B$";
pub const RATE_REGEX: &str = r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?)?B/s$";
/// Together with a length of at least one.
pub const DURATION_REGEX: &str = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not written as one; what would help.
    Form(String),
    /// Written well, and yet not an amount that can be: too large, not whole bytes.
    Amount(String),
}

/// `64MiB`, `64 MB`, `1.5GiB`: whole bytes.
pub fn size(text: &str) -> Result<u64, Fault> {
    let (whole, fraction, unit) = amount(text, "64MiB")?;
    let too_large = || Fault::Amount(format!("`{text}` is more bytes than can be counted"));
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = whole.checked_mul(unit).ok_or_else(too_large)?;
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return Ok(bytes);
    }
    // fraction / 10^digits × unit must be whole.
    let not_whole = || Fault::Amount(format!("`{text}` is not a whole number of bytes"));
    let scale = u32::try_from(fraction.len()).ok().and_then(|d| 10u128.checked_pow(d)).ok_or_else(not_whole)?;
    let part = fraction.parse::<u128>().ok().and_then(|f| f.checked_mul(unit.into())).ok_or_else(not_whole)?;
    if part % scale != 0 {
        return Err(not_whole());
    }
    // Less than one unit, so it fits.
    bytes.checked_add((part / scale) as u64).ok_or_else(too_large)
}

/// `400MB/s`, `1.5GiB/s`: bytes per second.
pub fn rate(text: &str) -> Result<f64, Fault> {
    let Some(per_second) = text.strip_suffix("/s") else {
        return Err(Fault::Form(match amount(text, "400MB/s") {
            Ok(_) => format!("a rate is per second: write `{text}/s`"),
            Err(_) => "rates are written like 400MB/s or 1.5GiB/s".into(),
        }));
    };
    let (whole, fraction, unit) = amount(per_second, "400MB/s")?;
    let number: f64 = format!("{whole}.{fraction}0").parse().unwrap_or(f64::INFINITY);
    let bytes_per_s = number * unit as f64;
    if bytes_per_s > 1e18 {
        return Err(Fault::Amount(format!("`{text}` is faster than any memory")));
    }
    Ok(bytes_per_s)
}

/// Splits `1.5 GiB` into its digits before and after the point and its unit in bytes.
fn amount<'a>(text: &'a str, like: &str) -> Result<(&'a str, &'a str, u64), Fault> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(Fault::Form(format!("it begins with a number and ends with a unit: `{like}`")));
    }
    match SIZES.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => Ok((whole, fraction, *bytes)),
        None => Err(Fault::Form(unit_help(number, unit, like))),
    }
}

fn unit_help(number: &str, unit: &str, like: &str) -> String {
    let letter = unit.chars().next().map(|c| c.to_ascii_uppercase());
    let rate = if like.ends_with("/s") { "/s" } else { "" };
    match letter {
        _ if unit.to_ascii_lowercase().contains("bit") => "amounts are in bytes: eight bits are one `B`".into(),
        None => format!("a unit is missing: `{number}B{rate}`, `{number}KiB{rate}`, `{number}MiB{rate}` …"),
        Some(letter @ ('K' | 'M' | 'G' | 'T')) => {
            format!("write `{number}{letter}iB{rate}` (powers of 1024) or `{number}{letter}B{rate}` (powers of 1000)")
        }
        _ => "the units are B, KB, KiB, MB, MiB, GB, GiB, TB and TiB".into(),
    }
}

/// `90s`, `1h30m`, `250ms`, `1d`.
pub fn duration(text: &str) -> Result<Duration, Fault> {
    let too_long = || Fault::Amount(format!("`{text}` is more than the limit of {}", show_duration(MAX_DURATION)));
    let (mut rest, mut total_ms, mut units) = (text, 0u64, TIMES_MS.iter());
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (name, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len()));
        // Each unit once, the larger one first: `find` uses up the ones it passes.
        let unit = units.find(|(unit, _)| *unit == name).filter(|_| !digits.is_empty());
        let Some((_, unit_ms)) = unit else { return Err(Fault::Form(duration_help(text))) };
        let number: u64 = digits.parse().map_err(|_| too_long())?;
        total_ms = number.checked_mul(*unit_ms).and_then(|ms| ms.checked_add(total_ms)).ok_or_else(too_long)?;
        rest = tail;
    }
    match Duration::from_millis(total_ms) {
        _ if text.is_empty() => Err(Fault::Form(duration_help(text))),
        time if time > MAX_DURATION => Err(too_long()),
        time => Ok(time),
    }
}

fn duration_help(text: &str) -> String {
    let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if squeezed != text && duration(&squeezed).is_ok() {
        return format!("without spaces: `{squeezed}`");
    }
    // `1.5h`, `2 hours` and the like can be said exactly.
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit_ms = match text[end..].trim_start() {
        "" if end > 0 => return format!("a unit is missing: `{text}s`, `{text}m`, `{text}h` …"),
        "days" | "day" | "d" => 86_400_000.0,
        "hours" | "hour" | "hrs" | "hr" | "h" => 3_600_000.0,
        "minutes" | "minute" | "mins" | "min" | "m" => 60_000.0,
        "seconds" | "second" | "secs" | "sec" | "s" => 1_000.0,
        "milliseconds" | "millisecond" | "ms" => 1.0,
        _ => f64::NAN,
    };
    let ms = text[..end].parse::<f64>().unwrap_or(f64::NAN) * unit_ms;
    if ms >= 1.0 && ms.fract() == 0.0 && ms < MAX_DURATION.as_millis() as f64 {
        return format!("that is written `{}`", show_duration(Duration::from_millis(ms as u64)));
    }
    "times are whole numbers with d, h, m, s or ms, the larger first: `90s`, `1h30m`, `250ms`".into()
}

/// In the largest unit that is exact: `64MiB`.
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZES.iter().find(fits).unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

/// As [`duration`] reads it; what is below a millisecond is left out.
pub fn show_duration(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in TIMES_MS {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("64 MB", 64_000_000),
            ("1.5GiB", 3 << 29),
            ("0.5KB", 500),
            ("0B", 0),
            ("2.50KB", 2500),
            ("16777215TiB", 16777215 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(rate("400MB/s"), Ok(4e8));
        assert_eq!(rate("1.5 GiB/s"), Ok(1.5 * (1u64 << 30) as f64));
        for (text, ms) in [("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("1d", 86_400_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_none_comes_with_help() {
        let form = |r: Result<u64, Fault>| match r {
            Err(Fault::Form(help)) => help,
            other => panic!("{other:?}"),
        };
        assert_eq!(form(size("64 M")), "write `64MiB` (powers of 1024) or `64MB` (powers of 1000)");
        assert_eq!(form(size("64kb")), "write `64KiB` (powers of 1024) or `64KB` (powers of 1000)");
        assert_eq!(form(size("64")), "a unit is missing: `64B`, `64KiB`, `64MiB` …");
        for text in ["", "MiB", ".5GiB", "1.GiB", "1.2.3GiB", "-1MiB", "64  MiB", "64MiB ", "64 ΜiB", "1e3B", "4PiB"] {
            form(size(text));
        }
        assert_eq!(form(rate("400MB").map(|_| 0)), "a rate is per second: write `400MB/s`");
        let time = |t| form(duration(t).map(|_| 0));
        assert_eq!(time("1.5h"), "that is written `1h30m`");
        assert_eq!(time("2 hours"), "that is written `2h`");
        assert_eq!(time("90"), "a unit is missing: `90s`, `90m`, `90h` …");
        assert_eq!(time("1h 30m"), "without spaces: `1h30m`");
        for text in ["", "90", "s", "30m1h", "1s1s", "1µs", "1h30", "-1s", "1 ", "٣s"] {
            time(text);
        }
    }

    #[test]
    fn amounts_that_cannot_be_are_told_from_bad_writing() {
        for r in [size("16777216TiB"), size("99999999999999999999999B"), size("0.3B"), size("1.0001KB")] {
            assert!(matches!(r, Err(Fault::Amount(_))), "{r:?}");
        }
        for text in ["99999999999999999999s", "213503982335d", "3651d"] {
            assert!(matches!(duration(text), Err(Fault::Amount(_))), "{text}");
        }
        assert!(matches!(rate("999999999999999999TiB/s"), Err(Fault::Amount(_))));
        assert_eq!(size("0.00000000000000000000000000000000000000000000000GiB"), Ok(0));
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_round_trip(ms in 0..=MAX_DURATION.as_millis() as u64) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn nothing_panics(text in "[0-9.]{0,30} ?[KMGTiBbdhms/]{0,5}.{0,3}") {
            let _ = (size(&text), rate(&text), duration(&text));
        }
    }
}
