//! Keys, limits, and the table of routes.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::support::{KEY, World};
use crate::v1::ROUTES;

fn concrete(path: &str) -> String {
    path.replace("{namespace}", "mcp-servers").replace("{name}", "ops")
}

#[tokio::test]
async fn every_path_but_health_and_the_document_needs_a_key() {
    let world = World::new().await;
    let mut open = Vec::new();
    for route in ROUTES {
        for path in route.paths() {
            let method = route.verb.as_str().to_uppercase();
            for key in [None, Some(""), Some("The-key"), Some("the-key2")] {
                let mut request = Request::builder().method(method.as_str()).uri(concrete(&path));
                if let Some(key) = key {
                    request = request.header("x-api-key", key);
                }
                let answer = world.send(request.body(Body::empty()).unwrap()).await;
                if answer.status.is_success() {
                    open.push(path.clone());
                } else {
                    answer.error(401, "unauthorized");
                }
            }
        }
    }
    open.dedup();
    let expected = [
        "/healthz",
        "/readyz",
        "/api/openapi.json",
        "/api/v1/openapi.json",
        "/api/openapi.yaml",
        "/api/v1/openapi.yaml",
    ];
    assert_eq!(open, expected);
    let nowhere = Request::builder().uri("/api/nowhere").body(Body::empty()).unwrap();
    world.send(nowhere).await.error(401, "unauthorized");
}

#[tokio::test]
async fn a_key_sent_twice_is_none() {
    let world = World::new().await;
    let request =
        Request::builder().uri("/api/runtime/grants").header("x-api-key", KEY).header("x-api-key", KEY);
    world.send(request.body(Body::empty()).unwrap()).await.error(401, "unauthorized");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told() {
    let world = World::new().await;
    world.get("/api/v1/nowhere").await.error(404, "not_found");
    world.get("/elsewhere").await.error(404, "not_found");
    let answer = world.call("DELETE", "/api/runtime/grants", None).await;
    answer.error(405, "method_not_allowed");
    let allowed = answer.headers["allow"].to_str().unwrap().to_string();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_routes() {
    let world = World::new().await;
    let document = world.get("/api/openapi.json").await.body;
    let paths = document["paths"].as_object().unwrap();
    let mut documented = 0;
    for (path, item) in paths {
        let base = if item.get("servers").is_some() { "" } else { "/api/v1" };
        for method in ["get", "post", "patch", "put", "delete"] {
            let answer = world.call(&method.to_uppercase(), &concrete(&format!("{base}{path}")), None).await;
            if item.get(method).is_some() {
                documented += 1;
                assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert_ne!(
                    answer.at("/message"),
                    &json!("there is nothing at this path; /api/openapi.json lists what there is"),
                    "{method} {path}"
                );
            } else {
                answer.error(405, "method_not_allowed");
            }
        }
    }
    assert_eq!(documented, ROUTES.len());
}

#[tokio::test]
async fn every_schema_that_the_document_names_is_there_and_used() {
    fn references(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.insert(reference.rsplit('/').next().unwrap().into());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = World::new().await.get("/api/v1/openapi.json").await.body;
    let mut named = std::collections::BTreeSet::new();
    references(&document, &mut named);
    let schemas: std::collections::BTreeSet<String> =
        document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, schemas);
    assert!(document.pointer("/components/schemas/GrantApply/properties/maxTrust").is_some());
    let ids: Vec<&Value> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| {
            item.as_object().unwrap().values().filter_map(|operation| operation.get("operationId"))
        })
        .collect();
    let unique: std::collections::BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(unique.len(), ids.len());
}

#[tokio::test]
async fn the_page_about_the_api_names_every_route() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
    let page = std::fs::read_to_string(path).unwrap();
    for route in ROUTES {
        let path = route.root_path().unwrap_or(route.path);
        let named = format!("`{} {path}", route.verb.as_str().to_uppercase());
        assert!(page.contains(&named), "docs/api.md lacks {named}`");
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_told_apart() {
    let world = World::new().await;
    let send = async |content_type: &str, body: Vec<u8>| {
        let request = Request::builder().method("POST").uri("/api/runtime/grants").header("x-api-key", KEY);
        world.send(request.header("content-type", content_type).body(Body::from(body)).unwrap()).await
    };
    send("text/plain", b"{}".to_vec()).await.error(415, "unsupported_media_type");
    let answer = send("application/json", b"{\n  \"name\": x}".to_vec()).await;
    let message = answer.error(400, "invalid_request_body");
    assert!(message.contains("line 2 column 11"), "{message}");
    send("application/json; charset=utf-8", b"[]".to_vec()).await.error(400, "invalid_request_body");
    send("application/json", vec![b' '; (1 << 20) + 1]).await.error(413, "request_too_large");
    assert_eq!(world.text("access.yaml"), super::support::ACCESS);
}

#[tokio::test]
async fn too_many_requests_are_turned_away() {
    let world = World::new().await;
    let all = world.app.permits.acquire_many(2).await.unwrap();
    world.get("/api/runtime/grants").await.error(503, "service_unavailable");
    drop(all);
    assert_eq!(world.get("/api/runtime/grants").await.status, 200);
}

#[tokio::test]
async fn requests_have_an_id() {
    let world = World::new().await;
    let made = world.get("/api/runtime/grants").await;
    assert_eq!(made.headers["x-request-id"].len(), 16);
    let request =
        |id: &str| Request::builder().uri("/healthz").header("x-request-id", id).body(Body::empty()).unwrap();
    assert_eq!(world.send(request("abc-1")).await.headers["x-request-id"], "abc-1");
    assert_ne!(world.send(request("a b;c")).await.headers["x-request-id"], "a b;c");
}

#[tokio::test]
async fn requests_are_counted_by_template() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = crate::metrics::Metrics::register(&mut registry);
    let world = World::with_metrics(metrics).await;
    world.get("/api/runtime/grants/mcp-servers/ops").await;
    world.get("/api/runtime/grants/mcp-servers/none").await;
    world.get("/nowhere/secret-name").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = |status: u16| {
        format!(
            "sallyport_api_requests_total{{method=\"GET\",route=\"/api/runtime/grants/{{namespace}}/{{name}}\",status=\"{status}\"}} 1"
        )
    };
    assert!(text.contains(&line(200)) && text.contains(&line(404)), "{text}");
    assert!(text.contains("route=\"unmatched\"") && !text.contains("secret-name"), "{text}");
}
