"""What a sweep costs: the real binary, against a table of its own."""

import time
import uuid

from conftest import pending_shard
from local import batches
from local.lambda_host import LambdaHost
from local.stack import ROOT

#: Between two of the times at which a pending notification is due: after an hour and a half, and after three.
SINCE = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 120 * 60))

#: Of all items, so many are pending, about so many have long been FAILED, and so many are IN_DOUBT; the others are DONE.
ITEMS = 30_000
PENDING = 1_000
FAILED = 15_000
IN_DOUBT = 100


def test_a_sweep_reads_only_what_is_pending_or_in_doubt_and_publishes_it_once(stack, capsys):
    """1,000 pending among 30,000: the indexes cost what the pending ones cost, however many have failed."""
    name = f"sweep-{uuid.uuid4().hex[:12]}"
    table, stream = stack.dynamodb, stack.kinesis
    key = lambda name, kind: {"AttributeName": name, "KeyType": kind}  # noqa: E731
    table.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "pending_shard", "AttributeType": "N"},
            {"AttributeName": "pending_since", "AttributeType": "S"},
            {"AttributeName": "unresolved_partition", "AttributeType": "S"},
            {"AttributeName": "unresolved_since", "AttributeType": "S"},
        ],
        KeySchema=[key("id", "HASH")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "pending",
                "KeySchema": [key("pending_shard", "HASH"), key("pending_since", "RANGE")],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
            {
                "IndexName": "unresolved",
                "KeySchema": [key("unresolved_partition", "HASH"), key("unresolved_since", "RANGE")],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]},
            },
        ],
    )
    stream.create_stream(StreamName=name, ShardCount=4)
    try:
        fill(table, name)
        with LambdaHost(
            ROOT / ".aws-sam" / "build" / "Publisher" / "bootstrap",
            AWS_ENDPOINT_URL=stack.stack.endpoint, TABLE_NAME=name, STREAM_NAME=name,
        ) as host:
            swept, again = host.invoke({"sweep": True}), host.invoke({"sweep": True})
        with capsys.disabled():
            print(f"\n  {PENDING:,} pending and {FAILED:,} FAILED among {ITEMS:,}: {swept}; and again: {again}")
        assert (swept["published"], swept["failed"], swept["complete"]) == (PENDING, 0, True)
        assert (again["published"], again["notDue"], again["complete"]) == (0, PENDING, True)
        assert (swept["inDoubt"], swept["recentlyFailed"]) == (IN_DOUBT, 0)
        # A key of the index has well under 200 bytes, and 4 KB are half a unit: reading all items would cost thousands.
        assert 0 < swept["indexReadUnits"] < 100
    finally:
        table.delete_table(TableName=name)
        stream.delete_stream(StreamName=name)


def unresolved(item, status, notification_id):
    item["status"] = {"S": status}
    item["unresolved_partition"] = {"S": f"{status}#{pending_shard(notification_id)}"}
    item["unresolved_since"] = {"S": SINCE}


def fill(table, name):
    def item(number):
        notification_id = f"rfd-{number:06}"
        item = {"id": {"S": notification_id}, "status": {"S": "DONE"}}
        if number % (ITEMS // PENDING) == 0:
            item["status"] = {"S": "INIT"}
            item["event"] = {"S": batches.event(notification_id)}
            item["pending_shard"] = {"N": str(pending_shard(notification_id))}
            item["pending_since"] = {"S": SINCE}
        elif number % (ITEMS // IN_DOUBT) == 1:
            unresolved(item, "IN_DOUBT", notification_id)
        elif number % (ITEMS // FAILED) == 1:
            unresolved(item, "FAILED", notification_id)
        return item

    for start in range(0, ITEMS, 25):
        puts = [{"PutRequest": {"Item": item(number)}} for number in range(start, start + 25)]
        assert not table.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]
