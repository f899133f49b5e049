"""Groups A to D: keys, strings, encodings, numbers and types."""

from vectors.request import DANGER, META, MODERN, SAFE, Request, call, message, modern, row

NAMED = f'"name":"{SAFE}"'
OTHER = f'"name":"{DANGER}"'
VERSION = "io.modelcontextprotocol/protocolVersion"


def with_key(key, value=f'"{DANGER}"'):
    """A call whose params have one more member."""
    return call(f'{NAMED},"arguments":{{}},"{key}":{value}')


def argument(value):
    return call(arguments=f'{{"a":{value}}}')


def typed(content_type):
    return Request(call().encode(), {"content-type": content_type})


def encoded(encoding, body=None):
    return Request(body or call().encode(), {"content-encoding": encoding})


def duplicate_with_header(first, last, header):
    meta = '"_meta":{"%s":"%s","io.modelcontextprotocol/clientCapabilities":{}}' % (VERSION, MODERN)
    return modern(header, body=call(f'"name":"{first}","name":"{last}",{meta}'))


def meta_twice():
    first = f'"{VERSION}":"2025-11-25"'
    return modern(body=call('%s,"_meta":{%s,"%s":"%s","io.modelcontextprotocol/clientCapabilities":{}}' % (NAMED, first, VERSION, MODERN)))


KEYS = [
    row("A1", "I", "duplicate_key", call(f"{NAMED},{OTHER}"), call(f"{OTHER},{NAMED}")),
    row("A2", "I", "duplicate_key", call(top=f',"params":{{{OTHER}}}'), call(top=',"params":null')),
    row("A3", "I", "duplicate_key", call(top=',"method":"ping"'), '{"method":"ping",' + call()[1:]),
    row(
        "A4", "I", "duplicate_key", argument('1,"a":2'), argument('{"b":1,"b":2}'), argument('[{"b":1},{"b":1,"b":2}]'),
        call(arguments="{" + ",".join(f'"k{n}":1' for n in range(40)) + ',"k7":2}'),
    ),
    row("A5", "I", "duplicate_key", call(f'{NAMED},"arguments":{{}},"arguments":{{"a":1}}')),
    row("A6", "I", "duplicate_key", call(top=',"id":2')),
    row("A7", "I", "duplicate_key", call(f'{NAMED},"n\\u0061me":"{DANGER}"'), call(f'"n\\u0061me":"{DANGER}",{NAMED}'), call(top=',"\\u006dethod":"ping"')),
    row("A8", "I", "duplicate_key", meta_twice()),
    row("A9", "I", "duplicate_key", duplicate_with_header(SAFE, DANGER, SAFE), duplicate_with_header(SAFE, DANGER, DANGER)),
    row("A10", "I", "lookalike_key", *(with_key(key) for key in ("Name", "NAME", "nAME", "Arguments", "Uri", "TaskId", "_Meta", "RequestState"))),
    row("A10", "I", "unknown_member", *(call(top=f',"{key}":"ping"') for key in ("Method", "PARAMS", "Id", "JSONRPC"))),
    row("A11", "I", "lookalike_key", *(with_key(key) for key in ("tas\u212a", "argument\u017f", "\uff4eame", "\\uff4e\\uff41\\uff4d\\uff45"))),
    row("A11", "I", "unknown_member", call(top=f',"param\u017f":{{{OTHER}}}'), call(top=',"\uff4dethod":"ping"')),
    row("A12", "I", "lookalike_key", *(with_key(key) for key in ("name\\u0000", "name ", "\ufeffname", "n\u200bame", "name\\n", " name"))),
    row("A14", "I", "lookalike_key", *(with_key(key, "{}") for key in ("__proto__", "constructor", "prototype"))),
    row("A14", "F", None, call(arguments='{"__proto__":{"x":1},"constructor":1}')),
    row("A15", "I", "unknown_member", call(top=',"extra":1'), call(top=',"auth":{}')),
]

# A name that is not exactly the one that was declared is another name.
STRANGE_NAMES = ["\\u0000", " ", "\\n", "\u200b", "\u202e", "\u0456"]

