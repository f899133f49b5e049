"""What the scale bench has in the API server: servers, each with its share of grants, sessions and pods."""

import time

from api_client import custom

NAMESPACES = 20
# A token must outlive the state that is kept between runs of the bench.
TOKEN_SECONDS = 7 * 86_400


class Objects:
    """Servers `s0` and so on, spread over namespaces; ids of the others come round."""

    def __init__(self, api, sizes):
        self.api, self.sizes = api, sizes

    def place(self, server):
        return f"scale-{server % min(NAMESPACES, self.sizes.servers)}", f"s{server}"

    def of_server(self, number):
        """The place of the server that the number-th grant, session or pod belongs to."""
        return self.place(number % self.sizes.servers)

    def make(self, system):
        namespaces = {self.place(server)[0] for server in range(self.sizes.servers)} | {system}
        self.api.all(lambda name: self.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}}), namespaces)
        for label, count, make in [
            ("servers", self.sizes.servers, self.server),
            ("grants", self.sizes.grants, self.grant),
            ("sessions", self.sizes.sessions, self.session),
        ]:
            began = time.monotonic()
            self.api.all(make, range(count))
            took = time.monotonic() - began
            print(f"{count} {label} made in {took:.1f} s ({count / took:.0f}/s)", flush=True)

    def create(self, namespace, kind, plural, name, spec):
        body = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.api.ask("POST", custom(namespace, plural), body)

    def server(self, number):
        namespace, name = self.place(number)
        tools = [{"name": "list_invoices", "sideEffect": "read"}, {"name": "refund", "sideEffect": "write", "requiredTrust": "medium"}]
        spec = {"image": "localhost/none:1", "gateway": {"enabled": True}, "session": {"required": True}, "tools": tools}
        self.create(namespace, "MCPServer", "mcpservers", name, spec)

    def grant(self, number):
        namespace, server = self.of_server(number)
        subject = {"humanID": f"user-{number}"}
        spec = {"serverRef": {"name": server}, "subject": subject, "maxTrust": "high", "allowedSideEffects": ["read", "write"]}
        self.create(namespace, "MCPAccessGrant", "mcpaccessgrants", f"g{number}", spec)

    def session(self, number):
        namespace, server = self.of_server(number)
        subject = {"humanID": f"user-{number % self.sizes.grants}", "agentID": f"agent-{number}"}
        spec = {"serverRef": {"name": server}, "subject": subject, "consentedTrust": "medium", "expiresAt": "2099-01-01T00:00:00Z"}
        self.create(namespace, "MCPAgentSession", "mcpagentsessions", f"session-{number}", spec)

    def tokens(self):
        """A line of name and token for each proxy: a pod of the API alone, and a token that is bound to it."""
        began = time.monotonic()
        self.api.all(lambda number: self.account(*self.place(number)), range(self.sizes.servers))
        pod = lambda number: self.token(*self.of_server(number), number)  # noqa: E731
        lines = self.api.all(pod, range(self.sizes.proxies))
        print(f"{self.sizes.proxies} pods and tokens made in {time.monotonic() - began:.1f} s", flush=True)
        return "".join(lines)

    def account(self, namespace, server):
        """The server's own, as the operator makes it later: pods of a bench are there before."""
        owner = self.api.ask("GET", custom(namespace, "mcpservers", server))
        reference = {key: owner[key] for key in ["apiVersion", "kind"]} | {"name": server, "uid": owner["metadata"]["uid"], "controller": True}
        labels = {"app.kubernetes.io/managed-by": "sallyport", "app": server, "mcpruntime.org/server": server}
        metadata = {"name": f"mcp-workload-{server}", "labels": labels, "ownerReferences": [reference]}
        self.api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": metadata})

    def token(self, namespace, server, number):
        account, pod = f"mcp-workload-{server}", f"{server}-{number}"
        spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "localhost/none:1"}]}
        made = self.api.ask("POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": pod}, "spec": spec})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": made["metadata"]["uid"]}
        request = {"spec": {"audiences": ["sallyport"], "expirationSeconds": TOKEN_SECONDS, "boundObjectRef": bound}}
        answer = self.api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
        return f"{namespace}/{pod}\t{answer['status']['token']}\n"
