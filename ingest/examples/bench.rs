//! `make bench-ingest`: what an acknowledged event costs the ingest, and how long an acknowledgement takes. The ingest runs
//! as a process of its own, with TLS, spool and embedded store, in a temporary folder of the working directory's disk.
#![expect(clippy::print_stdout, reason = "prints what it measured")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use prost::Message;
use sallyport_audit_proto::chain;
use sallyport_audit_proto::v1::audit_ingest_client::AuditIngestClient;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest};
use sallyport_runtime::tls::{SERVER_NAME, TlsFiles, make_self_signed};
use sallyport_runtime::tokens::digest;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

const TOKEN: &str = "secret of the benchmark";
const PROXY: &str = "bench";
/// Chains that send at once.
const WORKERS: u32 = 8;
/// Events of a batch.
const BATCH: u64 = 256;
/// Requests of a stream that are not answered.
const WINDOW: usize = 8;
/// The same for single events.
const WINDOW_OF_ONE: usize = 1024;
/// Events a second, all chains together, at which acknowledgements are timed.
const HALF: u64 = 50_000;

#[derive(Debug, Parser)]
struct Command {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Fills a store in this new folder and keeps it, instead of measuring more.
    #[arg(long, value_name = "FOLDER", requires = "checkpoint_key")]
    keep: Option<PathBuf>,
    /// What seals that store.
    #[arg(long, value_name = "FILE", requires = "keep")]
    checkpoint_key: Option<PathBuf>,
}

#[derive(Debug, Parser)]
struct Serve {
    #[command(flatten)]
    args: sallyport_ingest::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(("--serve", rest)) = arguments.get(1).map(|first| (first.as_str(), arguments.iter().skip(2)))
    {
        let flags = std::iter::once("serve").chain(rest.map(String::as_str));
        let shutdown = sallyport_runtime::shutdown::on_signal()?;
        return sallyport_ingest::run(Serve::parse_from(flags).args, shutdown).await;
    }
    let command = Command::parse();
    let time = Duration::from_secs(command.seconds);
    match command.keep.zip(command.checkpoint_key) {
        Some((folder, key)) => fill(&folder, &key, time).await,
        None => measure(time).await,
    }
}

/// A store to read from.
async fn fill(folder: &Path, key: &Path, time: Duration) -> anyhow::Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let sealed = [format!("--checkpoint-key={}", key.display()), "--checkpoint-interval=5".into()];
    let server = Server::start(folder, &sealed).await?;
    full_speed(&server, time).await?;
    server.balance().await?;
    // The last checkpoint is of the last event.
    tokio::time::sleep(Duration::from_secs(7)).await;
    Ok(())
}

async fn measure(time: Duration) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix(".bench-ingest-").tempdir_in(".")?;
    let server = Server::start(folder.path(), &[]).await?;
    println!(
        "fsync of 100 KB on this disk: {:.1} ms (median of 100)",
        fsync(folder.path())?.as_secs_f64() * 1e3
    );
    full_speed(&server, time).await?;
    half_speed(&server, time).await?;
    one_client(&server, time).await?;
    server.balance().await
}

/// As many batches as it takes.
async fn full_speed(server: &Server, time: Duration) -> anyhow::Result<()> {
    let (before, began) = (server.cpu()?, Instant::now());
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let client = server.client().await?;
        workers.spawn(send_stream(client, Chain::new(worker), BATCH, WINDOW, time));
    }
    let mut events = 0;
    while let Some(sent) = workers.join_next().await {
        events += sent??;
    }
    let (took, cpu) = (began.elapsed(), server.cpu()?);
    let (own, store) = (cpu.own - before.own, cpu.store - before.store);
    let rate = |seconds: f64| format!("{:.0}", as_f64(events) / seconds);
    println!(
        "batches of {BATCH}: {} events/s acknowledged; {} events/s per core (ingest {:.2} µs of CPU each; store's thread {:.1} s meanwhile)",
        rate(took.as_secs_f64()),
        rate(own.as_secs_f64()),
        own.as_secs_f64() * 1e6 / as_f64(events),
        store.as_secs_f64(),
    );
    Ok(())
}

