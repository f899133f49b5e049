//! A proxy with the filter in it, its callers, its control plane and its audit ingest, all played by a test.

use prost::Message;
use sallyport_audit_proto::v1::EmitRequest;
use sallyport_policy::{Grant, Session};
use sallyport_policy_proto::discovery::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use sallyport_policy_proto::resource::{self, BASELINE_NAME, BASELINE_TYPE, GRANT_TYPE, SESSION_TYPE};
use sallyport_policy_proto::v1;
use wasmtime::{Result, format_err};

use crate::proxy::{Answer, GrpcCall, Proxy};
use crate::vm::{Cost, Filter, Vm};

/// `Action::Continue` of the ABI.
const CONTINUE: u32 = 0;

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Headers, pseudo-headers among them.
    pub headers: Vec<(String, String)>,
    /// Body, in the parts in which it arrives.
    pub body: Vec<Vec<u8>>,
    /// Name of the route that it matches.
    pub route: String,
    /// What follows its last part.
    pub end: End,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// With its last part.
    #[default]
    Whole,
    /// With trailers.
    Trailers,
    /// The caller goes away before it.
    CutShort,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went on to the upstream, with these headers.
    Forwarded(Vec<(String, String)>),
    /// The filter answered.
    Answered(Answer),
    /// It neither went on nor was answered.
    Held,
}

impl Fate {
    /// The status of the filter's answer; none: there was none.
    pub fn status(&self) -> Option<u32> {
        match self {
            Self::Answered(answer) => Some(answer.status),
            Self::Forwarded(_) | Self::Held => None,
        }
    }

    /// The reason that the filter's answer gives.
    pub fn reason(&self) -> Option<&str> {
        let Self::Answered(answer) = self else {
            return None;
        };
        let header = answer.headers.iter().find(|(name, _)| name == "x-sallyport-reason");
        header.map(|(_, reason)| reason.as_str())
    }

    /// Whether it went on to the upstream.
    pub fn is_forwarded(&self) -> bool {
        matches!(self, Self::Forwarded(_))
    }
}

/// Costs of an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// Of the headers, and the making of the context.
    pub headers: Cost,
    /// Of the body, where the verdict falls.
    pub body: Cost,
    /// Of the end: outcome, record, and the forgetting of the context.
    pub end: Cost,
}

/// A proxy of one worker with the filter in it.
#[derive(Debug)]
pub struct Gateway {
    vm: Vm,
    root: u32,
    contexts: u32,
    nonces: u64,
}

impl Gateway {
    /// A worker that has started `filter` at `now_nanos` since 1970 and told it nothing yet.
    ///
    /// # Errors
    /// The module traps.
    pub fn start(filter: &Filter, now_nanos: u64) -> Result<Self> {
        Ok(Self { vm: filter.start(now_nanos)?, root: 0, contexts: 0, nonces: 0 })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        self.vm.proxy()
    }

    /// The proxy, to be changed.
    pub fn proxy_mut(&mut self) -> &mut Proxy {
        self.vm.proxy_mut()
    }

    /// Memory of the VM, in bytes.
    pub fn memory_bytes(&mut self) -> usize {
        self.vm.memory_bytes()
    }

    /// Hands over a configuration as Envoy does: in a new root context, which stays if it is accepted.
    ///
    /// # Errors
    /// The module traps.
    pub fn configure(&mut self, configuration: &[u8]) -> Result<bool> {
        let root = self.new_context(0)?.0;
        self.vm.callback::<_, u32>(root, "proxy_on_vm_start", (root, 0_u32))?;
        let size = length(configuration)?;
        self.proxy_mut().configuration = configuration.to_vec();
        let (accepted, _) = self.vm.callback::<_, u32>(root, "proxy_on_configure", (root, size))?;
        let accepted = accepted == Some(1);
        let gone = if accepted { std::mem::replace(&mut self.root, root) } else { root };
        if gone != 0 {
            self.end_root(gone)?;
        }
        Ok(accepted)
    }

    /// Moves time on, and ticks.
    ///
    /// # Errors
    /// The module traps.
    pub fn tick(&mut self, nanos: u64) -> Result<Cost> {
        let proxy = self.proxy_mut();
        proxy.now_nanos = proxy.now_nanos.saturating_add(nanos);
        let before = proxy.calls.len();
        let root = self.root;
        let cost = self.vm.callback::<_, ()>(root, "proxy_on_tick", root)?.1;
        // That there is nothing to send is acknowledged at once.
        let told = self.proxy().calls.get(before).map(|call| EmitRequest::decode(call.message.as_slice()));
        if told.transpose()?.is_some_and(|word| word.events.is_empty()) {
            self.answer_call(0)?;
        }
        Ok(cost)
    }

