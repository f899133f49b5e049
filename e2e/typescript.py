"""The official TypeScript SDK clients, from Python: see node/client.mjs."""

import concurrent.futures
import itertools
import json
import pathlib
import subprocess
import threading

NODE_FOLDER = pathlib.Path(__file__).resolve().parent / "node"
NODE = NODE_FOLDER / "node_modules/.bin/node"


class SdkError(Exception):
    """What the SDK threw: `kind` is the class, `code`, `data` and `status` are as the SDK gives them."""

    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('message')}")
        self.kind, self.message = error.get("class"), error.get("message")
        self.code, self.data, self.status = error.get("code"), error.get("data"), error.get("status")


class TypeScript:
    """One Node process with any number of SDK clients."""

    def __init__(self):
        command = [NODE, NODE_FOLDER / "client.mjs"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        self.waiting, self.progress, self.noticed = {}, {}, {}
        self.ids, self.lock = itertools.count(1), threading.Lock()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def connect(self, sdk, era, url, headers):
        """An SDK client, connected; `opened` tells of the server, the version agreed on and the session."""
        name = f"client-{next(self.ids)}"
        self.noticed[name] = []
        opened = self._send({"do": "connect", "client": name, "sdk": sdk, "era": era, "url": url, "headers": headers}).result(30)
        return SdkClient(self, name, opened)

    def _send(self, command, on_progress=None):
        future, number = concurrent.futures.Future(), next(self.ids)
        self.waiting[number], self.progress[number] = future, on_progress
        with self.lock:
            self.process.stdin.write(json.dumps({**command, "id": number}) + "\n")
        return future

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "noticed" in message:
                self.noticed[message["client"]].append(SdkError(message["noticed"]))
                continue
            number = message["id"]
            if "progress" in message:
                self.progress[number](message["progress"])
            elif "error" in message:
                self.waiting.pop(number).set_exception(SdkError(message["error"]))
            else:
                self.waiting.pop(number).set_result(message["result"])
        for future in self.waiting.values():
            future.set_exception(RuntimeError("the Node process ended"))

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stdout.close()


class SdkClient:
    def __init__(self, owner, name, opened):
        self.owner, self.name, self.opened = owner, name, opened

    @property
    def noticed(self):
        """Errors that the client noticed outside of calls, oldest first."""
        return self.owner.noticed[self.name]

    def ask(self, method, *arguments, seconds=30):
        """Calls a method of the SDK's client; raises `SdkError` with what it threw."""
        return self.begin(method, *arguments).result(seconds)

    def begin(self, method, *arguments, on_progress=None):
        """The same without waiting: gives a future."""
        command = {"do": method, "client": self.name, "with": arguments, "progress": on_progress is not None}
        return self.owner._send(command, on_progress)

    def tool(self, name, **arguments):
        return self.ask("callTool", {"name": name, "arguments": arguments})
