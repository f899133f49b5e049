//! Who is stopped cannot start himself again.

use serde_json::{Value, json};

use crate::support::{Tenancy, access, fields};

const SESSION: &str = "MCPAgentSession";

fn lasting(revoked: bool) -> Value {
    access(json!({ "revoked": revoked, "expiresAt": "2099-12-31T23:59:00Z" }))
}

fn revoke() -> Value {
    json!({ "spec": { "revoked": true } })
}

#[tokio::test]
async fn a_revoked_session_is_not_lifted_by_whom_it_stops() {
    let Some(t) = Tenancy::start("lifting").await else { return };
    let ns = t.namespace.as_str();
    t.tenant.create(ns, SESSION, "sess", lasting(false)).await.unwrap();
    t.admin.patch(ns, SESSION, "sess", revoke()).await.unwrap();
    let lift = json!({ "spec": { "revoked": false } });
    assert_eq!(
        fields(t.tenant.patch(ns, SESSION, "sess", lift.clone()).await),
        (403, vec!["spec.revoked".into()])
    );
    let unset = json!({ "spec": { "revoked": null } });
    assert_eq!(fields(t.tenant.patch(ns, SESSION, "sess", unset).await).0, 403);
    let refused = t.tenant.delete(ns, SESSION, "sess").await.expect_err("refused");
    assert_eq!(refused.code, 403);
    // It is made to end, so that it could be deleted.
    for until in [json!("2020-01-01T00:00:00Z"), Value::Null] {
        let ended = json!({ "spec": { "expiresAt": until } });
        assert_eq!(fields(t.tenant.patch(ns, SESSION, "sess", ended).await).0, 422);
    }
    // Somebody else is made to delete it.
    let owner =
        t.tenant.make("v1", "ConfigMap", ns, json!({ "metadata": { "name": "owner" } })).await.unwrap();
    let owned = json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"] }] } });
    t.tenant.patch(ns, SESSION, "sess", owned).await.unwrap();
    let collector = t.user("system:serviceaccount:kube-system:generic-garbage-collector").await;
    assert_eq!(collector.delete(ns, SESSION, "sess").await.expect_err("refused").code, 403);
    let anew = t.tenant.create(ns, SESSION, "sess", lasting(false)).await.expect_err("its name is taken");
    assert_eq!(anew.code, 409);

    let right = json!([{ "apiGroups": ["mcpruntime.org"], "resources": ["mcpagentsessions"], "verbs": ["unrevoke"] }]);
    t.grant_role("unrevoker", right).await;
    t.tenant.patch(ns, SESSION, "sess", lift).await.unwrap();
    t.admin.patch(ns, SESSION, "sess", revoke()).await.unwrap();
    t.tenant.delete(ns, SESSION, "sess").await.unwrap();
}

#[tokio::test]
async fn a_session_that_stops_nobody_may_be_deleted() {
    let Some(t) = Tenancy::start("deleting").await else { return };
    let ns = t.namespace.as_str();
    t.tenant.create(ns, SESSION, "live", lasting(false)).await.unwrap();
    t.tenant.delete(ns, SESSION, "live").await.unwrap();
    let past = access(json!({ "revoked": true, "expiresAt": "2020-01-01T00:00:00Z" }));
    t.tenant.create(ns, SESSION, "past", past).await.unwrap();
    t.tenant.delete(ns, SESSION, "past").await.unwrap();
    t.admin.create(ns, SESSION, "endless", access(json!({ "revoked": true }))).await.unwrap();
    assert_eq!(t.tenant.delete(ns, SESSION, "endless").await.expect_err("refused").code, 403);
}

#[tokio::test]
async fn the_end_of_a_namespace_is_the_end_of_its_sessions() {
    let Some(t) = Tenancy::start("ending").await else { return };
    let ns = t.namespace.as_str();
    for name in ["one", "two"] {
        t.admin.create(ns, SESSION, name, lasting(true)).await.unwrap();
    }
    let controller = t.user("system:serviceaccount:kube-system:namespace-controller").await;
    let rights = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    let role = json!({ "metadata": { "name": "controllers" }, "rules": rights });
    t.admin.make("rbac.authorization.k8s.io/v1", "ClusterRole", "", role).await.unwrap();
    let binding = json!({ "metadata": { "name": "controllers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "controllers" },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccount:kube-system:namespace-controller" }] });
    t.admin.make("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", binding).await.unwrap();
    controller.delete(ns, SESSION, "one").await.unwrap();
    assert_eq!(t.tenant.delete(ns, SESSION, "two").await.expect_err("not yet").code, 403);
    t.admin.delete_any("v1", "Namespace", "", ns).await;
    t.tenant.delete(ns, SESSION, "two").await.unwrap();
}

/// The API server judges a deletion and a change again whenever what it judged was changed meanwhile.
#[tokio::test]
async fn a_revocation_and_a_new_beginning_do_not_pass_each_other() {
    let Some(t) = Tenancy::start("racing").await else { return };
    let ns = t.namespace.as_str();
    let mut revoked = 0;
    for round in 0..40 {
        let name = format!("sess-{round}");
        t.tenant.create(ns, SESSION, &name, lasting(false)).await.unwrap();
        let restart = async {
            let gone = t.tenant.delete(ns, SESSION, &name).await;
            let lifted = t.tenant.patch(ns, SESSION, &name, json!({ "spec": { "revoked": false } })).await;
            (gone, lifted, t.tenant.create(ns, SESSION, &name, lasting(false)).await)
        };
        let (stopped, _) = tokio::join!(t.admin.patch(ns, SESSION, &name, revoke()), restart);
        if stopped.is_ok() {
            revoked += 1;
            let left = t.admin.get(ns, SESSION, &name).await.expect("a revoked session stays");
            assert_eq!(left["spec"]["revoked"], true, "round {round}");
        }
    }
    assert!(revoked > 0, "the revocation won sometimes");
}
