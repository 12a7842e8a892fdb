//! Sealed memory files: created, populated, reopened read-only, checked when a peer sends one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

/// What nobody may do to a memory file any more: change its size, or these seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// The same, and its contents.
const IMMUTABLE: SealFlags = SEALS.union(SealFlags::WRITE);
/// A mapping of a file with these cannot be cut short under its reader.
const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A memory file of `len` bytes (zeroes), mode 0600, closed on exec, not sealed yet.
pub fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?, // before Linux 6.3
        other => other?,
    };
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(&fd, len)?;
    Ok(fd)
}

/// The same in huge pages of 2 MiB or 1 GiB, which the kernel must have: `len` is a multiple of them.
pub fn create_huge(name: &str, len: u64, page: u64) -> io::Result<OwnedFd> {
    let size = match page.trailing_zeros() {
        21 => MemfdFlags::HUGE_2MB,
        30 => MemfdFlags::HUGE_1GB,
        _ => return Err(Errno::INVAL.into()),
    };
    // Seals for these came with Linux 4.16.
    let fd =
        rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | size)?;
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(&fd, len)?;
    Ok(fd)
}

/// Seals the size for good.
pub fn seal(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(fd, SEALS)?)
}

/// Changes the size of a file that is not sealed yet.
pub fn set_len(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::ftruncate(fd, len) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Seals size and contents for good. EBUSY while it is mapped for writing somewhere.
pub fn seal_contents(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(fd, IMMUTABLE)?)
}

/// Checks a descriptor that a peer sent: memory of exactly `len` bytes that nobody can change any more.
pub fn check_immutable(fd: impl AsFd, len: u64) -> io::Result<()> {
    check(&fd, len, false)?;
    let seals = rustix::fs::fcntl_get_seals(&fd)?;
    match seals.contains(IMMUTABLE) {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "shared memory whose contents are not sealed")),
    }
}

/// Gives every page its memory now, so that no later touch can fail. For kernels that cannot populate a mapping.
pub fn allocate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// A second descriptor of the same memory through which nothing can be written.
pub fn read_only(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Checks a descriptor that a peer sent: memory of exactly `len` bytes whose size is sealed, which `writable` says
/// what it must be opened for at least.
pub fn check(fd: impl AsFd, len: u64, writable: bool) -> io::Result<()> {
    let bad = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let fd = fd.as_fd();
    let size = rustix::fs::fstat(fd)?.st_size;
    if u64::try_from(size) != Ok(len) {
        return bad(format!("shared memory of {size} bytes where {len} were announced"));
    }
    // EINVAL: a file that knows no seals.
    let seals = rustix::fs::fcntl_get_seals(fd).unwrap_or(SealFlags::empty());
    if !seals.contains(NEEDED) {
        return bad("shared memory whose size is not sealed".to_owned());
    }
    let mode = rustix::fs::fcntl_getfl(fd)? & OFlags::ACCMODE;
    if writable && mode != OFlags::RDWR {
        return bad("shared memory that is to be written but is read-only".to_owned());
    }
    Ok(())
}

/// Reads the 8 bytes at `offset` without a mapping.
#[cfg(loom)]
pub fn read_u64(fd: BorrowedFd<'_>, offset: u64) -> io::Result<u64> {
    let offset = offset as usize;
    Ok(crate::map::ReadMap::new(fd, offset + 8)?.word64(offset).load(crate::atomic::Ordering::Relaxed))
}

/// Reads the 8 bytes at `offset` without a mapping.
#[cfg(not(loom))]
pub fn read_u64(fd: BorrowedFd<'_>, offset: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    loop {
        match rustix::io::pread(fd, &mut bytes, offset) {
            Err(Errno::INTR) => {}
            Ok(8) => return Ok(u64::from_ne_bytes(bytes)),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_keeps_its_size_and_its_read_only_twin_cannot_be_written() {
        let fd = create("test", 8192).unwrap();
        assert!(check(&fd, 8192, true).is_err(), "not sealed yet");
        seal(fd.as_fd()).unwrap();
        check(&fd, 8192, true).unwrap();
        assert!(check(&fd, 4096, true).is_err(), "another size");
        assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&fd, 1 << 20), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
        assert_eq!(rustix::fs::fstat(&fd).unwrap().st_mode & 0o777, 0o600);

        let reader = read_only(fd.as_fd()).unwrap();
        check(&reader, 8192, false).unwrap();
        assert!(check(&reader, 8192, true).is_err());
        assert_eq!(rustix::io::pwrite(&reader, b"x", 0), Err(Errno::BADF));
        rustix::io::pwrite(&fd, &7u64.to_ne_bytes(), 4096).unwrap();
        assert_eq!(read_u64(reader.as_fd(), 4096).unwrap(), 7);
        assert!(read_u64(reader.as_fd(), 8192).is_err());
    }

    #[test]
    fn sealed_contents_cannot_be_changed_through_any_descriptor() {
        let fd = create("test", 4096).unwrap();
        set_len(fd.as_fd(), 8192).unwrap();
        rustix::io::pwrite(&fd, b"kept", 0).unwrap();
        assert!(check_immutable(&fd, 8192).is_err(), "not sealed yet");
        let map = crate::map::WriteMap::new(&fd, 8192).unwrap();
        assert_eq!(seal_contents(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::ResourceBusy, "mapped for writing");
        drop(map);
        seal_contents(fd.as_fd()).unwrap();
        check_immutable(&fd, 8192).unwrap();
        assert!(check_immutable(&fd, 4096).is_err(), "another size");
        assert_eq!(rustix::io::pwrite(&fd, b"x", 0), Err(Errno::PERM));
        assert!(crate::map::WriteMap::new(&fd, 8192).is_err());
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(&fd, flags, 0, 4096), Err(Errno::PERM));
        let reader = crate::map::ReadMap::new(read_only(fd.as_fd()).unwrap(), 8192).unwrap();
        let mut bytes = [0; 4];
        reader.copy_out(0, &mut bytes);
        assert_eq!(&bytes, b"kept");
    }

    #[test]
    fn a_descriptor_that_is_no_memory_file_is_refused() {
        let file = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let len = rustix::fs::fstat(&file).unwrap().st_size as u64;
        assert!(check(&file, len, false).is_err());
    }
}
