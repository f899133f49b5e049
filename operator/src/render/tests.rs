//! Golden files of each object and each variant: `testdata/render/<case>.yaml`, and what is wrong with bad servers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sallyport_api::v1alpha1::MCPServer;
use sallyport_test_support::assert_golden;

use super::names::Track;
use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/render")
}

/// A server as the API server gives it: with the schema's defaults.
fn server(spec: &str) -> MCPServer {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let manifest = format!(
        "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPServer\nmetadata:\n  name: payments\n  namespace: team-a\n  uid: 0b5e\nspec:\n{indented}"
    );
    serde_saphyr::from_str(&manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"))
}

fn settings() -> Settings {
    Settings {
        gateway_image: "sallyport-envoy:0.1.0".into(),
        gateway_files: GatewayFiles {
            bootstrap: "drain: /drain/{drain_key}\n".into(),
            token: r#"{"resources":[]}"#.into(),
            authority: r#"{"resources":[]}"#.into(),
            ca: "-----BEGIN CERTIFICATE-----\n".into(),
        },
        ..Settings::default()
    }
}

fn ready(server: &MCPServer, settings: &Settings) -> Prepared {
    match prepare(server, settings, &Secrets::Unknown) {
        Outcome::Ready(prepared) => *prepared,
        outcome => panic!("{outcome:?}"),
    }
}

fn tracks(template: &Template) -> Tracks<'_> {
    Tracks {
        stable: (template, 1),
        canary: None,
        owns_stable_replicas: true,
        owns_canary_replicas: true,
        has_place: true,
    }
}

fn rendered(server: &MCPServer, settings: &Settings) -> Vec<Child> {
    let prepared = ready(server, settings);
    objects(server, settings, &prepared, &tracks(&prepared.template)).expect("both tracks have one template")
}

fn yaml(children: &[Child]) -> String {
    let document = |child: &Child| serde_saphyr::to_string(&child.to_json().unwrap()).unwrap();
    children.iter().map(|child| format!("---\n{}", document(child))).collect()
}

fn golden(case: &str, children: &[Child]) {
    assert_golden(folder().join(format!("{case}.yaml")), &yaml(children));
}

/// Only the objects of these kinds: a case is about one thing.
fn only(kinds: &[ChildKind], children: Vec<Child>) -> Vec<Child> {
    let kept: Vec<Child> = children.into_iter().filter(|child| kinds.contains(&child.kind())).collect();
    assert!(!kept.is_empty(), "nothing of {kinds:?}");
    kept
}

const GOVERNED: &str = "image: registry.example.com/payments:1.2.3\ngateway: {enabled: true}\n";

#[test]
fn a_governed_server() {
    golden("governed", &rendered(&server(GOVERNED), &settings()));
}

#[test]
fn a_server_in_direct_mode() {
    let server = server("image: payments:1");
    assert!(ready(&server, &settings()).is_direct);
    golden("direct", &rendered(&server, &settings()));
}

#[test]
fn everything_that_a_spec_can_say_of_pods() {
    let spec = "image: payments
imageTag: latest
imagePullSecrets: [team-registry]
replicas: 4
port: 9000
servicePort: 8080
envVars: [{name: A, value: '1'}]
env: [{name: B, value: '2'}]
secretEnvVars: [{name: C, secretKeyRef: {name: keys, key: c}}]
envFromSecret: [{name: D, secretKeyRef: {name: keys, key: d}}]
resources: {requests: {cpu: 200m}, limits: {memory: 1Gi}}
gateway: {enabled: true, port: 9001, image: 'example.com/envoy:2', resources: {limits: {cpu: '2'}}}
rollout: {strategy: RollingUpdate, maxUnavailable: '1', maxSurge: 50%}
";
    let children = rendered(&server(spec), &settings());
    let kinds =
        [ChildKind::Deployment, ChildKind::PodDisruptionBudget, ChildKind::Service, ChildKind::NetworkPolicy];
    golden("everything", &only(&kinds, children));
}

#[test]
fn pods_that_are_all_replaced_at_once() {
    let server = server(&format!("{GOVERNED}rollout: {{strategy: Recreate}}\n"));
    golden("recreate", &only(&[ChildKind::Deployment], rendered(&server, &settings())));
}

