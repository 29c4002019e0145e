"""`esm-local`: what Lambda does with the records of streams, for the deployed mappings and for any others.

Here it polls functions of the test's own, each with a stream of its own: the real binaries, with mappings that give up
sooner than those of the template.
"""

import contextlib
import io
import json
import socket
import subprocess
import threading
import time
import zipfile

import pytest

from local import batches
from local.receiver import Receiver
from local.stack import ESM_LOCAL, ROOT

RETRIES = 2
PATTERN = json.dumps({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"status": {"S": ["INIT"]}}}})


class Line:
    """The way to the local AWS, which can be cut."""

    def __init__(self, port):
        self.port, self.is_cut, self.ends = port, False, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.port))
            self.ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    @staticmethod
    def carry(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        hang_up(one, other)

    def cut(self):
        self.is_cut = True
        hang_up(*self.ends)

    def repair(self):
        self.is_cut = False

    def close(self):
        hang_up(self.server, *self.ends)


def hang_up(*ends):
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


class Mapped:
    """A function behind a stream, and the `esm-local` that polls it."""

    def __init__(self, stack, name, binary, stream_arn, log, variables, **properties):
        self.stack, self.name, self.log = stack, name, log
        self.functions = stack.stack.client("lambda")
        self.failures_url = stack.sqs.create_queue(QueueName=name)["QueueUrl"]
        account = stream_arn.split(":")[4]
        self.functions.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Timeout=30,
            Role=role_that_may_do_all(stack.stack.client("iam"), name), Code={"ZipFile": zipped(binary)},
            Environment={"Variables": variables},
        )
        self.mapping = self.functions.create_event_source_mapping(
            FunctionName=name, EventSourceArn=stream_arn, Enabled=False, StartingPosition="TRIM_HORIZON",
            BisectBatchOnFunctionError=True, MaximumRetryAttempts=RETRIES,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:us-east-1:{account}:{name}"}}, **properties,
        )["UUID"]
        self.line = Line(stack.stack.port)
        self.poller = subprocess.Popen(
            [ESM_LOCAL, "--json", "--function", name],
            env={**stack.stack.environment, "AWS_ENDPOINT_URL": self.line.url},
            stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.poller.terminate()
        assert self.poller.wait(10) == 0, self.log.read_text()
        self.line.close()
        self.functions.delete_event_source_mapping(UUID=self.mapping)
        self.functions.delete_function(FunctionName=self.name)
        self.stack.sqs.delete_queue(QueueUrl=self.failures_url)

    def invocations(self):
        """What came of each invocation, as `esm-local` tells it."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "invoked"]

    def results(self):
        return [(invoked["result"], invoked["records"], invoked["done"]) for invoked in self.invocations()]

    def failures(self):
        """The messages in the on-failure queue."""
        received = self.stack.sqs.receive_message(QueueUrl=self.failures_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in received.get("Messages", [])]


def esm_local(*arguments, environment):
    """Runs `esm-local` where it ends with an error."""
    return subprocess.run([ESM_LOCAL, *arguments], env=environment, capture_output=True, text=True, timeout=30)


def role_that_may_do_all(iam, name):
    """test_iam.py has the roles that may do only what they must."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps({"Statement": [everything]}))
    return role["Arn"]


def zipped(binary):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(ROOT / ".aws-sam" / "build" / binary / "bootstrap", "bootstrap")
    return file.getvalue()


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver
        assert receiver.problems == []


@pytest.fixture
def downstream(stack, prefix, receiver, tmp_path):
    """Downstream behind a Kinesis stream, with the webhook for its action."""
    secret = stack.stack.client("secretsmanager").create_secret(Name=prefix, SecretString=receiver.secret)["ARN"]
    variables = {
        "TABLE_NAME": stack.table, "ACTION": "webhook", "WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET_ID": secret,
    }
    stack.kinesis.create_stream(StreamName=prefix, ShardCount=1)
    arn = stack.kinesis.describe_stream(StreamName=prefix)["StreamDescription"]["StreamARN"]
    with Mapped(stack, prefix, "Downstream", arn, tmp_path / "log", variables, BatchSize=100) as mapped:
        yield mapped
    stack.kinesis.delete_stream(StreamName=prefix)


def publish(stack, prefix, numbers):
    """Makes notifications INIT, of which the deployed functions know nothing, and puts them on the stream at once."""
    ids = [f"{prefix}-{number}" for number in numbers]
    for notification_id in ids:
        stack.lose_stream_record(notification_id, batches.event(notification_id), seconds_ago=0)
    records = [{"PartitionKey": i, "Data": batches.event(i).encode()} for i in ids]
    put = stack.kinesis.put_records(StreamName=prefix, Records=records)["Records"]
    return ids, [record["SequenceNumber"] for record in put]


def test_a_record_that_fails_comes_again_from_the_checkpoint_until_it_is_done(stack, prefix, receiver, downstream):
    failing = f"{prefix}-4"
    receiver.on_call = lambda i: 503 if i == failing and receiver.calls[i] <= RETRIES else 200
    ids, _ = publish(stack, prefix, range(10))
    for notification_id in ids:
        stack.wait_for_status(notification_id, "DONE")
    assert receiver.calls == {i: RETRIES + 1 if i == failing else 1 for i in ids}, "the others are done once"
    stack.wait_for("the last answer is told", lambda: len(downstream.results()) == RETRIES + 1)
    assert downstream.results() == [("partial", 10, 4), ("failed", 6, 0), ("done", 6, 6)]
    assert downstream.failures() == []


def test_a_record_that_always_fails_is_given_up_with_a_message_and_its_shard_goes_on(
    stack, prefix, receiver, downstream
):
    failing = f"{prefix}-4"
    receiver.on_call = lambda i: 503 if i == failing else 200
    ids, numbers = publish(stack, prefix, range(10))
    (message,) = stack.wait_for("there is a message", downstream.failures)
    assert message["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert message["requestContext"]["approximateInvokeCount"] == RETRIES + 1
    batch = message["KinesisBatchInfo"]
    assert (batch["startSequenceNumber"], batch["endSequenceNumber"]) == (numbers[4], numbers[-1])
    assert (batch["batchSize"], batch["streamArn"].split("/")[-1]) == (6, prefix)
    ids += publish(stack, prefix, [10])[0]
    stack.wait_for_status(ids[-1], "DONE")
    assert {i for i in ids if stack.status(i) != "DONE"} == {failing}
    assert (stack.status(failing), receiver.calls[failing]) == ("INIT", RETRIES + 1)


def test_a_batch_whose_process_is_killed_comes_again_in_halves(stack, prefix, receiver, downstream):
    killed = []

    def on_call(notification_id):
        if notification_id == f"{prefix}-4" and not killed:
            killed.append(stack.stack.kill(prefix))

    receiver.on_call = on_call
    ids, _ = publish(stack, prefix, range(10))
    for notification_id in ids:
        stack.wait_for_status(notification_id, "DONE")
    assert killed == [1]
    assert set(receiver.bodies) == set(ids) and receiver.calls[f"{prefix}-4"] == 2
    stack.wait_for("the last answer is told", lambda: len(downstream.results()) == 3)
    first, *halves = downstream.invocations()
    assert (first["result"], first["records"], first["halved"]) == ("failed", 10, True)
    assert [(half["result"], half["records"]) for half in halves] == [("done", 5), ("done", 5)]
    assert downstream.failures() == []


def test_changes_of_a_table_wait_in_its_stream_until_publisher_can_publish_them(stack, prefix, tmp_path):
    """The stream that it is to publish to is missing at first."""
    stack.dynamodb.create_table(
        TableName=prefix, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    arn = stack.dynamodb.describe_table(TableName=prefix)["Table"]["LatestStreamArn"]
    for number, status in enumerate(["INIT", "DONE", "INIT", "INIT"]):
        values = {"id": f"{prefix}-{number}", "status": status, "event": f"event {number}"}
        stack.dynamodb.put_item(TableName=prefix, Item={name: {"S": text} for name, text in values.items()})
    variables = {"TABLE_NAME": prefix, "STREAM_NAME": prefix}
    filters = {"Filters": [{"Pattern": PATTERN}]}
    with Mapped(stack, prefix, "Publisher", arn, tmp_path / "log", variables, FilterCriteria=filters) as publisher:
        stack.wait_for("it fails once", publisher.results)
        stack.kinesis.create_stream(StreamName=prefix, ShardCount=1)
        stack.wait_for("it publishes", lambda: publisher.results()[-1] == ("done", 3, 3))
        iterator = stack.kinesis.get_shard_iterator(
            StreamName=prefix, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        published = stack.kinesis.get_records(ShardIterator=iterator)["Records"]
        assert [record["Data"] for record in published] == [b"event 0", b"event 2", b"event 3"]
        assert publisher.results()[0] == ("failed", 3, 0) and publisher.failures() == []
    stack.kinesis.delete_stream(StreamName=prefix)
    stack.dynamodb.delete_table(TableName=prefix)


def test_the_stacks_own_streams_are_polled_with_the_settings_of_the_template(stack):
    log = stack.stack.poller_log.read_text().splitlines()
    for function in ("PublisherFunction", "DownstreamFunction"):
        (polls,) = [line for line in log if line.startswith(f"{stack.outputs[function]} polls ")]
        assert polls.endswith("(batches of 200, 2 at once for a shard, any retries)")


def test_a_stream_is_read_with_the_functions_role_and_what_that_lacks_is_told(stack, prefix, downstream):
    publish(stack, prefix, [0])
    stack.wait_for_status(f"{prefix}-0", "DONE")
    iam = stack.stack.client("iam")
    iam.delete_role_policy(RoleName=prefix, PolicyName=prefix)
    refused = f"assumed-role/{prefix}/{prefix} is not authorized to perform: kinesis:GetRecords"
    stack.wait_for("the problem is told", lambda: refused in downstream.log.read_text())
    assert "GetRecords failed: AccessDeniedException" in downstream.log.read_text()

    iam.delete_role(RoleName=prefix)
    run = esm_local("--function", prefix, environment=stack.stack.environment)
    assert run.returncode == 2
    role = f"arn:aws:iam::000000000000:role/{prefix}"
    assert f"{prefix} runs under the role {role}, which cannot be assumed: " in run.stderr


def test_without_a_mapping_of_a_stream_nothing_is_polled(stack):
    environment = stack.stack.environment
    run = esm_local("--function", "no-such-function", environment=environment)
    assert run.returncode == 2
    assert "the function no-such-function has no event source mapping of a DynamoDB or Kinesis stream" in run.stderr
    run = esm_local("--stack", "no-such-stack", environment=environment)
    assert run.returncode == 2 and "ListStackResources failed: ValidationError: " in run.stderr


@pytest.mark.parametrize("endpoint", ["", "https://lambda.us-east-1.amazonaws.com", "http://10.0.0.1:4566"])
def test_nothing_but_a_local_aws_is_polled(stack, endpoint):
    run = esm_local(environment={**stack.stack.environment, "AWS_ENDPOINT_URL": endpoint})
    assert run.returncode == 2 and "AWS_ENDPOINT_URL must be an address of this machine" in run.stderr


def test_while_the_local_aws_answers_nothing_polling_is_tried_again_and_nothing_is_lost(stack, prefix, downstream):
    publish(stack, prefix, [0])
    stack.wait_for_status(f"{prefix}-0", "DONE")
    downstream.line.cut()
    ids, _ = publish(stack, prefix, range(1, 5))
    stack.wait_for("the problem is told", lambda: "cannot be reached" in downstream.log.read_text())
    time.sleep(2)
    assert downstream.log.read_text().count("cannot be reached") <= 2, "once for the shard, once for the list of shards"
    downstream.line.repair()
    for notification_id in ids:
        stack.wait_for_status(notification_id, "DONE")
    assert "it answers again" in downstream.log.read_text()
