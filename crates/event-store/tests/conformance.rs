//! Every store gives the same answers: each case runs on each of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures::future::BoxFuture;
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_event_store::{
    Access, ChainHead, ChainName, ChainedEvent, ClickHouse, Depth, Embedded, EventSink, EventStore, Filter,
    Finding, Limits, Page, Position, Selection, Span, Stats, StoredCheckpoint, StoredEvent, Summary, Usage,
    UsageQuery,
};
use sallyport_test_support::ClickHouseServer;
use serde_json::{Value, json};

const DAY: u64 = 86_400;
const MAX_DAYS: u32 = 90;

/// What a case works on.
trait Store: EventSink + EventStore {}
impl<T: EventSink + EventStore> Store for T {}

type Case = for<'a> fn(&'a dyn Store) -> BoxFuture<'a, ()>;

/// The cases, by name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |store| Box::pin($name(store)))),*] };
}

const CASES: &[(&str, Case)] = cases![
    an_empty_store_answers_with_nothing,
    pages_are_of_the_newest_first_and_meet_without_overlap_or_hole,
    a_cursor_that_is_none_is_refused,
    what_is_stored_after_a_position_is_given_once_and_in_order,
    every_field_filters_alone_and_with_others,
    what_quotes_and_statements_say_is_text,
    an_event_told_again_is_stored_and_counted_once,
    findings_are_events_of_their_own,
    envelopes_say_all_that_the_event_did,
    another_programs_event_is_given_back_as_it_was_sent,
    totals_and_counts_agree_with_the_events,
    usage_is_told_by_the_hour_and_filtered,
    heads_are_where_chains_stand,
    events_are_scanned_chain_by_chain_and_page_by_page,
    spans_tell_which_part_of_chains_is_selected,
    checkpoints_are_kept_from_the_first_that_the_newest_names,
    a_chain_that_still_has_events_is_not_retired,
];

fn embedded() -> (tempfile::TempDir, Embedded) {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: u64::MAX, max_age: Duration::from_secs(DAY * u64::from(MAX_DAYS)) };
    let store = Embedded::open(&folder.path().join("events.db"), limits).unwrap();
    (folder, store)
}

async fn clickhouse() -> Option<(ClickHouseServer, ClickHouse)> {
    let server = ClickHouseServer::start("{}")?;
    let store = ClickHouse::new(Access { url: server.url(), user: None, password: None, tls: None });
    store.migrate(MAX_DAYS).await.unwrap();
    Some((server, store))
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    for (name, case) in CASES {
        eprintln!("embedded: {name}");
        let (_folder, store) = embedded();
        case(&store).await;
    }
}

#[tokio::test]
async fn the_embedded_store_removes_what_is_too_old() {
    let (_folder, store) = embedded();
    // At each commit.
    what_is_too_old_goes_and_is_told(&store, async || {}).await;
}

#[tokio::test]
async fn clickhouse_removes_what_is_too_old() {
    let Some((server, store)) = clickhouse().await else { return };
    let raw = ::clickhouse::Client::default().with_url(server.url());
    // It does so when it merges parts.
    let merge = async || raw.query("OPTIMIZE TABLE mcp.events FINAL").execute().await.unwrap();
    what_is_too_old_goes_and_is_told(&store, merge).await;
}

/// `tidy` does what the store does by itself after a while.
async fn what_is_too_old_goes_and_is_told(store: &dyn Store, tidy: impl AsyncFnOnce()) {
    let age = u64::from(MAX_DAYS + 10) * DAY * 1_000_000_000;
    let old = |seq| event(1, seq, 0, |event| event.time_unix_nanos -= age);
    let young = |seq| event(1, seq, 0, |_| {});
    store.append([old(1), old(2), young(3), young(4), young(5)].to_vec(), vec![]).await.unwrap();
    tidy().await;
    let kept = store.scan(None, 10, Depth::Columns).await.unwrap();
    assert_eq!(kept.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(all(store, Filter::default()).await.len(), 3);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.events_total, stats.pruned, stats.allowed), (3, 2, 5), "what is gone was there");
    let head = store.heads().await.unwrap().remove(0);
    assert_eq!((head.seq, head.count, head.floor, head.removed), (5, 5, 2, 2), "it is no gap");
    let whole =
        UsageQuery { since: 0, until: None, namespace: None, server: None, team_id: None, limit: 100 };
    let used = store.usage(whole).await.unwrap();
    assert_eq!(
        used.iter().map(|usage| usage.events).collect::<Vec<_>>(),
        [2, 3],
        "usage outlives its events"
    );
    // What is told again stays away.
    store.append(vec![old(1)], vec![]).await.unwrap();
    assert_eq!(store.stats().await.unwrap().events_total, 3);
}

