"""A proxy between the functions and the local AWS. It makes their calls fail as networks and AWS do.

It touches only calls to DynamoDB, Kinesis and SQS, and passes all others on. The seed alone determines the fate of the
n-th call of an operation, but not which notification it hits, because the processes do not run in step.
"""

import collections
import contextlib
import json
import os
import random
import re
import socket
import struct
import threading
import time

from local import loopback

#: What may happen to a call. "before" and "after" mean before and after the call takes effect.
FATES = (
    "delayed",  # the answer arrives a moment later
    "late",  # the call takes effect only after its function has given up on it or has died
    "unanswered",  # the call takes effect, but its reply is lost
    "reset before",  # the connection is reset
    "reset after",
    "error before",  # the answer is 5xx, which does not say whether the call took effect
    "error after",
    "throttled",
    "partial",  # some entries take effect and the others are refused; a transaction is refused because of some items
    "killed before",  # the function that made the call is killed
    "killed after",
)

#: The size of a round of calls. Each fate befalls one call of a round, and the other calls of the round pass. An
#: operation that an invocation calls many times has larger rounds, so that some invocations succeed.
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

#: Messages that ingest hides become visible this many times sooner, so that a test does not take an hour.
TIME_LAPSE = 60

#: Seconds. The functions give up on an attempt after 5; this only ends what hangs.
GIVEN_UP_TIMEOUT = 30

#: The longest delay of an answer, in seconds.
DELAY_MAX = 1.0


def put_some(request, chance, forward):
    """PutRecords: puts some of the records, and reports the others as throttled."""
    records = request["Records"]
    passing = some(len(records), chance)
    status, answer = 200, {"Records": [], "FailedRecordCount": 0}
    if passing:
        status, answer = forward({**request, "Records": [records[index] for index in passing]})
    if status == 200:
        put = dict(zip(passing, answer["Records"], strict=True))
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded (injected)"}
        answer["Records"] = [put.get(index, refused) for index in range(len(records))]
        answer["FailedRecordCount"] += len(records) - len(passing)
    return status, answer


def execute_some(request, chance, forward):
    """BatchExecuteStatement: executes some of the statements, and reports the others as throttled."""
    statements = request["Statements"]
    passing = some(len(statements), chance)
    status, answer = 200, {"Responses": []}
    if passing:
        status, answer = forward({**request, "Statements": [statements[index] for index in passing]})
    if status == 200:
        executed = dict(zip(passing, answer["Responses"], strict=True))
        refused = {"Error": {"Code": "ThrottlingError", "Message": "Rate exceeded (injected)"}}
        answer["Responses"] = [executed.get(index, refused) for index in range(len(statements))]
    return status, answer


def read_some(request, chance, forward):
    """BatchGetItem: reads some of the keys, and reports the others as unprocessed."""
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
    """TransactWriteItems: writes nothing, because some of the items conflict with another transaction."""
    count = len(request["TransactItems"])
    passing = some(count, chance)
    reasons = [{"Code": "None" if index in passing else "TransactionConflict"} for index in range(count)]
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    return 400, {"__type": "TransactionCanceledException", "message": message, "CancellationReasons": reasons}


