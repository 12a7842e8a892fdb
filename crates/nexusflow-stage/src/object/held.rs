//! An object that was received: its bytes, until it is released.

use std::os::fd::AsFd;
use std::sync::Arc;

use nexusflow_sys::map::ReadMap;

use super::Entry;
use super::reader::Shared;
use crate::error::Result;

/// An object where it lies in shared memory, for as long as it is held.
///
/// Dropped, it is *released*: once every consumer has done so its memory is used again. Objects are released in any
/// order, each on its own, by any thread. One that is held when its process dies, or given to [`Object::keep`], is given
/// to the process that is started in its place; so is one that is dropped because its thread panics.
///
/// A producer that breaks the protocol may write the bytes while they are looked at, unless the edge is `sealed`. So they
/// are copied out, or handed to the kernel; who trusts the producer, or asks for sealed objects, looks at them in place.
#[derive(Debug)]
pub struct Object {
    reader: Arc<Shared>,
    slot: usize,
    entry: Entry,
    /// Its own memory, if objects have their own.
    own: Option<ReadMap>,
    kept: bool,
}

impl Object {
    pub(super) fn new(reader: &Arc<Shared>, slot: usize, entry: Entry) -> Result<Self> {
        let own = if reader.slab.is_none() { Some(reader.fetch(slot, &entry)?) } else { None };
        Ok(Self { reader: reader.clone(), slot, entry, own, kept: false })
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.entry.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.entry.len == 0
    }

    /// Which of its producer's objects it is, from 0.
    pub fn number(&self) -> u64 {
        let Entry { serial, .. } = self.entry; // its number in its lane is of no concern here
        serial
    }

    /// Copies its bytes from `skip` on until `to` is full.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn copy_at(&self, skip: usize, to: &mut [u8]) {
        assert!(skip <= self.len() && to.len() <= self.len() - skip, "{} bytes at {skip} of {}", to.len(), self.len());
        self.map().copy_out(self.begin() + skip, to);
    }

    /// Copies it to the front of `to`.
    ///
    /// # Panics
    /// If `to` is shorter.
    pub fn copy_to(&self, to: &mut [u8]) {
        self.copy_at(0, &mut to[..self.len()]);
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len()];
        self.copy_to(&mut all);
        all
    }

    /// write(2) of what lies behind its first `skip` bytes: how many were taken.
    ///
    /// # Panics
    /// If it has fewer than `skip` bytes.
    pub fn write_to(&self, to: impl AsFd, skip: usize) -> std::io::Result<usize> {
        assert!(skip <= self.len());
        self.map().write_out(self.begin() + skip, self.len() - skip, to)
    }

    /// The bytes in place, if nobody can change them any more: objects of `sealed` edges.
    pub fn sealed(&self) -> Option<&[u8]> {
        let map = self.own.as_ref()?;
        let at = map.at(0, self.len());
        // SAFETY: within the mapping, as `at` has checked, which lives as long as `self`. The file's seals, looked at before
        // it was mapped, let nobody write it, cut it short or punch holes into it, and cannot be taken away.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), self.len()) })
    }

    /// The bytes in place.
    ///
    /// # Safety
    /// No process that can write the object may change it while the slice lives. The producers of this crate do not:
    /// they write only what all have released. One that breaks the protocol could, unless the edge is `sealed`.
    pub unsafe fn as_slice(&self) -> &[u8] {
        let at = self.map().at(self.begin(), self.len());
        // SAFETY: within the mapping, as `at` has checked, which lives as long as `self`; that nobody writes is the
        // caller's word.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), self.len()) }
    }

    /// Done with it: its memory can be used again.
    pub fn release(self) {}

    /// Lets go of it without releasing it: the process that is started in the place of this one is given it again.
    pub fn keep(mut self) {
        self.kept = true;
    }

    fn map(&self) -> &ReadMap {
        match (&self.own, &self.reader.slab) {
            (Some(map), _) | (None, Some(map)) => map,
            (None, None) => unreachable!("an object of a store without a slab has its own memory"),
        }
    }

    /// Where in its mapping it begins.
    fn begin(&self) -> usize {
        if self.own.is_some() { 0 } else { self.entry.offset as usize }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Who panics has not finished with it.
        if !self.kept && !std::thread::panicking() {
            self.own = None; // first unmapped, then released: its memory is free when it is counted as free
            self.reader.release(self.slot, &self.entry);
        }
    }
}
