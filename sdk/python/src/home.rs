//! Where an input or output lives: by itself, or in a transfer that commits several together.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Arc;

use nexusflow_stage::{Input, Output, Transfer};

/// The transfer that some edges live in. `None` when it is finished.
///
/// Its edges are used through [`Lent`], each under the lock of its Python object; the transfer as a whole only by who holds
/// the locks of all of them (`transfer.rs`).
pub struct Home(UnsafeCell<Option<Transfer>>);

// SAFETY: see above: there is always a lock that keeps uses of the same part apart.
unsafe impl Sync for Home where Option<Transfer>: Send {}

impl Home {
    pub fn new(transfer: Transfer) -> Arc<Self> {
        Arc::new(Self(UnsafeCell::new(Some(transfer))))
    }

    /// The transfer as a whole.
    ///
    /// # Safety
    /// The caller holds the locks of all edges of it, none of which has a reservation open, and afterwards lends them anew.
    #[allow(clippy::mut_from_ref)] // that is what the contract is about
    pub unsafe fn whole(&self) -> &mut Option<Transfer> {
        // SAFETY: the caller's word.
        unsafe { &mut *self.0.get() }
    }
}

/// An input or output: owned, or lent by a transfer, or gone.
pub struct Lent<T> {
    /// Null when gone.
    at: *mut T,
    /// `None`: from a Box of our own.
    home: Option<Arc<Home>>,
}

// SAFETY: what the pointer hides is a Box, or a part of a transfer that only who holds this may use.
unsafe impl<T: Send> Send for Lent<T> {}

impl<T> Lent<T> {
    pub fn own(inner: T) -> Self {
        Self { at: Box::into_raw(Box::new(inner)), home: None }
    }

    fn of(home: &Arc<Home>, part: &mut T) -> Self {
        Self { at: part, home: Some(home.clone()) }
    }

    pub fn get(&mut self) -> Option<&mut T> {
        // SAFETY: null, or a Box of our own, or a part of `home`, which lives as long and lends it to us alone.
        unsafe { self.at.as_mut() }
    }

    /// For reservations: a borrow that outlives this one.
    ///
    /// # Safety
    /// It ends before this is used again, moved out of or dropped.
    pub unsafe fn get_longer(&mut self) -> Option<&'static mut T> {
        // SAFETY: as in `get`; for how long is the caller's word.
        unsafe { self.at.as_mut() }
    }

    pub fn is_of_transfer(&self) -> bool {
        self.home.is_some()
    }

    /// Takes it out, if it is our own.
    pub fn take(&mut self) -> Option<Box<T>> {
        if self.home.is_some() || self.at.is_null() {
            return None;
        }
        // SAFETY: from a Box, and replaced by null.
        Some(unsafe { Box::from_raw(std::mem::replace(&mut self.at, ptr::null_mut())) })
    }

    /// It has gone with its transfer.
    pub fn is_gone(&mut self) {
        drop(self.take());
        self.at = ptr::null_mut();
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Every edge of a transfer, in its order.
///
/// # Safety
/// As for [`Home::whole`]; what was lent before is not used again.
pub unsafe fn lend(home: &Arc<Home>) -> (Vec<Lent<Input>>, Vec<Lent<Output>>) {
    // SAFETY: the caller's word.
    match unsafe { home.whole() } {
        Some(Transfer { inputs, outputs, .. }) => {
            let inputs = inputs.iter_mut().map(|input| Lent::of(home, input)).collect();
            (inputs, outputs.iter_mut().map(|output| Lent::of(home, output)).collect())
        }
        None => (vec![], vec![]),
    }
}
