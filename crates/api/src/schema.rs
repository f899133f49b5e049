//! The resources' own schema, applied as the API server applies it: types, bounds, enums, unknown fields, defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::cel::{CompiledSchema, ValidationErrors, Validator, compile_schema};
use kube::core::crd::CustomResourceExt;
use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::object::Kind;
use crate::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};

/// Something is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Where, as `spec.tools[2].name`.
    pub path: String,
    /// A stable word: `UnknownField`, `MissingField`, `WrongType`, `WrongValue`, `Duplicate`, `Rule`.
    pub reason: &'static str,
    /// What, and how to mend it.
    pub message: String,
}

static SCHEMAS: LazyLock<BTreeMap<Kind, JSONSchemaProps>> = LazyLock::new(|| {
    let crds = [
        (Kind::Server, MCPServer::crd()),
        (Kind::Grant, MCPAccessGrant::crd()),
        (Kind::Session, MCPAgentSession::crd()),
    ];
    crds.into_iter()
        .filter_map(|(kind, crd)| {
            let version = crd.spec.versions.into_iter().next()?;
            Some((kind, version.schema?.open_api_v3_schema?))
        })
        .collect()
});

/// The rules of each kind. To compile them costs thousands of times what it costs to ask them.
static RULES: LazyLock<BTreeMap<Kind, CompiledSchema>> = LazyLock::new(|| {
    let compile = |schema| serde_json::to_value(schema).map(|schema| compile_schema(&schema));
    SCHEMAS.iter().filter_map(|(kind, schema)| Some((*kind, compile(schema).ok()?))).collect()
});

/// The patterns of all kinds, by their text.
static PATTERNS: LazyLock<BTreeMap<String, Regex>> = LazyLock::new(|| {
    let mut patterns = BTreeMap::new();
    SCHEMAS.values().for_each(|schema| collect_patterns(schema, &mut patterns));
    patterns
});

static VALIDATOR: LazyLock<Validator> = LazyLock::new(Validator::new);

/// Checks `object` against the schema of `kind` and fills in defaults. `metadata` and `status` are not looked at.
pub fn apply(kind: Kind, object: &mut Value) -> Vec<SchemaProblem> {
    let mut problems = Vec::new();
    let schema = SCHEMAS.get(&kind).and_then(|root| root.properties.as_ref()).and_then(|p| p.get("spec"));
    match (schema, object.get_mut("spec")) {
        (Some(schema), Some(spec)) => check(schema, spec, "spec", &mut problems),
        (_, _) => problems.push(SchemaProblem {
            path: "spec".into(),
            reason: "MissingField",
            message: "is missing; every resource needs one".into(),
        }),
    }
    problems
}

/// Asks the CEL rules of `kind` about an object that [`apply`] found nothing wrong with; those on changes only if it
/// takes the place of `old`.
pub(crate) fn check_rules(kind: Kind, object: &Value, old: Option<&Value>) -> Vec<SchemaProblem> {
    let broken = |path: &str, message: &str| SchemaProblem {
        path: path.into(),
        reason: "Rule",
        message: message.into(),
    };
    let Some(rules) = RULES.get(&kind) else {
        return vec![broken("spec", "cannot be checked: its kind has no rules")];
    };
    let errors = VALIDATOR.validate_compiled(rules, object, old).err().map(ValidationErrors::into_vec);
    let tell = |path: &str, text: &str| match path {
        // Metadata has no schema, so its rules stand at the root and name the field themselves.
        "" => text.split_once(": ").map_or_else(|| broken("", text), |(path, text)| broken(path, text)),
        path => broken(path, text),
    };
    errors.unwrap_or_default().iter().map(|error| tell(&error.field_path, &error.message)).collect()
}

