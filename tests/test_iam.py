"""The roles of the functions grant exactly the permissions that are used.

Each action gets a stack of its own on the local AWS, which enforces permissions and writes down each check. Exercises
make the functions and the poller of their streams do everything they can do. Each statement of a role must grant
exactly what they used, and without any one action, an exercise must fail.
"""

import collections
import contextlib
import itertools
import json
import subprocess
import time

import pytest
import yaml

from conftest import pending_shard, put_item
from local import batches
from local.batches import NOTHING_FAILED
from local.receiver import Receiver, accept
from local.stack import ESM_LOCAL, NAME
from test_template import RESOURCES

FUNCTIONS = ("Ingest", "Publisher", "Downstream")

#: A stack for each.
STACKS = {
    "mark-done": {"Action": "mark-done"},
    "ledger": {"Action": "ledger"},
    "webhook": {"Action": "webhook", "WebhookGuarantee": "idempotent", "StreamFunctionTimeout": 30},
    "webhook-at-most-once": {"Action": "webhook", "WebhookGuarantee": "at-most-once", "StreamFunctionTimeout": 30},
}

#: What only Lambda itself uses to poll the queue, describe the streams and write the logs. These are the actions of
#: AWS's managed policies for these sources, except those that create log groups, that list all Kinesis streams of the
#: account (which the AWS CDK does not grant either) and that enhanced fan-out needs.
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaSQSQueueExecutionRole.html
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaDynamoDBExecutionRole.html
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSLambdaKinesisExecutionRole.html
#: https://github.com/aws/aws-cdk/blob/main/packages/aws-cdk-lib/aws-lambda-event-sources/lib/kinesis.ts
USED_BY_LAMBDA = {
    "Ingest": {
        "sqs:ReceiveMessage": "sqs:Queue",
        "sqs:DeleteMessage": "sqs:Queue",
        "sqs:GetQueueAttributes": "sqs:Queue",
        "logs:CreateLogStream": "logs:log-group:IngestLogs:*",
        "logs:PutLogEvents": "logs:log-group:IngestLogs:*",
    },
    "Publisher": {
        "dynamodb:ListStreams": "dynamodb:table/Table/stream/*",
        "logs:CreateLogStream": "logs:log-group:PublisherLogs:*",
        "logs:PutLogEvents": "logs:log-group:PublisherLogs:*",
    },
    "Downstream": {
        "kinesis:DescribeStream": "kinesis:stream/Stream",
        "kinesis:DescribeStreamSummary": "kinesis:stream/Stream",
        "logs:CreateLogStream": "logs:log-group:DownstreamLogs:*",
        "logs:PutLogEvents": "logs:log-group:DownstreamLogs:*",
    },
}

#: Statements that the local AWS does not check, because it pushes no records and lets everyone decrypt.
#: test_template.py has tests of them.
NOT_SHOWN = {"SubscribeToStream", "DecryptSigningSecret"}

KEYS, TRANSACTION = "dynamodb:LeadingKeys", "dynamodb:EnclosingOperation"

#: Seconds to wait for the poller. If it is refused something, it says so at once.
PATIENCE = 60

Grant = collections.namedtuple("Grant", "function sid action resource condition")


