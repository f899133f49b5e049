"""Ports for programs that are told where to listen."""

import contextlib
import itertools
import random
import socket

# Below those that outgoing connections get: one of them would take a port between its being found free and its use, or while
# the program that has it is away. Each process begins elsewhere.
_ports = itertools.cycle(random.sample(range(20_000, 30_000), 10_000))


def free_port():
    """A port of this machine that nobody listens at; none is given twice within a process."""
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port from 20000 to 29999 is free")
