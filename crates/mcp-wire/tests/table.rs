//! Bad inputs and what becomes of each: one row, one idea.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use sallyport_mcp_wire::{Fault, Kind, Limits, Method, RequestHeaders, Scratch, agree, check_media, read};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","arguments":{}}}"#;

fn fault_of(body: &[u8]) -> Option<Fault> {
    read(body, &Limits::default(), &mut Scratch::new(3)).err().map(|rejection| rejection.fault)
}

#[test]
fn strings_numbers_and_encodings() {
    let value = |text: &str| CALL.replace("\"arguments\":{}", &format!("\"arguments\":{{\"a\":{text}}}"));
    let cases = [
        ("NaN", Fault::JsonSyntax),
        ("-Infinity", Fault::JsonSyntax),
        ("1e400", Fault::NumberRange),
        ("01", Fault::JsonSyntax),
        ("'a'", Fault::JsonSyntax),
        ("\"\\ud800\"", Fault::LoneSurrogate),
        ("\"\\udc00\\ud800\"", Fault::LoneSurrogate),
        ("\"\\x\"", Fault::JsonSyntax),
        ("\"a\u{1}b\"", Fault::JsonSyntax),
        ("1,", Fault::JsonSyntax),
    ];
    for (text, fault) in cases {
        assert_eq!(fault_of(value(text).as_bytes()), Some(fault), "{text}");
    }
    assert_eq!(fault_of(value(&"9".repeat(2000)).as_bytes()), Some(Fault::NumberRange));
    let utf16: Vec<u8> = CALL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(fault_of(&utf16), Some(Fault::JsonSyntax));
    assert_eq!(fault_of(&[CALL.as_bytes(), b"\0"].concat()), Some(Fault::JsonSyntax));
    assert_eq!(
        fault_of(CALL.replace("safe", "\u{e9}").replace('\u{e9}', "\u{0}").as_bytes()),
        Some(Fault::JsonSyntax)
    );
    assert_eq!(
        fault_of(&[&CALL.as_bytes()[..60], &[0xc0, 0xaf], &CALL.as_bytes()[60..]].concat()),
        Some(Fault::BodyNotUtf8)
    );
}

#[test]
fn shapes() {
    let cases = [
        ("null", Fault::NotAnObject),
        ("true", Fault::NotAnObject),
        ("[]", Fault::Batch),
        (" \n[1]", Fault::Batch),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, Fault::InvalidVersionMember),
        (r#"{"id":1,"method":"ping"}"#, Fault::InvalidVersionMember),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, Fault::InvalidId),
        (r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}"#, Fault::InvalidId),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Fault::InvalidShape),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, Fault::InvalidShape),
        (r#"{"jsonrpc":"2.0","id":1}"#, Fault::InvalidShape),
        (r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#, Fault::InvalidShape),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"safe"}}"#, Fault::NotANotification),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}"#, Fault::InvalidParams),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","arguments":null}}"#,
            Fault::InvalidParams,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, Fault::InvalidParams),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","__proto__":{}}}"#,
            Fault::LookalikeKey,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe"},"extra":1}"#,
            Fault::UnknownMember,
        ),
    ];
    for (body, fault) in cases {
        assert_eq!(fault_of(body.as_bytes()), Some(fault), "{body}");
    }
    let many: String = (0..40).map(|n| format!("\"k{n}\":1,")).collect();
    let repeated = CALL.replace("{}", &format!("{{{many}\"k7\":2}}"));
    assert_eq!(fault_of(repeated.as_bytes()), Some(Fault::DuplicateKey), "also in a large object");
    let fine = CALL.replace("{}", &format!("{{{many}\"last\":2}}"));
    assert_eq!(fault_of(fine.as_bytes()), None);
    let long = CALL.replace("safe", &"n".repeat(129));
    assert_eq!(fault_of(long.as_bytes()), Some(Fault::InvalidParams));
}

#[test]
fn a_refusal_carries_the_id_wherever_it_stands() {
    let body = br#"{"jsonrpc":"2.0","method":"tools/call","params":[],"id":"x"}"#;
    let rejection = read(body, &Limits::default(), &mut Scratch::new(0)).expect_err("params are a list");
    assert_eq!((rejection.fault, rejection.id), (Fault::InvalidParams, Some("\"x\"")));
}

#[test]
fn nesting_is_allowed_to_64_levels() {
    let nested = |levels: usize| {
        CALL.replace("{}", &format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels)))
    };
    assert_eq!(fault_of(nested(61).as_bytes()), None);
    assert_eq!(fault_of(nested(62).as_bytes()), Some(Fault::TooDeep));
    assert_eq!(fault_of(nested(100_000).as_bytes()), Some(Fault::TooDeep));
}

