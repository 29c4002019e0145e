"""Chaos: the deployed service, while its calls fail in every way at once and its processes are killed.

`DURATION` is the time under faults in seconds. `SEED` repeats the faults of a run. `make chaos` takes both.
"""

import collections
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Service
from local.fault_proxy import FATES, FaultProxy
from local.stack import Stack

SECONDS = float(os.environ.get("DURATION") or 25)
SEED = int(os.environ.get("SEED") or random.randrange(10**9))

#: The call that is the one side effect of each function.
EFFECTS = {"BatchExecuteStatement": "ingest", "PutRecords": "publisher", "TransactWriteItems": "downstream"}

#: The function that makes each call; publisher makes all others, because only the sweep makes them.
CALLERS = {**EFFECTS, "ChangeMessageVisibilityBatch": "ingest"}

#: Notifications that are sent at once, and the number of waiting messages above which none are sent.
CHUNK, WAITING = 20, 60

#: Seconds: the age at which a pending notification is published again, the time between two sweeps, the time without
#: calls after which nothing is in progress any more, and the time between two lines of progress.
SWEEP_AGE, SWEEP_EVERY, QUIET, PROGRESS_EVERY = 5, 4, 3, 15


class Chaos:
    """The service behind the proxy, its upstream, its schedule and its operator."""

    def __init__(self, stack, proxy, sent, say):
        self.stack, self.proxy, self.sent, self.say = stack, proxy, sent, say
        self.service = Service(stack)
        self.chunks = 0
        self.messages = 0
        self.redriven = 0
        self.killed = collections.Counter()
        self.chance = random.Random(f"{SEED}/upstream and crashes")
        proxy.kill = self.kill_caller

    def kill_caller(self, operation):
        return self.kill(CALLERS.get(operation, "publisher"))

    def kill(self, function):
        count = self.stack.kill(function)
        self.killed[function] += count
        return count

    def send(self):
        """Sends a chunk with duplicates. Sometimes repeats an old one, as a sender does that had no reply."""
        again = self.chunks and self.chance.random() < 0.1
        number = self.chance.randrange(self.chunks) if again else self.chunks
        self.chunks += not again
        code, result = self.service.notifyctl(
            "send", "--count", CHUNK, "--duplicates", 10, "--prefix", f"chaos-{number:04}", "--seed", SEED + number,
            "--save", self.sent,
        )
        assert code == 0, result
        self.messages += result["sent"]

    def waiting(self):
        attributes = self.service.sqs.get_queue_attributes(
            QueueUrl=self.service.outputs["QueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"])

    def sweep(self):
        """Runs the sweep as its schedule does, which ignores the result."""
        arguments = {"FunctionName": self.service.outputs["PublisherFunction"], "Payload": json.dumps({"sweep": True})}
        self.stack.client("lambda").invoke(**arguments)["Payload"].read()

    def redrive(self):
        """Moves dead letters back to the queue, as an operator does in the SQS console (DLQ redrive)."""
        dead, queue = self.service.outputs["DeadLetterQueueUrl"], self.service.outputs["QueueUrl"]
        while letters := self.service.sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10).get("Messages"):
            for letter in letters:
                self.service.sqs.send_message(QueueUrl=queue, MessageBody=letter["Body"])
                self.service.sqs.delete_message(QueueUrl=dead, ReceiptHandle=letter["ReceiptHandle"])
                self.redriven += 1

    def rage(self):
        """Sends, sweeps and kills under faults, for SECONDS and until each fate has befallen each step's effect."""
        start = progress = time.monotonic()
        swept = 0
        self.proxy.faulty.set()
        with ThreadPoolExecutor(1) as schedule:
            sweeping = None
            while (now := time.monotonic()) < start + SECONDS or (
                self.proxy.not_yet(EFFECTS) and now < start + SECONDS + 150
            ):
                if self.waiting() < WAITING:
                    self.send()
                if self.chance.random() < 0.05:
                    self.kill(self.chance.choice(list(EFFECTS.values())))
                if now > swept + SWEEP_EVERY and (sweeping is None or sweeping.done()):
                    sweeping, swept = schedule.submit(self.sweep), now
                if now > progress + PROGRESS_EVERY:
                    progress = now
                    self.say(f"  {now - start:4.0f} s: {self}")
                time.sleep(0.3)
            self.proxy.faulty.clear()
        self.say(f"  {time.monotonic() - start:4.0f} s: {self}; no more faults")

    def settle(self):
        """Waits until everything is settled, which only dead letters need an operator for. Returns the summary."""
        return self.service.wait_for("all is settled", self.settled)

    def settled(self):
        """The summary, if everything is settled. Otherwise does what an operator does after an outage."""
        self.redrive()
        code, summary = self.service.notifyctl("summary", "--all")
        assert code == 0, summary
        queues = [*summary["queue"].values(), *summary["dead_letter_queue"].values()]
        if any(queues) or set(statuses(summary)) != {"DONE"}:
            # Without its cursor, the next sweep publishes everything that is pending, whether due or not.
            self.service.dynamodb.delete_item(TableName=self.service.table, Key={"id": {"S": "sweep:cursor"}})
            self.sweep()
            return None
        return self.proxy.idle_seconds() > QUIET and summary

    def __str__(self):
        faults = sum(self.proxy.injected.values())
        return (f"{self.messages:,} messages sent, {faults:,} faults in {sum(self.proxy.calls.values()):,} calls,"
                f" {sum(self.killed.values())} processes killed")


