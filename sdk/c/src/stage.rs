//! The stage itself: opened from the environment, who it is, and its edges.

use std::ffi::{CStr, CString, c_char};

use crate::input::Input;
use crate::object::{ObjectInput, ObjectOutput};
use crate::output::Output;
use crate::status::{Failure, Result, Status, call, give, store, take_back};

/// This process as a stage of a pipeline.
pub struct Stage {
    inner: nexusflow_stage::Stage,
    pipeline: CString,
    run: CString,
    name: CString,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

/// Who a stage is. The texts live as long as the stage.
#[repr(C)]
pub struct Identity {
    pub pipeline: *const c_char,
    pub run: *const c_char,
    /// The stage's name in the pipeline file.
    pub stage: *const c_char,
    /// Which replica this is: from 0.
    pub replica: u32,
    pub replicas: u32,
    /// Which process of this replica this is: 1, and one more after each restart.
    pub attempt: u32,
}

/// Takes up the socket that nexusflow started this process with. Once per process.
///
/// # Safety
/// `stage` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_open(stage: *mut *mut Stage) -> Status {
    call(|| {
        if stage.is_null() {
            return Err(Failure::invalid("the pointer for the stage is null")); // before the socket is taken
        }
        let inner = nexusflow_stage::Stage::from_env()?;
        let list = |names: Vec<&str>| names.into_iter().map(text).collect();
        let opened = Stage {
            pipeline: text(inner.pipeline()),
            run: text(inner.run()),
            name: text(inner.name()),
            inputs: list(inner.inputs()),
            outputs: list(inner.outputs()),
            inner,
        };
        // SAFETY: not null, and may be written by the caller's word.
        unsafe { give(stage, opened) }
    })
}

/// Who this stage is.
///
/// # Safety
/// `stage` is null or open; `identity` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_identity(stage: *const Stage, identity: *mut Identity) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let stage = unsafe { shared(stage)? };
        let found = Identity {
            pipeline: stage.pipeline.as_ptr(),
            run: stage.run.as_ptr(),
            stage: stage.name.as_ptr(),
            replica: stage.inner.replica(),
            replicas: stage.inner.replicas(),
            attempt: stage.inner.attempt(),
        };
        // SAFETY: the caller's word.
        unsafe { store(identity, found)? };
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// The name of input `number`, from 0; NEXUSFLOW_END behind the last. It lives as long as the stage.
///
/// # Safety
/// `stage` is null or open; `name` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_input_name(
    stage: *const Stage,
    number: usize,
    name: *mut *const c_char,
) -> Status {
    // SAFETY: the caller's word.
    call(|| unsafe { listed(&shared(stage)?.inputs, number, name) })
}

/// The name of output `number`, from 0; NEXUSFLOW_END behind the last. It lives as long as the stage.
///
/// # Safety
/// `stage` is null or open; `name` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_output_name(
    stage: *const Stage,
    number: usize,
    name: *mut *const c_char,
) -> Status {
    // SAFETY: the caller's word.
    call(|| unsafe { listed(&shared(stage)?.outputs, number, name) })
}

/// Opens an edge to read. It waits until everyone on the edge runs.
///
/// # Safety
/// `stage` is null or open; `name` is null or a text with a zero at its end; `input` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_input(
    stage: *const Stage,
    name: *const c_char,
    input: *mut *mut Input,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (stage, name) = unsafe { (shared(stage)?, named(name)?) };
        if input.is_null() {
            return Err(Failure::invalid("the pointer for the input is null")); // an edge is opened once
        }
        let opened = Input::new(stage.inner.input(name)?);
        // SAFETY: not null, and may be written by the caller's word.
        unsafe { give(input, opened) }
    })
}

/// Opens an edge to write. It waits until everyone on the edge runs.
///
/// # Safety
/// `stage` is null or open; `name` is null or a text with a zero at its end; `output` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_output(
    stage: *const Stage,
    name: *const c_char,
    output: *mut *mut Output,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (stage, name) = unsafe { (shared(stage)?, named(name)?) };
        if output.is_null() {
            return Err(Failure::invalid("the pointer for the output is null"));
        }
        let opened = Output::new(stage.inner.output(name)?);
        // SAFETY: not null, and may be written by the caller's word.
        unsafe { give(output, opened) }
    })
}

/// Opens an edge of `kind: object` to read. It waits until everyone on the edge runs.
///
/// # Safety
/// `stage` is null or open; `name` is null or a text with a zero at its end; `input` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_object_input(
    stage: *const Stage,
    name: *const c_char,
    input: *mut *mut ObjectInput,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (stage, name) = unsafe { (shared(stage)?, named(name)?) };
        if input.is_null() {
            return Err(Failure::invalid("the pointer for the input is null"));
        }
        let opened = ObjectInput(stage.inner.object_input(name)?);
        // SAFETY: not null, and may be written by the caller's word.
        unsafe { give(input, opened) }
    })
}

/// Opens an edge of `kind: object` to write. It waits until everyone on the edge runs.
///
/// # Safety
/// `stage` is null or open; `name` is null or a text with a zero at its end; `output` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_object_output(
    stage: *const Stage,
    name: *const c_char,
    output: *mut *mut ObjectOutput,
) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        let (stage, name) = unsafe { (shared(stage)?, named(name)?) };
        if output.is_null() {
            return Err(Failure::invalid("the pointer for the output is null"));
        }
        let opened = ObjectOutput(stage.inner.object_output(name)?);
        // SAFETY: not null, and may be written by the caller's word.
        unsafe { give(output, opened) }
    })
}

/// Closes the stage's talk with the runner. Open inputs and outputs stay good.
///
/// # Safety
/// `stage` is null or open, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nexusflow_stage_close(stage: *mut Stage) -> Status {
    call(|| {
        // SAFETY: the caller's word.
        drop(unsafe { take_back(stage, "stage")? });
        Ok(Status::NEXUSFLOW_OK)
    })
}

/// A stage may be used by several threads at once, hence not `handle`.
///
/// # Safety
/// It is null or open.
unsafe fn shared<'a>(stage: *const Stage) -> Result<&'a Stage> {
    // SAFETY: the caller's word; the inside of a Stage is Sync, and nothing here writes to it.
    unsafe { stage.as_ref() }.ok_or_else(|| Failure::invalid("stage is null"))
}

/// # Safety
/// It is null or a text with a zero at its end that lives as long as the call.
unsafe fn named<'a>(name: *const c_char) -> Result<&'a str> {
    if name.is_null() {
        return Err(Failure::invalid("the name of the edge is null"));
    }
    // SAFETY: not null; the rest is the caller's word.
    unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Failure::invalid("the name of the edge is not UTF-8"))
}

/// # Safety
/// `name` is null or may be written.
unsafe fn listed(list: &[CString], number: usize, name: *mut *const c_char) -> Result<Status> {
    let Some(found) = list.get(number) else { return Ok(Status::NEXUSFLOW_END) };
    // SAFETY: the caller's word.
    unsafe { store(name, found.as_ptr())? };
    Ok(Status::NEXUSFLOW_OK)
}

/// Names have no zeros within; should one ever have, it ends there.
fn text(name: &str) -> CString {
    CString::new(name.split('\0').next().unwrap_or_default()).unwrap_or_default()
}
