//! Schemas of maps, whose bounds have no attribute.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Free labels of an item.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    map(32, 256)
}

/// Annotations of a rendered object.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    map(64, 4096)
}

fn map(entries: u32, value: u32) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": entries,
        "additionalProperties": { "type": "string", "maxLength": value },
    })
}
