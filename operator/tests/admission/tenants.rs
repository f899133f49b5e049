//! What tenants must not do to others.

use serde_json::{Value, json};

use crate::support::{Tenancy, access, fields, server};

fn secret(name: &str) -> Value {
    json!([{ "name": "KEY", "secretKeyRef": { "name": name, "key": "k" } }])
}

#[tokio::test]
async fn a_secret_is_named_only_by_who_may_read_it() {
    let Some(t) = Tenancy::start("secrets").await else { return };
    let ns = t.namespace.as_str();
    let ways = [
        (server(json!({ "secretEnvVars": secret("admin-key") })), "spec.secretEnvVars[0].secretKeyRef.name"),
        (server(json!({ "envFromSecret": secret("admin-key") })), "spec.envFromSecret[0].secretKeyRef.name"),
        (server(json!({ "imagePullSecrets": ["admin-key"] })), "spec.imagePullSecrets[0]"),
        (
            server(json!({ "analytics": { "apiKeySecretRef": { "name": "admin-key", "key": "k" } } })),
            "spec.analytics.apiKeySecretRef.name",
        ),
    ];
    for (spec, field) in ways {
        let refused = t.tenant.create(ns, "MCPServer", "thief", spec).await;
        assert_eq!(fields(refused), (403, vec![field.to_string()]));
    }
    let token = json!({ "upstreamTokenSecretRef": { "name": "admin-key", "key": "k" } });
    let refused = t.tenant.create(ns, "MCPAgentSession", "thief", access(token)).await;
    assert_eq!(fields(refused), (403, vec!["spec.upstreamTokenSecretRef.name".to_string()]));

    let own =
        json!([{ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["own"], "verbs": ["get"] }]);
    t.grant_role("reader-of-own", own).await;
    t.tenant
        .create(ns, "MCPServer", "mine", server(json!({ "secretEnvVars": secret("own") })))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_changes_what_runs_is_judged_on_the_secrets_that_it_gets() {
    let Some(t) = Tenancy::start("images").await else { return };
    let ns = t.namespace.as_str();
    t.given("MCPServer", "shared", server(json!({ "secretEnvVars": secret("admin-key") }))).await;
    let harmless = json!({ "spec": { "description": "ours" } });
    t.tenant.patch(ns, "MCPServer", "shared", harmless).await.unwrap();
    for change in [json!({ "image": "registry.example.com/thief" }), json!({ "imageTag": "stolen" })] {
        let refused = t.tenant.patch(ns, "MCPServer", "shared", json!({ "spec": change })).await;
        assert_eq!(fields(refused).0, 403);
    }
}

#[tokio::test]
async fn the_platforms_gateway_and_ingress_are_the_platforms() {
    let Some(t) = Tenancy::start("privileged").await else { return };
    let ns = t.namespace.as_str();
    let gateway = |more: Value| {
        let mut gateway = json!({ "enabled": true });
        gateway.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "gateway": gateway })
    };
    let ways = [
        (gateway(json!({ "image": "registry.example.com/no-gateway" })), "spec.gateway.image"),
        (gateway(json!({ "upstreamURL": "http://payments.other.svc" })), "spec.gateway.upstreamURL"),
        (
            json!({ "ingressAnnotations": { "nginx.ingress.kubernetes.io/server-snippet": "x" } }),
            "spec.ingressAnnotations",
        ),
    ];
    for (more, field) in &ways {
        let refused = t.tenant.create(ns, "MCPServer", "rogue", server(more.clone())).await;
        assert_eq!(fields(refused), (403, vec![(*field).to_string()]));
    }
    for url in ["http://127.0.0.1:8088/mcp", "http://localhost:9000", "http://[::1]:8088"] {
        let spec = server(gateway(json!({ "upstreamURL": url })));
        t.tenant.create(ns, "MCPServer", "own", spec).await.unwrap();
        t.tenant.delete(ns, "MCPServer", "own").await.unwrap();
    }
    let refused = t
        .tenant
        .create(ns, "MCPServer", "rogue", server(gateway(json!({ "upstreamURL": "http://127.0.0.1:9901" }))))
        .await;
    assert_eq!(fields(refused), (422, vec!["spec.gateway.upstreamURL".to_string()]));

    // What the platform's people set stays as others change the rest, and they may be given the right.
    for (index, (more, _)) in ways.iter().enumerate() {
        let name = format!("blessed-{index}");
        t.given("MCPServer", &name, server(more.clone())).await;
        t.tenant.patch(ns, "MCPServer", &name, json!({ "spec": { "description": "ours" } })).await.unwrap();
    }
    let removed = json!({ "spec": { "ingressAnnotations": null } });
    assert_eq!(
        fields(t.tenant.patch(ns, "MCPServer", "blessed-2", removed).await).0,
        403,
        "may be what protects it"
    );
    let verbs = json!(["use-gateway-image", "use-upstream-url", "use-ingress-annotations"]);
    t.grant_role(
        "privileged",
        json!([{ "apiGroups": ["mcpruntime.org"], "resources": ["mcpservers"], "verbs": verbs }]),
    )
    .await;
    for (index, (more, _)) in ways.iter().enumerate() {
        t.tenant.create(ns, "MCPServer", &format!("allowed-{index}"), server(more.clone())).await.unwrap();
    }
}

