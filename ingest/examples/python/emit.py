"""A client of the ingest: sends a chain of events, one batch with Emit and the rest with EmitStream, and ends when all of them
are durable. Needs the packages of requirements.txt; the .proto file is read as the program starts.

    python emit.py --ca .sallyport/tls/ca.crt --token-file .sallyport/proxy/token
"""

import argparse
import os
import pathlib
import queue
import sys
import threading
import time

import grpc
from blake3 import blake3

PROTOS = pathlib.Path(__file__).resolve().parents[3] / "crates/audit-proto/proto"
sys.path.append(str(PROTOS))
messages, services = grpc.protos_and_services("sallyport/audit/v1/audit.proto")

# Requests that may wait for their answer.
WINDOW = 8


class Chain:
    """This worker of this run of this sender."""

    def __init__(self, name, worker=0):
        self.name, self.worker, self.epoch = name, worker, time.time_ns()
        self.seq = 0
        self.hash = blake3(f"sallyport-chain-v1\n{name}\n{worker}\n{self.epoch}".encode()).digest()

    def batch(self, count):
        events = [self.event() for _ in range(count)]
        return messages.EmitRequest(proxy=self.name, worker=self.worker, epoch=self.epoch, events=events)

    def event(self):
        """The next event, as the bytes that its successor names by their hash."""
        self.seq += 1
        now = time.time_ns()
        event = messages.AuditEvent(
            seq=self.seq, prev_hash=self.hash, phase=messages.PHASE_COMPLETE, time_unix_nanos=now,
            event_id=(now // 1_000_000).to_bytes(6, "big") + os.urandom(10), server="example", namespace="default",
            agent_id="example-client", rpc_method="tools/call", tool_name="emit_from_python", allowed=True, reason="allowed",
        )
        encoded = event.SerializeToString()
        self.hash = blake3(encoded).digest()
        return encoded


def stream(stub, metadata, chain, events, batch):
    """Sends up to `events` with at most WINDOW requests unanswered, and gives the highest durable sequence."""
    window, requests = threading.Semaphore(WINDOW), queue.Queue()

    def sender():
        while chain.seq < events:
            window.acquire()
            yield chain.batch(min(batch, events - chain.seq))
        requests.get()

    durable = answered = 0
    for answer in stub.EmitStream(sender(), metadata=metadata):
        window.release(answer.requests - answered)
        durable, answered = answer.durable_seq, answer.requests
        if durable == events:
            requests.put(None)
    return durable


def main():
    parser = argparse.ArgumentParser(description="Sends events to the audit ingest.")
    parser.add_argument("--address", default="127.0.0.1:18001")
    parser.add_argument("--ca", required=True, help="certificate that the ingest's own is signed with")
    parser.add_argument("--server-name", default="sallyport-control-plane", help="name in its certificate")
    parser.add_argument("--name", default="standalone", help="who speaks: the name behind the token")
    parser.add_argument("--token-file", required=True)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=100, help="events of a batch, at most 8192")
    arguments = parser.parse_args()

    credentials = grpc.ssl_channel_credentials(pathlib.Path(arguments.ca).read_bytes())
    options = [("grpc.ssl_target_name_override", arguments.server_name)]
    metadata = [("authorization", f"Bearer {pathlib.Path(arguments.token_file).read_text().strip()}")]
    with grpc.secure_channel(arguments.address, credentials, options) as channel:
        stub = services.AuditIngestStub(channel)
        chain = Chain(arguments.name)
        answer = stub.Emit(chain.batch(min(arguments.batch, arguments.events)), metadata=metadata)
        durable = answer.durable_seq
        if durable < arguments.events:
            durable = stream(stub, metadata, chain, arguments.events, arguments.batch)
    if durable != arguments.events:
        sys.exit(f"{durable} of {arguments.events} events are durable")
    print(f"{durable} events are durable")


if __name__ == "__main__":
    main()
