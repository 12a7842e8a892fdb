//! Reading an edge from C: messages where they lie, until they are released.

use std::ffi::c_void;
use std::ptr;

use nexusflow_stage::Error;
use nexusflow_stage::ring::{Bytes, Until};

use crate::status::{Failure, Result, Status, call, handle, store, take_back, until};

/// An edge that this stage reads.
pub struct Input {
    inner: nexusflow_stage::Input,
}

/// A message in place, in the edge's memory, which is read-only here. Good until the next call with this input.
///
/// Another process has written it, which is trusted to leave it alone now: every one that uses a nexusflow library does.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    pub data: *const c_void,
    pub len: usize,
}

impl Input {
    pub fn new(inner: nexusflow_stage::Input) -> Self {
        Self { inner }
    }
}

impl Message {
    const NONE: Self = Self { data: ptr::null(), len: 0 };

    fn of(bytes: Bytes<'_>) -> Self {
        // SAFETY: only the address and the length are used; what C does with them is said at `Message`.
        let slice = unsafe { bytes.as_slice() };
        Self { data: slice.as_ptr().cast(), len: slice.len() }
    }
}

/// Waits for the next message. NEXUSFLOW_END: none will come. It releases the message before: that is done with, and
/// will not be given again to this stage should it be restarted.
///
/// # Safety
/// `input` is null or open; `message` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_recv(input: *mut Input, message: *mut Message) -> Status {
    // SAFETY: the caller's word.
    call(|| unsafe { receive(input, message, |input| input.recv_until(Until::forever())) })
}

/// As nexusflow_input_recv, but waits no longer than `timeout_ms`: then NEXUSFLOW_TIMED_OUT. 0 does not wait at all,
/// below 0 is for ever.
///
/// # Safety
/// `input` is null or open; `message` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_recv_timeout(
    input: *mut Input,
    timeout_ms: i64,
    message: *mut Message,
) -> Status {
    call(|| {
        let receive_in_time = |input: &'static mut nexusflow_stage::Input| match timeout_ms {
            0 => input.try_recv(),
            _ => input.recv_until(until(timeout_ms)),
        };
        // SAFETY: the caller's word.
        unsafe { receive(input, message, receive_in_time) }
    })
}

/// The next messages, `max` at most and at least one: `count` says how many. It waits for the first only, as
/// nexusflow_input_recv_timeout does. All are good until the next call with this input, and released by it.
///
/// # Safety
/// `input` is null or open; `messages` is null or has room for `max`; `count` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_recv_batch(
    input: *mut Input,
    timeout_ms: i64,
    messages: *mut Message,
    max: usize,
    count: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's word; also tells of a null before a message is taken and lost.
        unsafe { store(count, 0)? };
        if messages.is_null() || max == 0 {
            return Err(Failure::invalid("there is no room for messages"));
        }
        // SAFETY: the caller's word.
        let inner = unsafe { &mut handle(input, "input")?.inner };
        let found = match timeout_ms {
            0 => inner.try_recv_batch(max)?,
            _ => inner.recv_batch_until(max, until(timeout_ms))?,
        };
        let Some(found) = found else { return Ok(Status::NEXUSFLOW_END) };
        let mut taken = 0;
        for message in found.take(max) {
            // SAFETY: there is room for `max` by the caller's word.
            unsafe { messages.add(taken).write(Message::of(message)) };
            taken += 1;
        }
        // SAFETY: the caller's word.
        unsafe { store(count, taken)? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Gives back the message that came last, for who will not ask for another soon.
///
/// # Safety
/// `input` is null or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_release(input: *mut Input) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { handle(input, "input")? }.inner.release();
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Reads no more, and closes the input: the producers go on without this stage, or are told that nobody reads.
///
/// # Safety
/// `input` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_detach(input: *mut Input) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { take_back(input, "input")? }.inner.detach();
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Closes the input. What was not released will be given to the stage's next process, if there is one; until this
/// process ends, producers wait for it.
///
/// # Safety
/// `input` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_input_close(input: *mut Input) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        drop(unsafe { take_back(input, "input")? });
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// # Safety
/// As for [`nexusflow_input_recv`].
unsafe fn receive(
    input: *mut Input,
    message: *mut Message,
    ask: impl FnOnce(&'static mut nexusflow_stage::Input) -> std::result::Result<Option<Bytes<'static>>, Error>,
) -> Result<Status> {
    if message.is_null() {
        return Err(Failure::invalid("the pointer for the message is null")); // before one is taken and lost
    }
    // SAFETY: the caller's word. The message lives until the next call with this input, as C was told.
    unsafe {
        let found = ask(&mut handle(input, "input")?.inner);
        let (status, found) = match found {
            Ok(Some(bytes)) => (Ok(Status::NEXUSFLOW_OK), Message::of(bytes)),
            Ok(None) => (Ok(Status::NEXUSFLOW_END), Message::NONE),
            Err(e) => (Err(e.into()), Message::NONE),
        };
        store(message, found)?;
        status
    }
}
