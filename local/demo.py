"""The demo: 1,000 notifications with duplicates, a conflict, a malformed message, crashes on the way, and an audit."""

import contextlib
import json
import os
import subprocess
import time
import webbrowser

from local import screen
from local.receiver import Receiver
from local.stack import NOTIFYCTL, STATE, Stack, build

COUNT = 1000
DUPLICATES_PERCENT = 10
WATCH_TIMEOUT = 300

#: The notification ids are refund-000001, refund-000002 and so on.
PREFIX = "refund"

#: Leads to the page of `notifyctl ui`.
PAGE = STATE / "page.html"

ACTIONS = ("ledger", "webhook", "mark-done")


def main():
    action = os.environ.get("ACTION") or ACTIONS[0]
    if action not in ACTIONS:
        screen.fail(f"ACTION must be one of {', '.join(ACTIONS)}, not {action}")
    screen.title("1. Build: the functions, with `sam build` but without optimisation")
    build()
    screen.title(f"2. Deploy: the real template, to a local AWS, with the action {action}")
    with Receiver() as receiver:
        webhook = {"secret": receiver.secret, "WebhookUrl": receiver.url} if action == "webhook" else {}
        stack = Stack.start("demo", Action=action, **webhook)
        try:
            with page(stack) if os.environ.get("UI") else contextlib.nullcontext():
                return show(stack, receiver if webhook else None)
        finally:
            with screen.step("stop the local stack"):
                stack.stop()


@contextlib.contextmanager
def page(stack):
    """Opens the page of `notifyctl ui`, and leaves the stack running for it until Enter is pressed."""
    process = subprocess.Popen(
        [NOTIFYCTL, "ui"],
        env=stack.environment,
        cwd=STATE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = process.stdout.readline().strip()
        screen.say(f"  the page: {address}")
        webbrowser.open(leading_to(address).as_uri())
        yield
        with contextlib.suppress(EOFError):
            input("The page shows the stack until you press Enter. ")
    finally:
        process.terminate()
        process.wait()
        PAGE.unlink(missing_ok=True)


def leading_to(address):
    """Writes a file that leads a browser to an address, and that no other user can read.

    The address has a token, and everyone on a machine can see the command line of a browser.
    """
    PAGE.unlink(missing_ok=True)
    PAGE.touch(mode=0o600, exist_ok=False)
    PAGE.write_text(
        f'<!doctype html>\n<meta charset="utf-8">\n<title>Notifications</title>\n'
        f'<meta http-equiv="refresh" content="0; url={address}">\n<p><a href="{address}">The page</a></p>\n'
    )
    return PAGE


def show(stack, receiver):
    sent = STATE / "sent.jsonl"
    sent.unlink(missing_ok=True)

    screen.title(f"3. Send: {COUNT:,} notifications, {DUPLICATES_PERCENT} % of them twice")
    if stack.notifyctl(
        "send", "--count", COUNT, "--duplicates", DUPLICATES_PERCENT, "--prefix", PREFIX, "--save", sent
    ).returncode:
        return 1
    crash_each_function(stack)

    screen.title("4. Send: one conflict (a known id with a different amount) and one malformed message")
    send_bad(stack, sent)

    screen.title("5. Watch: until all is settled (a refused message is received six times, about half a minute)")
    if stack.notifyctl("watch", "--expect", COUNT, "--timeout", WATCH_TIMEOUT).returncode:
        return 1

    screen.title("6. Audit: what was sent, against the table, its stream and the dead-letter queue")
    audit(stack, sent)
    return compare(receiver, sent) if receiver else 0


def send_bad(stack, sent):
    """Sends a conflict with the first notification, and a malformed message."""
    first = f"{PREFIX}-000001"
    # The notification must be in the table first, or it would become the conflict.
    deadline = time.monotonic() + WATCH_TIMEOUT
    while stack.notifyctl("status", first, stdout=subprocess.DEVNULL).returncode:
        if time.monotonic() > deadline:
            screen.fail(f"{first} did not reach the table; see ingest's log")
        time.sleep(0.2)
    original = next(line for line in sent.read_text().splitlines() if f'"{first}"' in line)
    conflict = json.loads(original)
    conflict["data"]["amount"] = "1000000.00"
    bad = sent.with_name("bad.jsonl")
    bad.write_text(f'{json.dumps(conflict)}\n{{"specversion":"1.0","id":\n')
    if stack.notifyctl("send", bad, "--unchecked", "--save", sent).returncode:
        screen.fail("the conflict and the malformed message were not sent; see notifyctl's message above")


def audit(stack, sent):
    """Shows the audit of what was sent, and fails unless it finds exactly what it should."""
    if stack.notifyctl("audit", sent).returncode:
        screen.fail("the audit found a problem; see above")
    found = json.loads(stack.notifyctl("--json", "audit", sent, stdout=subprocess.PIPE).stdout)
    refused = {"conflict: the id exists with other content": 1, "malformed: not valid JSON": 1}
    if (found["done_once"], found["dead_lettered"]) != (COUNT, refused):
        screen.fail("not every notification is DONE, or the dead-letter queue holds other messages than those two")


def compare(receiver, sent):
    """Compares what the receiver got with what was sent."""
    events = {}
    for line in sent.read_text().splitlines()[:-2]:
        events.setdefault(json.loads(line)["id"], line)
    calls, distinct = sum(receiver.calls.values()), len(receiver.calls)
    print(f" receiver   {calls:,} signed calls for {distinct:,} notifications; {calls - distinct:,} of them were")
    print("            repeats after crashes, which the receiver recognised by their Idempotency-Key")
    if receiver.bodies != events or receiver.problems:
        screen.fail("; ".join(receiver.problems[:5]) or "the receiver got events that differ from those that were sent")
    print(" each event arrived byte for byte as it was sent")
    return 0


def crash_each_function(stack):
    """Kills each function once, as soon as it runs."""
    left = ["ingest", "publisher", "downstream"]
    deadline = time.monotonic() + 30
    with screen.step("kill -9 each function once while it works"):
        while left and time.monotonic() < deadline:
            left = [binary for binary in left if not stack.kill(binary)]
            time.sleep(0.02)
        if left:
            screen.fail(f"{', '.join(left)} did not run within 30 s; see .local/demo/ministack.log")
