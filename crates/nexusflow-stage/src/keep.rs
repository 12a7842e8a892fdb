//! Messages that are kept while others are asked for: which they are, and how far each ring may be released meanwhile.
//!
//! For bindings to languages whose views of a message live as long as somebody looks: what a view shows must not be
//! released, hence not overwritten, and its memory stays mapped, also when the ring has ended.

use nexusflow_sys::map::WriteMap;

use crate::ring::Consumer;

/// A message that stays in its edge, and in place, until it is [let go](crate::Input::let_go).
#[derive(Debug)]
#[must_use = "it stays in the edge until it is let go"]
pub struct Kept {
    ring: u32,
    position: u64,
    copied: bool,
}

impl Kept {
    /// Which of the input's producers it came from.
    pub fn ring(&self) -> u32 {
        self.ring
    }

    /// Whether what came after it from the same producer stays in place too. Not where the oldest may be dropped: there
    /// each message that is kept is a copy of its own.
    pub fn keeps_what_follows(&self) -> bool {
        !self.copied
    }
}

/// What one input keeps.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The names of the rings, in their order, which stay when a ring leaves.
    names: Vec<u32>,
    /// Ring and position of each kept message. Few, so it is searched.
    kept: Vec<(u32, u64)>,
    /// Rings that have ended while messages of theirs were kept.
    ended: Vec<(u32, Consumer)>,
    /// Where the message lies that was taken last.
    last: u64,
    /// Kept messages that lie in memory of their own.
    copies: Vec<((u32, u64), WriteMap)>,
}

impl Keeper {
    pub fn new(rings: usize) -> Self {
        Self { names: (0..rings as u32).collect(), kept: vec![], ended: vec![], last: 0, copies: vec![] }
    }

    /// A message was taken from this position of its ring.
    pub fn taken(&mut self, position: u64) {
        self.last = position;
    }

    /// Keeps the message taken last, from this ring, or this copy of it.
    pub fn keep(&mut self, ring: usize, copy: Option<WriteMap>) -> Kept {
        let this = (self.names[ring], self.last);
        self.copies.extend(copy.map(|copy| (this, copy)));
        self.kept.push(this);
        Kept { ring: this.0, position: this.1, copied: self.copies.iter().any(|(of, _)| *of == this) }
    }

    /// The ring gives back all that it has read, kept messages and what follows them excepted.
    pub fn release(&self, ring: usize, consumer: &mut Consumer) {
        match self.first_kept(self.names[ring]) {
            None => consumer.release(),
            Some(position) => consumer.release_to(position),
        }
    }

    /// A ring has joined the input, as the last.
    pub fn joined(&mut self, name: u32) {
        self.names.push(name);
    }

    /// The ring has left the input.
    pub fn ended(&mut self, ring: usize, consumer: Consumer) {
        let name = self.names.remove(ring);
        if self.first_kept(name).is_some() {
            self.ended.push((name, consumer));
        }
    }

    /// The ring's number, as it was before any left.
    pub fn name(&self, ring: usize) -> u32 {
        self.names[ring]
    }

    /// It is kept no more, and released with what it is part of.
    pub fn forget(&mut self, kept: &Kept) {
        let this = (kept.ring, kept.position);
        if let Some(at) = self.kept.iter().position(|k| *k == this) {
            self.kept.swap_remove(at);
        }
        if !self.kept.contains(&this) {
            self.copies.retain(|(of, _)| *of != this);
        }
        if self.first_kept(kept.ring).is_none() {
            self.ended.retain(|(name, _)| *name != kept.ring);
        }
    }

    pub fn let_go(&mut self, kept: Kept, rings: &mut [Consumer], held: Option<usize>) {
        self.forget(&kept);
        let first = self.first_kept(kept.ring);
        if let Some(at) = self.names.iter().position(|name| *name == kept.ring) {
            let last = (held == Some(at)).then_some(self.last); // not given back yet
            let up_to = first.into_iter().chain(last).min().unwrap_or(rings[at].position());
            rings[at].release_to(up_to);
            rings[at].settle();
        }
    }

    fn first_kept(&self, ring: u32) -> Option<u64> {
        self.kept.iter().filter(|(name, _)| *name == ring).map(|(_, position)| *position).min()
    }
}

