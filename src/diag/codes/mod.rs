//! The catalogue of codes: one row per code, one file per area, so that a code is never used twice
//! and every code has its story (`nexusflow explain NF0123`).

mod document; // NF01xx  the text itself
mod exec; //     NF05xx  starting and running
mod pipeline; // NF03xx  what the file means
mod plan; //     NF04xx  placement on this machine
mod spec; //     NF02xx  what the file says

use std::fmt;

/// A code such as `NF0203`. Only the catalogue makes these.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

/// One row of the catalogue.
#[derive(Debug)]
pub struct Entry {
    pub code: Code,
    /// A short name in kebab-case: `unknown-key`.
    pub name: &'static str,
    /// What it means, why it is refused and how to mend it, in a few sentences (markdown).
    pub story: &'static str,
}

/// Declares the codes of one area as constants plus the table `ENTRIES`.
macro_rules! codes {
    ($($ident:ident = $number:literal, $name:literal, $story:literal;)*) => {
        $(pub const $ident: $crate::diag::Code = $crate::diag::Code($number);)*
        pub(super) const ENTRIES: &[super::Entry] = &[
            $(super::Entry { code: $ident, name: $name, story: $story },)*
        ];
    };
}
pub(crate) use codes;

pub use document::*;
pub use exec::*;
pub use pipeline::*;
pub use plan::*;
pub use spec::*;

/// The areas by their hundred, each with its rows.
pub(super) fn areas() -> impl Iterator<Item = (u16, &'static [Entry])> {
    (1..).zip([document::ENTRIES, spec::ENTRIES, pipeline::ENTRIES, plan::ENTRIES, exec::ENTRIES])
}

/// All rows, in order of their codes.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    areas().flat_map(|(_, entries)| entries)
}

pub fn find(code: Code) -> Option<&'static Entry> {
    all().find(|e| e.code == code)
}

impl std::str::FromStr for Code {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        s.get(..2)
            .filter(|nf| nf.eq_ignore_ascii_case("NF"))
            .map(|_| &s[2..])
            .filter(|d| d.len() == 4 && d.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|d| d.parse().ok())
            .map(Code)
            .ok_or_else(|| format!("`{s}` is not a code: codes look like NF0203"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NF{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
