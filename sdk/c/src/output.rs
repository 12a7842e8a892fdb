//! Writing an edge from C: sent from C's memory, or filled in place.

use std::ffi::c_void;
use std::ptr;
use std::slice;

use nexusflow_stage::Reservation;

use crate::input::Message;
use crate::status::{Failure, Result, Status, call, handle, store, take_back, until};

/// An edge that this stage writes.
pub struct Output {
    /// Room that C fills at the moment. It borrows what `inner` points to: dropped first, and before `inner` is used.
    room: Option<(Reservation<'static>, usize)>,
    inner: *mut nexusflow_stage::Output,
}

impl Output {
    pub fn new(inner: nexusflow_stage::Output) -> Self {
        Self { room: None, inner: Box::into_raw(Box::new(inner)) }
    }

    /// The output. Room that was not committed is given up.
    fn inner(&mut self) -> &mut nexusflow_stage::Output {
        self.room = None;
        // SAFETY: from `Box::into_raw`, freed only by `into_inner` and drop; the only other borrow has just ended.
        unsafe { &mut *self.inner }
    }

    fn reserve(&mut self, len: usize, timeout_ms: i64) -> Result<*mut c_void> {
        // SAFETY: `inner` stays where it is, and lives and is not used as long as `room` is there.
        let inner: &'static mut nexusflow_stage::Output = unsafe { &mut *ptr::from_mut(self.inner()) };
        let mut room = inner.reserve_until(len, until(timeout_ms))?;
        let at = room.as_mut_slice().as_mut_ptr();
        self.room = Some((room, len));
        Ok(at.cast())
    }

    fn into_inner(mut self) -> Box<nexusflow_stage::Output> {
        self.room = None;
        // SAFETY: from `Box::into_raw`; null from now on, so that drop does not free it too.
        unsafe { Box::from_raw(std::mem::replace(&mut self.inner, ptr::null_mut())) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.room = None;
        if !self.inner.is_null() {
            // SAFETY: from `Box::into_raw`, and not freed yet.
            drop(unsafe { Box::from_raw(self.inner) });
        }
    }
}

/// How long a message on this edge may be.
///
/// # Safety
/// `output` is null or open; `max_message` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_max_message(output: *mut Output, max_message: *mut usize) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { store(max_message, handle(output, "output")?.inner().max_message())? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Sends one message, copied from `data`, when there is room.
///
/// # Safety
/// `output` is null or open; `len` bytes at `data` may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_send(output: *mut Output, data: *const c_void, len: usize) -> Status {
    // SAFETY: the caller's word.
    unsafe { nexusflow_output_send_timeout(output, data, len, -1) }
}

/// As nexusflow_output_send, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
/// below 0 is for ever.
///
/// # Safety
/// `output` is null or open; `len` bytes at `data` may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_send_timeout(
    output: *mut Output,
    data: *const c_void,
    len: usize,
    timeout_ms: i64,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (output, bytes) = unsafe { (handle(output, "output")?, bytes(data, len)?) };
        output.inner().send_until(bytes, until(timeout_ms))?;
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Sends one message to the consumer that its key belongs to, on edges that distribute `by: key`; elsewhere the key is not
/// looked at. `timeout_ms` is as in nexusflow_output_send_timeout.
///
/// # Safety
/// `output` is null or open; `key_len` bytes at `key` and `len` bytes at `data` may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_send_to(
    output: *mut Output,
    key: *const c_void,
    key_len: usize,
    data: *const c_void,
    len: usize,
    timeout_ms: i64,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (output, key, data) = unsafe { (handle(output, "output")?, bytes(key, key_len)?, bytes(data, len)?) };
        let mut room = output.inner().reserve_to_until(key, data.len(), until(timeout_ms))?;
        room.as_mut_slice().copy_from_slice(data);
        room.commit();
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// How many messages this stage has sent here, in all of its processes: a restarted producer goes on behind them.
///
/// # Safety
/// `output` is null or open; `count` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_committed(output: *mut Output, count: *mut u64) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { store(count, handle(output, "output")?.inner().committed())? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Sends messages in this order, copied. Those that fit become visible together, which costs less. On an error those
/// before the one that failed are sent.
///
/// # Safety
/// `output` is null or open; `messages` has `count` messages whose bytes may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_send_batch(
    output: *mut Output,
    messages: *const Message,
    count: usize,
) -> Status {
    call(|| {
        if messages.is_null() && count > 0 {
            return Err(Failure::invalid("the messages are null"));
        }
        // SAFETY: the caller's word.
        let (output, list) = unsafe {
            (handle(output, "output")?, if count == 0 { &[] } else { slice::from_raw_parts(messages, count) })
        };
        // SAFETY: the caller's word.
        if list.iter().any(|m| unsafe { bytes(m.data, m.len) }.is_err()) {
            return Err(Failure::invalid("the bytes of a message are null"));
        }
        // SAFETY: the caller's word; looked at just before.
        let all = list.iter().map(|m| unsafe { bytes(m.data, m.len) }.unwrap_or_default());
        output.inner().send_batch(all)?;
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Room in the edge itself for a message of at most `len` bytes, when there is: fill it, then commit. What was there
/// before may show. Any other call with this output gives the room up, and nothing is sent.
///
/// # Safety
/// `output` is null or open; `room` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_reserve(output: *mut Output, len: usize, room: *mut *mut c_void) -> Status {
    // SAFETY: the caller's word.
    unsafe { nexusflow_output_reserve_timeout(output, len, -1, room) }
}

/// As nexusflow_output_reserve, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
/// below 0 is for ever.
///
/// # Safety
/// `output` is null or open; `room` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_reserve_timeout(
    output: *mut Output,
    len: usize,
    timeout_ms: i64,
    room: *mut *mut c_void,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let at = unsafe { handle(output, "output")? }.reserve(len, timeout_ms)?;
        // SAFETY: the caller's word.
        unsafe { store(room, at)? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Sends the first `len` bytes of the room that was reserved last.
///
/// # Safety
/// `output` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_commit(output: *mut Output, len: usize) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let output = unsafe { handle(output, "output")? };
        match output.room.take() {
            None => Err(Failure::invalid("no room is reserved")),
            Some((room, reserved)) if len > reserved => {
                output.room = Some((room, reserved));
                Err(Failure::invalid(&format!("{len} bytes of a reservation of {reserved}")))
            }
            Some((room, _)) => {
                room.commit_len(len);
                Ok(Status::NEXUSFLOW_OK)
            }
        }
    })
}

/// Ends the stream and closes the output: consumers read what was sent, then the end. A process that exits with 0 ends
/// all of its streams.
///
/// # Safety
/// `output` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_finish(output: *mut Output) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { take_back(output, "output")? }.into_inner().finish();
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Closes the output without an end: that comes when the process exits with 0.
///
/// # Safety
/// `output` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_output_close(output: *mut Output) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        drop(unsafe { take_back(output, "output")? });
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// # Safety
/// `len` bytes at `data` may be read, unless it is null.
unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::invalid("the bytes of a message are null")),
        _ if isize::try_from(len).is_err() => Err(Failure::invalid("a message of an impossible length")),
        // SAFETY: not null, not too long; the rest is the caller's word.
        _ => Ok(unsafe { slice::from_raw_parts(data.cast(), len) }),
    }
}
