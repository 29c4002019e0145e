"""notifyctl, as operators and scripts use it."""

import json
import re
import shlex
import subprocess
import time

import pytest

from conftest import DONE_RETENTION_DAYS
from local.stack import NOTIFYCTL

IN_DOUBT_AT = "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "no AWS region is set"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the endpoint cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "check the credentials"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(stack, variables, expected):
    environment = {name: value for name, value in {**stack.stack.environment, **variables}.items() if value}
    run = subprocess.run([NOTIFYCTL, "summary"], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert expected in run.stderr and len(run.stderr.splitlines()) == 1


def test_an_empty_file_and_settings_that_make_malformed_events_are_errors(stack, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    for command in (["send", empty], ["audit", empty]):
        code, error = stack.notifyctl(*command)
        assert code == 2 and "holds no events" in error
    code, error = stack.notifyctl("send", "--count", 3, "--prefix", "kinesis:")
    assert code == 2 and "reserved" in error
    code, error = stack.notifyctl("send", "--count", 3, "--save", tmp_path / "no-such-folder" / "sent.jsonl")
    assert code == 2 and "no-such-folder" in error


def test_status_shows_a_notification_and_hides_its_payload_unless_asked(stack, prefix, event):
    stack.send(event(prefix))
    stack.wait_for_status(prefix, "DONE")
    code, shown = stack.notifyctl("status", prefix)
    assert code == 0
    assert (shown["id"], shown["status"], shown["source"]) == (prefix, "DONE", "urn:example:orders")
    assert "orderId" not in json.dumps(shown)
    _, shown = stack.notifyctl("status", prefix, "--event")
    assert shown["event"] == event(prefix)
    code, shown = stack.notifyctl("status", f"{prefix}-unknown")
    assert (code, shown["id"], shown["status"], shown["timeline"]) == (1, f"{prefix}-unknown", None, [])


def dead_letter(stack, body, **attributes):
    """Sends a message to the dead-letter queue, and returns its id."""
    attributes = {name: {"DataType": "Number", "StringValue": str(value)} for name, value in attributes.items()}
    queue = stack.outputs["DeadLetterQueueUrl"]
    return stack.sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=attributes)["MessageId"]


def test_a_dead_letter_is_redriven_to_the_queue_and_done(stack, prefix, event):
    message = dead_letter(stack, event(prefix))
    code, result = stack.notifyctl("dlq", "redrive", message)
    assert code == 0 and result["moved"] == 1
    assert result["messages"] == [
        {"message_id": message, "id": prefix, "reason": "good", "result": "moved", "why": None}
    ]
    stack.wait_for_status(prefix, "DONE")
    assert message not in stack.dead_letters()


def test_a_dead_letter_that_could_outlive_the_memory_of_its_id_is_refused(stack, prefix, event):
    days = DONE_RETENTION_DAYS - 22
    young = dead_letter(stack, event(f"{prefix}-young"), first_sent_at=int((time.time() - days * 86400 + 60) * 1000))
    old = dead_letter(stack, event(f"{prefix}-old"), first_sent_at=int((time.time() - days * 86400 - 60) * 1000))
    code, result = stack.notifyctl("dlq", "redrive", old, young)
    assert code == 1 and (result["moved"], result["possible"]) == (0, 1), "two were named, so --yes is needed"
    code, result = stack.notifyctl("dlq", "redrive", old, young, "--yes")
    assert code == 1
    assert {letter["message_id"]: letter["result"] for letter in result["messages"]} == {old: "refused", young: "moved"}
    stack.wait_for_status(f"{prefix}-young", "DONE")
    assert stack.item(f"{prefix}-old") is None and old in stack.dead_letters()


def test_several_dead_letters_are_moved_only_if_that_is_confirmed(stack, prefix, event):
    messages = [dead_letter(stack, event(f"{prefix}-{n}")) for n in range(2)]
    code, result = stack.notifyctl("dlq", "redrive", *messages)
    assert code == 0 and (result["moved"], result["possible"]) == (0, 2)
    assert stack.dead_letters().keys() >= set(messages)
    code, result = stack.notifyctl("dlq", "redrive", "--yes", *messages)
    assert code == 0 and (result["moved"], result["possible"]) == (2, 0)
    for n in range(2):
        stack.wait_for_status(f"{prefix}-{n}", "DONE")
    assert stack.notifyctl("dlq", "redrive", messages[0])[0] == 1


def test_summary_counts_statuses_and_queues(stack, prefix, event):
    stack.send(event(prefix))
    stack.wait_for_status(prefix, "DONE")
    code, summary = stack.notifyctl("summary", "--all")
    assert code == 0
    assert summary["notifications"]["DONE"] >= 1
    assert set(summary) >= {"queue", "dead_letter_queue", "publisher_failures", "downstream_failures"}


def test_send_reads_a_file_and_refuses_malformed_events_before_anything_is_sent(stack, prefix, event, tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text(f"{event(prefix)}\nno JSON\n")
    code, error = stack.notifyctl("send", events)
    assert code == 2
    assert "event 2: not valid JSON" in error and "nothing was sent" in error
    assert stack.item(prefix) is None

    events.write_text(f"{event(prefix)}\n")
    assert stack.notifyctl("send", events) == (0, {"sent": 1, "distinct": 1, "seed": None})
    stack.wait_for_status(prefix, "DONE")


def test_audit_finds_what_never_arrived(stack, prefix, event, tmp_path):
    sent = tmp_path / "sent.jsonl"
    sent.write_text(f"{event(prefix)}\n")
    # While messages of other tests are in the queue, the audit does not call a notification lost.
    stack.wait_for("the queue is empty", lambda: not any(stack.notifyctl("summary")[1]["queue"].values()))
    code, result = stack.notifyctl("audit", sent)
    assert (code, result["verdict"]) == (1, "bad")
    assert result["problems"] == [f"{prefix}: lost, it is not in the table"]


def test_the_audit_does_not_pass_what_it_cannot_prove(stack, prefix, event, tmp_path):
    sent = tmp_path / "sent.jsonl"
    sent.write_text(f"{event(prefix)}\n")
    stack.put(prefix, status="IN_DOUBT", in_doubt_at=IN_DOUBT_AT, event=event(prefix))
    code, result = stack.notifyctl("audit", sent)
    assert (code, result["verdict"], result["in_doubt"], result["problems"]) == (3, "cannot_be_shown", 1, [])
    assert result["cannot_be_shown"] == [f"{prefix}: IN_DOUBT, the outcome is unknown; `notifyctl resolve ID` decides"]
    assert stack.notifyctl("resolve", prefix, "--retry")[0] == 0
    stack.wait_for_status(prefix, "DONE")
    code, result = stack.notifyctl("audit", sent)
    assert (code, result["verdict"], result["done_once"]) == (0, "good", 1)


def test_a_send_that_fails_says_how_to_finish_it(stack, prefix, tmp_path):
    sent = tmp_path / "sent.jsonl"
    unreachable = {**stack.stack.environment, "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9"}
    command = [NOTIFYCTL, "--json", "send", "--count", "3", "--prefix", prefix, "--seed", "7", "--save", sent]
    run = subprocess.run(command, env=unreachable, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
    assert "3 of 3 messages may not have been sent" in run.stderr
    finish = re.search("run `notifyctl ([^`]+)`", run.stderr).group(1)
    assert stack.notifyctl(*shlex.split(finish)) == (0, {"sent": 3, "distinct": 3, "seed": 7})
    stack.wait_for_status(f"{prefix}-000003", "DONE")
    stack.wait_for("the audit of what was saved is good", lambda: stack.notifyctl("audit", sent)[0] == 0)


def test_latency_has_figures_of_every_stage_and_the_stages_add_up(stack):
    code, result = stack.notifyctl("latency", "--count", 20, "--rate", 20)
    assert code == 0, result
    assert (result["count"], result["rate"], result["missing"]) == (20, 20, 0)
    figures = result["milliseconds"]
    assert list(figures) == ["sent_to_received", "received_to_published", "published_to_done", "sent_to_done"]
    for stage in figures.values():
        assert stage["notifications"] == 20
        assert stage["p50"] <= stage["p95"] <= stage["p99"] <= stage["max"]
    *stages, whole = (stage["max"] for stage in figures.values())
    assert whole <= sum(stages), "no notification takes longer than the slowest of each stage together"

    _, result = stack.notifyctl("latency", "--count", 1)
    *stages, whole = (stage["p50"] for stage in result["milliseconds"].values())
    assert whole == sum(stages)


def test_redrive_returns_a_failed_notification_to_init_and_changes_no_other(stack, prefix, event):
    stack.send(event(prefix).replace("19.99", "none"), event(f"{prefix}-done"))
    stack.wait_for_status(prefix, "FAILED")
    stack.wait_for_status(f"{prefix}-done", "DONE")
    first = stack.item(prefix)["failed_at"]

    assert stack.notifyctl("redrive", prefix) == (0, {"id": prefix, "changed": True, "status": "INIT"})
    # Nothing was fixed, so it is published and rejected again, at a new time.
    stack.wait_for("it failed again", lambda: stack.item(prefix).get("failed_at") not in (None, first))
    stack.wait_for_status(prefix, "FAILED")

    for other, status in ((f"{prefix}-done", "DONE"), (f"{prefix}-no", None)):
        assert stack.notifyctl("redrive", other) == (1, {"id": other, "changed": False, "status": status})
    code, result = stack.notifyctl("redrive", "kinesis:shardId-0:1")
    assert code == 2 and "reserved" in result["error"] and result["changed"] is False


def test_resolve_settles_a_notification_in_doubt_as_the_operator_decides(stack, prefix, event):
    for notification_id in (f"{prefix}-did", f"{prefix}-did-not"):
        stack.put(notification_id, status="IN_DOUBT", in_doubt_at=IN_DOUBT_AT, event=event(notification_id))
    assert stack.notifyctl("resolve", f"{prefix}-did", "--done")[0] == 0
    assert stack.status(f"{prefix}-did") == "DONE"
    assert stack.entry(f"{prefix}-did") is None, "it is not run again"
    assert stack.notifyctl("resolve", f"{prefix}-did-not", "--retry")[0] == 0
    stack.wait_for_status(f"{prefix}-did-not", "DONE")
    assert stack.entry(f"{prefix}-did-not") is not None
    assert stack.notifyctl("resolve", f"{prefix}-did", "--retry")[0] == 1


def test_redrive_of_several_ids_continues_after_one_that_is_invalid(stack, prefix, event, tmp_path):
    stack.send(event(prefix).replace("19.99", "none"))
    stack.wait_for_status(prefix, "FAILED")
    several = ["redrive", "kinesis:shardId-0:1", prefix, f"{prefix}-no"]
    run = stack.stack.notifyctl(*several, capture_output=True)
    assert run.returncode == 0 and "1 notification would be changed" in run.stdout
    assert stack.status(prefix) == "FAILED", "more than one is changed only with --yes"
    run = stack.stack.notifyctl(*several, "--yes", "--plan", tmp_path / "plan.jsonl", capture_output=True)
    assert run.returncode == 1, "two could not be changed"
    assert "kinesis:shardId-0:1" in run.stderr and "reserved" in run.stderr
    assert "changed 1, not as expected 2, errors 0" in run.stdout and f"{prefix}-no: not in the table" in run.stderr


def test_an_expired_claim_can_be_resolved_and_a_live_one_cannot(stack, prefix, event):
    expired, live = f"{prefix}-expired", f"{prefix}-live"
    for notification_id, year in ((expired, 2026), (live, 2999)):
        lease_until = f"{year}-01-01T00:00:00.000Z"
        stack.put(
            notification_id, status="CLAIMED", event=event(notification_id), owner="a worker", lease_until=lease_until
        )
    assert stack.notifyctl("resolve", expired, "--done")[0] == 0
    assert stack.status(expired) == "DONE"
    assert "owner" not in stack.item(expired)
    assert stack.notifyctl("resolve", live, "--done")[0] == 1
    assert stack.status(live) == "CLAIMED"


def test_a_notification_resolved_as_done_expires_after_the_retention_of_the_stack(stack, prefix, event):
    stack.put(prefix, status="IN_DOUBT", in_doubt_at=IN_DOUBT_AT, event=event(prefix))
    assert stack.notifyctl("resolve", prefix, "--done")[0] == 0
    days = (int(stack.item(prefix)["expires_at"]["N"]) - time.time()) / (24 * 3600)
    assert abs(days - DONE_RETENTION_DAYS) < 1


def test_an_unknown_stack_is_named_with_what_to_do(stack):
    code, error = stack.notifyctl("--stack", "no-such-stack", "summary")
    assert code == 2
    assert "there is no stack no-such-stack in us-east-1" in error and "make up" in error


def test_colours_are_for_terminals_only(stack, prefix, event):
    for command in (["audit", "no-such-file"], ["redrive", f"{prefix}-unknown"]):
        run = stack.stack.notifyctl(*command, capture_output=True)
        assert run.returncode != 0 and "\033[" not in run.stdout + run.stderr
        forced_environment = {**stack.stack.environment, "CLICOLOR_FORCE": "1"}
        forced = subprocess.run([NOTIFYCTL, *command], env=forced_environment, capture_output=True, text=True)
        assert "\033[" in forced.stdout + forced.stderr, "there are colours to omit"


COMMANDS = [
    "", "send", "status", "summary", "groups", "list", "watch", "redrive", "resolve", "audit", "verify", "latency",
    "pause", "resume", "doctor", "cost", "ui", "dlq list", "dlq show", "dlq redrive", "dlq discard",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    run = subprocess.run([NOTIFYCTL, *command.split(), "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "Usage:" in run.stdout
