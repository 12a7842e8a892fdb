//! What a call gives back: a code, and words for it that the calling thread can ask for.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use nexusflow_stage::Error;
use nexusflow_stage::ring::Until;

/// How a call ended. What is not 0 has words: see nexusflow_error_message().
#[allow(non_camel_case_types)] // as C spells them
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Status {
    /// All well.
    NEXUSFLOW_OK = 0,
    /// The end: all producers have ended, no message will follow. No failure.
    NEXUSFLOW_END = 1,
    /// The time given has passed.
    NEXUSFLOW_TIMED_OUT = 2,
    /// Nobody reads the edge any more: stop producing. No failure of this stage.
    NEXUSFLOW_CLOSED = 3,
    /// The wait was ended from elsewhere.
    NEXUSFLOW_INTERRUPTED = 4,
    /// A null pointer, or another argument that cannot be.
    NEXUSFLOW_INVALID = 5,
    /// The process was not started by nexusflow as a stage, or is one already.
    NEXUSFLOW_NOT_A_STAGE = 6,
    /// The stage has no such edge in this direction.
    NEXUSFLOW_UNKNOWN_EDGE = 7,
    /// The edge was opened before.
    NEXUSFLOW_ALREADY_OPEN = 8,
    /// A message, batch or tag is longer than is taken.
    NEXUSFLOW_TOO_LONG = 9,
    /// The edge was finished: nothing can follow the end.
    NEXUSFLOW_FINISHED = 10,
    /// A peer left nonsense in the memory of the edge. It cannot be used any more.
    NEXUSFLOW_POISONED = 11,
    /// The runner has gone away.
    NEXUSFLOW_RUNNER_GONE = 12,
    /// The runner refused, or speaks another version of the protocol.
    NEXUSFLOW_PROTOCOL = 13,
    /// A system call failed.
    NEXUSFLOW_IO = 14,
    /// The edge distributes by key, and the message was sent without one.
    NEXUSFLOW_NO_KEY = 17,
    /// A transfer was given more than it can hold, or ends, with something it has not committed.
    NEXUSFLOW_UNCOMMITTED = 18,
    /// Something else that a newer version knows of.
    NEXUSFLOW_OTHER = 15,
    /// A bug in this library. The handle that was used must not be used again.
    NEXUSFLOW_BUG = 16,
}

/// Why a call did not end well.
pub struct Failure {
    status: Status,
    words: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn invalid(words: &str) -> Self {
        Self { status: Status::NEXUSFLOW_INVALID, words: words.to_owned() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::NotAStage(_) => Status::NEXUSFLOW_NOT_A_STAGE,
            Error::RunnerGone => Status::NEXUSFLOW_RUNNER_GONE,
            Error::Protocol(_) | Error::Version { .. } => Status::NEXUSFLOW_PROTOCOL,
            Error::UnknownEdge { .. } => Status::NEXUSFLOW_UNKNOWN_EDGE,
            Error::AlreadyOpen { .. } | Error::SecondTransfer => Status::NEXUSFLOW_ALREADY_OPEN,
            Error::Uncommitted { .. } | Error::NotCommitted { .. } => Status::NEXUSFLOW_UNCOMMITTED,
            Error::NoKey { .. } => Status::NEXUSFLOW_NO_KEY,
            Error::BatchTooLong { .. } | Error::TagTooLong { .. } | Error::TooLong { .. } => Status::NEXUSFLOW_TOO_LONG,
            Error::Closed { .. } => Status::NEXUSFLOW_CLOSED,
            Error::Finished { .. } => Status::NEXUSFLOW_FINISHED,
            Error::Poisoned { .. } | Error::Journal { .. } => Status::NEXUSFLOW_POISONED,
            Error::TimedOut => Status::NEXUSFLOW_TIMED_OUT,
            Error::Interrupted => Status::NEXUSFLOW_INTERRUPTED,
            Error::Io { .. } => Status::NEXUSFLOW_IO,
            _ => Status::NEXUSFLOW_OTHER,
        };
        Self { status, words: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// The words for the last status of this thread that was not NEXUSFLOW_OK; empty if there was none. Never null; good
/// until the next call of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn nexusflow_error_message() -> *const c_char {
    // Not to be had only while the thread ends.
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs the inside of a call: whatever happens there becomes a status.
pub fn call(inside: impl FnOnce() -> Result<Status>) -> Status {
    let (status, words) = match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(Ok(Status::NEXUSFLOW_OK)) => return Status::NEXUSFLOW_OK,
        Ok(Ok(status)) => (status, "the end of the stream".to_owned()),
        Ok(Err(failure)) => (failure.status, failure.words),
        Err(_) => (Status::NEXUSFLOW_BUG, "a bug in the nexusflow library".to_owned()),
    };
    let words = CString::new(words.replace('\0', "\\0")).unwrap_or_default();
    let _ = LAST.try_with(|last| *last.borrow_mut() = words);
    status
}

/// What a handle points to.
///
/// # Safety
/// It is null, or was made by this library, is not closed, and no other call uses it.
pub unsafe fn handle<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: the caller's word.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::invalid(&format!("{what} is null")))
}

/// Takes a handle back from C.
///
/// # Safety
/// It is null, or was made by [`give`], is not closed, and nobody uses it, now or later.
pub unsafe fn take_back<T>(pointer: *mut T, what: &str) -> Result<Box<T>> {
    match pointer.is_null() {
        true => Err(Failure::invalid(&format!("{what} is null"))),
        // SAFETY: it came from `Box::into_raw`, once.
        false => Ok(unsafe { Box::from_raw(pointer) }),
    }
}

/// Hands a new handle to C.
///
/// # Safety
/// `to` is null or may be written.
pub unsafe fn give<T>(to: *mut *mut T, value: T) -> Result<Status> {
    // SAFETY: the caller's word.
    unsafe { store(to, Box::into_raw(Box::new(value)))? };
    Ok(Status::NEXUSFLOW_OK)
}

/// Writes a result through a pointer of C's.
///
/// # Safety
/// `to` is null or may be written.
pub unsafe fn store<T>(to: *mut T, value: T) -> Result<()> {
    if to.is_null() {
        return Err(Failure::invalid("the pointer for the result is null"));
    }
    // SAFETY: the caller's word; what was there before is C's, and is not dropped.
    unsafe { ptr::write(to, value) };
    Ok(())
}

/// Milliseconds as C gives them: below 0 for ever.
pub fn until(timeout_ms: i64) -> Until<'static> {
    match u64::try_from(timeout_ms) {
        Ok(ms) => Until::timeout(Duration::from_millis(ms)),
        Err(_) => Until::forever(),
    }
}