class Deployed:
    """A deployed stack of these tests. Only exercises poll its streams."""

    def __init__(self, stack, name, receiver, parameters):
        self.stack, self.name, self.receiver = stack, name, receiver
        self.action = parameters["Action"]
        self.client = stack.client
        self.iam, self.dynamodb, self.functions = map(stack.client, ("iam", "dynamodb", "lambda"))
        self.notes_file = stack.log.parent / "permissions.jsonl"
        self.numbers = itertools.count()
        self.outputs = deploy(stack, name, parameters)
        resources = self.client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
        physical = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
        self.names = {name.rsplit("/")[-1] if "://" in name else name: logical for logical, name in physical.items()}
        self.names[self.outputs["TableStreamArn"].rsplit("/")[-1]] = "label"
        self.roles = {function: physical[f"{function}Role"] for function in FUNCTIONS}
        self.function_of = {role: function for function, role in self.roles.items()}
        for function in FUNCTIONS[1:]:
            mappings = self.functions.list_event_source_mappings(FunctionName=physical[function])
            (mapping,) = mappings["EventSourceMappings"]
            # A record that fails is given up at once.
            self.functions.update_event_source_mapping(UUID=mapping["UUID"], MaximumRetryAttempts=0)

    def policies(self, function):
        """The names of the inline policies of a role, and the ARNs of its attached policies."""
        role = {"RoleName": self.roles[function]}
        attached = self.iam.list_attached_role_policies(**role)["AttachedPolicies"]
        return self.iam.list_role_policies(**role)["PolicyNames"] + [policy["PolicyArn"] for policy in attached]

    def statements(self, function):
        (name,) = self.policies(function)
        return self.iam.get_role_policy(RoleName=self.roles[function], PolicyName=name)["PolicyDocument"]["Statement"]

    @contextlib.contextmanager
    def permitting(self, function, statements):
        """Replaces the statements of a role until the end of a `with`."""
        before = self.statements(function)
        self.put_statements(function, list(statements))
        try:
            yield
        finally:
            self.put_statements(function, before)

    def put_statements(self, function, statements):
        (name,) = self.policies(function)
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.iam.put_role_policy(RoleName=self.roles[function], PolicyName=name, PolicyDocument=policy)

    def grants(self):
        return [
            Grant(function, statement["Sid"], action, self.short(resource), statement.get("Condition"))
            for function in FUNCTIONS
            for statement in self.statements(function)
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        ]

    def short(self, arn):
        """An ARN without the account, and with the names that resources have in the template."""
        service, _, _, resource = arn.removeprefix("arn:aws:").split(":", 3)
        for name in sorted(self.names, key=len, reverse=True):
            resource = resource.replace(name, self.names[name])
        return f"{service}:{resource}"

    def notes(self, start=0):
        """The permission checks of this stack's roles after a position in the file, and the position of its end."""
        with self.notes_file.open() as file:
            file.seek(start)
            notes = [json.loads(line) for line in file]
            return [note for note in notes if note["role"] in self.function_of], file.tell()

    def invoke(self, function, event):
        """Invokes a function with its own role, and returns its answer."""
        answer = self.functions.invoke(FunctionName=self.outputs[f"{function}Function"], Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def new_id(self):
        return f"n-{next(self.numbers)}"

    def put(self, notification_id, **attributes):
        """Writes a notification that is INIT, without the functions."""
        notification = {
            "id": notification_id,
            "status": "INIT",
            "event": batches.event(notification_id),
            "source": "urn:example:orders",
            "type": "com.example.refund.requested",
        }
        put_item(self.dynamodb, self.outputs["TableName"], **{**notification, **attributes})

    def status(self, notification_id):
        key = {"id": {"S": notification_id}}
        item = self.dynamodb.get_item(TableName=self.outputs["TableName"], Key=key).get("Item", {})
        return item.get("status", {}).get("S")

    def given_up(self, function):
        """Takes a message from a failure queue, and returns its body; None if there is no message."""
        queue = self.outputs[f"{function}FailuresUrl"]
        messages = self.client("sqs").receive_message(QueueUrl=queue).get("Messages")
        if not messages:
            return None
        self.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=messages[0]["ReceiptHandle"])
        return json.loads(messages[0]["Body"])

    def polled_until(self, condition):
        """Has the streams polled until a condition holds, or the poller reports that it is refused something."""
        log = self.notes_file.with_name("polled.log")
        with log.open("w") as output:
            poller = subprocess.Popen(
                [ESM_LOCAL, "--stack", self.name], env=self.stack.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not condition():
                assert "AccessDenied" not in log.read_text(), log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        finally:
            poller.terminate()
            poller.wait()


def listed(value):
    return value if isinstance(value, list) else [value]


def deploy(stack, name, parameters):
    """Deploys the template under another name, and returns the outputs."""
    cloudformation = stack.client("cloudformation")
    values = cloudformation.describe_stacks(StackName=NAME)["Stacks"][0]["Parameters"]
    values = {value["ParameterKey"]: value["ParameterValue"] for value in values} | parameters
    template = cloudformation.get_template(StackName=NAME, TemplateStage="Original")["TemplateBody"]
    # A request holds 51,200 bytes. `sam deploy` uploads the template instead; as JSON it is short enough.
    template = json.dumps(yaml.safe_load(template), separators=(",", ":"))
    cloudformation.create_stack(
        StackName=name, TemplateBody=template,
        Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in values.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    outputs = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["Outputs"]
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


# ---- exercises: each fails if a permission that it needs is missing --------------------------------------------------


def a_notification_is_accepted_and_a_duplicate_is_recognised(deployed):
    batch = batches.sqs(deployed.new_id())
    assert deployed.invoke("Ingest", batch) == NOTHING_FAILED
    assert deployed.invoke("Ingest", batch) == NOTHING_FAILED


def a_message_that_is_refused_is_hidden(deployed):
    """The receipt handle is invented, so only the permission check tells whether ingest may hide the message."""
    _, start = deployed.notes()
    assert deployed.invoke("Ingest", batches.sqs(deployed.new_id(), body="not JSON"))["batchItemFailures"]
    assert all(note["allowed"] for note in deployed.notes(start)[0])


def a_notification_that_became_init_is_published(deployed):
    assert deployed.invoke("Publisher", batches.table_stream(deployed.new_id())) == NOTHING_FAILED


def the_sweep_publishes_what_is_due_once_and_counts_what_is_in_doubt(deployed):
    ago = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 90 * 60))
    pending, in_doubt = deployed.new_id(), deployed.new_id()
    table = deployed.outputs["TableName"]
    deployed.dynamodb.delete_item(TableName=table, Key={"id": {"S": "sweep:cursor"}})
    deployed.put(pending, received_at=ago, pending_since=ago, pending_shard=pending_shard(pending))
    unresolved = f"IN_DOUBT#{pending_shard(in_doubt)}"
    deployed.put(in_doubt, received_at=ago, status="IN_DOUBT", unresolved_partition=unresolved, unresolved_since=ago)
    try:
        swept, again = (deployed.invoke("Publisher", {"sweep": True}) for _ in range(2))
        assert (swept["published"], swept["inDoubt"], swept["complete"]) == (1, 1, True), swept
        assert (again["published"], again["notDue"]) == (0, 1), again
    finally:
        for notification_id in (pending, in_doubt):
            deployed.dynamodb.delete_item(TableName=table, Key={"id": {"S": notification_id}})


