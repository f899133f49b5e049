//! What the record keeps of arguments.

use sallyport_audit_proto::v1::AuditEvent;
use sallyport_policy::{AuditArguments, ServerPolicy};
use sallyport_policy_proto::v1;

use crate::proxy::{Proxy, config, server};

const ARGUMENTS: &str =
    r#"{"card":{"number":"4111-secret","year":30},"items":[{"token":"t-secret","n":1},{"token":7}]}"#;

fn keeping(kept: AuditArguments, longest: u32) -> v1::FilterConfig {
    let server = ServerPolicy {
        audit_arguments: kept,
        audit_redact: vec!["/card/number".into(), "/items/*/token".into()],
        audit_max_argument_bytes: longest,
        ..server()
    };
    v1::FilterConfig { digest_key: vec![7; 32], ..config(&[server]) }
}

/// The event of a call with `arguments`, and the batch that it went in.
fn recorded(config: &v1::FilterConfig, arguments: &str) -> (AuditEvent, Vec<u8>) {
    let mut proxy = Proxy::ready_with(config);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"read","arguments":{arguments}}}}}"#
    );
    proxy.call_with(1, "sess", &body).passed();
    proxy.end(1);
    proxy.tick();
    let (_, batch) = proxy.batches().remove(0);
    (proxy.events().remove(0), batch.events.concat())
}

fn text(event: &AuditEvent) -> &str {
    std::str::from_utf8(&event.arguments).expect("text")
}

#[test]
fn by_default_only_a_digest_is_kept_and_with_none_nothing() {
    let (event, bytes) = recorded(&keeping(AuditArguments::Digest, 0), ARGUMENTS);
    assert_eq!((event.arguments_digest.len(), text(&event)), (32, ""));
    assert!(!bytes.windows(6).any(|part| part == b"secret"));
    let (event, bytes) = recorded(&keeping(AuditArguments::None, 0), ARGUMENTS);
    assert_eq!((event.arguments_digest.len(), text(&event)), (0, ""));
    assert!(!bytes.windows(6).any(|part| part == b"secret"));
}

#[test]
fn redacted_values_do_not_leave_the_proxy() {
    let (event, bytes) = recorded(&keeping(AuditArguments::Redacted, 0), ARGUMENTS);
    let expected = r#"{"card":{"number":"[redacted]","year":30},"items":[{"token":"[redacted]","n":1},{"token":"[redacted]"}]}"#;
    assert_eq!((event.arguments_digest.len(), text(&event)), (32, expected));
    assert!(!bytes.windows(6).any(|part| part == b"secret"));
}

#[test]
fn full_arguments_are_kept_byte_for_byte() {
    let (event, _) = recorded(&keeping(AuditArguments::Full, 0), ARGUMENTS);
    assert_eq!(text(&event), ARGUMENTS);
}

#[test]
fn of_arguments_beyond_the_bound_only_the_length_is_kept() {
    for kept in [AuditArguments::Full, AuditArguments::Redacted] {
        let (event, _) = recorded(&keeping(kept, 64), ARGUMENTS);
        assert_eq!(text(&event), format!("\"[truncated: {} bytes]\"", ARGUMENTS.len()), "{kept:?}");
    }
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(4096));
    let (event, _) = recorded(&keeping(AuditArguments::Full, 0), &long);
    assert_eq!(text(&event), "\"[truncated: 4104 bytes]\"", "the bound that nobody gave");
}

#[test]
fn under_rules_that_cannot_be_read_everything_is_redacted() {
    let mut config = keeping(AuditArguments::Redacted, 0);
    config.servers[0].audit_redact.push("no pointer".into());
    let (event, _) = recorded(&config, ARGUMENTS);
    assert_eq!(text(&event), "\"[redacted]\"");
}
