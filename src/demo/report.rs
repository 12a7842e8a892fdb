//! `demo report`: files of equal content, as groups for people or as the lines of sha256sum(1).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::message::{Hashed, Sha256};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Groups, those that waste most first.
    #[default]
    Text,
    /// `hash  path`, sorted: what `sha256sum … | LC_ALL=C sort | uniq -w64 -D` prints.
    Lines,
}

#[derive(Debug, Default)]
pub struct Report {
    files: HashMap<Sha256, Group>,
}

#[derive(Debug, Default)]
struct Group {
    size: u64,
    paths: Vec<PathBuf>,
    /// Hard links are duplicates by content, but removing one frees nothing.
    inodes: HashSet<(u64, u64)>,
}

impl Group {
    fn wasted(&self) -> u64 {
        self.size.saturating_mul(self.inodes.len() as u64 - 1)
    }
}

/// The last line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub groups: usize,
    pub files: usize,
    pub wasted: u64,
}

impl Report {
    pub fn add(&mut self, file: Hashed) {
        let group = self.files.entry(file.hash).or_default();
        group.size = file.size;
        group.inodes.insert((file.device, file.inode));
        group.paths.push(file.path);
    }

    /// Prints all groups of two or more. The same files give the same text, in whatever order they came.
    pub fn print(self, format: Format, out: &mut dyn Write) -> io::Result<Totals> {
        let mut groups: Vec<_> = self.files.into_iter().filter(|(_, g)| g.paths.len() > 1).collect();
        groups.iter_mut().for_each(|(_, g)| g.paths.sort());
        match format {
            Format::Text => print_groups(&mut groups, out)?,
            Format::Lines => print_lines(&groups, out)?,
        }
        Ok(Totals {
            groups: groups.len(),
            files: groups.iter().map(|(_, g)| g.paths.len()).sum(),
            wasted: groups.iter().map(|(_, g)| g.wasted()).sum(),
        })
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { groups, files, wasted } = self;
        write!(f, "{files} files in {groups} groups of equal content; {wasted} bytes could be freed")
    }
}

fn print_groups(groups: &mut [(Sha256, Group)], out: &mut dyn Write) -> io::Result<()> {
    groups.sort_by(|(_, a), (_, b)| b.wasted().cmp(&a.wasted()).then_with(|| a.paths.cmp(&b.paths)));
    for (i, (hash, group)) in groups.iter().enumerate() {
        let before = if i == 0 { "" } else { "\n" };
        writeln!(out, "{before}{} files of {} bytes, sha256 {}", group.paths.len(), group.size, hex(hash))?;
        for path in &group.paths {
            out.write_all(b"  ")?;
            out.write_all(&escaped(path).1)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn print_lines(groups: &[(Sha256, Group)], out: &mut dyn Write) -> io::Result<()> {
    let files = groups.iter().flat_map(|(hash, group)| group.paths.iter().map(move |path| (hash, path)));
    let mut lines: Vec<Vec<u8>> = files.map(|(hash, path)| line(hash, path)).collect();
    lines.sort();
    lines.iter().try_for_each(|line| out.write_all(line))
}

/// As sha256sum writes it: a line begins with a backslash if the name in it is escaped.
fn line(hash: &Sha256, path: &Path) -> Vec<u8> {
    let (was_escaped, name) = escaped(path);
    let mut line = Vec::with_capacity(name.len() + 68);
    line.extend(was_escaped.then_some(b'\\'));
    line.extend(hex(hash).into_bytes());
    line.extend(b"  ");
    line.extend(name);
    line.push(b'\n');
    line
}

/// Backslash, newline and carriage return as sha256sum escapes them; all other bytes are left alone.
fn escaped(path: &Path) -> (bool, Vec<u8>) {
    let name = path.as_os_str().as_bytes();
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            byte => out.push(byte),
        }
    }
    (out.len() > name.len(), out)
}

fn hex(hash: &Sha256) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{hash::Hasher, walk::walk};
    use super::*;

    fn file(hash: u8, size: u64, inode: u64, path: &str) -> Hashed {
        Hashed { hash: [hash; 32], size, device: 1, inode, path: path.into() }
    }

    fn print(files: &[Hashed], format: Format) -> (String, Totals) {
        let mut report = Report::default();
        files.iter().cloned().for_each(|f| report.add(f));
        let mut out = Vec::new();
        let totals = report.print(format, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), totals)
    }

    #[test]
    fn groups_come_by_waste_and_in_no_chance_order() {
        let mut files = vec![
            file(1, 10, 1, "/b"),
            file(1, 10, 2, "/a\nx"),
            file(2, 2048, 3, "/c"),
            file(2, 2048, 4, "/d"),
            file(3, 9999, 5, "/hard"),
            file(3, 9999, 5, "/link"),
            file(4, 1, 6, "/alone"),
        ];
        let (text, totals) = print(&files, Format::Text);
        let hash = |n: &str| n.repeat(32);
        let want = format!(
            "2 files of 2048 bytes, sha256 {}\n  /c\n  /d\n\n2 files of 10 bytes, sha256 {}\n  /a\\nx\n  /b\n\n2 files of 9999 bytes, sha256 {}\n  /hard\n  /link\n",
            hash("02"),
            hash("01"),
            hash("03")
        );
        assert_eq!(text, want);
        assert_eq!(totals, Totals { groups: 3, files: 6, wasted: 2058 });
        assert_eq!(totals.to_string(), "6 files in 3 groups of equal content; 2058 bytes could be freed");
        files.reverse();
        assert_eq!(print(&files, Format::Text).0, text);
    }

    #[test]
    fn nothing_in_common_prints_nothing() {
        assert_eq!(
            print(&[file(1, 1, 1, "/a"), file(2, 1, 2, "/b")], Format::Lines),
            (String::new(), Totals::default())
        );
    }

    /// The whole job without the pipeline, against the tools it is measured by.
    #[test]
    fn lines_are_those_of_sha256sum() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("dir")).unwrap();
        for (name, content) in [
            ("a", "x"),
            ("dir/b", "x"),
            ("c\\d\nx", "x"),
            ("e", ""),
            ("f", ""),
            ("g", "alone"),
            ("dir/\u{fc}", "y"),
            ("z z", "y"),
        ] {
            std::fs::write(tmp.path().join(name), content).unwrap();
        }
        std::fs::hard_link(tmp.path().join("g"), tmp.path().join("h")).unwrap();
        let (mut report, mut hasher) = (Report::default(), Hasher::default());
        let add = |path: &Path| {
            report.add(hasher.hash(path)?);
            io::Result::Ok(())
        };
        walk(tmp.path(), add, |_, e| panic!("{e}")).unwrap();
        let mut ours = Vec::new();
        report.print(Format::Lines, &mut ours).unwrap();
        let tools = "find . -type f -print0 | xargs -0 sha256sum | LC_ALL=C sort";
        let theirs = Command::new("sh").args(["-c", tools]).current_dir(tmp.path()).output().unwrap().stdout;
        let theirs = String::from_utf8(theirs).unwrap().replace("./", &format!("{}/", tmp.path().display()));
        let key = |l: &str| l.trim_start_matches('\\')[..64].to_owned();
        let all: Vec<_> = theirs.lines().collect();
        let want: Vec<_> = all.iter().filter(|l| all.iter().filter(|m| key(m) == key(l)).count() > 1).collect();
        assert_eq!(String::from_utf8(ours).unwrap().lines().collect::<Vec<_>>().iter().collect::<Vec<_>>(), want);
        assert_eq!(want.len(), 9);
    }
}