#[tokio::test]
async fn a_place_that_is_anothers_cannot_be_had() {
    let (Some(a), Some(b)) = (Tenancy::start("place-a").await, Tenancy::start("place-b").await) else {
        return;
    };
    let made = b.admin.create("place-b", "MCPServer", "payments", server(json!({}))).await.unwrap();
    a.learn(made);
    let ways = [
        ("payments", json!({})),
        ("other", json!({ "ingressPath": "/payments/mcp/" })),
        ("other", json!({ "publicPathPrefix": "payments" })),
        ("other", json!({ "publicPathPrefix": "payments", "ingressHost": "mcp.example.com" })),
    ];
    for (name, more) in ways {
        let refused = a.tenant.create("place-a", "MCPServer", name, server(more)).await.expect_err("refused");
        assert_eq!(refused.code, 422);
        assert!(refused.message.contains("RouteCollision"), "{}", refused.message);
        assert!(!refused.message.contains("place-b"), "what others hold is not told: {}", refused.message);
    }
    a.tenant.create("place-a", "MCPServer", "other", server(json!({}))).await.unwrap();
    let reserved = server(json!({ "ingressPath": "/.well-known/oauth-protected-resource/payments/mcp" }));
    let refused = a.tenant.create("place-a", "MCPServer", "third", reserved).await;
    assert_eq!(fields(refused), (422, vec!["spec.ingressPath".to_string()]));
}

/// It is stored, for whom it names may accept it later, and has no effect: `resolve` gives it none.
#[tokio::test]
async fn a_grant_for_a_foreign_server_is_no_secret_passage() {
    let (Some(a), Some(b)) = (Tenancy::start("foreign-a").await, Tenancy::start("foreign-b").await) else {
        return;
    };
    let made = b.admin.create("foreign-b", "MCPServer", "payments", server(json!({}))).await.unwrap();
    a.learn(made);
    let foreign = access(
        json!({ "serverRef": { "name": "payments", "namespace": "foreign-b" }, "allowedSideEffects": ["read"] }),
    );
    let grant = a.tenant.create("foreign-a", "MCPAccessGrant", "self-service", foreign).await.unwrap();
    let grant: sallyport_api::v1alpha1::MCPAccessGrant = serde_json::from_value(grant).unwrap();
    let server: sallyport_api::v1alpha1::MCPServer =
        serde_json::from_value(b.admin.get("foreign-b", "MCPServer", "payments").await.unwrap()).unwrap();
    let resolved = sallyport_resolve::resolve_grant(&grant, Some(&server));
    assert_eq!(resolved.value, None);
    assert_eq!(resolved.problems[0].reason, "NotAccepted");
    // Nor can an accepted one be turned to another server or another person.
    let turned = json!({ "spec": { "serverRef": { "namespace": "foreign-a" } } });
    assert_eq!(fields(a.tenant.patch("foreign-a", "MCPAccessGrant", "self-service", turned).await).0, 422);
    let turned = json!({ "spec": { "subject": { "agentID": "mallory" } } });
    assert_eq!(fields(a.tenant.patch("foreign-a", "MCPAccessGrant", "self-service", turned).await).0, 422);
}

/// Names are taken by namespace: an object of the same name elsewhere blocks nothing.
#[tokio::test]
async fn two_tenants_have_objects_of_one_name() {
    let (Some(a), Some(b)) = (Tenancy::start("names-a").await, Tenancy::start("names-b").await) else {
        return;
    };
    for t in [&a, &b] {
        t.tenant.create(&t.namespace, "MCPAccessGrant", "same", access(json!({}))).await.unwrap();
        t.tenant.create(&t.namespace, "MCPAgentSession", "same", access(json!({}))).await.unwrap();
    }
}

#[tokio::test]
async fn a_platform_may_demand_the_gateway() {
    let Some(t) = Tenancy::with("demanding", true).await else { return };
    let ns = t.namespace.as_str();
    for gateway in [json!({ "enabled": false }), Value::Null] {
        let refused = t.tenant.create(ns, "MCPServer", "direct", server(json!({ "gateway": gateway }))).await;
        assert_eq!(fields(refused), (422, vec!["spec.gateway.enabled".to_string()]));
    }
    t.tenant.create(ns, "MCPServer", "governed", server(json!({}))).await.unwrap();
    let off = json!({ "spec": { "gateway": { "enabled": false } } });
    assert_eq!(fields(t.tenant.patch(ns, "MCPServer", "governed", off).await).0, 422);
}
