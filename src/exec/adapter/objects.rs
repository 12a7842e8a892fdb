//! Unmodified programs on object edges: all that one writes is one object; what one reads is one object behind another.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nexusflow_stage::object::{Object, ObjectInput, Writer};
use nexusflow_stage::ring::Until;
use nexusflow_stage::{Draft, Error as RingError};
use nexusflow_sys::pipe;

use super::drain::LINGER;
use super::{LIVES, Orders, Problem, ProcessEnd};

/// Room for a stream whose length nobody knows; and how much more at least when that is full.
const STEP_BYTES: usize = 256 * 1024;
/// An object is released once so much has been written after it: what a pipe and its reader's buffers hold.
const REDELIVER_BYTES: u64 = 128 * 1024;
/// How often to look whether a program has read all that its pipe holds: soon at first, then seldom.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(100);

/// From stores into the pipe that a program reads. An object is released when the program has read it, so that one that
/// is killed before is given it again.
pub(super) fn feed(mut input: ObjectInput, pipe: Arc<File>, orders: &Orders) -> Result<(), Problem> {
    let mut fed = Fed { pipe, written: 0, held: VecDeque::new() };
    let result = fed.all(&mut input, orders);
    fed.held.into_iter().for_each(|(object, _)| object.keep());
    result
}

struct Fed {
    pipe: Arc<File>,
    /// Bytes, of all objects.
    written: u64,
    /// What the program may not have read yet, with the bytes that were written when it was whole.
    held: VecDeque<(Object, u64)>,
}

impl Fed {
    fn all(&mut self, input: &mut ObjectInput, orders: &Orders) -> Result<(), Problem> {
        let mut look = FIRST_LOOK;
        loop {
            let until = if self.held.is_empty() { Until::forever() } else { Until::timeout(look) };
            match input.recv_until(until.or_bell(&orders.stop)) {
                Ok(Some(object)) => {
                    look = FIRST_LOOK;
                    if !self.write(object)? {
                        return Ok(());
                    }
                }
                Ok(None) if self.held.is_empty() => return Ok(()),
                // The end; but as long as the pipe is open we can see what has been read.
                Ok(None) => {
                    let until = Instant::now() + look;
                    if self.is_over(orders, until)? {
                        return Ok(());
                    }
                    look = (2 * look).min(LAST_LOOK);
                }
                Err(RingError::TimedOut) => look = (2 * look).min(LAST_LOOK),
                Err(RingError::Interrupted) => return Ok(()),
                Err(e) => return Err(Problem::Ring(e)),
            }
            if pipe::unread_bytes(&*self.pipe).map_err(Problem::Pipe)? == 0 {
                self.held.clear();
            }
        }
    }

    /// False: the program wants no more. Whether that is well is for its exit to say.
    fn write(&mut self, object: Object) -> Result<bool, Problem> {
        let mut done = 0;
        while done < object.len() {
            match object.write_to(&*self.pipe, done) {
                Ok(n) => done += n,
                Err(e) => {
                    object.keep();
                    return if over(&e) { Ok(false) } else { Err(Problem::Pipe(e)) };
                }
            }
        }
        self.written += done as u64;
        self.held.push_back((object, self.written));
        let read = self.written.saturating_sub(REDELIVER_BYTES);
        while self.held.front().is_some_and(|(_, end)| *end <= read) {
            self.held.pop_front();
        }
        Ok(true)
    }

    /// Waits a while, unless the loop has orders: whether they are to stop.
    fn is_over(&self, orders: &Orders, until: Instant) -> Result<bool, Problem> {
        if orders.stop.rings() {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        pipe::wait_readable([orders.wake.as_fd()], Some(left)).map_err(Problem::Pipe)?;
        let _ = orders.wake.drain();
        Ok(orders.stop.rings())
    }
}

/// The program wants no more; or it is dead, and somebody else has its end of the pipe.
fn over(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::WouldBlock)
}

/// From the pipe that a program writes into one object, as long as all that it writes. It is sealed if the program ends
/// well.
pub(super) fn drain(store: &Writer, max: usize, pipe: Arc<File>, orders: &Orders) -> Result<(), Problem> {
    match draw(store, max, pipe, orders) {
        // Nobody reads: closing the pipe tells the program, by SIGPIPE.
        Err(Problem::Ring(RingError::Closed { .. } | RingError::Interrupted)) => Ok(()),
        result => result,
    }
}

fn draw(store: &Writer, max: usize, pipe: Arc<File>, orders: &Orders) -> Result<(), Problem> {
    let until = || Until::forever().or_bell(&orders.stop);
    let mut draft = store.create(STEP_BYTES.min(max), until()).map_err(Problem::Ring)?;
    let (mut filled, mut patience) = (0, LINGER);
    loop {
        if !more_to_read(&pipe, orders, &mut patience)? {
            return Ok(()); // told to stop, or the pipe is held open by nobody we know
        }
        if store.is_closed() {
            return Ok(());
        }
        if filled == draft.len() {
            if filled == max {
                return last_byte(draft, &pipe, orders);
            }
            let longer = (filled + STEP_BYTES.max(filled / 4)).min(max);
            draft.resize(longer, until()).map_err(Problem::Ring)?;
        }
        match (&*pipe).read(&mut draft.as_mut_slice()[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Problem::Pipe(e)),
        }
    }
    draft.resize(filled, until()).map_err(Problem::Ring)?;
    drop(pipe);
    seal(draft, orders)
}

/// The object is as long as it may be: nothing may follow but the end.
fn last_byte(draft: Draft, mut pipe: &File, orders: &Orders) -> Result<(), Problem> {
    let (max, mut patience) = (draft.len(), LINGER);
    while more_to_read(pipe, orders, &mut patience)? {
        match pipe.read(&mut [0]) {
            Ok(0) => return seal(draft, orders),
            Ok(_) => return Err(Problem::TooLong { len: max + 1, max }),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Problem::Pipe(e)),
        }
    }
    Ok(())
}

fn seal(draft: Draft, orders: &Orders) -> Result<(), Problem> {
    if ended_well(orders)? {
        draft.seal().map_err(Problem::Ring)?;
    }
    Ok(())
}

/// True: read. False: there is nothing to wait for any more.
fn more_to_read(from: &File, orders: &Orders, patience: &mut Duration) -> Result<bool, Problem> {
    loop {
        if orders.stop.rings() {
            return Ok(false);
        }
        // Once the process is over, its order has been taken: only the pipe is left to watch.
        if orders.process.load(Ordering::Acquire) != LIVES {
            let since = Instant::now();
            let [more] = pipe::wait_readable([from.as_fd()], Some(*patience)).map_err(Problem::Pipe)?;
            *patience = patience.saturating_sub(since.elapsed());
            return Ok(more);
        }
        if let [true, _] = pipe::wait_readable([from.as_fd(), orders.wake.as_fd()], None).map_err(Problem::Pipe)? {
            return Ok(true);
        }
        let _ = orders.wake.drain();
    }
}

/// Waits until the process has ended: only one that has ended well has written all of its object.
fn ended_well(orders: &Orders) -> Result<bool, Problem> {
    loop {
        match orders.process.load(Ordering::Acquire) {
            LIVES if orders.stop.rings() => return Ok(false),
            LIVES => {
                pipe::wait_readable([orders.wake.as_fd()], None).map_err(Problem::Pipe)?;
                let _ = orders.wake.drain();
            }
            how => return Ok(how == ProcessEnd::Well as u8),
        }
    }
}
