//! Finding and printing the logs of a run, of any size, in bounded memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::record::human::harmless;
use crate::record::parse_log_name;

const BLOCK_BYTES: usize = 64 * 1024;

/// One log, with the name it is shown under.
#[derive(Debug, PartialEq, Eq)]
pub struct Log {
    pub title: String,
    pub path: PathBuf,
}

/// The logs of a stage (`hash`), of one replica (`hash@2`), or all: by stage, then replica, then attempt.
pub fn find(folder: &Path, stage: Option<&str>) -> Result<Vec<Log>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("its logs are gone: {}: {e}", folder.display()))?;
    let mut logs: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let (stage, replica, attempt) = parse_log_name(path.file_name()?.to_str()?)?;
            Some((stage.to_owned(), replica, attempt, path))
        })
        .collect();
    logs.sort();
    let all = logs.into_iter().map(|(stage, replica, attempt, path)| {
        let name = replica.map_or(stage.clone(), |r| format!("{stage}@{r}"));
        let title = if attempt == 1 { name.clone() } else { format!("{name}, attempt {attempt}") };
        (stage, name, Log { title, path })
    });
    let Some(wanted) = stage else { return Ok(all.map(|(_, _, log)| log).collect()) };
    let (found, others): (Vec<_>, Vec<_>) = all.partition(|(stage, name, _)| wanted == stage || wanted == name);
    if found.is_empty() {
        let mut stages: Vec<_> = others.into_iter().map(|(stage, ..)| stage).collect();
        stages.dedup();
        return Err(format!("no log of `{wanted}`; there are logs of: {}", stages.join(", ")));
    }
    Ok(found.into_iter().map(|(_, _, log)| log).collect())
}

/// Prints logs one after the other, each under its title if there are several; for a terminal without its escapes.
pub fn print(logs: &[Log], tail: Option<usize>, terminal: bool, out: &mut dyn Write) -> io::Result<()> {
    for (i, log) in logs.iter().enumerate() {
        if logs.len() > 1 {
            writeln!(out, "{}==> {} <==", if i == 0 { "" } else { "\n" }, log.title)?;
        }
        let mut file = File::open(&log.path)?;
        if let Some(lines) = tail {
            let start = start_of_tail(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        if terminal { copy_harmless(&mut file, out)? } else { io::copy(&mut file, out).map(drop)? }
    }
    Ok(())
}

/// Where the last `lines` lines begin, found by reading backwards. A last line without its newline counts.
fn start_of_tail(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let (mut at, mut left) = (length, lines);
    let mut block = vec![0; BLOCK_BYTES];
    while at > 0 {
        let size = at.min(BLOCK_BYTES as u64);
        at -= size;
        let block = &mut block[..size as usize];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(block)?;
        for (i, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = at + i as u64 + 1;
            if after == length {
                continue; // ends the last line, begins none
            }
            if left <= 1 {
                return Ok(if lines == 0 { length } else { after });
            }
            left -= 1;
        }
    }
    Ok(if lines == 0 { length } else { 0 })
}

/// Copies text; a character that a block's end cuts in two waits for the next block.
fn copy_harmless(from: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut kept = 0;
    loop {
        let n = match from.read(&mut block[kept..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        let filled = kept + n;
        let whole = if n == 0 { filled } else { filled - unfinished(&block[..filled]) };
        out.write_all(harmless(&String::from_utf8_lossy(&block[..whole])).as_bytes())?;
        block.copy_within(whole..filled, 0);
        kept = filled - whole;
        if n == 0 {
            return Ok(());
        }
    }
}

/// How many bytes at the end begin a UTF-8 character, or a `\r\n`, that is not all there.
fn unfinished(text: &[u8]) -> usize {
    let back = text.iter().rev().take(4).position(|b| b & 0xc0 != 0x80).map_or(0, |i| i + 1);
    let needs = match text.get(text.len() - back) {
        Some(b'\r' | 0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..) => 4,
        _ => 1,
    };
    if back < needs { back } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &[u8], tail: Option<usize>, terminal: bool) -> String {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        print(&[Log { title: "a".into(), path }], tail, terminal, &mut out).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn tails_are_whole_lines() {
        for (text, lines, want) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 2, "a\nb\n"),
            ("a\nb\n", 9, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("a", 0, ""),
            ("a", 1, "a"),
            ("\n\n\n", 1, "\n"),
            ("", 3, ""),
        ] {
            assert_eq!(printed(text.as_bytes(), Some(lines), false), want, "{text:?} {lines}");
        }
        let long = (0..50_000).map(|i| format!("line {i}\n")).collect::<String>();
        assert_eq!(printed(long.as_bytes(), Some(20_000), false).lines().next(), Some("line 30000"));
    }

    #[test]
    fn a_terminal_sees_no_escapes_and_no_broken_characters() {
        assert_eq!(printed(b"\x1b[2Jx\r\n\xff\n", None, true), "\\u{1b}[2Jx\n\u{fffd}\n");
        assert_eq!(printed(b"\x1b[2J", None, false), "\x1b[2J");
        // Characters of two, three and four bytes, and line ends, across every phase of the block's end.
        for shift in 0..16 {
            let text = "x".repeat(shift) + &"aé€😀\r\n".repeat(BLOCK_BYTES / 6);
            assert_eq!(printed(text.as_bytes(), None, true), text.replace('\r', ""));
        }
        assert_eq!(printed("é€😀".as_bytes().split_last().unwrap().1, None, true), "é€\u{fffd}");
    }

    #[test]
    fn stages_and_replicas_are_found() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["hash@0.log", "hash@10.log", "hash@2.log", "walk.log", "notes.txt"] {
            std::fs::write(tmp.path().join(name), name).unwrap();
        }
        let titles = |stage| find(tmp.path(), stage).map(|l| l.into_iter().map(|l| l.title).collect::<Vec<_>>());
        assert_eq!(titles(None).unwrap(), ["hash@0", "hash@2", "hash@10", "walk"]);
        assert_eq!(titles(Some("hash")).unwrap(), ["hash@0", "hash@2", "hash@10"]);
        assert_eq!(titles(Some("hash@2")).unwrap(), ["hash@2"]);
        assert_eq!(titles(Some("hsh")).unwrap_err(), "no log of `hsh`; there are logs of: hash, walk");
        assert!(find(&tmp.path().join("gone"), None).unwrap_err().starts_with("its logs are gone"));
    }
}
