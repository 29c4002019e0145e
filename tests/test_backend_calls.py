"""The real binaries, and how many backend calls they make."""

import subprocess

import pytest

from local import batches
from local.batches import NOTHING_FAILED
from local.lambda_host import LambdaHost
from local.stack import built

FUNCTIONS = ["ingest", "publisher", "downstream"]


@pytest.mark.parametrize(
    "function, operation, at_most",
    [
        ("ingest", "BatchExecuteStatement", 40),
        ("publisher", "PutRecords", 2),
        ("downstream", "BatchExecuteStatement", 40),
    ],
)
def test_a_thousand_notifications_in_one_batch_need_few_backend_calls(function, operation, at_most):
    with LambdaHost(built(function)) as host:
        assert host.invoke(batches.OF[function](*batches.ids(1000))) == NOTHING_FAILED
        assert set(host.calls) == {operation}
        assert 0 < host.calls[operation] <= at_most


def test_a_thousand_ledger_notifications_in_one_batch_need_twenty_transactions():
    with LambdaHost(built("downstream"), ACTION="ledger", LEDGER_TABLE_NAME="ledger") as host:
        assert host.invoke(batches.kinesis(*batches.ids(1000))) == NOTHING_FAILED
        assert host.calls == {"TransactWriteItems": 20}


def test_a_thousand_refused_messages_are_hidden_ten_a_call():
    with LambdaHost(built("ingest")) as host:
        answer = host.invoke(batches.sqs(*batches.ids(1000), body="not JSON"))
        assert len(answer["batchItemFailures"]) == 1000
        assert host.calls == {"ChangeMessageVisibilityBatch": 100}


@pytest.mark.parametrize(
    "function, parents, identifier",
    [
        ("ingest", [], "messageId"),
        ("publisher", ["dynamodb"], "SequenceNumber"),
        ("downstream", ["kinesis"], "sequenceNumber"),
    ],
)
def test_rule_3_a_record_without_an_identifier_is_an_invocation_error_and_the_process_lives_on(
    function, parents, identifier
):
    batch = batches.OF[function](*batches.ids(2))
    broken = batches.OF[function](*batches.ids(2))
    holder = broken["Records"][1]
    for parent in parents:
        holder = holder[parent]
    holder[identifier] = ""
    with LambdaHost(built(function)) as host:
        answer = host.invoke(broken)
        assert "no identifier" in answer["errorMessage"]
        assert sum(host.calls.values()) == 0
        assert host.invoke(batch) == NOTHING_FAILED


@pytest.mark.parametrize(
    "function, variable",
    [
        ("ingest", "TABLE_NAME"),
        ("ingest", "QUEUE_URL"),
        ("ingest", "AWS_REGION"),
        ("publisher", "STREAM_NAME"),
        ("publisher", "TABLE_NAME"),
        ("downstream", "TABLE_NAME"),
        ("downstream", "LEDGER_TABLE_NAME"),
    ],
)
def test_a_missing_variable_ends_the_process_at_start_and_is_named(function, variable):
    variables = {
        "ACTION": "ledger",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "AWS_REGION": "us-east-1",
        "QUEUE_URL": "q",
        "STREAM_NAME": "s",
        "TABLE_NAME": "t",
    }
    variables.pop(variable, None)
    run = subprocess.run([built(function)], env=variables, capture_output=True, text=True, timeout=30)
    assert run.returncode != 0
    assert f"{variable} is missing" in run.stdout + run.stderr


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_payload_is_logged_at_any_level(function, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as output, LambdaHost(built(function), output, AWS_LAMBDA_LOG_LEVEL="TRACE") as host:
        assert host.invoke(batches.OF[function](*batches.ids(3))) == NOTHING_FAILED
    text = log.read_text()
    assert "rfd-000001" in text, "there is a log"
    assert "orderId" not in text and "b3JkZXJJZ" not in text