fn check(schema: &JSONSchemaProps, value: &mut Value, path: &str, problems: &mut Vec<SchemaProblem>) {
    let mut report = |reason, message| problems.push(SchemaProblem { path: path.into(), reason, message });
    let wanted = schema.type_.as_deref().unwrap_or_default();
    if !has_type(value, wanted) {
        report("WrongType", format!("must be {}, is {}", with_article(wanted), with_article(type_of(value))));
        return;
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|allowed| allowed.0 == *value)
    {
        let allowed: Vec<String> =
            allowed.iter().filter_map(|a| a.0.as_str().map(|a| format!("`{a}`"))).collect();
        let given = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
        report(
            "WrongValue",
            format!("is `{given}`; must be one of {}{}", allowed.join(", "), hint(&given, &allowed)),
        );
        return;
    }
    if let Some(message) = bounds(schema, value) {
        report("WrongValue", message);
    }
    match value {
        Value::Object(_) => check_object(schema, value, path, problems),
        Value::Array(items) => {
            check_unique(schema, items, path, problems);
            let Some(schema) = schema.items.as_ref() else { return };
            let JSONSchemaPropsOrArray::Schema(schema) = schema else { return };
            for (index, item) in items.iter_mut().enumerate() {
                check(schema, item, &format!("{path}[{index}]"), problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check_object(schema: &JSONSchemaProps, value: &mut Value, path: &str, problems: &mut Vec<SchemaProblem>) {
    let Some(object) = value.as_object_mut() else {
        return;
    };
    let Some(known) = &schema.properties else {
        check_map(schema, object, path, problems);
        return;
    };
    // As the API server does for fields that are not nullable.
    object.retain(|_, value| !value.is_null());
    for name in object.keys().filter(|name| !known.contains_key(*name)) {
        let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
        problems.push(SchemaProblem {
            path: format!("{path}.{name}"),
            reason: "UnknownField",
            message: format!("is not a field here{}", hint(name, &names)),
        });
    }
    for name in schema.required.iter().flatten().filter(|name| !object.contains_key(*name)) {
        problems.push(SchemaProblem {
            path: format!("{path}.{name}"),
            reason: "MissingField",
            message: "is missing and has no default".into(),
        });
    }
    for (name, schema) in known {
        if let Some(default) = &schema.default
            && !object.contains_key(name)
        {
            object.insert(name.clone(), default.0.clone());
        }
        if let Some(value) = object.get_mut(name) {
            check(schema, value, &format!("{path}.{name}"), problems);
        }
    }
}

/// Items of a set, or what identifies items of a map, may stand once only.
fn check_unique(schema: &JSONSchemaProps, items: &[Value], path: &str, problems: &mut Vec<SchemaProblem>) {
    let identity: &dyn Fn(&Value) -> Option<String> = match schema.x_kubernetes_list_type.as_deref() {
        Some("set") => &|item| Some(item.to_string()),
        Some("map") => &|item| {
            let keys = schema.x_kubernetes_list_map_keys.iter().flatten();
            keys.map(|key| Some(item.get(key)?.to_string()))
                .collect::<Option<Vec<_>>>()
                .map(|key| key.join(", "))
        },
        _ => return,
    };
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(key) = identity(item)
            && !seen.insert(key.clone())
        {
            let message = format!("has {key} a second time; each may stand once only");
            problems.push(SchemaProblem { path: format!("{path}[{index}]"), reason: "Duplicate", message });
        }
    }
}

fn check_map(
    schema: &JSONSchemaProps,
    map: &mut Map<String, Value>,
    path: &str,
    problems: &mut Vec<SchemaProblem>,
) {
    if let Some(max) = schema.max_properties.filter(|max| map.len() > usize::try_from(*max).unwrap_or(0)) {
        let message = format!("has {} entries; at most {max} are allowed", map.len());
        problems.push(SchemaProblem { path: path.into(), reason: "WrongValue", message });
    }
    if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
        for (key, value) in map {
            check(schema, value, &format!("{path}[{key}]"), problems);
        }
    }
}

fn has_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn with_article(name: &str) -> String {
    match name {
        "null" => "null".into(),
        "object" | "array" | "integer" => format!("an {name}"),
        name => format!("a {name}"),
    }
}

fn collect_patterns(schema: &JSONSchemaProps, patterns: &mut BTreeMap<String, Regex>) {
    if let Some(pattern) = &schema.pattern
        && let Ok(compiled) = Regex::new(pattern)
    {
        patterns.insert(pattern.clone(), compiled);
    }
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
        Some(JSONSchemaPropsOrArray::Schemas(_)) | None => None,
    };
    let values = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(&**values),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
    };
    let fields = schema.properties.iter().flat_map(BTreeMap::values);
    fields.chain(items).chain(values).for_each(|schema| collect_patterns(schema, patterns));
}

fn bounds(schema: &JSONSchemaProps, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            if schema.max_length.is_some_and(|max| length > max) {
                return Some(format!(
                    "is {length} characters long; at most {} are allowed",
                    schema.max_length?
                ));
            }
            if schema.min_length.is_some_and(|min| length < min) {
                return Some("must not be empty".into());
            }
            if let Some(pattern) = &schema.pattern
                && !PATTERNS.get(pattern).is_some_and(|pattern| pattern.is_match(text))
            {
                return Some(format!("is `{text}`; must match {pattern}"));
            }
            if schema.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
                return Some(format!("is `{text}`; must be a time like 2030-12-31T23:59:00Z (RFC 3339)"));
            }
            None
        }
        Value::Number(number) => {
            let number = number.as_f64()?;
            let (min, max) = (schema.minimum.unwrap_or(f64::MIN), schema.maximum.unwrap_or(f64::MAX));
            (number < min || number > max).then(|| match (schema.minimum, schema.maximum) {
                (Some(min), Some(max)) => format!("is {number}; must be from {min} to {max}"),
                (_, _) => format!("is {number}, which is out of range"),
            })
        }
        Value::Array(items) => {
            let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let max = schema.max_items.filter(|max| count > *max)?;
            Some(format!("has {count} items; at most {max} are allowed"))
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// `; did you mean …?` where one of the names is close.
fn hint(given: &str, names: &[String]) -> String {
    let close = names
        .iter()
        .map(|name| (distance(&given.to_lowercase(), &name.trim_matches('`').to_lowercase()), name))
        .filter(|(distance, _)| *distance <= 1 + given.len() / 4)
        .min();
    close.map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, (y, pair)) in b.iter().zip(row.windows(2)).enumerate() {
            let substitute = pair.first().copied().unwrap_or(0) + usize::from(x != *y);
            let insert = next.get(j).copied().unwrap_or(0) + 1;
            let delete = pair.last().copied().unwrap_or(0) + 1;
            next.push(substitute.min(insert).min(delete));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