fn headers<'a>(more: &[(&'a str, &'a str)]) -> Result<RequestHeaders<'a>, Fault> {
    let base = [
        (":method", "POST"),
        (":path", "/mcp"),
        (":authority", "h"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    let kept = base.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    let all: Vec<(&'a [u8], &'a [u8])> =
        kept.chain(more.iter().copied()).map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    RequestHeaders::collect(all.into_iter())
}

/// A body, headers beyond or in place of the usual ones, and what is wrong with them together.
type Story<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<Fault>);

fn story(body: &str, more: &[(&str, &str)]) -> Option<Fault> {
    let headers = match headers(more) {
        Ok(headers) => headers,
        Err(fault) => return Some(fault),
    };
    let limits = Limits::default();
    let mut scratch = Scratch::new(0);
    let message = read(body.as_bytes(), &limits, &mut scratch).expect("readable");
    check_media(&headers).err().or_else(|| agree(&headers, &message).err())
}

#[test]
fn headers_and_body_tell_one_story() {
    let modern = CALL.replace(
        "\"arguments\":{}",
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#,
    );
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/call");
    let name = |value| ("mcp-name", value);
    let cases: Vec<Story<'_>> = vec![
        (&modern, vec![version, method, name("safe")], None),
        (&modern, vec![version, method, name("=?base64?c2FmZQ==?=")], None),
        (&modern, vec![version, method, name("=?base64?c2FmZQ?=")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, method, name("=?BASE64?c2FmZQ==?=")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, method, name("danger")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, method], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, name("safe")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, ("mcp-method", "TOOLS/CALL"), name("safe")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, version, method, name("safe")], Some(Fault::HeaderMismatch)),
        (&modern, vec![version, method, name("safe"), name("danger")], Some(Fault::HeaderMismatch)),
        (&modern, vec![("mcp-protocol-version", "2025-11-25")], Some(Fault::HeaderMismatch)),
        (&modern, vec![], Some(Fault::HeaderMismatch)),
        (CALL, vec![version, method, name("safe")], Some(Fault::MissingMeta)),
        (CALL, vec![], None),
        (CALL, vec![name("safe")], None),
        (CALL, vec![name("danger")], Some(Fault::HeaderMismatch)),
        (CALL, vec![("mcp-protocol-version", "2026-07-28, 2025-11-25")], Some(Fault::UnsupportedVersion)),
        (CALL, vec![("mcp-protocol-version", "")], Some(Fault::UnsupportedVersion)),
        (CALL, vec![("mcp_name", "safe")], Some(Fault::InvalidHeader)),
        (CALL, vec![("mcp-session-id", "a"), ("mcp-session-id", "b")], Some(Fault::RepeatedHeader)),
        (CALL, vec![("mcp-session-id", "")], Some(Fault::InvalidHeader)),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, vec![("mcp-session-id", "a")], None),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, vec![], Some(Fault::InvalidShape)),
        (CALL, vec![("content-type", "application/json; charset=utf-16")], Some(Fault::ContentType)),
        (CALL, vec![("content-type", "APPLICATION/JSON; charset=UTF-8")], None),
        (CALL, vec![("content-encoding", "identity")], None),
        (CALL, vec![("content-encoding", "gzip, identity")], Some(Fault::ContentEncoding)),
        (CALL, vec![("accept", "application/json, text/event-stream;q=0")], Some(Fault::NotAcceptable)),
        (CALL, vec![("accept", "*/*")], Some(Fault::NotAcceptable)),
        (CALL, vec![("origin", "null")], Some(Fault::Origin)),
        (CALL, vec![("origin", "https://h")], None),
        (CALL, vec![(":method", "PUT")], Some(Fault::HttpMethod)),
        (CALL, vec![("x-http-method-override", "GET")], Some(Fault::HttpMethod)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, vec![name("safe")], Some(Fault::HeaderMismatch)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#, vec![], Some(Fault::MethodRemoved)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#, vec![], Some(Fault::InvalidParams)),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{}}"#,
            vec![],
            Some(Fault::InvalidParams),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#,
            vec![version, ("mcp-method", "initialize")],
            Some(Fault::MethodRemoved),
        ),
    ];
    for (body, more, fault) in cases {
        assert_eq!(story(body, &more), fault, "{more:?} {body}");
    }
}

#[test]
fn what_a_decision_needs_is_read() {
    let body = br#"{"params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"}},"method":"completion/complete","id":"q","jsonrpc":"2.0"}"#;
    let message = read(body, &Limits::default(), &mut Scratch::new(0)).expect("fine");
    assert_eq!(
        (message.kind, message.method, message.id),
        (Kind::Request, Method::CompletionComplete, Some("\"q\""))
    );
    assert!(message.reference.is_some());
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a:b","c:\u0064"]}}}"#;
    let message = read(body, &Limits::default(), &mut Scratch::new(0)).expect("fine");
    let uris: Vec<&str> = message.subscriptions.iter().map(sallyport_mcp_wire::Text::as_str).collect();
    assert_eq!(uris, ["a:b", "c:d"]);
}
