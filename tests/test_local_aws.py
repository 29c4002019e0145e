"""Where MiniStack needs the corrections of `local/start_ministack.py`.

If a test here fails because MiniStack no longer needs a correction, remove that correction.
"""

import json
import time
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from local.stack import MINISTACK, Stack
from test_template import RESOURCES

COMMANDS = {"corrected": MINISTACK, "bare": [MINISTACK[0], "-m", "ministack"]}

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
    """MiniStack with nothing deployed to it, with the corrections and without."""
    stack = Stack.empty(f"local-aws-{request.param}", command=COMMANDS[request.param])
    try:
        yield LocalAws(stack, is_corrected=request.param == "corrected")
    finally:
        stack.stop()


class LocalAws:
    def __init__(self, stack, is_corrected):
        self.client, self.is_corrected = stack.client, is_corrected

    def with_role(self, service, name, *statements):
        """A client with the session of a new role that has these statements."""
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy(*statements))
        session = self.client("sts").assume_role(RoleArn=arn, RoleSessionName=name)["Credentials"]
        return self.client(service, session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])

    def table(self, name):
        """Creates a table, and returns its ARN and that of its stream."""
        table = self.client("dynamodb").create_table(TableName=name, **TABLE)["TableDescription"]
        return table["TableArn"], table["LatestStreamArn"]


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def is_allowed(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), error
        return False
    return True


def test_partiql_writes_leave_stream_records_once_ministack_is_corrected(local_aws):
    """Three writes, and one that is refused."""
    dynamodb, streams = local_aws.client("dynamodb"), local_aws.client("dynamodbstreams")
    _, arn = local_aws.table("table")
    for statement in (INSERT, UPDATE, UPDATE, DELETE):
        dynamodb.batch_execute_statement(Statements=[{"Statement": statement, "Parameters": [{"S": "a"}]}])
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    changes = [(record["eventName"], status(record, "OldImage"), status(record, "NewImage")) for record in records]
    complete = [("INSERT", None, "INIT"), ("MODIFY", "INIT", "DONE"), ("REMOVE", "DONE", None)]
    assert changes == (complete if local_aws.is_corrected else [])


def status(record, image):
    return record["dynamodb"].get(image, {}).get("status", {}).get("S")


def test_partiql_is_permitted_by_the_kind_of_its_statements_once_ministack_is_corrected(local_aws):
    arn, _ = local_aws.table("kinds")
    insert = {"Effect": "Allow", "Action": "dynamodb:PartiQLInsert", "Resource": arn}
    execute = local_aws.with_role("dynamodb", "kinds", insert).batch_execute_statement
    inserts, updates = (
        [{"Statement": statement.replace("table", "kinds"), "Parameters": [{"S": "a"}]}]
        for statement in (INSERT, UPDATE)
    )
    assert is_allowed(execute, Statements=inserts) == local_aws.is_corrected
    assert not is_allowed(execute, Statements=inserts + updates)


def test_several_messages_are_permitted_by_the_action_for_one_once_ministack_is_corrected(local_aws):
    url = local_aws.client("sqs").create_queue(QueueName="several")["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:000000000000:{url.rsplit('/')[-1]}"
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
    batch = local_aws.with_role("sqs", "several", send).send_message_batch
    assert is_allowed(batch, QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "a"}]) == local_aws.is_corrected


def test_a_condition_on_the_keys_of_items_is_met_once_ministack_is_corrected(local_aws):
    arn, _ = local_aws.table("keys")
    condition = {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["mine:*"]}, "Null": {"dynamodb:LeadingKeys": "false"},
    }
    actions = [f"dynamodb:{action}" for action in ("PutItem", "UpdateItem", "BatchGetItem", "PartiQLUpdate")]
    role = local_aws.with_role(
        "dynamodb", "keys", {"Effect": "Allow", "Action": actions, "Resource": arn, "Condition": condition}
    )
    assert set(allowed_calls(role, "mine:1", "mine:2").values()) == {local_aws.is_corrected}
    assert set(allowed_calls(role, "mine:1", "other").values()) == {False}


