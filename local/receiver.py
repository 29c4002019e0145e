"""A webhook receiver: verifies the signature of each delivery and counts the calls.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import collections
import hashlib
import hmac
import secrets
import time
from urllib.parse import unquote

from local import loopback

#: Seconds by which the timestamp of a delivery may differ from our clock.
TOLERANCE = 300


def accept(_notification_id):
    """Leaves a delivery to be accepted with 200."""


class Receiver:
    """Listens on a loopback port until the end of a `with`."""

    def __init__(self):
        self.rotate()
        #: How often each notification id was delivered.
        self.calls = collections.Counter()
        #: The body of the first delivery of each notification id: a receiver that deduplicates by the idempotency key
        #: acts on these.
        self.bodies = {}
        #: What was wrong with deliveries.
        self.problems = []
        #: Called with the notification id of each delivery. May return the status to answer with, or the status and
        #: headers.
        self.on_call = accept
        self._server = loopback.Server(Handler, self)
        self.url = f"{self._server.url}/notifications"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop()

    def rotate(self):
        """Makes a new secret. From now on, deliveries must be signed with it."""
        self._key = secrets.token_bytes(24)
        self.secret = "whsec_" + base64.b64encode(self._key).decode()

    def problem_of(self, headers, body):
        """What is wrong with a delivery; None if nothing is."""
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
            return "wrong idempotency key"
        if headers.get("content-type") != "application/cloudevents+json; charset=utf-8":
            return "wrong content type"
        return None

    def receive(self, headers, body):
        """Notes a delivery, and returns the status and headers to answer with."""
        notification_id = unquote(headers.get("idempotency-key", ""))
        problem = self.problem_of(headers, body)
        if problem:
            self.problems.append(f"{notification_id}: {problem}")
            return 401, {}
        self.calls[notification_id] += 1
        self.bodies.setdefault(notification_id, body.decode())
        answer = self.on_call(notification_id) or 200
        return answer if isinstance(answer, tuple) else (answer, {})


class Handler(loopback.Handler):
    def do_POST(self):
        status, headers = self.server.owner.receive(self.headers, self.body())
        self.answer(status, b'{"received":true}', headers)