#[tokio::test]
async fn clickhouse_conforms() {
    for (name, case) in CASES {
        eprintln!("ClickHouse: {name}");
        let Some((_server, store)) = clickhouse().await else { return };
        store.migrate(MAX_DAYS).await.unwrap();
        case(&store).await;
    }
}

/// Seconds since 1970: an hour's beginning, some days ago, so that no bound of age is near.
fn base() -> u64 {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    (now - 3 * DAY) / 3600 * 3600
}

fn chain(worker: u32) -> ChainName {
    ChainName { proxy: "gateway".into(), worker, epoch: 1_763_000_000_123_456_789 }
}

/// Event `seq` of a chain, so many seconds after the base.
fn event(worker: u32, seq: u64, seconds: u64, with: impl FnOnce(&mut AuditEvent)) -> StoredEvent {
    let mut event = AuditEvent {
        seq,
        time_unix_nanos: (base() + seconds) * 1_000_000_000 + seq,
        phase: Phase::Complete.into(),
        allowed: true,
        ..AuditEvent::default()
    };
    with(&mut event);
    let bytes = prost::Message::encode_to_vec(&event);
    let hash = sallyport_audit_proto::chain::hash(&bytes);
    StoredEvent::read(chain(worker), bytes, hash).unwrap()
}

fn finding(event_type: &'static str, from: u64, to: u64) -> Finding {
    Finding { chain: chain(1), event_type, from, to, nanos: base() * 1_000_000_000 }
}

async fn all(store: &dyn Store, filter: Filter) -> Vec<Value> {
    store.events(filter, 1000, None).await.unwrap().events
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["payload"]["chain"]["seq"].as_u64().unwrap()).collect()
}

async fn an_empty_store_answers_with_nothing(store: &dyn Store) {
    let page = store.events(Filter::default(), 10, None).await.unwrap();
    assert_eq!(page, Page { events: vec![], next: None });
    assert_eq!(store.stats().await.unwrap(), Stats::default());
    assert_eq!(store.summary().await.unwrap(), Summary::default());
    assert!(store.sources().await.unwrap().is_empty() && store.event_types().await.unwrap().is_empty());
    assert!(store.heads().await.unwrap().is_empty());
    assert!(store.usage(usage_query()).await.unwrap().is_empty());
}

async fn pages_are_of_the_newest_first_and_meet_without_overlap_or_hole(store: &dyn Store) {
    // Times descend while events arrive: the order is that of arrival.
    for batch in 0..5_u64 {
        let events = (1..=5).map(|n| event(1, batch * 5 + n, 1000 - batch * 10, |_| {})).collect();
        store.append(events, vec![]).await.unwrap();
    }
    for size in [1, 4, 7, 25, 26] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.events(Filter::default(), size, cursor).await.unwrap();
            assert!(page.events.len() <= usize::try_from(size).unwrap());
            seen.extend(seqs(&page.events));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, (1..=25).rev().collect::<Vec<u64>>(), "pages of {size}");
    }
}

async fn a_cursor_that_is_none_is_refused(store: &dyn Store) {
    for cursor in ["", "!", "-5", "zzzzzzzzzzzzzzzzzzzzzz"] {
        let refused = store.events(Filter::default(), 10, Some(cursor.into())).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cursor is not valid; take it from `next` of an earlier answer",
            "`{cursor}`"
        );
    }
}

