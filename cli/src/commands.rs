//! The smaller commands.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]

use std::process::ExitCode;

use anyhow::Context;
use sallyport_runtime::{shutdown, telemetry};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::args::{
    Command, EventsArgs, ExplainArgs, GrantCommand, Named, PolicyCommand, ServerCommand, SessionCommand,
};
use crate::client::{ApiArgs, Client};
use crate::rollout::Wish;
use crate::{audit, check, doctor, install, rollout, up};

/// A call that would be denied.
const DENIED: u8 = 2;

/// Runs a command.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => return up::run(*args).await,
        Command::Exec(args) => return up::exec(args),
        Command::Operator(args) => {
            process("operator", |shutdown| sallyport_operator::run(*args, shutdown)).await?;
        }
        Command::Ingest(args) => {
            process("ingest", |shutdown| sallyport_ingest::run(args, shutdown)).await?;
        }
        Command::Processor(args) => {
            process("processor", |shutdown| sallyport_processor::run(args, shutdown)).await?;
        }
        Command::ControlApi(args) => {
            process("control-api", |shutdown| sallyport_control_api::run(args, shutdown)).await?;
        }
        Command::Install(args) => return install::run(args).await,
        Command::Doctor(args) => return doctor::run(args).await,
        Command::Policy(PolicyCommand::Check { path }) => return check::run(&path),
        Command::Server(ServerCommand::List(args)) => servers(&args).await?,
        Command::Server(ServerCommand::Promote(args)) => return rollout::run(Wish::Promote, &args).await,
        Command::Server(ServerCommand::Rollback(args)) => return rollout::run(Wish::RollBack, &args).await,
        Command::Grant(command) => return grant(command).await,
        Command::Session(command) => return session(command).await,
        Command::Events(args) => events(&args).await?,
        Command::Audit(command) => return audit::run(command).await,
        Command::Explain(args) => return explain(&args).await,
        Command::Status(args) => status(&args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a process of its own, from its first log line to its last span.
async fn process<F: Future<Output = anyhow::Result<()>>>(
    component: &str,
    run: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    let telemetry = telemetry::init(component)?;
    let result = run(shutdown::on_signal()?).await;
    telemetry.shutdown().await;
    result
}

/// Prints to standard error.
pub(crate) fn say_error(line: &str) {
    eprintln!("{line}");
}

/// Prints to standard output.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn items<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

async fn servers(args: &ApiArgs) -> anyhow::Result<()> {
    let list = Client::new(args)?.get("runtime/servers", &[]).await?;
    for server in items(&list, "servers") {
        let (namespace, name) = (text(server, "/namespace"), text(server, "/name"));
        say(&format!("{namespace}/{name}\t{}\t{}", text(server, "/path"), text(server, "/policy/mode")));
    }
    Ok(())
}

async fn grant(command: GrantCommand) -> anyhow::Result<ExitCode> {
    match command {
        GrantCommand::List(args) => list(&args, "grants", "/maxTrust", "/disabled", "disabled").await,
        GrantCommand::Enable(named) => toggle(&named, "grants", "enable", "enabled").await,
        GrantCommand::Disable(named) => toggle(&named, "grants", "disable", "disabled").await,
    }
}

async fn session(command: SessionCommand) -> anyhow::Result<ExitCode> {
    match command {
        SessionCommand::List(args) => list(&args, "sessions", "/consentedTrust", "/revoked", "revoked").await,
        SessionCommand::Revoke(named) => toggle(&named, "sessions", "revoke", "revoked").await,
        SessionCommand::Unrevoke(named) => toggle(&named, "sessions", "unrevoke", "unrevoked").await,
    }
}

async fn list(args: &ApiArgs, what: &str, trust: &str, off: &str, word: &str) -> anyhow::Result<ExitCode> {
    let list = Client::new(args)?.get(&format!("runtime/{what}"), &[]).await?;
    for item in items(&list, what) {
        let (namespace, name) = (text(item, "/namespace"), text(item, "/name"));
        let subject =
            [text(item, "/subject/humanID"), text(item, "/subject/agentID"), text(item, "/subject/teamID")]
                .join(" ");
        let state = if flag(item, off) { word } else { "active" };
        let server = text(item, "/serverRef/name");
        say(&format!("{namespace}/{name}\t{server}\t{subject}\t{}\t{state}", text(item, trust)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Switches, and tells where the switch is enforced.
async fn toggle(named: &Named, what: &str, verb: &str, done: &str) -> anyhow::Result<ExitCode> {
    let (namespace, name) = object(&named.object)?;
    let path = format!("runtime/{what}/{namespace}/{name}/{verb}");
    let answer = Client::new(&named.api)?.post(&path, None).await?;
    let (line, complete) = enforced(&answer);
    say(&format!("{done} {namespace}/{name}: {line}"));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What an answer says of enforcement, and whether it is complete.
fn enforced(answer: &Value) -> (String, bool) {
    let enforced = answer.get("enforced").unwrap_or(&Value::Null);
    let number = |name: &str| enforced.get(name).and_then(Value::as_u64).unwrap_or(0);
    let millis = enforced.get("millis").and_then(Value::as_f64).unwrap_or(0.0);
    let (on, of) = (number("enforced"), number("of"));
    if flag(enforced, "/complete") {
        return (format!("enforced on {on} of {of} filter instances in {millis:.1} ms"), true);
    }
    if of == 0 {
        return ("written; no filter is connected, so nobody can say what is enforced".into(), false);
    }
    let pending: Vec<&str> = items(enforced, "pending").filter_map(Value::as_str).collect();
    (
        format!(
            "enforced on {on} of {of} filter instances after {millis:.1} ms; not by {}",
            pending.join(", ")
        ),
        false,
    )
}

/// Namespace and name of an object.
pub(crate) fn object(name: &str) -> anyhow::Result<(&str, &str)> {
    let parts = name.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let parts = parts.filter(|(_, name)| !name.contains('/'));
    parts.with_context(|| format!("`{name}` names no object; write namespace/name"))
}

async fn events(args: &EventsArgs) -> anyhow::Result<()> {
    let limit = args.limit.to_string();
    let filters = [("decision", &args.decision), ("server", &args.server), ("session_id", &args.session)];
    let filters = filters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query: Vec<(&str, &str)> = std::iter::once(("limit", limit.as_str())).chain(filters).collect();
    let page = Client::new(&args.api)?.get("events/filter", &query).await?;
    for event in items(&page, "events") {
        say(&if args.json { event.to_string() } else { told(event) });
    }
    Ok(())
}

/// An event on one line: when, the verdict and its reason, what was asked of which server, and by whom.
pub(crate) fn told(event: &Value) -> String {
    let field =
        |name: &str| event.pointer("/payload").and_then(|payload| payload.get(name)).and_then(Value::as_str);
    // The end of what was told of while it was open has no decision of its own.
    let end = if flag(event, "/payload/cut") { "cut" } else { "ended" };
    let decision = field("decision").unwrap_or(end);
    let asked = field("rpc_method").or(field("method"));
    let what = asked.into_iter().chain(field("tool_name")).collect::<Vec<_>>().join(" ");
    let who = ["human_id", "agent_id", "session_id"].map(|name| field(name).unwrap_or("-")).join(" ");
    let (server, reason) = (field("server").unwrap_or("-"), field("reason").unwrap_or("-"));
    // To the millisecond: 2026-11-21T07:31:23.712
    let time = text(event, "/timestamp");
    let time = time.get(..23).unwrap_or(time);
    format!("{time}  {decision:<5}  {reason:<24} {server:<11} {what:<42} {who}")
}

async fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let (namespace, name) = object(&args.server)?;
    let (method, params) = match &args.tool {
        Some(tool) => {
            let arguments = args.arguments.clone().unwrap_or_else(|| json!({}));
            ("tools/call", Some(json!({ "name": tool, "arguments": arguments })))
        }
        None => (args.method.as_deref().unwrap_or_default(), args.params.clone()),
    };
    let mut request = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
    if let (Some(params), Some(request)) = (params, request.as_object_mut()) {
        request.insert("params".into(), params);
    }
    let who = |name: &Option<String>| name.clone().unwrap_or_default();
    let identity = json!({
        "humanID": who(&args.human), "agentID": who(&args.agent), "teamID": who(&args.team),
        "sessionID": who(&args.session),
    });
    let body = json!({
        "namespace": namespace, "server": name, "identity": identity, "request": request,
        "last_used": args.last_used,
    });
    let answer = Client::new(&args.api)?.post("runtime/policy/explain", Some(&body)).await?;
    say(&serde_json::to_string_pretty(&answer)?);
    Ok(if text(&answer, "/decision") == "allow" { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
}

async fn status(args: &ApiArgs) -> anyhow::Result<()> {
    let status = Client::new(args)?.get("runtime/components", &[]).await?;
    say(&serde_json::to_string_pretty(&status)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enforcement_is_complete_only_where_every_filter_said_so() {
        let answer = json!({ "enforced": { "complete": true, "enforced": 3, "of": 3, "millis": 4.12, "pending": [] } });
        assert_eq!(enforced(&answer), ("enforced on 3 of 3 filter instances in 4.1 ms".into(), true));
        let answer = json!({ "enforced": { "complete": false, "enforced": 1, "of": 2, "millis": 9.0, "pending": ["w/2"] } });
        let (line, complete) = enforced(&answer);
        assert!(!complete && line.contains("1 of 2") && line.contains("w/2"), "{line}");
        assert!(!enforced(&json!({})).1, "no word of enforcement is none");
    }

    #[test]
    fn an_event_is_told_on_one_line_and_a_cut_shows() {
        let event = json!({ "timestamp": "2026-11-21T07:31:23.712178000Z", "payload": {
            "decision": "deny", "reason": "tool_denied", "server": "everything", "rpc_method": "tools/call",
            "tool_name": "get-env", "human_id": "user-123", "agent_id": "ops-agent" } });
        let words = |event: &Value| told(event).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(&event),
            "2026-11-21T07:31:23.712 deny tool_denied everything tools/call get-env user-123 ops-agent -"
        );
        let cut =
            json!({ "timestamp": "", "payload": { "cut": true, "reason": "allowed", "method": "GET" } });
        assert_eq!(words(&cut), "cut allowed - GET - - -");
        assert_eq!(words(&json!({ "payload": { "phase": "outcome" } })), "- ended - - - - -");
    }

    #[test]
    fn objects_are_named_by_namespace_and_name() {
        assert_eq!(object("ns/name").unwrap(), ("ns", "name"));
        for name in ["name", "/name", "ns/", "a/b/c"] {
            assert!(object(name).is_err(), "{name}");
        }
    }
}
