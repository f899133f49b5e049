//! The corpus of decision cases, judged by the strict reader and the decision core alone. What a message asks of the
//! server is told here a second time, apart from the filter, so that both must agree on it.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use sallyport_mcp_wire::{
    Fault, Kind, Limits, Message, Method, Reference, RequestHeaders, Scratch, agree, check_media, read,
    resource_uri,
};
use sallyport_policy::{AuthMode, Call, Identity, Reason, Store, Target, Verdict, decide};
use sallyport_test_support::cases::{Case, cases};

/// What the state of a proxy decides, and no policy: `wasm-filter/core/tests/worker` has them.
const OF_THE_PROXY: [Reason; 5] = [
    Reason::NoRoute,
    Reason::PolicyUnavailable,
    Reason::StateSyncing,
    Reason::AuditUnavailable,
    Reason::McpSessionOfAnother,
];

#[test]
fn the_core_decides_every_case() {
    for case in cases() {
        let policy = case.policy();
        let mut store = Store::new();
        for grant in policy.grants {
            store.upsert_grant(grant, 0);
        }
        let now = case.now();
        for session in &policy.sessions {
            store.upsert_session(session, 0, case.learned.unwrap_or(now)).expect("short");
        }
        let id = policy.server.id.clone();
        store.set_servers(vec![policy.server]);
        let server = store.server(&id).expect("it was set");
        match verdict(case, &store, server, now) {
            Err(fault) => {
                assert_eq!(("deny", fault.as_str()), wanted(case), "{}", case.name);
                assert_eq!(Some(fault.http_status()), case.expect.status, "{}", case.name);
            }
            Ok(verdict) => {
                let decision = if verdict.allowed { "allow" } else { "deny" };
                assert_eq!((decision, verdict.reason.as_str()), wanted(case), "{}", case.name);
                assert_eq!(
                    verdict.would_deny.map(Reason::as_str),
                    case.expect.would_deny.as_deref(),
                    "{}",
                    case.name
                );
                if let Some(grant) = &case.expect.grant {
                    let decided = verdict.grant.map(|entry| entry.grant().id.name.as_str());
                    assert_eq!(decided, Some(grant.as_str()), "{}", case.name);
                }
            }
        }
    }
}

#[test]
fn every_reason_that_a_policy_can_give_has_a_case() {
    let told: BTreeSet<&str> = cases()
        .iter()
        .flat_map(|case| [Some(case.expect.reason.as_str()), case.expect.would_deny.as_deref()])
        .flatten()
        .collect();
    let untold: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| !OF_THE_PROXY.contains(reason))
        .map(|reason| reason.as_str())
        .filter(|reason| !told.contains(*reason))
        .collect();
    assert!(untold.is_empty(), "no case for {untold:?}");
}

fn wanted(case: &Case) -> (&str, &str) {
    (&case.expect.decision, &case.expect.reason)
}

/// The verdict that counts: the first that denies, else the last.
fn verdict<'a>(
    case: &Case,
    store: &'a Store,
    server: &'a sallyport_policy::Server,
    now: i64,
) -> Result<Verdict<'a>, Fault> {
    let pairs = case.header_pairs();
    let headers =
        RequestHeaders::collect(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))?;
    let identity = identity(server, &pairs)?;
    check_media(&headers)?;
    let limits = Limits {
        max_bytes: usize::try_from(server.policy().max_request_bytes).expect("it fits"),
        ..Limits::default()
    };
    let mut scratch = Scratch::new(0);
    let message =
        read(case.request.body.as_bytes(), &limits, &mut scratch).map_err(|rejection| rejection.fault)?;
    agree(&headers, &message)?;
    let verdicts: Vec<Verdict<'_>> = targets(&message)
        .into_iter()
        .map(|target| decide(store, server, &Call { identity, target, now }))
        .collect();
    let first = verdicts.iter().find(|verdict| !verdict.allowed);
    Ok(*first.or(verdicts.last()).expect("a message asks for something"))
}

fn identity<'a>(
    server: &sallyport_policy::Server,
    pairs: &[(&'a str, &'a str)],
) -> Result<Identity<'a>, Fault> {
    let auth = &server.policy().auth;
    let one = |header: &str| {
        let mut values = pairs.iter().filter(|(name, _)| *name == header).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (value, None) => Ok(value.unwrap_or_default()),
            (_, Some(_)) => Err(Fault::RepeatedHeader),
        }
    };
    if auth.mode == AuthMode::None {
        return Ok(Identity::default());
    }
    Ok(Identity {
        human_id: one(&auth.human_header)?,
        agent_id: one(&auth.agent_header)?,
        team_id: one(&auth.team_header)?,
        session_id: one(&auth.session_header)?,
    })
}

fn targets<'m>(message: &'m Message<'_>) -> Vec<Target<'m>> {
    let resource = |uri: &'m str| Target::Resource { uri, is_normal: resource_uri::is_normal(uri) };
    if message.method == Method::SubscriptionsListen && !message.subscriptions.is_empty() {
        return message.subscriptions.iter().map(|uri| resource(uri.as_str())).collect();
    }
    let name = message.name.as_ref().map_or("", |name| name.as_str());
    let uri = message.uri.as_ref().map_or("", |uri| uri.as_str());
    let target = match (message.kind, message.method_name.as_str()) {
        (Kind::Response, _) | (_, "initialize" | "ping" | "server/discover" | "logging/setLevel") => {
            Target::Control
        }
        (Kind::Notification, _) if message.method != Method::Unknown => Target::Notification,
        (_, "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list") => Target::List,
        (_, "tools/call") => Target::Tool { name, as_task: message.as_task },
        (_, "prompts/get") => Target::Prompt { name },
        (_, "resources/read" | "resources/subscribe" | "resources/unsubscribe") => resource(uri),
        (_, method) if method.starts_with("tasks/") => Target::Task,
        (_, "completion/complete") => match &message.reference {
            Some(Reference::Prompt(name)) => Target::Prompt { name: name.as_str() },
            Some(Reference::Resource(uri)) => resource(uri.as_str()),
            None => Target::Unknown,
        },
        (_, _) => Target::Unknown,
    };
    vec![target]
}
