"""What a sweep costs: the real binary, against a table of its own."""

import uuid

from conftest import pending_shard
from local import batches
from local.lambda_host import LambdaHost
from local.stack import ROOT

ITEMS = 100_000
PENDING = 1_000


def test_a_sweep_reads_only_what_is_pending(stack, capsys):
    """1,000 pending among 100,000: the index costs what the pending ones cost."""
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
        ],
        KeySchema=[key("id", "HASH")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "pending",
                "KeySchema": [key("pending_shard", "HASH"), key("pending_since", "RANGE")],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    stream.create_stream(StreamName=name, ShardCount=4)
    try:
        fill(table, name)
        with LambdaHost(
            ROOT / ".aws-sam" / "build" / "Publisher" / "bootstrap",
            AWS_ENDPOINT_URL=stack.stack.endpoint, TABLE_NAME=name, STREAM_NAME=name,
        ) as host:
            swept = host.invoke({"sweep": True})
        with capsys.disabled():
            print(f"\n  {PENDING:,} pending among {ITEMS:,}: {swept}")
        assert (swept["published"], swept["failed"], swept["complete"]) == (PENDING, 0, True)
        # A key of the index has well under 200 bytes, and 4 KB are half a unit: reading all items would cost thousands.
        assert 0 < swept["indexReadUnits"] < 100
    finally:
        table.delete_table(TableName=name)
        stream.delete_stream(StreamName=name)


def fill(table, name):
    def item(number):
        notification_id = f"rfd-{number:06}"
        item = {"id": {"S": notification_id}, "status": {"S": "DONE"}}
        if number % (ITEMS // PENDING) == 0:
            item["status"] = {"S": "INIT"}
            item["event"] = {"S": batches.event(notification_id)}
            item["pending_shard"] = {"N": str(pending_shard(notification_id))}
            item["pending_since"] = {"S": "2026-01-01T00:00:00.000Z"}
        return item

    for start in range(0, ITEMS, 25):
        puts = [{"PutRequest": {"Item": item(number)}} for number in range(start, start + 25)]
        assert not table.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]
