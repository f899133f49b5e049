//! Schemas of bodies and answers. Those of grants, sessions and servers are the resources' own, made flat.

use sallyport_api::crds;
use serde_json::{Map, Value, json};

/// All, by name.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for (kind, name) in [("MCPServer", "Server"), ("MCPAccessGrant", "Grant"), ("MCPAgentSession", "Session")]
    {
        let spec = spec(kind);
        let lower = name.to_ascii_lowercase();
        schemas.insert(format!("{name}List"), wrapped(&format!("{lower}s"), &list(name)));
        schemas.insert(format!("{name}Item"), wrapped(&lower, &reference(name)));
        schemas.insert(name.into(), shown(&spec, name));
        if name != "Server" {
            schemas.insert(format!("{name}Apply"), apply(&spec));
            schemas.insert(format!("{name}Change"), change(&lower, name));
            let switch = if name == "Grant" { "disabled" } else { "revoked" };
            schemas.insert(format!("{name}Patch"), patch(switch));
        }
    }
    for fixed in [basics(), events(), audit(), policy(), explain()] {
        if let Value::Object(fixed) = fixed {
            schemas.extend(fixed);
        }
    }
    Value::Object(schemas)
}

/// The schema of a kind's spec, as the resource definition has it.
fn spec(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    let crd = crd.and_then(|crd| serde_json::to_value(crd).ok()).unwrap_or_default();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn optional(description: &str) -> Value {
    json!({ "type": ["string", "null"], "description": description })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(name: &str) -> Value {
    json!({ "type": "array", "items": reference(name) })
}

fn wrapped(field: &str, schema: &Value) -> Value {
    json!({ "type": "object", "required": [field], "properties": { field: schema } })
}

fn with(spec: &Value, more: &Value, required: &[&str]) -> Value {
    let mut schema = json!({ "type": "object" });
    let mut properties = spec.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    properties.extend(more.as_object().cloned().unwrap_or_default());
    let known = spec.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let required: Vec<Value> = required.iter().map(|name| Value::from(*name)).chain(known).collect();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".into(), required.into());
        schema.insert("properties".into(), properties.into());
    }
    schema
}

fn shown(spec: &Value, name: &str) -> Value {
    let mut more = json!({
        "name": text("Name."), "namespace": text("Namespace."), "origin": text("File and line that hold it."),
        "creationTimestamp": text("When it was made."), "problems": list("Problem"),
    });
    if let Some(more) = more.as_object_mut() {
        if name == "Server" {
            more.insert(
                "path".into(),
                optional("Path at which it is reached; null: it is not governed, so not reached."),
            );
        } else {
            more.insert(
                "version".into(),
                optional("Its version on proxies; null: it has no effect, and `problems` says why."),
            );
        }
    }
    with(spec, &more, &["name", "namespace"])
}

fn apply(spec: &Value) -> Value {
    let more = json!({ "name": text("Name."), "namespace": { "type": "string", "default": "default" } });
    let mut schema = with(spec, &more, &["name"]);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("additionalProperties".into(), false.into());
    }
    schema
}

fn change(field: &str, name: &str) -> Value {
    json!({
        "type": "object", "required": ["success", field, "change", "complete", "enforced"],
        "properties": {
            "success": { "type": "boolean", "const": true }, field: reference(name),
            "change": { "type": "string", "enum": ["created", "updated", "unchanged"] },
            "complete": { "type": "boolean", "description": "Every connected proxy has confirmed it." },
            "enforced": reference("Enforcement"),
        },
    })
}

fn patch(switch: &str) -> Value {
    json!({
        "type": "object", "required": [switch], "additionalProperties": false,
        "properties": { switch: { "type": "boolean" } },
    })
}

fn basics() -> Value {
    json!({
        "Error": {
            "type": "object", "required": ["error", "message"],
            "properties": { "error": text("A stable word."), "message": text("What is wrong, and how to mend it.") },
        },
        "Ok": wrapped("ok", &json!({ "type": "boolean" })),
        "Document": { "type": "object", "description": "An OpenAPI document." },
        "Problem": {
            "type": "object", "required": ["severity", "path", "reason", "message"],
            "properties": {
                "severity": { "type": "string", "enum": ["warning", "error"] }, "path": text("Field."),
                "reason": text("A stable word."), "message": text("What is wrong, and how to mend it."),
                "object": text("The object, where it is not the one that this is part of."),
            },
        },
        "Enforcement": {
            "type": "object", "required": ["version", "complete", "enforced", "of", "pending", "millis"],
            "properties": {
                "version": optional("Version that proxies must confirm."), "complete": { "type": "boolean" },
                "enforced": { "type": "integer", "description": "Filter instances that confirmed it." },
                "of": { "type": "integer", "description": "Filter instances there are." },
                "pending": { "type": "array", "items": { "type": "string" } },
                "millis": { "type": "number", "description": "From the request until this was known." },
                "message": text("Why it is not complete."),
            },
        },
        "Components": {
            "type": "object", "required": ["components", "proxies", "problems"],
            "properties": {
                "components": { "type": "array", "items": {
                    "type": "object", "required": ["name", "ready", "status", "message"],
                    "properties": {
                        "name": text("The part."), "ready": { "type": "boolean" },
                        "status": { "type": "string", "enum": ["healthy", "unhealthy"] }, "message": text("In words."),
                    },
                } },
                "proxies": { "type": ["object", "null"], "description": "Connected proxies, as the control plane tells them; null: it does not answer." },
                "problems": { "type": ["object", "null"], "description": "Problems of files and objects; null: the control plane does not answer." },
            },
        },
    })
}

