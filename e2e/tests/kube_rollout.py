"""What pods run is changed, by canary, and pods end while they are used."""

import contextlib
import threading
import time

import ground
from fixtures import mcp_image
from ground import ALLOW, call, identity
from harness import test, until
from kubernetes import NODE

NEEDS = NODE
SLOW_CALLS = 6


class Rollouts:
    """Servers in a namespace of this module, each named after it."""

    def __init__(self, cluster):
        self.ways = contextlib.ExitStack()
        self.ground, self.cluster = ground.routed(cluster), cluster
        self.log_tail = self.ground.log_tail
        self.namespace = self.ways.enter_context(cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}))

    def server(self, name, **more):
        """Its name, and the address of its Service."""
        name = f"{self.namespace}-{name}"
        self.ground.server(self.namespace, name, **more)
        self.ground.grant(self.namespace, name, f"{name}-agent")
        self.ground.session(self.namespace, name, f"{name}-sess")
        self.ground.settled(self.namespace, name)
        return name

    def call(self, address, name, tool="list"):
        return call(address, f"/{name}/mcp", identity(f"{name}-sess"), tool)

    def texts(self, address, name, calls=12):
        """What the server's pods answer; each call is a connection of its own, and may meet any pod."""
        return {self.call(address, name) for _ in range(calls)}

    def pods(self, name):
        return self.ground.pods(self.namespace, f"mcpruntime.org/server={name}")

    def status(self, name):
        return self.cluster.get(f"{ground.OURS}/{self.namespace}/mcpservers/{name}")["status"]

    def stop(self):
        self.ways.close()


def start(cluster):
    return Rollouts(cluster)


def image(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


def both(first, second):
    return {(ALLOW, first), (ALLOW, second)}


@test
def a_new_image_runs_on_the_canary_until_it_is_promoted_and_goes_when_it_is_rolled_back(rollouts):
    canary = {"strategy": "Canary", "canaryReplicas": 1}
    name = rollouts.server("tried", rollout=canary)
    namespace, cluster, ground_ = rollouts.namespace, rollouts.cluster, rollouts.ground
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    with cluster.reach(namespace, f"service/{name}", 80) as address:
        assert rollouts.texts(address, name) == {(ALLOW, "1")}
        callers = [(identity(f"{name}-sess"), "list", ALLOW), (identity(), "list", "missing_session")]
        with ground_.steady(namespace, name, callers) as traffic:
            began = time.monotonic()
            change(rollouts, name, "2")
            until(lambda: rollouts.texts(address, name) == both("1", "2"), 60, "both tracks answer")
            assert image(cluster.get(f"{deployments}/{name}")) == mcp_image.reference("1")
            assert image(cluster.get(f"{deployments}/{name}-canary")) == mcp_image.reference("2")
            recorded = lambda: {event["payload"]["rollout_track"] for event in ground_.events(server=name, decision="allow")}  # noqa: E731
            until(lambda: recorded() == {"stable", "canary"}, 30, "events of both tracks")

            ground_.sallyport("server", "promote", f"{namespace}/{name}")
            until(lambda: rollouts.texts(address, name) == {(ALLOW, "2")}, 90, "the canary's image everywhere")
            assert image(cluster.get(f"{deployments}/{name}")) == mcp_image.reference("2")
            until(lambda: "RolloutPromoted" in told(cluster, namespace, name), 30, "the event of the promotion")

            change(rollouts, name, "1")
            until(lambda: rollouts.texts(address, name) == both("1", "2"), 60, "the next canary")
            ground_.sallyport("server", "rollback", f"{namespace}/{name}")
            until(lambda: rollouts.texts(address, name) == {(ALLOW, "2")}, 90, "no canary")
            until(lambda: "RolloutRolledBack" in told(cluster, namespace, name), 30, "the event of the rollback")
            print(f"    {traffic.expect_right(began)}")


def change(rollouts, name, version):
    status, answer = rollouts.ground.patch(rollouts.namespace, "mcpservers", name, {"image": mcp_image.reference(version)})
    assert status == 200, answer


def told(cluster, namespace, name):
    """Reasons of the Kubernetes events about an object."""
    events = cluster.get(f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name={name}")["items"]
    return {event["reason"] for event in events}


@test
def a_server_starts_when_its_gateway_is_ready(rollouts):
    name = rollouts.server("ordered", replicas=1)
    pod = rollouts.pods(name)[0]
    log = rollouts.cluster.kubectl("logs", pod["metadata"]["name"], "--container", name, "--namespace", rollouts.namespace)
    # What the server saw when it began.
    assert log.splitlines()[0] == "gateway: HTTP/1.1 200 OK", log
    [gateway], [server] = pod["status"]["initContainerStatuses"], pod["status"]["containerStatuses"]
    assert (gateway["name"], gateway["started"]) == ("mcp-gateway", True), gateway
    began = [one["state"]["running"]["startedAt"] for one in [gateway, server]]
    assert began == sorted(began), f"gateway and server: {began}"


@test
def a_gateway_that_ends_brings_its_calls_and_its_events_to_their_end(rollouts):
    name = rollouts.server("ended")
    namespace, cluster = rollouts.namespace, rollouts.cluster
    with cluster.reach(namespace, f"service/{name}", 80) as address:
        callers = [(identity(f"{name}-sess"), "list", ALLOW), (identity(), "list", "missing_session")]
        with rollouts.ground.steady(namespace, name, callers) as traffic:
            began, slow = time.monotonic(), []
            threads = [threading.Thread(target=lambda: slow.append(rollouts.call(address, name, "slow"))) for _ in range(SLOW_CALLS)]
            for thread in threads:
                thread.start()
            # They are under way when the pod is told to end: the server keeps them for seconds.
            until(lambda: busy(rollouts, name), what="slow calls in both pods")
            victim = rollouts.pods(name)[0]["metadata"]["name"]
            cluster.kubectl("delete", "pod", victim, "--namespace", namespace, "--wait=false")
            for thread in threads:
                thread.join(30)
            assert slow == [(ALLOW, "1")] * SLOW_CALLS, slow
            until(lambda: cluster.get(f"/api/v1/namespaces/{namespace}/pods/{victim}") is None, 60, "the pod is gone")
            rollouts.ground.settled(namespace, name)
            counts = traffic.expect_right(began)
        calls = len(traffic.calls) + SLOW_CALLS
    print(f"    {counts}, and {SLOW_CALLS} slow ones")
    until(lambda: recorded(rollouts.ground, name) == calls, 30, f"an event of each of {calls} calls")
    assert rollouts.ground.api("GET", "stats")[1]["missing"] == 0


def busy(rollouts, name):
    """Whether each pod has a slow call at its server, as its processes show."""
    running = rollouts.cluster.own.run("ps", "-eo", "args").count(f"sleep {mcp_image.SLOW_SECONDS}")
    return running >= SLOW_CALLS


def recorded(ground_, name):
    """How many calls of this server the record has."""
    cursor, count = None, 0
    while True:
        page = ground_.api("GET", f"events/filter?limit=1000&server={name}" + (f"&cursor={cursor}" if cursor else ""))[1]
        count += sum(event["payload"].get("phase") in ("complete", "decision") for event in page["events"])
        cursor = page["next"]
        if not cursor:
            return count
