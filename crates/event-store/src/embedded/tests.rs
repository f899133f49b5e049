use sallyport_audit_proto::v1::AuditEvent;
use serde_json::json;

use super::*;

const DAY: u64 = 86_400;

fn chain() -> ChainName {
    ChainName { proxy: "gateway".into(), worker: 1, epoch: 7 }
}

fn stored(chain: ChainName, event: &AuditEvent) -> StoredEvent {
    let bytes = prost::Message::encode_to_vec(event);
    let hash = sallyport_audit_proto::chain::hash(&bytes);
    StoredEvent::read(chain, bytes, hash).expect("an event")
}

/// Event `seq` of the chain, of that many seconds after 1970.
fn event(seq: u64, seconds: u64) -> StoredEvent {
    let path = "x".repeat(480);
    let time_unix_nanos = seconds * 1_000_000_000;
    stored(chain(), &AuditEvent { seq, time_unix_nanos, allowed: true, path, ..AuditEvent::default() })
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
    assert_eq!((head[0].count, head[0].floor, head[0].removed), (3, 1, 1), "and it is told");
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
    store.append(vec![stored(chain(), &sent)], vec![]).await.expect("stored");
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

/// Event `seq` of a chain, as it would come.
fn true_event(chain: &ChainName, seq: u64, server: &str) -> StoredEvent {
    let event = AuditEvent {
        seq,
        server: server.into(),
        time_unix_nanos: seq * 1_000_000_000,
        allowed: true,
        ..AuditEvent::default()
    };
    stored(chain.clone(), &event)
}

#[tokio::test]
async fn events_are_scanned_chain_by_chain_and_page_by_page() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let other = ChainName { proxy: "gateway".into(), worker: 0, epoch: 9 };
    for seq in 1..=3 {
        let events = vec![true_event(&chain(), seq, "payments"), true_event(&other, seq, "files")];
        store.append(events, vec![]).await.expect("stored");
    }
    let (mut after, mut seen) = (None, vec![]);
    loop {
        let page = store.scan(after.clone(), 2, Depth::Columns).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(Position { chain: last.chain.clone(), seq: last.seq });
        assert!(page.iter().all(|event| event.differs.is_none()), "{page:?}");
        seen.extend(page.into_iter().map(|event| (event.chain.worker, event.seq)));
    }
    assert_eq!(seen, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    let selection = Selection {
        since: Some(2_000_000_000),
        until: Some(3_000_000_000),
        server: Some("payments".into()),
        ..Selection::default()
    };
    let spans = store.spans(selection).await.expect("spans");
    assert_eq!(spans, [Span { chain: chain(), first: 2, last: 2, events: 1 }]);
}

#[tokio::test]
async fn a_column_that_says_something_else_than_the_event_is_named() {
    let (folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let events = (1..=3).map(|seq| true_event(&chain(), seq, "payments")).collect();
    store.append(events, vec![]).await.expect("stored");
    let file = Connection::open(folder.path().join("events.db")).expect("opens");
    file.execute("UPDATE events SET decision = 'deny' WHERE seq = 1", []).expect("altered");
    file.execute("UPDATE events SET envelope = replace(envelope, 'allow', 'deny') WHERE seq = 3", [])
        .expect("altered");
    let differs = |depth| {
        let store = store.clone();
        async move {
            let events = store.scan(None, 10, depth).await.expect("a page");
            events.into_iter().map(|event| event.differs).collect::<Vec<_>>()
        }
    };
    assert_eq!(differs(Depth::Columns).await, [Some("decision"), None, Some("envelope")]);
    assert_eq!(differs(Depth::Chain).await, [None; 3]);
}

#[tokio::test]
async fn checkpoints_are_kept_from_the_first_that_the_newest_names() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let checkpoint = |sequence, first| StoredCheckpoint {
        sequence,
        first,
        nanos: sequence,
        bytes: vec![1],
        retired: vec![],
    };
    assert_eq!(store.last_checkpoint().await.expect("none"), None);
    for (sequence, first) in [(1, 1), (2, 1), (2, 1), (3, 2)] {
        store.append_checkpoint(checkpoint(sequence, first)).await.expect("stored");
    }
    let kept = store.checkpoints(0, 10).await.expect("checkpoints");
    assert_eq!(kept, [checkpoint(2, 1), checkpoint(3, 2)]);
    assert_eq!(store.last_checkpoint().await.expect("one"), Some(checkpoint(3, 2)));
}

#[tokio::test]
async fn a_retired_chain_is_forgotten_only_when_all_of_it_was_removed() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    store.append(vec![true_event(&chain(), 1, "a")], vec![]).await.expect("stored");
    let retire =
        |sequence| StoredCheckpoint { sequence, retired: vec![chain()], ..StoredCheckpoint::default() };
    store.append_checkpoint(retire(1)).await.expect("stored");
    assert_eq!(store.heads().await.expect("heads").len(), 1);
    let other = ChainName { worker: 2, ..chain() };
    let young = AuditEvent { seq: 1, time_unix_nanos: 2 * DAY * 1_000_000_000, ..AuditEvent::default() };
    store.append(vec![stored(other.clone(), &young)], vec![]).await.expect("stored");
    store.append_checkpoint(retire(2)).await.expect("stored");
    let heads = store.heads().await.expect("heads");
    assert_eq!(heads.iter().map(|head| head.name.clone()).collect::<Vec<_>>(), [other]);
}

