//! One document of a file, changed; every other byte of the file stays.

use std::collections::BTreeMap;

use sallyport_api::Object;
use sallyport_api::manifest::{Document, ManifestProblem, documents, load_str, parse_yaml};
use sallyport_api::schema::SchemaProblem;
use sallyport_policy::ObjectId;
use serde_json::Value;

use crate::resources::{Key, ResourceError};

/// The text with the document of `key` changed; none: the change changes nothing. Comments above the document stay,
/// those within it are lost.
pub(super) fn change(
    file: &str,
    text: &str,
    key: &Key,
    change: impl FnOnce(&mut Value),
) -> Result<Option<String>, ResourceError> {
    let (before, known) = load_str(file, text);
    let line = before.iter().find(|loaded| key_of(&loaded.object) == *key).map(|loaded| loaded.line);
    let document =
        documents(text).into_iter().find(|document| Some(document.line) == line).ok_or_else(|| {
            let first = known.first().map_or_else(String::new, |problem| format!(" ({problem})"));
            let (kind, id) = (key.0.as_str(), &key.1);
            ResourceError::Conflict(format!(
                "{file} as it is now does not hold a valid {kind} `{id}`{first}; mend the file first"
            ))
        })?;
    let mut value = parse(document.text)?;
    let old = value.clone();
    change(&mut value);
    if value == old {
        return Ok(None);
    }
    let edited = splice(file, text, &document, &value)?;
    let (after, problems) = load_str(file, &edited);
    let objects = |loaded: Vec<sallyport_api::manifest::Loaded>| -> BTreeMap<Key, Object> {
        loaded.into_iter().map(|loaded| (key_of(&loaded.object), loaded.object)).collect()
    };
    let (mut before, mut after) = (objects(before), objects(after));
    if after.remove(key).is_none() {
        return Err(invalid(problems.into_iter().filter(|problem| !known.contains(problem))));
    }
    before.remove(key);
    // INVARIANT (one object only): what the file says of its other objects is the same as before.
    if before != after || problems.len() > known.len() {
        return Err(ResourceError::Unrepresentable(format!("{file} would change beyond the one object")));
    }
    Ok(Some(edited))
}

/// The text of a new file with one object.
pub(super) fn fresh(file: &str, document: &Value, key: &Key) -> Result<String, ResourceError> {
    let text = yaml(document)?;
    let (loaded, problems) = load_str(file, &text);
    match loaded.as_slice() {
        [one] if problems.is_empty() && key_of(&one.object) == *key => Ok(text),
        _ => Err(invalid(problems.into_iter())),
    }
}

fn key_of(object: &Object) -> Key {
    let (namespace, name) = object.id();
    (object.kind(), ObjectId::new(namespace, name))
}

fn invalid(problems: impl Iterator<Item = ManifestProblem>) -> ResourceError {
    let problems: Vec<SchemaProblem> =
        problems.map(|p| SchemaProblem { path: p.path, reason: p.reason, message: p.message }).collect();
    if problems.is_empty() {
        return ResourceError::Unrepresentable("what was written is not what was read back".into());
    }
    ResourceError::Invalid(problems)
}

fn parse(text: &str) -> Result<Value, ResourceError> {
    parse_yaml(text).map_err(|error| ResourceError::Unrepresentable(error.to_string()))
}

fn yaml(value: &Value) -> Result<String, ResourceError> {
    serde_saphyr::to_string(value).map_err(|error| ResourceError::Unrepresentable(error.to_string()))
}

fn splice(file: &str, text: &str, document: &Document<'_>, value: &Value) -> Result<String, ResourceError> {
    let end = document.offset + document.text.len();
    let (head, tail) = (text.get(..document.offset).unwrap_or_default(), text.get(end..).unwrap_or_default());
    let is_json = file.ends_with(".json") || document.text.trim_start().starts_with('{');
    let (lead, body) = if is_json {
        let body = serde_json::to_string_pretty(value)
            .map_err(|error| ResourceError::Unrepresentable(error.to_string()))?;
        ("", body)
    } else {
        (leading_comments(document.text), yaml(value)?)
    };
    Ok(format!("{head}{lead}{}\n{tail}", body.trim_end()))
}

/// Blank lines and comments before the first line that says something.
fn leading_comments(text: &str) -> &str {
    let is_comment = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let length = text.split_inclusive('\n').take_while(is_comment).map(str::len).sum();
    text.get(..length).unwrap_or_default()
}
