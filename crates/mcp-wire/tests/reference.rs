//! Whatever the strict reader accepts, an independent reader that refuses repeated keys understands alike.

use proptest::prelude::*;
use sallyport_fuzz::message;

/// Pieces that make bodies which are nearly right.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "\"jsonrpc\":\"2.0\"",
        "\"jsonrpc\":2.0",
        "\"id\":1",
        "\"id\":\"a\\u0062\"",
        "\"id\":1e2",
        "\"id\":null",
        "\"method\":\"tools/call\"",
        "\"method\":\"tools\\/call\"",
        "\"Method\":\"ping\"",
        "\"result\":{}",
        "\"params\":{\"name\":\"safe\"}",
        "\"params\":{\"name\":\"safe\",\"name\":\"danger\"}",
        "\"params\":{\"n\\u0061me\":\"safe\",\"arguments\":{\"a\":[1,{\"b\":1.50}],\"c\":\"\\ud83d\\ude00\"}}",
        "\"params\":{\"name\":\"safe\",\"arguments\":{\"a\":1,\"\\u0061\":2}}",
        "\"params\":[]",
        "\"params\":{\"uri\":\"x:y\"}",
        "\"params\":{\"name\":\"\\ud800\"}",
        "\"params\":{\"name\":\"safe\",\"arguments\":{\"n\":1e400}}",
    ];
    (0..words.len()).prop_map(move |index| words[index].to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bodies_that_are_nearly_right(pieces in proptest::collection::vec(piece(), 0..6), space in "[ \t\r\n]{0,2}", tail in "[ }]{0,2}") {
        message(format!("{space}{{{}}}{tail}", pieces.join(&format!(",{space}"))).as_bytes());
    }

    #[test]
    fn any_bytes_at_all(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        message(&body);
    }

    #[test]
    fn a_good_body_with_one_byte_changed(at in 0..150_usize, byte in any::<u8>()) {
        let mut body = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"safe","arguments":{"k":"v","n":[1,2.5,-3e2]},"_meta":{"progressToken":"t"}}}"#.to_vec();
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        message(&body);
    }
}
