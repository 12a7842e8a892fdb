//! Writing a recording, record by record.

use std::io::{self, Write};

use super::crc::crc32;
use super::{END, Header, LOST, Lost, MAGIC, MESSAGE, RECORD_HEAD, Totals, UNKNOWN, VERSION, Why};

/// Writes records behind a header; counts what it wrote.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    messages: u64,
    bytes: u64,
    lost: Lost,
}

impl<W: Write> Writer<W> {
    pub fn new(mut to: W, header: &Header) -> io::Result<Self> {
        let header = serde_json::to_vec(header)?;
        let len = u32::try_from(header.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut rest = Vec::with_capacity(8 + header.len());
        rest.extend(VERSION.to_le_bytes());
        rest.extend(len.to_le_bytes());
        rest.extend(header);
        to.write_all(MAGIC)?;
        to.write_all(&crc32(0, &rest).to_le_bytes())?;
        to.write_all(&rest)?;
        Ok(Self { to, messages: 0, bytes: 0, lost: Lost::NOTHING })
    }

    /// A message as it went over ring `ring`, seen at `at_ns` after 1970.
    pub fn message(&mut self, ring: u16, at_ns: u64, body: &[u8]) -> io::Result<()> {
        self.record(MESSAGE, ring, at_ns, body)?;
        self.messages += 1;
        self.bytes += body.len() as u64;
        Ok(())
    }

    /// Here so much of ring `ring` was missed.
    pub fn lost(&mut self, ring: u16, at_ns: u64, lost: Lost) -> io::Result<()> {
        let word = |n: Option<u64>| n.unwrap_or(UNKNOWN).to_le_bytes();
        self.record(LOST, ring, at_ns, &[word(lost.messages), word(lost.bytes)].concat())?;
        self.lost.add(lost);
        Ok(())
    }

    pub fn messages(&self) -> u64 {
        self.messages
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is written so far goes on its way.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// The last record.
    pub fn end(mut self, at_ns: u64, ended_at: String, why: Why) -> io::Result<(Totals, W)> {
        let totals = Totals { messages: self.messages, bytes: self.bytes, lost: self.lost, why, ended_at };
        self.record(END, 0, at_ns, &serde_json::to_vec(&totals)?)?;
        self.to.flush()?;
        Ok((totals, self.to))
    }

    fn record(&mut self, kind: u8, ring: u16, at_ns: u64, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut head = [0; RECORD_HEAD];
        head[4] = kind;
        head[6..8].copy_from_slice(&ring.to_le_bytes());
        head[8..12].copy_from_slice(&len.to_le_bytes());
        head[12..20].copy_from_slice(&at_ns.to_le_bytes());
        let crc = crc32(crc32(0, &head[4..]), body);
        head[..4].copy_from_slice(&crc.to_le_bytes());
        self.to.write_all(&head)?;
        self.to.write_all(body)
    }
}
