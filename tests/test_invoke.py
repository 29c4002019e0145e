"""`make invoke`: each sample event in events/ has the result that the README there says, with either tool."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from conftest import Service
from local import __main__ as command
from local import batches
from local.batches import NOTHING_FAILED
from local.invoke import (
    bridge_to,
    docker_engine,
    invoke,
    template_with,
    variables_of,
    with_cargo_lambda,
    with_sam,
)
from local.stack import BUILD, ROOT, Stack, stop_group

#: An address where no Docker engine answers.
NO_DOCKER = "unix:///nonexistent/docker.sock"

#: For each sample event: the positions of the records that are reported as failed, and the statuses afterwards. Before
#: downstream is invoked, rfd-000001 to rfd-000003 are INIT. An orphan is named by the position of its record.
TABLE = {
    "ingest-valid": ([], {"rfd-000001": "INIT"}),
    "ingest-duplicate": ([], {"rfd-000001": "INIT"}),
    "ingest-conflict": ([1], {"rfd-000001": "INIT"}),
    "ingest-malformed": ([0, 1, 2], {}),
    "ingest-mixed": ([1, 4], {"rfd-000001": "INIT", "rfd-000002": "INIT"}),
    "downstream-valid": ([], {"rfd-000001": "DONE", "rfd-000002": "INIT", "rfd-000003": "INIT"}),
    "downstream-duplicate": ([], {"rfd-000001": "DONE", "rfd-000002": "INIT", "rfd-000003": "INIT"}),
    "downstream-conflict": ([], {"rfd-000001": "DONE", "rfd-000002": "INIT", "rfd-000003": "INIT", 1: "FAILED"}),
    "downstream-malformed": (
        [],
        {"rfd-000001": "INIT", "rfd-000002": "INIT", "rfd-000003": "INIT", 0: "FAILED", 1: "FAILED", 2: "FAILED"},
    ),
    "downstream-mixed": (
        [],
        {"rfd-000001": "DONE", "rfd-000002": "INIT", "rfd-000003": "DONE", 1: "FAILED", 2: "FAILED"},
    ),
}

#: For each sample event of publisher: the positions of the records that are published. None is reported as failed.
STREAM = {
    "publisher-valid": [0],
    "publisher-duplicate": [0],
    "publisher-conflict": [0],
    "publisher-malformed": [],
    "publisher-mixed": [0, 4],
}


@pytest.fixture(scope="module")
def service():
    """A stack whose streams nobody polls, so that only the functions that a test invokes do anything."""
    stack = Stack.start("invoke", Action="ledger")
    try:
        stop_group(stack.poller.pid)
        yield Service(stack)
    finally:
        stack.stop()


@pytest.fixture(params=["sam", "cargo-lambda"])
def tool(request):
    if request.param == "sam" and not docker_engine():
        pytest.skip("no Docker engine answers, so `sam local invoke` cannot be tested")
    return request.param


def test_every_sample_event_is_tested():
    samples = {path.stem for path in (ROOT / "events").glob("*.json")}
    assert samples == {*TABLE, *STREAM}
    assert len(samples) == 15


@pytest.mark.parametrize("sample", TABLE)
def test_a_sample_event_leaves_in_the_table_what_its_readme_says(service, tool, sample):
    records = records_of(sample)
    reported, statuses = TABLE[sample]
    clear(service)
    if sample.startswith("downstream-"):
        put_as_init(service, "rfd-000001", "rfd-000002", "rfd-000003")

    assert invoke_sample(service, tool, sample) == failures(records[position]["messageId"] for position in reported)

    expected = {key if isinstance(key, str) else orphan_id(records[key]): status for key, status in statuses.items()}
    assert {notification_id: item["status"]["S"] for notification_id, item in items(service).items()} == expected
    for notification_id in [key for key, status in expected.items() if status == "DONE"]:
        assert service.entry(notification_id), f"{notification_id} is DONE without its entry in the ledger"


@pytest.mark.parametrize("sample", STREAM)
def test_a_sample_event_leaves_in_the_stream_what_its_readme_says(service, tool, sample):
    images = [record["dynamodb"].get("NewImage") for record in records_of(sample)]
    before = service.records()

    assert invoke_sample(service, tool, sample) == NOTHING_FAILED

    published = service.records()
    for record in before:
        published.remove(record)
    expected = [(images[position]["id"]["S"], images[position]["event"]["S"]) for position in STREAM[sample]]
    assert sorted((key, data.decode()) for key, data, _ in published) == sorted(expected)


def test_without_docker_cargo_lambda_invokes_the_function_and_the_log_is_shown(service, monkeypatch, capfd):
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    assert invoke_sample(service, None, "ingest-malformed")["batchItemFailures"]
    assert '"reason":"malformed: not valid JSON' in capfd.readouterr().err


def test_make_invoke_uses_the_stack_that_make_up_started(service, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(command, "RUNNING", tmp_path / "stack.json")
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    monkeypatch.setenv("FUNCTION", "Ingest")
    monkeypatch.setenv("EVENT", str(ROOT / "events" / "ingest-valid.json"))
    command.note(service.stack)
    assert command.invoke_function() == 0
    assert json.loads(capfd.readouterr().out) == NOTHING_FAILED


def test_without_a_local_stack_the_error_says_how_to_start_it(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(command, "RUNNING", tmp_path / "stack.json")
    assert "`make up` starts it" in error_of(capfd, command.invoke_function)


@pytest.mark.parametrize(
    "function, event, tool, message",
    [
        ("", "", "", "make invoke FUNCTION=Ingest EVENT=events/ingest-mixed.json"),
        ("Digest", "events/ingest-valid.json", "", "FUNCTION must be one of Ingest, Publisher, Downstream"),
        ("Ingest", "events/none.json", "", "there is no file"),
        ("Ingest", "events/ingest-valid.json", "docker", "WITH must be sam or cargo-lambda"),
        ("Ingest", "events/ingest-valid.json", "sam", "WITH=cargo-lambda needs none"),
    ],
)
def test_a_wrong_request_is_refused_with_the_possible_values(function, event, tool, message, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    assert message in error_of(capfd, invoke, "http://127.0.0.1:9", function, event, tool)


def test_an_error_of_the_function_is_an_error(service, tool, tmp_path, capfd):
    event = tmp_path / "event.json"
    event.write_text('{"Records": [{}]}')
    error = error_of(capfd, invoke, service.stack.endpoint, "Ingest", event, tool)
    assert "a record has no identifier" in error
    assert "Ingest answered with an error" in error


def test_a_function_that_exits_at_its_start_is_an_error(service, capfd):
    event = ROOT / "events" / "ingest-valid.json"
    error = error_of(capfd, with_cargo_lambda, service.stack.endpoint, "Ingest", event, {}, {})
    assert "TABLE_NAME" in error
    assert "Ingest exited before it answered" in error


def test_the_function_has_its_own_role_and_no_other(service, tool, monkeypatch, capfd):
    """With publisher's role, ingest may not put notifications."""
    publisher = service.stack.session(service.outputs["PublisherFunction"])
    monkeypatch.setattr("local.invoke.session", lambda *_: publisher)
    clear(service)
    assert len(invoke_sample(service, tool, "ingest-valid")["batchItemFailures"]) == 1
    assert items(service) == {}