async fn what_is_stored_after_a_position_is_given_once_and_in_order(store: &dyn Store) {
    store.append(vec![event(1, 1, 0, |_| {})], vec![]).await.unwrap();
    let begin = store.end().await.unwrap();
    let empty = store.after(Filter::default(), begin.clone(), 10).await.unwrap();
    assert_eq!((empty.events.len(), &empty.position), (0, &begin));
    // Times descend while events arrive: the order is that of arrival.
    let events = (2..=6).map(|seq| event(1, seq, 100 - seq, |event| event.allowed = seq % 2 == 0)).collect();
    store.append(events, vec![]).await.unwrap();
    let (mut seen, mut position) = (Vec::new(), begin.clone());
    for _ in 0..4 {
        let tail = store.after(Filter::default(), position, 2).await.unwrap();
        seen.extend(tail.events.into_iter().map(|(_, event)| event));
        position = tail.position;
    }
    assert_eq!(seqs(&seen), [2, 3, 4, 5, 6]);
    assert_eq!(position, store.end().await.unwrap());
    let whole = store.after(Filter::default(), begin.clone(), 10).await.unwrap();
    let third = whole.events[2].0.clone();
    let rest = store.after(Filter::default(), third, 10).await.unwrap().events;
    assert_eq!(
        seqs(&rest.into_iter().map(|(_, event)| event).collect::<Vec<_>>()),
        [5, 6],
        "after its third"
    );
    let denied = Filter { decision: Some("deny".into()), ..Filter::default() };
    let denied = store.after(denied, begin, 10).await.unwrap();
    assert_eq!((denied.events.len(), denied.position), (2, position));
    assert!(store.after(Filter::default(), "?".into(), 1).await.is_err());
}

/// Two events that differ in every field that is filtered by.
fn pair() -> Vec<StoredEvent> {
    let fill = |event: &mut AuditEvent, mark: &str| {
        let text = |name: &str| format!("{name}-{mark}");
        event.server = text("server");
        event.namespace = text("namespace");
        event.team_id = text("team");
        event.cluster = text("cluster");
        event.human_id = text("human");
        event.agent_id = text("agent");
        event.session_id = text("session");
        event.reason = text("reason");
        event.tool_name = text("tool");
        event.rpc_method = text("method");
        event.trace_id = text("trace");
    };
    let mine = event(1, 1, 0, |event| fill(event, "a"));
    let theirs = event(1, 2, 0, |event| {
        fill(event, "b");
        event.allowed = false;
        event.source = "billing".into();
        event.event_type = "charge".into();
        event.payload = br#"{"decision":"deny"}"#.to_vec();
    });
    vec![mine, theirs]
}

async fn every_field_filters_alone_and_with_others(store: &dyn Store) {
    store.append(pair(), vec![finding("audit.gap", 5, 6)]).await.unwrap();
    let filters = json!({
        "source": ["server-a-gateway", "billing"], "event_type": ["mcp.request", "charge"],
        "server": ["server-a", "server-b"], "namespace": ["namespace-a", "namespace-b"], "team_id": ["team-a", "team-b"],
        "cluster": ["cluster-a", "cluster-b"], "human_id": ["human-a", "human-b"], "agent_id": ["agent-a", "agent-b"],
        "session_id": ["session-a", "session-b"], "decision": ["allow", "deny"], "reason": ["reason-a", "reason-b"],
        "tool_name": ["tool-a", "tool-b"], "rpc_method": ["method-a", "method-b"], "trace_id": ["trace-a", "trace-b"],
    });
    for (field, values) in filters.as_object().unwrap() {
        for (place, wanted) in [(0, vec![1]), (1, vec![2])] {
            let filter: Filter = serde_json::from_value(json!({ field: values[place] })).unwrap();
            assert_eq!(seqs(&all(store, filter).await), wanted, "{field}");
        }
        let both: Filter =
            serde_json::from_value(json!({ field: values[0], "human_id": "human-b" })).unwrap();
        assert_eq!(all(store, both).await.len(), usize::from(field == "human_id"), "{field} and another");
        let none: Filter = serde_json::from_value(json!({ field: "" })).unwrap();
        assert!(all(store, none).await.is_empty(), "{field} is empty in none");
    }
}

async fn what_quotes_and_statements_say_is_text(store: &dyn Store) {
    let names = [
        "it's",
        "a' OR '1'='1",
        "b\\",
        "tab\there",
        "new\nline",
        "{x:String}",
        "?",
        "naïve — 中",
        "\\N",
        "%",
    ];
    let events = names.iter().enumerate().map(|(place, name)| {
        event(1, u64::try_from(place).unwrap() + 1, 0, |event| event.tool_name = (*name).into())
    });
    store.append(events.collect(), vec![]).await.unwrap();
    for (place, name) in names.iter().enumerate() {
        let filter = Filter { tool_name: Some((*name).into()), ..Filter::default() };
        assert_eq!(seqs(&all(store, filter).await), [u64::try_from(place).unwrap() + 1], "{name}");
    }
}

