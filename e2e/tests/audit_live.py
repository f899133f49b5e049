"""The live view: events as they are stored, over the API and the command line."""

import http.client
import json
import queue
import socket
import subprocess
import threading
import time

from harness import IDENTITY, MEDIA, ROOT, SALLYPORT, test, until

CALLS = 30


class Live:
    """A stream of server-sent events, read in a thread: (time of arrival, id, event)."""

    def __init__(self, stack, query="", last=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", stack.ports["api"], timeout=30)
        headers = {"x-api-key": stack.key} | ({"last-event-id": last} if last else {})
        self.connection.request("GET", f"/api/v1/events/stream{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["content-type"] == "text/event-stream"
        self.events, self.comments = queue.Queue(), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.comments.get(timeout=10)

    def read(self):
        place = None
        try:
            for line in self.answer:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "id":
                    place = value
                elif field == "data":
                    self.events.put((time.monotonic(), place, json.loads(value)))
                elif field == "" and value:
                    self.comments.put(value)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass

    def next(self, team):
        """Arrival and id of the event of this team; others are passed over."""
        while True:
            arrived, place, event = self.events.get(timeout=10)
            if event["payload"].get("subject_team_id") == team:
                return arrived, place

    def close(self):
        # Wakes the thread that reads; closing would wait for it.
        self.connection.sock.shutdown(socket.SHUT_RDWR)


def call(stack, team, tool="list_invoices"):
    return stack.call(tool, {**MEDIA, **IDENTITY, "x-mcp-team-id": team})[0]


def delays(stack, calls, way=""):
    """From each of so many calls, one after the other, until its event is in the stream, in seconds, the shortest first."""
    live, times = Live(stack), []
    for number in range(calls):
        # The call has been answered by then, so the verdict is a little older than this.
        asked = time.monotonic()
        assert call(stack, f"live-{number}") == 200
        times.append(live.next(f"live-{number}")[0] - asked)
    live.close()
    times.sort()
    print(f"    {times[calls // 2] * 1000:.0f} ms in the median, {times[-1] * 1000:.0f} ms at most{way}")
    return times


@test
def an_event_is_in_the_stream_within_a_second_of_its_verdict(stack):
    times = delays(stack, CALLS)
    assert times[-1] < 1, times


@test
def a_stream_has_only_what_is_asked_for_and_goes_on_where_it_was(stack):
    denied = Live(stack, "?decision=deny&server=payments")
    everything = Live(stack)
    call(stack, "resume-1")
    # Workers have ticks of their own: what comes next shall come later.
    _, place = everything.next("resume-1")
    assert call(stack, "resume-2", "refund_invoice") == 403
    arrived = denied.events.get(timeout=10)[2]["payload"]
    assert arrived["subject_team_id"] == "resume-2", arrived
    everything.close()
    denied.close()
    again = Live(stack, last=place)
    first = again.events.get(timeout=10)[2]["payload"]
    assert first["subject_team_id"] == "resume-2", first
    again.close()


@test
def the_command_follows_and_ends_quietly_when_nobody_reads(stack):
    call(stack, "tail-before")
    until(lambda: any(e["payload"].get("subject_team_id") == "tail-before" for e in stack.events(limit=5)), what="the event")
    newest = stack.cli("audit", "tail", "-n", "1", "-o", "json")
    assert json.loads(newest.stdout)["payload"]["subject_team_id"] == "tail-before", newest
    command = [SALLYPORT, "audit", "tail", "--follow", "-n", "1", "-o", "json", "--decision", "allow"]
    process = subprocess.Popen([*command, "--data", stack.folder / "data"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        team = lambda: json.loads(process.stdout.readline())["payload"]["subject_team_id"]
        assert team() == "tail-before"
        call(stack, "tail-denied", "refund_invoice")
        call(stack, "tail-live")
        assert team() == "tail-live"
        process.stdout.close()
        call(stack, "tail-unread")
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.stderr.close()
