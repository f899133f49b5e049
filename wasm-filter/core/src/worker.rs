//! All state of one worker, and what each event does to it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hashbrown::HashMap;
use sallyport_mcp_wire::{Fault, Scratch};
use sallyport_policy::{AuditOverload, AuthMode, Reason, Store};
use sallyport_policy_proto::resource::{DELTA_METHOD, DELTA_SERVICE};

use crate::answer;
use crate::clock::Steady;
use crate::counters::Counters;
use crate::exchange::{Exchange, Outcome};
use crate::host::{Host, Level, Method};
use crate::judge::{self, Judgement, Ruling};
use crate::mcp_sessions::McpSessions;
use crate::pairs::Pairs;
use crate::record::record;
use crate::ring::{ChainName, Ring};
use crate::settings::{self, ConfigFault, Settings};
use crate::sync::{Received, Sync};
use crate::usage;

/// gRPC service and method of the audit ingest.
const AUDIT_SERVICE: &str = "sallyport.audit.v1.AuditIngest";
const AUDIT_METHOD: &str = "Emit";
/// Path that tells whether this worker is ready to decide.
const READY_PATH: &str = "/.sallyport/ready";
/// Open exchanges are judged anew at least this often, so that what expires is cut without any change arriving.
const REVIEW_NANOS: u64 = 1_000_000_000;
/// A call or stream that the host has not ended by then is taken for lost, in nanoseconds.
const LOST_NANOS: u64 = 15_000_000_000;

/// More workers than a proxy has.
const MOST_WORKERS: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on, byte for byte as it was judged.
    Forward,
    /// It does not.
    Stop,
}

/// State of one worker; outlives every configuration.
#[derive(Debug)]
pub struct Worker {
    /// When this worker began, in nanoseconds since 1970: the epoch of its chain.
    born: u64,
    steady: Steady,
    settings: Settings,
    store: Store,
    sync: Sync,
    ring: Option<Ring>,
    counters: Counters,
    exchanges: HashMap<u32, Exchange>,
    /// Room in the ring that open exchanges were let through on, in bytes.
    promised: usize,
    scratch: Scratch,
    mcp_sessions: McpSessions,
    /// The root context of the newest configuration: the one whose tick does the work.
    active: u32,
    /// The root context that opened the sync stream, and the token of the audit call in flight with its beginning.
    stream_owner: u32,
    call: Option<(u32, u64)>,
    /// Number of this worker within its process, once it has one.
    number: Option<u32>,
    event_ids: u64,
    /// Grants, sessions or servers changed since the open exchanges were last judged.
    dirty: bool,
    reviewed: u64,
    uses_shared: i64,
}

impl Worker {
    /// A worker that denies everything, born at `nanos` since 1970.
    pub fn new(nanos: u64) -> Self {
        Self {
            born: nanos,
            steady: Steady::default(),
            settings: Settings::default(),
            store: Store::new(),
            sync: Sync::default(),
            ring: None,
            counters: Counters::default(),
            exchanges: HashMap::new(),
            promised: 0,
            scratch: Scratch::new(nanos),
            mcp_sessions: McpSessions::default(),
            active: 0,
            stream_owner: 0,
            call: None,
            number: None,
            event_ids: 0,
            dirty: false,
            reviewed: 0,
            uses_shared: 0,
        }
    }

    /// A new configuration for root context `root`. Answers with the period of the tick, in milliseconds.
    ///
    /// # Errors
    /// The bytes are no configuration, or one for newer filters; the one before stays in force.
    pub fn configure(&mut self, root: u32, bytes: &[u8], host: &impl Host) -> Result<u32, ConfigFault> {
        let (settings, servers) = settings::read(bytes, host.node()).inspect_err(|error| {
            host.log(Level::Warn, &format!("configuration refused: {error}"));
        })?;
        self.counters.flush(host);
        // The old root context takes its stream and call with it; both begin anew under this one.
        if let Some(stream) = self.sync.stream() {
            host.close_stream(self.stream_owner, stream);
            self.sync.restart();
        }
        if self.call.take().is_some() {
            self.requeue(0);
        }
        self.active = root;
        self.counters.set_servers(servers.iter().map(|server| server.id.to_string()).collect());
        self.store.set_servers(servers);
        self.settings = settings;
        self.dirty = true;
        Ok(self.settings.tick_millis)
    }

