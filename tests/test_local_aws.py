"""What the local AWS does only because `local/start_ministack.py` completes it.

Where a test here fails because MiniStack needs no completion any more, take that completion out.
"""

import contextlib
import subprocess
import tempfile
import time
import urllib.request

import boto3
import pytest

from local.stack import MINISTACK, aws_environment, free_port

BARE = [MINISTACK[0], "-m", "ministack"]

TABLE = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
}
INSERT = "INSERT INTO \"table\" VALUE {'id': ?, 'status': 'INIT'}"
UPDATE = "UPDATE \"table\" SET \"status\" = 'DONE' WHERE \"id\" = ? AND \"status\" = 'INIT'"
DELETE = "DELETE FROM \"table\" WHERE \"id\" = ?"


@contextlib.contextmanager
def local_aws(command, **variables):
    """A MiniStack of the test's own, and a function that makes boto3 clients of it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as workdir:
        environment = aws_environment(endpoint) | {
            "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0",
            "TMPDIR": workdir, "S3_DATA_DIR": f"{workdir}/s3", "STATE_DIR": f"{workdir}/state", **variables,
        }
        process = subprocess.Popen(
            command, env=environment, cwd=workdir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_healthy(endpoint)
            yield lambda service, key="test": boto3.client(
                service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key,
                aws_secret_access_key=key,
            )
        finally:
            process.kill()
            process.wait()


def wait_until_healthy(endpoint):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2).read()
            return
        time.sleep(0.1)
    raise TimeoutError("MiniStack did not answer")


def stream_records(client):
    """Makes three PartiQL writes and one that is refused; the records that they leave in the table's stream."""
    dynamodb, streams = client("dynamodb"), client("dynamodbstreams")
    arn = dynamodb.create_table(TableName="table", **TABLE)["TableDescription"]["LatestStreamArn"]
    for statement in (INSERT, UPDATE, UPDATE, DELETE):
        dynamodb.batch_execute_statement(Statements=[{"Statement": statement, "Parameters": [{"S": "a"}]}])
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    status = lambda image: image.get("status", {}).get("S")  # noqa: E731
    return [
        (record["eventName"], status(record["dynamodb"].get("OldImage", {})), status(record["dynamodb"].get("NewImage", {})))
        for record in records
    ]


@pytest.mark.parametrize(
    "command, expected",
    [(MINISTACK, [("INSERT", None, "INIT"), ("MODIFY", "INIT", "DONE"), ("REMOVE", "DONE", None)]), (BARE, [])],
    ids=["completed", "bare"],
)
def test_partiql_writes_leave_stream_records_once_ministack_is_completed(command, expected):
    with local_aws(command) as client:
        assert stream_records(client) == expected
