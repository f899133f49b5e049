//! A client of the ingest: sends a chain of events, one batch with `Emit` and the rest with `EmitStream`, and ends when all of
//! them are durable.
//!
//! ```sh
//! cargo run -p sallyport-ingest --example emit -- --ca .sallyport/tls/ca.crt --token-file .sallyport/proxy/token
//! ```
#![expect(clippy::print_stdout, reason = "prints what it did")]

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use clap::Parser;
use prost::Message;
use sallyport_audit_proto::v1::audit_ingest_client::AuditIngestClient;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest, Phase};
use sallyport_audit_proto::{chain, event_id};
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Requests that may wait for their answer.
const WINDOW: u64 = 8;

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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut client = connect(&arguments).await?;
    let token = std::fs::read_to_string(&arguments.token_file)?;
    let with_token = |request: &mut tonic::metadata::MetadataMap| -> anyhow::Result<()> {
        request.insert("authorization", format!("Bearer {}", token.trim()).parse()?);
        Ok(())
    };
    let mut chain = Chain::new(&arguments.name, 0)?;
    let first = arguments.batch.min(arguments.events);
    let mut request = Request::new(chain.batch(first)?);
    with_token(request.metadata_mut())?;
    let durable = client.emit(request).await?.into_inner().durable_seq;
    ensure!(durable == first, "{durable} of {first} events are durable");

    // The stream: at most a window of requests is unanswered, so neither side ever holds more.
    let (requests, sent) = tokio::sync::mpsc::channel(1);
    let mut stream = Request::new(tokio_stream::wrappers::ReceiverStream::new(sent));
    with_token(stream.metadata_mut())?;
    let mut answers = client.emit_stream(stream).await?.into_inner();
    let (mut unanswered, mut answered, mut durable) = (0, 0, durable);
    while durable < arguments.events {
        let left = arguments.events - chain.head.seq;
        if unanswered < WINDOW && left > 0 {
            requests.send(chain.batch(arguments.batch.min(left))?).await?;
            unanswered += 1;
            continue;
        }
        let Some(answer) = answers.message().await? else { break };
        unanswered -= answer.requests - answered;
        (durable, answered) = (answer.durable_seq, answer.requests);
    }
    ensure!(durable == arguments.events, "{durable} of {} events are durable", arguments.events);
    println!("{durable} events are durable");
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
