"""Notifications on their way through the deployed service."""

import json
import re
import time

import pytest

from conftest import DONE_RETENTION_DAYS


@pytest.fixture
def long_visibility_timeout(stack):
    """The queue's visibility timeout is that of production. Six receives at this interval would take 19 minutes."""
    url = stack.outputs["QueueUrl"]
    attributes = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    stack.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "190"})
    yield
    stack.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def test_a_notification_reaches_done_and_the_table_and_the_stream_hold_it_byte_for_byte(stack, prefix, event):
    # Key order, spaces and number spelling must survive.
    body = event(prefix).replace('"data":{', '"data": { "zero": 1.10, ').replace('"currency"', '\n "currency"')
    stack.send(body)
    stack.wait_for_status(prefix, "DONE")

    item = stack.item(prefix)
    assert item["event"] == {"S": body}
    assert item["source"] == {"S": "urn:example:orders"}
    assert item["type"] == {"S": "com.example.refund.requested"}
    rfc_3339_milliseconds = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rfc_3339_milliseconds, item["received_at"]["S"])
    assert re.fullmatch(rfc_3339_milliseconds, item["done_at"]["S"])
    after_its_retention = time.time() + DONE_RETENTION_DAYS * 24 * 3600
    assert abs(int(item["expires_at"]["N"]) - after_its_retention) < 3600

    assert "pending_shard" not in item and "pending_since" not in item, "it is no longer in the index"

    published = [(data, shard) for key, data, shard in stack.records() if key == prefix]
    assert {data for data, _ in published} == {body.encode()}
    assert len({shard for _, shard in published}) == 1


def test_duplicates_are_suppressed(stack, prefix, event):
    same_content = json.dumps(json.loads(event(prefix)), indent=2)
    first, *_ = stack.send(event(prefix), event(prefix), same_content)
    stack.wait_for_status(prefix, "DONE")
    stack.send(event(prefix))

    def suppressed():
        return [line for line in stack.log_lines(f'"id":"{prefix}"') if line["message"].startswith("duplicate")]

    stack.wait_for("three duplicates are in the log", lambda: len(suppressed()) >= 3)
    assert len(suppressed()) == 3
    assert stack.item(prefix)["status"] == {"S": "DONE"}
    assert first not in stack.dead_letters()


def test_a_refused_message_is_received_six_times_and_is_then_in_the_dead_letter_queue_unchanged(
    stack, prefix, event, long_visibility_timeout
):
    stack.send(event(prefix))
    stack.wait_for_status(prefix, "DONE")
    conflict = event(prefix).replace("19.99", "1000000.00")
    malformed = f'{{"specversion":"1.0","id":"{prefix}-cut'
    no_source = json.dumps({"specversion": "1.0", "id": f"{prefix}-no-source", "type": "t"})
    bodies = [conflict, malformed, no_source]
    bad = dict(zip(stack.send(*bodies), bodies, strict=True))
    neighbours = [f"{prefix}-{n}" for n in range(20)]
    stack.send(*map(event, neighbours))

    for neighbour in neighbours:
        stack.wait_for_status(neighbour, "DONE")
    stack.wait_for("the refused messages are dead letters", lambda: stack.dead_letters().items() >= bad.items())

    reasons = ["conflict", "malformed: not valid JSON", 'the attribute "source" is missing']
    for message_id, reason in zip(bad, reasons, strict=True):
        lines = stack.log_lines(f'"message_id":"{message_id}"')
        assert [line["receive_count"] for line in lines] == [1, 2, 3, 4, 5, 6]
        assert all(line["level"] == "ERROR" and reason in line["reason"] for line in lines)
        assert not any("1000000.00" in json.dumps(line) for line in lines), "the payload is never logged"
    (span,) = [span for span in lines[0]["spans"] if span["name"] == "message"]
    assert span["id"] == f"{prefix}-no-source", "its id is logged if it can be read"

    item = stack.item(prefix)
    assert item["event"] == {"S": event(prefix)}, "the conflict overwrote nothing"
    assert stack.item(f"{prefix}-no-source") is None


