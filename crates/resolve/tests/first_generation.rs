//! Manifests as users of the first generation have them load unchanged, and are told what today's rules need more.
#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

use sallyport_api::manifest::load_str;
use sallyport_api::{Object, v1alpha1};
use sallyport_resolve::{Problem, Settings, Severity, resolve_grant, resolve_server, resolve_session};

fn sample(name: &str) -> Vec<Object> {
    let path = format!("{}/../../config/samples/first-generation/{name}", env!("CARGO_MANIFEST_DIR"));
    let (loaded, problems) = load_str(name, &std::fs::read_to_string(path).expect("there"));
    assert_eq!(problems, []);
    loaded.into_iter().map(|loaded| loaded.object).collect()
}

fn server() -> v1alpha1::MCPServer {
    match sample("server.yaml").remove(0) {
        Object::Server(server) => *server,
        other => panic!("{other:?}"),
    }
}

fn warnings(problems: &[Problem]) -> Vec<(&str, &str)> {
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{problems:?}");
    problems.iter().map(|problem| (problem.path.as_str(), problem.reason)).collect()
}

#[test]
fn a_server_is_told_what_its_tools_lack() {
    let (_, problems) = resolve_server(&server(), &Settings::default());
    assert_eq!(
        warnings(&problems),
        [
            ("spec.analytics.ingestURL", "NotUsed"),
            ("spec.rollout.canaryReplicas", "CanaryTooLarge"),
            ("spec.tools[0].sideEffect", "SideEffectUnknown"),
            ("spec.tools[1].sideEffect", "SideEffectUnknown"),
        ]
    );
}

#[test]
fn a_grant_and_a_session_are_told_what_they_lack() {
    for object in sample("access.yaml") {
        match object {
            Object::Grant(grant) => {
                let resolved = resolve_grant(&grant, Some(&server()));
                assert_eq!(
                    warnings(&resolved.problems),
                    [("spec.allowedSideEffects", "NoSideEffectsAllowed")]
                );
            }
            Object::Session(session) => {
                let resolved = resolve_session(&session, Some(&server()), None);
                assert_eq!(
                    warnings(&resolved.problems),
                    [("spec.upstreamTokenSecretRef", "TokenNotInjected")]
                );
            }
            Object::Server(_) => panic!("a server among them"),
        }
    }
}