def allowed_calls(dynamodb, *ids):
    """Which calls on these items of the table `keys` are allowed, by kind."""
    keys = [{"id": {"S": i}} for i in ids]
    expression = {"UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"S": "a"}}}
    updates = [{"Update": {"TableName": "keys", "Key": key, **expression}} for key in keys]
    statements = [{"Statement": UPDATE.replace("table", "keys"), "Parameters": [key["id"]]} for key in keys]
    return {
        "item": is_allowed(dynamodb.put_item, TableName="keys", Item=keys[-1]),
        "keys": is_allowed(dynamodb.batch_get_item, RequestItems={"keys": {"Keys": keys}}),
        "transaction": is_allowed(dynamodb.transact_write_items, TransactItems=updates),
        "statements": is_allowed(dynamodb.batch_execute_statement, Statements=statements),
    }


def test_a_tables_stream_is_permitted_by_its_arn_once_ministack_is_corrected(local_aws):
    _, arn = local_aws.table("streams")
    actions = [f"dynamodb:{action}" for action in ("DescribeStream", "GetShardIterator", "GetRecords")]
    account = local_aws.client("dynamodbstreams")
    (shard,) = account.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    start = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = account.get_shard_iterator(**start)["ShardIterator"]
    for name, resource, expected in (("its", arn, local_aws.is_corrected), ("other", f"{arn}x", False)):
        statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
        role = local_aws.with_role("dynamodbstreams", f"stream-{name}", statement)
        assert is_allowed(role.describe_stream, StreamArn=arn) == expected
        assert is_allowed(role.get_shard_iterator, **start) == expected
        assert is_allowed(role.get_records, ShardIterator=iterator) == expected


def test_the_queues_policy_denies_plain_http_and_a_call_on_this_machine_counts_as_tls(local_aws):
    """All calls here use plain HTTP. Bare MiniStack shows what the template's policy does with them."""
    policy = json.dumps(RESOURCES["QueuesDemandTls"]["Properties"]["PolicyDocument"])
    sqs = local_aws.client("sqs")
    url = sqs.create_queue(QueueName="queue", Attributes={"Policy": policy})["QueueUrl"]
    assert is_allowed(sqs.send_message, QueueUrl=url, MessageBody="a") == local_aws.is_corrected
    assert is_allowed(sqs.receive_message, QueueUrl=url) == local_aws.is_corrected


def test_what_parameters_set_has_its_type_and_a_mapping_its_state_once_ministack_is_corrected(local_aws):
    """CloudFormation hands parameters on as text."""
    function = {
        "Runtime": "python3.12",
        "Handler": "index.handler",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Code": {"ZipFile": "def handler(event, context): return None"},
    }
    mapping = {
        "FunctionName": {"Ref": "Function"},
        "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]},
        "MaximumRecordAgeInSeconds": {"Ref": "Age"},
        "Enabled": False,
    }
    table = {
        **{name: setting for name, setting in TABLE.items() if name != "StreamSpecification"},
        "TableName": "typed",
        "DeletionProtectionEnabled": {"Ref": "Protected"},
    }
    template = {
        "Parameters": {
            "Age": {"Type": "Number"},
            "Protected": {"Type": "String"},
        },
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Function": {"Type": "AWS::Lambda::Function", "Properties": function},
            "Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapping},
            "Table": {"Type": "AWS::DynamoDB::Table", "Properties": table},
        },
    }
    cloudformation = local_aws.client("cloudformation")
    values = {"Age": "2400", "Protected": "false"}
    parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]
    cloudformation.create_stack(StackName="typed", TemplateBody=json.dumps(template), Parameters=parameters)
    cloudformation.get_waiter("stack_create_complete").wait(StackName="typed")
    (mapping,) = raw(local_aws.client("lambda"), "list_event_source_mappings")["EventSourceMappings"]
    expected = (2400, "Disabled") if local_aws.is_corrected else ("2400", "Enabled")
    assert (mapping["MaximumRecordAgeInSeconds"], mapping["State"]) == expected
    table = raw(local_aws.client("dynamodb"), "describe_table", TableName="typed")["Table"]
    assert table["DeletionProtectionEnabled"] == (False if local_aws.is_corrected else "false")


