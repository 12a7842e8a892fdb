//! Messages in blocks, as they go between unmodified programs that frame alike: a word, then the messages as framed.
//! The word is their number, shifted left by one; its lowest bit says that the last line lacks its newline.

/// Bytes of the word.
pub const HEAD: usize = 8;
/// Bytes before a message of [`Framing::U32le`].
const PREFIX: usize = 4;

/// What tells the messages of a block apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Lines,
    U32le,
}

/// The messages of a block. What is no block has fewer than it says.
pub fn messages(block: &[u8], framing: Framing) -> impl Iterator<Item = &[u8]> {
    let (head, mut rest) = block.split_at_checked(HEAD).unwrap_or_default();
    let head = head.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
    (0..head >> 1).map_while(move |_| match framing {
        Framing::Lines => {
            let end = rest.iter().position(|b| *b == b'\n');
            let line = &rest[..end.or((!rest.is_empty()).then_some(rest.len()))?];
            rest = rest.get(line.len() + 1..).unwrap_or_default();
            Some(line)
        }
        Framing::U32le => {
            let (len, behind) = rest.split_first_chunk::<PREFIX>()?;
            let (message, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = behind;
            Some(message)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: u64, unended: bool, body: &[u8], framing: Framing) -> Vec<Vec<u8>> {
        let block = [&(count << 1 | u64::from(unended)).to_le_bytes(), body].concat();
        messages(&block, framing).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn blocks_come_apart() {
        use Framing::{Lines, U32le};
        assert_eq!(all(3, false, b"a\n\nbc\n", Lines), [&b"a"[..], b"", b"bc"]);
        assert_eq!(all(2, true, b"a\nb", Lines), [b"a", b"b"]);
        assert_eq!(all(1, false, b"\n", Lines), [b""]);
        assert_eq!(all(2, false, b"\x01\0\0\0x\0\0\0\0", U32le), [&b"x"[..], b""]);
        assert!(messages(b"short", Lines).next().is_none());
        assert_eq!(all(9, false, b"a\n", Lines), [b"a"], "fewer than it says");
        assert_eq!(all(9, false, b"\x09\0\0\0x", U32le), [[0u8; 0]; 0]);
    }
}
