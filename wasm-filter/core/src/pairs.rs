//! proxy-wasm's serialised header map, read in place: a count, all lengths, then names and values with a NUL each.

/// Name and value pairs of a serialised map. A map that is cut short ends early.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads `map` from its beginning.
    pub fn new(map: &'a [u8]) -> Self {
        let empty = Self { lengths: &[], data: &[] };
        let Some((count, rest)) = take_u32(map) else {
            return empty;
        };
        match count.checked_mul(8).and_then(|bytes| rest.split_at_checked(bytes)) {
            Some((lengths, data)) => Self { lengths, data },
            None => empty,
        }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = take_u32(self.lengths)?;
        let (value_length, rest) = take_u32(rest)?;
        self.lengths = rest;
        let (name, data) = take_terminated(self.data, name_length)?;
        let (value, data) = take_terminated(data, value_length)?;
        self.data = data;
        Some((name, value))
    }
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*head)).ok().map(|number| (number, rest))
}

fn take_terminated(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    rest.split_first().map(|(_, rest)| (taken, rest))
}

/// The same form from pairs, for tests and other hosts.
pub fn serialize(pairs: &[(&str, &str)]) -> alloc::vec::Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut map = alloc::vec::Vec::new();
    map.extend(number(pairs.len()));
    for (name, value) in pairs {
        map.extend(number(name.len()));
        map.extend(number(value.len()));
    }
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        map.extend(text.as_bytes());
        map.push(0);
    }
    map
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let map = serialize(&[(":method", "POST"), ("x-empty", ""), ("x-dup", "1"), ("x-dup", "2")]);
        let read: Vec<_> = Pairs::new(&map).collect();
        assert_eq!(
            read,
            [(&b":method"[..], &b"POST"[..]), (b"x-empty", b""), (b"x-dup", b"1"), (b"x-dup", b"2")]
        );
    }

    #[test]
    fn a_map_cut_anywhere_ends_early_and_never_panics() {
        let map = serialize(&[(":method", "POST"), ("a", "b")]);
        for end in 0..map.len() {
            assert!(Pairs::new(&map[..end]).count() < 2);
        }
    }
}
