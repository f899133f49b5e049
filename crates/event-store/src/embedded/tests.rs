use sallyport_audit_proto::v1::AuditEvent;

use super::*;

const DAY: u64 = 86_400;

fn chain() -> ChainName {
    ChainName { proxy: "gateway".into(), worker: 1, epoch: 7 }
}

/// Event `seq` of the chain, of that many seconds after 1970.
fn event(seq: u64, seconds: u64) -> StoredEvent {
    let event =
        AuditEvent { seq, time_unix_nanos: seconds * 1_000_000_000, allowed: true, ..AuditEvent::default() };
    StoredEvent { chain: chain(), bytes: vec![0; 500], hash: [7; 32], event }
}

fn open(limits: Limits) -> (tempfile::TempDir, Embedded) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(&folder.path().join("events.db"), limits).expect("opens");
    (folder, store)
}

#[tokio::test]
async fn what_is_too_old_beside_the_newest_goes_and_is_counted() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    store.append(vec![event(1, 0), event(2, 10)], vec![]).await.expect("stored");
    assert_eq!(store.stats().await.expect("counts").pruned, 0);
    store.append(vec![event(3, DAY + 5)], vec![]).await.expect("stored");
    let stats = store.stats().await.expect("counts");
    assert_eq!((stats.pruned, stats.events_total, stats.allowed), (1, 2, 3));
    let head = store.heads().await.expect("heads");
    assert_eq!((head.len(), head[0].seq), (1, 3), "what was pruned is no gap");
}

#[tokio::test]
async fn a_store_that_grows_beyond_its_bound_loses_the_oldest_first() {
    let (_folder, store) = open(Limits { max_bytes: 1 << 20, max_age: Duration::from_secs(DAY) });
    for batch in 0..12_u64 {
        let events = (1..=1000).map(|n| event(batch * 1000 + n, n)).collect();
        store.append(events, vec![]).await.expect("stored");
    }
    let stats = store.stats().await.expect("counts");
    assert!(stats.pruned > 5000 && stats.events_total > 100, "{stats:?}");
    let page = store.events(Filter::default(), 1, None).await.expect("a page");
    assert_eq!(page.events[0]["payload"]["chain"]["seq"], 12_000, "{}", page.events[0]);
}

#[tokio::test]
async fn an_event_that_is_told_again_is_stored_and_counted_once() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let finding = Finding { chain: chain(), event_type: "audit.gap", from: 2, to: 3, nanos: 5 };
    for _ in 0..2 {
        store.append(vec![event(1, 0), event(4, 0)], vec![finding.clone()]).await.expect("stored");
    }
    let stats = store.stats().await.expect("counts");
    assert_eq!((stats.events_total, stats.missing), (3, 2), "two events and one finding");
    assert_eq!(store.heads().await.expect("heads")[0].seq, 4);
}

#[tokio::test]
async fn another_programs_event_is_given_back_as_it_was_sent() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let payload = br#"{"decision":"deny","extra":[1,2]}"#.to_vec();
    let sent = AuditEvent {
        seq: 1,
        time_unix_nanos: 1_500_000_000,
        source: "billing".into(),
        event_type: "billing.charge".into(),
        trace_id: "t".into(),
        payload,
        ..AuditEvent::default()
    };
    let stored = StoredEvent { chain: chain(), bytes: vec![1], hash: [7; 32], event: sent };
    store.append(vec![stored], vec![]).await.expect("stored");
    let filter =
        Filter { source: Some("billing".into()), decision: Some("deny".into()), ..Filter::default() };
    let page = store.events(filter, 10, None).await.expect("a page");
    let event = &page.events[0];
    assert_eq!(event["event_type"], "billing.charge");
    assert_eq!(event["timestamp"], "1970-01-01T00:00:01.500000000Z");
    assert_eq!(event["payload"]["extra"], json!([1, 2]));
    assert_eq!(event["payload"]["chain"]["seq"], 1);
    assert_eq!(store.stats().await.expect("counts").denied, 1);
}
