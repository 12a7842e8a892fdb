//! `demo walk ROOT`: the path of every regular file under a root, as `find ROOT -type f` lists them.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

/// What was met on the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub files: u64,
    pub folders: u64,
    pub unreadable: u64,
}

/// Hands every regular file to `found`. Symbolic links are not followed, whatever they point to; a folder that
/// cannot be read goes to `skipped`. Without recursion: a tree may be deeper than a stack.
pub fn walk<E: From<io::Error>>(
    root: &Path,
    mut found: impl FnMut(&Path) -> Result<(), E>,
    mut skipped: impl FnMut(&Path, io::Error),
) -> Result<Seen, E> {
    let mut seen = Seen::default();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut visit = |path: PathBuf, kind: FileType, folders: &mut Vec<PathBuf>| {
        if kind.is_file() {
            seen.files += 1;
            found(&path)?;
        } else if kind.is_dir() {
            folders.push(path);
        }
        Ok::<(), E>(())
    };
    let kind = fs::symlink_metadata(root).map_err(|e| in_words(root, &e))?.file_type();
    visit(root.to_owned(), kind, &mut folders)?;
    let (mut read, mut unreadable) = (0, 0);
    while let Some(folder) = folders.pop() {
        let mut skip = |e| {
            unreadable += 1;
            skipped(&folder, e);
        };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => {
                skip(e);
                continue;
            }
        };
        read += 1;
        for entry in entries {
            match entry.and_then(|e| Ok((e.path(), e.file_type()?))) {
                Ok((path, kind)) => visit(path, kind, &mut folders)?,
                Err(e) => skip(e),
            }
        }
    }
    (seen.folders, seen.unreadable) = (read, unreadable);
    Ok(seen)
}

fn in_words(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(root: &Path) -> (Vec<PathBuf>, Seen) {
        let mut paths = Vec::new();
        let keep = |p: &Path| {
            paths.push(p.to_owned());
            io::Result::Ok(())
        };
        let seen = walk(root, keep, |p, e| panic!("{p:?}: {e}")).unwrap();
        paths.sort();
        (paths, seen)
    }

    #[test]
    fn finds_what_find_finds() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        let odd = root.join(std::ffi::OsStr::from_bytes(b"a/new\nline \xff"));
        for file in [&root.join("top"), &root.join("a/b/deep"), &odd] {
            fs::write(file, "x").unwrap();
        }
        symlink(root, root.join("a/loop")).unwrap();
        symlink(root.join("top"), root.join("a/link")).unwrap();
        let (paths, seen) = files(root);
        assert_eq!(paths, [root.join("a/b/deep"), odd, root.join("top")]);
        assert_eq!(seen, Seen { files: 3, folders: 3, unreadable: 0 });
        assert_eq!(files(&root.join("top")).0, [root.join("top")], "a root that is a file is found");
        assert_eq!(files(&root.join("a/link")).0, [] as [PathBuf; 0], "a root that is a link is not");
        let find = std::process::Command::new("find").arg(root).args(["-type", "f", "-print0"]).output().unwrap();
        let mut want: Vec<_> = find.stdout.split(|b| *b == 0).filter(|p| !p.is_empty()).collect();
        want.sort();
        assert_eq!(paths.iter().map(|p| p.as_os_str().as_bytes()).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted_not_fatal() {
        let tmp = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut path = tmp.path().to_owned();
        for _ in 0..15 {
            path.push(&name);
        }
        fs::create_dir_all(&path).unwrap();
        // The last folder's path is longer than PATH_MAX: it can be made from within only.
        let made = std::process::Command::new("mkdir")
            .args(["-p", &format!("{name}/{name}/{name}")])
            .current_dir(&path)
            .status();
        assert!(made.unwrap().success());
        let mut skipped = 0;
        let seen = walk(tmp.path(), |_| io::Result::Ok(()), |_, _| skipped += 1).unwrap();
        assert_eq!((seen.unreadable, skipped), (1, 1));
        // So that the scratch folder can be removed by name.
        assert!(std::process::Command::new("rm").arg("-r").arg(tmp.path().join(&name)).status().unwrap().success());
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let e = walk(Path::new("/no/such"), |_| io::Result::Ok(()), |_, _| ()).unwrap_err();
        assert!(e.to_string().starts_with("/no/such: "), "{e}");
    }
}