STRINGS = [
    row("B16", "F", None, call().replace("tools/call", "\\u0074ools\\/call"), call(f'"n\\u0061me":"list\\u005finvoices"')),
    row("B16", "D", "trust_too_low", call(f'"n\\u0061me":"\\u0072efund_invoice"')),
    row("B17", "P", "lone_surrogate", *(argument(f'"{text}"') for text in ("\\ud800", "\\udc00", "\\ud800x", "\\ud800\\ud800", "\\udc00\\ud800"))),
    row("B17", "P", "lone_surrogate", call('"name":"\\ud800"')),
    row("B18", "P", "body_not_utf8", *(call(arguments='{"a":"@"}').encode().replace(b"@", bad) for bad in (b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80\xed\xb0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"))),
    row("B19", "D", "tool_side_effect_unknown", *(call(name=SAFE + end) for end in STRANGE_NAMES)),
    row("B19", "D", "tool_side_effect_unknown", call(name="l\u0456st_invoices"), call(name="\uff4cist_invoices"), call(name="List_Invoices"), call(name="")),
    row(
        "B20", "D", "method_not_allowed",
        *(message(method, {"name": SAFE}) for method in ("Tools/Call", "tools/call ", "/tools/call", "tools//call", "tools.call", "tools/call\u0000", "TOOLS/CALL", "")),
    ),
    row("B21", "I", "invalid_params", call(name="n" * 129), message("resources/read", {"uri": "invoice://" + "7" * 2040})),
    row("B21", "I", "invalid_shape", message("m" * 65)),
]

ENCODINGS = [
    row("C22", "P", "body_not_utf8", "\ufeff" + call()),
    row("C23", "P", "json_syntax", *(call().encode(code) for code in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"))),
    row("C23", "P", "body_not_utf8", *(call().encode(code) for code in ("utf-16", "utf-32"))),
    row("C23", "T", "content_type", Request(call().encode("utf-16"), {"content-type": "application/json; charset=utf-16"})),
    row("C24", "T", "content_type", *(typed(f"application/json; charset={name}") for name in ("latin1", "utf-7", "utf-16", "us-ascii", '"utf-8', "utf-8; charset=latin1"))),
    row("C24", "F", None, typed("application/json; charset=utf-8"), typed('application/json;charset="UTF-8"')),
    row("C25", "T", "content_encoding", *(encoded(name, b"\x1f\x8b\x08\0\0\0\0\0") for name in ("gzip", "deflate", "br", "zstd"))),
    row("C26", "T", "content_encoding", encoded("gzip"), encoded("GZIP"), encoded("x-gzip")),
    row("C27", "T", "content_encoding", encoded("gzip, identity"), encoded("identity, gzip"), encoded("nonsense"), encoded("")),
    row("C27", "T", "content_encoding", Request(call().encode(), also=[("content-encoding", "identity"), ("content-encoding", "gzip")])),
    row("C27", "F", None, encoded("identity"), encoded("Identity")),
    row("C28", "P", "json_syntax", call() + call(name=DANGER), call() + "\n" + call(), call() + "x", call() + "\0", "\x1e" + call(), call() + "]"),
    row("C29", "F", None, " \t\r\n" + call() + "\r\n\t ", call().replace(":", " : ").replace(",", " ,\n")),
    row(
        "C30", "P", "json_syntax",
        "\x0b" + call(), "\x0c" + call(), "\u00a0" + call(), "/* */" + call(), call() + "// end",
        call().replace('"', "'"), argument("1,"), call(top=","), call().replace('"id"', "id"), argument("[1,]"),
    ),
]

NUMBERS = [
    row("D31", "P", "json_syntax", *(argument(value) for value in ("NaN", "Infinity", "-Infinity", "nan", "undefined"))),
    row("D32", "P", "number_range", argument("1e400"), argument("-1e400"), argument("9" * 100_000)),
    row("D32", "P", "json_syntax", *(argument(value) for value in ("01", "+1", ".5", "1.", "0x1", "1e", "--1"))),
    # No rule reads arguments so far: they pass as they are.
    row("D33", "F", None, argument("9007199254740993"), argument("-9007199254740993")),
    row("D34", "F", None, *(argument(value) for value in ("-0", "1.0", "1E2", "1e-7"))),
    row("D35", "I", "invalid_params", *(call(f'"name":{value}') for value in ("1", "[]", "{}", "null", "true"))),
    row("D35", "I", "invalid_params", *(message("resources/read", {"uri": value}) for value in (1, [], {}, None))),
    row("D35", "I", "invalid_shape", *(message(value) for value in (1, [], {}, None))),
    row("D36", "I", "invalid_params", *(message("tools/call", value) for value in ([], "x", 1, [{"name": SAFE}]))),
    row("D36", "I", "invalid_params", '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}'),
    row("D36", "I", "invalid_params", *(call(arguments=value) for value in ('"x"', "[]", "1"))),
    row("D37", "I", "invalid_params", call(arguments="null")),
]

ROWS = KEYS + STRINGS + ENCODINGS + NUMBERS
