//! The OpenAPI document, made from the table of routes and the schemas of the resources.

mod schemas;

use serde_json::{Map, Value, json};

use crate::auth::HEADER;
use crate::error::Code;
use crate::v1::{ROUTES, Route};

/// Errors that every route with a key can answer.
const COMMON: [Code; 2] = [Code::Unauthorized, Code::Unavailable];

/// The document.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = route.root_path().unwrap_or(route.path);
        let item = paths.entry(path).or_insert_with(|| item(route));
        if let Some(item) = item.as_object_mut() {
            item.insert(route.verb.as_str().into(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sallyport control API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Servers, grants and sessions, their policy, and the audit events. Errors are always {error, message}.",
        },
        "servers": [{ "url": "/api/v1" }, { "url": "/api", "description": "The same without a version." }],
        "security": [{ "apiKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "apiKey": { "type": "apiKey", "in": "header", "name": HEADER } },
            "schemas": schemas::all(),
        },
    })
}

/// What all operations of a path share.
fn item(route: &Route) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "maxLength": 253 } }))
        .collect();
    let mut item = Map::new();
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.into());
    }
    if route.root_path().is_some() {
        item.insert("servers".into(), json!([{ "url": "/" }]));
    }
    Value::Object(item)
}

fn operation(route: &Route) -> Value {
    let query: Vec<Value> = route
        .query
        .iter()
        .map(|(name, meaning)| {
            let kind = if *name == "limit" { "integer" } else { "string" };
            json!({
                "name": name, "in": "query", "description": meaning, "schema": { "type": kind },
                "required": meaning.ends_with("required."),
            })
        })
        .collect();
    let mut operation = json!({
        "operationId": operation_id(route), "tags": [route.tag], "summary": route.summary, "parameters": query,
        "responses": responses(route),
    });
    if let Some(fields) = operation.as_object_mut() {
        if let Some(schema) = route.body {
            let content = json!({ "required": true, "content": { "application/json": { "schema": reference(schema) } } });
            fields.insert("requestBody".into(), content);
        }
        if route.is_open {
            fields.insert("security".into(), json!([]));
        }
    }
    operation
}

fn responses(route: &Route) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for (status, schema) in route.answers {
        let description = match status {
            201 => "Made, and confirmed by every connected proxy.",
            202 => {
                "Done, and not yet confirmed by every connected proxy: `enforced` tells how far it has come."
            }
            _ => "Done.",
        };
        let media = match route.path {
            path if path.ends_with(".yaml") => "application/yaml",
            path if path.ends_with("/stream") => "text/event-stream",
            _ => "application/json",
        };
        let body =
            json!({ "description": description, "content": { media: { "schema": reference(schema) } } });
        responses.insert(status.to_string(), body);
    }
    let common = if route.is_open { &[][..] } else { &COMMON[..] };
    for code in route.errors.iter().chain(common) {
        let entry = responses.entry(code.status().as_str()).or_insert_with(|| {
            json!({ "description": "", "content": { "application/json": { "schema": reference("Error") } } })
        });
        if let Some(Value::String(description)) = entry.get_mut("description") {
            let separator = if description.is_empty() { "" } else { ", " };
            description.push_str(separator);
            description.push_str(code.as_str());
        }
    }
    Value::Object(responses)
}

/// As `postRuntimeGrantsByNameDisable`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '-', '.']).filter(|part| !part.is_empty() && *part != "{namespace}");
    words.fold(route.verb.as_str().to_string(), |mut id, word| {
        let word = if word == "{name}" { "byName" } else { word };
        let mut letters = word.chars();
        id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        id.push_str(letters.as_str());
        id
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
