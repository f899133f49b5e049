//! Bytes of a segment: a header that names the first position, then records.
//!
//! ```text
//!   header   magic (8) · position of the first record (8) · CRC-32 of both (4)
//!   record   length of the payload (4) · CRC-32 of position, length and payload (4) · payload
//! ```
//! Numbers are little-endian. The position is part of the checksum and not of the record, so that bytes that lie where
//! another record belongs are not taken for it.

/// First bytes of a segment; the last digit is the version.
const MAGIC: &[u8; 8] = b"SLYSPL\n1";
/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 20;
/// Bytes before a payload.
pub(crate) const FRAME: usize = 8;
/// Largest payload, in bytes.
pub const MAX_RECORD: usize = 16 << 20;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A record of so many bytes, frame included.
    Record(usize),
    /// The beginning of a record that takes so many bytes.
    Short(usize),
    /// No record of this position.
    Damaged,
}

/// The header of a segment whose first record has this position.
pub(crate) fn header(base: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&base.to_le_bytes());
    let sum = crc32fast::hash(&header);
    header.extend_from_slice(&sum.to_le_bytes());
    header
}

/// Whether a segment that begins with `bytes` is ours and begins at `base`.
pub(crate) fn is_header(bytes: &[u8], base: u64) -> bool {
    bytes.starts_with(&header(base))
}

/// Adds the record of `position` to `buffer`.
pub(crate) fn push(buffer: &mut Vec<u8>, position: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&checksum(position, length, payload).to_le_bytes());
    buffer.extend_from_slice(payload);
}

/// Reads the record of `position` at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8], position: u64) -> Parsed {
    let Some((length, sum)) = frame(bytes) else {
        return Parsed::Short(FRAME);
    };
    let Some(payload_length) =
        usize::try_from(length).ok().filter(|length| (1..=MAX_RECORD).contains(length))
    else {
        return Parsed::Damaged;
    };
    let size = FRAME + payload_length;
    match bytes.get(FRAME..size) {
        None => Parsed::Short(size),
        Some(payload) if checksum(position, length, payload) == sum => Parsed::Record(size),
        Some(_) => Parsed::Damaged,
    }
}

fn frame(bytes: &[u8]) -> Option<(u32, u32)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length), u32::from_le_bytes(*sum)))
}

fn checksum(position: u64, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_at_its_own_position_only() {
        let mut bytes = Vec::new();
        push(&mut bytes, 7, b"payload");
        assert_eq!(parse(&bytes, 7), Parsed::Record(FRAME + 7));
        assert_eq!(parse(&bytes, 8), Parsed::Damaged);
    }

    #[test]
    fn every_cut_is_short_and_every_changed_byte_is_no_record() {
        let mut bytes = Vec::new();
        push(&mut bytes, 7, b"payload");
        for cut in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..cut], 7), Parsed::Short(_)), "{cut}");
        }
        for changed in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[changed] ^= 1;
            assert!(!matches!(parse(&bytes, 7), Parsed::Record(_)), "{changed}");
        }
        assert_eq!(parse(&[0; 64], 0), Parsed::Damaged, "zeroes are no records");
    }

    #[test]
    fn a_header_names_its_position() {
        assert_eq!(header(9).len(), HEADER);
        assert!(is_header(&header(9), 9));
        assert!(!is_header(&header(9), 8));
        assert!(!is_header(&[0; HEADER], 0));
    }
}
