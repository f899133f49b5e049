"""Groups E to G: the form of a message, batches, size and depth."""

from vectors.request import DANGER, MODERN, SAFE, Request, call, legacy, message, modern, modern_of, row

LIMIT = 1 << 20


def with_id(value):
    return call().replace('"id":1', f'"id":{value}')


def without_id(body):
    return body.replace('"id":1,', "")


def padded(size, name=SAFE):
    """A call of exactly `size` bytes, the decisive key last."""
    rest = call(f'"arguments":{{}},"_meta":{{"pad":""}},"name":"{name}"')
    return rest.replace('"pad":""', '"pad":"%s"' % ("x" * (size - len(rest))))


def nested(levels):
    """A message of so many levels."""
    return call(arguments='{"a":%s%s}' % ("[" * (levels - 3), "]" * (levels - 3)))


def cut(body, size=60_000):
    data = body.encode()
    return Request(chunks=[data[at : at + size] for at in range(0, len(data), size)])


RESULT = '{"jsonrpc":"2.0","id":1,"result":{}}'
FAILURE = '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}'

SHAPES = [
    row("E38", "I", "invalid_jsonrpc", *(call().replace('"2.0"', value, 1) for value in ('"1.0"', "2.0", "2", "null", '"2.00"'))),
    row("E38", "I", "invalid_jsonrpc", call().replace('"jsonrpc":"2.0",', "")),
    row("E39", "I", "invalid_id", *(with_id(value) for value in ("1.5", "true", "{}", "[]", "null", "1.0"))),
    row("E40", "I", "invalid_id", with_id("1e2"), with_id("9" * 30), with_id('"%s"' % ("x" * 257)), with_id('"%s"' % ("x" * 1_000_000)), with_id("9007199254740993")),
    row("E40", "F", None, with_id('""'), with_id("-5"), with_id('"%s"' % ("x" * 254))),
    row("E41", "I", "not_a_notification", without_id(call()), without_id(call(name=DANGER)), without_id(message("initialize", {"protocolVersion": "2025-11-25"}).replace(": ", ":").replace(", ", ","))),
    row("E42", "I", "invalid_shape", call(top=',"result":{}')),
    row("E43", "I", "invalid_shape", call(top=',"error":{"code":1,"message":"x"}'), RESULT[:-1] + ',"error":{"code":1,"message":"x"}}'),
    row("E44", "I", "invalid_shape", *(Request(body.encode(), {"mcp-protocol-version": MODERN}) for body in (RESULT, FAILURE))),
    row("E44", "I", "invalid_shape", *(legacy(body) for body in (RESULT, FAILURE)), RESULT),
    row("E46", "I", "not_an_object", "null", "true", "1", '"x"'),
    row("E46", "P", "json_syntax", "", " ", "{", "nonsense"),
    row("E46", "I", "invalid_jsonrpc", "{}"),
    row("E47", "D", "method_not_allowed", *(message(method, {}) for method in ("rpc.discover", "vendor/run", "skills/list", "sampling/createMessage", "elicitation/create", "roots/list"))),
    row("E47", "D", "task_not_declared", *(message(method, {"taskId": "1"}) for method in ("tasks/get", "tasks/result", "tasks/cancel")), message("tasks/list")),
]

BATCHES = [
    row("F48", "I", "batch", f"[{call()}]"),
    row("F49", "I", "batch", f"[{call()},{call(name=DANGER)}]"),
    row("F50", "I", "batch", "[]", f"[[{call()}]]", "[null]", f" \n[{call()}]"),
    row("F51", "I", "batch", *(legacy(f"[{call()}]", version) for version in ("2025-03-26", "2025-06-18", "2025-11-25", MODERN))),
    row("F52", "I", "batch", f"[{RESULT},{RESULT}]", f"[{RESULT},{call()}]"),
]

SIZES = [
    row("G53", "F", None, padded(LIMIT), cut(padded(LIMIT))),
    row("G53", "L", "body_too_large", padded(LIMIT + 1), cut(padded(LIMIT + 1))),
    row("G54", "F", None, padded(1_000_000)),
    row("G54", "D", "trust_too_low", padded(1_000_000, DANGER)),
    # Beyond what it buffers Envoy answers itself, without a body of JSON-RPC.
    row("G55", "L-", "body_too_large", padded(2 * LIMIT, DANGER), cut(padded(2 * LIMIT, DANGER))),
    row("G56", "F", None, nested(64)),
    row("G56", "I", "too_deep", nested(65), nested(10_000), nested(100_000), call(arguments='{"a":' * 100 + "1" + "}" * 100)),
    row("G57", "L", "too_many_keys", call(arguments="{" + ",".join(f'"{n}":0' for n in range(100_001)) + "}")),
    # Many items are no harm: they are read once and not kept.
    row("G57", "F", None, call(arguments='{"a":[%s]}' % ",".join("0" * 100_000))),
]

ROWS = SHAPES + BATCHES + SIZES
