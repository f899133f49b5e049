//! The service: what is taken, from whom, and what is told.

use prost::Message;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest};
use sallyport_event_store::Filter;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{KEY, Server, TOKEN, batch, with_token};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_stored_once_also_when_it_is_sent_again_after_a_restart() {
    let server = Server::start().await;
    let first = server.client().await.emit(with_token(batch(1, 20), TOKEN)).await.unwrap().into_inner();
    assert_eq!((first.durable_seq, first.duplicates), (20, 0));
    let server = server.restart().await;
    let second = server.client().await.emit(with_token(batch(11, 30), TOKEN)).await.unwrap().into_inner();
    assert_eq!((second.durable_seq, second.duplicates), (30, 10));
    server.until(async || server.stored(Filter::default()).await.len() == 30).await;
    let seqs: Vec<_> =
        server.stored(Filter::default()).await.iter().map(|e| e["payload"]["chain"]["seq"].clone()).collect();
    assert_eq!(seqs, (1..=30).rev().map(|seq| json!(seq)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_is_durable_and_that_all_requests_were_taken() {
    let server = Server::start().await;
    let requests = (1..=100).map(|seq| batch(seq, seq)).collect::<Vec<_>>();
    let request = with_token(tokio_stream::iter(requests), TOKEN);
    let mut answers = server.client().await.emit_stream(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.durable_seq, answer.requests, "one event each");
        last = Some(answer);
    }
    assert_eq!(last.unwrap().durable_seq, 100);
    server.until(async || server.stored(Filter::default()).await.len() == 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_stored_as_an_event_of_its_own() {
    let server = Server::start().await;
    server.client().await.emit(with_token(batch(4, 5), TOKEN)).await.unwrap();
    let gaps = Filter { event_type: Some("audit.gap".into()), ..Filter::default() };
    server.until(async || server.stored(gaps.clone()).await.len() == 1).await;
    let chain = &server.stored(gaps).await[0]["payload"]["chain"];
    assert_eq!((&chain["proxy"], &chain["from"], &chain["to"]), (&json!("edge"), &json!(1), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_dropped_last_is_told_without_an_event_behind_it_and_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let word =
        |dropped_total, last_seq| EmitRequest { events: vec![], dropped_total, last_seq, ..batch(1, 1) };
    client.emit(with_token(EmitRequest { last_seq: 9, ..batch(1, 5) }, TOKEN)).await.unwrap();
    // Of what it gave out one is on its way: nobody knows yet which.
    client.emit(with_token(word(3, 9), TOKEN)).await.unwrap();
    client.emit(with_token(word(4, 9), TOKEN)).await.unwrap();
    client.emit(with_token(word(4, 9), TOKEN)).await.unwrap();
    let dropped = Filter { event_type: Some("audit.dropped".into()), ..Filter::default() };
    server.until(async || !server.stored(dropped.clone()).await.is_empty()).await;
    // The next event tells of all that was dropped before it: of these, two are news.
    let known = AuditEvent::decode(batch(5, 5).events.remove(0).as_slice()).unwrap();
    let head = sallyport_audit_proto::chain::hash(&known.encode_to_vec());
    let next = AuditEvent { seq: 12, prev_hash: head.to_vec(), dropped_before: 6, ..AuditEvent::default() };
    let next =
        EmitRequest { events: vec![next.encode_to_vec()], dropped_total: 6, last_seq: 12, ..batch(1, 1) };
    client.emit(with_token(next, TOKEN)).await.unwrap();
    server.until(async || server.stored(dropped.clone()).await.len() == 2).await;
    let told = server.stored(dropped).await;
    let told: Vec<_> = told.iter().map(|e| &e["payload"]).collect();
    let place = |at: usize| (&told[at]["chain"]["from"], &told[at]["chain"]["to"], &told[at]["reason"]);
    assert_eq!(place(1), (&json!(6), &json!(9), &json!("ring_full")));
    assert_eq!(place(0), (&json!(10), &json!(11), &json!("ring_full")));
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("sallyport_ingest_events_missing_total 6"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_name_its_predecessor_is_told_with_its_proxy_and_counted() {
    let server = Server::start().await;
    let mut forged = batch(1, 2);
    forged.events.truncate(1);
    let wrong =
        AuditEvent { seq: 2, prev_hash: vec![7; 32], server: "payments".into(), ..AuditEvent::default() };
    forged.events.push(wrong.encode_to_vec());
    server.client().await.emit(with_token(forged, TOKEN)).await.unwrap();
    let broken = Filter { event_type: Some("audit.broken".into()), ..Filter::default() };
    server.until(async || server.stored(broken.clone()).await.len() == 1).await;
    let payload = &server.stored(broken).await[0]["payload"];
    assert_eq!((&payload["chain"]["proxy"], &payload["chain"]["from"]), (&json!("edge"), &json!(2)));
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("sallyport_ingest_chains_broken_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_the_unknown_are_not_read_and_those_of_the_known_only_so_many_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start().await;
    let begin = async |key: &str| {
        let mut connection = tokio::net::TcpStream::connect(server.events).await.unwrap();
        let head =
            format!("POST /events HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 100\r\n\r\n{{");
        connection.write_all(head.as_bytes()).await.unwrap();
        connection
    };
    let status = async |mut connection: tokio::net::TcpStream| {
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(status(begin("guess").await).await, "401", "though its body never came");
    let mut slow = Vec::new();
    for _ in 0..16 {
        slow.push(begin(KEY).await);
    }
    let crowded = async || server.post(Some(KEY), "{}").await.0 == 429;
    server.until(crowded).await;
    drop(slow);
    server.until(async || server.post(Some(KEY), "{}").await.0 == 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_who_its_token_says() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let unknown = client.emit(with_token(batch(1, 1), "guess")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    let other = EmitRequest { proxy: "other".into(), ..batch(1, 1) };
    assert_eq!(
        client.emit(with_token(other.clone(), TOKEN)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let stream = client.emit_stream(with_token(tokio_stream::iter([other]), TOKEN)).await.unwrap();
    assert_eq!(stream.into_inner().message().await.unwrap_err().code(), Code::PermissionDenied);
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("sallyport_ingest_batches_refused_total 3"), "{metrics}");
    assert_eq!(server.stored(Filter::default()).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_pushes_back_and_says_when_to_come_again() {
    let server = Server::start().await;
    server.stop.cancel();
    server.task.await.unwrap().unwrap();
    let server = Server::run(server.folder, &["--spool-megabytes=1"]).await;
    let event = AuditEvent { seq: 1, path: "x".repeat(2 << 20), ..AuditEvent::default() };
    let large = EmitRequest { events: vec![event.encode_to_vec()], ..batch(1, 1) };
    let status = server.client().await.emit(with_token(large, TOKEN)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let metrics = server.get("/metrics").await.unwrap().1;
    assert!(metrics.contains("sallyport_ingest_batches_pushed_back_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_send_envelopes_with_a_key_of_their_own() {
    let server = Server::start().await;
    let one =
        json!({"source": "billing", "event_type": "charge", "payload": {"server": "payments", "amount": 7}});
    assert_eq!(server.post(Some(KEY), &one.to_string()).await, (202, json!({"ok": true, "accepted": 1})));
    assert_eq!(server.post(Some(KEY), &format!("{one}\n{one}\n")).await.1["accepted"], 2);
    let code = async |key, body: &str| {
        let (status, body) = server.post(key, body).await;
        (status, body["error"].as_str().unwrap().to_string())
    };
    let other = json!({"source": "other", "event_type": "charge", "payload": {}}).to_string();
    assert_eq!(code(Some(KEY), &other).await, (403, "wrong_source".into()));
    assert_eq!(code(Some(KEY), "{").await, (400, "invalid_json".into()));
    assert_eq!(code(Some(KEY), "{}").await, (400, "missing_fields".into()));
    assert_eq!(code(None, &one.to_string()).await, (401, "unauthorized".into()));
    assert_eq!(
        code(Some(TOKEN), &one.to_string()).await,
        (401, "invalid_token".into()),
        "a proxy's token is no key"
    );
    let large =
        json!({"source": "billing", "event_type": "charge", "payload": "x".repeat(2 << 20)}).to_string();
    assert_eq!(code(Some(KEY), &large).await, (413, "too_large".into()));
    let charges =
        Filter { source: Some("billing".into()), server: Some("payments".into()), ..Filter::default() };
    server.until(async || server.stored(charges.clone()).await.len() == 3).await;
    let newest = &server.stored(charges).await[0]["payload"];
    assert_eq!((&newest["amount"], &newest["chain"]["proxy"]), (&json!(7), &json!("source:billing")));
    assert_eq!(newest["chain"]["seq"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_description_are_told_over_grpc() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let server = Server::start().await;
    let channel = server.channel().await;
    let service = "sallyport.audit.v1.AuditIngest".to_string();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: service.clone() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    let mut client = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let asked = Some(MessageRequest::ListServices(String::new()));
    let request =
        tonic_reflection::pb::v1::ServerReflectionRequest { host: String::new(), message_request: asked };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    assert!(list.service.iter().any(|known| known.name == service), "{list:?}");
}
