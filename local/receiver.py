"""A receiver of webhooks: checks each delivery's signature, and notes every call.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import collections
import hashlib
import hmac
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

#: Seconds that a delivery's timestamp may differ from our clock.
TOLERANCE = 300


class Receiver:
    """Listens on a loopback port, in threads of its own."""

    def __init__(self):
        self.rotate()
        #: How often each notification id was delivered.
        self.calls = collections.Counter()
        #: The bodies by notification id: what a receiver that dedupes by the idempotency key acts on.
        self.bodies = {}
        #: What was wrong with deliveries.
        self.problems = []
        #: Called with the id of each delivery before it is answered; it may return the status to answer with, or the
        #: status and headers.
        self.on_call = lambda notification_id: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/notifications"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def rotate(self):
        """Takes a new secret; deliveries must be signed with it from now on."""
        self._key = secrets.token_bytes(24)
        self.secret = "whsec_" + base64.b64encode(self._key).decode()

    def problem_of(self, headers, body):
        webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        if f"v1,{signature}" not in headers.get("webhook-signature", "").split():
            return "wrong signature"
        if abs(time.time() - int(timestamp)) > TOLERANCE:
            return "too old"
        if "." in webhook_id:
            return "a dot in webhook-id"
        if headers.get("idempotency-key", "").replace(".", "%2E") != webhook_id:
            return "another idempotency key"
        if headers.get("content-type") != "application/cloudevents+json; charset=utf-8":
            return "another content type"
        return None


def _handler(receiver):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            notification_id = unquote(self.headers.get("idempotency-key", ""))
            problem = receiver.problem_of(self.headers, body)
            if problem:
                receiver.problems.append(f"{notification_id}: {problem}")
                return self.answer(401)
            receiver.calls[notification_id] += 1
            receiver.bodies.setdefault(notification_id, body.decode())
            answer = receiver.on_call(notification_id) or 200
            return self.answer(*answer) if isinstance(answer, tuple) else self.answer(answer)

        def answer(self, status, headers=None):
            answer = b'{"received":true}'
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return Handler
