//! The strict reader against an independent one.

use std::fmt;

use sallyport_mcp_wire::{Fault, Limits, Scratch, Text, read};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Whatever the strict reader accepts, an independent reader that refuses repeated keys accepts too, and understands
/// alike. Answers with the fault, if it was not accepted.
///
/// # Panics
/// The two disagree.
pub fn message(body: &[u8]) -> Option<Fault> {
    let mut scratch = Scratch::new(1);
    let message = match read(body, &Limits::default(), &mut scratch) {
        Ok(message) => message,
        Err(rejection) => return Some(rejection.fault),
    };
    let value = match serde_json::from_slice(body) {
        Ok(Unique(value)) => value,
        Err(error) => panic!("the reference refuses what was accepted: {error}"),
    };
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let own = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_str().to_string());
    let of_json = |span: Option<&str>| span.map(|span| serde_json::from_str(span).unwrap_or(Value::Null));
    let method = Some(message.method_name.as_str()).filter(|name| !name.is_empty());
    assert_eq!(method, text("/method").filter(|name| !name.is_empty()));
    assert_eq!(own(&message.name).as_deref(), text("/params/name"));
    assert_eq!(own(&message.uri).as_deref(), text("/params/uri"));
    assert_eq!(own(&message.task_id).as_deref(), text("/params/taskId"));
    assert_eq!(of_json(message.id).as_ref(), value.get("id"));
    assert_eq!(of_json(message.arguments).as_ref(), value.pointer("/params/arguments"));
    assert_eq!(message.as_task, value.pointer("/params/task").is_some());
    assert_eq!(
        own(&message.meta_version).as_deref(),
        text("/params/_meta/io.modelcontextprotocol~1protocolVersion")
    );
    let subscribed: Vec<&str> = message.subscriptions.iter().map(Text::as_str).collect();
    let listed = value.pointer("/params/notifications/resourceSubscriptions").and_then(Value::as_array);
    let listed: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(subscribed, listed);
    None
}

/// A JSON value of objects in which no key stands twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

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