fn events() -> Value {
    let count = |field: &str| {
        let properties = json!({ field: text("Name."), "count": { "type": "integer" } });
        json!({ "type": "array", "items": { "type": "object", "required": [field, "count"], "properties": properties } })
    };
    let mut summary = numbers(&["total_events", "active_servers", "active_grants", "active_sessions"]);
    for name in ["latest_source", "last_event_type", "last_event_time"] {
        summary.insert(name.into(), optional("Of the newest event; null: there is none."));
    }
    json!({
        "Event": {
            "type": "object", "required": ["timestamp", "source", "event_type", "payload"],
            "properties": {
                "timestamp": { "type": "string", "format": "date-time" }, "trace_id": text("W3C trace id."),
                "source": text("As payments-gateway."), "event_type": text("As mcp.request."),
                "payload": { "type": "object" },
            },
        },
        "EventPage": {
            "type": "object", "required": ["events", "meta", "next"],
            "properties": {
                "events": list("Event"), "next": optional("Cursor of the next page; null: this is the last."),
                "meta": { "type": "object", "properties": {
                    "limit": { "type": "integer" }, "next_cursor": optional("As next."), "has_more": { "type": "boolean" },
                } },
            },
        },
        "EventStream": text("Server-sent events: `data` is an Event on one line, `id` what the header last-event-id takes to go on after it. Comments tell that the stream lives."),
        "Stats": { "type": "object", "properties": numbers(&["events_total", "allowed", "denied", "missing", "pruned"]) },
        "Usage": { "type": "object", "required": ["usage"], "properties": { "usage": { "type": "array", "items": usage() } } },
        "Sources": count("source"),
        "EventTypes": count("event_type"),
        "Summary": { "type": "object", "properties": summary },
    })
}

fn audit() -> Value {
    let chain = |more: &[(&str, Value)], required: &[&str]| {
        let mut properties = Map::new();
        properties.insert("proxy".into(), text("The chain's proxy."));
        properties.insert("worker".into(), json!({ "type": "integer" }));
        properties.insert("epoch".into(), text("When the worker began, nanoseconds since 1970, as text."));
        properties.extend(more.iter().map(|(name, schema)| ((*name).to_string(), schema.clone())));
        let mut all = vec!["proxy", "worker", "epoch"];
        all.extend_from_slice(required);
        json!({ "type": "object", "required": all, "properties": properties })
    };
    let number = || json!({ "type": "integer" });
    let bytes = || json!({ "type": "string", "contentEncoding": "base64" });
    let all = |field: &str, items: Value| {
        let properties = json!({ field: { "type": "array", "items": items } });
        json!({ "type": "object", "required": [field], "properties": properties })
    };
    let checkpoint = json!({ "type": "object", "required": ["sequence", "time_unix_nanos", "signed"], "properties": {
        "sequence": number(), "time_unix_nanos": text("When it was made, as text."), "signed": bytes() } });
    let span = [("first", number()), ("last", number()), ("events", number())];
    let event = [
        ("seq", number()),
        ("hash", bytes()),
        ("bytes", bytes()),
        ("differs", text("What the store says of it otherwise than its bytes: the name of the column.")),
    ];
    let standing = [("events", number()), ("last_seq", number())];
    let server = json!({ "type": "object", "required": ["namespace", "server", "last_event", "chains", "missing", "gaps"],
        "properties": {
            "namespace": text("The server's namespace."), "server": text("Its name."),
            "last_event": optional("Time of its newest event; null: there is none."),
            "chains": { "type": "array", "items": chain(&standing, &["events", "last_seq"]) },
            "missing": { "type": "integer", "description": "Events known to be missing from these chains." },
            "gaps": list("Event"),
        } });
    json!({
        "Checkpoints": all("checkpoints", checkpoint),
        "Spans": all("spans", chain(&span, &["first", "last", "events"])),
        "ChainedEvents": all("events", chain(&event, &["seq", "hash", "bytes"])),
        "Integrity": { "type": "object", "required": ["servers", "last_checkpoint", "ingest"], "properties": {
            "servers": { "type": "array", "items": server },
            "last_checkpoint": { "type": ["object", "null"], "properties": {
                "sequence": number(), "time": { "type": "string", "format": "date-time" } } },
            "ingest": { "type": ["object", "null"], "description":
                "Where chains stand in the ingest, and what is on its way at each stage (`ring`, `spool`, `delivery`, and in \
                 `store` what it acknowledged and the store does not have yet); null: it does not answer." },
        } },
    })
}