#[tokio::test]
async fn the_end_of_a_chain_that_lost_events_is_stored_once() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let lost = Finding { chain: chain(), event_type: "audit.lost", from: 2, to: 4, nanos: 5 };
    let none = Finding { chain: ChainName { worker: 9, ..chain() }, from: 1, to: 0, ..lost.clone() };
    store.append(vec![event(1, 0)], vec![]).await.expect("stored");
    for _ in 0..2 {
        store.append(vec![], vec![lost.clone(), none.clone()]).await.expect("stored");
    }
    let stats = store.stats().await.expect("counts");
    assert_eq!((stats.events_total, stats.missing), (3, 3));
    let filter = Filter { event_type: Some("audit.lost".into()), ..Filter::default() };
    let page = store.events(filter, 10, None).await.expect("a page");
    assert_eq!(page.events[1]["payload"]["missing"], 3);
    assert_eq!(page.events[1]["payload"]["reason"], "proxy_ended");
}

#[tokio::test]
async fn heads_of_chains_that_are_kept_elsewhere_are_remembered_and_never_go_back() {
    let (folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let head =
        |seq, count| ChainHead { name: chain(), seq, hash: [7; 32], count, floor: 0, removed: 0, nanos: 0 };
    for (seq, count) in [(9, 9), (4, 1), (12, 3)] {
        store.note_heads(vec![head(seq, count)]).await.expect("noted");
    }
    drop(store);
    let limits = Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) };
    let again = Embedded::open(&folder.path().join("events.db"), limits).expect("opens");
    let [found] = again.heads().await.expect("heads").try_into().expect("one");
    assert_eq!((found.seq, found.count), (12, 12));
}

/// Sequences of events and the position after them.
async fn tail(store: &Embedded, filter: Filter, position: &str, limit: u32) -> (Vec<u64>, String) {
    let tail = store.after(filter, position.into(), limit).await.expect("a tail");
    let seq = |(_, event): &(String, Value)| event["payload"]["chain"]["seq"].as_u64().expect("a number");
    (tail.events.iter().map(seq).collect(), tail.position)
}

#[tokio::test]
async fn what_is_stored_after_a_position_is_given_once_and_in_order() {
    let (_folder, store) = open(Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY) });
    let begin = store.end().await.expect("an end");
    assert_eq!(tail(&store, Filter::default(), &begin, 10).await.0, [0; 0]);
    store.append((1..=5).map(|n| event(n, n)).collect(), vec![]).await.expect("stored");
    let (first, position) = tail(&store, Filter::default(), &begin, 2).await;
    let (rest, position) = tail(&store, Filter::default(), &position, 10).await;
    assert_eq!((first, rest), (vec![1, 2], vec![3, 4, 5]));
    assert_eq!(position, store.end().await.expect("an end"));
    let whole = store.after(Filter::default(), begin.clone(), 10).await.expect("a tail");
    assert_eq!(tail(&store, Filter::default(), &whole.events[2].0, 10).await.0, [4, 5], "after its third");
    let nobodys = Filter { human_id: Some("nobody".into()), ..Filter::default() };
    assert_eq!(tail(&store, nobodys, &begin, 10).await, (vec![], position));
    assert_eq!(tail(&store, Filter::default(), "zzzzz", 10).await.0, [0; 0], "of another store");
    assert!(matches!(store.after(Filter::default(), "?".into(), 1).await, Err(StoreError::Cursor)));
}