def shorten_waits(body):
    """ChangeMessageVisibilityBatch: divides each visibility timeout by TIME_LAPSE."""
    request = json.loads(body)
    for entry in request["Entries"]:
        entry["VisibilityTimeout"] = -(-entry["VisibilityTimeout"] // TIME_LAPSE)
    return json.dumps(request).encode()


def some(count, chance):
    """Random indices below `count`: possibly none, never all."""
    return sorted(chance.sample(range(count), chance.randrange(count)))


#: The operations that can fail in part, and how they do.
PARTIAL = {
    "BatchExecuteStatement": execute_some,
    "BatchGetItem": read_some,
    "PutRecords": put_some,
    "TransactWriteItems": cancel,
}


def fates_of(operation):
    return [fate for fate in FATES if fate != "partial" or operation in PARTIAL]


def kill_nothing(_operation):
    """Kills no process. Returns the number of processes killed: 0."""
    return 0


class FaultProxy:
    """Listens on a loopback port until the end of a `with`."""

    def __init__(self, seed):
        self.seed = seed
        #: Host and port of the local AWS; set once it runs.
        self.forward_to = None
        #: Kills the functions that call an operation, and returns how many processes that were.
        self.kill = kill_nothing
        #: All calls pass until this is set.
        self.faulty = threading.Event()
        #: How often each fate befell each operation, by operation and fate.
        self.injected = collections.Counter()
        #: Calls of each operation while the proxy was faulty.
        self.calls = collections.Counter()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._last_call = time.monotonic()
        self._server = loopback.Server(Handler, self)
        self.url = self._server.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop()

    def not_yet(self, operations):
        """The pairs of operation and fate that have not occurred yet."""
        pairs = [(operation, fate) for operation in operations for fate in fates_of(operation)]
        return [pair for pair in pairs if not self.injected[pair]]

    def idle_seconds(self):
        """Seconds since the last call; 0 while one is in flight."""
        with self._lock:
            return 0 if self._in_flight else time.monotonic() - self._last_call

    def draw(self, operation):
        """The fate of the next call of an operation (None: it passes), and the randomness for its details."""
        with self._lock:
            number = self.calls[operation]
            self.calls[operation] += 1
        size = ROUNDS.get(operation, ROUND)
        fates = fates_of(operation)
        fates += [None] * (size - len(fates))
        random.Random(f"{self.seed}/{operation}/round {number // size}").shuffle(fates)
        return fates[number % size], random.Random(f"{self.seed}/{operation}/call {number}")

    def count(self, operation, fate):
        with self._lock:
            self.injected[operation, fate] += 1

    @contextlib.contextmanager
    def call_in_flight(self):
        """Notes that a call is in flight until the end of a `with`."""
        self._note_call(+1)
        try:
            yield
        finally:
            self._note_call(-1)

    def _note_call(self, change):
        with self._lock:
            self._in_flight += change
            self._last_call = time.monotonic()


class Handler(loopback.Handler):
    @property
    def proxy(self):
        return self.server.owner

    def do_POST(self):
        body = self.body()
        target, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
        service = target.partition("_")[0]
        if operation == "ChangeMessageVisibilityBatch":
            body = shorten_waits(body)
        with self.proxy.call_in_flight():
            if service in ERRORS and self.proxy.faulty.is_set():
                self.suffer(*self.proxy.draw(operation), service, operation, body)
            else:
                self.pass_on(body)

    def suffer(self, fate, chance, service, operation, body):
        """Subjects a call to its fate. The connection is closed if the call is not answered."""
        if fate in ("late", "unanswered", "killed before", "killed after"):
            self.close_connection = True
        if fate is not None and not fate.startswith("killed"):
            self.proxy.count(operation, fate)
        match fate:
            case None:
                self.pass_on(body)
            case "delayed":
                time.sleep(chance.uniform(0, DELAY_MAX))
                self.pass_on(body)
            case "late":
                self.wait_until_given_up()
                self.forward(body)
            case "unanswered":
                self.forward(body)
                self.wait_until_given_up()
            case "throttled":
                self.refuse(400, chance.choice(THROTTLES[service]))
            case "partial":
                status, answer = PARTIAL[operation](json.loads(body), chance, self.forward_changed)
                self.answer(status, json.dumps(answer).encode())
            case _:
                what, when = fate.split()
                if when == "after":
                    self.forward(body)
                self.break_off(what, chance, service, operation, fate)

    def break_off(self, what, chance, service, operation, fate):
        """Ends a call without its answer, before or after it took effect."""
        match what:
            case "reset":
                self.reset()
            case "error":
                self.refuse(*chance.choice(ERRORS[service]))
            case "killed" if self.proxy.kill(operation):
                self.proxy.count(operation, fate)

    def pass_on(self, body):
        """Makes the call at the local AWS and answers as that does."""
        self.answer(*self.forward(body))

    def forward(self, body):
        """Makes the call at the local AWS, and returns the status and the body of the answer."""
        return loopback.forward(self.proxy.forward_to, self.path, self.headers, body)

    def forward_changed(self, request):
        """As `forward`, with another body than the signed one, and in JSON.

        It uses the account's own key, for which MiniStack verifies no signature.
        """
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers.pop("x-amz-security-token", None)
        headers["authorization"] = re.sub("Credential=[^/]+", "Credential=test", headers["authorization"])
        body = json.dumps(request).encode()
        status, answer = loopback.forward(self.proxy.forward_to, self.path, headers, body)
        return status, json.loads(answer)

    def answer(self, status, body, headers=None):
        content_type = self.headers.get("Content-Type", "application/x-amz-json-1.0")
        super().answer(status, body, {"Content-Type": content_type, **(headers or {})})

    def refuse(self, status, code):
        self.answer(status, json.dumps({"__type": code, "message": "injected"}).encode())

    def reset(self):
        """Ends the connection with RST."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def wait_until_given_up(self):
        """Waits until the function closes the connection, because it has given up or has died."""
        self.connection.settimeout(GIVEN_UP_TIMEOUT)
        with contextlib.suppress(OSError):
            self.connection.recv(1)
