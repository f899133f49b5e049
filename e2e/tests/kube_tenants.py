"""Two tenants of one cluster: each has a namespace, and objects of the same names. Neither gets at the other's, nor past its own
gateway."""

import contextlib
import json
import secrets

import ground
from fixtures import mcp_image
from ground import ALLOW, call, identity
from harness import test, until
from kubernetes import NODE
from tests.kube_cluster import client, deploy

NEEDS = NODE
# Who works in the first tenant's namespace, with the cluster's own roles.
EDITOR, ADMIN = "mallory", "boss"
# The platform's own probe is let in by this name elsewhere, unrecorded.
PROBE = "mcp-runtime-live-inventory"


class Tenants:
    """Server, grant and session `same` in the namespaces `one` and `other`, told apart by host."""

    def __init__(self, cluster):
        self.ways = contextlib.ExitStack()
        self.ground, self.cluster = ground.ground(cluster), cluster
        self.log_tail = self.ground.log_tail
        self.same = f"same-{secrets.token_hex(3)}"
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.one, self.other = (self.ways.enter_context(cluster.namespace(restricted)) for _ in range(2))
        try:
            self.furnish()
        except BaseException:
            self.ways.close()
            raise

    def furnish(self):
        for namespace in [self.one, self.other]:
            self.ground.server(namespace, self.same, replicas=1, ingressHost=f"{namespace}.test")
            self.ground.grant(namespace, self.same, self.same)
            self.ground.session(namespace, self.same, self.same)
        for person, role in [(EDITOR, "edit"), (ADMIN, "admin")]:
            self.cluster.kubectl("create", "rolebinding", person, "--clusterrole", role, "--user", person, "--namespace", self.one)
        self.addresses = {}
        for namespace in [self.one, self.other]:
            self.ground.settled(namespace, self.same)
            self.ground.proven(namespace, "mcpagentsessions", self.same)
            self.addresses[namespace] = self.ways.enter_context(self.cluster.reach(namespace, f"service/{self.same}", 80))
            until(lambda namespace=namespace: self.call(namespace)[0] == ALLOW, what="the first call")

    def call(self, namespace, session=None, **caller):
        return call(self.addresses[namespace], f"/{self.same}/mcp", identity(session or self.same, **caller))

    def tried(self, person, *arguments, input=None):
        """What kubectl says when this person, in the first namespace, tries something: nothing where it is let through."""
        ended = self.cluster.kubectl("--as", person, "--namespace", self.one, *arguments, input=input, check=False)
        return ended.stderr if ended.returncode else ""

    def patched(self, person, kind, spec):
        return self.tried(person, "patch", kind, self.same, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def created(self, person, kind, name, spec):
        body = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return self.tried(person, "create", "-f", "-", input=json.dumps(body))

    def stop(self):
        self.ways.close()


def start(cluster):
    return Tenants(cluster)


@test
def equal_names_are_different_objects(tenants):
    one, other, same = tenants.one, tenants.other, tenants.same
    for namespace, plural, spec, reason in [
        (one, "mcpagentsessions", {"revoked": True}, "session_revoked"),
        (other, "mcpaccessgrants", {"disabled": True}, "grant_disabled"),
    ]:
        neighbour = other if namespace == one else one
        before = tenants.call(neighbour)[0]
        assert tenants.ground.patch(namespace, plural, same, spec)[0] == 200
        tenants.ground.proven(namespace, plural, same)
        assert (tenants.call(namespace)[0], tenants.call(neighbour)[0]) == (reason, before)
    assert tenants.ground.patch(other, "mcpaccessgrants", same, {"disabled": False})[0] == 200
    until(lambda: tenants.call(other)[0] == ALLOW, what="the grant is on again")


@test
def who_edits_cannot_lift_what_was_withdrawn(tenants):
    same = tenants.same
    assert tenants.ground.patch(tenants.one, "mcpagentsessions", same, {"revoked": True})[0] == 200
    assert "unrevoke" in tenants.patched(EDITOR, "mcpagentsession", {"revoked": False})
    assert "unrevoke" in tenants.tried(EDITOR, "delete", "mcpagentsession", same)
    assert "cannot create" in tenants.created(EDITOR, "MCPAccessGrant", "own", {"serverRef": {"name": same}, "subject": {"agentID": "agent"}})
    until(lambda: tenants.call(tenants.one)[0] == "session_revoked", what="it stays withdrawn")
    assert not tenants.patched(ADMIN, "mcpagentsession", {"revoked": False})
    until(lambda: tenants.call(tenants.one)[0] == ALLOW, what="lifted by who may")


@test
def nobody_grants_himself_a_foreign_server(tenants):
    """It is stored, for its owner may accept it yet, and has no effect, however the tenant calls it."""
    server = {"serverRef": {"name": tenants.same, "namespace": tenants.other}}
    subject = {"subject": {"humanID": "thief", "agentID": "thief"}}
    grant = {**server, **subject, "maxTrust": "high", "allowedSideEffects": ["read"]}
    assert not tenants.created(ADMIN, "MCPAccessGrant", "foreign", grant)
    session = {**server, **subject, "consentedTrust": "high", "expiresAt": "2099-12-31T23:59:00Z"}
    assert not tenants.created(ADMIN, "MCPAgentSession", "foreign", session)
    for plural in ["mcpaccessgrants", "mcpagentsessions"]:
        path = f"{ground.OURS}/{tenants.one}/{plural}/foreign"
        tenants.cluster.until(path, lambda found: found.get("status", {}).get("phase") == "Rejected")
    outcome = tenants.call(tenants.other, session="foreign", human="thief", agent="thief")[0]
    assert outcome == "session_not_found", outcome
    assert tenants.call(tenants.other)[0] == ALLOW, "and it takes nothing from others"


@test
def a_tenant_changes_neither_the_gateway_nor_what_lies_around_it(tenants):
    same, url = tenants.same, f"http://{tenants.same}.{tenants.other}"
    for what, spec in [
        ("spec.gateway.image", {"gateway": {"image": mcp_image.reference("2")}}),
        ("spec.gateway.upstreamURL", {"gateway": {"upstreamURL": url}}),
        ("spec.ingressAnnotations", {"ingressAnnotations": {"traefik.ingress.kubernetes.io/router.priority": "9"}}),
        ("which a server of another namespace has already", {"ingressHost": f"{tenants.other}.test"}),
    ]:
        assert what in tenants.patched(EDITOR, "mcpserver", spec), what
    assert not tenants.tried(EDITOR, "get", "configmap", f"{same}-gateway"), "its bootstrap is no secret"
    assert tenants.tried(EDITOR, "get", "pods", "--namespace", tenants.other), "but no other namespace is his"


@test
def a_server_is_reached_through_its_gateway_and_no_other_way(tenants):
    pod = tenants.ground.pods(tenants.one, f"mcpruntime.org/server={tenants.same}")[0]
    address = pod["status"]["podIP"]
    ports = [8091, mcp_image.PORT, 9901, 15021]
    ask = f"for port in {' '.join(map(str, ports))}; do curl -s -m 2 -o /dev/null -w \"$port %{{http_code}}\n\" http://{address}:$port/ & done; wait"
    with tenants.cluster.namespace() as third:
        deploy(tenants.cluster, tenants.one, client())
        deploy(tenants.cluster, third, client())
        for namespace in [tenants.one, third]:
            told = tenants.cluster.kubectl("exec", "--namespace", namespace, "client", "--", "sh", "-c", ask)
            answers = dict(line.split() for line in told.splitlines())
            assert answers == {"8091": "404", **{str(port): "000" for port in ports[1:]}}, f"from {namespace}: {answers}"


@test
def a_namespace_gets_no_secret_and_no_token_that_is_of_use_elsewhere(tenants):
    secrets_ = tenants.cluster.get(f"/api/v1/namespaces/{tenants.one}/secrets")["items"]
    assert secrets_ == [], [secret["metadata"]["name"] for secret in secrets_]
    pod = tenants.ground.pods(tenants.one, f"mcpruntime.org/server={tenants.same}")[0]
    mounts = [mount["mountPath"] for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", [])]
    assert mounts == [], "the server's container has no token"
    # What its gateway has is for us alone: the API server does not know who that is.
    account = f"mcp-workload-{tenants.same}"
    token = tenants.cluster.kubectl("create", "token", account, "--audience", "sallyport", "--namespace", tenants.one).strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    _, reviewed = tenants.cluster.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert not reviewed["status"].get("authenticated"), reviewed


@test
def no_name_keeps_a_caller_out_of_the_record(tenants):
    outcome = tenants.call(tenants.one, agent=PROBE)[0]
    assert outcome != ALLOW
    query = {"server": tenants.same, "decision": "deny", "limit": 100}
    until(lambda: any(event["payload"].get("agent_id") == PROBE for event in tenants.ground.events(**query)), 30, "its event")


@test
def arguments_have_one_digest_everywhere_until_the_key_of_digests_is_another(tenants):
    def digest(namespace):
        assert tenants.call(namespace)[0] == ALLOW
        newest = tenants.ground.events(namespace=namespace, server=tenants.same, decision="allow", limit=1)
        return newest[0]["payload"]["arguments_digest"] if newest else None

    def common():
        found = {digest(namespace) for namespace in [tenants.one, tenants.other]}
        return found.pop() if len(found) == 1 else None

    def pods():
        return sorted(pod["metadata"]["uid"] for n in [tenants.one, tenants.other] for pod in tenants.ground.pods(n, ""))

    before, ran = until(common, what="one digest"), pods()
    tenants.cluster.kubectl("delete", "secret", "sallyport-digest-key", "--namespace", ground.SYSTEM)
    after = until(lambda: {common()} - {None, before}, seconds=60, what="another one").pop()
    assert len(before) == len(after) == 64
    assert pods() == ran, "no gateway began anew for it"
