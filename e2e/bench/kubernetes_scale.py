"""What the operator costs and how soon it tells, at size: servers, grants and sessions in a real API server (etcd and
kube-apiserver, no pods), and a generator of proxies that speaks our delta xDS, each proxy with a service-account token of its
own over TLS. `make bench-kubernetes-scale` runs it; `--proxies` and the others make it smaller.

It goes in steps, and what a step leaves in the API server is kept below `--state`, so that each can be run alone (`--step`):
`objects` makes them; `fill` starts an operator, which makes each server's objects and writes all statuses; `measure` starts
another one on that, as after an upgrade.

Beside the states lie profiles of the operator: where its time goes when it is settled, and its heap at the end.

All share this machine's cores: what is told as the operator's own is its CPU time and its memory, and the time of the others is
told beside it."""

import argparse
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from api_client import GROUP, ApiClient, Etcd, custom  # noqa: E402
from cluster.control_plane import ControlPlane  # noqa: E402
from harness import ROOT, until  # noqa: E402
from parts import SYSTEM, Cores, Generator, Operator, certificate_authority, find, install, percentiles, settle  # noqa: E402
from scale_objects import Objects  # noqa: E402

SIZES = {"servers": 1000, "grants": 10_000, "sessions": 100_000, "proxies": 10_000}

class Bench:
    """One step: an API server on what the step before left, an operator, and proxies."""

    def __init__(self, sizes, saved=None):
        self.sizes = sizes
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-scale-"))
        self.plane = ControlPlane(saved)
        self.api = ApiClient(self.plane.kubeconfig, connections=16)
        self.objects = Objects(self.api, sizes)
        self.everywhere = sizes.proxies // sizes.servers
        self.operator = self.generator = None

    def start(self, tokens, *options):
        """An operator, and the proxies as soon as it is ready. Tells how long they took."""
        plane = self.plane.running
        self.warm(plane["kube-apiserver"])
        began = time.monotonic()
        self.operator = Operator(self.plane.kubeconfig, self.folder, "--profiling", *options)
        until(self.operator.is_ready, 300, "the operator's readiness")
        ready = time.monotonic() - began
        certificate_authority(self.api, self.folder / "ca.pem")
        self.generator = Generator(self.operator, self.folder / "ca.pem", tokens)
        programs = {"operator": self.operator.process, "proxies": self.generator.process}
        self.cores = Cores(**programs, apiserver=plane["kube-apiserver"], etcd=plane["etcd"])
        wanted = self.sizes.proxies
        until(lambda: self.generator.state["complete"] >= wanted, 300, f"{wanted} complete proxies")
        took = time.monotonic() - began
        print(f"cold start until {wanted} proxies are complete: {took:.1f} s, of which {ready:.1f} s until the operator was ready")
        print(f"CPU time since then: {self.cores}; failed attempts of proxies: {self.generator.state['failures']}")
        print(self.operator.memory(), flush=True)

    def warm(self, apiserver):
        """Waits until the API server has read what it was started on, which it does when it is first asked: an operator
        restarts without it."""
        for kind in ["mcpservers", "mcpaccessgrants", "mcpagentsessions"]:
            self.api.ask("GET", f"{GROUP}/{kind}?limit=1")
        while True:
            cores = Cores(apiserver=apiserver)
            time.sleep(3)
            if cores.used("apiserver") < 0.6:
                return

    def stop(self):
        for part in [self.generator, self.operator]:
            if part is not None:
                part.stop()
        self.plane.stop()
        shutil.rmtree(self.folder)


def make_objects(bench, state):
    install(bench.plane, bench.api)
    bench.objects.make(SYSTEM)
    state.mkdir(parents=True, exist_ok=True)
    (state / "tokens").write_text(bench.objects.tokens())
    bench.plane.save(state / "objects")


