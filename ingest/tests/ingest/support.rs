//! The whole ingest over its sockets, and a client's side of it.

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
use sallyport_test_support::free_address;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

pub(crate) const TOKEN: &str = "secret of edge";
pub(crate) const KEY: &str = "secret of billing";

pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    grpc: SocketAddr,
    pub(crate) events: SocketAddr,
    admin: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// Flags that depend on the folder.
type More = fn(&Path) -> [String; 2];

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = Self::prepare(&[]);
        Self::run(folder, &[]).await
    }

    pub(crate) async fn start_with_flags(flags: &[&str]) -> Self {
        Self::run(Self::prepare(&[]), flags).await
    }

    pub(crate) async fn start_with(more: More) -> Self {
        Self::start_with_proxies(&[], more).await
    }

    /// With these proxies beside `edge`; the token of each is its name.
    pub(crate) async fn start_with_proxies(names: &[String], more: More) -> Self {
        let folder = Self::prepare(names);
        let flags = more(folder.path());
        Self::run(folder, &flags.each_ref().map(String::as_str)).await
    }

    pub(crate) async fn restart_with(self, more: More) -> Self {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let flags = more(self.folder.path());
        Self::run(self.folder, &flags.each_ref().map(String::as_str)).await
    }

    /// Why it does not start.
    pub(crate) async fn fails(folder: &tempfile::TempDir, more: &[&str]) -> String {
        let args = arguments(folder.path(), [free_address(), free_address(), free_address()], more);
        format!("{:#}", sallyport_ingest::run(args, CancellationToken::new()).await.unwrap_err())
    }

    fn prepare(names: &[String]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        make_self_signed(&folder.path().join("tls")).unwrap();
        let write = |name: &str, content: Value| {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        };
        let mut tokens: Map<String, Value> =
            names.iter().map(|name| (digest(name), name.as_str().into())).collect();
        tokens.insert(digest(TOKEN), "edge".into());
        write("tokens.json", tokens.into());
        write("keys.json", json!({ digest(KEY): "billing" }));
        folder
    }

    /// Ends it, and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        Self::run(self.folder, &[]).await
    }

    pub(crate) async fn run(mut folder: tempfile::TempDir, more: &[&str]) -> Self {
        let mut tries = 0;
        loop {
            let (grpc, events, admin) = (free_address(), free_address(), free_address());
            let args = arguments(folder.path(), [grpc, events, admin], more);
            let stop = CancellationToken::new();
            let task = tokio::spawn(sallyport_ingest::run(args, stop.clone()));
            let server = Self { folder, grpc, events, admin, stop, task };
            let is_ready = async || server.get("/readyz").await.is_some_and(|(status, _)| status == 200);
            let waiting = async {
                while !server.task.is_finished() && !is_ready().await {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
            if !server.task.is_finished() {
                return server;
            }
            // Somebody else may have taken a port that was free.
            let ended = server.task.await;
            tries += 1;
            assert!(tries < 3, "the ingest ended before it was ready: {ended:?}");
            folder = server.folder;
        }
    }

    pub(crate) async fn until(&self, condition: impl AsyncFn() -> bool) {
        let waiting = async {
            while !condition().await {
                assert!(!self.task.is_finished(), "the ingest ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        http(self.admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    pub(crate) async fn post(&self, key: Option<&str>, body: &str) -> (u16, Value) {
        let key = key.map_or_else(String::new, |key| format!("x-api-key: {key}\r\n"));
        let head = format!("host: x\r\nconnection: close\r\n{key}content-length: {}\r\n", body.len());
        let (status, body) =
            http(self.events, &format!("POST /events HTTP/1.1\r\n{head}\r\n{body}")).await.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    /// A client over a connection of its own; none: it cannot be made now.
    pub(crate) async fn try_client(&self) -> Option<AuditIngestClient<Channel>> {
        Some(AuditIngestClient::new(self.endpoint().connect().await.ok()?))
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        let ca = std::fs::read(TlsFiles::within(&self.folder.path().join("tls")).ca).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap()
    }

    pub(crate) async fn client(&self) -> AuditIngestClient<Channel> {
        AuditIngestClient::new(self.channel().await)
    }

    pub(crate) async fn stored(&self, filter: Filter) -> Vec<Value> {
        self.reader().events(filter, 1000, None).await.unwrap().events
    }

    pub(crate) fn reader(&self) -> Embedded {
        Embedded::reader(&self.folder.path().join("events.db"))
    }

    /// Does to the store's file what its keeper never would.
    pub(crate) fn alter(&self, sql: &str) {
        let file = rusqlite::Connection::open(self.folder.path().join("events.db")).unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        assert!(file.execute(sql, []).unwrap() > 0, "{sql}");
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

/// Events `from` to `to` of a chain.
fn events(proxy: &str, worker: u32, epoch: u64, from: u64, to: u64) -> Vec<Vec<u8>> {
    let mut hash = chain::genesis(proxy, worker, epoch);
    let mut all = Vec::new();
    for seq in 1..=to {
        // In the year 2030: not too old for the store.
        let event = AuditEvent {
            seq,
            prev_hash: hash.to_vec(),
            server: "payments".into(),
            time_unix_nanos: 1_900_000_000_000_000_000,
            ..AuditEvent::default()
        };
        let bytes = event.encode_to_vec();
        hash = chain::hash(&bytes);
        if seq >= from {
            all.push(bytes);
        }
    }
    all
}

pub(crate) fn batch_of(proxy: &str, worker: u32, epoch: u64, from: u64, to: u64) -> EmitRequest {
    let events = events(proxy, worker, epoch, from, to);
    EmitRequest { proxy: proxy.into(), worker, epoch, events, dropped_total: 0, last_seq: to }
}

pub(crate) fn batch(from: u64, to: u64) -> EmitRequest {
    batch_of("edge", 1, 5, from, to)
}

pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}
