"""Each guarantee, with the real binary and a database. Wherever it is killed, the final state is what is promised."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local import batches
from local.batches import NOTHING_FAILED
from local.lambda_host import LambdaHost
from local.receiver import Receiver, accept
from local.stack import built

DOWNSTREAM = built("downstream")

#: Seconds from an invocation to its deadline, and from the deadline to the end of a claim (limits.rs).
DEADLINE, LEASE_BEYOND_DEADLINE = 4, 10

#: Leaves a delivery its whole time (20 s) before the deadline, and time to repeat it.
LONG_DEADLINE = 25


class World:
    """One notification that is INIT, and the downstream processes that settle it."""

    def __init__(self, stack, notification_id, seconds=DEADLINE, **variables):
        self.stack, self.id, self.seconds = stack, notification_id, seconds
        # The deployed functions must not see it.
        stack.lose_stream_record(notification_id, batches.event(notification_id), seconds_ago=0)
        # The deployed function runs the ledger, so its role may not read secrets.
        role = {} if variables["ACTION"] == "webhook" else stack.stack.session(stack.outputs["DownstreamFunction"])
        self.variables = {"TABLE_NAME": stack.table, **role, **variables}

    def run(self, kill_before=None, kill_after=None):
        """Starts a process and invokes it once. It is killed before or after the backend call that contains a text."""
        with self.start() as host:
            self.host = host
            host.before_call = killer(host, kill_before)
            host.after_call = killer(host, kill_after)
            return host.invoke(batches.kinesis(self.id))

    def start(self):
        return LambdaHost(DOWNSTREAM, forward=self.stack.stack.endpoint, seconds=self.seconds, **self.variables)

    def kill(self, _notification_id=None):
        """Kills the process, as if it crashed during a delivery."""
        self.host.kill()

    @property
    def status(self):
        return self.stack.status(self.id)


def killer(host, text):
    """A hook of a host that kills its process at the backend call that contains a text, if any."""

    def kill(_operation, body):
        if text and text in body:
            host.kill()

    return kill


# Each of these texts is in one kind of write only.
DONE, CLAIM, TRANSACTION = b'"DONE"', b'"CLAIMED"},{"S"', b"TransactItems"


# ---- transactional -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point, after_crash", [("kill_before", "INIT"), ("kill_after", "DONE")])
def test_transactional_a_crash_leaves_all_or_nothing_and_the_repeat_makes_it_once(stack, prefix, point, after_crash):
    world = World(stack, prefix, ACTION="ledger", LEDGER_TABLE_NAME=stack.outputs["LedgerTableName"])
    assert world.run(**{point: TRANSACTION}) is None, "it was killed"
    assert world.status == after_crash
    assert (stack.entry(prefix) is not None) == (after_crash == "DONE"), "the effect and DONE go together"
    assert world.run() == NOTHING_FAILED
    assert world.status == "DONE" and stack.entry(prefix)["amount"] == {"S": "19.99"}


# ---- webhook -------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(stack):
    with Receiver() as receiver:
        secrets = stack.stack.client("secretsmanager")
        receiver.secret_id = secrets.create_secret(Name=receiver.url, SecretString=receiver.secret)["ARN"]
        yield receiver
        assert receiver.problems == []


def webhook(stack, notification_id, receiver, guarantee):
    return World(
        stack, notification_id, LONG_DEADLINE, ACTION="webhook",
        WEBHOOK_URL=receiver.url, WEBHOOK_SECRET_ID=receiver.secret_id, WEBHOOK_GUARANTEE=guarantee,
    )


@pytest.mark.parametrize(
    "point, after_crash, calls",
    [
        ("before the call", "INIT", 1),
        ("during the call", "INIT", 2),
        ("after the call", "INIT", 2),
        ("after DONE", "DONE", 1),
    ],
)
def test_idempotent_a_crash_brings_a_repeat_that_the_receiver_dedupes(
    stack, prefix, receiver, point, after_crash, calls
):
    world = webhook(stack, prefix, receiver, "idempotent")
    if point == "during the call":
        receiver.on_call = world.kill
    kills = {
        "before the call": {"kill_after": b"RequestItems"},
        "during the call": {},
        "after the call": {"kill_before": DONE},
        "after DONE": {"kill_after": DONE},
    }
    assert world.run(**kills[point]) is None, "it was killed"
    assert world.status == after_crash
    receiver.on_call = accept
    assert world.run() == NOTHING_FAILED
    assert world.status == "DONE"
    assert receiver.calls == {prefix: calls}
    assert receiver.bodies == {prefix: batches.event(prefix)}, "one effect at a receiver that deduplicates by the key"


#: Where a crash happens at most once: how the process is killed, the status then and in the end, and the calls.
CRASHES_AT_MOST_ONCE = {
    "before the claim": ({"kill_before": CLAIM}, "INIT", "DONE", 1),
    "after the claim": ({"kill_after": CLAIM}, "CLAIMED", "IN_DOUBT", 0),
    "during the call": ({}, "CLAIMED", "IN_DOUBT", 1),
    "after the call": ({"kill_before": DONE}, "CLAIMED", "IN_DOUBT", 1),
    "after DONE": ({"kill_after": DONE}, "DONE", "DONE", 1),
}


def test_at_most_once_a_crash_never_makes_a_second_call(stack, prefix, receiver):
    """All crashes run at once, because each waits for its claim to expire."""
    worlds = {
        point: webhook(stack, f"{prefix}-{point.replace(' ', '-')}", receiver, "at-most-once")
        for point in CRASHES_AT_MOST_ONCE
    }
    killed_in_call = worlds["during the call"]

    def kill_in_call(notification_id):
        if notification_id == killed_in_call.id:
            killed_in_call.kill()

    receiver.on_call = kill_in_call
    with ThreadPoolExecutor(len(worlds)) as pool:
        list(pool.map(crash_at_most_once, worlds, worlds.values(), [receiver] * len(worlds)))


def crash_at_most_once(point, world, receiver):
    kill, after_crash, in_the_end, calls = CRASHES_AT_MOST_ONCE[point]
    assert world.run(**kill) is None, point
    assert world.status == after_crash, point
    if after_crash == "CLAIMED":
        assert world.run() != NOTHING_FAILED, f"{point}: the claim has not expired, so the record must be retried"
        assert world.status == "CLAIMED", point
        time.sleep(world.seconds + LEASE_BEYOND_DEADLINE)
    assert world.run() == NOTHING_FAILED, point
    assert world.run() == NOTHING_FAILED, point
    assert (world.status, receiver.calls[world.id]) == (in_the_end, calls), point


@pytest.mark.parametrize(
    "answer, status, is_retried",
    [
        (204, "DONE", False),
        (404, "FAILED", False),
        (302, "FAILED", False),
        (409, "INIT", True),
        (429, "INIT", True),
        (503, "INIT", True),
    ],
)
def test_an_answer_of_the_receiver_has_its_meaning(stack, prefix, receiver, answer, status, is_retried):
    receiver.on_call = lambda _: answer
    world = webhook(stack, prefix, receiver, "idempotent")
    assert (world.run() != NOTHING_FAILED) == is_retried
    assert world.status == status
    assert receiver.calls == {prefix: 1}


def test_a_refusal_is_not_failed_where_an_earlier_call_may_have_succeeded(stack, prefix, receiver):
    receiver.on_call = lambda _: 503
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() != NOTHING_FAILED
    assert world.status == "INIT" and "unknown_call_at" in stack.item(prefix)
    receiver.on_call = lambda _: 404
    assert world.run() == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 2})
    assert "404" in stack.item(prefix)["reason"]["S"] and "unknown" in stack.item(prefix)["reason"]["S"]


def test_a_call_with_an_unknown_outcome_keeps_the_notification_from_a_call_at_most_once(stack, prefix, receiver):
    """The deployment changes its guarantee between two attempts."""
    receiver.on_call = lambda _: 503
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() != NOTHING_FAILED
    world.variables["WEBHOOK_GUARANTEE"] = "at-most-once"
    assert world.run() == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 1})


def test_a_delivery_does_not_start_without_enough_time_before_the_deadline(stack, prefix, receiver):
    world = webhook(stack, prefix, receiver, "idempotent")
    world.seconds = DEADLINE
    assert world.run() != NOTHING_FAILED
    assert (world.status, receiver.calls) == ("INIT", {})


def test_an_expired_claim_is_settled_after_the_action_was_changed(stack, prefix):
    world = World(stack, prefix, ACTION="mark-done")
    stack.update(prefix, status="CLAIMED", owner="gone", lease_until="2026-01-01T00:00:00.000Z")
    assert world.run() == NOTHING_FAILED
    assert world.status == "IN_DOUBT"


@pytest.mark.parametrize("busy", [429, 503])
def test_retry_after_is_honoured_only_if_the_deadline_leaves_time(stack, prefix, receiver, busy):
    receiver.on_call = lambda i: (busy, {"Retry-After": "1"}) if receiver.calls[i] == 1 else 200
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("DONE", {prefix: 2})

    receiver.on_call = lambda _: (busy, {"Retry-After": "3600"})
    world = webhook(stack, f"{prefix}-later", receiver, "idempotent")
    assert world.run() != NOTHING_FAILED
    assert (world.status, receiver.calls[f"{prefix}-later"]) == ("INIT", 1)


def test_an_answer_of_5xx_leaves_an_at_most_once_delivery_in_doubt_and_is_not_repeated(stack, prefix, receiver):
    receiver.on_call = lambda _: (503, {"Retry-After": "1"})
    world = webhook(stack, prefix, receiver, "at-most-once")
    assert world.run() == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 1})
    assert "503" in stack.item(prefix)["reason"]["S"]


@pytest.mark.parametrize("guarantee", ["idempotent", "at-most-once"])
def test_a_secret_rotated_since_the_start_is_read_again_and_the_delivery_repeated(stack, prefix, receiver, guarantee):
    world = webhook(stack, prefix, receiver, guarantee)
    world.seconds = LONG_DEADLINE + 5
    with world.start() as host:
        receiver.rotate()
        stack.stack.client("secretsmanager").put_secret_value(SecretId=receiver.secret_id, SecretString=receiver.secret)
        assert host.invoke(batches.kinesis(prefix)) == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("DONE", {prefix: 1})
    assert receiver.problems == [f"{prefix}: wrong signature"]
    receiver.problems.clear()


def test_while_the_secret_holds_two_a_receiver_that_knows_either_accepts_the_delivery(stack, prefix, receiver):
    secrets = stack.stack.client("secretsmanager")
    old = receiver.secret
    receiver.rotate()
    for number, both in enumerate([f"{receiver.secret} {old}", f"{old}\n{receiver.secret}"]):
        secrets.put_secret_value(SecretId=receiver.secret_id, SecretString=both)
        world = webhook(stack, f"{prefix}-{number}", receiver, "idempotent")
        assert world.run() == NOTHING_FAILED
        assert world.status == "DONE"


def test_an_id_with_a_dot_is_delivered_under_its_own_key(stack, prefix, receiver):
    world = webhook(stack, f"{prefix}.1", receiver, "idempotent")
    assert world.run() == NOTHING_FAILED
    assert (world.status, receiver.calls) == ("DONE", {f"{prefix}.1": 1})


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, "WEBHOOK_URL is missing"),
        ({"WEBHOOK_URL": "http://example.com"}, "WEBHOOK_URL is invalid: it is not https"),
        ({"WEBHOOK_URL": "https://example.com"}, "WEBHOOK_SECRET_ID is missing"),
        ({"WEBHOOK_URL": "https://example.com", "WEBHOOK_SECRET_ID": "none"}, "the secret none cannot be read"),
    ],
)
def test_bad_webhook_settings_end_the_process_at_start_and_are_named(stack, variables, expected):
    environment = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9", "TABLE_NAME": "t", "ACTION": "webhook", **variables}
    run = subprocess.run(
        [DOWNSTREAM], env={**stack.stack.environment, **environment}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode != 0
    assert expected in run.stderr
