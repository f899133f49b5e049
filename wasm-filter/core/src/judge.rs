//! From a request's headers and body to the ruling on it. The explain endpoint calls the same function, so that what
//! it tells is what the proxy does.

use alloc::string::String;
use alloc::vec::Vec;

use sallyport_mcp_wire::{
    Agreement, Era, Fault, Kind, Limits, Message, Method, Reference, RequestHeaders, Scratch, Text, agree,
    check_media, read, resource_uri,
};
use sallyport_policy::{
    AuditOverload, AuthMode, Call, Identity, Mode, Reason, Server, SessionEntry, Store, Target, Trace,
    Verdict, decide_explained, needs_state,
};

use crate::counters::Class;
use crate::pairs::Pairs;

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Its headers, pseudo-headers among them.
    pub headers: Pairs<'a>,
    /// Its body.
    pub body: &'a [u8],
    /// Name of the route that it matched.
    pub route: &'a str,
    /// Seconds since 1970.
    pub now: i64,
    /// Whether grants and sessions are all known.
    pub synced: bool,
}

/// What is decided about a request.
#[derive(Clone, Copy, Debug)]
pub enum Ruling<'a> {
    /// It could be read, and policy says this.
    Verdict(Verdict<'a>),
    /// What it asks cannot be known for sure.
    Fault(Fault),
}

impl Ruling<'_> {
    /// A denial that needed no evidence.
    pub fn denied(reason: Reason) -> Self {
        Self::Verdict(Verdict::of(reason))
    }
}

/// A request with the ruling on it, and everything that answer and record need.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// Index and policy of the server.
    pub server: Option<(usize, &'a Server)>,
    /// Family of the method.
    pub class: Class,
    /// The headers that matter.
    pub headers: RequestHeaders<'a>,
    /// Who calls.
    pub identity: Identity<'a>,
    /// The message; none: there was none, or it could not be read.
    pub message: Option<Message<'a>>,
    /// Revision that the request and its headers agree on.
    pub agreement: Option<Agreement<'a>>,
    /// Id to answer a fault with, as JSON text.
    pub fault_id: Option<&'a str>,
    /// The ruling.
    pub ruling: Ruling<'a>,
    pairs: Pairs<'a>,
}

/// Judges a request.
pub fn judge<'a>(store: &'a Store, scratch: &mut Scratch, input: &Input<'a>) -> Judgement<'a> {
    judge_explained(store, scratch, input, &mut ())
}

/// As [`judge`], telling `trace` each step of the verdict.
pub fn judge_explained<'a>(
    store: &'a Store,
    scratch: &mut Scratch,
    input: &Input<'a>,
    trace: &mut impl Trace,
) -> Judgement<'a> {
    let mut judgement = Judgement {
        server: None,
        class: Class::Malformed,
        headers: RequestHeaders::default(),
        identity: Identity::default(),
        message: None,
        agreement: None,
        fault_id: None,
        ruling: Ruling::denied(Reason::PolicyUnavailable),
        pairs: input.headers.clone(),
    };
    judgement.ruling = match judgement.read(store, scratch, input) {
        Ok(None) => judgement.decide(store, input, trace),
        Ok(Some(reason)) => Ruling::denied(reason),
        Err(fault) => Ruling::Fault(fault),
    };
    judgement
}

/// The record of a request that is refused for `fault` before it is judged.
pub fn unjudged<'a>(pairs: Pairs<'a>, fault: Fault) -> Judgement<'a> {
    Judgement {
        server: None,
        class: Class::Malformed,
        headers: RequestHeaders::collect(pairs.clone()).unwrap_or_default(),
        identity: Identity::default(),
        message: None,
        agreement: None,
        fault_id: None,
        ruling: Ruling::Fault(fault),
        pairs,
    }
}

/// The request's path, without reading the other headers.
pub fn path(map: &[u8]) -> Option<&[u8]> {
    Pairs::new(map).find(|(name, _)| *name == b":path").map(|(_, path)| path)
}

