//! ClickHouse that fails, and what only it has.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{
    Access, ArgsError, Block, ChainName, ClickHouse, ClickHouseArgs, Depth, EventSink, EventStore, Filter,
    Finding, StoreError, StoredEvent, TlsError, UsageQuery,
};
use sallyport_test_support::ClickHouseServer;

const USERS: &str = r#"{"writer": {"password": "w", "readonly": false}, "reader": {"password": "it's", "readonly": true},
    "default": {"password": "none knows", "readonly": false}}"#;

fn store(server: &ClickHouseServer, user: &str, password: &str) -> ClickHouse {
    let (user, password) = (Some(user.into()), Some(password.into()));
    ClickHouse::new(Access { url: server.url(), user, password, tls: None })
}

async fn start() -> Option<(ClickHouseServer, ClickHouse)> {
    let server = ClickHouseServer::start(USERS)?;
    let store = store(&server, "writer", "w");
    store.migrate(90).await.unwrap();
    Some((server, store))
}

fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<StoredEvent> {
    let nanos = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    let chain = ChainName { proxy: "p".into(), worker: 0, epoch: 1 };
    let event = |seq| AuditEvent { seq, time_unix_nanos: nanos, allowed: true, ..AuditEvent::default() };
    let stored =
        |seq| StoredEvent::read(chain.clone(), prost::Message::encode_to_vec(&event(seq)), [1; 32]).unwrap();
    seqs.into_iter().map(stored).collect()
}

async fn stored(store: &ClickHouse) -> Vec<u64> {
    let page = store.events(Filter::default(), 5000, None).await.unwrap();
    let mut seqs: Vec<u64> =
        page.events.iter().filter_map(|event| event["payload"]["chain"]["seq"].as_u64()).collect();
    seqs.sort_unstable();
    seqs
}

async fn used(store: &ClickHouse) -> u64 {
    let all = UsageQuery { since: 0, until: None, namespace: None, server: None, team_id: None, limit: 1000 };
    store.usage(all).await.unwrap().iter().map(|usage| usage.events).sum()
}

