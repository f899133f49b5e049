use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::body::to_bytes;
use axum::http::{Request, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

const ACCOUNT: &str = "system:serviceaccount:team-a:mcp-workload-payments";

fn token(name: &str) -> String {
    let issued = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "aud": [AUDIENCE], "iat": issued, "exp": issued + 3600, "jti": name });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn status(account: &str) -> Value {
    json!({ "authenticated": true, "audiences": [AUDIENCE], "user": { "username": account, "extra": {
        POD_NAME: ["payments-7d4b9"], POD_UID: ["1c2d"],
    }}})
}

struct Fake {
    reviews: TokenReviews,
    asked: Arc<AtomicUsize>,
    passed: Arc<AtomicU64>,
}

impl Fake {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        self.reviews.authenticate(token).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// An API server that answers each question with what `answer` makes of its number, and counts them.
fn reviews(answer: impl Fn(usize) -> Option<Value> + Send + Sync + 'static) -> Fake {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (Arc::clone(&asked), Arc::new(answer));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (number, answer) = (counter.fetch_add(1, Ordering::SeqCst), Arc::clone(&answer));
        async move {
            assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
            let body = to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await.unwrap();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!([AUDIENCE]));
            tokio::task::yield_now().await;
            let Some(status) = answer(number) else {
                return Err(std::io::Error::other("connection refused"));
            };
            review["status"] = status;
            Ok(Response::new(Body::from(review.to_string().into_bytes())))
        }
    });
    let mut reviews = TokenReviews::new(kube::Client::new(service, "default"));
    let (start, passed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let clock = Arc::clone(&passed);
    reviews.clock = Box::new(move || start + Duration::from_secs(clock.load(Ordering::SeqCst)));
    Fake { reviews, asked, passed }
}

#[tokio::test]
async fn a_workloads_token_names_its_pod_and_its_server() {
    let reviews = reviews(|_| Some(status(ACCOUNT)));
    let identity = reviews.authenticate(&token("a")).await.unwrap();
    assert_eq!(identity.proxy, "team-a/payments-7d4b9");
    assert_eq!(identity.server.as_deref(), Some("team-a/payments"));
}

#[test]
fn only_a_bound_token_for_us_of_a_servers_account_is_a_proxys() {
    let judged = |change: &dyn Fn(&mut Value)| {
        let mut value = status(ACCOUNT);
        change(&mut value);
        identity(&serde_json::from_value(value).unwrap()).map_err(|error| error.to_string())
    };
    assert!(judged(&|_| {}).is_ok());
    let changes: [&dyn Fn(&mut Value); 9] = [
        &|status| status["authenticated"] = json!(false),
        &|status| status["audiences"] = json!(["https://kubernetes.default.svc"]),
        &|status| status["audiences"] = Value::Null,
        &|status| status["user"]["extra"][POD_NAME] = json!([]),
        &|status| status["user"]["extra"][POD_UID] = json!([""]),
        &|status| status["user"]["username"] = json!("system:serviceaccount:team-a:default"),
        &|status| status["user"]["username"] = json!("system:serviceaccount:team-a:mcp-workload-"),
        &|status| status["user"]["username"] = json!("mcp-workload-payments"),
        &|status| status["user"]["username"] = json!("system:serviceaccount:a/b:mcp-workload-payments"),
    ];
    for (number, change) in changes.iter().enumerate() {
        assert!(judged(change).is_err(), "change {number}");
    }
}

#[tokio::test]
async fn many_questions_about_one_token_are_one_question_a_minute() {
    let reviews = reviews(|_| Some(status(ACCOUNT)));
    let token = token("a");
    let (one, two, three) = tokio::join!(
        reviews.authenticate(&token),
        reviews.authenticate(&token),
        reviews.authenticate(&token)
    );
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(reviews.asked(), 1);
    reviews.pass(59);
    reviews.authenticate(&token).await.unwrap();
    assert_eq!(reviews.asked(), 1);
    reviews.pass(1);
    reviews.authenticate(&token).await.unwrap();
    assert_eq!(reviews.asked(), 2);
}

#[tokio::test]
async fn a_refused_token_is_asked_about_again_only_after_a_while() {
    let reviews = reviews(|number| match number {
        0 => Some(json!({ "authenticated": false, "error": "token has expired" })),
        _ => Some(status(ACCOUNT)),
    });
    let token = token("a");
    for _ in 0..100 {
        assert_eq!(reviews.authenticate(&token).await, Err(AuthError::Unknown));
    }
    assert_eq!(reviews.asked(), 1);
    reviews.pass(5);
    assert!(reviews.authenticate(&token).await.is_ok());
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_never_sent_to_the_api_server() {
    let reviews = reviews(|_| Some(status(ACCOUNT)));
    for bad in ["", "secret", "a.b.c"] {
        assert_eq!(reviews.authenticate(bad).await, Err(AuthError::Unknown));
    }
    assert_eq!(reviews.asked(), 0);
}

#[tokio::test]
async fn an_api_server_that_is_away_lets_known_proxies_go_on_until_their_token_ends() {
    let reviews = reviews(|number| (number == 0).then(|| status(ACCOUNT)));
    let (known, new) = (token("a"), token("b"));
    reviews.authenticate(&known).await.unwrap();
    reviews.pass(3590);
    assert!(reviews.authenticate(&known).await.is_ok());
    assert!(matches!(reviews.authenticate(&new).await, Err(AuthError::Unavailable(_))));
    reviews.pass(11);
    assert!(matches!(reviews.authenticate(&known).await, Err(AuthError::Unavailable(_))));
}

#[tokio::test]
async fn an_api_server_that_never_answers_holds_nobody_up_for_long() {
    let service = tower::service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, std::io::Error>>()
    });
    let mut reviews = TokenReviews::new(kube::Client::new(service, "default"));
    reviews.deadline = Duration::from_millis(10);
    assert!(matches!(reviews.authenticate(&token("a")).await, Err(AuthError::Unavailable(_))));
}

#[tokio::test]
async fn a_crowd_waits_for_its_turn_and_is_no_sign_of_a_silent_api_server() {
    let answer = Duration::from_millis(50);
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let body = to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await.unwrap();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        review["status"] = status(ACCOUNT);
        tokio::time::sleep(answer).await;
        Ok::<_, std::io::Error>(Response::new(Body::from(review.to_string().into_bytes())))
    });
    let mut reviews = TokenReviews::new(kube::Client::new(service, "default"));
    reviews.deadline = answer * 10;
    // At least twice as many as are answered by the deadline.
    let (reviews, began) = (Arc::new(reviews), Instant::now());
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..CONCURRENT * 20 {
        let (reviews, token) = (reviews.clone(), token(&format!("crowd {number}")));
        crowd.spawn(async move { reviews.authenticate(&token).await });
    }
    while let Some(answer) = crowd.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
    assert!(began.elapsed() > reviews.deadline, "it was no crowd");
}
