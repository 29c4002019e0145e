"""`notifyctl dlq`: dead letters of every kind are grouped, shown, redriven and discarded."""

import collections
import json
import time

import pytest
from test_operator import dead_letter

#: Dead letters of each kind in the large test.
MANY = 250


@pytest.fixture
def empty(stack):
    """Without the messages of other tests, and later without those of this one, in the dead-letter queue."""
    purge = {"QueueUrl": stack.outputs["DeadLetterQueueUrl"]}
    stack.sqs.purge_queue(**purge)
    stack.wait_for("the dead-letter queue is empty", lambda: not stack.dead_letters())
    yield
    stack.sqs.purge_queue(**purge)


def of_every_kind(stack, prefix, event):
    """Sends a dead letter of each kind, and returns their message ids by reason."""
    stack.send(event(f"{prefix}-done"))
    stack.wait_for_status(f"{prefix}-done", "DONE")
    return {
        "malformed": dead_letter(stack, event(f"{prefix}-malformed").replace("1.0", "0.3")),
        "conflict": dead_letter(stack, event(f"{prefix}-done").replace("19.99", "20.00")),
        "duplicate": dead_letter(stack, event(f"{prefix}-done")),
        "good": dead_letter(stack, event(f"{prefix}-good")),
    }


def visible(stack):
    return stack.notifyctl("summary")[1]["dead_letter_queue"]["visible"]


def test_list_groups_dead_letters_by_the_reason_that_ingest_would_have(stack, prefix, event, empty):
    sent = of_every_kind(stack, prefix, event)
    code, listed = stack.notifyctl("dlq", "list")
    assert code == 0 and listed["complete"] and listed["read"] == 4
    assert {reason: group["messages"] for reason, group in listed["groups"].items()} == dict.fromkeys(sent, 1)
    assert {message["reason"]: message["message_id"] for message in listed["messages"]} == sent
    why = {message["reason"]: message["why"] for message in listed["messages"]}
    assert why["malformed"] == 'the attribute "specversion" is not "1.0"'
    assert why["conflict"] == "the table has a different event with this id (DONE)"
    assert all("orderId" not in json.dumps(message) for message in listed["messages"]), "no payload is shown"
    assert visible(stack) == 4, "they are visible again"

    _, conflicts = stack.notifyctl("dlq", "list", "--reason", "conflict", "--limit", 0)
    assert list(conflicts["groups"]) == ["conflict"] and conflicts["messages"] == []


def test_show_finds_a_dead_letter_by_either_id_and_hides_its_payload_unless_asked(stack, prefix, event, empty):
    sent = of_every_kind(stack, prefix, event)
    code, shown = stack.notifyctl("dlq", "show", sent["conflict"])
    assert code == 0
    assert [(letter["message_id"], letter["id"], letter["reason"]) for letter in shown] == [
        (sent["conflict"], f"{prefix}-done", "conflict")
    ]
    assert "have it send this one under a new id" in shown[0]["what_to_do"]
    assert "orderId" not in json.dumps(shown)
    _, shown = stack.notifyctl("dlq", "show", f"{prefix}-done", "--event")
    assert {letter["message_id"]: letter["body"] for letter in shown} == {
        sent["conflict"]: event(f"{prefix}-done").replace("19.99", "20.00"), sent["duplicate"]: event(f"{prefix}-done")
    }
    assert stack.notifyctl("dlq", "show", f"{prefix}-unknown") == (1, [])
    assert visible(stack) == 4


