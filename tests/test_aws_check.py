"""`make aws-check`, with a local AWS in place of an account."""

import os
import pty
import signal
import subprocess
import sys
import uuid

import botocore.exceptions
import pytest

from local import aws_check
from local.stack import NAME, ROOT, local_build_environment

#: Seconds. Generous: it only ends what hangs.
TIMEOUT = 900


@pytest.fixture
def name():
    return f"check-{uuid.uuid4().hex[:8]}"


def environment(stack, name, **extra):
    """The environment of a user of the local AWS, with the settings of local builds."""
    build = {key: value for key, value in local_build_environment().items() if key not in os.environ}
    return {**stack.stack.environment, **build, "STACK": name, **extra}


def start(environment, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "local", "aws-check"], cwd=ROOT, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **options,
    )


def run(environment):
    with start(environment) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


def exists(stack, name):
    try:
        return stack.stack.client("cloudformation").describe_stacks(StackName=name)["Stacks"] != []
    except botocore.exceptions.ClientError as error:
        assert "does not exist" in str(error)
        return False


def left_of(stack, name):
    """The resources with the stack's name in theirs, of all kinds that cost money or keep data."""
    client = stack.stack.client
    queues = client("sqs").list_queues().get("QueueUrls", [])
    tables = client("dynamodb").list_tables()["TableNames"]
    streams = client("kinesis").list_streams()["StreamNames"]
    functions = [function["FunctionName"] for function in client("lambda").list_functions()["Functions"]]
    return [found for found in queues + tables + streams + functions if name in found]


def test_it_deploys_sends_audits_measures_and_deletes_everything(stack, name):
    status, output = run(environment(stack, name, YES="1"))
    assert status == 0, output
    for text in (
        "account   000000000000",
        f"stack     {name}",
        "nothing lost, nothing doubled",
        "conflict: the id exists with other content",
        "malformed: not valid JSON",
        "sent → done",
        "Kinesis shard-hours",
        "nothing of the stack is left",
    ):
        assert text in output, output
    assert not exists(stack, name)
    assert left_of(stack, name) == []


def test_when_it_is_interrupted_it_deletes_everything(stack, name):
    with start(environment(stack, name, YES="1")) as process:
        stack.wait_for("the stack", lambda: left_of(stack, name) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, output
    assert "nothing of the stack is left" in output
    assert not exists(stack, name)
    assert left_of(stack, name) == []


def test_a_stack_that_exists_already_is_left_alone(stack):
    status, output = run(environment(stack, NAME, YES="1"))
    assert status == 2
    assert "exists already" in output
    assert exists(stack, NAME)


def test_nothing_is_done_without_a_terminal_to_confirm_in(stack, name):
    status, output = run(environment(stack, name))
    assert status == 2
    assert "set YES=1" in output
    assert not exists(stack, name)


def test_nothing_is_done_unless_a_person_types_yes(stack, name):
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "local", "aws-check"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(stack, name), text=True,
        stdin=end, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    os.close(end)
    os.write(terminal, b"y\n")
    output, _ = process.communicate(timeout=TIMEOUT)
    os.close(terminal)
    assert process.returncode == 2
    assert 'Type "yes"' in output
    assert "nothing was done" in output
    assert not exists(stack, name)


def test_it_does_not_run_in_ci_against_aws(stack, name):
    ci = environment(stack, name, YES="1", CI="true")
    del ci["AWS_ENDPOINT_URL"]
    status, output = run(ci)
    assert status == 2
    assert "CI is set" in output


def test_an_invalid_stack_name_is_refused(stack):
    for wrong in ("", "1st", "a_b"):
        status, output = run(environment(stack, wrong, YES="1"))
        assert status == 2
        assert "STACK=notifications-check" in output


def test_resources_that_could_not_be_deleted_are_listed(capsys):
    """A local AWS deletes everything, so this double answers as AWS does if a resource is left."""
    check = object.__new__(aws_check.Check)
    check.name, check.region, check.cloudformation = "check", "eu-west-1", StuckStack()
    check.report_what_is_left()
    printed = capsys.readouterr().err
    assert "check is DELETE_FAILED, and COSTS MONEY" in printed
    assert "AWS::DynamoDB::Table check-Table DELETE_FAILED it is protected" in printed
    assert "check-Queue" not in printed
    assert "sam delete --stack-name check --region eu-west-1" in printed


class StuckStack:
    def describe_stacks(self, **_):
        return {"Stacks": [{"StackStatus": "DELETE_FAILED"}]}

    def get_paginator(self, _):
        return self

    def paginate(self, **_):
        deleted = {
            "ResourceType": "AWS::SQS::Queue",
            "PhysicalResourceId": "check-Queue",
            "ResourceStatus": "DELETE_COMPLETE",
        }
        stuck = {
            "ResourceType": "AWS::DynamoDB::Table",
            "PhysicalResourceId": "check-Table",
            "ResourceStatus": "DELETE_FAILED",
            "ResourceStatusReason": "it is protected",
        }
        return [{"StackResourceSummaries": [deleted, stuck]}]


def test_the_bill_counts_each_begun_hour_and_every_alarm():
    short, long = ({item: quantity for item, quantity, _ in aws_check.bill(seconds, 14)} for seconds in (1200, 3700))
    assert (short["Kinesis shard-hours"], long["Kinesis shard-hours"]) == (1, 2)
    assert (short["CloudWatch alarm-hours"], long["CloudWatch alarm-hours"]) == (14, 28)
    for item, quantity, cost in aws_check.bill(1200, 14):
        assert cost == pytest.approx(quantity * aws_check.PRICES[item])
    assert aws_check.alarms() == (ROOT / "template.yaml").read_text().count("Alarm:\n")
