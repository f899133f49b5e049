"""The API server, asked by many threads over connections that stay open: kubectl would measure itself."""

import base64
import concurrent.futures
import http.client
import json
import pathlib
import queue
import re
import ssl
import tempfile
import urllib.parse

GROUP = "/apis/mcpruntime.org/v1alpha1"


class ApiClient:
    """The API server of a kubeconfig with one client certificate."""

    def __init__(self, kubeconfig, connections=8):
        text = pathlib.Path(kubeconfig).read_text()

        def field(name):
            return re.search(rf'{name}: "?([^",}}\s]+)', text)[1]

        self.address = urllib.parse.urlsplit(field("server"))
        self.context = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
        with tempfile.NamedTemporaryFile("wb") as both:
            both.write(base64.b64decode(field("client-certificate-data")) + base64.b64decode(field("client-key-data")))
            both.flush()
            self.context.load_cert_chain(both.name)
        self.free = queue.LifoQueue()
        for _ in range(connections):
            self.free.put(self.connect())
        self.workers = concurrent.futures.ThreadPoolExecutor(connections)

    def connect(self, timeout=120):
        return http.client.HTTPSConnection(self.address.hostname, self.address.port, context=self.context, timeout=timeout)

    def ask(self, method, path, body=None, media="application/json"):
        """The answer's object. Anything but success is an error, except that an object may be there already."""
        connection = self.free.get()
        try:
            try:
                answer = self.send(connection, method, path, body, media)
            except (http.client.RemoteDisconnected, OSError):
                # The API server closed it while nobody asked.
                connection.close()
                answer = self.send(connection, method, path, body, media)
            text = answer.read().decode()
        finally:
            self.free.put(connection)
        assert answer.status < 300 or (method == "POST" and answer.status == 409), text
        return json.loads(text)

    def send(self, connection, method, path, body, media):
        connection.request(method, path, None if body is None else json.dumps(body), {"content-type": media})
        return connection.getresponse()

    def patch(self, path, spec):
        return self.ask("PATCH", path, {"spec": spec}, "application/merge-patch+json")

    def all(self, function, items):
        """`function` of each item, as many at once as there are connections."""
        return list(self.workers.map(function, items))

    def watch(self, path, begun):
        """Events of a list from now on, one at a time; calls `begun` when they will come."""
        start = self.ask("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        connection = self.connect()
        connection.request("GET", f"{path}?watch=1&resourceVersion={start}")
        answer = connection.getresponse()
        begun()
        for line in answer:
            yield json.loads(line)


class Etcd:
    """What the API server keeps, changed behind its back: it tells its watchers, and takes no time to judge requests."""

    def __init__(self, url, connections=8):
        self.address = urllib.parse.urlsplit(url).netloc
        self.free = queue.LifoQueue()
        for _ in range(connections):
            self.free.put(http.client.HTTPConnection(self.address, timeout=60))
        self.workers = concurrent.futures.ThreadPoolExecutor(connections)

    def ask(self, method, body):
        connection = self.free.get()
        try:
            connection.request("POST", f"/v3/kv/{method}", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            self.free.put(connection)
        assert answer.status == 200, text
        return json.loads(text)

    def objects(self, prefix):
        """Objects by their keys."""
        first = f"/registry/{prefix}/".encode()
        body = {"key": base64.b64encode(first).decode(), "range_end": base64.b64encode(first[:-1] + b"0").decode()}
        return {kv["key"]: json.loads(base64.b64decode(kv["value"])) for kv in self.ask("range", body)["kvs"]}

    def put(self, changed):
        """Writes objects by their keys, each once, in one transaction: all that watch are told of each for itself."""
        value = lambda found: base64.b64encode(json.dumps(found).encode()).decode()  # noqa: E731
        puts = [{"requestPut": {"key": key, "value": value(found)}} for key, found in changed.items()]
        self.ask("txn", {"success": puts})


def custom(namespace, kind, name=""):
    """The path of one of our objects, or of their list."""
    return f"{GROUP}/namespaces/{namespace}/{kind}/{name}".rstrip("/")
