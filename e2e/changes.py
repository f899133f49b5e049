"""A stream of changes while something fails: sessions are made, withdrawn, and some given back; a grant is switched off and on.
What was proven to be withdrawn is tried all the while."""

import random
import threading
import time

from ground import ALLOW, LOST, call, identity
from harness import until

SESSIONS, GRANTS = "mcpagentsessions", "mcpaccessgrants"


class Changes:
    """Changes of `server`, from `start` to `stop`."""

    # As long as no replica answers, what the webhook judges is refused, and a proof waits.
    PATIENCE = 60

    def __init__(self, ground, namespace, server, address):
        self.ground, self.namespace, self.server = ground, namespace, server
        self.address, self.path = address, f"/{server}/mcp"
        self.stopping = threading.Event()
        # Held while a session is tried, so that none is given back in between.
        self.lock = threading.Lock()
        self.wanted, self.withdrawn, self.wrong, self.failure = {}, [], [], None
        self.proofs, self.proven = [], {}
        # Name of the grant, its session and the agent that nothing else is for.
        self.switched = f"switched-{time.monotonic_ns()}"
        self.threads = [threading.Thread(target=self.watched, args=[work], daemon=True) for work in (self.change, self.switch, self.probe)]
        for thread in self.threads:
            thread.start()

    def watched(self, work):
        try:
            work()
        except Exception as failure:
            self.failure = failure
            self.stopping.set()

    def change(self):
        number = 0
        while not self.stopping.is_set():
            name = f"churn-{time.monotonic_ns()}"
            self.insist(lambda name=name: self.ground.session(self.namespace, self.server, name))
            self.wanted[name] = ALLOW
            until(lambda name=name: self.ask(name) == ALLOW, self.PATIENCE, f"{name} is usable")
            number += 1
            if number % 4 == 0:
                continue
            self.withdraw(name)
            if number % 4 == 1:
                self.give_back(name)

    def withdraw(self, name):
        began = time.monotonic()
        # No webhook is asked for this, so it must work at any time.
        status, answer = self.ground.patch(self.namespace, SESSIONS, name, {"revoked": True})
        assert status == 200, answer
        self.wanted[name] = "session_revoked"
        self.note_proof(name, self.ground.proven(self.namespace, SESSIONS, name, self.PATIENCE))
        self.proofs.append(time.monotonic() - began)
        self.withdrawn.append(name)

    def give_back(self, name):
        with self.lock:
            self.withdrawn.remove(name)
            self.wanted[name] = ALLOW
            self.insist(lambda: self.accepted(self.ground.patch(self.namespace, SESSIONS, name, {"revoked": False})))

    def switch(self):
        """A grant off and on; as long as it is proven to be off, nobody gets in by it."""
        name = self.switched
        self.insist(lambda: self.ground.grant(self.namespace, self.server, name, subject={"agentID": name}))
        self.insist(lambda: self.ground.session(self.namespace, self.server, name, subject={"humanID": "user", "agentID": name}))
        while not self.stopping.is_set():
            status, answer = self.ground.patch(self.namespace, GRANTS, name, {"disabled": True})
            assert status == 200, answer
            self.note_proof(name, self.ground.proven(self.namespace, GRANTS, name, self.PATIENCE))
            for _ in range(5):
                self.note(name, self.ask(name), "grant_disabled")
            self.insist(lambda: self.accepted(self.ground.patch(self.namespace, GRANTS, name, {"disabled": False})))
            until(lambda: self.ask(name) == ALLOW, self.PATIENCE, "the grant is on again")
        self.wanted[name] = ALLOW

    def probe(self):
        while not self.stopping.wait(0.02):
            with self.lock:
                name = random.choice(self.withdrawn) if self.withdrawn else None
                if name:
                    self.note(name, self.ask(name), "session_revoked")

    def note_proof(self, name, found):
        """What the status said, for who looks into a proof that did not hold."""
        self.proven[name] = [c for c in found["status"]["conditions"] if c["type"] == "Enforced"]

    def note(self, name, outcome, expected):
        if outcome not in (expected, LOST):
            self.wrong.append((name, outcome, time.time(), self.proven.get(name)))

    def ask(self, session, address=None):
        agent = session if session == self.switched else "agent"
        return call(address or self.address, self.path, identity(session, agent=agent))[0]

    def insist(self, change):
        """What asks the webhook, again until somebody answers."""

        def done():
            try:
                return change() or True
            except AssertionError as refused:
                assert "calling webhook" in str(refused), refused
                return False

        until(done, self.PATIENCE, "a change that the webhook judges")

    @staticmethod
    def accepted(answer):
        assert answer[0] == 200, answer

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(2 * self.PATIENCE)

    def finish(self, seconds=30):
        """Ends the changes. None was wrong, and every proxy decides as the last of them say."""
        self.stop()
        if self.failure:
            raise self.failure
        assert not self.wrong, f"{len(self.wrong)} calls went against what was proven: {self.wrong[:5]}"
        pods = self.ground.pods(self.namespace, f"mcpruntime.org/server={self.server}")
        assert pods and self.wanted
        for pod in pods:
            with self.ground.cluster.reach(self.namespace, f"pod/{pod['metadata']['name']}", 8091) as address:
                for name, wanted in self.wanted.items():
                    until(lambda: self.ask(name, address) == wanted, seconds, f"{name} is {wanted} by {pod['metadata']['name']}")
        self.proofs.sort()
        return f"{len(self.wanted)} sessions, {len(self.proofs)} proven withdrawals: {1000 * self.proofs[len(self.proofs) // 2]:.0f} ms in the median, {self.proofs[-1]:.1f} s at most"
