"""The record on machines whose clocks jump by an hour, forwards and back: nothing is lost, stored twice, or taken for forged."""

import datetime
import time

from clock import Clock
from harness import IDENTITY, MEDIA, Stack, test, until
from tests.audit import kill_ingest
from tests.audit_proof import data, seal, verify

HOURS = [1, -1, 0]
# Calls under each time, before and after the ingest is killed.
CALLS = 40


class Jumping(Stack):
    """A stack under a clock that can be set, Envoy and all."""

    def __init__(self):
        self.clock = Clock()
        try:
            with self.clock.over_what_starts():
                super().__init__()
        except BaseException:
            self.clock.close()
            raise

    def stop(self):
        super().stop()
        self.clock.close()


def start():
    return Jumping()


def call(stack, team):
    assert stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": team})[0] == 200


def ahead(stack):
    """How far the newest verdict's time is ahead of ours, in hours; None: none is stored yet."""
    call(stack, "probe")
    newest = stack.events(limit=1)
    if not newest:
        return None
    time_of = datetime.datetime.fromisoformat(newest[0]["timestamp"])
    return round((time_of.timestamp() - time.time()) / 3600, 1)


def names_of(stack, team):
    """Ids of a team's verdicts, over all pages."""
    cursor, ids = None, []
    while True:
        page = stack.api("GET", "events/filter?limit=1000" + (f"&cursor={cursor}" if cursor else ""))[1]
        # A clock that leaps ahead under an exchange parts its event into decision and outcome.
        told = [e["payload"] for e in page["events"] if e["payload"].get("phase") != "outcome"]
        ids += [payload["event_id"] for payload in told if payload.get("subject_team_id") == team]
        cursor = page["next"]
        if not cursor:
            return ids


@test
def clocks_that_jump_by_an_hour_cost_no_event_and_no_proof(stack):
    sent = 0
    for hours in HOURS:
        stack.clock.set(hours)
        until(lambda: ahead(stack) == hours, 20, f"verdicts are {hours} h ahead")  # noqa: B023
        for _ in range(CALLS):
            call(stack, "jumping")
        until(lambda: kill_ingest(stack), what="an ingest to kill")
        for _ in range(CALLS):
            call(stack, "jumping")
        until(lambda: stack.answers_ready("ingest-admin"), what="the ingest is back")
        sent += 2 * CALLS
        seal(stack)
    ids = until(lambda: len(ids := names_of(stack, "jumping")) >= sent and ids, 30, f"{sent} events are stored")
    assert len(ids) == len(set(ids)) == sent, (len(ids), len(set(ids)), sent)
    found = [e for kind in ("audit.gap", "audit.lost", "audit.silent", "audit.fork") for e in stack.events(event_type=kind)]
    assert not found, found
    assert stack.api("GET", "stats")[1]["missing"] == 0
    seal(stack)
    report = verify(stack, "--store", data(stack) / "events.db")
    assert report["intact"] and report["missing"] == 0, report
    print(f"    {sent} calls, {len(ids)} events, the clock {' h, '.join(f'{hours:+}' for hours in HOURS)} h")
