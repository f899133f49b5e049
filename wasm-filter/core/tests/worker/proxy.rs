//! A worker with its host, and what the control plane, callers and the ingest do to it.

use prost::Message;
use sallyport_audit_proto::v1::{AuditEvent, EmitRequest};
use sallyport_filter_core::host::Answer;
use sallyport_filter_core::pairs::serialize;
use sallyport_filter_core::{Flow, Worker};
use sallyport_policy::{
    AuditOverload, Grant, ObjectId, ServerPolicy, Session, SessionRules, SideEffect, SideEffects, Subject,
    Tool, Trust,
};
use sallyport_policy_proto::discovery::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use sallyport_policy_proto::resource::{self, BASELINE_NAME, BASELINE_TYPE, GRANT_TYPE, SESSION_TYPE};
use sallyport_policy_proto::v1;

use crate::fake_host::{FakeHost, HostCall};

/// When tests begin, in seconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000;
const MILLI: u64 = 1_000_000;
/// The root context of the first configuration.
pub(crate) const ROOT: u32 = 1;

pub(crate) struct Proxy {
    pub(crate) host: FakeHost,
    pub(crate) worker: Worker,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) flow: Flow,
    pub(crate) answer: Option<Answer>,
}

impl Told {
    /// Status and reason of the answer; none: the request went on.
    pub(crate) fn denial(&self) -> Option<(u16, &str)> {
        let answer = self.answer.as_ref()?;
        let reason = answer.headers.iter().find(|(name, _)| *name == "x-sallyport-reason");
        reason.map(|(_, reason)| (answer.status, reason.as_str()))
    }

    /// Checks that the request went on, and that nobody answered in place of the upstream.
    #[track_caller]
    pub(crate) fn passed(&self) {
        assert_eq!((self.flow, self.denial()), (Flow::Forward, None));
    }

    #[track_caller]
    pub(crate) fn denied(&self, status: u16, reason: &str) {
        assert_eq!((self.flow, self.denial()), (Flow::Stop, Some((status, reason))));
    }
}

/// A configuration of these servers.
pub(crate) fn config(servers: &[ServerPolicy]) -> v1::FilterConfig {
    v1::FilterConfig {
        revision: "r1".into(),
        servers: servers.iter().map(v1::Server::from).collect(),
        xds_cluster: "xds".into(),
        audit_cluster: "audit".into(),
        proxy: "test".into(),
        ..Default::default()
    }
}

/// A server with one tool, `read`, behind every route.
pub(crate) fn server() -> ServerPolicy {
    let tool = Tool {
        name: "read".into(),
        required_trust: Trust::Low,
        side_effect: Some(SideEffect::Read),
        risk: None,
    };
    ServerPolicy {
        id: ObjectId::new("ns", "server"),
        session: SessionRules { required: true, ..Default::default() },
        tools: vec![tool],
        max_request_bytes: 1 << 20,
        audit_overload: AuditOverload::Deny,
        ..Default::default()
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        id: ObjectId::new("ns", "grant"),
        server: ObjectId::new("ns", "server"),
        subject: Subject { agent_id: "agent".into(), ..Default::default() },
        max_trust: Trust::High,
        allowed_side_effects: SideEffects::NONE.with(SideEffect::Read),
        ..Default::default()
    }
}

pub(crate) fn session(name: &str) -> Session {
    Session {
        id: ObjectId::new("ns", name),
        server: ObjectId::new("ns", "server"),
        subject: Subject { agent_id: "agent".into(), ..Default::default() },
        ..Default::default()
    }
}

fn resource(name: String, type_url: &str, (value, version): (Vec<u8>, String)) -> Resource {
    Resource { version, resource: Some(Any { type_url: type_url.into(), value }), name }
}

pub(crate) fn of_grant(grant: &Grant) -> Resource {
    resource(grant.id.to_string(), GRANT_TYPE, resource::grant(grant))
}

pub(crate) fn of_session(session: &Session) -> Resource {
    resource(session.id.to_string(), SESSION_TYPE, resource::session(session))
}

