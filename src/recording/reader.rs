//! Reading a recording, whole or cut off. Nothing that a file says is believed before its checksum is.

use std::fmt;
use std::io::{self, Read};

use super::crc::crc32;
use super::{END, Header, LOST, Lost, MAGIC, MAX_HEADER, MESSAGE, RECORD_HEAD, Totals, UNKNOWN, VERSION};

/// Reads records one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    /// Bytes read and found good.
    at: u64,
    body: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    Message {
        ring: u16,
        at_ns: u64,
        body: &'a [u8],
    },
    Lost {
        ring: u16,
        at_ns: u64,
        lost: Lost,
    },
    /// The last one.
    End(Totals),
}

/// Why a file cannot be read any further, and from which byte on.
#[derive(Debug)]
pub struct Broken {
    pub at: u64,
    pub fault: Fault,
}

#[derive(Debug)]
pub enum Fault {
    /// It stops without its last record.
    Cut,
    /// It is another kind of file.
    NoRecording,
    /// It was written by a newer nexusflow.
    Newer(u32),
    /// What is there is not what was written.
    Damaged(&'static str),
    Io(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match &self.fault {
            Fault::Cut => write!(f, "cut off at byte {at}: its recorder was killed, or could not write on"),
            Fault::NoRecording => f.write_str("no recording of an edge"),
            Fault::Newer(version) => {
                write!(f, "written by a newer nexusflow (format {version}; this one reads {VERSION})")
            }
            Fault::Damaged(what) => write!(f, "damaged at byte {at}: {what}"),
            Fault::Io(e) => write!(f, "not readable at byte {at}: {e}"),
        }
    }
}

impl std::error::Error for Broken {}

impl Broken {
    pub fn is_cut(&self) -> bool {
        matches!(self.fault, Fault::Cut)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(mut from: R) -> Result<Self, Broken> {
        let broken = |fault| Broken { at: 0, fault };
        let mut head = [0; 20];
        match fill(&mut from, &mut head).map_err(|e| broken(Fault::Io(e)))? {
            8.. if &head[..8] != MAGIC => return Err(broken(Fault::NoRecording)),
            20 => {}
            n if n > 0 && MAGIC.starts_with(&head[..n.min(8)]) => return Err(broken(Fault::Cut)),
            _ => return Err(broken(Fault::NoRecording)),
        }
        let (crc, version, len) = (word32(&head[8..]), word32(&head[12..]), word32(&head[16..]));
        if version > VERSION {
            return Err(broken(Fault::Newer(version)));
        }
        if len > MAX_HEADER {
            return Err(broken(Fault::Damaged("a header of impossible length")));
        }
        let mut body = Vec::new();
        read_body(&mut from, len, &mut body).map_err(broken)?;
        if crc32(crc32(0, &head[12..]), &body) != crc {
            return Err(broken(Fault::Damaged("the checksum of the header is wrong")));
        }
        let header =
            serde_json::from_slice(&body).map_err(|_| broken(Fault::Damaged("the header is not what it should be")))?;
        Ok(Self { from, header, at: 20 + body.len() as u64, body, ended: false })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next record; `None` behind the last one. After an error there is nothing more to be had.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Broken> {
        let broken = |at, fault| Broken { at, fault };
        loop {
            let at = self.at;
            let Some(head) = self.read()? else { return Ok(None) };
            let (ring, at_ns) = (u16::from_le_bytes([head[6], head[7]]), word64(&head[12..]));
            return Ok(Some(match head[4] {
                MESSAGE => Record::Message { ring, at_ns, body: &self.body },
                LOST if self.body.len() >= 16 => {
                    let known = |n: u64| (n != UNKNOWN).then_some(n);
                    let lost = Lost { messages: known(word64(&self.body)), bytes: known(word64(&self.body[8..])) };
                    Record::Lost { ring, at_ns, lost }
                }
                END => {
                    self.ended = true;
                    let totals = serde_json::from_slice(&self.body);
                    let wrong = Fault::Damaged("its totals are not what they should be");
                    Record::End(totals.map_err(|_| broken(at, wrong))?)
                }
                _ => continue, // of a later nexusflow, which says that one can do without it
            }));
        }
    }

    /// The next record of any kind, its body into `body`: its head.
    fn read(&mut self) -> Result<Option<[u8; RECORD_HEAD]>, Broken> {
        let at = self.at;
        let broken = |fault| Broken { at, fault };
        let mut head = [0; RECORD_HEAD];
        let n = fill(&mut self.from, &mut head).map_err(|e| broken(Fault::Io(e)))?;
        if self.ended {
            return if n == 0 { Ok(None) } else { Err(broken(Fault::Damaged("something follows its end"))) };
        }
        if n < RECORD_HEAD {
            return Err(broken(Fault::Cut));
        }
        read_body(&mut self.from, word32(&head[8..]), &mut self.body).map_err(broken)?;
        if crc32(crc32(0, &head[4..]), &self.body) != word32(&head) {
            return Err(broken(Fault::Damaged("the checksum is wrong")));
        }
        self.at += (RECORD_HEAD + self.body.len()) as u64;
        Ok(Some(head))
    }
}

/// Reads `len` bytes; memory grows with what is there, not with what the file says.
fn read_body(from: &mut impl Read, len: u32, body: &mut Vec<u8>) -> Result<(), Fault> {
    body.clear();
    let n = from.take(len.into()).read_to_end(body).map_err(Fault::Io)?;
    if n == len as usize { Ok(()) } else { Err(Fault::Cut) }
}

/// As many bytes as there are, up to the whole buffer.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn word32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

fn word64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}
