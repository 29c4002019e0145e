"""Each guarantee, with the real binary killed at each point, against a database: the end state is what it promises."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from local import batches
from local.lambda_host import LambdaHost
from local.receiver import Receiver
from local.stack import ROOT

DOWNSTREAM = ROOT / ".aws-sam" / "build" / "Downstream" / "bootstrap"
OK = {"batchItemFailures": []}

#: Seconds from an invocation to its deadline, and how long a claim outlasts it (limits.rs).
DEADLINE, LEASE_BEYOND_DEADLINE = 4, 10

#: Where a delivery must have its whole time (20 s) before the deadline, and may be repeated.
LONG_DEADLINE = 25


class World:
    """One notification that is INIT, and downstream's processes that work on it."""

    def __init__(self, stack, notification_id, seconds=DEADLINE, **variables):
        self.stack, self.id, self.seconds = stack, notification_id, seconds
        # So that the deployed functions have nothing to do with it.
        stack.lose_stream_record(notification_id, batches.event(notification_id), seconds_ago=0)
        # The role of the deployed function, which has the ledger for its action, may read no secret.
        role = {} if variables["ACTION"] == "webhook" else stack.stack.session(stack.outputs["DownstreamFunction"])
        self.variables = {"TABLE_NAME": stack.table, **role, **variables}

    def run(self, kill_before=None, kill_after=None):
        """One process and one invocation. It may be killed before or after the backend call that holds a text."""
        with self.start() as host:
            self.host = host
            host.before_call = lambda _, body: kill_before and kill_before in body and host.kill()
            host.after_call = lambda _, body: kill_after and kill_after in body and host.kill()
            return host.invoke(batches.kinesis_of(self.id))

    def start(self):
        return LambdaHost(DOWNSTREAM, forward=self.stack.stack.endpoint, seconds=self.seconds, **self.variables)

    @property
    def status(self):
        return self.stack.status(self.id)


# What the statements and expressions of each write hold, and no other.
DONE, CLAIM, TRANSACTION = b'"DONE"', b'"CLAIMED"},{"S"', b"TransactItems"


# ---- transactional -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point, after_crash", [("kill_before", "INIT"), ("kill_after", "DONE")])
def test_transactional_a_crash_leaves_all_or_nothing_and_the_repeat_makes_it_once(stack, prefix, point, after_crash):
    world = World(stack, prefix, ACTION="ledger", LEDGER_TABLE_NAME=stack.outputs["LedgerTableName"])
    assert world.run(**{point: TRANSACTION}) is None, "it was killed"
    assert world.status == after_crash
    assert (stack.entry(prefix) is not None) == (after_crash == "DONE"), "the effect and DONE go together"
    assert world.run() == OK
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
def test_idempotent_a_crash_brings_a_repeat_that_the_receiver_dedupes(stack, prefix, receiver, point, after_crash, calls):
    world = webhook(stack, prefix, receiver, "idempotent")
    if point == "during the call":
        receiver.on_call = lambda _: world.host.kill()
    kills = {
        "before the call": {"kill_after": b"RequestItems"},
        "during the call": {},
        "after the call": {"kill_before": DONE},
        "after DONE": {"kill_after": DONE},
    }
    assert world.run(**kills[point]) is None, "it was killed"
    assert world.status == after_crash
    receiver.on_call = lambda _: None
    assert world.run() == OK
    assert world.status == "DONE"
    assert receiver.calls == {prefix: calls}
    assert receiver.bodies == {prefix: batches.event(prefix)}, "one effect, for a receiver that dedupes by the key"


def test_at_most_once_a_crash_never_makes_a_second_call(stack, prefix, receiver):
    """All points at once, because each waits for its claim to lapse."""
    killed_in_call = []

    def crash_at(point, after_crash, in_the_end, calls):
        notification_id = f"{prefix}-{point.replace(' ', '-')}"
        world = webhook(stack, notification_id, receiver, "at-most-once")
        if point == "during the call":
            killed_in_call.append((notification_id, world))
        kills = {
            "before the claim": {"kill_before": CLAIM},
            "after the claim": {"kill_after": CLAIM},
            "during the call": {},
            "after the call": {"kill_before": DONE},
            "after DONE": {"kill_after": DONE},
        }
        assert world.run(**kills[point]) is None, point
        assert world.status == after_crash, point
        if after_crash == "CLAIMED":
            assert world.run() != OK, f"{point}: the claim is live, so the record must come again"
            assert world.status == "CLAIMED", point
            time.sleep(world.seconds + LEASE_BEYOND_DEADLINE)
        assert world.run() == OK, point
        assert world.run() == OK, point
        assert (world.status, receiver.calls[notification_id]) == (in_the_end, calls), point

    def on_call(notification_id):
        for killed, world in killed_in_call:
            if killed == notification_id:
                world.host.kill()

    receiver.on_call = on_call
    points = [
        ("before the claim", "INIT", "DONE", 1),
        ("after the claim", "CLAIMED", "IN_DOUBT", 0),
        ("during the call", "CLAIMED", "IN_DOUBT", 1),
        ("after the call", "CLAIMED", "IN_DOUBT", 1),
        ("after DONE", "DONE", "DONE", 1),
    ]
    with ThreadPoolExecutor(len(points)) as pool:
        for future in [pool.submit(crash_at, *point) for point in points]:
            future.result()


