//! One scalar of the file → a value of the type its place wants. Names are already filled in.

use super::format::{MAX_ID, Shape, Word};
use super::types::{Piece, Text};
use super::units::{self, Fault, show_size};
use super::value::Data;
use crate::diag::{Code, codes, did_you_mean};

/// A scalar as the file gives it.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    /// The text of a var that stands alone: it takes the type its place wants.
    Var(&'a str),
}

/// What is wrong with a scalar.
#[derive(Debug)]
pub struct Problem {
    pub code: Code,
    pub said: Said,
    pub help: Option<String>,
}

#[derive(Debug)]
pub enum Said {
    /// "`key` must be …, not a string": the kind of value is wrong.
    Kind,
    /// "`key` must be …, not this".
    Not(String),
    /// Another sentence.
    Message(String),
}

impl Problem {
    fn wrong_type(help: Option<String>) -> Self {
        Self { code: codes::WRONG_TYPE, said: Said::Kind, help }
    }

    fn not(code: Code, found: String, help: Option<String>) -> Self {
        Self { code, said: Said::Not(found), help }
    }

    fn new(code: Code, message: String, help: Option<String>) -> Self {
        Self { code, said: Said::Message(message), help }
    }
}

/// A text in a message: short, on one line.
pub fn quote(text: &str) -> String {
    const MAX_CHARS: usize = 48;
    let shown: String = text
        .chars()
        .take(MAX_CHARS)
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect();
    if text.is_empty() {
        return "an empty text".into();
    }
    format!("`{shown}{}`", if text.chars().nth(MAX_CHARS).is_some() { "…" } else { "" })
}

/// `shape` is one of the scalar shapes that yield other than text with open places.
pub fn scalar(shape: &'static Shape, given: Given) -> Result<Data, Problem> {
    match (shape, given) {
        (Shape::Bool, Given::Bool(b)) => Ok(Data::Bool(b)),
        (Shape::Bool, Given::Var(s)) => {
            s.parse().map(Data::Bool).map_err(|_| Problem::wrong_type(Some("write `true` or `false`".into())))
        }
        (Shape::Bool, Given::Str(s)) => Err(Problem::wrong_type(boolean_help(s))),
        (Shape::Int { min, max }, given) => integer(given, *min, *max),
        (Shape::Number { above, max }, given) => number(given, *above, *max),
        (Shape::Version, Given::Int(1) | Given::Float(1.0)) => Ok(Data::Int(1)),
        (Shape::Version, Given::Int(_) | Given::Float(_)) => Err(Problem::new(
            codes::UNKNOWN_VERSION,
            "this program reads version 1 of the file format and no other".into(),
            Some("write `version: 1`".into()),
        )),
        (Shape::Str { pattern, what, .. }, Given::Str(s) | Given::Var(s)) => match (pattern.test)(s) {
            true if !s.contains('\0') => Ok(Data::Str(s.into())),
            true => Err(nul()),
            false => {
                Err(Problem::new(codes::BAD_NAME, format!("{} cannot be {what}", quote(s)), Some(pattern.rule.into())))
            }
        },
        (Shape::Enum(words), Given::Str(s) | Given::Var(s)) => word(words, s),
        (Shape::Size { min, max }, Given::Str(s) | Given::Var(s)) => {
            let missing = s.parse().ok().map(|n| Fault::Form(unit_missing(n, *min, *max)));
            let bytes = units::size(s).map_err(|fault| quantity(missing.unwrap_or(fault), s))?;
            if (*min..=*max).contains(&bytes) {
                return Ok(Data::Bytes(bytes));
            }
            Err(Problem::not(codes::BAD_AMOUNT, quote(s), None))
        }
        (Shape::Size { min, max }, Given::Int(n)) if n >= 0 => {
            Err(Problem::wrong_type(Some(unit_missing(n.unsigned_abs(), *min, *max))))
        }
        (Shape::Rate, Given::Str(s) | Given::Var(s)) => {
            units::rate(s).map(Data::Number).map_err(|fault| quantity(fault, s))
        }
        (Shape::Rate, Given::Int(n)) if n >= 0 => {
            Err(Problem::wrong_type(Some(format!("rates have a unit: {n} bytes per second is written `{n}B/s`"))))
        }
        (Shape::Duration { zero }, Given::Str(s) | Given::Var(s)) => {
            match units::duration(s).map_err(|fault| quantity(fault, s))? {
                time if time.is_zero() && !zero => Err(Problem::not(codes::BAD_AMOUNT, "zero".into(), None)),
                time => Ok(Data::Time(time)),
            }
        }
        (Shape::Duration { .. }, Given::Int(n)) if n >= 0 => {
            Err(Problem::wrong_type(Some(format!("times have a unit: {n} seconds is written `{n}s`"))))
        }
        (Shape::CpuList, Given::Str(s) | Given::Var(s)) => cpu_list(s),
        (Shape::CpuList, given) => match integer(given, 0, MAX_ID)? {
            Data::Int(id) => Ok(Data::Ids(id.try_into().into_iter().collect())),
            data => Ok(data),
        },
        (Shape::Text | Shape::Scalar, Given::Str(s) | Given::Var(s)) => literal(s),
        (Shape::Path, Given::Str("") | Given::Var("")) => {
            Err(Problem::new(codes::BAD_NAME, "a path cannot be empty".into(), None))
        }
        (Shape::Path, Given::Str(s) | Given::Var(s)) => literal(s),
        (Shape::Version, Given::Str("1")) => Err(Problem::wrong_type(Some("without quotes: `1`".into()))),
        (Shape::Str { .. }, Given::Int(_) | Given::Float(_) | Given::Bool(_)) => {
            Err(Problem::wrong_type(Some("put it in quotes if it is a name".into())))
        }
        _ => Err(Problem::wrong_type(None)),
    }
}

