"""Runs the binary of one function as Lambda does, and stands between it and its backend.

Without `forward`, it answers every backend call at once and stores nothing, which is enough to count calls. With
`forward`, it passes calls on to a local AWS, and a test can kill the process before or after any of them.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import collections
import json
import queue
import subprocess
import threading
import time

from local import loopback
from local.loopback import ANSWER_TIMEOUT


def let_pass(_operation, _body):
    """Does nothing to a backend call."""


class LambdaHost:
    """The process of a function, waiting for invocations."""

    def __init__(self, binary, output=subprocess.DEVNULL, forward=None, seconds=60, **variables):
        #: The endpoint that backend calls are passed on to, if any.
        self.forward = forward
        #: Seconds from an invocation to its deadline.
        self.seconds = seconds
        #: Called with the operation and the body of each backend call, before it is made and afterwards.
        self.before_call = self.after_call = let_pass
        #: How often each operation was called.
        self.calls = collections.Counter()
        self.events = queue.Queue()
        self.answers = queue.Queue()
        self.is_ready = threading.Event()
        self._server = loopback.Server(Handler, self)
        environment = {
            "AWS_LAMBDA_RUNTIME_API": self._server.url.removeprefix("http://"),
            "AWS_ENDPOINT_URL": self._server.url,
            "AWS_LAMBDA_FUNCTION_NAME": "measured",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_LEVEL": "WARN",
            "AWS_REGION": "us-east-1",
            # The account's own key, unless the variables hold the session of a role.
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "TABLE_NAME": "notifications",
            "QUEUE_URL": "https://queue",
            "STREAM_NAME": "notifications",
            **variables,
        }
        self.process = subprocess.Popen(
            [binary], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        if not self.is_ready.wait(ANSWER_TIMEOUT):
            self.stop()
            raise TimeoutError(f"{binary} did not ask for an invocation")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.kill()
        self._server.stop()

    def invoke(self, event):
        """Invokes the function and returns its answer; None if the process ended instead."""
        self.events.put(json.dumps(event).encode())
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < deadline:
            try:
                return self.answers.get(timeout=0.05)
            except queue.Empty:
                if self.process.poll() is not None:
                    return None
        raise TimeoutError("the function did not answer")

    def kill(self):
        """Ends the process as a crash does."""
        self.process.kill()
        self.process.wait()


class Handler(loopback.Handler):
    """Lambda's runtime API and the function's backend, on one port."""

    def do_GET(self):
        """/2018-06-01/runtime/invocation/next"""
        host = self.server.owner
        host.is_ready.set()
        event = host.events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + host.seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:measured",
        }
        self.answer(200, event, headers)

    def do_POST(self):
        """The answer to an invocation, or a backend call: only the latter has a target."""
        body = self.body()
        target = self.headers.get("X-Amz-Target")
        if target:
            self.call_backend(target.partition(".")[2], body)
        else:
            self.answer(202, b"{}")
            self.server.owner.answers.put(json.loads(body))

    def call_backend(self, operation, body):
        host = self.server.owner
        host.calls[operation] += 1
        host.before_call(operation, body)
        if host.process.poll() is not None:
            return
        if host.forward:
            status, answer = loopback.forward(host.forward.removeprefix("http://"), self.path, self.headers, body)
        else:
            status, answer = 200, success(operation, body)
        host.after_call(operation, body)
        self.answer(status, answer, {"Content-Type": "application/x-amz-json-1.0"})


def success(operation, body):
    """The answer to a backend call of which every entry succeeds."""
    match operation:
        case "BatchExecuteStatement":
            answer = {"Responses": [{"TableName": "notifications"}] * body.count(b'"Statement"')}
        case "PutRecords":
            records = [{"SequenceNumber": "1", "ShardId": "shardId-000000000000"}] * body.count(b'"PartitionKey"')
            answer = {"FailedRecordCount": 0, "Records": records}
        case "ChangeMessageVisibilityBatch":
            answer = {"Successful": [{"Id": entry["Id"]} for entry in json.loads(body)["Entries"]], "Failed": []}
        case _:
            answer = {}
    return json.dumps(answer).encode()
