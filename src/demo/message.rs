//! What the demo's stages send to each other. On `paths`: the bytes of a path. On `hashes`: a [`Hashed`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub type Sha256 = [u8; 32];

/// One file that was read: 32 bytes of hash, then size, device and inode as little-endian u64, then its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    pub hash: Sha256,
    pub size: u64,
    pub device: u64,
    pub inode: u64,
    pub path: PathBuf,
}

pub fn path(message: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(message))
}

pub fn of_path(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl Hashed {
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.clear();
        to.extend(self.hash);
        for number in [self.size, self.device, self.inode] {
            to.extend(number.to_le_bytes());
        }
        to.extend(self.path.as_os_str().as_bytes());
    }

    pub fn decode(message: &[u8]) -> Option<Self> {
        let (hash, rest) = message.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (device, rest) = rest.split_first_chunk()?;
        let (inode, rest) = rest.split_first_chunk()?;
        let [size, device, inode] = [size, device, inode].map(|n| u64::from_le_bytes(*n));
        Some(Self { hash: *hash, size, device, inode, path: path(rest).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let sent = Hashed { hash: [7; 32], size: 1 << 40, device: 2, inode: 3, path: path(b"/a\n\xff").to_owned() };
        let mut bytes = b"left over".to_vec();
        sent.encode(&mut bytes);
        assert_eq!(Hashed::decode(&bytes), Some(sent));
        assert_eq!(Hashed::decode(&bytes[..55]), None);
    }
}
