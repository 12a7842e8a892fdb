//! `demo hash`: the SHA-256 of each file it is told of.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::message::Hashed;

/// Read at once: large enough for a disk's read-ahead, small enough for a core's cache.
const BUFFER_BYTES: usize = 1 << 20;

/// What one hasher has done.
#[derive(Debug, Default)]
pub struct Hasher {
    buffer: Vec<u8>,
    pub files: u64,
    pub bytes: u64,
    pub unreadable: u64,
}

impl Hasher {
    pub fn hash(&mut self, path: &Path) -> io::Result<Hashed> {
        self.read(path).inspect(|h| (self.files, self.bytes) = (self.files + 1, self.bytes + h.size)).inspect_err(
            |_| {
                self.unreadable += 1;
            },
        )
    }

    fn read(&mut self, path: &Path) -> io::Result<Hashed> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("is no longer a regular file"));
        }
        self.buffer.resize(BUFFER_BYTES, 0);
        let (mut sha, mut size) = (Sha256::new(), 0);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => {
                    sha.update(&self.buffer[..n]);
                    size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // The size is what was read, so that hash and size speak of the same bytes even if the file grows.
        Ok(Hashed { hash: sha.finalize().into(), size, device: meta.dev(), inode: meta.ino(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_sha256_of_the_whole_file() {
        let tmp = tempfile::tempdir().unwrap();
        let mut hasher = Hasher::default();
        let mut of = |content: &[u8]| {
            let path = tmp.path().join("f");
            std::fs::write(&path, content).unwrap();
            let hashed = hasher.hash(&path).unwrap();
            assert_eq!(hashed.size, content.len() as u64);
            hashed.hash.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        assert_eq!(of(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        // A million times "a" (the standard's own vector), then more than one buffer.
        assert_eq!(of(&[b'a'; 1_000_000]), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        let long = vec![b'x'; 2 * BUFFER_BYTES + 1];
        let want: [u8; 32] = Sha256::digest(&long).into();
        assert_eq!(of(&long), want.iter().map(|b| format!("{b:02x}")).collect::<String>());
        assert_eq!((hasher.files, hasher.unreadable), (4, 0));
        assert!(hasher.hash(&tmp.path().join("gone")).is_err());
        assert!(hasher.hash(tmp.path()).is_err());
        assert_eq!((hasher.files, hasher.unreadable), (4, 2));
    }
}
