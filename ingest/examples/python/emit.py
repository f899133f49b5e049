"""A client of the ingest: sends a chain of events, one batch with Emit and the rest with EmitStream, and ends when all of them
are durable. Where the ingest has no room it waits, and sends again. Needs the packages of requirements.txt; the .proto file is read as the program starts.

    python emit.py --ca .sallyport/tls/ca.crt --token-file .sallyport/proxy/token
"""

import argparse
import collections
import os
import pathlib
import queue
import sys
import time

import grpc
from blake3 import blake3
from google.rpc import error_details_pb2
from grpc_status import rpc_status

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


def patiently(call):
    """Calls, and where the ingest has no room or is away waits as it says and calls again."""
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
                raise
            time.sleep(pause(error))


def pause(error):
    """Seconds until it is worth trying again: what the status says (RetryInfo), or a second."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return retry.retry_delay.ToTimedelta().total_seconds()
    return 1


def stream(stub, metadata, chain, events, batch, waiting):
    """Sends up to `events` with at most WINDOW requests unanswered. Those are in `waiting`, which a stream that ended leaves behind:
    the next one begins with them, and the ingest passes over what it has."""
    requests, sent, answered = queue.Queue(), 0, 0
    answers = stub.EmitStream(iter(requests.get, None), metadata=metadata)
    try:
        while waiting or chain.seq < events:
            unanswered = sent - answered
            if unanswered == len(waiting) and unanswered < WINDOW and chain.seq < events:
                waiting.append(chain.batch(min(batch, events - chain.seq)))
            if unanswered < min(WINDOW, len(waiting)):
                requests.put(waiting[unanswered])
                sent += 1
                continue
            answer = next(answers)
            for _ in range(answer.requests - answered):
                waiting.popleft()
            durable, answered = answer.durable_seq, answer.requests
        return durable
    finally:
        requests.put(None)


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
        first = chain.batch(min(arguments.batch, arguments.events))
        durable = patiently(lambda: stub.Emit(first, metadata=metadata)).durable_seq
        if durable < arguments.events:
            waiting = collections.deque()
            durable = patiently(lambda: stream(stub, metadata, chain, arguments.events, arguments.batch, waiting))
    if durable != arguments.events:
        sys.exit(f"{durable} of {arguments.events} events are durable")
    print(f"{durable} events are durable")


if __name__ == "__main__":
    main()
