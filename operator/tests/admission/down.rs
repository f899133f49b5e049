//! What works while the operator is down, and what does not.

use serde_json::json;

use crate::support::{Tenancy, access, server};

#[tokio::test]
async fn kill_switches_work_without_the_operator_and_nothing_else_of_ours_is_let_through() {
    let Some(mut t) = Tenancy::start("down").await else { return };
    let ns = &t.namespace.clone();
    let (srv, grant, session) = ("MCPServer", "MCPAccessGrant", "MCPAgentSession");
    t.given(srv, "payments", server(json!({}))).await;
    t.admin.create(ns, grant, "ops", access(json!({ "allowedSideEffects": ["read"] }))).await.unwrap();
    for name in ["live", "stopped", "other"] {
        let spec = access(json!({ "revoked": name == "stopped", "expiresAt": "2099-12-31T23:59:00Z" }));
        t.admin.create(ns, session, name, spec).await.unwrap();
    }
    t.take_down().await;

    // Closed: nobody judges it.
    for (kind, name, spec) in [
        (srv, "new", server(json!({}))),
        (grant, "new", access(json!({}))),
        (session, "new", access(json!({}))),
    ] {
        let refused = t.admin.create(ns, kind, name, spec).await.expect_err("nobody judges it");
        assert!(refused.code >= 500 && refused.message.contains("failed calling webhook"), "{refused:?}");
    }
    let more = [
        (srv, "payments", json!({ "spec": { "description": "x" } })),
        (grant, "ops", json!({ "spec": { "maxTrust": "high" } })),
        (grant, "ops", json!({ "spec": { "maxTrust": "high", "disabled": true } })),
        (session, "live", json!({ "spec": { "consentedTrust": "high" } })),
        (session, "live", json!({ "spec": { "consentedTrust": "high", "revoked": true } })),
        (session, "stopped", json!({ "spec": { "revoked": false } })),
    ];
    for (kind, name, patch) in more {
        let refused = t.admin.patch(ns, kind, name, patch.clone()).await.expect_err("nobody judges it");
        assert!(refused.message.contains("failed calling webhook"), "{patch}: {refused:?}");
    }
    assert!(t.admin.delete(ns, session, "stopped").await.is_err());

    // Open: it takes something away, or changes nothing that is judged.
    t.tenant.patch(ns, session, "live", json!({ "spec": { "revoked": true } })).await.unwrap();
    t.tenant.patch(ns, grant, "ops", json!({ "spec": { "disabled": true } })).await.unwrap();
    for (kind, name) in [(srv, "payments"), (grant, "ops"), (session, "live"), (session, "stopped")] {
        let patch = json!({ "metadata": { "labels": { "team": "x" } } });
        t.tenant.patch(ns, kind, name, patch).await.unwrap();
    }
    t.admin.scale(ns, "payments", 3).await;
    t.tenant.delete(ns, session, "other").await.unwrap();
    t.tenant.delete(ns, grant, "ops").await.unwrap();
    t.tenant.delete(ns, srv, "payments").await.unwrap();
    // Other kinds have nothing to do with it.
    t.tenant.make("v1", "ConfigMap", ns, json!({ "metadata": { "name": "any" } })).await.unwrap();
    let left = t.admin.get(ns, session, "live").await.unwrap();
    assert_eq!(left["spec"]["revoked"], true);
}