# ---- what else `sam local invoke` needs ------------------------------------------------------------------------------


def engine_with(network):
    """A double of Docker's engine with this network as its bridge."""
    bridge = SimpleNamespace(attrs={"IPAM": {"Config": [network]}})
    return SimpleNamespace(networks={"bridge": bridge})


def test_containers_reach_the_local_stack_while_a_function_runs_and_not_after(service):
    with bridge_to(service.stack.endpoint, engine_with({"Subnet": "127.0.0.0/8", "Gateway": "127.0.0.2"})) as bridged:
        assert bridged.startswith("http://127.0.0.2:")
        health = urllib.request.urlopen(f"{bridged}/_ministack/health", timeout=10)
        assert health.status == 200
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{bridged}/_ministack/health", timeout=10)


def test_only_containers_reach_the_local_stack(service):
    with bridge_to(service.stack.endpoint, engine_with({"Subnet": "10.0.0.0/8", "Gateway": "127.0.0.2"})) as bridged:
        address, port = bridged.removeprefix("http://").split(":")
        with socket.create_connection((address, int(port)), timeout=10) as connection:
            assert connection.recv(1) == b""


def test_the_host_has_the_first_address_if_docker_names_none(service):
    with bridge_to(service.stack.endpoint, engine_with({"Subnet": "127.8.0.0/16"})) as bridged:
        assert bridged.startswith("http://127.8.0.1:")