#[tokio::test]
async fn a_block_whose_insert_failed_before_in_the_middle_or_after_is_stored_once() {
    let Some((server, store)) = start().await else { return };
    let mut first = 1;
    for how in ["before", "half", "after"] {
        server.behave(&format!(r#"{{"fail_inserts": "{how}", "times": 2}}"#));
        let mut prepared = store.prepare(&mut Block::of(&events(first..first + 100)), &[]).await.unwrap();
        assert_eq!(prepared.block.len(), 100);
        let mut failures = 0;
        while store.insert(&mut prepared).await.is_err() {
            failures += 1;
        }
        assert_eq!(failures, 2, "{how}");
        assert_eq!(stored(&store).await, (1..first + 100).collect::<Vec<_>>(), "{how}");
        assert_eq!(used(&store).await, first + 99, "{how}: rollups count each once");
        first += 100;
    }
    // Another process, which knows nothing, is told everything once more.
    let other = self::store(&server, "writer", "w");
    other.append(events((1..350).step_by(2)), vec![]).await.unwrap();
    assert_eq!(stored(&store).await.len(), 325);
    assert_eq!(used(&store).await, 325);
    other.append(events(1..350), vec![]).await.unwrap();
    let third = self::store(&server, "writer", "w");
    third.append(events(1..350), vec![]).await.unwrap();
    assert_eq!(stored(&store).await, (1..350).collect::<Vec<_>>());
    assert_eq!(used(&store).await, 349);
}

#[tokio::test]
async fn what_was_prepared_and_given_up_can_be_prepared_again() {
    let Some((server, store)) = start().await else { return };
    server.behave(r#"{"fail_inserts": "before"}"#);
    let gap = Finding {
        chain: ChainName { proxy: "p".into(), worker: 0, epoch: 1 },
        event_type: "audit.gap",
        from: 11,
        to: 12,
        nanos: u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap(),
    };
    assert!(store.append(events(1..=10), vec![gap.clone()]).await.is_err());
    store.append(events(1..=10), vec![gap.clone()]).await.unwrap();
    store.append(events(13..=13), vec![gap]).await.unwrap();
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.events_total, stats.missing), (12, 2));
}

#[tokio::test]
async fn a_reader_reads_and_cannot_write_and_a_wrong_password_does_nothing() {
    let Some((server, writer)) = start().await else { return };
    writer.append(events(1..=3), vec![]).await.unwrap();
    let reader = store(&server, "reader", "it's");
    assert_eq!(stored(&reader).await, [1, 2, 3]);
    assert_eq!(reader.stats().await.unwrap().events_total, 3);
    let refused = reader.append(events(4..=4), vec![]).await.unwrap_err().to_string();
    assert!(refused.contains("164"), "{refused}");
    let refused = store(&server, "reader", "guess").stats().await.unwrap_err().to_string();
    assert!(refused.contains("516") && !refused.contains("guess"), "{refused}");
}

#[tokio::test]
async fn a_clickhouse_that_is_away_is_an_error_and_then_none() {
    let Some((server, store)) = start().await else { return };
    server.behave(r#"{"down": true}"#);
    assert!(store.ping().await.is_err());
    assert!(matches!(store.append(events(1..=3), vec![]).await, Err(StoreError::ClickHouse(_))));
    server.behave("{}");
    store.ping().await.unwrap();
    store.append(events(1..=3), vec![]).await.unwrap();
    assert_eq!(stored(&store).await, [1, 2, 3]);
}

#[tokio::test]
async fn another_age_is_set_where_the_table_has_one() {
    let Some((server, store)) = start().await else { return };
    let raw = clickhouse::Client::default().with_url(server.url()).with_user("writer").with_password("w");
    store.migrate(400).await.unwrap();
    let table: String = raw.query("SHOW CREATE TABLE mcp.events").fetch_one().await.unwrap();
    assert!(table.contains("toIntervalDay(400)"), "{table}");
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let Some((server, store)) = start().await else { return };
    let raw = clickhouse::Client::default().with_url(server.url()).with_user("writer").with_password("w");
    raw.query("INSERT INTO mcp.schema_migrations (version) VALUES (999)").execute().await.unwrap();
    let refused = store.migrate(90).await.unwrap_err().to_string();
    assert!(refused.contains("schema 999"), "{refused}");
}

#[tokio::test]
async fn a_column_that_says_something_else_than_the_event_is_named() {
    let Some((server, store)) = start().await else { return };
    store.append(events(1..=3), vec![]).await.unwrap();
    let raw = clickhouse::Client::default().with_url(server.url()).with_user("writer").with_password("w");
    let alter = "ALTER TABLE mcp.events UPDATE decision = 'deny' WHERE seq = 2 SETTINGS mutations_sync = 1";
    raw.query(alter).execute().await.unwrap();
    let differs = async |depth| {
        let events = store.scan(None, 10, depth).await.unwrap();
        events.into_iter().map(|event| event.differs).collect::<Vec<_>>()
    };
    assert_eq!(differs(Depth::Columns).await, [None, Some("decision"), None]);
    assert_eq!(differs(Depth::Chain).await, [None; 3]);
}

/// An authority's certificate, and its signature.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, Issuer::new(params, key))
}

#[tokio::test]
async fn over_tls_only_the_authority_that_issued_its_certificate_is_trusted() {
    let ((ours, issuer), (other, _)) = (authority("ours"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let tls = ClickHouseServer::start_tls(USERS, &leaf.pem(), &key.serialize_pem());
    let (Some(server), Some(plain)) = (tls, ClickHouseServer::start(USERS)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (password, ours, other) = (file("password", "w"), file("ours", &ours), file("other", &other));
    let open = |url: String, ca: Option<&Path>| {
        let (user, password_file) = (Some("writer".to_string()), Some(password.clone()));
        let args = ClickHouseArgs { url: Some(url), user, password_file, ca: ca.map(Into::into) };
        args.access().map(|access| ClickHouse::new(access.unwrap()))
    };

    let store = open(server.url(), Some(&ours)).unwrap();
    store.migrate(90).await.unwrap();
    store.append(events(1..=100), vec![]).await.unwrap();
    assert_eq!(stored(&store).await, (1..=100).collect::<Vec<_>>());

    let refusal = async |store: ClickHouse| store.ping().await.unwrap_err().to_string();
    let unknown = refusal(open(server.url(), Some(&other)).unwrap()).await;
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    assert!(unknown.contains("give the file of the authority"), "{unknown}");
    match open(server.url(), None) {
        Ok(store) => assert_eq!(refusal(store).await, unknown),
        Err(ArgsError::Tls(TlsError::NoRoots)) => {}
        Err(other) => panic!("{other}"),
    }
    let name = server.url().replace("127.0.0.1", "localhost");
    let name = refusal(open(name, Some(&ours)).unwrap()).await;
    assert!(name.contains("not valid for name"), "{name}");
    let plain = refusal(open(plain.url().replace("http", "https"), Some(&ours)).unwrap()).await;
    assert!(plain.contains("nothing speaks TLS there"), "{plain}");
}