#[cfg(test)]
mod tests {
    use crate::input::Input;
    use crate::ring::{Producer, Segment, SegmentOptions, Until, WaitMode};

    fn edge(rings: usize) -> (Vec<Producer>, Input, Vec<Segment>) {
        let (mut producers, mut consumers, mut segments) = (vec![], vec![], vec![]);
        for _ in 0..rings {
            let options = SegmentOptions { name: "test", capacity: 4096, wait: WaitMode::Block, ..Default::default() };
            let segment = Segment::create(&options).unwrap();
            producers.push(segment.producer().unwrap());
            consumers.push(segment.consumer(0).unwrap());
            segments.push(segment);
        }
        (producers, Input::new("test", consumers), segments)
    }

    /// How many messages of 1000 bytes fit now.
    fn room(producer: &mut Producer, byte: u8) -> usize {
        (0..).take_while(|_| producer.try_write(&[byte; 1000]).unwrap()).count()
    }

    #[test]
    fn what_is_kept_holds_back_what_follows_it_and_nothing_else() {
        let (mut producers, mut input, _segments) = edge(1);
        let producer = &mut producers[0];
        assert_eq!(room(producer, 1), 4);
        input.recv().unwrap().unwrap();
        input.recv().unwrap().unwrap(); // gives the first back
        let (second, again) = (input.keep().unwrap(), input.keep().unwrap());
        assert_eq!(room(producer, 2), 1);
        input.recv().unwrap().unwrap();
        let third = input.keep().unwrap();
        input.recv().unwrap().unwrap();
        assert_eq!(room(producer, 3), 0);
        input.let_go(third);
        input.let_go(again);
        assert_eq!(room(producer, 3), 0, "the second is still kept");
        input.let_go(second);
        assert_eq!(room(producer, 3), 2, "the fourth is not given back yet");
        input.release();
        assert_eq!(room(producer, 3), 1);
        assert!(input.keep().is_none());
    }

    #[test]
    fn a_ring_that_ended_stays_while_a_message_of_it_is_kept() {
        let (mut producers, mut input, _segments) = edge(2);
        producers[0].write(b"first", Until::forever()).unwrap();
        producers[1].write(b"second", Until::forever()).unwrap();
        let first = input.recv().unwrap().unwrap().to_vec();
        let kept = input.keep().unwrap();
        producers.iter_mut().for_each(Producer::finish);
        assert_eq!((first, input.recv().unwrap().unwrap().to_vec()), (b"first".to_vec(), b"second".to_vec()));
        assert!(input.recv().unwrap().is_none());
        assert_eq!(input.keeper.ended.len(), 1);
        input.let_go(kept);
        assert!(input.keeper.ended.is_empty());
    }

    #[test]
    fn nothing_stays_mapped_for_what_is_let_go_while_a_batch_is_held() {
        let options = SegmentOptions { on_full: crate::ring::OnFull::DropOldest, ..Default::default() };
        let segment = Segment::create(&options).unwrap();
        let mut producer = segment.producer().unwrap();
        let mut input = Input::new("test", vec![segment.consumer(0).unwrap()]);
        ["one", "two"].iter().for_each(|m| producer.write(m.as_bytes(), Until::forever()).unwrap());
        input.recv().unwrap().unwrap();
        let (kept, again) = (input.keep().unwrap(), input.keep().unwrap());
        assert!(!kept.keeps_what_follows() && !again.keeps_what_follows());
        assert!(input.recv_batch(9).unwrap().unwrap().next().is_some());
        input.let_go(again);
        assert_eq!(input.keeper.copies.len(), 1);
        input.let_go(kept);
        assert!(input.keeper.copies.is_empty());
        let (mut producers, mut input, _segments) = edge(2);
        producers[0].write(b"one", Until::forever()).unwrap();
        input.recv().unwrap().unwrap();
        let kept = input.keep().unwrap();
        producers[0].finish();
        for message in ["two", "three"] {
            producers[1].write(message.as_bytes(), Until::forever()).unwrap();
            assert!(input.recv_batch(9).unwrap().unwrap().next().is_some());
        }
        assert_eq!(input.keeper.ended.len(), 1);
        input.let_go(kept);
        assert!(input.keeper.ended.is_empty());
    }
}
