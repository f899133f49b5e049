"""What fails, and what goes on: two replicas of the operator, two of a server, and calls all the while."""

import contextlib
import datetime
import random
import tempfile
import time

import ground
from changes import Changes
from fixtures import mcp_image, shifted_image
from ground import ALLOW, LOST, SYSTEM, call, identity
from harness import test, until
from kubernetes import NODE

NEEDS = NODE
# How long the API server is away.
AWAY_SECONDS = 60
KILLS = 6
ALLOWED = (identity("sess"), "list", ALLOW)
CALLERS = [
    ALLOWED,
    ALLOWED,
    (identity("gone"), "list", "session_revoked"),
    (identity(), "list", "missing_session"),
    (identity("sess"), "drop", "side_effect_not_allowed"),
]


class Scene:
    """A server under steady calls."""

    def __init__(self, cluster):
        self.ways = contextlib.ExitStack()
        self.ground = ground.routed(cluster)
        self.cluster, self.log_tail = cluster, self.ground.log_tail
        try:
            self.furnish()
        except BaseException:
            self.ways.close()
            raise

    def furnish(self):
        self.namespace = self.ways.enter_context(self.cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}))
        # Two servers must not have one path, not even one of a run before that is about to go.
        self.server = self.namespace
        self.ground.server(self.namespace, self.server)
        self.ground.grant(self.namespace, self.server, "agent")
        self.ground.session(self.namespace, self.server, "sess")
        self.ground.session(self.namespace, self.server, "gone", revoked=True)
        self.ground.settled(self.namespace, self.server)
        self.ground.proven(self.namespace, "mcpagentsessions", "gone")
        self.address = self.ways.enter_context(self.cluster.reach(self.namespace, f"service/{self.server}", 80))
        until(lambda: call(self.address, f"/{self.server}/mcp", identity("sess"))[0] == ALLOW, what="the first call")
        self.traffic = self.ways.enter_context(self.ground.steady(self.namespace, self.server, CALLERS))

    @contextlib.contextmanager
    def changing(self):
        """Grants and sessions change all the while, and come to the wanted end."""
        changes = Changes(self.ground, self.namespace, self.server, self.address)
        try:
            yield changes
            print("   ", changes.finish())
        finally:
            changes.stop()

    def gateways(self):
        return self.ground.pods(self.namespace, f"mcpruntime.org/server={self.server}")

    def running(self):
        """Every container of ours with how often it was started."""
        pods = self.gateways() + self.ground.pods(SYSTEM, "")
        return sorted(
            (pod["metadata"]["uid"], status["name"], status["restartCount"])
            for pod in pods
            for status in pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
        )

    def stop(self):
        self.ways.close()


def start(cluster):
    return Scene(cluster)


@test
def an_operator_that_is_killed_at_any_moment_allows_nothing_that_was_withdrawn(scene):
    began = time.monotonic()
    with scene.changing():
        for number in range(KILLS):
            time.sleep(random.uniform(0.2, 3))
            if number % 3 == 0:
                kill(scene, "sallyport operator", None if number else 1)
                continue
            victim = random.choice(until(scene.ground.operators, 30, "a replica to kill"))["metadata"]["name"]
            scene.cluster.kubectl("delete", "pod", victim, "--namespace", SYSTEM, "--force", "--grace-period=0", "--ignore-not-found")
    print("   ", scene.traffic.expect_right(began))
    rolled_out(scene)


def kill(scene, pattern, count=None):
    """SIGKILL for processes whose command line is like this."""
    found = scene.cluster.own.run("pgrep", "--full", pattern).split()
    assert found, pattern
    scene.cluster.own.run("kill", "-KILL", *random.sample(found, count or len(found)))


def rolled_out(scene):
    scene.cluster.kubectl("rollout", "status", "--namespace", SYSTEM, "deployment/sallyport-operator", "--timeout=90s")


@test
def both_replicas_are_swapped_without_a_gap(scene):
    began, before = time.monotonic(), scene.ground.leader()
    old = {pod["metadata"]["uid"] for pod in scene.ground.operators()}
    with scene.changing():
        scene.cluster.kubectl("rollout", "restart", "--namespace", SYSTEM, "deployment/sallyport-operator")
        rolled_out(scene)
        until(lambda: not old & {pod["metadata"]["uid"] for pod in scene.ground.operators()}, 60, "the old replicas are gone")
        until(lambda: scene.ground.leader() not in ("", before), 30, "another one leads")
    print("   ", scene.traffic.expect_right(began))


