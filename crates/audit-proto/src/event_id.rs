//! Event ids: 16 bytes that sort by time, and their text form (ULID).

use alloc::string::String;

/// Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The id of a chain's `number`th verdict at `millis` since 1970: 48 bits of time, 40 bits of the chain's first hash,
/// 39 bits of the number, and a last bit that is 0 for a verdict's event and 1 for a later outcome's.
pub fn bytes(millis: u64, genesis: &[u8; 32], number: u64) -> [u8; 16] {
    let time = u128::from(millis & 0xffff_ffff_ffff) << 80;
    let chain = genesis.iter().take(5).fold(0_u128, |value, byte| (value << 8) | u128::from(*byte)) << 40;
    let number = u128::from(number & 0x7f_ffff_ffff) << 1;
    (time | chain | number).to_be_bytes()
}

/// The text form, 26 characters.
pub fn text(bytes: &[u8; 16]) -> String {
    let value = u128::from_be_bytes(*bytes);
    (0..26_u32)
        .rev()
        .filter_map(|digit| usize::try_from((value >> (digit * 5)) & 31).ok())
        .filter_map(|digit| DIGITS.get(digit))
        .map(|digit| char::from(*digit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_then_number() {
        let genesis = [7; 32];
        let ids = [bytes(1, &genesis, 9), bytes(2, &genesis, 1), bytes(2, &genesis, 2)].map(|id| text(&id));
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 26));
    }

    #[test]
    fn the_text_is_a_ulid() {
        assert_eq!(text(&[0; 16]), "00000000000000000000000000");
        assert_eq!(text(&[255; 16]), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    }
}