    /// Sends a request, up to the point where it is forwarded, answered or held. Answers with its context.
    ///
    /// # Errors
    /// The module traps.
    pub fn begin(&mut self, request: &Request) -> Result<(u32, Fate, Costs)> {
        let mut costs = Costs::default();
        let (context, cost) = self.new_context(self.root)?;
        costs.headers += cost;
        let proxy = self.proxy_mut();
        proxy.request_headers.clone_from(&request.headers);
        proxy.request_body.clear();
        proxy.answer = None;
        proxy.properties.insert("xds\0route_name".into(), request.route.clone().into_bytes());
        let count = u32::try_from(request.headers.len())?;
        let last = u32::from(request.body.is_empty() && request.end == End::Whole);
        let arguments = (context, count, last);
        let (mut action, cost) = self.vm.callback(context, "proxy_on_request_headers", arguments)?;
        costs.headers += cost;
        for (number, part) in request.body.iter().enumerate() {
            if self.proxy().answer.is_some() {
                break;
            }
            let body = &mut self.proxy_mut().request_body;
            body.extend(part);
            let size = length(body)?;
            let last = u32::from(number.saturating_add(1) == request.body.len() && request.end == End::Whole);
            let (next, cost) = self.vm.callback(context, "proxy_on_request_body", (context, size, last))?;
            costs.body += cost;
            action = next;
        }
        if request.end == End::Trailers && self.proxy().answer.is_none() {
            let (next, cost) = self.vm.callback(context, "proxy_on_request_trailers", (context, 1_u32))?;
            costs.body += cost;
            // Envoy continues a request whose trailers no filter stops, whatever was said of its body.
            action = next.or(Some(CONTINUE));
        }
        let fate = match (self.proxy_mut().answer.take(), action) {
            (Some(answer), _) => Fate::Answered(answer),
            (None, Some(CONTINUE)) => Fate::Forwarded(self.proxy().request_headers.clone()),
            (None, _) => Fate::Held,
        };
        Ok((context, fate, costs))
    }

    /// Ends an exchange, whose caller got an answer of this status and size.
    ///
    /// # Errors
    /// The module traps.
    pub fn end(&mut self, context: u32, status: u32, bytes: u64) -> Result<Cost> {
        let properties = &mut self.proxy_mut().properties;
        properties.insert("response\0code".into(), u64::from(status).to_le_bytes().into());
        properties.insert("response\0size".into(), bytes.to_le_bytes().into());
        // As Envoy does: done, logged, deleted.
        let mut sum = self.vm.callback::<_, u32>(context, "proxy_on_done", context)?.1;
        sum += self.vm.callback::<_, ()>(context, "proxy_on_log", context)?.1;
        sum += self.vm.callback::<_, ()>(context, "proxy_on_delete", context)?.1;
        self.proxy_mut().contexts.remove(&context);
        Ok(sum)
    }

    /// A whole exchange; the upstream answers what reaches it with 200.
    ///
    /// # Errors
    /// The module traps.
    pub fn exchange(&mut self, request: &Request) -> Result<(Fate, Costs)> {
        let (context, fate, mut costs) = self.begin(request)?;
        costs.end = self.end(context, fate.status().unwrap_or(200), 180)?;
        Ok((fate, costs))
    }

