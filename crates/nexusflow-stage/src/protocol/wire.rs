//! Bytes of a packet: little-endian numbers, text behind its length. Pure.

use std::fmt;

/// The longest text in a packet, in bytes.
pub const MAX_TEXT: usize = 1024;

/// A packet that is none of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a malformed packet: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for std::io::Error {
    fn from(e: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// Puts a packet together.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u16) -> Self {
        Self::default().u16(kind).u16(0)
    }

    pub(super) fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub(super) fn u16(mut self, n: u16) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub(super) fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }

    /// Text longer than [`MAX_TEXT`] is cut: it is for people, or a name, and names are shorter.
    pub(super) fn text(self, text: &str) -> Self {
        let end = (0..=text.len().min(MAX_TEXT)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let text = &text[..end];
        let mut with_len = self.u16(text.len() as u16);
        with_len.0.extend(text.as_bytes());
        with_len
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a packet apart. What follows the last known field is a newer peer's, and ignored.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A packet's kind, and the rest.
    pub(super) fn new(packet: &'a [u8]) -> Result<(u16, Self), Malformed> {
        let mut reader = Self(packet);
        let kind = reader.u16()?;
        reader.u16()?;
        Ok((kind, reader))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too soon"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let len = usize::from(self.u16()?);
        if len > MAX_TEXT {
            return Err(Malformed("a text that is too long"));
        }
        let (text, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too soon"))?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| Malformed("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }
}
