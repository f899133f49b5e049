"""Calls from outside enter by a real Traefik, through the Ingresses that the operator makes, and meet the gateway."""

import contextlib

import ground
from fixtures import mcp_image
from ground import ALLOW, call, identity, stands
from harness import ask, test, until
from kubernetes import NODE

NEEDS = NODE
# What Traefik says of a place that no Ingress names. A gateway says it in other words.
NOWHERE = (404, b"404 page not found\n")
SELDOM = "seldom"


class Entrance:
    """Three servers, called `hosted` (a host and a path of its own), `open` (its own path on any host) and `direct`, and
    Traefik, which lets calls in."""

    def __init__(self, cluster):
        self.ways = contextlib.ExitStack()
        self.ground, self.cluster = ground.ground(cluster), cluster
        self.log_tail = self.ground.log_tail
        try:
            self.outside = self.ways.enter_context(cluster.traefik())
            restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
            self.namespace = self.ways.enter_context(cluster.namespace(restricted))
            self.furnish()
        except BaseException:
            self.ways.close()
            raise

    def furnish(self):
        self.host = f"{self.namespace}.test"
        self.paths = {"hosted": "/tools/mcp", "open": f"/{self.namespace}/mcp", "direct": mcp_image.PATH}
        for name, more in [
            ("hosted", {"ingressHost": self.host}),
            # No controller serves this class yet.
            ("open", {"ingressClass": SELDOM}),
            ("direct", {"ingressHost": f"direct.{self.host}", "gateway": {"enabled": False}}),
        ]:
            self.ground.server(self.namespace, name, replicas=1, ingressPath=self.paths[name], **more)
        for name in ["hosted", "open"]:
            self.ground.grant(self.namespace, name, name)
            self.ground.session(self.namespace, name, name)
            self.ground.settled(self.namespace, name)
            self.ground.proven(self.namespace, "mcpagentsessions", name)
        self.ready("hosted")
        until(lambda: self.call("hosted", self.host) == (ALLOW, "1"), what="the first call")

    def ready(self, name):
        """Waits until the server is all that it shall be, by the address that Traefik writes into the Ingress's status."""
        path = f"{ground.OURS}/{self.namespace}/mcpservers/{name}"
        return self.cluster.until(path, lambda found: stands(found, "IngressReady", "Ready"), 30)

    def call(self, name, host, path=None, headers=None):
        """What becomes of a call that arrives at Traefik for `host`."""
        caller = identity(name) if headers is None else headers
        return call(self.outside, path or self.paths[name], {**caller, "host": host})

    def look(self, host, path):
        return ask(self.outside, "GET", path, headers={"host": host})

    def condition(self, name, kind):
        found = self.cluster.get(f"{ground.OURS}/{self.namespace}/mcpservers/{name}")["status"]["conditions"]
        return next((one["status"], one["reason"]) for one in found if one["type"] == kind)

    def stop(self):
        self.ways.close()


def start(cluster):
    return Entrance(cluster)


@test
def a_call_from_outside_reaches_a_server_by_its_host_and_path_alone(entrance):
    assert entrance.call("hosted", entrance.host) == (ALLOW, "1")
    for host, path in [
        ("other.test", "/tools/mcp"),
        (f"sub.{entrance.host}", "/tools/mcp"),
        (entrance.host, "/hosted/mcp"),
        (entrance.host, "/tools"),
        (entrance.host, "/toolsmcp"),
    ]:
        assert entrance.look(host, path) == NOWHERE, f"{host}{path}"
    # What lies below its path is the gateway's to refuse.
    assert entrance.call("hosted", entrance.host, path="/tools/mcp/below")[0] == "no_route"


@test
def a_server_without_a_host_is_reached_by_its_path_once_a_controller_serves_its_class(entrance):
    assert entrance.condition("open", "IngressReady") == ("False", "NoAddress")
    assert entrance.condition("open", "Ready") == ("False", "NoAddress")
    assert entrance.look("any.test", entrance.paths["open"]) == NOWHERE
    status, answer = entrance.ground.patch(entrance.namespace, "mcpservers", "open", {"ingressClass": "traefik"})
    assert status == 200, answer
    entrance.ready("open")
    for host in ["any.test", f"{entrance.host}:8000", "[::1]"]:
        until(lambda host=host: entrance.call("open", host) == (ALLOW, "1"), what=f"a call by path on {host}")
    # On a host that has a server of its own as well.
    assert entrance.call("open", entrance.host) == (ALLOW, "1")
    assert entrance.look("any.test", "/open/mcp") == NOWHERE


@test
def who_is_refused_is_refused_from_outside_too(entrance):
    assert entrance.call("hosted", entrance.host, headers=identity())[0] == "missing_session"
    assert entrance.call("hosted", entrance.host, headers=identity("hosted", human="thief"))[0] == "session_not_found"
    for revoked, outcome in [(True, "session_revoked"), (False, ALLOW)]:
        assert entrance.ground.patch(entrance.namespace, "mcpagentsessions", "hosted", {"revoked": revoked})[0] == 200
        entrance.ground.proven(entrance.namespace, "mcpagentsessions", "hosted")
        assert entrance.call("hosted", entrance.host)[0] == outcome


@test
def a_server_with_oauth_is_asked_what_protects_it(entrance):
    place = (entrance.host, f"/.well-known/oauth-protected-resource{entrance.paths['hosted']}")
    assert entrance.look(*place) == NOWHERE, "there is no such path without oauth"
    auth = {"mode": "oauth", "issuerURL": "https://issuer.example.com"}
    for given, leads, outcome in [(auth, True, "oauth_provider_unavailable"), ({"mode": "header"}, False, ALLOW)]:
        assert entrance.ground.patch(entrance.namespace, "mcpservers", "hosted", {"auth": given})[0] == 200
        until(lambda leads=leads: (entrance.look(*place) != NOWHERE) == leads, what=f"whether the path leads to the gateway: {leads}")
        entrance.ready("hosted")
        assert entrance.call("hosted", entrance.host)[0] == outcome


@test
def a_server_in_direct_mode_is_reached_without_a_verdict_and_says_so(entrance):
    entrance.ready("direct")
    host = f"direct.{entrance.host}"
    until(lambda: entrance.call("direct", host, headers={}) == (ALLOW, "1"), what="a call of nobody")
    for kind in ["Enforced", "GatewayReady", "PolicyReady"]:
        assert entrance.condition("direct", kind) == ("False", "DirectMode"), kind
    pod = entrance.ground.pods(entrance.namespace, "mcpruntime.org/server=direct")[0]
    assert not pod["spec"].get("initContainers"), "no gateway runs"
    # Inside of the cluster as well, by its Service.
    with entrance.cluster.reach(entrance.namespace, "service/direct", 80) as address:
        assert call(address, mcp_image.PATH, {}) == (ALLOW, "1")
