"""What a sweep costs: the real binary, against a table of its own."""

import time
import uuid

from conftest import pending_shard
from local import batches
from local.lambda_host import LambdaHost
from local.stack import built
from test_template import RESOURCES

#: Between two ages at which a pending notification is due: one and a half hours, and three hours.
SINCE = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 120 * 60))

#: The number of items, and of those that are pending, FAILED (roughly, and long ago) and IN_DOUBT. The rest is DONE.
ITEMS = 30_000
PENDING = 1_000
FAILED = 15_000
IN_DOUBT = 100


def test_a_sweep_reads_only_what_is_pending_or_in_doubt_and_publishes_it_once(stack, capsys):
    """The cost of the indexes follows from the pending notifications, however many items have failed."""
    name = f"sweep-{uuid.uuid4().hex[:12]}"
    table, stream = stack.dynamodb, stack.kinesis
    properties = RESOURCES["Table"]["Properties"]
    kept = ("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")
    table.create_table(TableName=name, **{key: properties[key] for key in kept})
    stream.create_stream(StreamName=name, ShardCount=4)
    try:
        fill(table, name)
        variables = {"AWS_ENDPOINT_URL": stack.stack.endpoint, "TABLE_NAME": name, "STREAM_NAME": name}
        with LambdaHost(built("publisher"), **variables) as host:
            swept, again = host.invoke({"sweep": True}), host.invoke({"sweep": True})
        with capsys.disabled():
            print(f"\n  {PENDING:,} pending and {FAILED:,} FAILED among {ITEMS:,}: {swept}; and again: {again}")
        assert (swept["published"], swept["failed"], swept["complete"]) == (PENDING, 0, True)
        assert (again["published"], again["notDue"], again["complete"]) == (0, PENDING, True)
        assert (swept["inDoubt"], swept["recentlyFailed"]) == (IN_DOUBT, 0)
        # A key of the index has less than 200 bytes, and 4 KB are half a unit: reading all items would cost thousands.
        assert 0 < swept["indexReadUnits"] < 100
    finally:
        table.delete_table(TableName=name)
        stream.delete_stream(StreamName=name)


def fill(table, name):
    for start in range(0, ITEMS, 25):
        puts = [{"PutRequest": {"Item": item(number)}} for number in range(start, start + 25)]
        assert not table.batch_write_item(RequestItems={name: puts})["UnprocessedItems"]


def item(number):
    notification_id = f"rfd-{number:06}"
    shard = pending_shard(notification_id)
    if number % (ITEMS // PENDING) == 0:
        attributes = {
            "status": {"S": "INIT"},
            "event": {"S": batches.event(notification_id)},
            "pending_shard": {"N": str(shard)},
            "pending_since": {"S": SINCE},
        }
    elif number % (ITEMS // IN_DOUBT) == 1:
        attributes = unresolved("IN_DOUBT", shard)
    elif number % (ITEMS // FAILED) == 1:
        attributes = unresolved("FAILED", shard)
    else:
        attributes = {"status": {"S": "DONE"}}
    return {"id": {"S": notification_id}, **attributes}


def unresolved(status, shard):
    return {
        "status": {"S": status},
        "unresolved_partition": {"S": f"{status}#{shard}"},
        "unresolved_since": {"S": SINCE},
    }
