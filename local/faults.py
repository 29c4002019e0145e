"""Faults on request: calls of the functions fail as networks and AWS do, functions die, and streams cannot be read.

`start_ministack.py` adds this to the local AWS, at the path /_faults of its endpoint. `notifyctl ui` asks for faults,
and shows how many there were. Each request ends by itself, after a number of calls or a time. The faults of the chaos
tests come from `fault_proxy.py`, and follow from a seed.
"""

import collections
import contextlib
import dataclasses
import json
import os
import re
import signal
import time
from pathlib import Path

PATH = "/_faults"

#: What can befall a call of a function.
OF_CALLS = (
    "killed",  # the call takes effect, but its function is killed before it has the answer
    "unanswered",  # the call takes effect, but its reply is lost
    "throttled",
    "failed",  # the answer is 500, which does not say whether the call took effect; here it did not
)

#: What reads a stream for Lambda. While it is stopped, the reads fail.
STREAM_READS = {"DynamoDBStreams_20120810.GetRecords": "table_stream", "Kinesis_20131202.GetRecords": "data_stream"}

KINDS = (*OF_CALLS, *STREAM_READS.values())

#: The APIs whose calls fail, as the header X-Amz-Target begins.
TARGETS = ("DynamoDB_", "Kinesis_", "AmazonSQS")

#: The most that can be asked for at once. `esm-local` gives up on a stream only after longer.
CALLS_MAX, SECONDS_MAX = 1000, 60


@dataclasses.dataclass
class Request:
    """What was asked for and has not happened yet."""

    calls: int
    until: float

    def is_over(self):
        return self.calls <= 0 or time.monotonic() >= self.until


class Faults:
    def __init__(self):
        #: By kind, and by the name of the function; the name is empty if any function will do.
        self.requests = {}
        #: How often each kind has happened.
        self.happened = collections.Counter()
        #: The names of the functions by their access keys.
        self._functions = {}

    def ask(self, kind, calls, seconds, function=""):
        """Asks for a fault of so many calls within so many seconds; of none to end what was asked for before."""
        if kind not in KINDS or not 0 <= calls <= CALLS_MAX or not 0 < seconds <= SECONDS_MAX:
            raise ValueError(f"kind is one of {', '.join(KINDS)}; calls at most {CALLS_MAX}, seconds {SECONDS_MAX}")
        self.requests[kind, function] = Request(calls, time.monotonic() + seconds)

    def report(self):
        """For each kind: how often it has happened, and what is left of what was asked for."""
        self._forget_what_is_over()
        report = {kind: {"happened": self.happened[kind], "calls": 0, "seconds": 0} for kind in KINDS}
        for (kind, _), request in self.requests.items():
            report[kind]["calls"] += request.calls
            report[kind]["seconds"] = max(report[kind]["seconds"], round(request.until - time.monotonic()))
        return report

    def next(self, target, access_key):
        """The fault of a call, or None if it has none."""
        self._forget_what_is_over()
        if access_key in ("", "test"):
            return None  # notifyctl, SAM and the tests have the account's own key
        if target in STREAM_READS:
            return self._take(STREAM_READS[target], "")
        function = self._function(access_key) if target.startswith(TARGETS) else ""
        if not function:
            return None
        return next(filter(None, (self._take(kind, name) for kind in OF_CALLS for name in (function, ""))), None)

    def _take(self, kind, function):
        request = self.requests.get((kind, function))
        if request is None or request.is_over():
            return None
        request.calls -= 1
        # A process may have ended by itself by then.
        self.happened[kind] += kind != "killed"
        return kind

    def _forget_what_is_over(self):
        self.requests = {key: request for key, request in self.requests.items() if not request.is_over()}

    def _function(self, access_key):
        """The name of the function whose key this is; empty if it is not that of a function."""
        if access_key not in self._functions:
            names = [name for _, name in processes(access_key)]
            self._functions[access_key] = names[0] if names else ""
        return self._functions[access_key]

    def kill(self, access_key):
        """Kills the function that made a call: all its processes, which share a session of its role."""
        for process, _ in processes(access_key):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                self.happened["killed"] += 1


def processes(access_key):
    """The process ids and names of the functions that have this key."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pairs = (entry / "environ").read_bytes().split(b"\0")
            variables = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
            is_function = (entry / "exe").readlink().name.startswith("bootstrap")
            if is_function and variables.get(b"AWS_ACCESS_KEY_ID") == access_key.encode():
                found.append((int(entry.name), variables[b"AWS_LAMBDA_FUNCTION_NAME"].decode()))
    return found


FAULTS = Faults()


async def with_faults(app, scope, receive, send):
    """Answers as the ASGI application does, unless the call is to have a fault."""
    if scope["type"] == "http" and scope["path"] == PATH:
        await control(scope["method"], receive, send)
    elif scope["type"] != "http" or not FAULTS.requests:
        await app(scope, receive, send)
    else:
        await call(app, scope, receive, send)


async def call(app, scope, receive, send):
    """Answers a call, with its fault if it has one."""
    headers = dict(scope["headers"])
    credential = re.search(b"Credential=([^/]+)", headers.get(b"authorization", b""))
    access_key = credential[1].decode() if credential else ""
    fault = FAULTS.next(headers.get(b"x-amz-target", b"").decode(), access_key)
    match fault:
        case None:
            await app(scope, receive, send)
        case "killed" | "unanswered":
            await app(scope, receive, lose)
            if fault == "killed":
                FAULTS.kill(access_key)
            await until_given_up(receive)
        case "throttled":
            await body(receive)
            await answer(send, 400, {"__type": "ThrottlingException", "message": "asked for"})
        case _:
            await body(receive)
            await answer(send, 500, {"__type": "InternalFailure", "message": "asked for"})


async def lose(_):
    """Takes a part of an answer that nobody gets."""


async def until_given_up(receive):
    """Waits until the function closes the connection, because it has given up or has died."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def control(method, receive, send):
    """Answers what happened and, to a POST, asks for a fault first."""
    try:
        if method == "POST":
            FAULTS.ask(**json.loads(await body(receive)))
        await answer(send, 200, FAULTS.report())
    except (ValueError, TypeError) as error:
        await answer(send, 400, {"message": str(error)})


async def body(receive):
    whole = b""
    while True:
        part = await receive()
        whole += part.get("body", b"")
        if not part.get("more_body"):
            return whole


async def answer(send, status, value):
    text = json.dumps(value).encode()
    headers = [(b"content-type", b"application/x-amz-json-1.0"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