def test_a_redrive_moves_only_what_would_be_accepted_unless_a_reason_is_named(stack, prefix, event, empty):
    sent = of_every_kind(stack, prefix, event)
    code, result = stack.notifyctl("dlq", "redrive", "--yes")
    assert code == 0 and result["warning"] is None
    assert [(letter["message_id"], letter["result"]) for letter in result["messages"]] == [(sent["good"], "moved")]
    assert result["others"] == {"malformed": 1, "conflict": 1, "duplicate": 1}
    stack.wait_for_status(f"{prefix}-good", "DONE")
    assert stack.dead_letters().keys() == set(sent.values()) - {sent["good"]}

    code, result = stack.notifyctl("dlq", "redrive", "--reason", "malformed")
    assert code == 0 and (result["moved"], result["possible"]) == (0, 1), "one that is not named is only listed"
    code, result = stack.notifyctl("dlq", "redrive", "--reason", "malformed", "--yes")
    assert code == 0 and result["moved"] == 1
    assert "ingest refuses malformed messages and conflicts again" in result["warning"]
    # It is a new message, and refused again.
    is_back = lambda: any(f"{prefix}-malformed" in body for body in stack.dead_letters().values())  # noqa: E731
    stack.wait_for("the malformed message is back", is_back)


def test_a_redrive_says_that_another_reader_has_messages(stack, prefix, event, empty):
    messages = [dead_letter(stack, event(f"{prefix}-{number}")) for number in range(3)]
    queue = {"QueueUrl": stack.outputs["DeadLetterQueueUrl"]}
    received = stack.sqs.receive_message(**queue, MaxNumberOfMessages=2, VisibilityTimeout=300)["Messages"]
    hidden = {message["MessageId"] for message in received}
    code, result = stack.notifyctl("dlq", "redrive", "--yes")
    assert code == 1 and result["moved"] == 3 - len(hidden)
    assert (result["read"], result["counted"], result["complete"]) == (3 - len(hidden), 3, False)
    code, result = stack.notifyctl("dlq", "redrive", *messages, "--yes")
    assert code == 1 and set(result["missing"]) == set(messages) and not result["complete"]
    for message in received:
        stack.sqs.change_message_visibility(**queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    code, result = stack.notifyctl("dlq", "redrive", "--yes")
    assert code == 0 and result["moved"] == len(hidden) and result["complete"]


def test_a_redrive_that_stops_at_its_maximum_says_so(stack, prefix, event, empty):
    for number in range(5):
        dead_letter(stack, event(f"{prefix}-{number}"))
    code, result = stack.notifyctl("dlq", "redrive", "--yes", "--max", 2)
    assert code == 1 and (result["moved"], result["stopped_at_max"], result["complete"]) == (2, True, False)
    code, result = stack.notifyctl("dlq", "redrive", "--yes", "--max", 3)
    assert code == 0 and (result["moved"], result["stopped_at_max"], result["complete"]) == (3, False, True)


def test_a_message_without_room_for_another_attribute_is_refused(stack, prefix, event, empty):
    full = dead_letter(stack, event(f"{prefix}-full"), **{f"a{number}": number for number in range(10)})
    code, result = stack.notifyctl("dlq", "redrive", full)
    assert code == 1 and result["moved"] == 0
    assert "has 10 message attributes" in result["messages"][0]["why"]
    nine = {f"a{number}": number for number in range(9)}
    again = dead_letter(stack, event(f"{prefix}-again"), first_sent_at=int(time.time() * 1000), **nine)
    assert stack.notifyctl("dlq", "redrive", again)[0] == 0
    stack.wait_for_status(f"{prefix}-again", "DONE")


def test_a_redrive_keeps_to_its_rate(stack, prefix, event, empty):
    for number in range(20):
        dead_letter(stack, event(f"{prefix}-{number}"))
    started = time.monotonic()
    code, result = stack.notifyctl("dlq", "redrive", "--yes", "--rate", 5)
    assert code == 0 and result["moved"] == 20
    # The first is due at once, the last after 3.8 seconds.
    assert time.monotonic() - started >= 3.8
    for number in range(20):
        stack.wait_for_status(f"{prefix}-{number}", "DONE")


def test_a_discard_deletes_what_it_has_copied_to_a_file(stack, prefix, event, empty, tmp_path):
    sent = of_every_kind(stack, prefix, event)
    copy = tmp_path / "copy.jsonl"
    extra = dead_letter(stack, event(f"{prefix}-done"), first_sent_at=1)
    discard = ["dlq", "discard", "--reason", "duplicate", "--copy", copy]
    code, result = stack.notifyctl(*discard)
    assert code == 0 and (result["discarded"], result["possible"]) == (0, 2)
    assert not copy.exists(), "nothing is copied if nothing is deleted"
    code, result = stack.notifyctl(*discard, "--yes")
    assert code == 0 and result["discarded"] == 2
    lines = [json.loads(line) for line in copy.read_text().splitlines()]
    assert {line["message_id"] for line in lines} == {sent["duplicate"], extra}
    assert {line["body"] for line in lines} == {event(f"{prefix}-done")}
    (attributes,) = [line["attributes"] for line in lines if line["message_id"] == extra]
    assert attributes == {"first_sent_at": {"type": "Number", "value": "1"}}
    assert stack.dead_letters().keys() == {sent["malformed"], sent["conflict"], sent["good"]}


def test_a_discard_without_a_copy_or_without_a_choice_is_refused(stack, tmp_path):
    code, error = stack.notifyctl("dlq", "discard", "--reason", "duplicate", "--yes")
    assert code == 2 and "--copy <FILE>" in error
    code, error = stack.notifyctl("dlq", "discard", "--copy", tmp_path / "copy.jsonl", "--yes")
    assert code == 2 and "--reason" in error


def test_a_discard_that_cannot_write_its_copy_deletes_nothing(stack, prefix, event, empty, tmp_path):
    message = dead_letter(stack, event(prefix))
    code, result = stack.notifyctl("dlq", "discard", message, "--copy", tmp_path / "no-such-folder" / "copy.jsonl")
    assert code == 2 and "no-such-folder" in result["error"] and "were not deleted" in result["error"]
    assert (result["discarded"], result["complete"]) == (0, False)
    assert stack.dead_letters().keys() == {message}, "it is visible again"


def test_a_thousand_dead_letters_of_every_kind_are_grouped_and_repaired(stack, prefix, event, empty, tmp_path):
    stack.send(event(f"{prefix}-done"))
    stack.wait_for_status(f"{prefix}-done", "DONE")
    for number in range(MANY):
        dead_letter(stack, event(f"{prefix}-{number}"))
        dead_letter(stack, event(f"{prefix}-done"))
        dead_letter(stack, event(f"{prefix}-done").replace("19.99", f"{number}.50"))
        dead_letter(stack, event(f"{prefix}-{number}").replace("urn:example:orders", ""))
    # A message of an earlier test may have come back in the meantime.
    mine = lambda letters: [letter for letter in letters if (letter["id"] or "").startswith(prefix)]  # noqa: E731
    code, listed = stack.notifyctl("dlq", "list", "--limit", 2_000)
    counts = collections.Counter(letter["reason"] for letter in mine(listed["messages"]))
    assert code == 0 and counts == dict.fromkeys(["malformed", "conflict", "duplicate", "good"], MANY)
    assert sum(group["messages"] for group in listed["groups"].values()) == len(listed["messages"])

    code, result = stack.notifyctl("dlq", "redrive", "--yes", "--rate", 1_000)
    assert code == 0 and len(mine(result["messages"])) == result["moved"] == MANY
    stack.wait_for("every redriven notification is DONE", lambda: stack.status(f"{prefix}-{MANY - 1}") == "DONE")

    copy = tmp_path / "copy.jsonl"
    reasons = ["--reason", "malformed", "--reason", "conflict", "--reason", "duplicate"]
    code, result = stack.notifyctl("dlq", "discard", *reasons, "--copy", copy, "--yes")
    copied = [json.loads(line) for line in copy.read_text().splitlines()]
    assert code == 0 and result["discarded"] == len(copied)
    counts = collections.Counter(letter["reason"] for letter in mine(copied))
    assert counts == dict.fromkeys(["malformed", "conflict", "duplicate"], MANY)
    assert stack.dead_letters() == {}
