"""Stands between the functions and the local AWS, and lets their calls fail as networks and AWS do.

Only calls of the functions, to DynamoDB, Kinesis and SQS, are touched; all others pass. Which fate the n-th call of an
operation has follows from the seed alone. Which notification it hits does not: the processes do not run in step.
"""

import collections
import http.client
import json
import os
import random
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What may happen to a call. After "before" it has taken no effect, after "after" it has.
FATES = (
    "delayed",  # it is answered a moment later
    "late",  # it takes effect only once its function has given up on it, or has died
    "unanswered",  # it takes effect, and no reply comes
    "reset before",  # the connection is reset
    "reset after",
    "error before",  # the answer is 5xx, of which AWS does not say whether the call took effect
    "error after",
    "throttled",
    "partial",  # some entries take effect, the others are refused; a transaction is refused because of some
    "killed before",  # the function that called is killed
    "killed after",
)

#: How many calls in a row are dealt their fates together, as cards are: each fate comes once among them, and the rest
#: of the calls pass. What one invocation calls many times fails more seldom, so that invocations do succeed.
ROUNDS = {"PutRecords": 16, "Query": 150}
ROUND = 24

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
# https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html
ERRORS = {
    "DynamoDB": ((500, "InternalServerError"), (503, "ServiceUnavailable")),
    "Kinesis": ((500, "InternalFailure"), (503, "ServiceUnavailable")),
    "AmazonSQS": ((500, "InternalFailure"), (503, "ServiceUnavailable")),
}
THROTTLES = {
    "DynamoDB": ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    "Kinesis": ("ProvisionedThroughputExceededException", "ThrottlingException"),
    "AmazonSQS": ("ThrottlingException", "RequestThrottled"),
}

#: The waits of messages that ingest hides pass so many times faster, so that a test does not take an hour.
TIME_LAPSE = 60

#: Seconds. The functions give up on an attempt after 5; these only end what hangs.
GIVEN_UP_TIMEOUT = 30
ANSWER_TIMEOUT = 60

#: Seconds, at the most, by which an answer is delayed.
DELAY_MAX = 1.0


def put_some(request, chance, forward):
    """PutRecords: only some of the records are put, and the others are reported as throttled."""
    records = request["Records"]
    passing = some(len(records), chance)
    status, answer = 200, {"Records": [], "FailedRecordCount": 0}
    if passing:
        status, answer = forward({**request, "Records": [records[index] for index in passing]})
    if status == 200:
        put = dict(zip(passing, answer["Records"]))
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded (injected)"}
        answer["Records"] = [put.get(index, refused) for index in range(len(records))]
        answer["FailedRecordCount"] += len(records) - len(passing)
    return status, answer


def execute_some(request, chance, forward):
    """BatchExecuteStatement: only some of the statements are executed, and the others are reported as throttled."""
    statements = request["Statements"]
    passing = some(len(statements), chance)
    status, answer = 200, {"Responses": []}
    if passing:
        status, answer = forward({**request, "Statements": [statements[index] for index in passing]})
    if status == 200:
        executed = dict(zip(passing, answer["Responses"]))
        refused = {"Error": {"Code": "ThrottlingError", "Message": "Rate exceeded (injected)"}}
        answer["Responses"] = [executed.get(index, refused) for index in range(len(statements))]
    return status, answer


def read_some(request, chance, forward):
    """BatchGetItem: only some of the keys are read, and the others are reported as unprocessed."""
    ((table, wanted),) = request["RequestItems"].items()
    keys = wanted["Keys"]
    passing = some(len(keys), chance)
    status, answer = 200, {"Responses": {table: []}}
    if passing:
        read = {**wanted, "Keys": [keys[index] for index in passing]}
        status, answer = forward({**request, "RequestItems": {table: read}})
    left = [key for index, key in enumerate(keys) if index not in passing]
    answer["UnprocessedKeys"] = {table: {**wanted, "Keys": left}}
    return status, answer


def cancel(request, chance, _):
    """TransactWriteItems: nothing is written, because some of the items are in conflict with another transaction."""
    count = len(request["TransactItems"])
    passing = some(count, chance)
    reasons = [{"Code": "None" if index in passing else "TransactionConflict"} for index in range(count)]
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return 400, {"__type": "TransactionCanceledException", "message": message, "CancellationReasons": reasons}