@pytest.mark.parametrize(
    "attempts, script",
    [
        (2, 'test $(wc -l < "$0.log") -lt 2 || echo "{}"'),  # no answer, because SAM's emulator was not ready; then one
        (3, "true"),  # never an answer
        (1, "exit 1"),  # no image
    ],
)
def test_sam_is_run_again_only_if_it_succeeds_without_an_answer(attempts, script, tmp_path, monkeypatch, capfd):
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho run >> "$0.log"\n{script}\n')
    sam.chmod(0o755)
    monkeypatch.setattr("local.invoke.TOOLS", tmp_path)
    engine = engine_with({"Subnet": "127.0.0.0/8", "Gateway": "127.0.0.2"})
    event = ROOT / "events" / "ingest-valid.json"
    if attempts == 2:
        assert with_sam("http://127.0.0.1:9", "Ingest", event, {}, {}, engine) == "{}"
    else:
        error = error_of(capfd, with_sam, "http://127.0.0.1:9", "Ingest", event, {}, {}, engine)
        assert "sam local invoke failed" in error
    assert (tmp_path / "sam.log").read_text() == "run\n" * attempts


def test_only_the_copy_for_sam_declares_an_endpoint(service):
    variables = variables_of(service.stack.endpoint, service.outputs["IngestFunction"])
    assert variables["TABLE_NAME"] == service.table
    with template_with("Ingest", variables, "http://172.17.0.1:4566") as path:
        functions = yaml.safe_load(Path(path).read_text())["Resources"]
        environment = functions["Ingest"]["Properties"]["Environment"]["Variables"]
        assert environment == {**variables, "AWS_ENDPOINT_URL": "http://172.17.0.1:4566"}
        assert "AWS_ENDPOINT_URL" not in functions["Downstream"]["Properties"]["Environment"]["Variables"]
    assert "AWS_ENDPOINT_URL" not in (ROOT / "template.yaml").read_text()
    assert not list(BUILD.glob("invoke-*"))


# ---- helpers ---------------------------------------------------------------------------------------------------------


def records_of(sample):
    return json.loads((ROOT / "events" / f"{sample}.json").read_text())["Records"]


def invoke_sample(service, tool, sample):
    function = sample.partition("-")[0].capitalize()
    return json.loads(invoke(service.stack.endpoint, function, ROOT / "events" / f"{sample}.json", tool))


def failures(identifiers):
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in identifiers]}


def orphan_id(record):
    """The id under which downstream quarantines a record that belongs to no notification."""
    return f"kinesis:{record['eventID']}"


def items(service):
    return {item["id"]["S"]: item for item in service.dynamodb.scan(TableName=service.table)["Items"]}


def clear(service):
    for table in (service.table, service.outputs["LedgerTableName"]):
        for item in service.dynamodb.scan(TableName=table)["Items"]:
            service.dynamodb.delete_item(TableName=table, Key={"id": item["id"]})


def put_as_init(service, *ids):
    """Has the deployed ingest put these notifications."""
    answer = service.stack.client("lambda").invoke(
        FunctionName=service.outputs["IngestFunction"], Payload=json.dumps(batches.sqs(*ids))
    )
    assert json.loads(answer["Payload"].read()) == NOTHING_FAILED


def error_of(capfd, function, *arguments):
    """What a person reads when a command fails."""
    with pytest.raises(SystemExit) as end:
        function(*arguments)
    assert end.value.code == 2
    return capfd.readouterr().err
