// Official SDK clients, driven line by line: a command comes in as JSON on one line of standard input, its outcome goes out
// as JSON on one line of standard output, in whatever order calls end. The tests and the demo are written in Python and see
// through this what the SDK's users see.
//
//   {"id": 1, "do": "connect", "client": "a", "sdk": "v1" | "v2", "era": "2025-11-25" | "2026-07-28", "url": "...", "headers": {}}
//   {"id": 2, "do": "callTool", "client": "a", "with": [{"name": "list_invoices"}]}        any method of the SDK's `Client`
//   {"id": 3, "do": "callTool", "client": "a", "with": [...], "progress": true}            tells of progress as it comes
//
// What a client notices outside of calls, such as a stream that breaks off, is told with its name.
import { createInterface } from "node:readline";

import { Client as ClientV2, StreamableHTTPClientTransport as TransportV2 } from "@modelcontextprotocol/client";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const MODERN = "2026-07-28";
const INFO = { name: "sallyport-e2e", version: "1.0.0" };
const clients = new Map();

const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function connect({ client: name, sdk, era, url, headers }) {
  const modern = era === MODERN;
  if (sdk === "v1" && modern) throw new Error("the v1 SDK does not speak the modern era");
  const client = sdk === "v1" ? new ClientV1(INFO) : new ClientV2(INFO, { versionNegotiation: { mode: modern ? { pin: MODERN } : "legacy" } });
  const Transport = sdk === "v1" ? TransportV1 : TransportV2;
  const transport = new Transport(new URL(url), { requestInit: { headers } });
  client.onerror = (error) => tell({ client: name, noticed: told(error) });
  await client.connect(transport);
  clients.set(name, client);
  return { server: client.getServerVersion(), version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion, session: transport.sessionId };
}

async function call({ id, do: method, client, with: args = [], progress }) {
  const target = clients.get(client);
  if (!target) throw new Error(`no client ${client}`);
  if (!progress) return target[method](...args);
  const options = { onprogress: (step) => tell({ id, progress: step }) };
  // v1's callTool takes a result schema before the options.
  return target instanceof ClientV1 && method === "callTool" ? target.callTool(args[0], undefined, options) : target[method](...args, options);
}

function told(error) {
  const { name, message, code, data, status } = error;
  return { class: error.constructor.name, name, message, code, data, status };
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const work = command.do === "connect" ? connect(command) : call(command);
  work.then((result) => tell({ id: command.id, result: result ?? null }), (error) => tell({ id: command.id, error: told(error) }));
}
process.exit(0);