def fill(bench, state):
    """The first operator of all. It may write statuses as fast as it can: how long that takes at a rate is told by the rate."""
    bench.start(state / "tokens", "--status-writes-per-second=2000")
    began = time.monotonic()

    def written():
        return bench.operator.metric("sallyport_operator_status_writes_total", 'result="written"')

    at_first = written()
    settle(bench.operator, 1500)
    took = time.monotonic() - began
    print(f"{written() - at_first:.0f} statuses written in {took:.0f} s; CPU time since the beginning: {bench.cores}")
    print(bench.operator.memory(), flush=True)
    bench.plane.save(state / "filled")


def measure(bench, state):
    bench.start(state / "tokens")
    settle(bench.operator, 300)
    idle(bench, 60)
    revocations(bench)
    new_server(bench)
    patches(bench)
    churn(bench)
    print(bench.operator.memory(), flush=True)
    # Last, since to name what is in them takes memory itself.
    bench.operator.save("profile?seconds=30", state / "settled.folded")
    bench.operator.save("heap", state / "heap.pb.gz")


def idle(bench, seconds):
    writes = "sallyport_operator_status_writes_total"
    cores, before = Cores(**bench.cores.processes), bench.operator.metric(writes)
    time.sleep(seconds)
    share = cores.used("operator") / seconds
    print(f"settled: {share * 100:.1f} % of a core; {bench.operator.metric(writes) - before:.0f} statuses written in {seconds} s; CPU time: {cores}")
    print(bench.operator.memory(), flush=True)


def revocations(bench, count=500):
    """Withdraws sessions one by one. From the event of a watch of our own until the last of the server's proxies has it."""
    seen, objects, generator = {}, bench.objects, bench.generator
    watching = threading.Event()

    def watch():
        for event in bench.api.watch("/apis/mcpruntime.org/v1alpha1/mcpagentsessions", watching.set):
            metadata = event["object"]["metadata"]
            seen.setdefault(f"{metadata['namespace']}/{metadata['name']}", time.time())

    threading.Thread(target=watch, daemon=True).start()
    assert watching.wait(10)
    from_watch, from_patch = [], []
    before, cores = generator.state["updates"], Cores(operator=bench.operator.process)
    for number in range(min(count, bench.sizes.sessions)):
        namespace, _ = objects.of_server(number)
        name = f"{namespace}/session-{number}"
        began = time.time()
        bench.api.patch(custom(namespace, "mcpagentsessions", f"session-{number}"), {"revoked": True})
        until(lambda: len(generator.reached[name]) >= bench.everywhere and name in seen, 10, f"{name} at its proxies")
        last = max(times[0] for times in generator.reached[name].values())
        from_watch.append(last - seen[name])
        from_patch.append(last - began)
    strangers = 0
    for number in range(len(from_patch)):
        namespace, server = objects.of_server(number)
        reached = generator.reached[f"{namespace}/session-{number}"]
        strangers += sum(not proxy.startswith(f"{namespace}/{server}-") for proxy in reached)
    print(f"revocation, from the watch event to all {bench.everywhere} proxies: {percentiles(from_watch)}")
    print(f"revocation, from before the patch to all {bench.everywhere} proxies: {percentiles(from_patch)}")
    spent = cores.used("operator") / len(from_patch)
    told = generator.state["updates"] - before
    print(f"proxies of other servers that were told: {strangers}; told in all: {told}; the operator's CPU: {spent * 1e3:.1f} ms each", flush=True)


def new_server(bench, count=20):
    """From the making of a server to its Deployment; and from a proxy's start after that to its complete state."""
    deployed, served = [], []
    for number in range(bench.sizes.servers, bench.sizes.servers + count):
        namespace, server = bench.objects.place(number)
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{server}"
        began = time.monotonic()
        bench.objects.server(number)
        until(lambda: find(bench.api, path), 30, f"the Deployment {server}")
        deployed.append(time.monotonic() - began)
        token = bench.folder / "token"
        token.write_text(bench.objects.token(namespace, server, number))
        began = time.monotonic()
        proxy = Generator(bench.operator, bench.folder / "ca.pem", token)
        until(lambda: proxy.state["complete"], 30, f"a complete proxy of {server}")
        served.append(time.monotonic() - began)
        proxy.stop()
    print(f"new server, from before its making to its Deployment: {percentiles(deployed)}")
    print(f"a proxy of it, from its start to its complete state: {percentiles(served)}", flush=True)