    /// The whole request is there: headers, and `body_size` bytes of body.
    pub fn on_request(&mut self, exchange: u32, body_size: usize, host: &impl Host) -> Flow {
        let (Ok(headers), Ok(body)) = (host.request_headers(), host.request_body(body_size)) else {
            let _ = host.answer(&answer::unavailable(Reason::PolicyUnavailable));
            return Flow::Stop;
        };
        if judge::path(&headers) == Some(READY_PATH.as_bytes()) {
            let _ = host.answer(&answer::readiness(self.not_ready()));
            return Flow::Stop;
        }
        self.prepare_chain(host);
        let nanos = host.now_nanos();
        let moment = self.steady.at(nanos);
        let route = if self.store.has_single_server() { String::new() } else { host.route() };
        let input = judge::Input {
            headers: Pairs::new(&headers),
            body: &body,
            route: &route,
            now: seconds(nanos),
            synced: self.sync.is_complete(),
        };
        let mut judgement = judge::judge(&self.store, &mut self.scratch, &input);
        if judgement.is_idle() && learn_use(&judgement, host) {
            judgement = judge::judge(&self.store, &mut self.scratch, &input);
        }
        if judgement.allowed() && is_in_foreign_session(&mut self.mcp_sessions, &judgement, host) {
            judgement.deny(Reason::McpSessionOfAnother);
        }
        if judgement.allowed() && !self.can_record(&judgement) {
            judgement.ruling = Ruling::denied(Reason::AuditUnavailable);
        }
        let stripped =
            !judgement.allowed() || judgement.strip().all(|name| host.remove_request_header(name).is_ok());
        if !stripped {
            judgement.ruling = Ruling::denied(Reason::PolicyUnavailable);
        }
        self.event_ids = self.event_ids.saturating_add(1);
        let id = self.ring.as_ref().map_or([0; 16], |ring| ring.event_id(nanos, self.event_ids));
        self.counters.verdict(
            judgement.server.map(|(index, _)| index),
            judgement.class,
            judgement.allowed(),
            judgement.reason(),
        );
        if let Some(session) = judgement.session().filter(|_| judgement.allowed()) {
            session.touch(seconds(nanos));
        }
        let event = record(&judgement, &self.settings, &mut self.scratch, nanos, body_size);
        let answer = answer::to(&judgement, &id);
        self.open(exchange, Exchange::new(event, moment, answer.is_none(), id));
        match answer {
            None => Flow::Forward,
            Some(answer) => {
                if let Err(fault) = host.answer(&answer) {
                    host.log(Level::Warn, &format!("denial could not be answered: {fault}"));
                }
                Flow::Stop
            }
        }
    }

    /// Trailers follow the body, which no MCP client sends: the request is refused, since an upstream may take them for
    /// headers that were never judged.
    pub fn on_trailers(&mut self, exchange: u32, host: &impl Host) {
        let headers = host.request_headers().unwrap_or_default();
        self.prepare_chain(host);
        let nanos = host.now_nanos();
        let judgement = judge::unjudged(Pairs::new(&headers), Fault::Trailers);
        let id = self.event_id(nanos);
        self.counters.verdict(None, judgement.class, false, judgement.reason());
        let event = record(&judgement, &self.settings, &mut self.scratch, nanos, 0);
        let moment = self.steady.at(nanos);
        self.open(exchange, Exchange::new(event, moment, false, id));
        if let Some(Err(fault)) = answer::to(&judgement, &id).map(|answer| host.answer(&answer)) {
            host.log(Level::Warn, &format!("refusal could not be answered: {fault}"));
        }
    }

    /// An exchange has ended.
    pub fn on_log(&mut self, exchange: u32, host: &impl Host) {
        let nanos = host.now_nanos();
        let moment = self.steady.at(nanos);
        let outcome = Outcome { status: host.response_code(), bytes_out: host.response_bytes(), moment };
        match self.exchanges.remove(&exchange) {
            Some(open) => {
                self.promised = self.promised.saturating_sub(open.promised());
                // What went on was promised room; what was refused takes only what is left beside such promises.
                let beside = if open.was_forwarded() { 0 } else { self.promised };
                self.enqueue(open.finish(&outcome), beside, moment, host);
            }
            None => self.log_unjudged(&outcome, nanos, host),
        }
    }