async fn an_event_told_again_is_stored_and_counted_once(store: &dyn Store) {
    let batch =
        |range: std::ops::RangeInclusive<u64>| range.map(|seq| event(1, seq, 0, |_| {})).collect::<Vec<_>>();
    let gap = || vec![finding("audit.gap", 40, 42)];
    store.append(batch(1..=10), vec![]).await.unwrap();
    store.append(batch(1..=10), vec![]).await.unwrap();
    store.append(batch(5..=15), vec![]).await.unwrap();
    store.append([batch(12..=15), batch(43..=43)].concat(), gap()).await.unwrap();
    store.append([batch(12..=15), batch(43..=43)].concat(), gap()).await.unwrap();
    store.append(batch(43..=43), gap()).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(stats, Stats { events_total: 17, allowed: 16, denied: 0, missing: 3, pruned: 0 });
    assert_eq!(all(store, Filter::default()).await.len(), 17);
}

async fn findings_are_events_of_their_own(store: &dyn Store) {
    let findings =
        vec![finding("audit.gap", 2, 4), finding("audit.dropped", 6, 6), finding("audit.broken", 8, 8)];
    store.append(vec![event(1, 1, 0, |_| {})], findings).await.unwrap();
    let found = all(store, Filter { source: Some("ingest".into()), ..Filter::default() }).await;
    assert_eq!(found.len(), 3);
    let gap = found.iter().find(|found| found["event_type"] == "audit.gap").unwrap();
    assert_eq!(gap["payload"]["chain"]["from"], 2);
    assert_eq!(gap["payload"]["chain"]["to"], 4);
    assert_eq!(gap["payload"]["chain"]["epoch"], "1763000000123456789");
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.events_total, stats.missing), (4, 4), "a broken event is not missing");
    let without = Filter { server: Some(String::new()), ..Filter::default() };
    assert_eq!(seqs(&all(store, without).await), [1], "a finding has no server, not even an empty one");
}

async fn envelopes_say_all_that_the_event_did(store: &dyn Store) {
    let full = event(1, 1, 5, |event| {
        event.phase = Phase::Decision.into();
        event.event_id = (0..16).collect();
        event.arguments_digest = vec![0xab; 32];
        event.matched_grant = "team/grant".into();
        event.bytes_in = u64::MAX;
        event.prev_hash = vec![1; 32];
        event.trace_id = "0af7651916cd43dd8448eb211c80319c".into();
    });
    let outcome = event(1, 2, 6, |event| {
        event.phase = Phase::Outcome.into();
        event.decision_seq = 1;
        event.status = 200;
        event.latency_micros = 1234;
        event.cut = true;
    });
    let wanted: Vec<Value> = [&outcome, &full]
        .iter()
        .map(|stored| sallyport_event_store::envelope(&stored.chain, &stored.hash, &stored.view()))
        .collect();
    store.append(vec![full, outcome], vec![]).await.unwrap();
    assert_eq!(all(store, Filter::default()).await, wanted);
}

async fn another_programs_event_is_given_back_as_it_was_sent(store: &dyn Store) {
    let sent = event(1, 1, 0, |event| {
        event.source = "billing".into();
        event.event_type = "billing.charge".into();
        event.payload = br#"{"decision":"deny","extra":[1,2.50,null]}"#.to_vec();
    });
    store.append(vec![sent], vec![]).await.unwrap();
    let filter =
        Filter { source: Some("billing".into()), decision: Some("deny".into()), ..Filter::default() };
    let event = all(store, filter).await.remove(0);
    assert_eq!(event["event_type"], "billing.charge");
    assert_eq!(event["payload"]["extra"], json!([1, 2.5, null]));
    assert_eq!(event["payload"]["chain"]["seq"], 1);
}

