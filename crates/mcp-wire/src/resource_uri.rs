//! Resource URIs in the one form that all readers understand alike.

/// Whether `uri` has a scheme in lower case and nothing in it that one reader resolves and another does not: dot
/// segments, escapes of unreserved characters or of separators, backslashes, fragments, controls, non-ASCII.
pub fn is_normal(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.'));
    let forbidden = |b: u8| {
        !b.is_ascii_graphic()
            || matches!(b, b'\\' | b'#' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    scheme_fits
        && !rest.bytes().any(forbidden)
        && !path.split('/').any(|segment| segment == "." || segment == "..")
        && escapes_are_needed(rest)
}

/// Whether every `%XX` stands for a byte that cannot stand for itself and separates nothing.
fn escapes_are_needed(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let value = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let stands_for_itself = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let separates = |byte: u8| byte.is_ascii_control() || b"/\\%?#".contains(&byte);
        value.is_some_and(|byte| !stands_for_itself(byte) && !separates(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::is_normal;

    #[test]
    fn plain_uris_are_normal() {
        for uri in ["file:///a/b.txt", "invoice://7", "test://template/1/data", "https://h/p?q=1", "x:a%20b"]
        {
            assert!(is_normal(uri), "{uri}");
        }
    }

    #[test]
    fn what_readers_resolve_differently_is_not() {
        for uri in [
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file:///%252e",
            "FILE:///a",
            "file:///a\\b",
            "file:///a#f",
            "file:///a\u{0}",
            "file:///\u{2025}/a",
            "t://{id}",
            "no-scheme",
            "x:%zz",
            "x:%2",
            "file:///a/./b",
            "x:%2f",
        ] {
            assert!(!is_normal(uri), "{uri}");
        }
    }
}
