//! Bytes as hexadecimal digits.

use alloc::string::String;
use alloc::vec::Vec;

/// Two digits for each byte, in lower case.
pub fn text(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 });
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// Reads digits of either case; none: something else is among them, or their number is odd.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(nibble(*high)? << 4 | nibble(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&text(&all)), Some(all));
        assert_eq!(text(&[0x0f, 0xa0]), "0fa0");
        assert_eq!(bytes("0FA0"), Some(alloc::vec![0x0f, 0xa0]));
        for wrong in ["0", "0g", "+f", "0fä"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
