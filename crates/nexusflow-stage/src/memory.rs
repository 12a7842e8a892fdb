//! The memory of edges: which node it comes from, in which pages, and the one place where it is made.

use std::os::fd::{AsFd, OwnedFd};

use nexusflow_sys::map::WriteMap;
use nexusflow_sys::memfd;

/// Of what the memory is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The NUMA node that it lies on; else where the first to touch it runs.
    pub node: Option<u32>,
    /// On that node or nowhere; else where there is room, when it has none.
    pub strict: bool,
    /// Of the slab, or of the ring if there is no slab.
    pub hugepages: Hugepages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hugepages {
    #[default]
    None,
    TwoMiB,
    OneGiB,
}

impl Hugepages {
    /// Bytes of one; `None` for ordinary pages.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::TwoMiB => Some(2 << 20),
            Self::OneGiB => Some(1 << 30),
        }
    }
}

/// A memory file with all its memory, with what `fill` writes, sealed: the one place where memory is made.
pub(crate) fn make(
    name: &str,
    len: u64,
    memory: Memory,
    fill: impl FnOnce(&WriteMap),
) -> std::io::Result<(OwnedFd, WriteMap)> {
    let fd = match memory.hugepages.bytes() {
        None => memfd::create(name, len)?,
        Some(page) => memfd::create_huge(name, len, page)?,
    };
    let map = WriteMap::new(&fd, len as usize)?;
    if let Some(node) = memory.node {
        map.place_on(node, memory.strict)?;
    }
    match map.populate() {
        // Allocating, as an older kernel must, does not heed where huge pages are to lie.
        Err(e) if memory.hugepages != Hugepages::None && memory.node.is_some() => return Err(e),
        Err(_) => memfd::allocate(fd.as_fd(), len)?, // an older kernel; or really no memory, and this says so
        Ok(()) => {}
    }
    fill(&map);
    memfd::seal(fd.as_fd())?;
    Ok((fd, map))
}