    /// A request that ended before it was whole: nothing was judged, nothing forwarded; the record says so.
    fn log_unjudged(&mut self, outcome: &Outcome, nanos: u64, host: &impl Host) {
        let Ok(headers) = host.request_headers() else {
            return;
        };
        if judge::path(&headers) == Some(READY_PATH.as_bytes()) {
            return;
        }
        self.prepare_chain(host);
        let id = self.event_id(nanos);
        let fault = if outcome.status == 413 { Fault::BodyTooLarge } else { Fault::Incomplete };
        let judgement = judge::unjudged(Pairs::new(&headers), fault);
        self.counters.verdict(None, judgement.class, false, judgement.reason());
        let event = record(&judgement, &self.settings, &mut self.scratch, nanos, 0);
        let event = Exchange::new(event, outcome.moment, false, id).finish(outcome);
        self.enqueue(event, self.promised, outcome.moment, host);
    }

    /// The periodic event; only the newest root context's counts.
    pub fn on_tick(&mut self, root: u32, host: &impl Host) {
        if root != self.active {
            return;
        }
        let nanos = host.now_nanos();
        let moment = self.steady.at(nanos);
        self.connect(moment, host);
        self.prepare_chain(host);
        self.tell_open_decisions(moment, host);
        if self.call.is_some_and(|(_, since)| moment.saturating_sub(since) > LOST_NANOS) {
            self.call = None;
            self.requeue(moment);
        }
        self.send_events(moment, true, host);
        self.share_uses(seconds(nanos), host);
        self.counters.flush(host);
        self.set_gauges(host);
        if self.dirty || moment.saturating_sub(self.reviewed) >= REVIEW_NANOS {
            self.dirty = false;
            self.reviewed = moment;
            self.cut_open(seconds(nanos), host);
        }
    }

    /// A message of the control plane.
    pub fn on_stream_message(&mut self, stream: u32, message: &[u8], host: &impl Host) {
        if self.sync.stream() != Some(stream) {
            return;
        }
        let nanos = host.now_nanos();
        let was_complete = self.sync.is_complete();
        let reply = match self.sync.received(message, &mut self.store, seconds(nanos)) {
            Received::Applied { ack, changed } => {
                self.dirty |= changed;
                Some(ack)
            }
            Received::Refused { nack, reason } => {
                self.counters.add("sallyport_state_refused", 1);
                host.log(Level::Warn, &format!("resource refused: {reason}"));
                Some(nack)
            }
            Received::Unreadable => {
                host.log(
                    Level::Warn,
                    "message of the control plane cannot be read; starting the stream anew",
                );
                None
            }
            Received::Diverged => {
                self.dirty = true;
                host.log(
                    Level::Warn,
                    "state differs from the control plane's; starting anew, denying until then",
                );
                None
            }
        };
        if !was_complete && self.sync.is_complete() {
            let (grants, sessions) = (self.store.grants(), self.store.sessions());
            host.log(Level::Info, &format!("state complete: {grants} grants, {sessions} sessions"));
        }
        if reply.is_none_or(|reply| host.send(stream, &reply).is_err()) {
            host.close_stream(self.stream_owner, stream);
            self.sync.closed(self.steady.at(nanos));
        }
    }

    /// The stream to the control plane has ended.
    pub fn on_stream_closed(&mut self, stream: u32, host: &impl Host) {
        if self.sync.stream() == Some(stream) {
            self.sync.closed(self.steady.at(host.now_nanos()));
        }
    }

