"""One local stack for all tests, and what they need to use it."""

import collections
import json
import sys
import time
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local import batches  # noqa: E402
from local.stack import NAME, Stack  # noqa: E402

#: Seconds until a test gives up waiting. The messages of a killed ingest become visible again after 13.
PATIENCE = 150

#: Not the default, so that tests fail where it is ignored.
DONE_RETENTION_DAYS = 40


def pytest_configure(config):
    if not (ROOT / ".aws-sam" / "build" / "template.yaml").exists():
        pytest.exit("nothing is built yet: run `make e2e`", returncode=2)


@pytest.fixture(scope="session")
def stack():
    # The ledger shows the most, because its effect is in the same transaction as DONE.
    stack = Stack.start("test", Action="ledger", SweepAge=60, DoneRetentionDays=DONE_RETENTION_DAYS)
    yield Service(stack)
    stack.stop()


@pytest.fixture
def prefix():
    """A prefix that no ids of other tests have."""
    return f"t-{uuid.uuid4().hex[:12]}"


def pending_shard(notification_id):
    """The same as NotificationId::pending_shard: FNV-1a, modulo the number of partitions."""
    digest = 0xCBF29CE484222325
    for byte in notification_id.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest % 32


def put_item(dynamodb, table, **attributes):
    """Writes an item: integers become numbers, everything else text."""
    item = {name: {"N": str(value)} if isinstance(value, int) else {"S": value} for name, value in attributes.items()}
    dynamodb.put_item(TableName=table, Item=item)


class Service:
    """The deployed service, as upstream and operators see it."""

    def __init__(self, stack):
        self.stack = stack
        self.outputs = stack.outputs()
        self.sqs = stack.client("sqs")
        self.dynamodb = stack.client("dynamodb")
        self.kinesis = stack.client("kinesis")
        self.table = self.outputs["TableName"]

    def send(self, *bodies):
        """Sends messages with these bodies, and returns their ids."""
        return [
            self.sqs.send_message(QueueUrl=self.outputs["QueueUrl"], MessageBody=body)["MessageId"] for body in bodies
        ]

    def item(self, notification_id):
        found = self.dynamodb.get_item(TableName=self.table, Key={"id": {"S": notification_id}}, ConsistentRead=True)
        return found.get("Item")

    def put(self, notification_id, **attributes):
        """Writes an item: integers become numbers, everything else text."""
        put_item(self.dynamodb, self.table, id=notification_id, **attributes)

    def put_unresolved(self, notification_id, body, event_type, since, status="FAILED", code="rejected", reason=None):
        """Writes an item that has been FAILED or IN_DOUBT since a time, as downstream does."""
        self.put(
            notification_id,
            status=status,
            event=body,
            source="urn:example:orders",
            type=event_type,
            received_at=since,
            reason=reason or f"{code}: for a test",
            reason_code=code,
            unresolved_partition=f"{status}#{pending_shard(notification_id)}",
            unresolved_since=since,
            **{"failed_at" if status == "FAILED" else "in_doubt_at": since},
        )

    def status(self, notification_id):
        item = self.item(notification_id)
        return item and item["status"]["S"]

    def entry(self, notification_id):
        """The ledger entry of a notification."""
        table = self.outputs["LedgerTableName"]
        return self.dynamodb.get_item(TableName=table, Key={"id": {"S": notification_id}}).get("Item")

    def sweep_rule(self):
        """The name of the rule that runs the sweep of this stack: other tests deploy stacks of their own."""
        resources = self.stack.client("cloudformation").list_stack_resources(StackName=NAME)["StackResourceSummaries"]
        (rule,) = [found["PhysicalResourceId"] for found in resources if found["ResourceType"] == "AWS::Events::Rule"]
        return rule.rsplit("/")[-1]

    def lose_stream_record(self, notification_id, body, seconds_ago):
        """Writes a notification that is INIT but not published, as if its stream record had expired.

        It is CLAIMED first and released afterwards, because publisher ignores what was pending before.
        """
        since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - seconds_ago))
        self.put(
            notification_id,
            status="CLAIMED",
            event=body,
            source="urn:example:orders",
            type="com.example.refund.requested",
            received_at=since,
            pending_since=since,
            pending_shard=pending_shard(notification_id),
        )
        self.update(notification_id, status="INIT")

    def update(self, notification_id, **attributes):
        """Changes text attributes of an item."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"id": {"S": notification_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in attributes.items()},
        )

    def sweep(self):
        """Runs the sweep as its schedule does, and returns its report."""
        answer = self.stack.client("lambda").invoke(
            FunctionName=self.outputs["PublisherFunction"], Payload=json.dumps({"sweep": True})
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
        return json.loads(answer["Payload"].read())

    def wait_for(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.2)
        raise AssertionError(f"not within {PATIENCE} s: {what}; see {self.stack.log}")

    def wait_for_status(self, notification_id, status):
        self.wait_for(f"{notification_id} is {status}", lambda: self.status(notification_id) == status)

    def dead_letters(self):
        """The bodies of the messages in the dead-letter queue by message id. The messages stay there."""
        found = {}
        while True:
            messages = self.sqs.receive_message(
                QueueUrl=self.outputs["DeadLetterQueueUrl"], MaxNumberOfMessages=10, VisibilityTimeout=1
            ).get("Messages", [])
            if not any(message["MessageId"] not in found for message in messages):
                return found
            found.update({message["MessageId"]: message["Body"] for message in messages})

    def log_lines(self, text):
        """The JSON log lines of the functions that contain a text."""
        lines = self.stack.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and text in line]

    def records(self):
        """The partition key, data and shard of each record of the Kinesis stream."""
        stream = self.outputs["StreamName"]
        found = []
        for shard in self.kinesis.list_shards(StreamName=stream)["Shards"]:
            iterator = self.kinesis.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while True:
                answer = self.kinesis.get_records(ShardIterator=iterator, Limit=10_000)
                found += [(r["PartitionKey"], r["Data"], shard["ShardId"]) for r in answer["Records"]]
                if not answer["Records"]:
                    break
                iterator = answer["NextShardIterator"]
        return found

    def changes(self):
        """The status before and after each change of each notification, according to the table's stream."""
        streams, arn = self.stack.client("dynamodbstreams"), self.outputs["TableStreamArn"]
        found = collections.defaultdict(list)
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                answer = streams.get_records(ShardIterator=iterator)
                for change in (record["dynamodb"] for record in answer["Records"]):
                    images = change.get("OldImage", {}), change.get("NewImage", {})
                    before, after = (image.get("status", {}).get("S") for image in images)
                    if before or after:  # the sweep's cursor has no status
                        found[change["Keys"]["id"]["S"]].append((before, after))
                iterator = answer.get("NextShardIterator") if answer["Records"] else None
        return found

    def notifyctl(self, *arguments):
        """Runs notifyctl with --json, and returns its exit status and its result."""
        run = self.stack.notifyctl("--json", *arguments, capture_output=True)
        return run.returncode, json.loads(run.stdout) if run.stdout.strip() else run.stderr


@pytest.fixture
def event():
    """A function that returns the event of a notification in JSON."""
    return batches.event
