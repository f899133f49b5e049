//! The whole ingest over its sockets.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use sallyport_audit_proto::chain;
use sallyport_audit_proto::v1::audit_ingest_client::AuditIngestClient;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest};
use sallyport_event_store::{Embedded, EventStore, Filter};
use sallyport_runtime::tls::{SERVER_NAME, TlsFiles, make_self_signed};
use sallyport_runtime::tokens::digest;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request};
use tonic_types::StatusExt;

const TOKEN: &str = "secret of edge";
const KEY: &str = "secret of billing";

struct Server {
    folder: tempfile::TempDir,
    grpc: SocketAddr,
    events: SocketAddr,
    admin: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_self_signed(&folder.path().join("tls")).unwrap();
        let write = |name: &str, content: Value| {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        };
        write("tokens.json", json!({ digest(TOKEN): "edge" }));
        write("keys.json", json!({ digest(KEY): "billing" }));
        Self::run(folder, &[]).await
    }

    /// Ends it, and starts it again on the same folder.
    async fn restart(self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        Self::run(self.folder, &[]).await
    }

    async fn run(folder: tempfile::TempDir, more: &[&str]) -> Self {
        let (grpc, events, admin) = (free_address(), free_address(), free_address());
        let args = arguments(folder.path(), [grpc, events, admin], more);
        let stop = CancellationToken::new();
        let task = tokio::spawn(sallyport_ingest::run(args, stop.clone()));
        let server = Self { folder, grpc, events, admin, stop, task };
        server.until(async || server.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
        server
    }

    async fn until(&self, condition: impl AsyncFn() -> bool) {
        let waiting = async {
            while !condition().await {
                assert!(!self.task.is_finished(), "the ingest ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        http(self.admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(&self, key: Option<&str>, body: &str) -> (u16, Value) {
        let key = key.map_or_else(String::new, |key| format!("x-api-key: {key}\r\n"));
        let head = format!("host: x\r\nconnection: close\r\n{key}content-length: {}\r\n", body.len());
        let (status, body) =
            http(self.events, &format!("POST /events HTTP/1.1\r\n{head}\r\n{body}")).await.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn channel(&self) -> Channel {
        let ca = std::fs::read(TlsFiles::within(&self.folder.path().join("tls")).ca).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> AuditIngestClient<Channel> {
        AuditIngestClient::new(self.channel().await)
    }

    async fn stored(&self, filter: Filter) -> Vec<Value> {
        Embedded::reader(&self.folder.path().join("events.db"))
            .events(filter, 1000, None)
            .await
            .unwrap()
            .events
    }
}

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: sallyport_ingest::Args,
}

fn arguments(folder: &Path, [grpc, events, admin]: [SocketAddr; 3], more: &[&str]) -> sallyport_ingest::Args {
    let path = |name: &str| folder.join(name).display().to_string();
    let flags = [
        format!("--listen={grpc}"),
        format!("--events={events}"),
        format!("--admin={admin}"),
        "--events-plaintext".into(),
        format!("--db={}", path("events.db")),
        format!("--tls-dir={}", path("tls")),
        format!("--tokens={}", path("tokens.json")),
        format!("--source-keys={}", path("keys.json")),
    ];
    let more = more.iter().map(ToString::to_string);
    <Command as clap::Parser>::parse_from(["ingest".to_string()].into_iter().chain(flags).chain(more)).args
}

async fn http(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(address).await.ok()?;
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_string()))
}

/// Events `from` to `to` of the chain of worker 1.
fn events(from: u64, to: u64) -> Vec<Vec<u8>> {
    let mut hash = chain::genesis("edge", 1, 5);
    let mut all = Vec::new();
    for seq in 1..=to {
        let event =
            AuditEvent { seq, prev_hash: hash.to_vec(), server: "payments".into(), ..AuditEvent::default() };
        let bytes = event.encode_to_vec();
        hash = chain::hash(&bytes);
        if seq >= from {
            all.push(bytes);
        }
    }
    all
}

fn batch(from: u64, to: u64) -> EmitRequest {
    EmitRequest { proxy: "edge".into(), worker: 1, epoch: 5, events: events(from, to), dropped_total: 0 }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

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