@test
def a_gateway_that_is_killed_enforces_before_it_is_ready_again(scene):
    began, away = time.monotonic(), []
    for victim in scene.gateways():
        name = victim["metadata"]["name"]
        before = chains(scene, name)
        killed = time.monotonic()
        met = killed_and_watched(scene, name)
        away.append((killed, time.monotonic()))
        until(lambda name=name, before=before: chains(scene, name) - before, 30, "the next chain of its record")
        print(f"    {met}")
    scene.ground.settled(scene.namespace, scene.server)
    # Calls under way at a gateway that is killed are cut, and those that the Service sends there until the node has noticed.
    print("   ", scene.traffic.expect_right(began, away))


def chains(scene, name):
    """Runs of this pod's gateway that the newest events are of."""
    found = [event["payload"].get("chain", {}) for event in scene.ground.events(server=scene.server)]
    return {chain["epoch"] for chain in found if chain.get("proxy") == f"{scene.namespace}/{name}"}


def killed_and_watched(scene, name):
    """Kills the gateway of this pod, and gives what its callers met until it was ready again, in order."""
    path = f"/api/v1/namespaces/{scene.namespace}/pods/{name}"
    before = scene.cluster.get(path)
    address, met = (before["status"]["podIP"], 8091), []
    kill(scene, f"service-node {scene.namespace}/{name} ")
    ready = False
    deadline = time.monotonic() + 60
    while not ready:
        assert time.monotonic() < deadline, f"{name} does not come back: {met}"
        outcome = call(address, f"/{scene.server}/mcp", identity("sess"), timeout=2)[0]
        refused = call(address, f"/{scene.server}/mcp", identity("gone"), timeout=2)[0]
        assert refused in (LOST, "state_syncing", "session_revoked"), f"{refused} for who was withdrawn"
        if not met or met[-1] != outcome:
            met.append(outcome)
        ready = is_ready_again(scene.cluster.get(path), before)
    return met


def is_ready_again(now, before):
    count = lambda pod: pod["status"]["initContainerStatuses"][0]["restartCount"]  # noqa: E731
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in now["status"]["conditions"])
    return ready and count(now) > count(before)


@test
def certificates_authority_and_tokens_are_replaced_under_calls(scene):
    began, node = time.monotonic(), scene.cluster.own
    before = secrets_of(scene)
    with scene.changing():
        # Whoever stole them is left with nothing: the authority, and the account that all tokens so far are of.
        scene.cluster.kubectl("delete", "secret", "sallyport-ca", "--namespace", SYSTEM)
        scene.cluster.kubectl("delete", "serviceaccount", f"mcp-workload-{scene.server}", "--namespace", scene.namespace)
        until(lambda: all(secrets_of(scene).get(name) not in (None, old) for name, old in before.items()), 60, "new certificates")
        accounts = f"/api/v1/namespaces/{scene.namespace}/serviceaccounts/mcp-workload-{scene.server}"
        scene.cluster.until(accounts, lambda _: True, 60)
        # It fetches tokens anew when it starts, and else at four fifths of their life.
        node.run("pkill", "--signal", "KILL", "--exact", "kubelet")
        until(lambda: all(is_known(scene, token_of(node, pod)) for pod in scene.gateways()), 60, "new tokens in the pods")
        # All streams are opened anew, with what is there now.
        scene.cluster.kubectl("rollout", "restart", "--namespace", SYSTEM, "deployment/sallyport-operator")
        rolled_out(scene)
    scene.ground.settled(scene.namespace, scene.server)
    print("   ", scene.traffic.expect_right(began))


