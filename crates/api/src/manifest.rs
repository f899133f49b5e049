//! Manifests in files: YAML with any number of documents, or JSON.
//!
//! Each document stands for itself: what is wrong with one is told with file, line, field and reason, and the others
//! load all the same.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::object::{Kind, Object};
use crate::schema;
use crate::{API_VERSION, GROUP};

/// A document that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The resource, with defaults filled in.
    pub object: Object,
    /// Where its document begins in the file; the first line is 1.
    pub line: usize,
}

/// A document that was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestProblem {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The object as far as it is known: `MCPServer mcp-servers/payments`.
    pub object: String,
    /// Field; empty: the document as a whole.
    pub path: String,
    /// A stable word.
    pub reason: &'static str,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        for part in [&self.object, &self.path].into_iter().filter(|part| !part.is_empty()) {
            write!(f, " {part}")?;
        }
        write!(f, " {} ({})", self.message, self.reason)
    }
}

/// A document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its text, without separators.
    pub text: &'a str,
    /// Line it begins at, from 1.
    pub line: usize,
    /// Where its text begins in the file, in bytes.
    pub offset: usize,
}

/// The documents of a YAML text, split at lines that begin with `---`.
pub fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.starts_with("---") && line.trim_end().len() == 3 {
            documents.push(Document {
                text: text.get(start..offset).unwrap_or_default(),
                line: start_line,
                offset: start,
            });
            start = offset + line.len();
            start_line = index + 2;
        }
        offset += line.len();
    }
    documents.push(Document { text: text.get(start..).unwrap_or_default(), line: start_line, offset: start });
    documents.retain(|document| {
        document.text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

/// Loads all documents of `text`; `file` is named in problems.
pub fn load_str(file: &str, text: &str) -> (Vec<Loaded>, Vec<ManifestProblem>) {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for document in documents(text) {
        match load(file, &document) {
            Ok(object) => {
                let key = (object.kind(), object.id());
                if let Some(first) = seen.insert(key, document.line) {
                    let message = format!("is defined twice in this file, first at line {first}; keep one");
                    problems.push(problem(file, &document, Some(&object), "Duplicate", message));
                } else {
                    loaded.push(Loaded { object, line: document.line });
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    (loaded, problems)
}

fn problem(
    file: &str,
    document: &Document<'_>,
    object: Option<&Object>,
    reason: &'static str,
    message: String,
) -> ManifestProblem {
    let object = object.map_or_else(String::new, |object| {
        let (namespace, name) = object.id();
        format!("{} {namespace}/{name}", object.kind().as_str())
    });
    ManifestProblem { file: file.into(), line: document.line, object, path: String::new(), reason, message }
}

fn load(file: &str, document: &Document<'_>) -> Result<Object, Vec<ManifestProblem>> {
    let whole = |reason, message| vec![problem(file, document, None, reason, message)];
    let mut value = parse_yaml(document.text).map_err(|error| {
        let line = error.location().map_or(0, |at| usize::try_from(at.line()).unwrap_or(1).saturating_sub(1));
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default().to_string();
        let mut found = whole("Syntax", format!("cannot be read as YAML: {text}"));
        if let Some(found) = found.first_mut() {
            found.line = document.line + line;
        }
        found
    })?;
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    let version = text(&value, "/apiVersion");
    if version != API_VERSION {
        return Err(whole(
            "WrongKind",
            format!("has apiVersion `{version}`; this directory holds `{API_VERSION}` only"),
        ));
    }
    let given = text(&value, "/kind");
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == given) else {
        return Err(whole(
            "WrongKind",
            format!("has kind `{given}`; {GROUP} has MCPServer, MCPAccessGrant and MCPAgentSession"),
        ));
    };
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    let mut found = check_metadata(&mut value);
    found.extend(schema::apply(kind, &mut value));
    let name = format!(
        "{} {}/{}",
        kind.as_str(),
        text(&value, "/metadata/namespace"),
        text(&value, "/metadata/name")
    );
    let report = |found: Vec<schema::SchemaProblem>| {
        let report = |p: schema::SchemaProblem| ManifestProblem {
            file: file.into(),
            line: document.line + line_of(document.text, &p.path),
            object: name.clone(),
            path: p.path,
            reason: p.reason,
            message: p.message,
        };
        found.into_iter().map(report).collect::<Vec<_>>()
    };
    if !found.is_empty() {
        return Err(report(found));
    }
    typed(kind, value, None).map_err(report)
}

fn check_metadata(value: &mut Value) -> Vec<schema::SchemaProblem> {
    let wrong = |path: &str, message: String| {
        vec![schema::SchemaProblem { path: path.into(), reason: "WrongValue", message }]
    };
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
        return wrong("metadata", "is missing; give the object a name".into());
    };
    metadata.entry("namespace").or_insert_with(|| "default".into());
    for field in ["name", "namespace"] {
        let given = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
        if !is_dns_name(given) {
            let message = format!(
                "is `{given}`; must be lower-case letters, digits, `-` and `.`, at most 253 characters"
            );
            return wrong(&format!("metadata.{field}"), message);
        }
    }
    Vec::new()
}

/// Whether `name` is a DNS subdomain (RFC 1123), as Kubernetes demands of object names.
pub fn is_dns_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            let ends = [label.bytes().next(), label.bytes().last()];
            ends.into_iter().all(|end| end.is_some_and(fits)) && label.bytes().all(|b| fits(b) || b == b'-')
        })
}

/// The typed object, after the CEL rules of its schema.
fn typed(kind: Kind, value: Value, old: Option<&Value>) -> Result<Object, Vec<schema::SchemaProblem>> {
    let found = schema::check_rules(kind, &value, old);
    if !found.is_empty() {
        return Err(found);
    }
    let object = match kind {
        Kind::Server => serde_json::from_value(value).map(|object| Object::Server(Box::new(object))),
        Kind::Grant => serde_json::from_value(value).map(|object| Object::Grant(Box::new(object))),
        Kind::Session => serde_json::from_value(value).map(|object| Object::Session(Box::new(object))),
    };
    object.map_err(|error| {
        vec![schema::SchemaProblem { path: String::new(), reason: "WrongValue", message: error.to_string() }]
    })
}

/// Reads one YAML document as YAML 1.2 has it: only `true` and `false` are booleans, so an object may be called `n`.
///
/// # Errors
/// It is no YAML.
pub fn parse_yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

/// Loads one object from JSON, as a client sends it.
///
/// # Errors
/// What is wrong, with field and reason.
pub fn load_json(value: Value) -> Result<Object, Vec<schema::SchemaProblem>> {
    load_update(value, None)
}

/// Loads one object from JSON that takes the place of `old`, by the rules on changes too.
///
/// # Errors
/// What is wrong, with field and reason.
pub fn load_update(mut value: Value, old: Option<&Object>) -> Result<Object, Vec<schema::SchemaProblem>> {
    let given = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == given) else {
        let message = format!("is `{given}`; {GROUP} has MCPServer, MCPAccessGrant and MCPAgentSession");
        return Err(vec![schema::SchemaProblem { path: "kind".into(), reason: "WrongKind", message }]);
    };
    let mut found = check_metadata(&mut value);
    found.extend(schema::apply(kind, &mut value));
    let old = old.and_then(|old| old.to_json().ok());
    if found.is_empty() { typed(kind, value, old.as_ref()) } else { Err(found) }
}

/// A document of `object`.
///
/// # Errors
/// Never for objects that were loaded.
pub fn to_yaml(object: &Object) -> Result<String, String> {
    let value = object.to_json().map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&value).map_err(|error| error.to_string())
}

/// Lines from a document's beginning to the field at `path`, as far as its keys are found.
fn line_of(text: &str, path: &str) -> usize {
    let mut from = 0;
    for part in path.split('.') {
        let (name, index) = part
            .split_once('[')
            .map_or((part, None), |(name, rest)| (name, rest.trim_end_matches(']').parse::<usize>().ok()));
        let found = text.lines().enumerate().skip(from).find(|(_, line)| {
            let line = line.trim_start().trim_start_matches("- ").trim_start().trim_matches(['"', '{']);
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(':'))
        });
        let Some((line, _)) = found else { break };
        from = line;
        if let Some(index) = index {
            let items = text
                .lines()
                .enumerate()
                .skip(from + 1)
                .filter(|(_, line)| line.trim_start().starts_with("- "));
            from = items.map(|(line, _)| line).nth(index).unwrap_or(from);
        }
    }
    from
}
