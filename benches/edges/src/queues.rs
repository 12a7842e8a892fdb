//! The rivals with queues: iceoryx2 (its crate) and ZeroMQ (libzmq).

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::Duration;

use iceoryx2::node::NodeBuilder;
use iceoryx2::port::backpressure_strategy::BackpressureStrategy;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::Result;
use crate::transport::{Rx, Tx};

/// As many messages as our rings hold, up to a thousand.
fn depth(len: usize) -> usize {
    ((16 << 20) / len).clamp(4, 1024)
}

/// A name that both sides make a service of.
pub fn name() -> Result<(String, OwnedFd)> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("edges-bench-{}-{number}", std::process::id());
    let (read, mut write) = std::io::pipe()?;
    std::io::Write::write_all(&mut write, name.as_bytes())?;
    Ok((name, read.into()))
}

fn told(fds: Vec<OwnedFd>) -> Result<String> {
    let mut name = String::new();
    let fd = fds.into_iter().next().ok_or("no name was sent")?;
    std::fs::File::from(fd).read_to_string(&mut name)?;
    Ok(name)
}

type Service = ipc::Service;

pub struct Ice;

pub struct IceTx {
    publisher: Publisher<Service, [u8], ()>,
    notifier: Option<Notifier<Service>>,
}

pub struct IceRx {
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Option<Listener<Service>>,
}

impl Ice {
    /// The side that made the name sends on `…/there`. With a listener, it sleeps until it is notified.
    pub fn pair(fds: Vec<OwnedFd>, first: bool, len: usize, listens: bool) -> Result<(IceTx, IceRx)> {
        Self::named(&told(fds)?, first, len, listens)
    }

    pub fn named(name: &str, first: bool, len: usize, listens: bool) -> Result<(IceTx, IceRx)> {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().create::<Service>()?;
        let (mine, theirs) = if first { ("there", "back") } else { ("back", "there") };
        let service = |direction: &str| -> Result<_> {
            Ok(node
                .service_builder(&format!("{name}/{direction}").as_str().try_into()?)
                .publish_subscribe::<[u8]>()
                .subscriber_max_buffer_size(depth(len))
                .enable_safe_overflow(false) // lossless, as ours
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()?)
        };
        let events = |direction: &str| -> Result<_> {
            Ok(node.service_builder(&format!("{name}/{direction}").as_str().try_into()?).event().open_or_create()?)
        };
        let publisher = service(mine)?
            .publisher_builder()
            .initial_max_slice_len(len)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(theirs)?.subscriber_builder().create()?;
        let (notifier, listener) = match listens {
            true => {
                (Some(events(mine)?.notifier_builder().create()?), Some(events(theirs)?.listener_builder().create()?))
            }
            false => (None, None),
        };
        Ok((IceTx { publisher, notifier }, IceRx { subscriber, listener }))
    }
}

impl Tx for IceTx {
    #[inline]
    fn send(&mut self, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        let mut sample = self.publisher.loan_slice_uninit(len)?;
        let room = sample.payload_mut();
        // SAFETY: bytes, written before they are read: `fill` writes every one.
        fill(unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast::<u8>(), room.len()) });
        // SAFETY: as it says.
        unsafe { sample.assume_init() }.send()?;
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

impl Rx for IceRx {
    #[inline]
    fn recv(&mut self, _: usize, mut look: impl FnMut(&[u8])) -> Result<()> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                look(sample.payload());
                return Ok(());
            }
            if let Some(listener) = &self.listener {
                listener.timed_wait(|_| {}, Duration::from_secs(1))?;
            }
        }
    }
}

pub struct Zmq(std::rc::Rc<zmq::Socket>);

/// A PAIR socket on each side, over `ipc://`: one connection, both ways.
pub fn zeromq(fds: Vec<OwnedFd>, first: bool) -> Result<(Zmq, Zmq)> {
    zeromq_named(&told(fds)?, first)
}

pub fn zeromq_named(name: &str, first: bool) -> Result<(Zmq, Zmq)> {
    let socket = zmq::Context::new().socket(zmq::PAIR)?;
    let endpoint = format!("ipc:///tmp/{name}");
    if first {
        socket.bind(&endpoint)?
    } else {
        socket.connect(&endpoint)?
    }
    let socket = std::rc::Rc::new(socket);
    Ok((Zmq(socket.clone()), Zmq(socket)))
}

impl Tx for Zmq {
    fn send(&mut self, len: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        let mut message = zmq::Message::with_size(len);
        fill(&mut message);
        Ok(self.0.send(message, 0)?)
    }
}

impl Rx for Zmq {
    fn recv(&mut self, _: usize, mut look: impl FnMut(&[u8])) -> Result<()> {
        look(&self.0.recv_msg(0)?);
        Ok(())
    }
}
