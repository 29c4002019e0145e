"""The real binaries, and how many backend calls they make."""

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
