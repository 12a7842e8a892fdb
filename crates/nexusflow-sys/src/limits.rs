//! This process's own limit on open files.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one, and returns (soft, hard) as they were: what children,
/// which may trip over descriptors above 1023 (select(2)), should be given back.
pub fn raise_open_files() -> io::Result<(u64, u64)> {
    let old = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: old.maximum, maximum: old.maximum })?;
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX); // RLIM_INFINITY
    Ok((number(old.current), number(old.maximum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_meets_the_hard_one() {
        let (soft, hard) = raise_open_files().unwrap();
        assert!(soft <= hard);
        assert_eq!(raise_open_files().unwrap(), (hard, hard));
    }
}