def sooner(body):
    """ChangeMessageVisibilityBatch: each message waits for the same number of minutes' seconds."""
    request = json.loads(body)
    for entry in request["Entries"]:
        entry["VisibilityTimeout"] = -(-entry["VisibilityTimeout"] // TIME_LAPSE)
    return json.dumps(request).encode()


def some(count, chance):
    """Places of some of so many entries: perhaps none, and never all."""
    return sorted(chance.sample(range(count), chance.randrange(count)))


#: How each operation that may fail in part does so.
PARTIAL = {
    "BatchExecuteStatement": execute_some,
    "BatchGetItem": read_some,
    "PutRecords": put_some,
    "TransactWriteItems": cancel,
}


def fates_of(operation):
    return [fate for fate in FATES if fate != "partial" or operation in PARTIAL]


class FaultProxy:
    """Listens on a loopback port, in threads of its own, until the end of a `with`."""

    def __init__(self, seed):
        self.seed = seed
        #: Host and port of the local AWS, once that runs.
        self.forward_to = None
        #: Kills the functions that make calls of an operation, and returns how many processes that were.
        self.kill = lambda operation: 0
        #: While it is not set, all calls pass.
        self.faulty = threading.Event()
        #: How often each fate has befallen each operation: by operation and fate.
        self.injected = collections.Counter()
        #: Calls of each operation while the proxy was faulty.
        self.calls = collections.Counter()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._last_call = time.monotonic()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # Functions that are killed break their connections.
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def not_yet(self, operations):
        """The pairs of operation and fate that are still to come."""
        return [(operation, fate) for operation in operations for fate in fates_of(operation)
                if not self.injected[operation, fate]]

    def idle_seconds(self):
        """For how long there has been no call; nothing while there is one."""
        with self._lock:
            return 0 if self._in_flight else time.monotonic() - self._last_call

    def _draw(self, operation):
        """The fate of the next call of an operation, if it has one, and the randomness for its details."""
        with self._lock:
            number = self.calls[operation]
            self.calls[operation] += 1
        size = ROUNDS.get(operation, ROUND)
        fates = fates_of(operation)
        fates += [None] * (size - len(fates))
        random.Random(f"{self.seed}/{operation}/round {number // size}").shuffle(fates)
        return fates[number % size], random.Random(f"{self.seed}/{operation}/call {number}")

    def _count(self, operation, fate):
        with self._lock:
            self.injected[operation, fate] += 1

    def _note_call(self, change):
        with self._lock:
            self._in_flight += change
            self._last_call = time.monotonic()


def _handler(proxy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
            service = target.partition("_")[0]
            proxy._note_call(+1)
            if operation == "ChangeMessageVisibilityBatch":
                body = sooner(body)
            try:
                if service in ERRORS and proxy.faulty.is_set():
                    self.suffer(*proxy._draw(operation), service, operation, body)
                else:
                    self.answer(*self.forward(body))
            finally:
                proxy._note_call(-1)

        def suffer(self, fate, chance, service, operation, body):
            """Lets a call fare as its fate says. Where it is not answered, its connection is closed."""
            if fate in ("late", "unanswered", "killed before", "killed after"):
                self.close_connection = True
            if fate is not None and not fate.startswith("killed"):
                proxy._count(operation, fate)
            match fate:
                case None:
                    self.answer(*self.forward(body))
                case "delayed":
                    time.sleep(chance.uniform(0, DELAY_MAX))
                    self.answer(*self.forward(body))
                case "late":
                    self.wait_until_given_up()
                    self.forward(body)
                case "unanswered":
                    self.forward(body)
                    self.wait_until_given_up()
                case "throttled":
                    self.refuse(400, chance.choice(THROTTLES[service]))
                case "partial":
                    status, answer = PARTIAL[operation](json.loads(body), chance, self.forward_json)
                    self.answer(status, json.dumps(answer).encode())
                case _:
                    what, when = fate.split()
                    if when == "after":
                        self.forward(body)
                    if what == "reset":
                        self.reset()
                    elif what == "error":
                        self.refuse(*chance.choice(ERRORS[service]))
                    elif proxy.kill(operation):
                        proxy._count(operation, fate)

        def forward(self, body, headers=None):
            """Makes the call at the local AWS, and returns status and body of the answer."""
            upstream = http.client.HTTPConnection(proxy.forward_to, timeout=ANSWER_TIMEOUT)
            try:
                # The host is kept: it is signed.
                kept = {n: v for n, v in (headers or self.headers).items() if n.lower() != "content-length"}
                upstream.request("POST", self.path, body, kept)
                answer = upstream.getresponse()
                return answer.status, answer.read()
            finally:
                upstream.close()

        def forward_json(self, request):
            """Forwards another body than the one that is signed: with the account's own key, which MiniStack lets pass."""
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers.pop("x-amz-security-token", None)
            headers["authorization"] = re.sub("Credential=[^/]+", "Credential=test", headers["authorization"])
            status, answer = self.forward(json.dumps(request).encode(), headers)
            return status, json.loads(answer)

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", self.headers.get("Content-Type", "application/x-amz-json-1.0"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refuse(self, status, code):
            self.answer(status, json.dumps({"__type": code, "message": "injected"}).encode())

        def reset(self):
            """Ends the connection by RST at once, with no polite end before it."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

        def wait_until_given_up(self):
            """Waits until the other side closes the connection, which it does when it gives up, or dies."""
            self.connection.settimeout(GIVEN_UP_TIMEOUT)
            try:
                self.connection.recv(1)
            except OSError:
                pass

    return Handler
