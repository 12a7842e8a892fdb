//! Objects from C: made in place and sealed; received, looked at and released in any order.

use std::ffi::c_void;

use nexusflow_stage::{
    Draft as InnerDraft, Object as InnerObject, ObjectInput as InnerInput, ObjectOutput as InnerOutput,
};

use crate::input::Message;
use crate::status::{Failure, Status, call, give, handle, store, take_back, until};

/// An object edge that this stage reads.
pub struct ObjectInput(pub InnerInput);

/// An object edge that this stage writes.
pub struct ObjectOutput(pub InnerOutput);

/// An object that was received, until it is released.
pub struct Object(InnerObject);

/// Room for one object that is being made.
pub struct Draft(InnerDraft);

/// Waits for the next object, no longer than `timeout_ms` (0: not at all, below 0: for ever). NEXUSFLOW_END: none will come.
/// Each object stays until it is released, by nexusflow_object_release; several may be held at once.
///
/// # Safety
/// `input` is null or open; `object` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_input_recv(
    input: *mut ObjectInput,
    timeout_ms: i64,
    object: *mut *mut Object,
) -> Status {
    call(|| {
        if object.is_null() {
            return Err(Failure::invalid("the pointer for the object is null")); // before one is taken and lost
        }
        // SAFETY: the caller's word.
        let input = unsafe { &mut handle(input, "input")?.0 };
        let found = if timeout_ms == 0 { input.try_recv() } else { input.recv_until(until(timeout_ms)) };
        match found? {
            // SAFETY: not null, and may be written by the caller's word.
            Some(found) => unsafe { give(object, Object(found)) },
            None => Ok(Status::NEXUSFLOW_END),
        }
    })
}

/// Where the bytes of an object are. Read-only; good until it is released.
///
/// # Safety
/// `object` is null or not released; `bytes` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_bytes(object: *mut Object, bytes: *mut Message) -> Status {
    call(|| {
        // SAFETY: the caller's word. Only address and length are used; how long they are good was told.
        let slice = unsafe { handle(object, "object")?.0.as_slice() };
        // SAFETY: the caller's word.
        unsafe { store(bytes, Message { data: slice.as_ptr().cast(), len: slice.len() })? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Done with an object: once all consumers have released it, its memory is used again.
///
/// # Safety
/// `object` is null or not released, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_release(object: *mut Object) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { take_back(object, "object")? }.0.release();
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Closes the input. Objects that are held stay good.
///
/// # Safety
/// `input` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_input_close(input: *mut ObjectInput) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        drop(unsafe { take_back(input, "input")? });
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Room for an object of `len` bytes, when there is, or NEXUSFLOW_TIMED_OUT after `timeout_ms` (0: not at all, below 0: for
/// ever). Fill `room`, then seal the draft, or drop it.
///
/// # Safety
/// `output` is null or open; `draft` and `room` are null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_output_create(
    output: *mut ObjectOutput,
    len: usize,
    timeout_ms: i64,
    draft: *mut *mut Draft,
    room: *mut *mut c_void,
) -> Status {
    call(|| {
        if draft.is_null() {
            return Err(Failure::invalid("the pointer for the draft is null"));
        }
        // SAFETY: the caller's word.
        let output = unsafe { &handle(output, "output")?.0 };
        let made = if timeout_ms == 0 { output.try_create(len) } else { output.create_until(len, until(timeout_ms)) };
        let mut made = made?;
        // SAFETY: the caller's word; `draft` is not null.
        unsafe {
            store(room, made.as_mut_slice().as_mut_ptr().cast())?;
            give(draft, Draft(made))
        }
    })
}

/// Hands the object over to the consumers. Its bytes are not to be touched any more.
///
/// # Safety
/// `draft` is null or neither sealed nor dropped, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_draft_seal(draft: *mut Draft) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { take_back(draft, "draft")? }.0.seal()?;
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Gives the room back: the object was never there.
///
/// # Safety
/// `draft` is null or neither sealed nor dropped, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_draft_drop(draft: *mut Draft) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        drop(unsafe { take_back(draft, "draft")? });
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// Ends the stream and closes the output.
///
/// # Safety
/// `output` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_object_output_finish(output: *mut ObjectOutput) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        unsafe { take_back(output, "output")? }.0.finish();
        Ok(Status::NEXUSFLOW_OK)
    })
}
