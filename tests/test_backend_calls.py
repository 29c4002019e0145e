"""The real binaries, and how many backend calls they make."""

import base64
import json
import subprocess

import pytest

from local import batches
from local.lambda_host import LambdaHost
from local.stack import ROOT

OK = {"batchItemFailures": []}


def binary(function):
    return ROOT / ".aws-sam" / "build" / function.capitalize() / "bootstrap"


@pytest.mark.parametrize(
    "function, operation, at_most",
    [("ingest", "BatchExecuteStatement", 40), ("publisher", "PutRecords", 2), ("downstream", "BatchExecuteStatement", 40)],
)
def test_a_thousand_notifications_in_one_batch_need_few_backend_calls(function, operation, at_most):
    with LambdaHost(binary(function)) as host:
        assert host.invoke(batches.OF[function](1000)) == OK
        assert set(host.calls) == {operation}
        assert 0 < host.calls[operation] <= at_most


def test_a_thousand_ledger_notifications_in_one_batch_need_twenty_transactions():
    with LambdaHost(binary("downstream"), ACTION="ledger", LEDGER_TABLE_NAME="ledger") as host:
        assert host.invoke(batches.OF["downstream"](1000)) == OK
        assert host.calls == {"TransactWriteItems": 20}


def test_a_thousand_messages_that_are_refused_are_hidden_ten_a_call_and_none_is_where_nothing_fails():
    refused = batches.OF["ingest"](1000)
    for record in refused["Records"]:
        record["body"] = "not JSON"
    with LambdaHost(binary("ingest")) as host:
        assert len(host.invoke(refused)["batchItemFailures"]) == 1000
        assert host.calls == {"ChangeMessageVisibilityBatch": 100}


@pytest.mark.parametrize("function", ["ingest", "publisher", "downstream"])
def test_rule_3_a_record_without_an_identifier_is_an_invocation_error_and_the_process_lives_on(function):
    event = batches.OF[function](2)
    broken = batches.OF[function](2)
    record = broken["Records"][1]
    {"ingest": record, "publisher": record["dynamodb"] if function == "publisher" else {},
     "downstream": record.get("kinesis", {})}[function].update(messageId="", SequenceNumber="", sequenceNumber="")
    with LambdaHost(binary(function)) as host:
        answer = host.invoke(broken)
        assert "no identifier" in answer["errorMessage"]
        assert sum(host.calls.values()) == 0
        assert host.invoke(event) == OK


@pytest.mark.parametrize(
    "function, variable",
    [("ingest", "TABLE_NAME"), ("ingest", "QUEUE_URL"), ("ingest", "AWS_REGION"), ("publisher", "STREAM_NAME"),
     ("publisher", "TABLE_NAME"), ("downstream", "TABLE_NAME"), ("downstream", "LEDGER_TABLE_NAME")],
)
def test_a_missing_variable_ends_the_process_at_start_and_is_named(function, variable):
    variables = {"TABLE_NAME": "t", "QUEUE_URL": "q", "STREAM_NAME": "s", "AWS_REGION": "us-east-1", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"}
    variables["ACTION"] = "ledger"
    variables.pop(variable, None)
    run = subprocess.run([binary(function)], env=variables, capture_output=True, text=True, timeout=30)
    assert run.returncode != 0
    assert f"{variable} is missing" in run.stdout + run.stderr


@pytest.mark.parametrize("function", ["ingest", "publisher", "downstream"])
def test_no_payload_is_logged_at_any_level(function, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as output, LambdaHost(binary(function), output, AWS_LAMBDA_LOG_LEVEL="TRACE") as host:
        assert host.invoke(batches.OF[function](3)) == OK
    text = log.read_text()
    assert "rfd-000001" in text, "there is a log"
    assert "orderId" not in text and "b3JkZXJJZ" not in text


def test_batched_writes_are_understood_by_a_database(stack, prefix):
    """The demo writes singly, because MiniStack's PartiQL leaves no stream records; it does execute PartiQL."""
    variables = {"AWS_ENDPOINT_URL": stack.stack.endpoint, "TABLE_NAME": stack.table}
    sqs, kinesis = batches.OF["ingest"](60), batches.OF["downstream"](60)
    replace = lambda event: json.loads(json.dumps(event).replace("rfd-", f"{prefix}-"))  # noqa: E731
    sqs = replace(sqs)
    for record, message in zip(kinesis["Records"], sqs["Records"]):
        record["kinesis"]["data"] = base64.b64encode(message["body"].encode()).decode()
    conflict = json.loads(json.dumps(sqs["Records"][0]).replace("19.99", "20.00").replace("message-", "conflict-"))
    with LambdaHost(binary("ingest"), **variables) as host:
        assert host.invoke(sqs) == OK
        assert host.invoke(sqs) == OK, "duplicates"
        conflicts = host.invoke({"Records": [conflict]})["batchItemFailures"]
        assert conflicts == [{"itemIdentifier": conflict["messageId"]}]
    ids = [f"{prefix}-{number:06}" for number in range(60)]
    assert {stack.status(notification_id) for notification_id in ids} == {"INIT"}
    with LambdaHost(binary("downstream"), **variables) as host:
        assert host.invoke(kinesis) == OK
        done = [stack.item(notification_id) for notification_id in ids]
        assert host.invoke(kinesis) == OK, "repeats"
    assert [item["status"]["S"] for item in done] == ["DONE"] * 60
    assert not any("pending_shard" in item for item in done)
    assert [stack.item(notification_id) for notification_id in ids] == done, "a repeat writes nothing"
