//! An object that is being made: room to fill in place, then sealed or given back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nexusflow_sys::map::WriteMap;
use nexusflow_sys::memfd;

use super::writer::Shared;
use crate::error::{Error, Result};
use crate::ring::Until;

/// Room for one object: fill it, then seal it. Dropped, it was never there.
#[derive(Debug)]
pub struct Draft {
    writer: Arc<Shared>,
    /// None once it was sealed.
    slot: Option<usize>,
    place: Place,
    len: usize,
    /// Its own memory, if objects have their own.
    own: Option<(OwnedFd, WriteMap)>,
}

/// Memory that belongs to one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// In the slab.
    pub offset: u64,
    /// Bytes, `len` or more.
    pub room: u64,
}

impl Draft {
    pub(super) fn new(writer: Arc<Shared>, slot: usize, place: Place, len: usize) -> Result<Self> {
        let mut draft = Self { writer, slot: Some(slot), place, len, own: None };
        if draft.writer.shape.sealed {
            let make = || {
                let fd = memfd::create(&format!("nexusflow:{}", draft.writer.edge), draft.place.room)?;
                let map = map(&fd, draft.place.room)?;
                Ok((fd, map))
            };
            let own = make().map_err(Error::io("make an object"))?;
            draft.own = Some(own);
        }
        Ok(draft)
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where its bytes go. What was there before may show.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let at = match (&self.own, &self.writer.slab) {
            (Some((_, map)), _) => map.at(0, self.len),
            (None, Some(slab)) => slab.at(self.place.offset as usize, self.len),
            (None, None) => unreachable!("a store without a slab gives each object its own memory"),
        };
        // SAFETY: `at` checked that the bytes are within the mapping, which lives as long as `self`. The place was taken
        // out of what is free for this draft alone: this process's only writer of the store hands it out once (a second
        // writer is attached when the first process is dead), no consumer is told of it before it is sealed, which
        // consumes `self`, and nothing else in this process makes a reference to it. Mapped memory is initialised.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), self.len) }
    }

    /// Makes it `len` bytes, longer or shorter, when there is room. Its bytes stay as far as they reach.
    pub fn resize(&mut self, len: usize, until: Until<'_>) -> Result<()> {
        let wanted = self.writer.fits(len)?;
        if wanted > self.place.room {
            let place = self.writer.grow(self.place, wanted, until)?;
            self.move_to(place)?;
        }
        self.len = len;
        Ok(())
    }

    /// Takes its bytes along to a place that was found for it: the same but longer, or another in the slab.
    fn move_to(&mut self, place: Place) -> Result<()> {
        let old = std::mem::replace(&mut self.place, place);
        if let Some((fd, old)) = &mut self.own {
            let grow = || {
                memfd::set_len(fd.as_fd(), place.room)?;
                map(fd, place.room)
            };
            *old = grow().map_err(Error::io("make an object longer"))?;
        } else if let Some(slab) = &self.writer.slab
            && place.offset != old.offset
        {
            let (from, to) = (slab.at(old.offset as usize, self.len), slab.at(place.offset as usize, self.len));
            // SAFETY: both are within the mapping, as `at` has checked; both were taken for this draft alone, so that they
            // do not overlap and nobody else reads or writes them.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), self.len) };
            self.writer.give_back(None, &old);
        }
        Ok(())
    }

    /// Hands it over to the consumers: they can read it from now on, and nobody writes it any more. Its number.
    pub fn seal(mut self) -> Result<u64> {
        let own = self.own.take().map(|(fd, map)| {
            drop(map); // it can only be sealed once nobody can write it
            let room = super::store::whole_pages(self.len as u64);
            if room != self.place.room {
                memfd::set_len(fd.as_fd(), room)?;
            }
            memfd::seal_contents(fd.as_fd())?;
            memfd::read_only(fd.as_fd())
        });
        let own = own.transpose().map_err(Error::io("seal an object"))?;
        let Some(slot) = self.slot else { unreachable!("a draft has its slot until it is sealed") };
        let number = self.writer.publish(slot, self.place, self.len as u64, own)?;
        self.slot = None;
        Ok(number)
    }
}

/// Maps an object's own memory and gives it its pages: together they cost less than one by one.
fn map(fd: &OwnedFd, room: u64) -> std::io::Result<WriteMap> {
    let map = WriteMap::new(fd, room as usize)?;
    if map.populate().is_err() {
        memfd::allocate(fd.as_fd(), room)?;
    }
    Ok(map)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.own = None;
            self.writer.give_back(Some(slot), &self.place);
        }
    }
}
