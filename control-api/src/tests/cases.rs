//! The corpus of decision cases, asked of the endpoint that explains, all on one directory.

use sallyport_api::manifest::to_yaml;
use sallyport_test_support::cases::{Case, cases};
use serde_json::{Value, json};

use super::support::World;

#[tokio::test]
async fn explain_gives_the_verdict_of_every_case() {
    let world = World::new().await;
    let manifests: Vec<String> =
        cases().iter().flat_map(|case| &case.objects).map(|object| to_yaml(object).unwrap()).collect();
    std::fs::write(world.config().join("cases.yaml"), manifests.join("---\n")).unwrap();
    // When a proxy last saw a session used is known to the proxy alone.
    for case in cases().iter().filter(|case| case.learned.is_none()) {
        let answer = world.post("/api/runtime/policy/explain", question(case)).await;
        assert_eq!(answer.status, 200, "{}: {}", case.name, answer.body);
        let expect = &case.expect;
        assert_eq!(
            (answer.at("/decision"), answer.at("/reason"), answer.at("/http_status")),
            (&json!(expect.decision), &json!(expect.reason), &json!(expect.status.unwrap_or(200))),
            "{}: {}",
            case.name,
            answer.body
        );
        assert_eq!(answer.at("/would_deny"), &json!(expect.would_deny), "{}", case.name);
        if let Some(grant) = &expect.grant {
            assert_eq!(
                answer.at("/matched_grant"),
                &json!(format!("{}/{grant}", case.name)),
                "{}",
                case.name
            );
        }
    }
}

fn question(case: &Case) -> Value {
    let request = &case.request;
    let mut headers = json!(request.headers);
    headers[":method"] = json!(request.method);
    let mut question =
        json!({ "namespace": case.name, "server": case.name, "headers": headers, "body": request.body });
    if let Some(now) = case.now {
        question["at"] = json!(jiff::Timestamp::from_second(now).unwrap());
    }
    question
}
