"""What the filter costs: Envoy's CPU time per allowed `tools/call` and its throughput, with everything on (10,000 sessions,
1,000 grants, audit), beside the same Envoy with the same listener, route and cluster but no filter, and beside one whose filter
records nothing.

Envoy has one worker and core 0 for itself; load generator (h2load), upstream (nginx) and the rest share core 1. Rounds
alternate, so that a busy machine slows both alike. `make bench-filter` runs it."""

import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import ROOT, free_port, until  # noqa: E402

SALLYPORT = ROOT / "target/release/sallyport"
ENVOY = ROOT / ".cache/tools/envoy/envoy"
BODY = (
    b'{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"list_invoices","arguments":{"customer":"c-1838",'
    b'"from":"2026-01-01","status":["open","overdue"]},"_meta":{"progressToken":"p-1"}}}'
)
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "x-mcp-human-id": "user-7",
    "x-mcp-agent-id": "agent-7",
    "x-mcp-agent-session": "session-7",
}
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; default_type application/json;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{"jsonrpc":"2.0","id":42,"result":{{"content":[]}}}}'; }} }}
}}
"""


def manifests(sessions, grants, upstream):
    """A server, `grants` grants for as many people, and `sessions` sessions spread over them."""
    meta = "apiVersion: mcpruntime.org/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: bench}}\nspec:\n"
    yield meta.format(kind="MCPServer", name="bench") + (
        "  image: registry.example.com/bench\n  port: 8088\n  gateway: {enabled: true, upstreamURL: \"http://127.0.0.1:%d/mcp\"}\n"
        "  auth: {mode: header}\n  policy: {mode: allow-list, defaultDecision: deny}\n"
        "  session: {required: true, maxLifetime: 24h, idleTimeout: 1h}\n"
        "  tools: [{name: list_invoices, requiredTrust: low, sideEffect: read}]\n" % upstream
    )
    for n in range(grants):
        yield meta.format(kind="MCPAccessGrant", name=f"grant-{n}") + (
            f"  serverRef: {{name: bench}}\n  subject: {{humanID: user-{n}, agentID: agent-{n}}}\n"
            "  maxTrust: high\n  allowedSideEffects: [read]\n"
        )
    for n in range(sessions):
        yield meta.format(kind="MCPAgentSession", name=f"session-{n}") + (
            f"  serverRef: {{name: bench}}\n  subject: {{humanID: user-{n % grants}, agentID: agent-{n % grants}}}\n"
            '  consentedTrust: high\n  expiresAt: "2099-12-31T23:59:00Z"\n'
        )


def start(command, log):
    """A child on core 1."""
    return subprocess.Popen(["taskset", "-c", "1", *map(str, command)], cwd=ROOT, stdout=log, stderr=log)


def pin(pid, core):
    subprocess.run(["taskset", "-a", "-p", "-c", str(core), str(pid)], check=True, stdout=subprocess.DEVNULL)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def config_dump(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/config_dump") as answer:
        return {config["@type"].rsplit(".", 1)[1]: config for config in json.load(answer)["configs"]}


def own_parts(dump, port):
    """The running Envoy's own listener and upstream clusters, as files have them."""
    listener = dump["ListenersConfigDump"]["dynamic_listeners"][0]["active_state"]["listener"]
    routes = dump["RoutesConfigDump"]["dynamic_route_configs"][0]["route_config"]
    clusters = [entry["cluster"] for entry in dump["ClustersConfigDump"]["dynamic_active_clusters"]]
    for message in [listener, routes, *clusters]:
        del message["@type"]  # where the type is known, the file must not name it
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = routes
    listener["address"]["socket_address"]["port_value"] = port
    return listener, manager, clusters


def bare_config(dump, port):
    """That with the router as the only filter."""
    listener, manager, clusters = own_parts(dump, port)
    manager["http_filters"] = [f for f in manager["http_filters"] if "router" in f["name"]]
    assert len(manager["http_filters"]) == 1, "the listener has a router"
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def silent_config(dump, port, admin):
    """That with the same filter, which follows the control plane and records nothing: its configuration names no ingest."""
    listener, manager, clusters = own_parts(dump, port)
    bootstrap = dump["BootstrapConfigDump"]["bootstrap"]
    del bootstrap["dynamic_resources"]
    bootstrap["node"] = {"id": bootstrap["node"]["id"], "cluster": bootstrap["node"]["cluster"]}
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = admin
    bootstrap["static_resources"]["listeners"] = [listener]
    bootstrap["static_resources"]["clusters"] += clusters
    wasm = dump["EcdsConfigDump"]["ecds_filters"][0]["ecds_filter"]["typed_config"]
    configuration = wasm["config"]["configuration"]
    configuration["value"] = without_field(base64.b64decode(configuration["value"]), AUDIT_CLUSTER)
    for place in manager["http_filters"]:
        if place.pop("config_discovery", None):
            place["typed_config"] = wasm
    return bootstrap


# Number of the field in sallyport.policy.v1.FilterConfig.
AUDIT_CLUSTER = 4


def without_field(message, unwanted):
    """An encoded protobuf message without a field of its own, in base64."""
    kept, at = b"", 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        start = at
        number, kind = divmod(varint(), 8)
        length = varint()
        assert kind in (0, 2), "varints and what has a length is all there is"
        at += length if kind == 2 else 0
        kept += b"" if number == unwanted else message[start:at]
    return base64.b64encode(kept).decode()


