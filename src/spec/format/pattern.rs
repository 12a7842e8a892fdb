//! What names may be made of: each pattern as a regular expression for the schema and as a test for the checker.

#[derive(Debug)]
pub struct Pattern {
    /// ECMA 262, without look-around; empty: anything.
    pub regex: &'static str,
    pub test: fn(&str) -> bool,
    /// What a text that does not match should have been.
    pub rule: &'static str,
}

pub const MAX_NAME_BYTES: usize = 64;
pub const MAX_LONG_NAME_BYTES: usize = 255;

pub static ANY: Pattern = Pattern { regex: "", test: |_| true, rule: "" };

pub static NAME: Pattern = Pattern {
    regex: "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$",
    test: |s| made_of(s, MAX_NAME_BYTES, word, |c| word(c) || c == b'.' || c == b'-'),
    rule: "names are at most 64 letters, digits, `_`, `.` and `-`, and do not begin with `.` or `-`: they become labels, files and cgroups",
};

pub static VAR_NAME: Pattern = Pattern {
    regex: "^[a-z_][a-z0-9_]{0,63}$",
    test: |s| made_of(s, MAX_NAME_BYTES, lower, |c| lower(c) || c.is_ascii_digit()),
    rule: "names of vars are at most 64 lower-case letters, digits and `_`, and do not begin with a digit",
};

pub static ENV_NAME: Pattern = Pattern {
    regex: "^[A-Za-z_][A-Za-z0-9_.-]{0,254}$",
    test: |s| {
        let begin = |c: u8| c.is_ascii_alphabetic() || c == b'_';
        made_of(s, MAX_LONG_NAME_BYTES, begin, |c| word(c) || c == b'.' || c == b'-')
    },
    rule: "names of environment variables are letters, digits, `_`, `.` and `-`, and do not begin with a digit",
};

pub static USER: Pattern = Pattern {
    regex: "^[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,254}$",
    test: |s| {
        let begin = |c| word(c) || c == b'.';
        made_of(s, MAX_LONG_NAME_BYTES, begin, |c| begin(c) || c == b'@' || c == b'-')
    },
    rule: "users are named by letters, digits, `_`, `.`, `@` and `-`",
};

fn word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn lower(c: u8) -> bool {
    c.is_ascii_lowercase() || c == b'_'
}

fn made_of(text: &str, max_bytes: usize, first: impl Fn(u8) -> bool, others: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [head, tail @ ..] => text.len() <= max_bytes && first(*head) && tail.iter().all(|c| others(*c)),
        [] => false,
    }
}
