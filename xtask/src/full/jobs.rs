//! Pipelines that do real work, against the classic tools doing the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Work, nexusflow, read};
use crate::step::{Program, Result};
use crate::target;

/// What the pipelines leave for the steps about Prometheus.
pub const PROM_FILE: &str = "textfile/duplicates.prom";

pub fn duplicates_made_up(work: &Work) -> Result {
    let root = work.fresh("made-up")?;
    make_up(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let groups = duplicates(work, &root)?;
    // Empty files; two contents with odd names; hard links; the large ones.
    match groups {
        5 => Ok(()),
        _ => Err(format!("5 groups of duplicates were made, {groups} were found")),
    }
}

pub fn duplicates_real(work: &Work) -> Result {
    let groups = duplicates(work, Path::new("/usr/share"))?;
    println!("   {groups} groups of duplicates");
    Ok(())
}

/// Files whose names and contents are as awkward as files get.
fn make_up(root: &Path) -> std::io::Result<()> {
    let deep = root.join("deep/er/still");
    fs::create_dir_all(&deep)?;
    fs::create_dir(root.join("empty folder"))?;
    for name in ["empty", ".hidden-empty", "deep/another empty"] {
        fs::write(root.join(name), b"")?;
    }
    let odd: [&[u8]; 7] =
        [b"new\nline", b"back\\slash", b"-dash", b"not-utf8-\xff\xfe", b"  spaces ", b"quote\"'", b"$HOME"];
    for (at, name) in odd.iter().enumerate() {
        fs::write(root.join(OsStr::from_bytes(name)), [b"odd" as &[u8], &[b'0' + (at % 2) as u8]].concat())?;
    }
    fs::write(root.join("original"), b"linked")?;
    fs::hard_link(root.join("original"), deep.join("hard link"))?;
    std::os::unix::fs::symlink("original", root.join("symbolic link"))?;
    std::os::unix::fs::symlink("..", deep.join("loop"))?;
    // Larger than any buffer on the way, and different only in the last byte.
    let mut large: Vec<u8> = (0..5 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(root.join("large one"), &large)?;
    fs::write(deep.join("large two"), &large)?;
    *large.last_mut().unwrap() ^= 1;
    fs::write(deep.join("large, but other"), &large)?;
    for at in 0..2000 {
        fs::write(root.join(format!("unique {at}")), format!("unique {at}"))?;
    }
    Ok(())
}

/// Runs the pipeline and compares its groups with those that `sha256sum` shows. Gives their number.
fn duplicates(work: &Work, root: &Path) -> Result<usize> {
    let prom = work.path(PROM_FILE);
    super::make_dir(prom.parent().unwrap())?;
    let setting = [b"root=" as &[u8], root.as_os_str().as_bytes()].concat();
    let found = nexusflow()
        .args(["dag", "apply", "pipelines/duplicates.yaml", "--set", "format=lines", "--set"])
        .arg(OsStr::from_bytes(&setting))
        .arg("--prom-file")
        .arg(&prom)
        .stdout()?;
    // Files may vanish or be unreadable on a living machine: then xargs ends 123 and shows the rest.
    let script = r#"find "$1" -type f -print0 | xargs -0 sha256sum || [ $? = 123 ]"#;
    let sums = Program::new("sh").args(["-c", script, "sh"]).arg(root).env("LC_ALL", "C").stdout()?;
    let expected = groups(&sums);
    let found = groups(&found);
    match first_difference(&expected, &found) {
        None => Ok(expected.len()),
        Some(difference) => Err(format!("{}: sha256sum shows other groups: {difference}", root.display())),
    }
}

/// hash → its lines, for the hashes that more than one file has. Lines are as `sha256sum` writes them: with a
/// backslash in front where the name is escaped. Others (headings, empty lines) do not count.
fn groups(text: &[u8]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    const HASH: usize = 64;
    let mut found = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
    for line in text.split(|b| *b == b'\n') {
        let plain = line.strip_prefix(b"\\").unwrap_or(line);
        if plain.len() > HASH + 2 && plain[..HASH].iter().all(u8::is_ascii_hexdigit) && &plain[HASH..HASH + 2] == b"  "
        {
            found.entry(plain[..HASH].to_vec()).or_default().push(line.to_vec());
        }
    }
    found.retain(|_, lines| lines.len() > 1);
    found.values_mut().for_each(|lines| lines.sort());
    found
}

type Groups = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn first_difference(expected: &Groups, found: &Groups) -> Option<String> {
    let hash = expected.keys().chain(found.keys()).find(|hash| expected.get(*hash) != found.get(*hash))?;
    let show = |groups: &Groups| match groups.get(hash) {
        None => "nothing".to_owned(),
        Some(lines) => lines.iter().map(|l| format!("\n    {}", String::from_utf8_lossy(l))).collect(),
    };
    Some(format!("\n  expected {}\n  found {}", show(expected), show(found)))
}

/// The same programs joined by a shell.
const WORDS: &str = r#"find /usr/share/doc -type f \( -name '*.gz' -o -name copyright \) -exec zcat -f {} + |
    tr -cs A-Za-z '\n' | tr A-Z a-z | sort | uniq -c | sort -k1,1nr -k2 | head -n 20"#;

pub fn word_count(work: &Work) -> Result {
    let out = work.path("words");
    let setting = format!("out={}", out.display());
    nexusflow().args(["dag", "apply", "pipelines/wordcount.toml", "--set", &setting]).done()?;
    let expected = Program::new("sh").args(["-c", WORDS]).env("LC_ALL", "C").stdout()?;
    let found = read(&out)?;
    let lines = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    match expected.is_empty() || expected != found {
        true => Err(format!("a shell counts\n{}\nand the pipeline\n{}", lines(&expected), lines(&found))),
        false => Ok(()),
    }
}

/// It compares what it built by itself.
/// The example whose stages are written in Rust, over SDK edges alone.
pub fn own_stages(work: &Work) -> Result {
    let logs = work.fresh("own-stages")?;
    let bin = target().join("release/examples").display().to_string();
    let apply = nexusflow().args(["dag", "apply", "examples/own-stages/pipeline.yaml", "--quiet"]);
    apply.args(["--set", &format!("bin={bin}"), "--log-dir"]).arg(&logs).done()?;
    let said = String::from_utf8_lossy(&read(&logs.join("sum.log"))?).into_owned();
    match said.contains("9592 primes, sum 454396537") {
        true => {}
        false => return Err(format!("there are 9592 primes up to 100000, and the stages say: {said}")),
    }
    let logs = work.fresh("exactly-once")?;
    let apply = nexusflow().args(["dag", "apply", "examples/own-stages/exactly-once.yaml", "--quiet"]);
    let file = logs.join("counted").display().to_string();
    let apply = apply.args(["--set", &format!("bin={bin}"), "--set", &format!("file={file}")]);
    apply.arg("--log-dir").arg(&logs).done()?;
    let said = String::from_utf8_lossy(&read(&logs.join("tally~4.log"))?).into_owned();
    match said.contains("10000 lines, 38894 bytes, counted by 4 processes") {
        true => Ok(()),
        false => Err(format!("there are 10000 lines of 38894 bytes, and the stages say: {said}")),
    }
}

pub fn build() -> Result {
    nexusflow().args(["dag", "apply", "pipelines/build.yaml"]).done()
}
