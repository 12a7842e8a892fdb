//! Sets of CPU or node numbers, written as cpuset(7) writes them: `0-3,8`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The largest CPU or node number that is accepted: a limit, so that no text can ask for gigabytes.
pub const MAX_ID: u32 = 65_535;

/// A sorted set of small numbers. Cheap to clone: a hundred thousand floating tasks share one.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdSet {
    ids: Arc<[u32]>,
}

pub type CpuSet = IdSet;
pub type NodeSet = IdSet;

impl IdSet {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.ids.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn contains(&self, id: u32) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    pub fn first(&self) -> Option<u32> {
        self.ids.first().copied()
    }

    pub fn insert(&mut self, id: u32) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids = self.ids[..at].iter().chain(&[id]).chain(&self.ids[at..]).copied().collect();
        }
    }

    pub fn as_slice(&self) -> &[u32] {
        &self.ids
    }

    pub fn is_subset(&self, of: &Self) -> bool {
        self.iter().all(|id| of.contains(id))
    }

    pub fn intersection(&self, other: &Self) -> Self {
        self.iter().filter(|&id| other.contains(id)).collect()
    }

    pub fn difference(&self, other: &Self) -> Self {
        self.iter().filter(|&id| !other.contains(id)).collect()
    }

    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        !self.iter().any(|id| other.contains(id))
    }
}

impl FromIterator<u32> for IdSet {
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> Self {
        let mut ids: Vec<u32> = iter.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids: ids.into() }
    }
}

impl fmt::Display for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_slice();
        let mut comma = "";
        while let Some(&start) = rest.first() {
            let run = rest.iter().zip(start..).take_while(|(id, expected)| **id == *expected).count();
            match run {
                1 => write!(f, "{comma}{start}")?,
                _ => write!(f, "{comma}{start}-{}", rest[run - 1])?,
            }
            comma = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

impl fmt::Debug for IdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for IdSet {
    type Err = String;

    /// `0-3,8`; the kernel's stride form `0-31:2/4` is not used by anything we read. An empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut ids = Vec::new();
        for part in text.trim().split(',').filter(|p| !p.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let number =
                |s: &str| s.trim().parse::<u32>().map_err(|_| format!("`{part}` is not a number or a range like 0-3"));
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(format!("the range `{part}` runs backwards"));
            }
            if high > MAX_ID {
                return Err(format!("{high} is larger than the limit of {MAX_ID}"));
            }
            ids.extend(low..=high);
        }
        Ok(ids.into_iter().collect())
    }
}

impl serde::Serialize for IdSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_cpuset_writes_them() {
        for text in ["", "0", "0-3", "0-3,8", "1,3,5-6", "0-1,65535"] {
            assert_eq!(text.parse::<IdSet>().unwrap().to_string(), text);
        }
        assert_eq!("3,1,2,2".parse::<IdSet>().unwrap().to_string(), "1-3");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["a", "1-", "-1", "3-1", "0-70000", "1;2"] {
            assert!(text.parse::<IdSet>().is_err(), "{text}");
        }
    }
}