    /// Sends a response of the control plane on the open stream.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn respond(&mut self, response: DeltaDiscoveryResponse) -> Result<Cost> {
        self.nonces = self.nonces.saturating_add(1);
        let response = DeltaDiscoveryResponse { nonce: self.nonces.to_string(), ..response };
        self.stream_message(response.encode_to_vec())
    }

    /// Sends `message` on the open stream, whatever it is.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn stream_message(&mut self, message: Vec<u8>) -> Result<Cost> {
        let stream = self.proxy().open_stream().ok_or_else(|| format_err!("no stream is open"))?;
        let (owner, token) = (stream.owner, stream.token);
        let size = length(&message)?;
        self.proxy_mut().grpc_message = message;
        Ok(self.vm.callback::<_, ()>(owner, "proxy_on_grpc_receive", (owner, token, size))?.1)
    }

    /// Ends the open stream from the control plane's side.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn end_stream(&mut self) -> Result<()> {
        let stream = self.proxy_mut().streams.iter_mut().rev().find(|stream| stream.open);
        let stream = stream.ok_or_else(|| format_err!("no stream is open"))?;
        stream.open = false;
        let (owner, token) = (stream.owner, stream.token);
        self.vm.callback::<_, ()>(owner, "proxy_on_grpc_close", (owner, token, 14_u32))?;
        Ok(())
    }

    /// Tells of grants that are new or changed, and of names that are gone.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn send_grants(&mut self, grants: &[Grant], removed: &[&str]) -> Result<Cost> {
        let resources = grants.iter().map(|g| (g.id.to_string(), resource::grant(g))).collect();
        self.respond(response(GRANT_TYPE, resources, removed))
    }

    /// Tells of sessions that are new or changed, and of names that are gone.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn send_sessions(&mut self, sessions: &[Session], removed: &[&str]) -> Result<Cost> {
        let resources = sessions.iter().map(|s| (s.id.to_string(), resource::session(s))).collect();
        self.respond(response(SESSION_TYPE, resources, removed))
    }

    /// Tells that this many grants and sessions were all.
    ///
    /// # Errors
    /// There is no stream, or the module traps.
    pub fn send_baseline(&mut self, grants: u64, sessions: u64) -> Result<Cost> {
        let bytes = v1::Baseline { grants, sessions }.encode_to_vec();
        let version = resource::version(&bytes);
        self.respond(response(BASELINE_TYPE, vec![(BASELINE_NAME.into(), (bytes, version))], &[]))
    }

    /// What the filter said on the newest stream, from its first message.
    ///
    /// # Errors
    /// There was no stream, or something cannot be read.
    pub fn said(&self) -> Result<Vec<DeltaDiscoveryRequest>> {
        let stream = self.proxy().streams.last().ok_or_else(|| format_err!("no stream was opened"))?;
        let messages = stream.sent.iter().map(|message| DeltaDiscoveryRequest::decode(message.as_slice()));
        Ok(messages.collect::<std::result::Result<_, _>>()?)
    }

    /// The audit batches with events sent so far.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn batches(&self) -> Result<Vec<EmitRequest>> {
        let calls = self.proxy().calls.iter();
        let requests = calls.map(|call| EmitRequest::decode(call.message.as_slice()));
        let mut requests = requests.collect::<std::result::Result<Vec<_>, _>>()?;
        requests.retain(|request| !request.events.is_empty());
        Ok(requests)
    }

    /// Answers the newest unary call: with an empty message, or with a gRPC status that is not OK.
    ///
    /// # Errors
    /// There was no call, or the module traps.
    pub fn answer_call(&mut self, status: u32) -> Result<Cost> {
        let call = self.proxy().calls.last().ok_or_else(|| format_err!("no call was made"))?;
        let GrpcCall { owner, token, .. } = *call;
        let (name, argument) =
            if status == 0 { ("proxy_on_grpc_receive", 0) } else { ("proxy_on_grpc_close", status) };
        Ok(self.vm.callback::<_, ()>(owner, name, (owner, token, argument))?.1)
    }

    fn new_context(&mut self, parent: u32) -> Result<(u32, Cost)> {
        self.contexts = self.contexts.saturating_add(1);
        let context = self.contexts;
        self.proxy_mut().contexts.insert(context);
        let (_, cost) = self.vm.callback::<_, ()>(context, "proxy_on_context_create", (context, parent))?;
        Ok((context, cost))
    }

    /// Ends a root context; its streams and calls end with it, and nobody is told.
    fn end_root(&mut self, root: u32) -> Result<()> {
        self.vm.callback::<_, u32>(root, "proxy_on_done", root)?;
        self.vm.callback::<_, ()>(root, "proxy_on_delete", root)?;
        let proxy = self.proxy_mut();
        proxy.contexts.remove(&root);
        for stream in proxy.streams.iter_mut().filter(|stream| stream.owner == root) {
            stream.open = false;
        }
        Ok(())
    }
}

fn length(bytes: &[u8]) -> Result<u32> {
    Ok(u32::try_from(bytes.len())?)
}

fn response(
    type_url: &str,
    resources: Vec<(String, (Vec<u8>, String))>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    let resource = |(name, (value, version)): (String, (Vec<u8>, String))| Resource {
        version,
        resource: Some(Any { type_url: type_url.into(), value }),
        name,
    };
    DeltaDiscoveryResponse {
        resources: resources.into_iter().map(resource).collect(),
        type_url: type_url.into(),
        removed_resources: removed.iter().map(|name| (*name).to_string()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}
