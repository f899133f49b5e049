"""The record by way of Kafka and ClickHouse, as `config/overlays/kafka` installs it. Both are real, beside the node, at the
machine's end of its link: reached over TLS, with passwords, at their usual ports, as brokers and databases elsewhere are."""

import collections
import concurrent.futures
import json
import pathlib
import shutil
import tempfile

from clickhouse import READER, WRITER, ClickHouse
from demo_kubernetes import SYSTEM, Installed
from ground import stands
from harness import ROOT, test, until
from kafka import Kafka
from kubernetes import NODE, LeftOut
from samples import MODERN, OPS, REPORT
from tests.kube_cluster import is_ready
from typescript import SdkError

NEEDS = NODE
USER = {"sallyport": "of the cluster"}
# What the calls of these tests are known by.
TEAM = "kube-audit"
# What the overlay has beyond the others, as arguments of kubectl.
ADDED = [argument for name in ("kafka", "processor") for argument in ("-f", ROOT / f"config/overlays/kafka/{name}.yaml")]
CONFIGURED = ["sallyport-kafka", "sallyport-clickhouse"]

COUNTED, THERE = "SELECT sum(events) FROM mcp.chains", "SELECT count() FROM mcp.events WHERE NOT finding"


class Recorded(Installed):
    """The payments sample before Kafka and ClickHouse. Settings are there before the installation, as docs/kubernetes.md says."""

    OVERLAY = "kafka"

    def __init__(self, cluster):
        self.kafka = self.clickhouse = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-kube-audit-"))
        super().__init__(cluster, keep=False)

    def install(self):
        address = self.cluster.own.gateway
        with concurrent.futures.ThreadPoolExecutor() as beside:
            kafka = beside.submit(self.start_kafka, address)
            self.clickhouse = ClickHouse(tls=True, at=(address, 8443))
            self.cluster.our_images()
            kafka.result()
        # Its volumes cannot be changed, and another module may have installed another overlay.
        self.system("delete", "statefulset", "sallyport-audit", "--ignore-not-found")
        self.cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}])
        self.settings()
        super().install()

    def start_kafka(self, address):
        self.kafka = Kafka(users=USER, address=address)

    def serves(self, server):
        """No ingress controller gives its Ingress an address here."""
        return stands(server, "DeploymentReady", "Enforced")

    def settings(self):
        """Where Kafka and ClickHouse are, what they ask for, and the key that seals the record."""
        (self.folder / "kafka.properties").write_text(self.kafka.client("sallyport", authority="/etc/sallyport/kafka/ca.crt"))
        self.sallyport("audit", "keygen", "--key", self.folder / "checkpoint-key.pem", "--public-key", self.folder / "public.pem")
        kafka = {"brokers": self.kafka.secure, "config": "/etc/sallyport/kafka/kafka.properties"}
        clickhouse = {"url": self.clickhouse.url, "ca": "/etc/sallyport/clickhouse/ca.crt"}
        passwords = {user: self.clickhouse.folder / f"{name}.password" for user, (name, _) in [("writer", WRITER), ("reader", READER)]}
        self.configure("sallyport-kafka", kafka, {
            "kafka.properties": self.folder / "kafka.properties", "ca.crt": self.kafka.folder / "tls/ca.crt",
        })
        self.configure("sallyport-clickhouse", clickhouse, {**passwords, "ca.crt": self.clickhouse.authority})
        key = self.folder / "checkpoint-key.pem"
        self.system("create", "secret", "generic", "sallyport-checkpoint-key", f"--from-file={key}")

    def configure(self, name, settings, files):
        self.system("create", "configmap", name, *(f"--from-literal={key}={value}" for key, value in settings.items()))
        self.system("create", "secret", "generic", name, *(f"--from-file={key}={path}" for key, path in files.items()))

    def system(self, *arguments):
        return self.cluster.kubectl("--namespace", SYSTEM, *arguments)

    # What is asked

    def calls(self, count):
        """So many calls of each outcome, which are recorded under our team."""
        ops, report = (self.connect("v2", MODERN, {**who, "x-mcp-team-id": TEAM}) for who in (OPS, REPORT))
        for _ in range(count):
            assert ops.tool("list_invoices")["structuredContent"]["invoices"]
            try:
                report.tool("refund_invoice", invoice_id="inv-1001")
            except SdkError:
                continue
            raise AssertionError("a refund that is not granted")

    def pods(self):
        """Pods of the record that are there to stay: each with whether it is ready."""
        selector = "labelSelector=app.kubernetes.io/name in (sallyport-audit,sallyport-processor)".replace(" ", "%20")
        found = self.cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods?{selector}")["items"]
        return {pod["metadata"]["uid"]: is_ready(pod) for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def told(self):
        """Our calls as the control API tells them: of each event its place in its chain, and the decision."""
        mine = [event["payload"] for event in self.events() if event["payload"].get("subject_team_id") == TEAM]
        # The outcome of a call that took long is told after its verdict, and has none of its own.
        called = [(event["chain"], event["decision"]) for event in mine if event.get("tool_name") and "decision" in event]
        return sorted((chain["proxy"], chain["worker"], chain["seq"], decision) for chain, decision in called)

    def stored(self):
        """The same in ClickHouse, row by row: what is there twice is told twice."""
        sql = f"SELECT proxy, worker, seq, decision FROM mcp.events WHERE subject_team_id = '{TEAM}' AND tool_name != '' AND decision != ''"
        return sorted(map(tuple, self.clickhouse.rows(sql, READER)))

    def balances(self, calls):
        """Waits until so many calls of each outcome are in ClickHouse, once, and told by the control API."""
        until(lambda: len(self.stored()) >= 2 * calls, 60, "every call is stored")
        stored = self.stored()
        assert len(set(stored)) == len(stored) == 2 * calls, stored
        assert self.told() == stored
        # Rows that are there twice may be merged by now; what was counted when they came is not.
        [[counted, there]] = self.clickhouse.rows(f"SELECT ({COUNTED}), ({THERE})", READER)
        assert counted == there, f"{counted} events were inserted, {there} are there"
        assert collections.Counter(decision for *_, decision in stored) == {"allow": calls, "deny": calls}, stored

    def integrity(self):
        status, answer = self.api("GET", "audit/integrity?namespace=mcp-servers&server=payments")
        assert status == 200, answer
        return answer

    def log_tail(self):
        told = [self.system("get", "pods", "--output=wide")]
        for one in ("deployment/sallyport-processor", "statefulset/sallyport-audit"):
            newest = ["logs", one, "--all-containers", "--tail=40", "--prefix", "--namespace", SYSTEM]
            told.append(self.cluster.kubectl(*newest, check=False).stdout)
        return "\n".join(told)

    def close(self):
        """Other modules install without Kafka: what they would not replace goes."""
        super().close()
        self.remove()
        for part in (self.kafka, self.clickhouse):
            if part is not None:
                part.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    stop = close

    def remove(self):
        self.cluster.kubectl("delete", "--ignore-not-found", *ADDED)
        for kind, name in [
            ("statefulset", "sallyport-audit"), ("persistentvolumeclaim", "data-sallyport-audit-0"), ("secret", "sallyport-checkpoint-key"),
        ]:
            self.system("delete", kind, name, "--ignore-not-found")


def start(cluster):
    if cluster.own is None:
        raise LeftOut("pods reach Kafka and ClickHouse at this machine's end of a node's link: a node of our own has one, as root")
    return Recorded(cluster)


# Calls of each outcome so far.
made = 0


def call(recorded, count):
    global made
    recorded.calls(count)
    made += count


@test
def every_call_is_in_clickhouse_once_and_each_stage_tells_how_far_it_is(recorded):
    call(recorded, 20)
    recorded.balances(made)
    assert list(recorded.pods().values()) == [True] * 3, "ingest and control API, and two processors"
    integrity = recorded.integrity()
    [server] = integrity["servers"]
    assert (server["missing"], server["gaps"]) == (0, []), server
    in_store = {(chain["proxy"], chain["worker"], chain["epoch"]): (chain["events"], chain["last_seq"]) for chain in server["chains"]}
    assert sum(events for events, _ in in_store.values()) >= 2 * made
    # What the ingest acknowledged is what the store has, to the last sequence of each chain.
    standing = [chain for chain in integrity["ingest"]["chains"] if chain["seq"]]
    acknowledged = {(chain["proxy"], chain["worker"], chain["epoch"]): (chain["events"], chain["seq"]) for chain in standing}
    assert in_store == acknowledged, integrity
    stages = integrity["ingest"]["stages"]
    assert [stages[name]["events"] for name in ("ring", "spool", "kafka", "store")] == [0] * 4, stages
    assert stages["delivery"]["lag_seconds"] < 1, stages
    assert recorded.kafka.count("mcp.events") == sum(events for events, _ in in_store.values())


@test
def installing_again_leaves_where_kafka_and_clickhouse_are(recorded):
    settings = lambda: [recorded.cluster.get(f"/api/v1/namespaces/{SYSTEM}/configmaps/{name}")["data"] for name in CONFIGURED]  # noqa: E731
    before, pods = settings(), recorded.pods()
    recorded.sallyport("install", "--overlay", "kafka", "--kubeconfig", recorded.cluster.kubeconfig)
    recorded.cluster.kubectl("apply", *ADDED)
    assert settings() == before and all(before), before
    assert recorded.pods() == pods, "a pod was replaced"


@test
def pods_that_are_replaced_lose_nothing_and_the_record_is_proven_whole(recorded):
    before = recorded.pods()
    [processor, _] = recorded.system("get", "pods", "--selector=app.kubernetes.io/name=sallyport-processor", "--output=name").split()
    recorded.system("delete", "--wait=false", "pod/sallyport-audit-0", processor)
    call(recorded, 10)
    replaced = lambda pods: len(pods) == 3 and all(pods.values()) and len(pods.keys() & before.keys()) == 1  # noqa: E731
    until(lambda: replaced(recorded.pods()), 60, "the pods are replaced")
    recorded.open_control()
    recorded.balances(made)
    report = json.loads(recorded.cli("audit", "verify", "--public-key", recorded.folder / "public.pem", "--output=json").stdout)
    # The ingest that went sealed what it had.
    assert report["checkpoints"] and report["events"] >= 2 * made and report["missing"] == 0, report
