//! Keys that a lax reader takes for a reserved one: other case, full-width letters, letters that fold onto ASCII,
//! invisible characters. (Published bypasses: GHSA-4gph-2hhr-5mwg, CVE-2026-27896, GHSA-q382.)

/// Longest reserved key, in bytes; what folds to more is none of them.
const LONGEST: usize = 64;

/// Keys of `params` that decide something here or upstream.
const PARAMS: &[&str] = &[
    "name",
    "uri",
    "arguments",
    "_meta",
    "ref",
    "argument",
    "context",
    "cursor",
    "level",
    "task",
    "taskId",
    "requestId",
    "progressToken",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "inputResponses",
    "requestState",
    "notifications",
    "resourceSubscriptions",
    "type",
];

/// Keys of `_meta` that decide something.
const META: &[&str] = &[
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "progressToken",
];

/// Keys that some languages give a meaning of their own.
const PROTOTYPES: &[&str] = &["__proto__", "constructor", "prototype"];

/// Whether `key` of `params` is not a reserved key but could be read as one.
pub(crate) fn is_params_lookalike(key: &str) -> bool {
    PROTOTYPES.contains(&key) || looks_like(key, PARAMS)
}

/// The same for `_meta`.
pub(crate) fn is_meta_lookalike(key: &str) -> bool {
    PROTOTYPES.contains(&key) || looks_like(key, META)
}

fn looks_like(key: &str, reserved: &[&str]) -> bool {
    if reserved.contains(&key) {
        return false;
    }
    let mut folded = [0_u8; LONGEST];
    let mut length = 0_usize;
    for c in key.chars() {
        let Some(byte) = fold(c) else {
            continue;
        };
        match folded.get_mut(length) {
            Some(place) => *place = byte,
            None => return false,
        }
        length = length.saturating_add(1);
    }
    let folded = folded.get(..length).unwrap_or_default();
    reserved.iter().any(|known| known.len() == folded.len() && known.as_bytes().eq_ignore_ascii_case(folded))
}

/// Whether a lax reader may take `key` for `known`.
pub(crate) fn may_be_read_as(key: &str, known: &str) -> bool {
    key == known || folded(key).eq(folded(known))
}

fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter_map(|c| match fold(c)? {
        0xff => c.to_lowercase().next(),
        byte => Some(char::from(byte.to_ascii_lowercase())),
    })
}

/// The ASCII letter that `c` may be read as, in any case; none: it may be read as nothing at all.
fn fold(c: char) -> Option<u8> {
    match c {
        '\u{17f}' => Some(b's'),
        '\u{212a}' => Some(b'k'),
        '\u{ff01}'..='\u{ff5e}' => u8::try_from(u32::from(c).saturating_sub(0xfee0)).ok(),
        c if c.is_whitespace() || c.is_control() => None,
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => None,
        c => Some(u8::try_from(u32::from(c)).ok().filter(u8::is_ascii).unwrap_or(0xff)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_keys_and_others_are_none() {
        for key in ["name", "taskId", "n\u{e4}me", "nam", "names", "", "x-name"] {
            assert!(!is_params_lookalike(key), "{key:?}");
        }
    }

    #[test]
    fn case_width_letters_and_invisible_characters_are_seen_through() {
        for key in [
            "Name",
            "NAME",
            "argument\u{17f}",
            "na\u{200b}me",
            "name\u{0}",
            "name ",
            "\u{feff}name",
            "\u{ff4e}ame",
            "ta\u{17f}\u{212a}",
        ] {
            assert!(is_params_lookalike(key), "{key:?}");
        }
        assert!(is_meta_lookalike("IO.modelcontextprotocol/protocolVersion"));
        assert!(is_params_lookalike("__proto__"));
    }
}