fn literal(s: &str) -> Result<Data, Problem> {
    if s.contains('\0') {
        return Err(nul());
    }
    Ok(Data::Text(Text { pieces: if s.is_empty() { vec![] } else { vec![Piece::Literal(s.into())] } }))
}

pub fn nul() -> Problem {
    Problem::new(
        codes::NUL_IN_TEXT,
        "text for a process cannot hold a NUL character".into(),
        Some("take it out: the system ends such texts at the first NUL".into()),
    )
}

/// YAML 1.1 took some words for booleans that YAML 1.2, which we read, takes for text.
fn boolean_help(s: &str) -> Option<String> {
    match s.to_ascii_lowercase().as_str() {
        "true" => Some("without quotes: `true`".into()),
        "false" => Some("without quotes: `false`".into()),
        "yes" | "on" | "y" => Some("only `true` and `false` are booleans: write `true`".into()),
        "no" | "off" | "n" => Some("only `true` and `false` are booleans: write `false`".into()),
        _ => None,
    }
}

/// As JSON Schema has it, `2.0` is an integer too.
fn integer(given: Given, min: i64, max: i64) -> Result<Data, Problem> {
    let i = match given {
        Given::Int(i) => i,
        Given::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => f as i64,
        Given::Var(s) => s.trim().parse().map_err(|_| Problem::wrong_type(None))?,
        Given::Str(s) if s.parse::<i64>().is_ok() => {
            return Err(Problem::wrong_type(Some(format!("without quotes: `{s}`"))));
        }
        _ => return Err(Problem::wrong_type(None)),
    };
    if (min..=max).contains(&i) { Ok(Data::Int(i)) } else { Err(out_of_range(i)) }
}

fn number(given: Given, above: f64, max: f64) -> Result<Data, Problem> {
    let n = match given {
        Given::Int(i) => i as f64,
        Given::Float(f) => f,
        Given::Var(s) => s.trim().parse().map_err(|_| Problem::wrong_type(None))?,
        Given::Str(s) if s.parse::<f64>().is_ok() => {
            return Err(Problem::wrong_type(Some(format!("without quotes: `{s}`"))));
        }
        _ => return Err(Problem::wrong_type(None)),
    };
    if n > above && n <= max && n.is_finite() { Ok(Data::Number(n)) } else { Err(out_of_range(n)) }
}