def a_notification_is_done(deployed):
    """A new process does it, because a webhook's secret is read at the start."""
    deployed.stack.kill(deployed.outputs["DownstreamFunction"])
    notification_id = deployed.new_id()
    deployed.put(notification_id)
    assert deployed.invoke("Downstream", batches.kinesis(notification_id)) == NOTHING_FAILED
    assert deployed.status(notification_id) == "DONE"


def a_notification_that_is_rejected_is_failed(deployed):
    """The ledger rejects negative amounts, and the receiver rejects the webhook. `mark-done` rejects nothing."""
    notification_id = deployed.new_id()
    event = batches.event(notification_id).replace("19.99", "-1")
    deployed.put(notification_id, event=event)
    deployed.receiver.on_call = lambda _: 404
    try:
        assert deployed.invoke("Downstream", batches.kinesis(notification_id, data=event.encode())) == NOTHING_FAILED
    finally:
        deployed.receiver.on_call = accept
    assert deployed.status(notification_id) == ("DONE" if deployed.action == "mark-done" else "FAILED")


def records_that_belong_to_no_notification_are_quarantined(deployed):
    unknown, unreadable = batches.kinesis(deployed.new_id()), batches.kinesis("", data=b"\xff")
    for batch in (unknown, unreadable):
        assert deployed.invoke("Downstream", batch) == NOTHING_FAILED


def the_streams_are_polled(deployed):
    notification_id = deployed.new_id()
    deployed.put(notification_id)
    deployed.polled_until(lambda: deployed.status(notification_id) == "DONE")


def records_that_publisher_fails_at_are_given_up_with_a_message(deployed):
    empty_failure_queue(deployed, "Publisher")
    deployed.put(deployed.new_id())
    is_given_up(deployed, "Publisher")


