"""What the demonstrations have in common: one line for each call, with its verdict and why."""

import sys

from samples import MODERN, OPS, REPORT, reason_of
from typescript import SdkError

WHY = {
    "tool_not_granted": "its grant does not name the tool",
    "side_effect_not_allowed": "its grant allows reading only, and this tool writes",
    "missing_session": "no user has opened a session for it",
    "trust_too_low": "the user consented to medium trust, the tool requires high",
    "tool_denied": "the grant forbids this tool in so many words",
    "session_revoked": "the user's consent is withdrawn",
}


def styled(code, text):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def heading(text):
    print(f"\n{styled('1', text)}", flush=True)


def line(mark, colour, verdict, who, what, why):
    print(f"  {styled(colour, f'{mark} {verdict:<8}')} {who:<13} {what:<34} {why}", flush=True)


def aside(text):
    print(styled("2", f"    {text}"), flush=True)


def attempt(who, what, call, outcome):
    """One call through the gateway on one line: the verdict, and what the server answered or why it never saw the call."""
    try:
        answer = call()
    except SdkError as error:
        reason = reason_of(error)
        line("✘", "31", "denied", who, what, f"{reason}: {WHY.get(reason, error.message)}")
    else:
        line("✔", "32", "allowed", who, what, outcome(answer))


def refunded(answer):
    invoice = answer["structuredContent"]
    return f"{invoice['refunded_cents'] / 100:,.2f} {invoice['currency']} paid back to {invoice['customer']}"


def text(answer):
    return answer["content"][0]["text"]


def payments(demo):
    heading("payments: our sample, on the official Rust SDK. Clients: TypeScript SDK v2, protocol 2026-07-28")
    ops, report = demo.connect("v2", MODERN, OPS), demo.connect("v2", MODERN, REPORT)
    stranger = demo.connect("v2", MODERN, {name: value for name, value in OPS.items() if "session" not in name})
    listed = lambda answer: f"{len(answer['structuredContent']['invoices'])} invoices"  # noqa: E731
    attempt("ops-agent", "list_invoices", lambda: ops.tool("list_invoices"), listed)
    attempt("report-agent", "list_invoices", lambda: report.tool("list_invoices"), listed)
    attempt("report-agent", "refund_invoice inv-1001", lambda: report.tool("refund_invoice", invoice_id="inv-1001"), refunded)
    attempt("report-agent", "add_note inv-1001", lambda: report.tool("add_note", invoice_id="inv-1001", note="late"), text)
    attempt("ops-agent", "list_invoices, without a session", lambda: stranger.tool("list_invoices"), listed)
    attempt("ops-agent", "refund_invoice inv-1001", lambda: ops.tool("refund_invoice", invoice_id="inv-1001"), refunded)
    enforced = demo.consent("sess-ops", "high")["enforced"]
    aside("user-123 consents to high trust: POST /api/v1/runtime/sessions")
    aside(f"enforced on {enforced['enforced']} of {enforced['of']} filter instances in {enforced['millis']:.1f} ms")
    attempt("ops-agent", "refund_invoice inv-1001", lambda: ops.tool("refund_invoice", invoice_id="inv-1001"), refunded)


def record(demo, limit):
    """The newest events, as the command tells them."""
    heading("The record, newest first")
    aside(f"$ sallyport events --limit {limit}")
    for event in demo.cli("events", "--limit", str(limit)).stdout.splitlines():
        print(f"  {event}")
    stats = demo.api("GET", "stats")[1]
    aside(f"{len(demo.events())} events stored, {stats['missing']} missing: each names its predecessor by hash, so a gap would show")