#[test]
fn ingresses_of_each_class() {
    for (case, spec) in [
        ("ingress-host-and-path", "ingressHost: MCP.example.com\ningressPath: /tools/payments/\n"),
        ("ingress-prefix", "publicPathPrefix: /team/pay/\n"),
        ("ingress-nginx", "ingressClass: nginx\n"),
        ("ingress-istio", "ingressClass: istio\n"),
        ("ingress-generic", "ingressClass: haproxy\n"),
        ("ingress-oauth", "auth: {mode: oauth, issuerURL: 'https://issuer.example.com'}\n"),
        (
            "ingress-own-annotations",
            "ingressClass: nginx\ningressAnnotations: {nginx.ingress.kubernetes.io/ssl-redirect: 'true', example.com/x: y}\n",
        ),
        ("ingress-own-class-annotation", "ingressAnnotations: {kubernetes.io/ingress.class: special}\n"),
    ] {
        let server = server(&format!("{GOVERNED}{spec}"));
        golden(case, &only(&[ChildKind::Ingress], rendered(&server, &settings())));
    }
}

#[test]
fn the_platform_says_where_ingresses_are() {
    let ingress = IngressDefaults {
        host: Some("mcp.example.com".into()),
        entrypoints: "websecure".into(),
        tls: true,
        ..IngressDefaults::default()
    };
    let settings = Settings { ingress, ..settings() };
    golden("ingress-platform", &only(&[ChildKind::Ingress], rendered(&server(GOVERNED), &settings)));
    let prefixed = server(&format!("{GOVERNED}publicPathPrefix: pay\n"));
    let Some(Child::Ingress(ingress)) = rendered(&prefixed, &settings).pop() else {
        panic!("an Ingress comes last")
    };
    let hosts: Vec<_> = ingress.spec.unwrap().rules.unwrap().into_iter().map(|rule| rule.host).collect();
    assert_eq!(hosts, [None], "whoever names a prefix has said where to be");
}

#[test]
fn a_server_whose_place_is_anothers_has_no_way_in() {
    let server = server(GOVERNED);
    let prepared = ready(&server, &settings());
    let tracks = Tracks { has_place: false, ..tracks(&prepared.template) };
    let children = objects(&server, &settings(), &prepared, &tracks).unwrap();
    assert!(children.iter().all(|child| child.kind() != ChildKind::Ingress));
    assert!(children.iter().any(|child| child.kind() == ChildKind::Service));
}

#[test]
fn the_provisioned_registry_is_pulled_from_with_its_credentials() {
    let registry = Registry {
        url: Some("registry.example.com:5000/mcp".into()),
        username: Some("pull".into()),
        password: Some("secret".into()),
        ..Registry::default()
    };
    let settings = Settings { registry, ..settings() };
    let spec = format!("{GOVERNED}useProvisionedRegistry: true\n");
    let children = rendered(&server(&spec), &settings);
    let image = "registry.example.com:5000/mcp/payments:1.2.3";
    assert!(yaml(&only(&[ChildKind::Deployment], children.clone())).contains(image));
    golden("pull-secret", &only(&[ChildKind::Secret, ChildKind::ServiceAccount], children));

    let own = format!("{spec}imagePullSecrets: [mine]\n");
    for spec in [GOVERNED, own.as_str()] {
        let children = rendered(&server(spec), &settings);
        assert!(children.iter().all(|child| child.kind() != ChildKind::Secret), "{spec}");
    }
    let named = Registry { secret_name: Some("platform-pull".into()), ..settings.registry.clone() };
    let children = rendered(&server(&spec), &Settings { registry: named, ..settings.clone() });
    assert!(children.iter().all(|child| child.kind() != ChildKind::Secret));
    assert!(yaml(&only(&[ChildKind::ServiceAccount], children)).contains("platform-pull"));
    assert!(!format!("{settings:?}").contains("secret\""), "passwords are not printed");
}

#[test]
fn a_canary_beside_the_stable_track() {
    let spec = |image: &str| {
        server(&format!(
            "image: payments:{image}\nreplicas: 5\ngateway: {{enabled: true}}\nrollout: {{strategy: Canary, canaryReplicas: 2}}\n"
        ))
    };
    let (old, new) = (ready(&spec("1"), &settings()).template, ready(&spec("2"), &settings()));
    let tracks = Tracks { stable: (&old, 3), canary: Some((&new.template, 4)), ..tracks(&old) };
    let children = objects(&spec("2"), &settings(), &new, &tracks).unwrap();
    golden("canary", &only(&[ChildKind::Deployment], children));
}

