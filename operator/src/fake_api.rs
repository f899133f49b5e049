//! An API server of single objects, for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// An API server of Secrets and webhook configurations: what it holds by path, and how often it was written.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    objects: Mutex<BTreeMap<String, Value>>,
    writes: AtomicUsize,
}

impl Fake {
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let fake = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = Arc::clone(&fake);
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(axum::body::Body::new(body), 1 << 20).await.unwrap();
                let kind = parts.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_string());
                // Others get their turn between a read and a write.
                tokio::task::yield_now().await;
                let (status, answer) = fake.answer(&parts.method, parts.uri.path(), kind.as_deref(), &body);
                let answer =
                    Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, kind: Option<&str>, body: &[u8]) -> (StatusCode, Value) {
        let failure = |status: StatusCode| {
            let reason = if status == StatusCode::NOT_FOUND { "NotFound" } else { "Conflict" };
            (status, json!({ "status": "Failure", "message": "", "reason": reason, "code": status.as_u16() }))
        };
        let mut objects = self.objects.lock().unwrap();
        if *method == Method::GET {
            return objects
                .get(path)
                .map_or_else(|| failure(StatusCode::NOT_FOUND), |found| (StatusCode::OK, found.clone()));
        }
        let patch: Value = serde_json::from_slice(body).unwrap();
        let version = self.writes.fetch_add(1, Ordering::SeqCst).to_string();
        let written = match (kind, objects.get(path).cloned()) {
            (Some("application/apply-patch+yaml"), None) => patch,
            (Some("application/merge-patch+json"), Some(found)) => {
                if patch["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT);
                }
                let mut merged = found;
                merge(&mut merged, &patch);
                merged
            }
            (_, Some(_)) => return failure(StatusCode::CONFLICT),
            (_, None) => return failure(StatusCode::NOT_FOUND),
        };
        let written = objects.entry(path.to_string()).insert_entry(written).into_mut();
        written["metadata"]["resourceVersion"] = json!(version);
        (StatusCode::OK, written.clone())
    }

    pub(crate) fn put(&self, path: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!("given");
        self.objects.lock().unwrap().insert(path.into(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.objects.lock().unwrap()[path].clone()
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

fn merge(into: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            Value::Object(_) if into[key].is_object() => merge(&mut into[key], value),
            _ => into[key] = value.clone(),
        }
    }
}
