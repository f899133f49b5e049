//! Spans of the real processes, at a collector of ours.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::{Pid, Signal, kill_process};
use sallyport_audit_proto::v1::EmitRequest;
use sallyport_audit_proto::v1::audit_ingest_client::AuditIngestClient;
use sallyport_runtime::{tls, tokens};
use sallyport_test_support::free_address;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Server};
use tonic::{Request, Response, Status};

const LIMIT: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const TOKEN: &str = "the-token";

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // Nobody listens any more once the test has seen what it waits for.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A process of ours that sends its spans to a collector, and what is on its disk.
struct Stand {
    folder: tempfile::TempDir,
    address: SocketAddr,
    admin: SocketAddr,
    collector: SocketAddr,
    spans: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    process: Option<Child>,
}

impl Stand {
    async fn new() -> Self {
        let (sender, spans) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let collector = listener.local_addr().expect("bound");
        let server = Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let folder = tempfile::tempdir().expect("a folder");
        tls::make_self_signed(folder.path()).expect("a certificate");
        let this =
            Self { folder, address: free_address(), admin: free_address(), collector, spans, process: None };
        std::fs::create_dir(this.path("config")).expect("writable");
        let server = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPServer\nmetadata: {name: s, namespace: ns}\nspec: {image: x, gateway: {enabled: true}}\n";
        for (name, text) in [
            ("config/server.yaml", server.to_string()),
            ("tokens.json", format!("{{\"{}\":\"edge\"}}", tokens::digest(TOKEN))),
            ("keys", "the-key\n".to_string()),
        ] {
            std::fs::write(this.path(name), text).expect("writable");
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a process, with paths below the folder for every flag that is not an address, until it is ready.
    async fn start(&mut self, component: &str, files: &[(&str, &str)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport"));
        command.arg(component).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.collector));
        command.args(["--listen", &self.address.to_string(), "--admin", &self.admin.to_string()]);
        for (flag, name) in files {
            command.arg(flag).arg(self.path(name));
        }
        let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("starts");
        self.process = Some(child);
        let url = format!("http://{}/readyz", self.admin);
        let ready = async {
            while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, ready).await.expect("ready in time");
    }

    /// Ends the process, and answers with the spans that it sent, by name, with the service that they are of.
    async fn stop(mut self) -> Vec<(String, Span)> {
        let mut child = self.process.take().expect("started");
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("runs");
        kill_process(pid, Signal::TERM).expect("ours");
        let status = tokio::time::timeout(LIMIT, child.wait()).await.expect("ends in time").expect("ended");
        assert!(status.success(), "{status}");
        let mut found = Vec::new();
        while let Ok(request) = self.spans.try_recv() {
            for resource in request.resource_spans {
                let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                let service = attributes.into_iter().find(|pair| pair.key == "service.name");
                let service = match service.and_then(|pair| pair.value?.value) {
                    Some(Attribute::StringValue(name)) => name,
                    other => panic!("{other:?}"),
                };
                let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                found.extend(spans.map(|span| (service.clone(), span)));
            }
        }
        found
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn find<'s>(spans: &'s [(String, Span)], service: &str, name: &str) -> &'s Span {
    let found = spans.iter().find(|(of, span)| of == service && span.name == name);
    &found.unwrap_or_else(|| panic!("no {name} of {service} in {spans:#?}")).1
}

fn is_child_of_the_caller(span: &Span) -> bool {
    (hex(&span.trace_id), hex(&span.parent_span_id)) == (TRACE.to_string(), PARENT.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_api_is_a_span_of_its_callers_trace() {
    let mut stand = Stand::new().await;
    let files = [("--config", "config"), ("--db", "events.db"), ("--api-keys-file", "keys")];
    stand.start("control-api", &files).await;
    let request = reqwest::Client::new()
        .get(format!("http://{}/api/runtime/servers", stand.address))
        .header("x-api-key", "the-key")
        .header("traceparent", traceparent());
    assert_eq!(request.send().await.expect("answers").status(), 200);
    let spans = stand.stop().await;
    let span = find(&spans, "sallyport-control-api", "api.request");
    assert!(is_child_of_the_caller(span), "{span:?}");
    let told: Vec<&str> = span.attributes.iter().map(|pair| pair.key.as_str()).collect();
    assert!(["method", "route", "status"].iter().all(|name| told.contains(name)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_a_span_with_its_way_to_the_proxies() {
    let mut stand = Stand::new().await;
    let files =
        [("--config", "config"), ("--tls-dir", ""), ("--tokens", "tokens.json"), ("--wasm", "x.wasm")];
    stand.start("operator", &files).await;
    let spans = stand.stop().await;
    let change = find(&spans, "sallyport-operator", "operator.change");
    let way = find(&spans, "sallyport-operator", "operator.propagate");
    assert_eq!((&way.trace_id, &way.parent_span_id), (&change.trace_id, &change.span_id));
}

async fn emit(address: SocketAddr, folder: &Path) {
    let ca = Certificate::from_pem(std::fs::read(folder.join("ca.crt")).expect("there"));
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(tls::SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    let channel = endpoint.tls_config(tls).expect("usable").connect().await.expect("connects");
    let mut request = Request::new(EmitRequest { proxy: "edge".into(), worker: 3, ..EmitRequest::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("text"));
    request.metadata_mut().insert("traceparent", traceparent().parse().expect("text"));
    // What becomes of an empty batch is another test's.
    let _ = AuditIngestClient::new(channel).emit(request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_events_is_a_span() {
    let mut stand = Stand::new().await;
    stand.start("ingest", &[("--db", "events.db"), ("--tls-dir", ""), ("--tokens", "tokens.json")]).await;
    emit(stand.address, stand.folder.path()).await;
    let spans = stand.stop().await;
    assert!(is_child_of_the_caller(find(&spans, "sallyport-ingest", "ingest.emit")));
}
