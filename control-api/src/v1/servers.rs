//! Servers.

pub(super) mod get;
pub(super) mod list;

use sallyport_api::v1alpha1::MCPServer;
use sallyport_policy::ObjectId;
use sallyport_resolve::{exposure, resolve_server};
use serde_json::{Value, json};

use super::access::{flat, problem};
use super::policy::rules;
use crate::app::App;
use crate::resources::Stored;

/// A server: its spec, where it is reached, and what is wrong with it. Literal values of its environment are left out,
/// since people put secrets there.
fn shown(app: &App, id: &ObjectId, stored: &Stored, server: &MCPServer) -> Value {
    let mut flat = flat(id, stored);
    for field in ["env", "envVars"] {
        for variable in flat.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(variable) = variable.as_object_mut() {
                variable.remove("value");
            }
        }
    }
    let (policy, mut problems) = resolve_server(server, &app.settings);
    let path = match exposure(server) {
        Ok(exposure) => Value::from(exposure.path),
        Err(found) => {
            problems.push(found);
            Value::Null
        }
    };
    flat.insert("path".into(), path);
    flat.insert("policy".into(), rules(&policy));
    flat.insert("problems".into(), problems.iter().map(problem).collect());
    json!(flat)
}