def records_that_downstream_fails_at_are_given_up_with_a_message(deployed):
    empty_failure_queue(deployed, "Downstream")
    notification_id = deployed.new_id()
    deployed.put(notification_id, status="DONE")  # publisher ignores it
    deployed.client("kinesis").put_record(
        StreamName=deployed.outputs["StreamName"], PartitionKey=notification_id, Data=notification_id
    )
    is_given_up(deployed, "Downstream")


def empty_failure_queue(deployed, function):
    """Removes the messages of earlier exercises."""
    while deployed.given_up(function):
        pass


def is_given_up(deployed, function):
    """The function fails, because its role permits it nothing. Lambda may still read the stream and report."""
    kept = ("ReadTableStream", "ReadStream", "ReportDiscardedRecords")
    with deployed.permitting(function, [s for s in deployed.statements(function) if s["Sid"] in kept]):
        deployed.polled_until(lambda: deployed.given_up(function))


#: Exercises whose permissions depend on the action. Each stack does them.
OF_AN_ACTION = (
    a_notification_is_done,
    a_notification_that_is_rejected_is_failed,
    records_that_belong_to_no_notification_are_quarantined,
)
#: Exercises whose permissions are the same for every action. One stack does them.
OF_EVERY_STACK = (
    a_notification_is_accepted_and_a_duplicate_is_recognised,
    a_message_that_is_refused_is_hidden,
    a_notification_that_became_init_is_published,
    the_sweep_publishes_what_is_due_once_and_counts_what_is_in_doubt,
    the_streams_are_polled,
    records_that_publisher_fails_at_are_given_up_with_a_message,
    records_that_downstream_fails_at_are_given_up_with_a_message,
)


# ---- used and granted permissions ------------------------------------------------------------------------------------


class Used:
    """The permissions that exercises used of the roles of a stack."""

    def __init__(self, deployed, exercises):
        #: By function, action and resource: the notes of the checks, and the first exercise that caused one.
        self.notes, self.exercise = collections.defaultdict(list), {}
        for exercise in exercises:
            _, start = deployed.notes()
            exercise(deployed)
            for note in deployed.notes(start)[0]:
                if note["allowed"]:
                    place = deployed.function_of[note["role"]], note["action"], deployed.short(note["resource"])
                    self.notes[place].append(note)
                    self.exercise.setdefault(place, exercise)


@pytest.fixture(scope="module")
def stacks(stack):
    """The stacks by name, each with the permissions that were used of its roles."""
    with Receiver() as receiver:
        secret = stack.stack.client("secretsmanager").create_secret(Name="iam", SecretString=receiver.secret)["ARN"]
        found = {}
        for name, own_parameters in STACKS.items():
            parameters = {"SweepSchedule": 5, "SweepAge": 60} | own_parameters
            if parameters["Action"] == "webhook":
                parameters |= {"WebhookUrl": receiver.url, "WebhookSecretArn": secret}
            deployed = Deployed(stack.stack, f"iam-{name}", receiver, parameters)
            found[name] = deployed, Used(deployed, OF_AN_ACTION if found else OF_AN_ACTION + OF_EVERY_STACK)
        yield found


def condition_of(notes):
    """The condition that a permission must have, according to its uses."""
    keys = {key for note in notes for key in note.get(KEYS, [])}
    if all(note.get(TRANSACTION) == ["TransactWriteItems"] for note in notes):
        return {"ForAnyValue:StringEquals": {TRANSACTION: ["TransactWriteItems"]}}
    # Without `Null`, the condition would also hold for a call that names no keys.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
    if keys == {"sweep:cursor"}:
        return {"ForAllValues:StringEquals": {KEYS: ["sweep:cursor"]}, "Null": {KEYS: "false"}}
    if keys and all(key.startswith("kinesis:") for key in keys):
        return {"ForAllValues:StringLike": {KEYS: ["kinesis:*"]}, "Null": {KEYS: "false"}}
    return None


BY_LAMBDA = {(f, action, resource) for f, actions in USED_BY_LAMBDA.items() for action, resource in actions.items()}


