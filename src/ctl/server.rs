//! The run's end of its socket: who may connect, how many, and what becomes of those who do not keep to the rules. It
//! waits for nobody: its descriptors are watched by the runner's loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nexusflow_sys::user::effective_uid;
use nexusflow_sys::{file, listen, socket};

use super::packets::{Answer, MAX_ANSWER, MAX_REQUEST, Request};
use super::place;

/// Who is connected at once; the next is turned away until one has gone.
const MAX_CLIENTS: usize = 32;
/// Who waits to be accepted; the kernel makes the others try again.
const BACKLOG: i32 = 16;

/// An answer and the descriptors that go with it.
pub type Reply = (Answer, Vec<OwnedFd>);

/// A run's socket and who is connected to it. The name goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    path: PathBuf,
    clients: Vec<Option<Client>>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// What it has not taken yet. Until then nothing more is read from it.
    pending: Option<(Vec<u8>, Vec<OwnedFd>)>,
}

/// What a client is to be watched for from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Read,
    Write,
    /// It has gone, or was cut off: its socket is about to be closed.
    Close,
}

impl Server {
    /// Makes the socket of a run in the first of these folders that can be used, and removes what dead runs have left there.
    pub fn open(folders: &[PathBuf], run: &str) -> Result<Self, String> {
        let mut why = Vec::new();
        for folder in folders {
            match Self::open_in(folder, run) {
                Ok(server) => return Ok(server),
                Err(e) => why.push(format!("{}: {e}", folder.display())),
            }
        }
        Err(why.join("; "))
    }

    fn open_in(folder: &Path, run: &str) -> io::Result<Self> {
        let _open = file::private_dir(folder)?;
        place::sweep(folder);
        let stem = place::stem(run);
        let (unfinished, path) = (place::unfinished(folder, &stem), place::path(folder, &stem));
        // Under its name only once it listens: one that does not is dead, and swept.
        let listener = listen::listen(&unfinished, BACKLOG)?;
        if let Err(e) = std::fs::rename(&unfinished, &path) {
            let _ = std::fs::remove_file(&unfinished);
            return Err(e);
        }
        Ok(Self { listener, path, clients: Vec::new() })
    }

    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next who has connected and may: its number. `None` when nobody else waits.
    pub fn accept(&mut self) -> io::Result<Option<usize>> {
        while let Some(socket) = listen::accept(&self.listener)? {
            let uid = listen::peer_uid(&socket)?;
            if uid != effective_uid() && uid != 0 {
                // The file's mode has let it through, so its owner has changed that. Still not its business.
                turn_away(&socket, format!("this run is uid {}'s, not uid {uid}'s", effective_uid()));
                continue;
            }
            let free = self.clients.iter().position(Option::is_none);
            let at = match free {
                Some(at) => at,
                None if self.clients.len() < MAX_CLIENTS => {
                    self.clients.push(None);
                    self.clients.len() - 1
                }
                None => {
                    turn_away(&socket, format!("{MAX_CLIENTS} others are connected to this run already"));
                    continue;
                }
            };
            self.clients[at] = Some(Client { socket, pending: None });
            return Ok(Some(at));
        }
        Ok(None)
    }

    /// The socket of a client that is connected.
    pub fn socket(&self, client: usize) -> Option<BorrowedFd<'_>> {
        Some(self.clients.get(client)?.as_ref()?.socket.as_fd())
    }

    /// Sends what waits to be sent, or else takes one question and answers it. One at a time, so that a client with many
    /// questions takes turns with everything else that the loop does.
    pub fn serve(&mut self, client: usize, answer: impl FnOnce(Request) -> Reply) -> Next {
        let Some(client) = self.clients.get_mut(client).and_then(Option::as_mut) else { return Next::Close };
        if client.pending.is_none() {
            let mut buffer = [0; MAX_REQUEST];
            let said = match listen::receive_bytes(&client.socket, &mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Next::Read,
                Ok(0) | Err(_) => return Next::Close,
                Ok(n) => &buffer[..n],
            };
            let (answer, fds) = match serde_json::from_slice(said) {
                Ok(request) => answer(request),
                Err(e) => {
                    let reason = format!("a question that this run does not understand: {e}");
                    let help = Some("use the nexusflow that started it, or a newer one for both".into());
                    (Answer::Refused { reason, help }, Vec::new())
                }
            };
            client.pending = Some((encode(&answer), fds));
        }
        let Some((packet, fds)) = &client.pending else { return Next::Read };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match socket::send(&client.socket, packet, &fds) {
            Ok(()) => {
                client.pending = None;
                Next::Read
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Next::Write,
            Err(_) => Next::Close,
        }
    }

    /// Closes a client's socket, which is watched no more.
    pub fn close(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            *client = None;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Says why, and no more: a new socket has room for it.
fn turn_away(socket: &OwnedFd, reason: String) {
    let _ = socket::send(socket, &encode(&Answer::Refused { reason, help: None }), &[]);
}

fn encode(answer: &Answer) -> Vec<u8> {
    match serde_json::to_vec(answer) {
        Ok(packet) if packet.len() <= MAX_ANSWER => packet,
        _ => br#"{"answer":"refused","reason":"the answer is too long"}"#.to_vec(),
    }
}