def test_poison_in_kinesis_is_quarantined_and_does_not_block_its_shard(stack, prefix, event):
    stream = stack.outputs["StreamName"]
    put = stack.kinesis.put_record(StreamName=stream, PartitionKey=prefix, Data=b"\xff no notification")
    stack.send(event(prefix))

    kept = f"kinesis:{put['ShardId']}:{put['SequenceNumber']}"
    stack.wait_for_status(kept, "FAILED")
    item = stack.item(kept)
    assert item["raw"]["B"] == b"\xff no notification"
    assert item["reason"] == {"S": "not valid UTF-8"}
    stack.wait_for_status(prefix, "DONE")


def test_an_orphan_in_kinesis_is_quarantined_and_not_done(stack, prefix, event):
    stream = stack.outputs["StreamName"]
    put = stack.kinesis.put_record(StreamName=stream, PartitionKey=prefix, Data=event(prefix).encode())
    kept = f"kinesis:{put['ShardId']}:{put['SequenceNumber']}"
    stack.wait_for_status(kept, "FAILED")
    assert stack.item(kept)["reason"] == {"S": "the table has no notification with this id"}
    assert stack.item(prefix) is None


def test_only_notifications_that_became_init_are_published(stack, prefix):
    """Rule 8, by the filter of the event source mapping and in the code."""
    for n, status in enumerate(["DONE", "FAILED", "INIT"]):
        stack.put(f"{prefix}-{n}", status=status, event=f"event {n}")

    def published():
        return [data for key, data, _ in stack.records() if key.startswith(prefix)]

    # Streams keep the order only of changes to the same key, but this table's has one shard: INIT comes last.
    stack.wait_for("INIT is published", published)
    assert set(published()) == {b"event 2"}


def test_the_effect_is_written_with_done_and_amounts_are_exact(stack, prefix, event):
    stack.send(event(prefix).replace('"19.99"', "12345678901234567890.010"), event(f"{prefix}-2"))
    for notification_id in (prefix, f"{prefix}-2"):
        stack.wait_for_status(notification_id, "DONE")
    assert stack.entry(prefix)["amount"] == {"S": "12345678901234567890.010"}
    assert json.loads(stack.item(prefix)["outcome"]["S"])["amount"] == "12345678901234567890.010"
    assert stack.entry(f"{prefix}-2")["amount"] == {"S": "19.99"}


def test_a_rejected_notification_is_failed_with_its_reason_and_has_no_effect(stack, prefix, event):
    stack.send(event(prefix).replace("19.99", "-1"))
    stack.wait_for_status(prefix, "FAILED")
    assert stack.item(prefix)["reason"] == {"S": "rejected: the amount is not a positive decimal number"}
    assert stack.entry(prefix) is None


def test_a_notification_whose_stream_record_is_lost_is_done_after_the_next_sweep(stack, prefix, event):
    events, rule = stack.stack.client("events"), stack.sweep_rule()
    events.disable_rule(Name=rule)
    try:
        stack.lose_stream_record(prefix, event(prefix), seconds_ago=120)
        stack.lose_stream_record(f"{prefix}-young", event(f"{prefix}-young"), seconds_ago=0)
        time.sleep(2)
        assert stack.status(prefix) == "INIT", "only the sweep publishes it again"
    finally:
        events.enable_rule(Name=rule)

    def is_published():
        swept = stack.sweep()
        assert swept["complete"] or swept["skipped"]
        # A run of its schedule may have been faster.
        return swept["published"] >= 1 or stack.status(prefix) != "INIT"

    stack.wait_for("the sweep publishes it", is_published)
    stack.wait_for_status(prefix, "DONE")
    assert stack.entry(prefix)["amount"] == {"S": "19.99"}
    assert stack.status(f"{prefix}-young") == "INIT", "its stream record may still be on its way"
