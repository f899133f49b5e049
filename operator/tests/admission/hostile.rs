//! Malformed and hostile objects: none brings the webhook down, holds it up, or is judged otherwise by the API server
//! than by our own reading.

use std::time::{Duration, Instant};

use sallyport_api::manifest::load_json;
use serde_json::json;

use crate::generated::{Numbers, object, storable, text};
use crate::support::{Tenancy, server};

const OBJECTS: u64 = 1000;
/// The API server writes down thousands of errors one by one, so its answers take longer than our judgement.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// No judgement of ours may take longer, whatever is in a review.
const LONGEST: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_thousand_hostile_objects_are_judged_in_bounded_time_and_alike() {
    let Some(t) = Tenancy::start("hostile").await else { return };
    let mut numbers = Numbers::new(1);
    let (mut passed, mut refused) = (0, 0);
    for round in 0..OBJECTS {
        let (kind, mut manifest) = storable(&mut numbers);
        let began = Instant::now();
        let answer = t.tenant.probe(&t.namespace, kind, &manifest).await;
        assert!(began.elapsed() < LONGEST_ANSWER, "{round}: {:?}", began.elapsed());
        let (by_schema, told) = match &answer {
            Ok(_) => (true, String::new()),
            Err(status) => {
                assert!([400, 403, 413, 422].contains(&status.code), "{round}: {status:?}");
                (status.message.contains("admission webhook"), status.message.clone())
            }
        };
        manifest["metadata"]["namespace"] = t.namespace.clone().into();
        let ours = load_json(manifest.clone()).err().unwrap_or_default();
        // The API server drops fields that it does not know; we tell of them, and judge no further.
        let is_unknown = |problem: &sallyport_api::schema::SchemaProblem| problem.reason == "UnknownField";
        if !ours.is_empty() && ours.iter().all(is_unknown) {
            continue;
        }
        // A list passes for a time where the schema says `date-time`; whoever reads it needs to be spared that.
        if told.contains("(Unreadable)") {
            assert!(!ours.is_empty(), "{round}: {told}");
            continue;
        }
        let told: String = told.chars().take(300).collect();
        assert_eq!(by_schema, ours.is_empty(), "{round}: {:?} / {told}", ours.first());
        if by_schema { passed += 1 } else { refused += 1 }
    }
    assert!(passed > 20 && refused > 200, "{passed} {refused}");
    t.tenant.create(&t.namespace, "MCPServer", "sound", server(json!({}))).await.unwrap();
}

/// What no schema has seen, as it comes when somebody else posts to the webhook.
#[tokio::test]
async fn a_thousand_hostile_reviews_end_in_no_panic() {
    let webhook = crate::support::lone_webhook();
    let mut numbers = Numbers::new(2);
    for round in 0..OBJECTS {
        let ((kind, new), (_, old)) = (object(&mut numbers), object(&mut numbers));
        let operation = *numbers.one(&["CREATE", "UPDATE", "DELETE", "CONNECT"]);
        let review = json!({ "request": { "uid": "u", "kind": { "kind": kind.as_str() }, "operation": operation,
            "name": text(&mut numbers, 1), "namespace": text(&mut numbers, 1), "userInfo": { "username": text(&mut numbers, 1) },
            "object": new, "oldObject": old } });
        let body = serde_json::to_vec(&review).unwrap();
        let began = Instant::now();
        if let Ok(request) = sallyport_operator::admission::Request::read(kind, &body) {
            webhook.review(&request).await;
        }
        assert!(began.elapsed() < LONGEST, "{round}: {:?}", began.elapsed());
    }
}
