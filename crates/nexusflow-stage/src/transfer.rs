//! Exactly once: what a stage has read, what it sends for it, and a tag of its own, committed together.
//!
//! # Why it is exact
//!
//! A transfer reads without releasing and stages what it sends: records written behind the tail of each output ring,
//! their first header left out, so that no consumer can see any of them. [`Transfer::commit`] then does, in this order:
//!
//! 1. each output ring: the word "nothing yet" behind the last staged record;
//! 2. the journal: a slot that the selector does not point to gets the tag, the position up to which each input ring was
//!    read, and for each output ring the position and the word of the header that was left out;
//! 3. the journal's selector is turned to that slot. **This store is the commit**;
//! 4. each output ring: the header that was left out. It makes all staged records of its ring visible at once;
//! 5. each input ring: the cursor is moved.
//!
//! `kill -9` takes a process away between two of its stores; those before it stay, in the order they were made. The next
//! process of the replica attaches to the same rings and the same journal, and finishes the last transfer that the journal
//! has before anything can be read or sent:
//!
//! - Killed before 3: the selector points to the transfer before. No header of this one was written, no cursor was moved:
//!   it never happened. Its records lie behind the tails, where the next transfer writes over them.
//! - Killed after 3, before or within 4: of the output rings in the entry, some have their header and some have not. A
//!   ring has not if and only if its tail, found anew from its records, is the entry's position: with the header it would
//!   be behind it, and nothing else can have been published since, since this stage is the only producer. Those get
//!   it now. The records behind it are whole, since they were written before 3, and nobody writes there but a producer
//!   that goes on, which none has.
//! - Killed after 4, before or within 5: the output rings have their headers. Cursors that stand before the entry's
//!   position are moved there; those that stand at it were moved.
//! - Killed within the next transfer before its own 3: the entry of this one is found, and finished: nothing of it is left
//!   to do, so nothing is done.
//! - Killed while it finishes, at any store: the journal has not changed, so the next process finds the same entry, and what
//!   was done is seen to be done by the same two tests. Only the commit of a next transfer writes the journal, and none
//!   is handed out before all is finished.
//!
//! An entry tells of the rings that its transfer touched, and that is enough: 4 and 5 of each transfer are done before 2
//! of the next begins. Input rings that an entry tells of and that this process does not have yet (those that the runner
//! makes late, to hand over what a replica left behind) are told of again by each later entry until it has them.
//!
//! Entries are checked like everything that is shared. A wrong one can only come from this stage itself, and is an error.

#[cfg(test)]
mod tests;

use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};
use crate::input::Input;
use crate::journal::{Entry, Journal, Mark};
use crate::output::Output;

/// Inputs and outputs of a stage that are committed together, exactly once: see
/// [`Stage::transfer`](crate::Stage::transfer).
#[derive(Debug)]
pub struct Transfer {
    /// In the order they were named. What is received here is released by the commit.
    pub inputs: Inputs,
    /// In the order they were named. What is sent here becomes visible with the commit, all together.
    pub outputs: Outputs,
    journal: Journal,
    tag: Vec<u8>,
    commits: u64,
    /// To be used again.
    marks: Vec<Mark>,
}

/// The inputs of a [`Transfer`]: a slice of them.
#[derive(Debug)]
pub struct Inputs(Vec<Input>);

/// The outputs of a [`Transfer`]: a slice of them.
#[derive(Debug)]
pub struct Outputs(Vec<Output>);

impl Transfer {
    /// With edges that were just opened, each with its number: finishes what the last entry tells of.
    pub(crate) fn begin(
        journal: Journal,
        entry: Entry,
        inputs: Vec<(u32, Input)>,
        outputs: Vec<(u32, Output)>,
    ) -> Result<Self> {
        let known = |edge| inputs.iter().map(|i| i.0).chain(outputs.iter().map(|o| o.0)).any(|number| number == edge);
        if !entry.marks.iter().all(|mark| known(mark.edge)) {
            let what = "an edge that this transfer is without".to_owned();
            return Err(Error::Journal { what });
        }
        let of = |edge: u32| entry.marks.iter().filter(move |mark| mark.edge == edge);
        let output = |(number, mut output): (u32, Output)| output.transfer(number, of(number)).map(|()| output);
        let outputs = outputs.into_iter().map(output).collect::<Result<_>>()?;
        let input = |(number, mut input): (u32, Input)| input.transfer(number, of(number)).map(|()| input);
        let inputs = inputs.into_iter().map(input).collect::<Result<_>>()?;
        let Entry { number: commits, tag, .. } = entry;
        Ok(Self { inputs: Inputs(inputs), outputs: Outputs(outputs), journal, tag, commits, marks: Vec::new() })
    }

    /// The tag of the last commit, by whichever process of this stage; empty before the first.
    pub fn tag(&self) -> &[u8] {
        &self.tag
    }

    /// How many commits there were, by all processes that have been this stage.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// All that was received and sent since the last commit happens now, once and for good, and leaves this tag. Should
    /// the process be killed before, none of it has happened: a next process receives the same messages again. After,
    /// the next one goes on behind them and finds the tag.
    ///
    /// A tag has at most [`MAX_TAG`](crate::MAX_TAG) bytes: how far a file was read, a running total.
    pub fn commit(&mut self, tag: &[u8]) -> Result<()> {
        let Self { inputs, outputs, journal, marks, .. } = self;
        marks.clear();
        outputs.0.iter_mut().for_each(|output| output.staged(marks));
        inputs.0.iter().for_each(|input| input.read(marks));
        journal.commit(tag, marks)?;
        outputs.0.iter_mut().for_each(Output::publish);
        inputs.0.iter_mut().for_each(Input::commit);
        self.commits = self.commits.wrapping_add(1);
        self.tag.clear();
        self.tag.extend_from_slice(tag);
        Ok(())
    }

    /// Ends the streams of all outputs. An error if something was received or sent that is not committed.
    ///
    /// A process that is killed after the last commit and before it has ended is followed by one that finds all read,
    /// and the last tag: let that say that nothing is left to send.
    pub fn finish(mut self) -> Result<()> {
        let inputs = self.inputs.0.iter().filter(|i| i.is_uncommitted()).map(Input::name);
        let mut uncommitted = inputs.chain(self.outputs.0.iter().filter(|o| o.is_uncommitted()).map(Output::name));
        if let Some(edge) = uncommitted.next() {
            return Err(Error::NotCommitted { edge: edge.to_owned() });
        }
        drop(uncommitted);
        self.outputs.0.iter_mut().for_each(Output::end);
        Ok(())
    }
}

impl Deref for Inputs {
    type Target = [Input];
    fn deref(&self) -> &[Input] {
        &self.0
    }
}

impl DerefMut for Inputs {
    fn deref_mut(&mut self) -> &mut [Input] {
        &mut self.0
    }
}

impl Deref for Outputs {
    type Target = [Output];
    fn deref(&self) -> &[Output] {
        &self.0
    }
}

impl DerefMut for Outputs {
    fn deref_mut(&mut self) -> &mut [Output] {
        &mut self.0
    }
}