async fn totals_and_counts_agree_with_the_events(store: &dyn Store) {
    let events = (1..=6)
        .map(|seq| {
            event(1, seq, seq, |event| {
                event.allowed = seq % 3 != 0;
                event.server = if seq == 1 { "one".into() } else { "two".into() };
            })
        })
        .chain([event(1, 7, 7, |event| event.phase = Phase::Outcome.into())]);
    store.append(events.collect(), vec![finding("audit.dropped", 9, 9)]).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!(stats, Stats { events_total: 8, allowed: 4, denied: 2, missing: 1, pruned: 0 });
    let counts =
        |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_string(), *n)).collect::<Vec<_>>();
    let sources = counts(&[("two-gateway", 5), ("gateway", 1), ("ingest", 1), ("one-gateway", 1)]);
    assert_eq!(store.sources().await.unwrap(), sources);
    assert_eq!(store.event_types().await.unwrap(), counts(&[("mcp.request", 7), ("audit.dropped", 1)]));
    let summary = store.summary().await.unwrap();
    assert_eq!((summary.total_events, summary.latest_source.as_deref()), (8, Some("ingest")));
    assert_eq!(summary.last_event_type.as_deref(), Some("audit.dropped"));
    let time = jiff::Timestamp::from_second(i64::try_from(base()).unwrap()).unwrap();
    assert_eq!(summary.last_event_time, Some(format!("{time:.9}")));
}

fn usage_query() -> UsageQuery {
    UsageQuery { since: 0, until: None, namespace: None, server: None, team_id: None, limit: 1000 }
}

async fn usage_is_told_by_the_hour_and_filtered(store: &dyn Store) {
    let at = |seq, seconds, server: &str, tool: &str, allowed| {
        event(1, seq, seconds, |event| {
            event.namespace = "team".into();
            event.server = server.into();
            event.tool_name = tool.into();
            event.allowed = allowed;
        })
    };
    let first = vec![at(1, 0, "a", "x", true), at(2, 3599, "a", "x", false), at(3, 3600, "a", "x", true)];
    store.append(first, vec![finding("audit.gap", 9, 9)]).await.unwrap();
    let rest = vec![at(4, 10, "a", "", true), at(5, 20, "b", "x", true), at(6, 30, "a", "x", true)];
    store.append(rest.clone(), vec![]).await.unwrap();
    store.append(rest, vec![]).await.unwrap();
    let row = |hour: u64, server: &str, tool_name: &str, (events, allowed, denied)| {
        let time = jiff::Timestamp::from_second(i64::try_from(base() + hour * 3600).unwrap()).unwrap();
        Usage {
            hour: time.to_string(),
            namespace: "team".into(),
            server: server.into(),
            team_id: String::new(),
            tool_name: tool_name.into(),
            events,
            allowed,
            denied,
        }
    };
    let (one, two) = (row(0, "a", "", (1, 1, 0)), row(0, "a", "x", (3, 2, 1)));
    let (three, four) = (row(0, "b", "x", (1, 1, 0)), row(1, "a", "x", (1, 1, 0)));
    let everything = vec![one.clone(), two.clone(), three.clone(), four.clone()];
    assert_eq!(store.usage(usage_query()).await.unwrap(), everything);
    let nanos = |seconds: u64| (base() + seconds) * 1_000_000_000;
    let later = UsageQuery { since: nanos(3601), ..usage_query() };
    assert_eq!(store.usage(later).await.unwrap(), vec![four], "the hour that it is in counts");
    let earlier = UsageQuery { until: Some(nanos(3600)), server: Some("a".into()), ..usage_query() };
    assert_eq!(store.usage(earlier).await.unwrap(), vec![one.clone(), two]);
    let limited = UsageQuery { limit: 1, ..usage_query() };
    assert_eq!(store.usage(limited).await.unwrap(), vec![one]);
}

async fn heads_are_where_chains_stand(store: &dyn Store) {
    let events: Vec<_> =
        (1..=3).map(|seq| event(1, seq, 0, |_| {})).chain([event(2, 7, 0, |_| {})]).collect();
    let before = jiff::Timestamp::now().as_nanosecond();
    store.append(events[..2].to_vec(), vec![]).await.unwrap();
    store.append(events[2..].to_vec(), vec![finding("audit.gap", 1, 6)]).await.unwrap();
    let mut heads = store.heads().await.unwrap();
    heads.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(heads.iter().all(|head| i128::from(head.nanos) >= before), "{heads:?}");
    let wanted = [(2, 3), (3, 1)].map(|(place, count): (usize, u64)| {
        let (stored, nanos) = (&events[place], heads[place - 2].nanos);
        let name = stored.chain.clone();
        ChainHead { name, seq: stored.seq, hash: stored.hash, count, floor: 0, removed: 0, nanos }
    });
    assert_eq!(heads, wanted);
}

