//! Whatever the strict reader accepts, an independent reader that refuses repeated keys understands alike.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::fmt;

use proptest::prelude::*;
use sallyport_mcp_wire::{Limits, Scratch, Text, read};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON value of an object in which no key stands twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value without repeated keys")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
                Ok(Unique(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Unique, E> {
                Ok(Unique(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
                let mut array = Vec::new();
                while let Some(Unique(item)) = items.next_element()? {
                    array.push(item);
                }
                Ok(Unique(array.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
                let mut object = Map::new();
                while let Some((key, Unique(value))) = members.next_entry::<String, Unique>()? {
                    if object.insert(key, value).is_some() {
                        return Err(A::Error::custom("repeated key"));
                    }
                }
                Ok(Unique(object.into()))
            }
        }

        deserializer.deserialize_any(Reading)
    }
}

fn agrees(body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = read(body, &Limits::default(), &mut Scratch::new(1)) else {
        return Ok(());
    };
    let Unique(value) = serde_json::from_slice(body)
        .map_err(|error| TestCaseError::fail(format!("the reference refuses what was accepted: {error}")))?;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(ToString::to_string);
    let own = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_string());
    prop_assert_eq!(
        Some(message.method_name.as_str().to_string()).filter(|name| !name.is_empty()),
        text("/method")
    );
    prop_assert_eq!(own(&message.name), text("/params/name"));
    prop_assert_eq!(own(&message.uri), text("/params/uri"));
    let id: Option<Value> = message.id.map(|id| serde_json::from_str(id).expect("an id is JSON"));
    prop_assert_eq!(id.as_ref(), value.get("id"));
    let arguments: Option<Value> =
        message.arguments.map(|span| serde_json::from_str(span).expect("a span is JSON"));
    prop_assert_eq!(arguments.as_ref(), value.pointer("/params/arguments"));
    Ok(())
}

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
        agrees(format!("{space}{{{}}}{tail}", pieces.join(&format!(",{space}"))).as_bytes())?;
    }

    #[test]
    fn any_bytes_at_all(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        agrees(&body)?;
    }

    #[test]
    fn a_good_body_with_one_byte_changed(at in 0..150_usize, byte in any::<u8>()) {
        let mut body = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"safe","arguments":{"k":"v","n":[1,2.5,-3e2]},"_meta":{"progressToken":"t"}}}"#.to_vec();
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        agrees(&body)?;
    }
}
