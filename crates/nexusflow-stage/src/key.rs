//! Which consumer a key belongs to, on edges that distribute `by: key`. docs/protocol.md has it for other SDKs.

/// What decides who gets a message: the same key, the same consumer.
///
/// A number is the key of its eight bytes, little-endian; a text that of its bytes.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Key<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl From<u64> for Key<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// FNV-1a of 64 bits.
pub(crate) fn hash(key: Key<'_>) -> u64 {
    let number;
    let bytes = match key {
        Key::Bytes(bytes) => bytes,
        Key::Number(n) => {
            number = n.to_le_bytes();
            &number
        }
    };
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The consumers of `n` that a hash belongs to: the first; should that one have left for good, the second; and so on.
/// Some may come twice: who follows them stops looking after a while and takes any.
pub(crate) fn candidates(hash: u64, n: u32) -> impl Iterator<Item = u32> {
    (0..).map(move |k| ((u128::from(mix(hash.wrapping_add(k))) * u128::from(n)) >> 64) as u32)
}

/// The finalizer of MurmurHash3, since the high bits of FNV-1a say little of short keys.
fn mix(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(key: Key<'_>, n: u32) -> u32 {
        candidates(hash(key), n).next().unwrap()
    }

    #[test]
    fn a_key_belongs_to_the_same_consumer_in_every_release() {
        assert_eq!((hash(b"".into()), hash(b"a".into())), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash("foobar".into()), 0x8594_4171_f739_67e8);
        assert_eq!(hash(7u64.into()), hash((&[7, 0, 0, 0, 0, 0, 0, 0]).into()));
        let found: Vec<u32> = (0..16u64).map(|n| first(n.into(), 4)).collect();
        assert_eq!(found, [1, 1, 1, 0, 0, 0, 2, 3, 1, 1, 0, 1, 3, 3, 2, 1]);
    }

    #[test]
    fn keys_are_spread_evenly_also_short_and_regular_ones() {
        let regular: [fn(u64) -> u64; 4] = [|n| n, |n| n * 2, |n| n << 20, |n| n * 1_000_003];
        for (n, key) in [2, 3, 7, 64].into_iter().flat_map(|n| regular.map(|key| (n, key))) {
            let mut counts = vec![0u32; n as usize];
            (0..20_000).for_each(|i| counts[first(key(i).into(), n) as usize] += 1);
            let fair = 20_000 / n;
            assert!(counts.iter().all(|c| c.abs_diff(fair) < fair / 4), "{n}: {counts:?}");
        }
        let mut counts = [0u32; 4];
        (0..=255u8).for_each(|b| counts[first((&[b]).into(), 4) as usize] += 1);
        assert!(counts.iter().all(|c| (40..90).contains(c)), "{counts:?}");
    }

    #[test]
    fn the_keys_of_one_that_has_left_are_spread_over_the_others() {
        let mut counts = [0u32; 4];
        for i in 0..40_000u64 {
            let hash = hash(i.into());
            if candidates(hash, 4).next() == Some(1) {
                counts[candidates(hash, 4).find(|c| *c != 1).unwrap() as usize] += 1;
            }
        }
        assert_eq!(counts[1], 0);
        assert!([0, 2, 3].iter().all(|i| counts[*i].abs_diff(3333) < 300), "{counts:?}");
    }
}