def test_a_json_filter_pattern_selects_lines_once_ministack_is_corrected(local_aws):
    """A line matches by a field or by a member of an array, and not by its text."""
    logs = local_aws.client("logs")
    group = {"logGroupName": "group", "logStreamName": "stream"}
    logs.create_log_group(logGroupName="group")
    logs.create_log_stream(**group)
    lines = [
        "START RequestId: a",
        json.dumps({"id": "a"}),
        json.dumps({"spans": [{"name": "outer"}, {"id": "a"}]}),
        json.dumps({"id": "a-2", "message": "a"}),
        json.dumps(["a"]),
    ]
    now = int(time.time() * 1000)
    logs.put_log_events(**group, logEvents=[{"timestamp": now, "message": line} for line in lines])

    def found(value):
        pattern = f'{{ ($.id = "{value}") || ($.spans[1].id = "{value}") }}'
        events = logs.filter_log_events(logGroupName="group", filterPattern=pattern, startTime=now)["events"]
        return [event["message"] for event in events]

    assert found("a") == (lines[1:3] if local_aws.is_corrected else lines)
    assert found("a*") == (lines[1:4] if local_aws.is_corrected else lines)
    if local_aws.is_corrected:
        with pytest.raises(ClientError):
            logs.filter_log_events(logGroupName="group", filterPattern="{ $.id != 1 }")


def raw(client, call, **arguments):
    """The JSON of an answer, as it was sent. boto3 turns text into numbers where it expects numbers."""
    bodies = []
    client.meta.events.register("before-parse", lambda response_dict, **_: bodies.append(response_dict["body"]))
    getattr(client, call)(**arguments)
    return json.loads(bodies[-1])


def test_metrics_in_log_events_are_metrics_once_ministack_is_corrected(local_aws):
    logs, cloudwatch = local_aws.client("logs"), local_aws.client("cloudwatch")
    logs.create_log_group(logGroupName="/aws/lambda/f")
    logs.create_log_stream(logGroupName="/aws/lambda/f", logStreamName="s")
    now = int(time.time() * 1000)
    metrics = [{"Name": "Done", "Unit": "Count"}, {"Name": "PublishedToDone", "Unit": "Milliseconds"}]
    directive = {"Namespace": "N", "Dimensions": [["FunctionName"]], "Metrics": metrics}
    line = {"_aws": {"Timestamp": now, "CloudWatchMetrics": [directive]}, "FunctionName": "f", "Done": 3}
    events = [{"timestamp": now, "message": json.dumps({**line, "PublishedToDone": list(range(1, 101))})}]
    logs.put_log_events(logGroupName="/aws/lambda/f", logStreamName="s", logEvents=events)

    def query(name, metric, statistic):
        metric = {"Namespace": "N", "MetricName": metric, "Dimensions": [{"Name": "FunctionName", "Value": "f"}]}
        return {"Id": name, "MetricStat": {"Metric": metric, "Period": 60, "Stat": statistic}}

    found = cloudwatch.get_metric_data(
        MetricDataQueries=[query("sum", "Done", "Sum"), query("median", "PublishedToDone", "p50")],
        StartTime=now / 1000 - 300,
        EndTime=now / 1000 + 60,
    )["MetricDataResults"]
    values = {result["Id"]: result["Values"] for result in found if result["Values"]}
    assert (values.get("sum"), 49 <= values.get("median", [0])[0] <= 52) == ((None, False), ([3.0], True))[
        local_aws.is_corrected
    ]


def test_the_age_of_the_oldest_message_is_a_metric_once_ministack_is_corrected(local_aws):
    sqs = local_aws.client("sqs")
    sqs.send_message(QueueUrl=sqs.create_queue(QueueName="aged")["QueueUrl"], MessageBody="m")
    time.sleep(1.1)
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": "aged"}],
    }
    now = time.time()
    (found,) = local_aws.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "age", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}],
        StartTime=now - 300,
        EndTime=now + 60,
    )["MetricDataResults"]
    assert [age >= 1 for age in found["Values"]] == ([True] if local_aws.is_corrected else [])


def test_faults_on_request_have_an_end(local_aws):
    """The faults themselves: `test_ui.py`."""
    if not local_aws.is_corrected:
        return
    endpoint = local_aws.client("sqs").meta.endpoint_url

    def ask(**wish):
        asked = urllib.request.Request(f"{endpoint}/_faults", data=json.dumps(wish).encode())
        try:
            return json.loads(urllib.request.urlopen(asked).read())
        except urllib.error.HTTPError as error:
            return error.code

    assert ask(kind="throttled", calls=7, seconds=60)["throttled"] == {"happened": 0, "calls": 7, "seconds": 60}
    assert ask(kind="throttled", calls=0, seconds=60)["throttled"]["calls"] == 0
    for wrong in ({"kind": "flooded"}, {"calls": 10_000}, {"calls": -1}, {"seconds": 3_600}, {"who": "me"}):
        assert ask(**{"kind": "throttled", "calls": 1, "seconds": 1, **wrong}) == 400
