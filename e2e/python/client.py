"""One client of the official Python SDK, of the major version that this interpreter has, driven line by line: a command comes
in as JSON on a line of standard input, its outcome goes out as JSON on a line of standard output.

    client.py URL MODE HEADERS      MODE is `legacy` or `auto`; HEADERS is a JSON object

    {"do": "call_tool", "with": {"name": "list_invoices", "arguments": {}}}      any method of the SDK's client
"""

import asyncio
import contextlib
import json
import sys

try:
    import httpx2 as httpx
    from mcp import Client, MCPError
except ImportError:
    import httpx
    from mcp import ClientSession
    from mcp.shared.exceptions import McpError as MCPError
    from pydantic import AnyUrl

    Client = None
from mcp.client.streamable_http import streamable_http_client


@contextlib.asynccontextmanager
async def connected(url, mode, headers):
    """The client, the revision that it agreed on, and the name of the server."""
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        if Client is not None:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                yield client, client.protocol_version, client.server_info.name
            return
        async with streamable_http_client(url, http_client=http) as (read, write, _), ClientSession(read, write) as client:
            started = await client.initialize()
            yield client, started.protocolVersion, started.serverInfo.name


async def perform(client, method, arguments):
    progress = []
    if method == "call_tool":

        async def on_progress(done, total, message):
            progress.append({"progress": done, "total": total, "message": message})

        arguments = {**arguments, "progress_callback": on_progress}
    if method == "read_resource" and Client is None:
        arguments = {"uri": AnyUrl(arguments["uri"])}
    result = await getattr(client, method)(**arguments)
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True), "progress": progress}


def tell(message):
    print(json.dumps(message), flush=True)


async def main():
    url, mode, headers = sys.argv[1:]
    async with connected(url, mode, json.loads(headers)) as (client, version, server):
        tell({"version": version, "server": server})
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            try:
                tell(await perform(client, command["do"], command["with"]))
            except MCPError as error:
                tell({"error": error.error.model_dump(mode="json", exclude_none=True)})
            except Exception as error:
                tell({"error": {"code": None, "message": f"{type(error).__name__}: {error}"}})


asyncio.run(main())