#[test]
fn a_canary_leaves_the_stable_track_a_pod() {
    let of = |replicas: i32, canary: i32| {
        let server = server(&format!(
            "image: a\nreplicas: {replicas}\nrollout: {{strategy: Canary, canaryReplicas: {canary}}}"
        ));
        let (stable, canary) = Replicas::of(&server, true);
        assert_eq!(Replicas::of(&server, false).0.share, replicas);
        (stable.share, canary.share)
    };
    assert_eq!([of(5, 2), of(2, 2), of(1, 1), of(0, 1)], [(3, 2), (1, 1), (1, 0), (0, 0)]);
}

#[test]
fn replicas_that_somebody_else_set_are_left_until_the_server_asks_for_others() {
    let wanted = Replicas { share: 3, total: 3 };
    assert!(wanted.are_ours(None, None), "a new Deployment");
    assert!(wanted.are_ours(Some("3 of 3"), Some(3)));
    assert!(!wanted.are_ours(Some("3 of 3"), Some(8)), "an autoscaler's");
    assert!(wanted.are_ours(Some("2 of 2"), Some(8)), "the server asks for more");
    let beside_canary = Replicas { share: 2, total: 3 };
    assert!(beside_canary.are_ours(Some("3 of 3"), Some(3)), "a canary takes its share");
    assert!(!beside_canary.are_ours(Some("3 of 3"), Some(8)), "and none of an autoscaler's");
    assert!(wanted.are_ours(Some("?"), Some(8)));
}

#[test]
fn a_canary_cannot_change_ports() {
    let old = ready(&server(GOVERNED), &settings()).template;
    for spec in ["image: payments:1\n", "image: payments:1\ngateway: {enabled: true, port: 9999}\n"] {
        let server = server(spec);
        let new = ready(&server, &settings());
        let tracks = Tracks { stable: (&old, 1), canary: Some((&new.template, 2)), ..tracks(&old) };
        assert_eq!(objects(&server, &settings(), &new, &tracks).unwrap_err().reason, "CanaryChangesPorts");
    }
}

#[test]
fn replicas_that_are_somebody_elses_are_not_rendered() {
    let server = server(GOVERNED);
    let prepared = ready(&server, &settings());
    let tracks = Tracks { owns_stable_replicas: false, ..tracks(&prepared.template) };
    let children = objects(&server, &settings(), &prepared, &tracks).unwrap();
    let deployment = only(&[ChildKind::Deployment], children)[0].to_json().unwrap();
    assert_eq!(deployment.pointer("/spec/replicas"), None);
    assert_eq!(deployment.pointer("/metadata/annotations/mcpruntime.org~1replicas").unwrap(), "1 of 1");
}

#[test]
fn a_server_without_the_gateway_that_the_platform_demands_is_reached_by_nobody() {
    let settings = Settings { require_gateway: true, ..settings() };
    let server = server("image: payments:1");
    let Outcome::Refused(problem) = prepare(&server, &settings, &Secrets::Unknown) else { panic!("refused") };
    assert_eq!((problem.path.as_str(), problem.reason), ("spec.gateway.enabled", "GatewayRequired"));
    golden("withdrawn", &[withdrawn(&server)]);
}

#[test]
fn a_revision_keeps_its_template() {
    let server = server("image: payments:1");
    let prepared = ready(&server, &settings());
    let kept =
        rollout::Revision { name: "payments-abc".into(), number: 7, hash: "abc".into(), promoted: Some(3) };
    let revision = revision(&server, &kept, &prepared.template).unwrap();
    let template = revision.data.as_ref().unwrap().0.pointer("/spec/template").unwrap().clone();
    assert_eq!(Template::from_json(template).unwrap(), prepared.template);
    golden("revision", &[Child::ControllerRevision(revision)]);
}

#[test]
fn what_the_gateway_is_told_over_xds_restarts_nothing() {
    let template = |spec: &str| ready(&server(&format!("{GOVERNED}{spec}")), &settings()).hash;
    let before = template("");
    for spec in [
        "policy: {mode: observe, defaultDecision: allow, policyVersion: v9, enforceOn: all}\n",
        "tools: [{name: t, sideEffect: read}]\n",
        "session: {required: true, maxLifetime: 1h, idleTimeout: 1m, upstreamTokenHeader: X}\n",
        "auth: {mode: none}\n",
        "acceptedNamespaces: [b]\n",
        "audit: {onOverload: drop}\n",
        "audit: {arguments: redacted, redact: [/card/number], maxArgumentBytes: 64}\n",
        "denyResponse: http\n",
        "description: d\nteamID: t\n",
        "replicas: 9\n",
        "ingressHost: h.example\n",
        "rollout: {strategy: Recreate}\n",
    ] {
        assert_eq!(template(spec), before, "{spec}");
    }
    let changed = [
        template("port: 9\n"),
        template("envVars: [{name: A, value: b}]\n"),
        template("imagePullSecrets: [s]\n"),
    ];
    assert!(!changed.contains(&before));
}

