//! Decision cases: one file, one idea. Policy and request in, the verdict that every judge must give out.
//!
//! ```text
//!   crates/policy/testdata/cases/NAME.yaml ─▶ Case ─┬─▶ crates/policy/tests/cases.rs          the core alone
//!                                                   ├─▶ wasm-filter/core/tests/worker/cases.rs  the filter's state machine
//!                                                   ├─▶ control-api/src/tests/cases.rs        the explain endpoint
//!                                                   └─▶ e2e/tests/cases.py                    a real Envoy
//! ```
//!
//! A case's policy is written as the `spec` of our own resources. The MCPServer and everything that names none of its
//! own live in a namespace of the case's name, so that all cases can be loaded side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;
use sallyport_api::{Kind, Object, manifest};
use sallyport_policy::{Grant, ServerPolicy, Session};
use sallyport_resolve::{Settings, resolve_grant, resolve_server, resolve_session, server_of};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a client sends without being told.
const MEDIA: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of its file, which says what must happen; also the name and namespace of its server.
    pub name: String,
    /// Its server, grants and sessions.
    pub objects: Vec<Object>,
    /// What is asked.
    pub request: Request,
    /// When, in seconds since 1970; none: at any time within the next decades.
    pub now: Option<i64>,
    /// When a proxy learned of the sessions, in seconds since 1970. Only a proxy knows this, so that only a proxy can
    /// give the verdict; none: just before the request.
    pub learned: Option<i64>,
    /// The verdict.
    pub expect: Expected,
}

/// A request to the case's server.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Values by header name; none at all: a usual header that is not sent.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Body.
    pub body: String,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// `allow` or `deny`.
    pub decision: String,
    /// Stable name of the reason or fault.
    pub reason: String,
    /// HTTP status of the answer to a denial; none exactly for what is allowed, which the server answers.
    pub status: Option<u16>,
    /// What `mode: observe` lets pass.
    pub would_deny: Option<String>,
    /// Name of the grant that decides, where the case is about which.
    pub grant: Option<String>,
}

/// A case's policy as the control plane resolves it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The server.
    pub server: ServerPolicy,
    /// Grants for it.
    pub grants: Vec<Grant>,
    /// Sessions of it.
    pub sessions: Vec<Session>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Map<String, Value>,
    #[serde(default)]
    grants: BTreeMap<String, Map<String, Value>>,
    #[serde(default)]
    sessions: BTreeMap<String, Map<String, Value>>,
    request: FileRequest,
    now: Option<Timestamp>,
    learned: Option<Timestamp>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRequest {
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, HeaderValue>,
    /// A text is sent as it is, anything else as JSON.
    #[serde(default)]
    body: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    One(String),
    Many(Vec<String>),
}

/// All cases, by name.
///
/// # Panics
/// A file cannot be read, or says nothing sensible.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(load_all);
    &CASES
}

fn load_all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/testdata/cases");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => panic!("cannot list {}: {error}", folder.display()),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

fn load(path: &Path) -> Case {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let file = text.and_then(|text| serde_saphyr::from_str::<File>(&text).map_err(|error| error.to_string()));
    match file.and_then(|file| case(name, file)) {
        Ok(case) => case,
        Err(problem) => panic!("{}: {problem}", path.display()),
    }
}

fn case(name: String, file: File) -> Result<Case, String> {
    let mut objects = vec![object(Kind::Server, &name, &name, file.server)?];
    for (kind, all) in [(Kind::Grant, file.grants), (Kind::Session, file.sessions)] {
        for (id, spec) in all {
            objects.push(object(kind, &name, &id, spec)?);
        }
    }
    let expect = file.expect;
    match (expect.decision.as_str(), expect.status) {
        ("allow", None) | ("deny", Some(_)) => {}
        (decision, status) => return Err(format!("`{decision}` does not go with status {status:?}")),
    }
    let path = format!("/{name}/mcp");
    let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    let (now, learned) = (seconds(file.now), seconds(file.learned));
    Ok(Case { name, objects, request: request(file.request, path), now, learned, expect })
}