/// Batches at a fixed rate, each timed from when it was due.
async fn half_speed(server: &Server, time: Duration) -> anyhow::Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let mut client = server.client().await?;
        let mut chain = Chain::new(WORKERS + worker);
        let pause = Duration::from_secs_f64(as_f64(BATCH * u64::from(WORKERS)) / as_f64(HALF));
        workers.spawn(async move {
            let mut times = Vec::new();
            let mut due = Instant::now() + pause * worker / WORKERS;
            let end = Instant::now() + time;
            while due < end {
                tokio::time::sleep_until(due.into()).await;
                client.emit(with_token(chain.next(BATCH))?).await?;
                times.push(due.elapsed());
                due += pause;
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(measured) = workers.join_next().await {
        times.extend(measured??);
    }
    times.sort_unstable();
    let at =
        |share: usize| times.get(times.len() * share / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!(
        "{HALF} events/s in batches of {BATCH}: acknowledged after {:.1} ms (median), {:.1} ms (p99), {:.1} ms (p99.9)",
        at(500),
        at(990),
        at(999)
    );
    Ok(())
}

/// One client that sends single events.
async fn one_client(server: &Server, time: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let chain = Chain::new(2 * WORKERS);
    let events = send_stream(server.client().await?, chain, 1, WINDOW_OF_ONE, time).await?;
    let rate = as_f64(events) / began.elapsed().as_secs_f64();
    println!("one client, single events in a stream of {WINDOW_OF_ONE} unanswered: {rate:.0} events/s");
    let (mut client, mut chain) = (server.client().await?, Chain::new(2 * WORKERS + 1));
    let (began, mut events) = (Instant::now(), 0);
    while began.elapsed() < time {
        client.emit(with_token(chain.next(1))?).await?;
        events += 1;
    }
    let rate = as_f64(events) / began.elapsed().as_secs_f64();
    println!("one client, one event at a time, each waiting for its own fsync: {rate:.0} events/s");
    Ok(())
}

/// Sends batches of `size` for `time`, with at most `window` of them unanswered, and tells how many events were acknowledged.
async fn send_stream(
    mut client: AuditIngestClient<Channel>,
    mut chain: Chain,
    size: u64,
    window: usize,
    time: Duration,
) -> anyhow::Result<u64> {
    let (requests, sent) = tokio::sync::mpsc::channel(window);
    let mut answers = client.emit_stream(with_token(ReceiverStream::new(sent))?).await?.into_inner();
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(window));
    let free = std::sync::Arc::clone(&places);
    let sending = tokio::spawn(async move {
        let end = Instant::now() + time;
        while Instant::now() < end {
            places.acquire().await?.forget();
            requests.send(chain.next(size)).await?;
        }
        anyhow::Ok(chain.seq)
    });
    let (mut durable, mut answered) = (0, 0);
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        free.add_permits(usize::try_from(answer.requests - answered)?);
        (durable, answered) = (answer.durable_seq, answer.requests);
    }
    ensure!(sending.await?? == durable, "the last answer is not about the last event");
    Ok(durable)
}

/// A chain of events that are like those of allowed calls, 400 bytes each.
struct Chain {
    worker: u32,
    seq: u64,
    hash: [u8; 32],
}

impl Chain {
    fn new(worker: u32) -> Self {
        Self { worker, seq: 0, hash: chain::genesis(PROXY, worker, 1) }
    }

    fn next(&mut self, size: u64) -> EmitRequest {
        let events = (0..size).map(|_| self.event()).collect();
        EmitRequest {
            proxy: PROXY.into(),
            worker: self.worker,
            epoch: 1,
            events,
            dropped_total: 0,
            last_seq: 0,
        }
    }

    fn event(&mut self) -> Vec<u8> {
        self.seq += 1;
        let text = |text: &str| text.to_string();
        let event = AuditEvent {
            seq: self.seq,
            prev_hash: self.hash.to_vec(),
            phase: 1,
            time_unix_nanos: 1_900_000_000_000_000_000 + self.seq,
            event_id: vec![7; 16],
            server: text("payments"),
            namespace: text("mcp-servers"),
            team_id: text("finance"),
            human_id: text("user-123"),
            agent_id: text("ops-agent"),
            session_id: text("sess-ops"),
            http_method: text("POST"),
            path: text("/payments/mcp"),
            rpc_method: text("tools/call"),
            tool_name: text("list_invoices"),
            rpc_id: text("7"),
            era: text("modern"),
            protocol_version: text("2026-07-28"),
            arguments_digest: vec![9; 32],
            trace_id: text("4bf92f3577b34da6a3ce929d0e0e4736"),
            allowed: true,
            reason: text("allowed"),
            required_trust: text("low"),
            admin_trust: text("high"),
            consented_trust: text("medium"),
            effective_trust: text("medium"),
            required_side_effect: text("read"),
            matched_grant: text("mcp-servers/ops-grant"),
            matched_session: text("mcp-servers/sess-ops"),
            policy_version: text("5f0c2a9be1"),
            status: 200,
            latency_micros: 1234,
            bytes_in: 120,
            bytes_out: 480,
            ..AuditEvent::default()
        };
        let bytes = event.encode_to_vec();
        self.hash = chain::hash(&bytes);
        bytes
    }
}

struct Server {
    child: Child,
    grpc: SocketAddr,
    admin: SocketAddr,
    ca: Vec<u8>,
}

/// CPU of the ingest.
struct Cpu {
    /// Of everything but the store's thread.
    own: Duration,
    store: Duration,
}

impl Server {
    async fn start(folder: &Path, more: &[String]) -> anyhow::Result<Self> {
        let tls = folder.join("tls");
        make_self_signed(&tls)?;
        std::fs::write(folder.join("tokens.json"), format!("{{\"{}\":\"{PROXY}\"}}", digest(TOKEN)))?;
        let (grpc, admin) = (free_address()?, free_address()?);
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let child = std::process::Command::new(std::env::current_exe()?)
            .arg("--serve")
            .args([flag("listen", &grpc), flag("admin", &admin), flag("tls-dir", &tls.display())])
            .arg(flag("tokens", &folder.join("tokens.json").display()))
            .arg(flag("db", &folder.join("events.db").display()))
            .arg(flag("spool-megabytes", &16_384))
            .args(more)
            .spawn()?;
        let server = Self { child, grpc, admin, ca: std::fs::read(TlsFiles::within(&tls).ca)? };
        let ready = async {
            while server.get("/readyz").await.is_none_or(|answer| !answer.contains("200 OK")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ready).await.context("the ingest is not ready")?;
        Ok(server)
    }

    async fn client(&self) -> anyhow::Result<AuditIngestClient<Channel>> {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca)).domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc))?.tls_config(tls)?;
        Ok(AuditIngestClient::new(endpoint.connect().await?))
    }

    async fn get(&self, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = tokio::net::TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// A hundredth of a second is the clock's unit.
    fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu { own: Duration::ZERO, store: Duration::ZERO };
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("stat"))?;
            let (name, fields) = stat.rsplit_once(')').context("the form of /proc")?;
            let ticks: u64 = fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum();
            let total = if name.ends_with("(event-store") { &mut cpu.store } else { &mut cpu.own };
            *total += Duration::from_millis(10 * ticks);
        }
        Ok(cpu)
    }

    /// Whether everything that was acknowledged reaches the store.
    async fn balance(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let metrics = self.get("/metrics").await.context("no metrics")?;
            let value = |name: &str| {
                let line =
                    metrics.lines().find_map(|line| line.strip_prefix(&format!("sallyport_ingest_{name} ")));
                line.and_then(|value| value.parse::<u64>().ok())
            };
            let (stored, delivered) = (value("events_stored_total"), value("events_delivered_total"));
            if stored == delivered {
                println!(
                    "all {} events are in the store {:.1} s later",
                    stored.unwrap_or(0),
                    began.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            ensure!(
                began.elapsed() < Duration::from_secs(600),
                "{stored:?} acknowledged, {delivered:?} in the store"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_token<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse()?);
    Ok(request)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn fsync(folder: &Path) -> anyhow::Result<Duration> {
    use std::io::Write;
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let bytes = vec![7; 100_000];
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times.get(50).copied().context("measured")
}

fn as_f64(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