#[test]
fn what_the_pod_starts_from_restarts_it() {
    let server = server(GOVERNED);
    let with = |settings: &Settings, secrets: &Secrets| match prepare(&server, settings, secrets) {
        Outcome::Ready(prepared) => prepared.hash,
        outcome => panic!("{outcome:?}"),
    };
    let before = with(&settings(), &Secrets::Unknown);
    let changed = |change: fn(&mut GatewayFiles)| {
        let mut settings = settings();
        change(&mut settings.gateway_files);
        with(&settings, &Secrets::Unknown)
    };
    assert_ne!(changed(|files| files.bootstrap.push_str("x: 1\n")), before);
    assert_ne!(changed(|files| files.token.push('\n')), before);
    assert_eq!(changed(|files| files.ca.push_str("another\n")), before, "Envoy follows authorities");
    let known = |hash: &str| with(&settings(), &Secrets::Known(hash.into()));
    assert_ne!(known("a"), known("b"));
}

#[test]
fn the_service_and_the_policy_lead_to_the_gateway_alone() {
    let children = rendered(&server(&format!("{GOVERNED}port: 9000\n")), &settings());
    let of = |kind| only(&[kind], children.clone())[0].to_json().unwrap();
    let policy = of(ChildKind::NetworkPolicy);
    assert_eq!(
        policy.pointer("/spec/ingress").unwrap().to_string(),
        r#"[{"ports":[{"port":8091,"protocol":"TCP"}]}]"#
    );
    assert_eq!(of(ChildKind::Service).pointer("/spec/ports/0/targetPort").unwrap(), 8091);
}