/// A manifest of `kind`; `id` may name a namespace of its own. A session's `created` is the time of its creation.
fn object(kind: Kind, case: &str, id: &str, mut spec: Map<String, Value>) -> Result<Object, String> {
    let (namespace, name) = id.split_once('/').unwrap_or((case, id));
    let mut metadata = json!({ "name": name, "namespace": namespace });
    if let (Some(created), Some(metadata)) = (spec.remove("created"), metadata.as_object_mut()) {
        metadata.insert("creationTimestamp".into(), created);
    }
    match kind {
        Kind::Server => {
            spec.entry("image").or_insert_with(|| "registry.example.com/case".into());
            let gateway = spec.entry("gateway").or_insert_with(|| json!({}));
            if let Some(gateway) = gateway.as_object_mut() {
                gateway.insert("enabled".into(), true.into());
            }
        }
        Kind::Grant | Kind::Session => {
            spec.entry("serverRef").or_insert_with(|| json!({ "name": case, "namespace": case }));
        }
    }
    let manifest = json!({
        "apiVersion": sallyport_api::API_VERSION, "kind": kind.as_str(), "metadata": metadata, "spec": spec,
    });
    manifest::load_json(manifest).map_err(|problems| format!("{} `{id}`: {problems:?}", kind.as_str()))
}

fn request(file: FileRequest, path: String) -> Request {
    let usual = MEDIA.into_iter().map(|(name, value)| (name.to_string(), vec![value.to_string()]));
    let mut headers: BTreeMap<String, Vec<String>> = usual.collect();
    headers.extend(file.headers.into_iter().map(|(name, value)| match value {
        HeaderValue::One(value) => (name, vec![value]),
        HeaderValue::Many(values) => (name, values),
    }));
    let body = match file.body {
        Value::String(text) => text,
        Value::Null => String::new(),
        message @ (Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_)) => {
            message.to_string()
        }
    };
    Request { method: file.method.unwrap_or_else(|| "POST".into()), path, headers, body }
}

impl Case {
    /// When the case is judged: when it says, else now. In seconds since 1970.
    pub fn now(&self) -> i64 {
        self.now.unwrap_or_else(|| Timestamp::now().as_second())
    }

    /// Whether the case's verdict holds at this moment, so that a proxy that cannot be told the time can give it.
    pub fn holds_now(&self) -> bool {
        self.now.is_none() && self.learned.is_none()
    }

    /// The policy, resolved as the control plane does: what has no effect is left out. Sessions that do not say when
    /// they were created are new.
    ///
    /// # Panics
    /// The case has not exactly one server.
    pub fn policy(&self) -> Policy {
        let servers: Vec<_> = self.objects.iter().filter_map(as_server).collect();
        let [server] = servers.as_slice() else { panic!("{}: not one server", self.name) };
        let (resolved, _) = resolve_server(server, &Settings::default());
        let mut policy = Policy { server: resolved, grants: Vec::new(), sessions: Vec::new() };
        let named = |reference, namespace: Option<&String>| {
            let wanted = server_of(reference, namespace.map_or("default", String::as_str));
            Some(*server).filter(|_| wanted == policy.server.id)
        };
        for object in &self.objects {
            match object {
                Object::Server(_) => {}
                Object::Grant(grant) => {
                    let server = named(&grant.spec.server_ref, grant.metadata.namespace.as_ref());
                    policy.grants.extend(resolve_grant(grant, server).value);
                }
                Object::Session(session) => {
                    let server = named(&session.spec.server_ref, session.metadata.namespace.as_ref());
                    policy.sessions.extend(resolve_session(session, server, Some(self.now())).value);
                }
            }
        }
        policy
    }

    /// All headers, pseudo-headers first, as a proxy hands them to its filters.
    pub fn header_pairs(&self) -> Vec<(&str, &str)> {
        let request = &self.request;
        let pseudo = [
            (":method", request.method.as_str()),
            (":path", request.path.as_str()),
            (":authority", "gateway"),
            (":scheme", "http"),
        ];
        let more = request
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())));
        pseudo.into_iter().chain(more).collect()
    }
}

fn as_server(object: &Object) -> Option<&sallyport_api::v1alpha1::MCPServer> {
    match object {
        Object::Server(server) => Some(server),
        Object::Grant(_) | Object::Session(_) => None,
    }
}