impl<'a> Judgement<'a> {
    /// Reads headers, identity and body, in this order; a reason: nothing more need be known to deny.
    fn read(
        &mut self,
        store: &'a Store,
        scratch: &mut Scratch,
        input: &Input<'a>,
    ) -> Result<Option<Reason>, Fault> {
        self.headers = RequestHeaders::collect(input.headers.clone())?;
        let Some(server) = store.server_for_route(input.route) else {
            let known = !store.servers().is_empty();
            return Ok(Some(if known { Reason::NoRoute } else { Reason::PolicyUnavailable }));
        };
        let index = store.servers().iter().position(|known| core::ptr::eq(known, server)).unwrap_or(0);
        self.server = Some((index, server));
        self.identity = identity(server, input.headers.clone())?;
        check_media(&self.headers)?;
        if self.headers.method() != b"POST" {
            // The stream of a legacy session, or its end: there is no message, and no body that could hide one.
            if !input.body.is_empty() {
                return Err(Fault::HttpMethod);
            }
            self.class = Class::Stream;
            return Ok(None);
        }
        let limits = Limits {
            max_bytes: usize::try_from(server.policy().max_request_bytes).unwrap_or(usize::MAX),
            ..Limits::default()
        };
        let message = read(input.body, &limits, scratch).map_err(|rejection| {
            self.fault_id = rejection.id;
            rejection.fault
        })?;
        self.fault_id = message.id;
        self.class = class(&message);
        let agreement = agree(&self.headers, &message);
        self.message = Some(message);
        self.agreement = Some(agreement?);
        Ok(None)
    }

    fn decide(&self, store: &'a Store, input: &Input<'a>, trace: &mut impl Trace) -> Ruling<'a> {
        let Some((_, server)) = self.server else {
            return Ruling::denied(Reason::PolicyUnavailable);
        };
        let mut last = Verdict::of(Reason::MethodNotAllowed);
        for target in self.targets() {
            let call = Call { identity: self.identity, target, now: input.now };
            last = if !input.synced && needs_state(server, &call) {
                syncing(server)
            } else {
                decide_explained(store, server, &call, trace)
            };
            if !last.allowed {
                break;
            }
        }
        Ruling::Verdict(last)
    }

    fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let (first, more): (Option<Target<'_>>, &[Text<'_>]) = match &self.message {
            None => (Some(Target::Control), &[]),
            Some(message) => match (message.method, message.kind) {
                (Method::SubscriptionsListen, Kind::Request) if !message.subscriptions.is_empty() => {
                    (None, &message.subscriptions)
                }
                _ => (Some(target(message)), &[]),
            },
        };
        first.into_iter().chain(more.iter().map(|uri| resource(uri.as_str())))
    }

    /// Whether the request goes on.
    pub fn allowed(&self) -> bool {
        match &self.ruling {
            Ruling::Verdict(verdict) => verdict.allowed,
            Ruling::Fault(_) => false,
        }
    }

    /// The reason's stable name.
    pub fn reason(&self) -> &'static str {
        match &self.ruling {
            Ruling::Verdict(verdict) => verdict.reason.as_str(),
            Ruling::Fault(fault) => fault.as_str(),
        }
    }

    /// Whether the session is denied only for having been idle.
    pub fn is_idle(&self) -> bool {
        match &self.ruling {
            Ruling::Verdict(verdict) => {
                verdict.reason == Reason::SessionIdle || verdict.would_deny == Some(Reason::SessionIdle)
            }
            Ruling::Fault(_) => false,
        }
    }

    /// The session that was presented and found.
    pub fn session(&self) -> Option<&'a SessionEntry> {
        match &self.ruling {
            Ruling::Verdict(verdict) => verdict.session,
            Ruling::Fault(_) => None,
        }
    }

    /// Whether the request came within a legacy MCP session, whose clients lose it on an HTTP error: it says so by the
    /// session's id, or by the revision that only a client that has initialized sends.
    pub fn in_legacy_session(&self) -> bool {
        let legacy = self.agreement.as_ref().is_some_and(|agreement| agreement.era == Era::Legacy);
        legacy && (self.headers.mcp_session_id().is_some() || self.headers.protocol_version().is_some())
    }

    /// The MCP session that the request comes in; the request that begins one has none yet, and a modern one never.
    pub(crate) fn mcp_session(&self) -> Option<&'a str> {
        let begins = self.message.as_ref().is_some_and(|message| message.method == Method::Initialize);
        let modern = self.agreement.as_ref().is_some_and(|agreement| agreement.era == Era::Modern);
        self.headers.mcp_session_id().filter(|_| !begins && !modern)
    }

    /// Denies what policy allowed, or where it only observes, notes that it would.
    pub(crate) fn deny(&mut self, reason: Reason) {
        let observes = self.server.is_some_and(|(_, server)| server.policy().mode == Mode::Observe);
        match &mut self.ruling {
            Ruling::Verdict(verdict) if observes => {
                verdict.would_deny.get_or_insert(reason);
            }
            Ruling::Verdict(verdict) => {
                verdict.allowed = false;
                verdict.reason = reason;
            }
            Ruling::Fault(_) => {}
        }
    }

    /// What happens to requests when their events find no room.
    pub fn audit_overload(&self) -> AuditOverload {
        self.server.map_or(AuditOverload::Deny, |(_, server)| server.policy().audit_overload)
    }

    /// Names of the headers that the upstream must not see: what only the gateway may say, identity where nobody is
    /// identified, and the caller's own token where the server names a header for the upstream's.
    pub fn strip(&self) -> impl Iterator<Item = &'a str> {
        let policy = self.server.map(|(_, server)| server.policy());
        let modern = self.agreement.as_ref().is_some_and(|agreement| agreement.era == Era::Modern);
        // A client does not choose the id of the session that it begins.
        let no_session =
            modern || self.message.as_ref().is_some_and(|message| message.method == Method::Initialize);
        self.pairs.clone().filter_map(move |(name, _)| {
            let policy = policy?;
            let auth = &policy.auth;
            let is_identity = || {
                [&auth.human_header, &auth.agent_header, &auth.team_header, &auth.session_header]
                    .into_iter()
                    .any(|header| header.as_bytes() == name)
            };
            let internal = name.starts_with(b"x-mcp-") || name.starts_with(b"x-sallyport-");
            let drop = match (auth.mode, internal) {
                (AuthMode::None, true) => true,
                (AuthMode::None, false) => is_identity(),
                (AuthMode::Header | AuthMode::Oauth, _) => internal && !is_identity(),
            } || name == policy.session.upstream_token_header.as_bytes()
                || (modern && name == b"last-event-id")
                || (no_session && name == b"mcp-session-id");
            drop.then(|| core::str::from_utf8(name).ok()).flatten()
        })
    }
}