pub(crate) fn response(type_url: &str, resources: Vec<Resource>, removed: &[&str]) -> Vec<u8> {
    DeltaDiscoveryResponse {
        resources,
        type_url: type_url.into(),
        nonce: "n1".into(),
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
    .encode_to_vec()
}

impl Proxy {
    /// A worker without any configuration.
    pub(crate) fn bare() -> Self {
        let host = FakeHost::default();
        let nanos = u64::try_from(NOW).expect("positive") * 1_000_000_000;
        host.nanos.set(nanos);
        Self { host, worker: Worker::new(nanos) }
    }

    /// One with this configuration, connected to a control plane that has said nothing yet.
    pub(crate) fn connected(config: &v1::FilterConfig) -> Self {
        let mut proxy = Self::bare();
        proxy.configure(config);
        proxy.tick();
        proxy
    }

    /// One that knows [`server`], [`grant`] and session `sess`.
    pub(crate) fn ready() -> Self {
        Self::ready_with(&config(&[server()]))
    }

    pub(crate) fn ready_with(config: &v1::FilterConfig) -> Self {
        let mut proxy = Self::connected(config);
        proxy.learn(&[grant()], &[session("sess")]);
        proxy
    }

    pub(crate) fn configure(&mut self, config: &v1::FilterConfig) {
        self.worker.configure(ROOT, &config.encode_to_vec(), &self.host).expect("a configuration");
    }

    pub(crate) fn at(&self, seconds: i64) {
        self.host.nanos.set(u64::try_from(seconds).expect("positive") * 1_000_000_000);
    }

    pub(crate) fn after_millis(&self, millis: u64) {
        self.host.nanos.set(self.host.nanos.get() + millis * MILLI);
    }

    pub(crate) fn clock_is_set_back_by_an_hour(&self) {
        self.host.nanos.set(self.host.nanos.get() - 3_600_000 * MILLI);
    }

    /// The ingest answers at once where the worker only says that it has nothing to send.
    pub(crate) fn tick(&mut self) {
        let before = self.host.calls.borrow().len();
        self.worker.on_tick(ROOT, &self.host);
        let word =
            self.requests_to_ingest().into_iter().skip(before).find(|(_, batch)| batch.events.is_empty());
        if let Some((token, _)) = word {
            self.worker.on_call_ended(token, true, &self.host);
        }
    }

    pub(crate) fn stream(&self) -> u32 {
        *self.host.streams.borrow().last().expect("a stream was opened")
    }

    /// A message of the control plane on the newest stream.
    pub(crate) fn told(&mut self, message: &[u8]) {
        let stream = self.stream();
        self.worker.on_stream_message(stream, message, &self.host);
    }

    pub(crate) fn baseline(&mut self, grants: u64, sessions: u64) {
        let value = v1::Baseline { grants, sessions }.encode_to_vec();
        let baseline = resource(BASELINE_NAME.into(), BASELINE_TYPE, (value, "v".into()));
        self.told(&response(BASELINE_TYPE, vec![baseline], &[]));
    }

    /// A whole baseline.
    pub(crate) fn learn(&mut self, grants: &[Grant], sessions: &[Session]) {
        self.told(&response(GRANT_TYPE, grants.iter().map(of_grant).collect(), &[]));
        self.told(&response(SESSION_TYPE, sessions.iter().map(of_session).collect(), &[]));
        self.baseline(grants.len() as u64, sessions.len() as u64);
    }

    pub(crate) fn learn_session(&mut self, session: &Session) {
        self.told(&response(SESSION_TYPE, vec![of_session(session)], &[]));
    }

    /// Requests that were sent to the control plane, oldest first.
    pub(crate) fn requests(&self) -> Vec<DeltaDiscoveryRequest> {
        let sent = self.host.sent.borrow();
        sent.iter().map(|(_, bytes)| DeltaDiscoveryRequest::decode(bytes.as_slice()).expect("one")).collect()
    }

    pub(crate) fn request(&mut self, exchange: u32, headers: &[(&str, &str)], body: &str) -> Told {
        *self.host.headers.borrow_mut() = serialize(headers);
        *self.host.body.borrow_mut() = body.into();
        self.host.response_code.set(200);
        let before = self.host.answers.borrow().len();
        let flow = self.worker.on_request(exchange, body.len(), &self.host);
        Told { flow, answer: self.host.answers.borrow().get(before).cloned() }
    }

    /// A call of `read` within a session.
    pub(crate) fn call(&mut self, exchange: u32, session: &str) -> Told {
        let body =
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{}}}"#;
        self.call_with(exchange, session, body)
    }

    /// A request with this body within a session.
    pub(crate) fn call_with(&mut self, exchange: u32, session: &str, body: &str) -> Told {
        let headers = [
            (":method", "POST"),
            (":path", "/server/mcp"),
            (":authority", "gateway"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("x-mcp-agent-id", "agent"),
            ("x-mcp-agent-session", session),
        ];
        self.request(exchange, &headers, body)
    }

    /// A call that ends at once.
    pub(crate) fn call_and_end(&mut self, exchange: u32, session: &str) -> Told {
        let told = self.call(exchange, session);
        self.end(exchange);
        told
    }

    pub(crate) fn end(&mut self, exchange: u32) {
        self.worker.on_log(exchange, &self.host);
    }

    pub(crate) fn ready_probe(&mut self) -> (u16, String) {
        let told = self.request(999, &[(":method", "GET"), (":path", "/.sallyport/ready")], "");
        let (status, reason) = told.denial().expect("a probe is always answered");
        (status, reason.into())
    }

    pub(crate) fn fail(&self, call: HostCall) {
        self.host.fail(call);
    }

    /// Batches of events that were sent to the ingest, with their tokens.
    pub(crate) fn batches(&self) -> Vec<(u32, EmitRequest)> {
        self.requests_to_ingest().into_iter().filter(|(_, batch)| !batch.events.is_empty()).collect()
    }

    pub(crate) fn requests_to_ingest(&self) -> Vec<(u32, EmitRequest)> {
        let calls = self.host.calls.borrow();
        calls
            .iter()
            .map(|(token, bytes)| (*token, EmitRequest::decode(bytes.as_slice()).expect("a batch")))
            .collect()
    }

    /// Events of the newest batch.
    pub(crate) fn events(&self) -> Vec<AuditEvent> {
        let (_, batch) = self.batches().pop().expect("a batch was sent");
        batch.events.iter().map(|event| AuditEvent::decode(event.as_slice()).expect("an event")).collect()
    }

    /// The ingest's answer to the newest batch.
    pub(crate) fn answered(&mut self, ok: bool) {
        let (token, _) = self.batches().pop().expect("a batch was sent");
        self.worker.on_call_ended(token, ok, &self.host);
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.host.counters.borrow().get(name).copied().unwrap_or(0)
    }

    pub(crate) fn gauge(&self, name: &str) -> Option<u64> {
        let prefix = format!("{name};");
        let gauges = self.host.gauges.borrow();
        gauges.iter().find(|(known, _)| known.starts_with(&prefix)).map(|(_, value)| *value)
    }
}
