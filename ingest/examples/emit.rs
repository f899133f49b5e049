//! A client of the ingest: sends a chain of events, one batch with `Emit` and the rest with `EmitStream`, and ends when all of
//! them are durable.
//!
//! ```sh
//! cargo run -p sallyport-ingest --example emit -- --ca .sallyport/tls/ca.crt --token-file .sallyport/proxy/token
//! ```
#![expect(clippy::print_stdout, reason = "prints what it did")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use clap::Parser;
use prost::Message;
use sallyport_audit_proto::v1::audit_ingest_client::AuditIngestClient;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest, Phase};
use sallyport_audit_proto::{chain, event_id};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// Requests that may wait for their answer.
const WINDOW: usize = 8;
/// How long is waited before trying again, where the status does not say.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends events to the audit ingest.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the ingest.
    #[arg(long, default_value = "https://127.0.0.1:18001")]
    address: String,
    /// Certificate that its own is signed with.
    #[arg(long)]
    ca: PathBuf,
    /// Name in its certificate.
    #[arg(long, default_value = "sallyport-control-plane")]
    server_name: String,
    /// Who speaks: the name behind the token.
    #[arg(long, default_value = "standalone")]
    name: String,
    /// File with the bearer token.
    #[arg(long)]
    token_file: PathBuf,
    /// How many events.
    #[arg(long, default_value_t = 1000)]
    events: u64,
    /// Events of a batch, at most 8192.
    #[arg(long, default_value_t = 100)]
    batch: u64,
}

/// A chain: this worker of this run of this sender.
struct Chain {
    name: String,
    worker: u32,
    epoch: u64,
    genesis: [u8; 32],
    /// Place and hash of its last event.
    head: chain::Head,
}

impl Chain {
    fn new(name: &str, worker: u32) -> anyhow::Result<Self> {
        let epoch = now()?;
        let genesis = chain::genesis(name, worker, epoch);
        Ok(Self { name: name.into(), worker, epoch, genesis, head: chain::Head { seq: 0, hash: genesis } })
    }

    fn batch(&mut self, events: u64) -> anyhow::Result<EmitRequest> {
        let events = (0..events).map(|_| self.event()).collect::<anyhow::Result<_>>()?;
        Ok(EmitRequest {
            proxy: self.name.clone(),
            worker: self.worker,
            epoch: self.epoch,
            events,
            dropped_total: 0,
            last_seq: self.head.seq,
        })
    }

    /// The next event, as the bytes that its successor names by their hash.
    fn event(&mut self) -> anyhow::Result<Vec<u8>> {
        let (seq, nanos) = (self.head.seq + 1, now()?);
        let event = AuditEvent {
            seq,
            prev_hash: self.head.hash.to_vec(),
            phase: Phase::Complete.into(),
            time_unix_nanos: nanos,
            event_id: event_id::bytes(nanos / 1_000_000, &self.genesis, seq).to_vec(),
            server: "example".into(),
            namespace: "default".into(),
            agent_id: "example-client".into(),
            rpc_method: "tools/call".into(),
            tool_name: "emit_from_rust".into(),
            allowed: true,
            reason: "allowed".into(),
            ..AuditEvent::default()
        };
        let bytes = event.encode_to_vec();
        self.head = chain::Head { seq, hash: chain::hash(&bytes) };
        Ok(bytes)
    }
}

/// A client that is known, and its chain. `waiting` are requests that are not durable as far as is known: a stream that ends leaves
/// them behind, the next one begins with them, and the ingest passes over what it has.
struct Sender {
    client: AuditIngestClient<Channel>,
    token: MetadataValue<Ascii>,
    chain: Chain,
    events: u64,
    batch: u64,
    waiting: VecDeque<EmitRequest>,
    durable: u64,
}

impl Sender {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    fn next(&mut self) -> anyhow::Result<Option<EmitRequest>> {
        let left = self.events - self.chain.head.seq;
        if left == 0 {
            return Ok(None);
        }
        let request = self.chain.batch(self.batch.min(left))?;
        self.waiting.push_back(request.clone());
        Ok(Some(request))
    }

    /// The first batch alone.
    async fn emit(&mut self) -> anyhow::Result<()> {
        let Some(first) = self.next()? else { return Ok(()) };
        loop {
            match self.client.emit(self.request(first.clone())).await {
                Ok(answer) => {
                    self.durable = answer.into_inner().durable_seq;
                    self.waiting.clear();
                    return Ok(());
                }
                Err(status) => wait(status).await?,
            }
        }
    }

    /// The rest in streams, until all is durable.
    async fn emit_stream(&mut self) -> anyhow::Result<()> {
        while self.durable < self.events {
            if let Err(error) = self.stream().await {
                wait(error.downcast()?).await?;
            }
        }
        Ok(())
    }

    /// One stream: at most a window of requests is unanswered, so neither side ever holds more.
    async fn stream(&mut self) -> anyhow::Result<()> {
        let (requests, sent) = tokio::sync::mpsc::channel(WINDOW);
        for request in &self.waiting {
            requests.send(request.clone()).await?;
        }
        let stream = self.request(tokio_stream::wrappers::ReceiverStream::new(sent));
        let mut answers = self.client.emit_stream(stream).await?.into_inner();
        let mut answered = 0;
        loop {
            while self.waiting.len() < WINDOW
                && let Some(request) = self.next()?
            {
                // A stream that has ended takes none, and its status comes as the answer.
                let _ = requests.send(request).await;
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let Some(answer) = answers.message().await? else { return Ok(()) };
            for _ in answered..answer.requests {
                self.waiting.pop_front();
            }
            (self.durable, answered) = (answer.durable_seq, answer.requests);
        }
    }
}

/// Waits for as long as the status says (RetryInfo) where there is no room, or nobody, now; any other is an error.
async fn wait(status: Status) -> anyhow::Result<()> {
    ensure!(matches!(status.code(), Code::ResourceExhausted | Code::Unavailable), status);
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
    tokio::time::sleep(told.unwrap_or(PAUSE)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let token = std::fs::read_to_string(&arguments.token_file)?;
    let mut sender = Sender {
        client: connect(&arguments).await?,
        token: format!("Bearer {}", token.trim()).parse()?,
        chain: Chain::new(&arguments.name, 0)?,
        events: arguments.events,
        batch: arguments.batch,
        waiting: VecDeque::new(),
        durable: 0,
    };
    sender.emit().await?;
    sender.emit_stream().await?;
    println!("{} events are durable", sender.durable);
    Ok(())
}

async fn connect(arguments: &Arguments) -> anyhow::Result<AuditIngestClient<Channel>> {
    let ca = Certificate::from_pem(std::fs::read(&arguments.ca)?);
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(&arguments.server_name);
    let endpoint = Endpoint::from_shared(arguments.address.clone())?.tls_config(tls)?;
    Ok(AuditIngestClient::new(endpoint.connect().await?))
}

fn now() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