async fn events_are_scanned_chain_by_chain_and_page_by_page(store: &dyn Store) {
    let mut events = Vec::new();
    for worker in [2, 0, 1] {
        // With holes, one of them longer than a page.
        let seqs = [1, 2, 3, 5, 6, 40, 41].into_iter().filter(|seq| worker != 0 || *seq > 4);
        events.extend(seqs.map(|seq| event(worker, seq, 100 - seq, |event| event.server = "s".into())));
    }
    for batch in events.chunks(4) {
        store.append(batch.to_vec(), vec![finding("audit.gap", 4, 4)]).await.unwrap();
    }
    events.sort_by_key(|stored| (stored.chain.worker, stored.seq));
    let wanted: Vec<ChainedEvent> = events
        .iter()
        .map(|stored| ChainedEvent {
            chain: stored.chain.clone(),
            seq: stored.seq,
            hash: stored.hash,
            bytes: stored.bytes.clone(),
            differs: None,
        })
        .collect();
    for (size, depth) in [(1, Depth::Chain), (3, Depth::Columns), (18, Depth::Chain), (100, Depth::Columns)] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan(after, size, depth).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(Position { chain: last.chain.clone(), seq: last.seq });
            seen.extend(page);
        }
        assert_eq!(seen, wanted, "pages of {size}");
    }
}

async fn spans_tell_which_part_of_chains_is_selected(store: &dyn Store) {
    let of = |worker, seq: u64, server: &str| event(worker, seq, seq, |event| event.server = server.into());
    let events = vec![of(1, 1, "a"), of(1, 2, "b"), of(1, 3, "a"), of(2, 1, "b"), of(2, 5, "b")];
    store.append(events, vec![finding("audit.gap", 2, 4)]).await.unwrap();
    let span = |worker, first, last, events| Span { chain: chain(worker), first, last, events };
    let everything = store.spans(Selection::default()).await.unwrap();
    assert_eq!(everything, [span(1, 1, 3, 3), span(2, 1, 5, 2)]);
    let of_a = Selection { server: Some("a".into()), ..Selection::default() };
    assert_eq!(store.spans(of_a).await.unwrap(), [span(1, 1, 3, 2)]);
    let nanos = |seconds: u64| Some((base() + seconds) * 1_000_000_000);
    let part = Selection { since: nanos(2), until: nanos(5), ..Selection::default() };
    assert_eq!(store.spans(part).await.unwrap(), [span(1, 2, 3, 2)]);
    let nobodys = Selection { namespace: Some("other".into()), ..Selection::default() };
    assert!(store.spans(nobodys).await.unwrap().is_empty());
}

async fn checkpoints_are_kept_from_the_first_that_the_newest_names(store: &dyn Store) {
    let checkpoint = |sequence: u64, first| StoredCheckpoint {
        sequence,
        first,
        nanos: 1_763_000_000_123_456_789 + sequence,
        bytes: vec![0, 255, 10, 39],
        retired: vec![],
    };
    assert_eq!(store.last_checkpoint().await.unwrap(), None);
    assert!(store.checkpoints(0, 10).await.unwrap().is_empty());
    for (sequence, first) in [(1, 1), (2, 1), (2, 1), (3, 2), (4, 2)] {
        store.append_checkpoint(checkpoint(sequence, first)).await.unwrap();
    }
    let wanted = [checkpoint(2, 1), checkpoint(3, 2), checkpoint(4, 2)];
    assert_eq!(store.checkpoints(0, 10).await.unwrap(), wanted);
    assert_eq!(store.checkpoints(2, 1).await.unwrap(), [checkpoint(3, 2)]);
    assert_eq!(store.last_checkpoint().await.unwrap(), Some(checkpoint(4, 2)));
}

async fn a_chain_that_still_has_events_is_not_retired(store: &dyn Store) {
    store.append(vec![event(1, 1, 0, |_| {})], vec![]).await.unwrap();
    let retire = StoredCheckpoint { sequence: 1, retired: vec![chain(1)], ..StoredCheckpoint::default() };
    store.append_checkpoint(retire).await.unwrap();
    assert_eq!(store.heads().await.unwrap().len(), 1);
}