#[test]
fn figures_of_gateways_are_for_the_named_namespaces_alone() {
    let settings = Settings { metrics_namespaces: vec!["monitoring".into()], ..settings() };
    let rules = |spec: &str| {
        let policy = only(&[ChildKind::NetworkPolicy], rendered(&server(spec), &settings));
        policy[0].to_json().unwrap().pointer("/spec/ingress").unwrap().to_string()
    };
    let selector = r#"{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}"#;
    let open = |port| format!(r#"{{"ports":[{{"port":{port},"protocol":"TCP"}}]}}"#);
    let metrics = format!(r#"{{"from":[{selector}],"ports":[{{"port":15021,"protocol":"TCP"}}]}}"#);
    assert_eq!(rules(GOVERNED), format!("[{},{metrics}]", open(8091)));
    assert_eq!(rules("image: i\n"), format!("[{}]", open(8088)), "without a gateway there are none");
}

#[test]
fn the_kubelet_drains_a_gateway_at_a_path_that_is_its_servers_own() {
    let paths = |uid: &str| {
        let mut server = server(GOVERNED);
        server.metadata.uid = Some(uid.into());
        let children = rendered(&server, &settings());
        let of = |kind, pointer: &str| {
            let child = only(&[kind], children.clone())[0].to_json().unwrap();
            child.pointer(pointer).unwrap().as_str().unwrap().to_string()
        };
        let hook = "/spec/template/spec/initContainers/0/lifecycle/preStop/httpGet/path";
        (of(ChildKind::Deployment, hook), of(ChildKind::ConfigMap, "/data/bootstrap.yaml"))
    };
    let ((one, told), (two, _)) = (paths("one"), paths("two"));
    assert_eq!(told, format!("drain: {one}\n"), "Envoy is told the path that the kubelet asks for");
    assert!(one != two && one.len() > "/drain/".len() + 12, "{one}, {two}");
}

#[test]
fn bad_values_are_told_with_their_fields_and_nothing_is_rendered() {
    let cases: BTreeMap<&str, &str> = BTreeMap::from([
        ("resources: {requests: {cpu: lots}}", "spec.resources.requests.cpu InvalidQuantity"),
        ("resources: {limits: {memory: 64mb}}", "spec.resources.limits.memory InvalidQuantity"),
        (
            "gateway: {enabled: true, resources: {limits: {cpu: x}}}",
            "spec.gateway.resources.limits.cpu InvalidQuantity",
        ),
        ("gateway: {enabled: true, port: 8088}", "spec.gateway.port PortCollision"),
        ("gateway: {enabled: true, port: 15021}", "spec.gateway.port PortCollision"),
        ("gateway: {enabled: true}\nport: 9901", "spec.port PortCollision"),
        ("gateway: {enabled: true, image: 'A B'}", "spec.gateway.image InvalidImage"),
        ("port: 70000", "spec.port InvalidPort"),
        ("servicePort: 0", "spec.servicePort InvalidPort"),
        ("replicas: -1", "spec.replicas InvalidReplicas"),
        ("rollout: {strategy: Canary}", "spec.rollout.canaryReplicas InvalidReplicas"),
        ("rollout: {strategy: Canary, canaryReplicas: 0}", "spec.rollout.canaryReplicas InvalidReplicas"),
        ("rollout: {maxUnavailable: '0', maxSurge: 0%}", "spec.rollout.maxUnavailable InvalidAmount"),
        ("rollout: {maxUnavailable: 200%}", "spec.rollout.maxUnavailable InvalidAmount"),
        ("rollout: {maxSurge: x}", "spec.rollout.maxSurge InvalidAmount"),
        ("envVars: [{name: 1A, value: x}]", "spec.envVars[0].name InvalidVariable"),
        ("envVars: [{name: A, value: x}]\nenv: [{name: A, value: y}]", "spec.env[0].name DuplicateVariable"),
        (
            "secretEnvVars: [{name: A, secretKeyRef: {name: S, key: k}}]",
            "spec.secretEnvVars[0].secretKeyRef.name InvalidReference",
        ),
        (
            "envFromSecret: [{name: A, secretKeyRef: {name: s, key: 'a b'}}]",
            "spec.envFromSecret[0].secretKeyRef.key InvalidReference",
        ),
        ("imagePullSecrets: [A_B]", "spec.imagePullSecrets[0] InvalidReference"),
        ("imagePullSecrets: [a, a]", "spec.imagePullSecrets[1] Duplicate"),
        ("imageTag: 'a b'", "spec.imageTag InvalidImage"),
        ("useProvisionedRegistry: true", "spec.useProvisionedRegistry NoRegistry"),
        ("ingressHost: 10.0.0.1", "spec.ingressHost WrongHost"),
        ("ingressPath: /a//b", "spec.ingressPath WrongPath"),
        ("publicPathPrefix: a/../b", "spec.publicPathPrefix WrongPath"),
        ("ingressClass: A B", "spec.ingressClass InvalidReference"),
        ("ingressAnnotations: {'a/b/c': x}", "spec.ingressAnnotations InvalidAnnotation"),
    ]);
    for (spec, expected) in cases {
        let problems = check(&server(&format!("image: payments\n{spec}\n")), &settings());
        let told: Vec<_> =
            problems.iter().map(|problem| format!("{} {}", problem.path, problem.reason)).collect();
        assert_eq!(told, [expected], "{spec}");
    }
}

#[test]
fn names_that_no_service_can_have_are_told() {
    for (name, reason) in [
        ("a".repeat(64), "InvalidName"),
        ("1a".into(), "InvalidName"),
        ("a.b".into(), "InvalidName"),
        ("mcp-gateway".into(), "ReservedName"),
        ("payments-canary".into(), "ReservedName"),
    ] {
        let mut server = server(GOVERNED);
        server.metadata.name = Some(name.clone());
        let reasons: Vec<_> = check(&server, &settings()).into_iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, [reason], "{name}");
    }
}

#[test]
fn everything_is_the_servers_and_says_so() {
    for child in rendered(&server(&format!("{GOVERNED}replicas: 2\n")), &settings()) {
        let metadata = child.metadata();
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
            ("MCPServer", "0b5e", Some(true))
        );
        assert_eq!(metadata.labels.as_ref().unwrap()[names::MANAGED_BY.0], names::MANAGED_BY.1);
        assert_eq!(metadata.namespace.as_deref(), Some("team-a"));
    }
}

#[test]
fn every_kind_of_object_has_a_golden_file() {
    let read =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    let all: String = std::fs::read_dir(folder()).unwrap().map(read).collect();
    for kind in ChildKind::ALL {
        assert!(all.contains(&format!("kind: {}\n", kind.resource().kind)), "{kind:?}");
    }
    assert!(all.contains(&format!("name: payments{}\n", names::CANARY_SUFFIX)));
    assert!(all.contains(&format!("{}: {}\n", names::TRACK, Track::Canary.as_str())));
}
