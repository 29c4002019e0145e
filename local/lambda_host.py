"""Runs one function's binary as Lambda does, and stands between it and its backend.

By itself it answers every backend call at once and stores nothing: that serves to count calls. With `forward`, calls
go on to a local AWS, and a test may end the process before or after any of them. It is no emulator.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import collections
import json
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_TIMEOUT = 60


class LambdaHost:
    """A function's process, waiting for invocations."""

    def __init__(self, binary, output=subprocess.DEVNULL, forward=None, seconds=60, **variables):
        #: The endpoint that backend calls go on to, if any.
        self.forward = forward
        #: Seconds from an invocation to its deadline.
        self.seconds = seconds
        #: Called with the operation and body of each backend call, before it takes place and after.
        self.before_call = self.after_call = lambda operation, body: None
        self.calls = collections.Counter()
        self._events = queue.Queue()
        self._answers = queue.Queue()
        self._first_next = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # A killed process breaks its connections.
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        port = self._server.server_port
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "measured",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_LEVEL": "WARN",
            "AWS_REGION": "us-east-1",
            # The account's own key, if no session of a role is among the variables.
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
        if not self._first_next.wait(ANSWER_TIMEOUT):
            self.stop()
            raise TimeoutError(f"{binary} did not ask for an invocation")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self._server.shutdown()
        self._server.server_close()

    def invoke(self, event):
        """Invokes the function and returns its answer; None where the process ended instead."""
        self._events.put(json.dumps(event).encode())
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < deadline:
            try:
                return self._answers.get(timeout=0.05)
            except queue.Empty:
                if self.process.poll() is not None:
                    return None
        raise TimeoutError("the function did not answer")

    def kill(self):
        """Ends the process as a crash does."""
        self.process.kill()
        self.process.wait()


def _handler(host):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def answer(self, status, body, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):  # /2018-06-01/runtime/invocation/next
            host._first_next.set()
            event = host._events.get()
            self.answer(
                200,
                event,
                Lambda_Runtime_Aws_Request_Id="8476a536-e9f4-11e8-9739-2dfe598c3fcd",
                Lambda_Runtime_Deadline_Ms=str(int((time.time() + host.seconds) * 1000)),
                Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:us-east-1:123456789012:function:measured",
            )

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = self.headers.get("X-Amz-Target")
            if target is None:  # The answer to an invocation.
                self.answer(202, b"{}")
                host._answers.put(json.loads(body))
                return
            operation = target.partition(".")[2]
            host.calls[operation] += 1
            host.before_call(operation, body)
            if host.process.poll() is not None:
                return
            if host.forward:
                status, answer = _forward(host.forward, self.headers, body)
            else:
                status, answer = 200, _backend(operation, body)
            host.after_call(operation, body)
            self.answer(status, answer, Content_Type="application/x-amz-json-1.0")

    return Handler


def _forward(endpoint, headers, body):
    # The host is kept: it is signed.
    kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
    request = urllib.request.Request(endpoint, data=body, headers=kept, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def _backend(operation, body):
    if operation == "BatchExecuteStatement":
        return json.dumps({"Responses": [{"TableName": "notifications"}] * body.count(b'"Statement"')}).encode()
    if operation == "PutRecords":
        count = body.count(b'"PartitionKey"')
        records = [{"SequenceNumber": "1", "ShardId": "shardId-000000000000"}] * count
        return json.dumps({"FailedRecordCount": 0, "Records": records}).encode()
    if operation == "ChangeMessageVisibilityBatch":
        entries = json.loads(body)["Entries"]
        return json.dumps({"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}).encode()
    return b"{}"