fn out_of_range(n: impl std::fmt::Display) -> Problem {
    Problem::not(codes::OUT_OF_RANGE, n.to_string(), None)
}

/// What a size without a unit may have meant, of what fits here.
fn unit_missing(n: u64, min: u64, max: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let fits = |unit: &u64| n.checked_mul(*unit).is_some_and(|bytes| (min..=max).contains(&bytes));
    let fitting = UNITS.iter().filter(|(_, unit)| fits(unit)).map(|(name, _)| format!("`{n}{name}`"));
    match fitting.collect::<Vec<_>>() {
        all if all.is_empty() => {
            format!("sizes have a unit, and are from {} to {} here", show_size(min), show_size(max))
        }
        all => format!("sizes have a unit: {}", all.join(", ")),
    }
}

fn quantity(fault: Fault, text: &str) -> Problem {
    match fault {
        Fault::Form(help) => Problem::not(codes::BAD_UNIT, quote(text), Some(help)),
        Fault::Amount(message) => Problem::new(codes::BAD_AMOUNT, message, None),
    }
}

fn word(words: &'static [Word], given: &str) -> Result<Data, Problem> {
    match words.iter().find(|w| w.word == given) {
        Some(Word { word, later: Some(why), .. }) => {
            Err(Problem::new(codes::NOT_SUPPORTED_YET, format!("`{word}` is not supported yet"), Some((*why).into())))
        }
        Some(Word { word, .. }) => Ok(Data::Word(word)),
        None => {
            let now = || words.iter().filter(|w| w.later.is_none()).map(|w| w.word);
            // `SIGINT` and the like.
            let near = given.strip_prefix("SIG").and_then(|s| now().find(|w| *w == s));
            // `service_started`, `INTERRUPT`.
            let longer = given.to_ascii_lowercase();
            let near = near.or_else(|| words.iter().find(|w| w.also.contains(&given)).map(|w| w.word));
            let near = near.or_else(|| did_you_mean(given, now()));
            let near = near.or_else(|| now().find(|w| w.len() > 2 && longer.contains(&w.to_ascii_lowercase())));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            Err(Problem::not(codes::UNKNOWN_WORD, quote(given), help))
        }
    }
}

pub const CPU_LIST_REGEX: &str = "^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$";

/// Sorted, without duplicates.
fn cpu_list(text: &str) -> Result<Data, Problem> {
    let no_list = || {
        let help = "CPUs are listed like `0-3,8`, without spaces".to_string();
        Problem::not(codes::BAD_UNIT, quote(text), Some(help))
    };
    let number = |s: &str| -> Result<u32, Problem> {
        let digits = (1..=5).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        s.parse().ok().filter(|_| digits).ok_or_else(no_list)
    };
    let parts = text.split(',').map(|part| match part.split_once('-') {
        Some((low, high)) => Ok((number(low)?, number(high)?)),
        None => number(part).map(|n| (n, n)),
    });
    let mut ranges = parts.collect::<Result<Vec<_>, _>>()?;
    ranges.sort_unstable();
    let mut ids: Vec<u32> = Vec::new();
    for (low, high) in ranges {
        if low > high {
            let help = format!("write `{high}-{low}`");
            return Err(Problem::new(
                codes::BAD_AMOUNT,
                format!("the range `{low}-{high}` runs backwards"),
                Some(help),
            ));
        }
        if i64::from(high) > MAX_ID {
            let help = format!("the largest number is {MAX_ID}");
            return Err(Problem::new(codes::BAD_AMOUNT, format!("there is no CPU {high}"), Some(help)));
        }
        // Sorted by their beginnings: what a range shares with those before it is a prefix of it.
        ids.extend(ids.last().map_or(low, |last| low.max(last + 1))..=high);
    }
    Ok(Data::Ids(ids))
}
