"""What must not be recorded is nowhere: every secret of these requests is marked, and everything that leaves the proxy is
searched for the mark. The processes log at debug level for it."""

import hashlib
import json
import os
import pathlib
import tempfile

from harness import IDENTITY, MEDIA, Stack, free_port, test, until

# Every secret contains it.
MARK = "m4rk3dS3cr3t"
# What may be recorded contains it: without it the search would prove nothing.
PLAIN = "pl41nT3xt"
SOURCE_KEY = f"{MARK}-source-key"
HEADERS = {
    "authorization": f"Bearer {MARK}-token", "cookie": f"session={MARK}-cookie", "x-api-key": f"{MARK}-api-key",
    "proxy-authorization": f"Basic {MARK}-proxy", "x-mcp-token": f"{MARK}-internal", "x-custom": f"{MARK}-custom",
}
AUDIT = """
  audit:
    arguments: redacted
    redact: [/card/number, "/items/*/token", /reason]
    maxArgumentBytes: 512
"""


class PrivateStack(Stack):
    """The payments sample with redaction, and a port for events of other programs."""

    def __init__(self):
        self.keys = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-keys-")) / "keys.json"
        self.keys.write_text(json.dumps({hashlib.sha256(SOURCE_KEY.encode()).hexdigest(): "billing"}))
        self.events_port, self.api_admin = free_port(), free_port()
        options = [f"--events=127.0.0.1:{self.events_port}", "--events-plaintext", "--source-keys", self.keys]
        before = os.environ.get("SALLYPORT_LOG")
        os.environ["SALLYPORT_LOG"] = "debug"
        try:
            super().__init__([*options, f"--api-admin=127.0.0.1:{self.api_admin}"])
        finally:
            os.environ.pop("SALLYPORT_LOG")
            if before is not None:
                os.environ["SALLYPORT_LOG"] = before
        self.ports["events"], self.ports["api-admin"] = self.events_port, self.api_admin

    def place(self, text):
        return super().place(text).replace("spec:\n  image: registry.example.com/payments-mcp", f"spec:{AUDIT}  image: x")

    def send(self, team, **arguments):
        headers = {**MEDIA, **IDENTITY, **HEADERS, "x-mcp-team-id": team}
        return self.call("list_invoices", headers, **arguments)

    def recorded(self, team):
        """The event of the one request of this team."""
        mine = lambda: [e["payload"] for e in self.events(limit=50) if e["payload"].get("subject_team_id") == team]
        return until(mine, what=f"the event of {team}")[0]

    def everything(self):
        """All that processes tell or keep, but for the files that are the credentials themselves."""
        for path in sorted((self.folder / "data").rglob("*")):
            kept = path.name.startswith("events.db") or "spool" in path.parts
            if path.is_file() and kept:
                yield str(path.relative_to(self.folder)), path.read_bytes()
        yield "log", (self.folder / "log").read_bytes()
        for port, path in [("operator-admin", "/metrics"), ("ingest-admin", "/metrics"), ("api-admin", "/metrics"),
                           ("envoy-admin", "/stats"), ("envoy-admin", "/stats/prometheus"), ("operator-admin", "/v1/problems"),
                           ("operator-admin", "/v1/proxies")]:
            status, body = self.request("GET", path, port=port)
            assert status == 200, (port, path, status)
            yield f"{port}{path}", body
        yield "events", json.dumps(self.events()).encode()


def start():
    return PrivateStack()


@test
def redacted_arguments_are_recorded_without_what_the_rules_name(stack):
    card = {"number": f"{MARK}-4111", "year": 2030}
    items = [{"token": f"{MARK}-1", "name": PLAIN}, {"token": {"deep": [f"{MARK}-2"]}}]
    assert stack.send("redacted", card=card, items=items, Reason=f"{MARK}-lax")[0] == 200
    payload = stack.recorded("redacted")
    expected = {"card": {"number": "[redacted]", "year": 2030}, "Reason": "[redacted]",
                "items": [{"token": "[redacted]", "name": PLAIN}, {"token": "[redacted]"}]}
    assert payload["arguments"] == expected, payload["arguments"]
    assert len(payload["arguments_digest"]) == 64
    body = next(seen["body"] for seen in reversed(stack.upstream.seen) if b"lax" in seen["body"])
    assert json.loads(body)["params"]["arguments"]["card"] == card, "the server gets what was sent"


@test
def arguments_beyond_the_bound_leave_only_their_length(stack):
    note = f"{MARK}-{'x' * 600}"
    assert stack.send("long", note=note)[0] == 200
    length = len(json.dumps({"note": note}))
    assert stack.recorded("long")["arguments"] == f"[truncated: {length} bytes]"


@test
def denials_and_what_cannot_be_read_do_not_tell_either(stack):
    answers = [
        stack.call("refund_invoice", {**MEDIA, **IDENTITY, **HEADERS}, reason=f"{MARK}-denied"),
        stack.post(f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{MARK}'.encode(), {**MEDIA, **IDENTITY, **HEADERS}),
        stack.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_invoices", "Arguments": {"a": MARK}}},
                   {**MEDIA, **IDENTITY, **HEADERS}),
        stack.request("POST", f"/payments/mcp?token={MARK}-query", b"{}", {**MEDIA, **IDENTITY, **HEADERS}),
        stack.request("GET", "/api/v1/events", headers={"x-api-key": f"{MARK}-guess"}, port="api"),
        stack.request("POST", "/events", b"{}", {"x-api-key": f"{MARK}-unknown"}, port="events"),
    ]
    for status, body in answers:
        assert status >= 400 and MARK.encode() not in body, (status, body)


@test
def sallyport_up_takes_events_of_other_programs(stack):
    event = {"source": "billing", "event_type": "charge", "payload": {"amount": 7, "decision": "allow"}}
    body = "\n".join(json.dumps(event) for _ in range(3)).encode()
    status, answer = stack.request("POST", "/events", body, {"x-api-key": SOURCE_KEY}, port="events")
    assert (status, json.loads(answer)) == (202, {"ok": True, "accepted": 3}), answer
    until(lambda: len(stack.events(source="billing")) == 3, what="the events")


@test
def what_is_kept_follows_the_manifest(stack):
    path = next(stack.config.rglob("server.yaml"))
    text = path.read_text()

    def becomes(kept, has):
        path.write_text(text.replace(AUDIT, f"\n  audit: {{arguments: {kept}}}\n"))
        number = 0

        def seen():
            nonlocal number
            number += 1
            assert stack.send(f"{kept}-{number}", note=PLAIN)[0] == 200
            payload = stack.recorded(f"{kept}-{number}")
            return ("arguments" in payload, "arguments_digest" in payload) == has

        until(seen, what=kept)

    becomes("none", (False, False))
    becomes("digest", (False, True))
    becomes("full", (True, True))
    path.write_text(text)


@test
def no_secret_is_in_any_event_log_metric_error_or_file(stack):
    assert stack.send("last", note=PLAIN)[0] == 200
    assert stack.recorded("last")["arguments"] == {"note": PLAIN}
    everything = dict(stack.everything())
    leaks = [name for name, content in everything.items() if MARK.encode() in content]
    assert not leaks, leaks
    finds = [name for name, content in everything.items() if PLAIN.encode() in content]
    assert "events" in finds and any(name.startswith("data/events.db") for name in finds), finds
    keys = [(stack.folder / "data" / name).read_text().strip() for name in ["proxy/token", "api-key", "digest-key"]]
    told = [name for name, content in everything.items() if any(key.encode() in content for key in keys)]
    assert not told, told
    assert len(everything["log"]) > 1000 and b"DEBUG" in everything["log"]