    /// A unary call has ended; `ok`: with an answer.
    pub fn on_call_ended(&mut self, token: u32, ok: bool, host: &impl Host) {
        if self.call.is_none_or(|(known, _)| known != token) {
            return;
        }
        self.call = None;
        let moment = self.steady.at(host.now_nanos());
        if ok {
            if let Some(ring) = &mut self.ring {
                let count = ring.acknowledged();
                self.counters
                    .add("sallyport_audit_events_acknowledged", u64::try_from(count).unwrap_or(u64::MAX));
            }
            self.send_events(moment, false, host);
        } else {
            self.counters.add("sallyport_audit_batches_failed", 1);
            self.requeue(moment);
        }
    }

    /// Why this worker cannot decide yet; none: it can.
    fn not_ready(&self) -> Option<Reason> {
        if self.settings.revision.is_empty() {
            Some(Reason::PolicyUnavailable)
        } else if !self.sync.is_complete() {
            Some(Reason::StateSyncing)
        } else {
            None
        }
    }

    /// The ring needs a chain's name, which needs a number that no other worker of the process has.
    fn prepare_chain(&mut self, host: &impl Host) {
        if self.ring.is_some() || self.settings.audit_cluster.is_empty() {
            return;
        }
        let worker = self.number(host);
        let name = ChainName { proxy: self.settings.proxy.clone(), worker, epoch: self.born };
        self.ring = Some(Ring::new(name, self.settings.ring_bytes));
    }

    /// The id of the next verdict, at `nanos`; zeroes: nothing is recorded.
    fn event_id(&mut self, nanos: u64) -> [u8; 16] {
        self.event_ids = self.event_ids.saturating_add(1);
        self.ring.as_ref().map_or([0; 16], |ring| ring.event_id(nanos, self.event_ids))
    }

    fn number(&mut self, host: &impl Host) -> u32 {
        *self.number.get_or_insert_with(|| next_shared_number(host, "sallyport.workers"))
    }

    /// Whether the verdict's event will find room, or the server does not insist.
    fn can_record(&self, judgement: &Judgement<'_>) -> bool {
        match &self.ring {
            None => self.settings.audit_cluster.is_empty(),
            Some(ring) => ring.has_room(self.promised) || judgement.audit_overload() == AuditOverload::Drop,
        }
    }

    fn open(&mut self, id: u32, exchange: Exchange) {
        self.promised = self.promised.saturating_add(exchange.promised());
        self.exchanges.insert(id, exchange);
    }

    fn enqueue(&mut self, event: Vec<u8>, promised: usize, moment: u64, host: &impl Host) {
        let Some(ring) = self.ring.as_mut() else {
            return;
        };
        if ring.push(event, promised).is_none() {
            self.counters.add("sallyport_audit_events_dropped", 1);
        }
        self.send_events(moment, false, host);
    }

    fn send_events(&mut self, moment: u64, at_tick: bool, host: &impl Host) {
        let Some(ring) = self.ring.as_mut().filter(|ring| ring.wants_to_send(moment, at_tick)) else {
            return;
        };
        let batch = ring.batch(moment);
        let method =
            Method { cluster: &self.settings.audit_cluster, service: AUDIT_SERVICE, method: AUDIT_METHOD };
        match host.call(method, &batch) {
            Ok(token) => self.call = Some((token, moment)),
            Err(_) => {
                self.counters.add("sallyport_audit_batches_failed", 1);
                self.requeue(moment);
            }
        }
    }

    fn requeue(&mut self, moment: u64) {
        if let Some(ring) = &mut self.ring {
            ring.failed(moment);
        }
    }

    fn connect(&mut self, moment: u64, host: &impl Host) {
        if self.settings.xds_cluster.is_empty() || !self.sync.wants_stream(moment) {
            return;
        }
        let number = self.number(host);
        let node = format!("{}/{number}/{}", self.settings.proxy, self.born);
        let method =
            Method { cluster: &self.settings.xds_cluster, service: DELTA_SERVICE, method: DELTA_METHOD };
        let Ok(stream) = host.open_stream(method) else {
            self.sync.closed(moment);
            return;
        };
        self.stream_owner = self.active;
        let sent = self
            .sync
            .opened(stream, &node, &self.store)
            .iter()
            .all(|message| host.send(stream, message).is_ok());
        if !sent {
            host.close_stream(self.stream_owner, stream);
            self.sync.closed(moment);
        }
    }