fn numbers(names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_string(), json!({ "type": "integer" }))).collect()
}

/// One tool of a server in one hour.
fn usage() -> Value {
    let mut properties = numbers(&["events", "allowed", "denied"]);
    for (name, what) in [
        ("hour", "Its beginning, RFC 3339."),
        ("namespace", "Of the server."),
        ("server", "Its name."),
        ("team_id", "Of the server."),
        ("tool_name", "Empty: requests that call none."),
    ] {
        properties.insert(name.into(), text(what));
    }
    json!({ "type": "object", "properties": properties })
}

fn policy() -> Value {
    json!({ "Policy": {
        "type": "object", "required": ["schema_version", "server", "auth", "policy", "session", "tools", "grants", "sessions", "problems", "source"],
        "properties": {
            "schema_version": { "type": "string", "const": "v1" },
            "source": text("Where the objects are kept."), "problems": list("Problem"),
            "server": { "type": "object" }, "auth": { "type": "object" }, "policy": { "type": "object" },
            "session": { "type": "object" }, "tools": { "type": "array", "items": { "type": "object" } },
            "prompts": { "type": "array", "items": { "type": "string" } },
            "resources": { "type": "array", "items": { "type": "string" } },
            "tasks": { "type": "array", "items": { "type": "string" } },
            "max_request_bytes": { "type": "integer" }, "audit": { "type": "object" },
            "grants": { "type": "array", "items": { "type": "object" } },
            "sessions": { "type": "array", "items": { "type": "object" } },
        },
    } })
}

fn explain() -> Value {
    let names = ["humanID", "agentID", "teamID", "sessionID"];
    let identity: Map<String, Value> =
        names.iter().map(|name| ((*name).to_string(), text("Empty: not told."))).collect();
    json!({
        "ExplainRequest": {
            "type": "object", "required": ["namespace", "server"], "additionalProperties": false,
            "oneOf": [{ "required": ["request"] }, { "required": ["body"] }],
            "properties": {
                "namespace": text("The server's namespace."), "server": text("The server."),
                "identity": { "type": "object", "additionalProperties": false, "properties": identity },
                "request": { "description": "A JSON-RPC message; sent with the headers of a correct client." },
                "body": text("The exact body, in place of `request`."),
                "headers": {
                    "type": "object", "description": "Headers in place of those sent by default; null: not sent.",
                    "additionalProperties": { "type": ["string", "array", "null"], "items": { "type": "string" } },
                },
                "at": { "type": "string", "format": "date-time", "description": "When; by default now." },
                "last_used": {
                    "type": "string", "format": "date-time",
                    "description": "When the proxy last saw the session used; by default at that moment.",
                },
            },
        },
        "ExplainStep": {
            "type": "object", "required": ["step", "outcome", "detail"],
            "properties": {
                "step": { "type": "string", "enum": ["read", "governed", "identity", "session", "inventory", "grant", "default", "observe"] },
                "outcome": { "type": "string", "enum": ["pass", "fail"] },
                "reason": text("Why it failed."), "detail": text("In words."), "grant": text("The grant judged."),
            },
        },
        "Explanation": explanation(),
    })
}

fn explanation() -> Value {
    let optionals = [
        ("would_deny", "Why mode observe would have denied it."),
        ("matched_grant", "The grant that decided, as namespace/name."),
        ("matched_session", "The session that was found, as namespace/name."),
        ("required_trust", "Trust the call requires."),
        ("admin_trust", "Ceiling of the grant."),
        ("consented_trust", "Trust of the session."),
        ("effective_trust", "The smaller of the two."),
        ("required_side_effect", "What the call does."),
        ("risk_level", "Risk of the tool."),
        ("rpc_method", "The method."),
        ("tool_name", "Name of tool or prompt."),
        ("era", "legacy or modern."),
        ("protocol_version", "As the header says."),
    ];
    let mut properties: Map<String, Value> =
        optionals.iter().map(|(name, meaning)| ((*name).to_string(), optional(meaning))).collect();
    let others = json!({
        "decision": { "type": "string", "enum": ["allow", "deny"] }, "reason": text("A stable word."),
        "http_status": { "type": "integer", "description": "Of the proxy's answer; 200 where the request goes on." },
        "json_rpc_code": { "type": ["integer", "null"] }, "remedy": text("What can be done about it."),
        "namespace": text("The server's namespace."), "server": text("The server."), "at": text("When."),
        "steps": list("ExplainStep"), "problems": list("Problem"),
    });
    properties.extend(others.as_object().cloned().unwrap_or_default());
    let required = [
        "decision",
        "reason",
        "http_status",
        "json_rpc_code",
        "remedy",
        "namespace",
        "server",
        "at",
        "steps",
        "problems",
    ];
    json!({ "type": "object", "required": required, "properties": properties })
}
