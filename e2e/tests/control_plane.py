"""Manifests, the control API, and a control plane that goes away."""

import json
import os
import signal

from harness import until, test


@test
def a_bad_manifest_is_reported_and_changes_nothing(stack):
    path = stack.config / "access.yaml"
    before = path.read_text()
    path.write_text(before.replace("maxTrust: high", "maxTrust: hihg", 1))
    problems = until(lambda: stack.api("GET", "runtime/components")[1]["problems"]["files"], what="problem is told")
    assert problems[0]["path"] == "spec.maxTrust" and "did you mean `high`?" in problems[0]["message"], problems
    assert stack.call("list_invoices")[0] == 200
    path.write_text(before)
    until(lambda: not stack.api("GET", "runtime/components")[1]["problems"]["files"], what="problem is gone")


@test
def the_api_wants_a_key_and_tells_what_is_wrong(stack):
    assert stack.api("GET", "runtime/grants", key="wrong")[0] == 401
    assert stack.api("GET", "nothing")[0] == 404
    grant = {"name": "g", "namespace": "mcp-servers", "serverRef": {"name": "nobody"}, "subject": {"humanID": "h"}}
    status, answer = stack.api("POST", "runtime/grants", grant)
    assert status == 400 and "unknown serverRef" in answer["message"], answer
    status, answer = stack.api("POST", "runtime/grants", {**grant, "maxTrst": "low"})
    assert status == 400 and "did you mean `maxTrust`?" in answer["message"], answer
    summary = stack.api("GET", "dashboard/summary")[1]
    assert summary["active_grants"] == 2 and summary["total_events"] > 0, summary


@test
def the_control_plane_tells_who_is_connected(stack):
    status, answer = stack.request("GET", "/v1/proxies", port="operator-admin")
    proxies = json.loads(answer)["proxies"]
    assert status == 200 and all(proxy["proxy"] == "standalone" for proxy in proxies), proxies
    assert sum(proxy["kind"] == "filter" for proxy in proxies) == 3, "two workers and the main thread"


@test
def without_its_control_plane_traffic_goes_on_and_it_heals(stack):
    before = stack.run_json()["children"]["operator"]
    os.kill(before, signal.SIGKILL)
    for _ in range(50):
        assert stack.call("list_invoices")[0] == 200
    until(lambda: stack.run_json()["children"].get("operator") not in (None, before), what="control plane is back")
    until(lambda: sum(p["kind"] == "filter" for p in stack.api("GET", "runtime/components")[1]["proxies"]["proxies"]) >= 3, 20, "filters are back")
    done = stack.cli("session", "revoke", "mcp-servers/sess-ops")
    assert stack.reason(stack.call("list_invoices")) == "session_revoked", done
    assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
