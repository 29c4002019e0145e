"""What the local AWS does only because `local/start_ministack.py` completes it.

Where a test here fails because MiniStack needs no completion any more, take that completion out.
"""

import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from local.stack import MINISTACK, aws_environment, free_port
from test_template import RESOURCES

COMMANDS = {"completed": MINISTACK, "bare": [MINISTACK[0], "-m", "ministack"]}

TABLE = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
}
INSERT = "INSERT INTO \"table\" VALUE {'id': ?, 'status': 'INIT'}"
UPDATE = "UPDATE \"table\" SET \"status\" = 'DONE' WHERE \"id\" = ? AND \"status\" = 'INIT'"
DELETE = "DELETE FROM \"table\" WHERE \"id\" = ?"


@pytest.fixture(scope="module", params=COMMANDS)
def local_aws(request):
    """A MiniStack of these tests' own, which enforces permissions; with the completions and without."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as workdir:
        environment = aws_environment(endpoint) | {
            "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0",
            "AUTH": "true", "TMPDIR": workdir, "S3_DATA_DIR": f"{workdir}/s3", "STATE_DIR": f"{workdir}/state",
        }
        process = subprocess.Popen(
            COMMANDS[request.param], env=environment, cwd=workdir, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_healthy(endpoint)
            yield LocalAws(endpoint, request.param == "completed")
        finally:
            process.kill()
            process.wait()


class LocalAws:
    def __init__(self, endpoint, is_completed):
        self.endpoint, self.is_completed = endpoint, is_completed

    def client(self, service, key="test", secret="test", token=None):
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=key,
            aws_secret_access_key=secret, aws_session_token=token,
        )

    def with_role(self, service, name, *statements):
        """A client with the session of a new role, which may do this and nothing else."""
        policy = lambda *statements: json.dumps({"Version": "2012-10-17", "Statement": statements})  # noqa: E731
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy(*statements))
        session = self.client("sts").assume_role(RoleArn=arn, RoleSessionName=name)["Credentials"]
        return self.client(service, session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])

    def table(self, name):
        """Makes a table, and returns its ARN and its stream's."""
        table = self.client("dynamodb").create_table(TableName=name, **TABLE)["TableDescription"]
        return table["TableArn"], table["LatestStreamArn"]


def is_allowed(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), error
        return False
    return True


def wait_until_healthy(endpoint):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2).read()
            return
        time.sleep(0.1)
    raise TimeoutError("MiniStack did not answer")


def test_partiql_writes_leave_stream_records_once_ministack_is_completed(local_aws):
    """Three writes, and one that is refused."""
    dynamodb, streams = local_aws.client("dynamodb"), local_aws.client("dynamodbstreams")
    _, arn = local_aws.table("table")
    for statement in (INSERT, UPDATE, UPDATE, DELETE):
        dynamodb.batch_execute_statement(Statements=[{"Statement": statement, "Parameters": [{"S": "a"}]}])
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    status = lambda record, image: record["dynamodb"].get(image, {}).get("status", {}).get("S")  # noqa: E731
    changes = [(record["eventName"], status(record, "OldImage"), status(record, "NewImage")) for record in records]
    complete = [("INSERT", None, "INIT"), ("MODIFY", "INIT", "DONE"), ("REMOVE", "DONE", None)]
    assert changes == (complete if local_aws.is_completed else [])


def test_partiql_is_permitted_by_the_kind_of_its_statements_once_ministack_is_completed(local_aws):
    arn, _ = local_aws.table("kinds")
    insert = {"Effect": "Allow", "Action": "dynamodb:PartiQLInsert", "Resource": arn}
    execute = local_aws.with_role("dynamodb", "kinds", insert).batch_execute_statement
    of = lambda statement: [{"Statement": statement.replace("table", "kinds"), "Parameters": [{"S": "a"}]}]  # noqa: E731
    assert is_allowed(execute, Statements=of(INSERT)) == local_aws.is_completed
    assert not is_allowed(execute, Statements=of(INSERT) + of(UPDATE))


def test_several_messages_are_permitted_by_the_action_for_one_once_ministack_is_completed(local_aws):
    url = local_aws.client("sqs").create_queue(QueueName="several")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:000000000000:{url.rsplit('/')[-1]}"
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
    batch = local_aws.with_role("sqs", "several", send).send_message_batch
    assert is_allowed(batch, QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "a"}]) == local_aws.is_completed


def test_a_condition_on_the_keys_of_items_is_met_once_ministack_is_completed(local_aws):
    arn, _ = local_aws.table("keys")
    condition = {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["mine:*"]}, "Null": {"dynamodb:LeadingKeys": "false"},
    }
    actions = [f"dynamodb:{action}" for action in ("PutItem", "UpdateItem", "BatchGetItem", "PartiQLUpdate")]
    role = local_aws.with_role(
        "dynamodb", "keys", {"Effect": "Allow", "Action": actions, "Resource": arn, "Condition": condition}
    )

    def calls(*ids):
        keys = [{"id": {"S": i}} for i in ids]
        update = UPDATE.replace("table", "keys")
        expression = {"UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"S": "a"}}}
        return {
            "item": is_allowed(role.put_item, TableName="keys", Item=keys[-1]),
            "keys": is_allowed(role.batch_get_item, RequestItems={"keys": {"Keys": keys}}),
            "transaction": is_allowed(role.transact_write_items, TransactItems=[
                {"Update": {"TableName": "keys", "Key": key, **expression}} for key in keys
            ]),
            "statements": is_allowed(role.batch_execute_statement, Statements=[
                {"Statement": update, "Parameters": [key["id"]]} for key in keys
            ]),
        }

    assert set(calls("mine:1", "mine:2").values()) == {local_aws.is_completed}
    assert set(calls("mine:1", "other").values()) == {False}


def test_a_tables_stream_is_permitted_by_its_arn_once_ministack_is_completed(local_aws):
    _, arn = local_aws.table("streams")
    actions = [f"dynamodb:{action}" for action in ("DescribeStream", "GetShardIterator", "GetRecords")]
    account, iterator_of = local_aws.client("dynamodbstreams"), lambda client, **arguments: client.get_shard_iterator(
        StreamArn=arn, ShardIteratorType="TRIM_HORIZON", **arguments
    )
    (shard,) = account.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = iterator_of(account, ShardId=shard["ShardId"])["ShardIterator"]
    for name, resource, expected in (("its", arn, local_aws.is_completed), ("other", f"{arn}x", False)):
        statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
        role = local_aws.with_role("dynamodbstreams", f"stream-{name}", statement)
        assert is_allowed(role.describe_stream, StreamArn=arn) == expected
        assert is_allowed(lambda: iterator_of(role, ShardId=shard["ShardId"])) == expected
        assert is_allowed(role.get_records, ShardIterator=iterator) == expected


def test_the_queues_policy_denies_plain_http_and_a_call_on_this_machine_passes_for_tls(local_aws):
    """Bare MiniStack, which all speak to by plain HTTP, shows what the template's policy does."""
    policy = json.dumps(RESOURCES["QueuesDemandTls"]["Properties"]["PolicyDocument"])
    sqs = local_aws.client("sqs")
    url = sqs.create_queue(QueueName="queue", Attributes={"Policy": policy})["QueueUrl"]
    assert is_allowed(sqs.send_message, QueueUrl=url, MessageBody="a") == local_aws.is_completed
    assert is_allowed(sqs.receive_message, QueueUrl=url) == local_aws.is_completed