def secrets_of(scene):
    """Certificates by the name of their Secret."""
    names = ["sallyport-ca", "sallyport-operator-tls", "sallyport-ingest-tls"]
    found = {name: scene.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{name}") for name in names}
    return {name: secret["data"]["tls.crt"] for name, secret in found.items() if secret}


def token_of(node, pod):
    """The token that the kubelet keeps for the gateway of this pod."""
    folder = node.state / "kubelet/pods" / pod["metadata"]["uid"] / "volumes/kubernetes.io~projected/gateway-token"
    return node.run("cat", folder / "token")


def is_known(scene, token):
    """Whether the API server knows whose token this is."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": ["sallyport"]}}
    return scene.cluster.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)[1]["status"].get("authenticated", False)


@test
def verdicts_go_on_while_the_api_server_and_etcd_are_away(scene):
    node, began, running = scene.cluster.own, time.monotonic(), scene.running()
    name = "until-the-return"
    scene.ground.session(scene.namespace, scene.server, name)
    until(lambda: call(scene.address, f"/{scene.server}/mcp", identity(name))[0] == ALLOW, what="the session")
    with node.without("etcd"), node.without("kube-apiserver"):
        until(lambda: time.monotonic() - began > AWAY_SECONDS, AWAY_SECONDS + 5, "the time")
        during = scene.traffic.expect_right(began)
    back = time.monotonic()
    until(lambda: withdrawn(scene, name), 60, "the API server is back")
    written = time.monotonic()
    until(lambda: call(scene.address, f"/{scene.server}/mcp", identity(name))[0] == "session_revoked", 60, "the withdrawal")
    print(f"    {during}; the first write {written - back:.1f} s after the return, in force {time.monotonic() - written:.2f} s later")
    scene.ground.proven(scene.namespace, "mcpagentsessions", name)
    until(scene.ground.leader, 30, "a leader")
    scene.traffic.expect_right(began)
    assert scene.running() == running, "something was restarted"
    node.refresh()


def withdrawn(scene, name):
    # `kubectl proxy` answers in words of its own until it finds the API server again.
    with contextlib.suppress(OSError, ValueError):
        return scene.ground.patch(scene.namespace, "mcpagentsessions", name, {"revoked": True})[0] == 200


@test
def clocks_that_are_an_hour_wrong_decide_nothing_but_when_a_session_ends(scene):
    began, namespace = time.monotonic(), scene.namespace
    with tempfile.TemporaryDirectory() as folder:
        gateways = [shifted_image.archive("sallyport-envoy", hours, folder) for hours in [1, -1]]
        scene.cluster.load(*gateways, shifted_image.archive("sallyport", 1, folder))
    # By the right clock the one has half an hour left, the other ended as long ago.
    for hours, minutes, outcome in [(1, 30, "session_expired"), (-1, -30, ALLOW)]:
        server = f"{namespace}-{'ahead' if hours > 0 else 'behind'}"
        url = f"http://127.0.0.1:{mcp_image.PORT}{mcp_image.PATH}"
        gateway = {"enabled": True, "upstreamURL": url, "image": shifted_image.reference("sallyport-envoy", hours)}
        scene.ground.server(namespace, server, replicas=1, gateway=gateway)
        scene.ground.grant(namespace, server, server)
        scene.ground.session(namespace, server, server)
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
        scene.ground.session(namespace, server, f"{server}-ends", expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
        scene.ground.settled(namespace, server)
        with scene.cluster.reach(namespace, f"service/{server}", 80) as address:
            ask = lambda session, server=server, address=address: call(address, f"/{server}/mcp", identity(session))[0]  # noqa: E731
            until(lambda ask=ask, server=server: ask(server) == ALLOW, 30, "the first call")
            until(lambda ask=ask, server=server, outcome=outcome: ask(f"{server}-ends") == outcome, 30, f"{hours:+} h: {outcome}")
            assert scene.ground.patch(namespace, "mcpagentsessions", server, {"revoked": True})[0] == 200
            scene.ground.proven(namespace, "mcpagentsessions", server)
            assert ask(server) == "session_revoked"
    deployment = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/sallyport-operator"
    right = scene.cluster.get(deployment)["spec"]["template"]["spec"]["containers"][0]["image"]
    before = secrets_of(scene)
    with scene.changing():
        for image in [shifted_image.reference("sallyport", 1), right]:
            scene.cluster.kubectl("set", "image", "--namespace", SYSTEM, "deployment/sallyport-operator", f"operator={image}")
            rolled_out(scene)
            if image != right:
                # What those make whose clock is ahead counts for all others already.
                scene.cluster.kubectl("delete", "secret", "sallyport-ca", "--namespace", SYSTEM)
                until(lambda: all(secrets_of(scene).get(name) not in (None, old) for name, old in before.items()), 60, "new certificates")
    print("   ", scene.traffic.expect_right(began))
