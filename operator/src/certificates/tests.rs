use std::time::Duration;

use super::*;
use crate::fake_api::Fake;
use crate::upkeep::LOOK;

const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/sallyport";

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/system/secrets/{name}")
}

fn replica(fake: &Arc<Fake>) -> (Certificates, watch::Receiver<String>) {
    Certificates::new(fake.client(), "system", Arc::default())
}

fn years_later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(8 * 365 * 86_400)
}

#[tokio::test]
async fn two_replicas_that_both_believe_to_lead_agree() {
    let fake = Arc::new(Fake::default());
    let ((one, trusted), (two, also_trusted)) = (replica(&fake), replica(&fake));
    // One of them loses each race, and then takes what the other made.
    let mut rounds = 0;
    while !(one.look(true).await.is_ok() & two.look(true).await.is_ok()) {
        rounds += 1;
        assert!(rounds < 10);
        let _ = tokio::join!(one.look(true), two.look(true));
    }
    assert_eq!(*trusted.borrow(), *also_trusted.borrow());
    assert_eq!(trusted.borrow().matches("BEGIN").count(), 1);
    let settled = fake.writes();
    for replica in [&one, &two, &one] {
        replica.look(true).await.unwrap();
    }
    assert_eq!(fake.writes(), settled, "nothing is written when nothing is due");
}

#[tokio::test]
async fn a_race_for_the_first_certificate_has_one_winner() {
    let fake = Arc::new(Fake::default());
    let ((one, trusted), (two, also_trusted)) = (replica(&fake), replica(&fake));
    let (first, second) = tokio::join!(one.look(true), two.look(true));
    assert!(first.is_err() | second.is_err(), "{first:?} {second:?}");
    one.look(true).await.unwrap();
    two.look(true).await.unwrap();
    assert_eq!(*trusted.borrow(), *also_trusted.borrow());
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing_and_shows_what_the_leader_made() {
    let fake = Arc::new(Fake::default());
    let ((leader, trusted), (other, also_trusted)) = (replica(&fake), replica(&fake));
    assert!(matches!(other.look(false).await, Err(Fault::Missing("sallyport-ca"))));
    assert_eq!(fake.writes(), 0);
    leader.look(true).await.unwrap();
    other.look(false).await.unwrap();
    assert_eq!(*trusted.borrow(), *also_trusted.borrow());
    assert!(format!("{:?}", fake.get(&secret("sallyport-ingest-tls"))).contains("kubernetes.io/tls"));
}

#[tokio::test]
async fn certificates_are_renewed_and_the_webhooks_configuration_follows() {
    let fake = Arc::new(Fake::default());
    let webhook = |name: &str| {
        json!({ "name": name, "clientConfig": { "service": { "name": "s", "namespace": "n" } },
        "admissionReviewVersions": ["v1"], "sideEffects": "None" })
    };
    let hooks = json!([webhook("a.test"), webhook("b.test")]);
    fake.put(WEBHOOK, json!({ "metadata": { "name": "sallyport" }, "webhooks": hooks }));
    let (mut replica, trusted) = replica(&fake);
    replica.look(true).await.unwrap();
    let bundles = || {
        let webhooks = fake.get(WEBHOOK)["webhooks"].clone();
        let of = |number: usize| webhooks[number]["clientConfig"]["caBundle"].as_str().unwrap().to_string();
        assert_eq!(of(0), of(1));
        of(0)
    };
    let before = (bundles(), fake.get(&secret("sallyport-operator-tls")));
    replica.clock = years_later;
    replica.look(true).await.unwrap();
    assert_eq!(trusted.borrow().matches("BEGIN").count(), 2, "the successor is handed out");
    let after = (bundles(), fake.get(&secret("sallyport-operator-tls")));
    assert_ne!(before.0, after.0);
    assert_ne!(before.1["data"]["tls.crt"], after.1["data"]["tls.crt"]);
}

#[tokio::test]
async fn certificates_that_somebody_else_gave_are_shown_and_kept() {
    let fake = Arc::new(Fake::default());
    let now = SystemTime::now();
    let foreign = sallyport_runtime::tls::Authority::make("theirs", now, LOOK * 100_000).unwrap();
    let leaf = foreign.issue(&["x.test".into()], now, LOOK * 100).unwrap();
    let text = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let data = json!({ "tls.crt": text(&leaf.certificate), "tls.key": text(&leaf.key), "ca.crt": text(&foreign.certificate) });
    let path = secret("sallyport-operator-tls");
    fake.put(&path, json!({ "metadata": { "name": "sallyport-operator-tls" }, "data": data }));
    let (mut replica, trusted) = replica(&fake);
    replica.look(true).await.unwrap();
    replica.clock = years_later;
    replica.look(true).await.unwrap();
    assert_eq!(fake.get(&path)["data"], data);
    replica.clock = SystemTime::now;
    replica.look(true).await.unwrap();
    assert!(trusted.borrow().contains(&foreign.certificate), "who vouches for it is trusted");
}