def problems(grants, notes):
    """The differences between the granted permissions and the notes of those that were used."""
    for grant in grants:
        place = grant.function, grant.action, grant.resource
        if place in notes:
            expected = condition_of(notes[place])
            if grant.condition != expected:
                yield f"{grant}: the condition should be {expected}"
        elif place not in BY_LAMBDA or grant.condition:
            yield f"{grant} was not used"
    granted = collections.Counter((grant.function, grant.action, grant.resource) for grant in grants)
    yield from (f"{place} is granted {count} times" for place, count in granted.items() if count > 1)
    yield from (f"Lambda needs {place}" for place in BY_LAMBDA - granted.keys())


@pytest.fixture(params=STACKS)
def exercised(stacks, request):
    """A stack, and the notes of the permissions that were used of its roles, including those of OF_EVERY_STACK."""
    deployed, used = stacks[request.param]
    _, first = next(iter(stacks.values()))
    of_every_stack = {place: notes for place, notes in first.notes.items() if first.exercise[place] in OF_EVERY_STACK}
    return deployed, {**of_every_stack, **used.notes}


def test_a_role_grants_what_is_used_and_nothing_else(exercised):
    deployed, notes = exercised
    assert list(problems(deployed.grants(), notes)) == []


def test_a_wider_resource_and_another_condition_would_be_found(exercised):
    deployed, notes = exercised
    grants = deployed.grants()
    for number, grant in enumerate(grants):
        for changed in (
            grant._replace(resource="*"), grant._replace(resource=f"{grant.resource}*"),
            grant._replace(condition=None if grant.condition else {"Null": {KEYS: "false"}}),
        ):
            assert list(problems([*grants[:number], changed, *grants[number + 1:]], notes)), changed


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_any_one_action_of_a_statement_an_exercise_fails(stacks, function):
    shown = set()
    for deployed, used in stacks.values():
        for grant in deployed.grants():
            exercise = used.exercise.get((grant.function, grant.action, grant.resource))
            if exercise and grant.function == function and (grant.sid, grant.action) not in shown:
                fewer = deployed.permitting(function, without(grant, deployed.statements(function)))
                with fewer, pytest.raises(AssertionError):
                    exercise(deployed)
                    print(f"{exercise.__name__} works without {grant}")
                shown.add((grant.sid, grant.action))
    assert shown


def without(grant, statements):
    """The statements of a role without one action of one of them."""
    for statement in statements:
        if statement["Sid"] == grant.sid:
            rest = [action for action in listed(statement["Action"]) if action != grant.action]
            if rest:
                yield {**statement, "Action": rest}
        else:
            yield statement


def test_every_statement_of_the_template_is_in_a_stack_that_is_exercised(stacks):
    granted = {(grant.function, grant.sid) for deployed, _ in stacks.values() for grant in deployed.grants()}
    for function in FUNCTIONS:
        (policy,) = RESOURCES[f"{function}Role"]["Properties"]["Policies"]
        statements = [s["Fn::If"][1] if "Fn::If" in s else s for s in policy["PolicyDocument"]["Statement"]]
        missing = {statement["Sid"] for statement in statements if (function, statement["Sid"]) not in granted}
        assert missing <= NOT_SHOWN


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_lambda_may_assume_a_role_and_the_role_has_one_policy(stacks, function):
    for deployed, _ in stacks.values():
        role = deployed.iam.get_role(RoleName=deployed.roles[function])["Role"]
        statement = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        assert role["AssumeRolePolicyDocument"]["Statement"] == [statement]
        assert deployed.policies(function) == [function.lower()]
        assert {statement["Effect"] for statement in deployed.statements(function)} == {"Allow"}


def test_every_queue_has_the_policy_that_demands_tls(stacks):
    deployed, _ = next(iter(stacks.values()))
    expected = RESOURCES["QueuesDemandTls"]["Properties"]["PolicyDocument"]
    queues = ("Queue", "DeadLetterQueue", "PublisherFailures", "DownstreamFailures")
    urls = [deployed.outputs[f"{queue}Url"] for queue in queues]
    assert len(urls) == len([r for r in RESOURCES.values() if r["Type"] == "AWS::SQS::Queue"])
    for url in urls:
        attributes = deployed.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        assert json.loads(attributes["Policy"]) == expected