@pytest.mark.parametrize(
    "answer, status, come_again",
    [
        (204, "DONE", False),
        (404, "FAILED", False),
        (302, "FAILED", False),
        (409, "INIT", True),
        (429, "INIT", True),
        (503, "INIT", True),
    ],
)
def test_an_answer_of_the_receiver_has_its_meaning(stack, prefix, receiver, answer, status, come_again):
    receiver.on_call = lambda _: answer
    world = webhook(stack, prefix, receiver, "idempotent")
    assert (world.run() != OK) == come_again
    assert world.status == status
    assert receiver.calls == {prefix: 1}


def test_a_refusal_is_not_failed_where_an_earlier_call_may_have_succeeded(stack, prefix, receiver):
    receiver.on_call = lambda _: 503
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() != OK
    assert world.status == "INIT" and "unknown_call_at" in stack.item(prefix)
    receiver.on_call = lambda _: 404
    assert world.run() == OK
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 2})
    assert "404" in stack.item(prefix)["reason"]["S"] and "unknown" in stack.item(prefix)["reason"]["S"]


def test_a_call_with_an_unknown_outcome_keeps_the_notification_from_a_call_at_most_once(stack, prefix, receiver):
    """The deployment changes its guarantee between two attempts."""
    receiver.on_call = lambda _: 503
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() != OK
    world.variables["WEBHOOK_GUARANTEE"] = "at-most-once"
    assert world.run() == OK
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 1})


def test_a_delivery_does_not_start_where_the_time_that_it_may_take_is_not_left(stack, prefix, receiver):
    world = webhook(stack, prefix, receiver, "idempotent")
    world.seconds = DEADLINE
    assert world.run() != OK
    assert (world.status, receiver.calls) == ("INIT", {})


def test_a_lapsed_claim_is_settled_after_the_action_was_changed(stack, prefix):
    world = World(stack, prefix, ACTION="mark-done")
    stack.dynamodb.update_item(
        TableName=stack.table, Key={"id": {"S": prefix}},
        UpdateExpression="SET #s = :claimed, #o = :owner, lease_until = :past",
        ExpressionAttributeNames={"#s": "status", "#o": "owner"},
        ExpressionAttributeValues={
            ":claimed": {"S": "CLAIMED"}, ":owner": {"S": "gone"}, ":past": {"S": "2026-01-01T00:00:00.000Z"},
        },
    )
    assert world.run() == OK
    assert world.status == "IN_DOUBT"


@pytest.mark.parametrize("busy", [429, 503])
def test_retry_after_is_waited_for_where_the_deadline_leaves_time_and_not_where_it_does_not(stack, prefix, receiver, busy):
    receiver.on_call = lambda notification_id: (busy, {"Retry-After": "1"}) if receiver.calls[notification_id] == 1 else 200
    world = webhook(stack, prefix, receiver, "idempotent")
    assert world.run() == OK
    assert (world.status, receiver.calls) == ("DONE", {prefix: 2})

    receiver.on_call = lambda _: (busy, {"Retry-After": "3600"})
    world = webhook(stack, f"{prefix}-later", receiver, "idempotent")
    assert world.run() != OK
    assert (world.status, receiver.calls[f"{prefix}-later"]) == ("INIT", 1)


def test_an_answer_of_5xx_leaves_an_at_most_once_delivery_in_doubt_and_is_not_repeated(stack, prefix, receiver):
    receiver.on_call = lambda _: (503, {"Retry-After": "1"})
    world = webhook(stack, prefix, receiver, "at-most-once")
    assert world.run() == OK
    assert (world.status, receiver.calls) == ("IN_DOUBT", {prefix: 1})
    assert "503" in stack.item(prefix)["reason"]["S"]


@pytest.mark.parametrize("guarantee", ["idempotent", "at-most-once"])
def test_a_secret_that_was_rotated_since_the_start_is_read_again_and_the_delivery_repeated(stack, prefix, receiver, guarantee):
    world = webhook(stack, prefix, receiver, guarantee)
    world.seconds = LONG_DEADLINE + 5
    with world.start() as host:
        receiver.rotate()
        stack.stack.client("secretsmanager").put_secret_value(SecretId=receiver.secret_id, SecretString=receiver.secret)
        assert host.invoke(batches.kinesis_of(prefix)) == OK
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
        assert world.run() == OK
        assert world.status == "DONE"


def test_an_id_with_a_dot_is_delivered_under_its_own_key(stack, prefix, receiver):
    world = webhook(stack, f"{prefix}.1", receiver, "idempotent")
    assert world.run() == OK
    assert (world.status, receiver.calls) == ("DONE", {f"{prefix}.1": 1})


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, "WEBHOOK_URL is missing"),
        ({"WEBHOOK_URL": "http://example.com"}, "WEBHOOK_URL is wrong: it is not https"),
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
