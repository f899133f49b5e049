"""Both samples behind a gateway, with the servers they name and official SDK clients to call them."""

import json

import servers
from harness import IDENTITY, ROOT, Gateway
from typescript import TypeScript

LEGACY, MODERN = "2025-11-25", "2026-07-28"
# Who calls: header values of the sessions in config/samples.
OPS = IDENTITY
REPORT = {"x-mcp-human-id": "user-123", "x-mcp-agent-id": "report-agent", "x-mcp-agent-session": "sess-report"}
EVERYTHING = {**IDENTITY, "x-mcp-agent-session": "sess-everything"}


class Callers:
    """Who calls, and who consents: needs `typescript`, `url(server)` and the control API."""

    def connect(self, sdk, era, identity, server="payments"):
        """An SDK client of `server` through the gateway."""
        return self.typescript.connect(sdk, era, self.url(server), identity)

    def consent(self, name, trust):
        """The user consents `sess-ops`, or another session of the operations agent on payments, to `trust`."""
        session = {
            "name": name, "namespace": "mcp-servers", "serverRef": {"name": "payments"}, "consentedTrust": trust,
            "subject": {"humanID": OPS["x-mcp-human-id"], "agentID": OPS["x-mcp-agent-id"]},
            "expiresAt": "2099-12-31T23:59:00Z", "policyVersion": "v1",
        }
        status, answer = self.api("POST", "runtime/sessions", session)
        assert status in (200, 201), answer
        return answer


class Samples(Callers, Gateway):
    """`upstream_ports` are of the payments and of the reference server; free ones by default, as `ports` are."""

    def __init__(self, ports=None, upstream_ports=(None, None)):
        self.upstreams = []
        try:
            self.payments = self.keep(servers.payments(upstream_ports[0]))
            self.everything = self.keep(servers.everything(upstream_ports[1]))
            self.typescript = self.keep(TypeScript())
            super().__init__(ROOT / "config/samples", self.place, ports, without=["first-generation"])
        except BaseException:
            self.stop_upstreams()
            raise

    def keep(self, upstream):
        self.upstreams.append(upstream)
        return upstream

    def place(self, text):
        text = text.replace("127.0.0.1:8088/mcp", f"127.0.0.1:{self.payments.port}/mcp")
        return text.replace("127.0.0.1:8089/mcp", f"127.0.0.1:{self.everything.port}/mcp")

    def decides(self):
        """A worker that has not served yet learns its grants on its first tick: each must have."""
        ready = [self.request("GET", "/.sallyport/ready")[0] == 200 for _ in range(8)]
        return all(ready)

    def url(self, server):
        return f"http://127.0.0.1:{self.ports['listen']}/{server}/mcp"

    def stop(self):
        super().stop()
        self.stop_upstreams()

    close = stop

    def stop_upstreams(self):
        while self.upstreams:
            self.upstreams.pop().stop()


def reason_of(error):
    """The gateway's reason in what an SDK threw. The v2 client keeps the body of an HTTP error as text in the modern era."""
    data = error.data or {}
    return data["reason"] if "reason" in data else json.loads(data["text"])["error"]["data"]["reason"]
