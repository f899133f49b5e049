"""The record: complete, and without repetition."""

import os
import random
import signal
import threading
import time

from harness import IDENTITY, MEDIA, until, test

# How often the ingest is killed under load.
KILLS = 10


@test
def no_event_is_lost_or_stored_twice_while_the_ingest_is_killed_under_load(stack):
    stop, sent = threading.Event(), []

    def load():
        while not stop.is_set():
            answer = stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": "load"})
            sent.append(answer[0])

    workers = [threading.Thread(target=load) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(KILLS):
        # At any moment, also while it starts.
        time.sleep(random.uniform(0.05, 0.8))
        until(lambda: kill_ingest(stack), what="an ingest to kill")
    until(lambda: stack.answers_ready("ingest-admin"), what="ingest is back")
    stop.set()
    for worker in workers:
        worker.join()
    assert set(sent) == {200}, set(sent)

    def total():
        cursor, ids = None, []
        while True:
            query = "events/filter?limit=1000&decision=allow" + (f"&cursor={cursor}" if cursor else "")
            page = stack.api("GET", query)[1]
            ids += [e["payload"]["event_id"] for e in page["events"] if e["payload"].get("subject_team_id") == "load"]
            cursor = page["next"]
            if not cursor:
                return ids

    ids = until(lambda: (lambda ids: len(ids) >= len(sent) and ids)(total()), 30, "every event is stored")
    assert len(ids) == len(set(ids)) == len(sent), (len(ids), len(set(ids)), len(sent))
    assert stack.api("GET", "stats")[1]["missing"] == 0
    print(f"    {len(sent)} calls, {len(ids)} events, {KILLS} kills")


def kill_ingest(stack):
    pid = stack.run_json()["children"].get("ingest")
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@test
def an_event_can_be_asked_for_shortly_after_its_verdict(stack):
    times = []
    for number in range(20):
        team = f"shortly-{number}"
        stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": team})
        began = time.monotonic()
        until(lambda: any(e["payload"].get("subject_team_id") == team for e in stack.events(limit=3)), what="the event")
        times.append(time.monotonic() - began)
    times.sort()
    print(f"    {times[10] * 1000:.0f} ms in the median, {times[-1] * 1000:.0f} ms at most")
    assert times[10] < 0.5, times