def load(port, requests, connections):
    headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    body = pathlib.Path(tempfile.gettempdir()) / f"sallyport-bench-{os.getpid()}"
    body.write_bytes(BODY)
    command = ["taskset", "-c", "1", "h2load", "--h1", "-t1", "-c", str(connections), "-n", str(requests), "-d", str(body), *headers]
    try:
        told = subprocess.run([*command, f"http://127.0.0.1:{port}/bench/mcp"], capture_output=True, text=True, check=True).stdout
    finally:
        body.unlink()
    passed = int(re.search(r"status codes: (\d+) 2xx", told)[1])
    assert passed == requests, f"{requests - passed} of {requests} calls were not allowed:\n{told}"
    return float(re.search(r"([\d.]+) req/s", told)[1])


def measure(side, requests, connections):
    before = cpu_seconds(side["pid"])
    rate = load(side["port"], requests, connections)
    side["rates"].append(rate)
    side["cpu"].append((cpu_seconds(side["pid"]) - before) / requests * 1e6)


def median(values):
    return sorted(values)[len(values) // 2]


def report(sides):
    print(f"\n{'':<14}{'CPU per request, us':>28}{'requests/s':>30}")
    for name, side in sides.items():
        cpu, rates = side["cpu"], side["rates"]
        print(f"{name:<14}{median(cpu):>12.1f} ({min(cpu):.1f} to {max(cpu):.1f}){median(rates):>18.0f} ({min(rates):.0f} to {max(rates):.0f})")
    bare, silent, full = sides["no filter"], sides["audit off"], sides["everything on"]
    pairs = sorted(f / b for f, b in zip(full["cpu"], bare["cpu"]))
    rates = sorted(f / b for f, b in zip(full["rates"], bare["rates"]))
    print(f"\nCPU        {median(pairs):.2f} x no filter, median of {len(pairs)} pairs ({pairs[0]:.2f} to {pairs[-1]:.2f}); goal: at most 1.30")
    record = sorted(f / s for f, s in zip(full["cpu"], silent["cpu"]))
    print(f"the record {median(record):.3f} x audit off ({record[0]:.3f} to {record[-1]:.3f}); goal: at most 1.05")
    print(f"throughput {median(rates):.2f} x no filter ({rates[0]:.2f} to {rates[-1]:.2f}); goal: at least 0.77")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=60_000, help="calls in a round, each side")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--wasm", default=ROOT / "target/wasm/sallyport_filter.wasm", help="another module to measure")
    parser.add_argument("--grants", type=int, default=1_000)
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
    children = []
    try:
        run(args, folder, children)
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
            child.wait(20)
        shutil.rmtree(folder)


def run(args, folder, children):
    log = open(folder / "log", "w")
    upstream = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=upstream))
    children.append(start(["nginx", "-c", folder / "nginx.conf", "-p", folder], log))
    (folder / "config").mkdir()
    (folder / "config/all.yaml").write_text("---\n".join(manifests(args.sessions, args.grants, upstream)))
    flags = ["listen", "api", "envoy-admin", "xds", "ingest", "operator-admin", "ingest-admin"]
    ports = {flag: free_port() for flag in flags}
    command = [SALLYPORT, "up", "--concurrency", "1", "--wasm", args.wasm, "--config", folder / "config", "--data", folder / "data"]
    stack = start(command + [f"--{flag}=127.0.0.1:{port}" for flag, port in ports.items()], log)
    children.append(stack)

    def ready():
        assert stack.poll() is None, (folder / "log").read_text()
        return "ready in" in (folder / "log").read_text()

    def allowed():
        request = urllib.request.Request(f"http://127.0.0.1:{ports['listen']}/bench/mcp", BODY, HEADERS)
        try:
            return urllib.request.urlopen(request).status == 200
        except OSError:
            return False

    until(ready, 30, "everything is ready")
    until(allowed, 60, "the first verdict")
    bare, silent = free_port(), free_port()

    def envoy(name, config):
        (folder / name).write_text(json.dumps(config))
        children.append(start([ENVOY, "-c", folder / name, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"], log))
        return children[-1].pid

    plain = envoy("bare.json", bare_config(config_dump(ports["envoy-admin"]), bare))
    mute = envoy("silent.json", silent_config(config_dump(ports["envoy-admin"]), silent, free_port()))
    pid = json.loads((folder / "data/run.json").read_text())["children"]["envoy"]
    sides = {
        "no filter": {"pid": plain, "port": bare, "cpu": [], "rates": []},
        "audit off": {"pid": mute, "port": silent, "cpu": [], "rates": []},
        "everything on": {"pid": pid, "port": ports["listen"], "cpu": [], "rates": []},
    }
    for side in sides.values():
        pin(side["pid"], 0)
        until(lambda: load_once(side["port"]), 30, "Envoy answers")
        load(side["port"], args.requests // 4, args.connections)
    for n in range(args.rounds):
        order = list(sides.values())
        for side in order if n % 2 == 0 else reversed(order):
            measure(side, args.requests, args.connections)
        print(f"round {n + 1}: " + ", ".join(f"{name} {side['cpu'][-1]:.1f} us" for name, side in sides.items()), flush=True)
    report(sides)


def load_once(port):
    try:
        return load(port, 1, 1)
    except (AssertionError, subprocess.CalledProcessError, TypeError):
        return False


if __name__ == "__main__":
    main()