def statuses(summary):
    return {status: count for status, count in summary["notifications"].items() if count}


@pytest.fixture
def chaos(tmp_path, capsys):
    def say(text):
        with capsys.disabled():
            print(text, flush=True)

    say(f"\n  chaos with SEED={SEED} for {SECONDS:.0f} s")
    with FaultProxy(SEED) as proxy:
        stack = Stack.start(
            "chaos", Action="ledger", SweepAge=SWEEP_AGE, StreamFunctionTimeout=10, KinesisShardCount=2,
            functions_endpoint=proxy.url,
        )
        proxy.forward_to = stack.endpoint.removeprefix("http://")
        try:
            yield Chaos(stack, proxy, tmp_path / "sent.jsonl", say)
        finally:
            stack.stop()


def test_under_faults_of_every_kind_nothing_is_lost_and_nothing_doubled(chaos):
    print(f"to repeat: SEED={SEED}")  # pytest shows this if the test fails
    chaos.rage()
    for operation, calls in chaos.proxy.calls.items():
        print(operation, calls, {fate: chaos.proxy.injected[operation, fate] for fate in FATES})
    assert chaos.proxy.not_yet(EFFECTS) == [], "each fate must befall the effect of each step"
    assert min(chaos.killed[function] for function in EFFECTS.values()) > 0, chaos.killed

    summary = chaos.settle()
    once = [(None, "INIT"), ("INIT", "DONE")]
    others = {notification: steps for notification, steps in chaos.service.changes().items() if steps != once}
    assert others == {}, "each is inserted once, becomes DONE once, and is not written again"
    code, audit = chaos.service.notifyctl("audit", chaos.sent)
    distinct = chaos.chunks * CHUNK
    assert (code, audit["problems"]) == (0, [])
    assert statuses(summary) == {"DONE": distinct}, "and nothing else is in the table"
    assert audit["done_once"] == audit["distinct"] == audit["ledger"]["entries"] == distinct
    assert audit["duplicates_suppressed"] == chaos.messages - distinct
    assert audit["ledger"]["paid"] == audit["ledger"]["asked"]
    assert audit["dead_lettered"] == {}
    suppressed = audit["duplicates_suppressed"]
    chaos.say(f"  {distinct:,} notifications DONE once, each with one ledger entry; {suppressed:,} duplicates"
              f" suppressed; {chaos.redriven} dead letters moved back")