    /// A verdict whose exchange goes on is told now; its outcome follows.
    fn tell_open_decisions(&mut self, moment: u64, host: &impl Host) {
        let Some(ring) = self.ring.as_mut() else {
            return;
        };
        let mut dropped = 0_u64;
        for open in self.exchanges.values_mut() {
            if let Some(event) = open.decision(moment) {
                self.promised = self.promised.saturating_sub(open.promised());
                let beside = if open.was_forwarded() { 0 } else { self.promised };
                let seq = ring.push(event, beside);
                dropped = dropped.saturating_add(u64::from(seq.is_none()));
                open.told(seq.unwrap_or(0));
            }
        }
        if dropped > 0 {
            self.counters.add("sallyport_audit_events_dropped", dropped);
        }
        self.send_events(moment, false, host);
    }

    /// Ends every open exchange that would not be allowed any more.
    fn cut_open(&mut self, now: i64, host: &impl Host) {
        for (id, open) in &mut self.exchanges {
            if open.is_forwarded() && !open.is_still_allowed(&self.store, now) {
                open.cut();
                self.counters.add("sallyport_streams_cut", 1);
                if let Err(fault) = host.reset_exchange(*id) {
                    host.log(Level::Warn, &format!("exchange could not be cut: {fault}"));
                }
            }
        }
    }

    fn share_uses(&mut self, now: i64, host: &impl Host) {
        // Also where the clock was set back.
        if (0..usage::SHARE_EVERY_SECONDS).contains(&now.saturating_sub(self.uses_shared)) {
            return;
        }
        let idle_timeouts =
            self.store.servers().iter().map(|server| server.policy().session.idle_timeout_seconds);
        if let Some(longest) = idle_timeouts.max().filter(|seconds| *seconds > 0) {
            usage::share(&self.store, self.uses_shared, now, longest, host);
        }
        self.uses_shared = now;
    }

    /// A VM without a number has neither stream nor chain: it only ever held the configuration that denies everything.
    fn set_gauges(&self, host: &impl Host) {
        let Some(worker) = self.number else {
            return;
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let gauges = [
            ("sallyport_sessions_held", number(self.store.sessions())),
            ("sallyport_grants_held", number(self.store.grants())),
            ("sallyport_state_complete", u64::from(self.sync.is_complete())),
            ("sallyport_audit_ring_bytes", self.ring.as_ref().map_or(0, |ring| number(ring.bytes()))),
            ("sallyport_open_exchanges", number(self.exchanges.len())),
        ];
        for (name, value) in gauges {
            // A gauge that cannot be set is seen as missing; nothing depends on it.
            let _ = host.gauge(&format!("{name};worker={worker}"), value);
        }
    }
}

/// Whether the request comes in an MCP session that somebody else began. Where nobody is identified all are one.
fn is_in_foreign_session(sessions: &mut McpSessions, judgement: &Judgement<'_>, host: &impl Host) -> bool {
    match (judgement.server, judgement.mcp_session()) {
        (Some((_, server)), Some(id)) if server.policy().auth.mode != AuthMode::None => {
            sessions.is_of_another(&server.policy().id, id, &judgement.identity, host)
        }
        _ => false,
    }
}

/// Asks the other workers when they last saw the session; true: the answer changes the verdict's ground.
fn learn_use(judgement: &Judgement<'_>, host: &impl Host) -> bool {
    let Some(session) = judgement.session() else {
        return false;
    };
    let Some(used) = usage::last_use(session, host).filter(|used| *used > session.last_used()) else {
        return false;
    };
    session.touch(used);
    true
}

fn seconds(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX)
}

/// The next number of a counter that all workers of the process share, from 1. Two workers that begin in the same
/// instant may get the same one, and so may those of a host that shares nothing; a chain is told apart by its epoch as
/// well.
fn next_shared_number(host: &impl Host, key: &str) -> u32 {
    let mut next = 1;
    // Each failure but the host's own means that another worker got its number.
    for _ in 0..MOST_WORKERS {
        let (value, token) = host.shared(key).unwrap_or_default();
        next = value.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b)).saturating_add(1);
        if host.share(key, &next.to_le_bytes(), token) {
            break;
        }
    }
    next
}
