"""MCP servers that run as processes of their own: the payments sample, and the reference server of the MCP project."""

import os
import socket
import subprocess

from harness import ROOT, free_port, until
from typescript import NODE, NODE_FOLDER

PAYMENTS = ROOT / "target/debug/payments-mcp"
EVERYTHING = NODE_FOLDER / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"


class Server:
    """A process that listens on `port` of loopback; ready once made."""

    def __init__(self, command, port, environment=None):
        self.port = port
        # In a session of its own, so that Ctrl-C reaches it through `stop` only.
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            until(self.is_listening, 30, f"{command[0]} listens")
        except BaseException:
            self.stop()
            raise

    def is_listening(self):
        assert self.process.poll() is None, f"{self.process.args[0]} ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def payments(port=None):
    port = port or free_port()
    return Server([PAYMENTS, "--listen", f"127.0.0.1:{port}"], port)


def everything(port=None):
    port = port or free_port()
    return Server([NODE, "--import", NODE_FOLDER / "loopback.mjs", EVERYTHING, "streamableHttp"], port, {"PORT": str(port)})