fn syncing<'a>(server: &Server) -> Verdict<'a> {
    let verdict = Verdict::of(Reason::StateSyncing);
    match server.policy().mode {
        Mode::AllowList => verdict,
        Mode::Observe => Verdict {
            allowed: true,
            reason: Reason::Allowed,
            would_deny: Some(Reason::StateSyncing),
            ..verdict
        },
    }
}

/// Who calls, by the headers that the server names; one that comes twice could mean two callers.
fn identity<'a>(server: &Server, pairs: Pairs<'a>) -> Result<Identity<'a>, Fault> {
    let auth = &server.policy().auth;
    let mut identity = Identity::default();
    if auth.mode == AuthMode::None {
        return Ok(identity);
    }
    let mut seen = [false; 4];
    let [human, agent, team, session] = &mut seen;
    for (name, value) in pairs {
        let (place, seen) = if name == auth.human_header.as_bytes() {
            (&mut identity.human_id, &mut *human)
        } else if name == auth.agent_header.as_bytes() {
            (&mut identity.agent_id, &mut *agent)
        } else if name == auth.team_header.as_bytes() {
            (&mut identity.team_id, &mut *team)
        } else if name == auth.session_header.as_bytes() {
            (&mut identity.session_id, &mut *session)
        } else {
            continue;
        };
        if core::mem::replace(seen, true) {
            return Err(Fault::RepeatedHeader);
        }
        *place = core::str::from_utf8(value).map_err(|_| Fault::InvalidHeader)?;
    }
    Ok(identity)
}