def patches(bench, seconds=10):
    """Changes of grants through the API server, as many as it takes beside all else on this machine."""
    bench_grants = bench.sizes.grants
    before, cores, began = bench.generator.state["updates"], Cores(**bench.cores.processes), time.monotonic()

    def change(number):
        if time.monotonic() > began + seconds:
            return False
        namespace, _ = bench.objects.of_server(number % bench_grants)
        path = custom(namespace, "mcpaccessgrants", f"g{number % bench_grants}")
        bench.api.patch(path, {"maxTrust": "low" if number // bench_grants % 2 == 0 else "high"})
        return True

    changes = sum(bench.api.all(change, range(seconds * 2000)))
    report(bench, "patches of grants by the API server", changes, before, cores, began)


def churn(bench, seconds=30, rate=1000, at_once=10):
    """Changes of grants at a rate, which go into etcd itself, some in each transaction: two cores have no time for so many
    requests to the API server. It tells of each change, to us as to everybody who watches."""
    etcd = Etcd(bench.plane.etcd)
    grants = list(etcd.objects("mcpruntime.org/mcpaccessgrants").items())
    before, cores, began = bench.generator.state["updates"], Cores(**bench.cores.processes), time.monotonic()

    def change(first):
        changed = {}
        for number in range(first, first + at_once):
            key, grant = grants[number % len(grants)]
            grant["spec"]["maxTrust"] = "medium" if number // len(grants) % 2 == 0 else "low"
            grant["metadata"]["generation"] += 1
            changed[key] = grant
        time.sleep(max(0, began + first / rate - time.monotonic()))
        etcd.put(changed)

    changes = seconds * rate
    list(etcd.workers.map(change, range(0, changes, at_once)))
    report(bench, "changes of grants", changes, before, cores, began)


# So long nothing comes when everything has.
QUIET = 20


def report(bench, what, changes, before, cores, began):
    ended, took = time.monotonic(), time.monotonic() - began
    told, since = bench.generator.state["updates"], ended
    # A change that waits while the next of its object comes is told with that one.
    while told < before + changes * bench.everywhere and time.monotonic() < since + QUIET:
        time.sleep(0.05)
        if (now := bench.generator.state["updates"]) != told:
            told, since = now, time.monotonic()
    together = 1 - (told - before) / changes / bench.everywhere
    print(f"{what}: {changes / took:.0f}/s for {took:.1f} s; the last was everywhere at most {since - ended:.1f} s later;"
          f" {together:.1%} were told to a proxy together with a later one")
    print(f"CPU time meanwhile: {cores}; the operator's: {cores.used('operator') / changes * 1e3:.2f} ms a change", flush=True)


# What each needs and makes.
STEPS = {"objects": (None, "objects", make_objects), "fill": ("objects", "filled", fill), "measure": ("filled", None, measure)}


def main():
    # What was started is ended, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--state", type=pathlib.Path, default=ROOT / "target/bench-kubernetes", help="folder of what is kept between runs")
    parser.add_argument("--step", choices=STEPS, help="only this step; what it needs must be there")
    sizes = parser.parse_args()
    state = sizes.state / "-".join(str(getattr(sizes, name)) for name in SIZES)
    # A file for each connection, on both sides.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The API server and etcd hold all of the objects: collecting garbage whenever there is as much of it again is most of what
    # they do on two cores.
    os.environ.setdefault("GOGC", "400")
    for step in [sizes.step] if sizes.step else STEPS:
        needs, makes, run = STEPS[step]
        if sizes.step is None and makes and (state / makes).exists():
            continue
        bench = Bench(sizes, needs and state / needs)
        try:
            run(bench, state)
        except BaseException:
            log = bench.folder / "operator.log"
            print(log.read_text()[-3000:] if log.exists() else "")
            raise
        finally:
            bench.stop()


if __name__ == "__main__":
    sys.exit(main())
