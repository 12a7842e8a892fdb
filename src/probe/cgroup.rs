//! Which cgroups this process is in, and the tightest memory limit among them and their parents.

use serde::Serialize;

/// Versions of cgroups that hold this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    None,
    V1,
    V2,
    /// v1 for the controllers, v2 only to name processes.
    Hybrid,
}

/// More levels than any real tree has.
const MAX_DEPTH: usize = 64;

/// `read` gives a file's text, as [`super::read`].
pub(super) fn of_this_process(read: &dyn Fn(&str) -> Option<String>) -> (Cgroup, Option<u64>) {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let v1 = groups.lines().any(|l| !l.starts_with("0::") && !l.is_empty());
    let v2 = mounts.lines().any(|l| l.contains(" - cgroup2 "));
    let version = match (v1, v2) {
        (false, false) => Cgroup::None,
        (true, false) => Cgroup::V1,
        (false, true) => Cgroup::V2,
        (true, true) => Cgroup::Hybrid,
    };
    let unified = limit(&groups, &mounts, read, "", "cgroup2", "memory.max");
    let legacy = limit(&groups, &mounts, read, "memory", "cgroup", "memory.limit_in_bytes");
    (version, unified.into_iter().chain(legacy).min())
}

/// The smallest number in `file` of this process's group in one hierarchy, and of its parents.
fn limit(
    groups: &str,
    mounts: &str,
    read: &dyn Fn(&str) -> Option<String>,
    controller: &str,
    fstype: &str,
    file: &str,
) -> Option<u64> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next()?.split(',').any(|c| c == controller).then_some(fields.next()?)
    })?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let matches = right.next()? == fstype
            && (controller.is_empty() || right.nth(1)?.split(',').any(|option| option == controller));
        let mut left = left.split(' ').skip(3);
        matches.then_some((left.next()?, left.next()?))
    })?;
    // In a container the mount's root is often the container's own group.
    let inside = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("").trim_matches('/');
    let mut dir = format!("{mount}/{inside}");
    let mut smallest = None;
    for _ in 0..MAX_DEPTH {
        let number = read(&format!("{}/{file}", dir.trim_end_matches('/'))).and_then(|t| t.trim().parse::<u64>().ok());
        // v1 writes "no limit" as the largest multiple of a page.
        smallest = smallest.into_iter().chain(number.filter(|n| *n < i64::MAX as u64 >> 13 << 12)).min();
        match dir.rfind('/') {
            Some(slash) if dir.len() > mount.len() => dir.truncate(slash),
            _ => break,
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(files: &[(&str, &str)]) -> (Cgroup, Option<u64>) {
        of_this_process(&|path| files.iter().find(|(p, _)| *p == path).map(|(_, t)| t.to_string()))
    }

    #[test]
    fn the_tightest_parent_counts() {
        let found = probe(&[
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "4096\n"),
            ("/sys/fs/cgroup/memory.max", "8192\n"),
        ]);
        assert_eq!(found, (Cgroup::V2, Some(4096)));
    }

    #[test]
    fn version_one_in_a_container() {
        let found = probe(&[
            ("/proc/self/cgroup", "4:cpu,memory:/box/1\n0::/\n"),
            ("/proc/self/mountinfo", "31 24 0:27 /box/1 /cg/memory rw - cgroup cgroup rw,memory\n"),
            ("/cg/memory/memory.limit_in_bytes", "1048576\n"),
        ]);
        assert_eq!(found, (Cgroup::V1, Some(1 << 20)));
        assert_eq!(probe(&[]), (Cgroup::None, None));
    }
}
