"""One local stack for all tests, and what they need to speak to it."""

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
from local.stack import Stack  # noqa: E402

#: Seconds until a test gives up waiting. A killed ingest's messages are back after 13.
PATIENCE = 150

#: Not the default, so that a test sees who forgets it.
DONE_RETENTION_DAYS = 40


def pytest_configure(config):
    if not (ROOT / ".aws-sam" / "build" / "template.yaml").exists():
        pytest.exit("nothing is built yet: run `make e2e`", returncode=2)


@pytest.fixture(scope="session")
def stack():
    # The ledger is the action that shows most: its effect is in the same transaction as DONE.
    stack = Stack.start("test", Action="ledger", SweepAge=60, DoneRetentionDays=DONE_RETENTION_DAYS)
    yield Service(stack)
    stack.stop()


@pytest.fixture
def prefix():
    """Ids of a test's own."""
    return f"t-{uuid.uuid4().hex[:12]}"


def pending_shard(notification_id):
    """FNV-1a, modulo the number of partitions: the same as NotificationId::pending_shard."""
    digest = 0xCBF29CE484222325
    for byte in notification_id.encode():
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest % 32


class Service:
    """The deployed service, as upstream and an operator see it."""

    def __init__(self, stack):
        self.stack = stack
        self.outputs = stack.outputs()
        self.sqs = stack.client("sqs")
        self.dynamodb = stack.client("dynamodb")
        self.kinesis = stack.client("kinesis")
        self.table = self.outputs["TableName"]

    def send(self, *bodies):
        """Sends message bodies and returns their message ids."""
        return [
            self.sqs.send_message(QueueUrl=self.outputs["QueueUrl"], MessageBody=body)["MessageId"] for body in bodies
        ]

    def item(self, notification_id):
        found = self.dynamodb.get_item(TableName=self.table, Key={"id": {"S": notification_id}}, ConsistentRead=True)
        return found.get("Item")

    def status(self, notification_id):
        item = self.item(notification_id)
        return item and item["status"]["S"]

    def entry(self, notification_id):
        """The ledger's entry for a notification."""
        table = self.outputs["LedgerTableName"]
        return self.dynamodb.get_item(TableName=table, Key={"id": {"S": notification_id}}).get("Item")

    def lose_stream_record(self, notification_id, body, seconds_ago):
        """Puts a notification as INIT that publisher passes over, as if its stream record had expired.

        First it is CLAIMED and then it is given back: what was pending before is not published again.
        """
        since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - seconds_ago))
        item = {
            "id": notification_id, "status": "CLAIMED", "event": body, "source": "urn:example:orders",
            "type": "com.example.refund.requested", "received_at": since, "pending_since": since,
        }
        item = {name: {"S": value} for name, value in item.items()}
        item["pending_shard"] = {"N": str(pending_shard(notification_id))}
        self.dynamodb.put_item(TableName=self.table, Item=item)
        self.dynamodb.update_item(
            TableName=self.table, Key={"id": {"S": notification_id}}, UpdateExpression="SET #s = :init",
            ExpressionAttributeNames={"#s": "status"}, ExpressionAttributeValues={":init": {"S": "INIT"}},
        )

    def sweep(self):
        """Invokes publisher as its schedule does, and returns what the sweep did."""
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
        raise AssertionError(f"{what}: not within {PATIENCE} s; see {self.stack.log}")

    def wait_for_status(self, notification_id, status):
        self.wait_for(f"{notification_id} is {status}", lambda: self.status(notification_id) == status)

    def dead_letters(self):
        """Bodies of the messages in the dead-letter queue by message id, left there."""
        found = {}
        while True:
            messages = self.sqs.receive_message(
                QueueUrl=self.outputs["DeadLetterQueueUrl"], MaxNumberOfMessages=10, VisibilityTimeout=1
            ).get("Messages", [])
            if not any(message["MessageId"] not in found for message in messages):
                return found
            found.update({message["MessageId"]: message["Body"] for message in messages})

    def log_lines(self, text):
        """The functions' JSON log lines that hold a text."""
        lines = self.stack.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and text in line]

    def records(self):
        """All records of the Kinesis stream: partition key, data and shard."""
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
        """The status before and after each change of each notification, as the table's stream has them."""
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
                    if before or after:  # The sweep's cursor has no status.
                        found[change["Keys"]["id"]["S"]].append((before, after))
                iterator = answer.get("NextShardIterator") if answer["Records"] else None
        return found

    def notifyctl(self, *arguments):
        """Runs notifyctl with --json and returns its exit status and its result."""
        run = self.stack.notifyctl("--json", *arguments, capture_output=True)
        return run.returncode, json.loads(run.stdout) if run.stdout.strip() else run.stderr


@pytest.fixture
def event():
    """Makes the JSON of an event."""
    return batches.event