fn class(message: &Message<'_>) -> Class {
    match message.kind {
        Kind::Response => Class::Control,
        Kind::Request | Kind::Notification => match target(message) {
            Target::Control => Class::Control,
            Target::Notification => Class::Notification,
            Target::List => Class::List,
            Target::Tool { .. } => Class::Tool,
            Target::Prompt { .. } => Class::Prompt,
            Target::Resource { .. } => Class::Resource,
            Target::Task => Class::Task,
            Target::Unknown => Class::Unknown,
        },
    }
}

fn target<'m>(message: &'m Message<'_>) -> Target<'m> {
    if message.kind == Kind::Response {
        return Target::Control;
    }
    let name = message.name.as_ref().map(Text::as_str);
    let uri = message.uri.as_ref().map(Text::as_str);
    match &message.reference {
        Some(Reference::Prompt(name)) => Target::Prompt { name: name.as_str() },
        Some(Reference::Resource(uri)) => resource(uri.as_str()),
        None => target_of(message.method, name, uri, message.as_task),
    }
}

fn target_of<'m>(method: Method, name: Option<&'m str>, uri: Option<&'m str>, as_task: bool) -> Target<'m> {
    match method {
        Method::Initialize | Method::Ping | Method::Discover | Method::LoggingSetLevel => Target::Control,
        // A listener for changes of lists alone; one for resources is judged by their URIs.
        Method::SubscriptionsListen => Target::List,
        Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourceTemplatesList => {
            Target::List
        }
        Method::ToolsCall => name.map_or(Target::Unknown, |name| Target::Tool { name, as_task }),
        Method::PromptsGet => name.map_or(Target::Unknown, |name| Target::Prompt { name }),
        Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
            uri.map_or(Target::Unknown, resource)
        }
        Method::TasksGet
        | Method::TasksResult
        | Method::TasksList
        | Method::TasksCancel
        | Method::TasksUpdate => Target::Task,
        Method::NotificationInitialized
        | Method::NotificationCancelled
        | Method::NotificationProgress
        | Method::NotificationRootsListChanged
        | Method::NotificationTasksStatus => Target::Notification,
        // Its reference is read before this is asked.
        Method::CompletionComplete | Method::Unknown => Target::Unknown,
    }
}

fn resource(uri: &str) -> Target<'_> {
    Target::Resource { uri, is_normal: resource_uri::is_normal(uri) }
}

/// What a recorded call asked for, to be judged again.
pub fn recorded_targets<'e>(method: &str, tool: &'e str, target: &'e str) -> Vec<Target<'e>> {
    if method.is_empty() {
        return Vec::from([Target::Control]);
    }
    let method = Method::of(method);
    let some = |text: &'e str| Some(text).filter(|text| !text.is_empty());
    match method {
        Method::SubscriptionsListen if !target.is_empty() => target.split(' ').map(resource).collect(),
        Method::CompletionComplete if target.contains("://") => Vec::from([resource(target)]),
        Method::CompletionComplete => Vec::from([Target::Prompt { name: target }]),
        _ => Vec::from([target_of(method, some(tool).or(some(target)), some(target), false)]),
    }
}

/// The path without its query.
pub(crate) fn path_only<'a>(headers: &RequestHeaders<'a>) -> &'a str {
    let path = core::str::from_utf8(headers.path()).unwrap_or_default();
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Prompt, URI, URIs or task of a call, as one text.
pub(crate) fn target_text(message: &Message<'_>) -> String {
    if message.method == Method::SubscriptionsListen {
        let uris: Vec<&str> = message.subscriptions.iter().map(Text::as_str).collect();
        return uris.join(" ");
    }
    let text = match &message.reference {
        Some(Reference::Prompt(text) | Reference::Resource(text)) => Some(text),
        None if message.method == Method::PromptsGet => message.name.as_ref(),
        None => message.uri.as_ref().or(message.task_id.as_ref()),
    };
    // What a method does not act on has no bounds of its own, and must not swell the record.
    let text = text.map(Text::as_str).filter(|text| text.len() <= Limits::default().max_uri);
    text.map_or_else(String::new, String::from)
}
