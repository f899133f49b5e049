"""The record: complete, and without repetition."""

import os
import signal
import threading
import time

from harness import IDENTITY, MEDIA, until, test


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
    for _ in range(3):
        time.sleep(0.7)
        os.kill(stack.run_json()["children"]["ingest"], signal.SIGKILL)
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
    print(f"    {len(sent)} calls, {len(ids)} events, 3 kills")
