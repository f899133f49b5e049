//! Objects as an API server holds them: they may be older than today's rules.

use kube::core::ObjectMeta;
use serde_json::{Map, Value};

use crate::object::{Kind, Object};
use crate::schema::{self, SchemaProblem};
use crate::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer, PolicyDecision};

/// An object that does not keep today's schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    /// What may take effect of it all the same; none: nothing.
    pub left: Option<Object>,
    /// What is wrong with it, one thing at least.
    pub problems: Vec<SchemaProblem>,
}

/// Takes an object as it is stored; `data` is all of it but its metadata. A status that cannot be read is left out.
///
/// # Errors
/// It does not keep today's schema. Where it can be understood all the same, a server goes on as it is, a grant goes on
/// denying and allows nothing, and a session counts no more: doubt never allows.
pub fn load_stored(kind: Kind, metadata: ObjectMeta, mut data: Value) -> Result<Object, Box<Unfit>> {
    let mut problems = schema::apply(kind, &mut data);
    // It has no rules, and as many conditions as cost the most to ask about.
    let status = data.as_object_mut().and_then(|data| data.remove("status")).unwrap_or_default();
    if problems.is_empty() {
        name_it(&metadata, &mut data);
        problems = schema::check_rules(kind, &data, None);
    }
    match typed(kind, metadata, &mut data, status) {
        Ok(object) if problems.is_empty() => Ok(object),
        Ok(object) => Err(Box::new(Unfit { left: left_of(object), problems })),
        Err(error) => {
            if problems.is_empty() {
                let message = error.to_string();
                problems.push(SchemaProblem { path: "spec".into(), reason: "WrongValue", message });
            }
            Err(Box::new(Unfit { left: None, problems }))
        }
    }
}

/// Rules may ask for the name.
fn name_it(metadata: &ObjectMeta, data: &mut Value) {
    let Some(data) = data.as_object_mut() else { return };
    let mut named = Map::new();
    for (field, value) in [("name", &metadata.name), ("namespace", &metadata.namespace)] {
        named.extend(value.clone().map(|value| (field.to_string(), Value::String(value))));
    }
    data.insert("metadata".into(), Value::Object(named));
}

fn typed(kind: Kind, metadata: ObjectMeta, data: &mut Value, status: Value) -> serde_json::Result<Object> {
    let spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
    Ok(match kind {
        Kind::Server => Object::Server(Box::new(MCPServer {
            metadata,
            spec: serde_json::from_value(spec)?,
            status: serde_json::from_value(status).ok(),
        })),
        Kind::Grant => Object::Grant(Box::new(MCPAccessGrant {
            metadata,
            spec: serde_json::from_value(spec)?,
            status: serde_json::from_value(status).ok(),
        })),
        Kind::Session => Object::Session(Box::new(MCPAgentSession {
            metadata,
            spec: serde_json::from_value(spec)?,
            status: serde_json::from_value(status).ok(),
        })),
    })
}

fn left_of(object: Object) -> Option<Object> {
    match object {
        Object::Server(_) => Some(object),
        Object::Grant(mut grant) => {
            grant.spec.allowed_side_effects.clear();
            grant.spec.tool_rules.retain(|rule| rule.decision == PolicyDecision::Deny);
            Some(Object::Grant(grant))
        }
        Object::Session(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(kind: Kind, spec: Value) -> Result<Object, Box<Unfit>> {
        let metadata =
            ObjectMeta { name: Some("n".into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
        load_stored(kind, metadata, json!({ "spec": spec, "status": { "phase": "Ready", "conditions": 7 } }))
    }

    #[test]
    fn what_is_as_it_must_be_is_taken_with_its_defaults_and_without_a_status_that_cannot_be_read() {
        let Ok(Object::Server(server)) = load(Kind::Server, json!({ "image": "i" })) else { panic!() };
        assert_eq!((server.spec.port, server.metadata.name.as_deref()), (8088, Some("n")));
        assert_eq!(server.status, None);
    }

    #[test]
    fn an_older_server_goes_on() {
        let tool = json!({ "name": "t" });
        let unfit = load(Kind::Server, json!({ "image": "i", "tools": [tool, tool] })).unwrap_err();
        assert!(unfit.problems[0].path.starts_with("spec.tools"), "{unfit:?}");
        assert!(unfit.left.is_some());
    }

    #[test]
    fn an_older_grant_allows_nothing_and_goes_on_denying() {
        let rule = |name, decision| json!({ "name": name, "decision": decision });
        let spec = json!({
            "serverRef": { "name": "s" }, "subject": { "humanID": "h".repeat(5000) }, "allowedSideEffects": ["read"],
            "toolRules": [rule("a", "allow"), rule("b", "deny")],
        });
        let unfit = load(Kind::Grant, spec).unwrap_err();
        let Some(Object::Grant(left)) = unfit.left else { panic!("{:?}", unfit.problems) };
        assert_eq!(left.spec.allowed_side_effects, []);
        assert_eq!(left.spec.tool_rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn nothing_is_left_of_an_older_session_and_of_what_cannot_be_understood() {
        let session = json!({ "serverRef": { "name": "s" }, "subject": {} });
        assert_eq!(load(Kind::Session, session).unwrap_err().left, None);
        for spec in
            [json!({ "image": 7 }), json!(null), json!("text"), json!({ "image": "i", "replicas": 1e30 })]
        {
            let unfit = load(Kind::Server, spec).unwrap_err();
            assert!(unfit.left.is_none() && !unfit.problems.is_empty(), "{unfit:?}");
        }
    }
}
