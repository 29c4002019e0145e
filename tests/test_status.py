"""`notifyctl status`: the timeline of a notification, from the table, the functions' logs and the dead letters."""

import json
import subprocess

import pytest

from local import batches
from local.stack import NOTIFYCTL


def told(shown):
    """What happened, in order: the source, and the beginning of what it says."""
    return [(happened["from"], happened["what"].split(":")[0].split(";")[0]) for happened in shown["timeline"]]


def test_a_failure_is_told_by_the_log_also_after_the_redrive_that_settled_it(stack, prefix, event):
    """The table has each redrive, and the last failure only."""
    stack.send(event(prefix).replace("19.99", "none"))
    stack.wait_for_status(prefix, "FAILED")
    first = stack.item(prefix)["failed_at"]
    assert stack.notifyctl("redrive", prefix)[0] == 0
    stack.wait_for("it failed again", lambda: stack.item(prefix).get("failed_at") not in (None, first))
    stack.wait_for_status(prefix, "FAILED")
    # No command changes an event, so the test does.
    stack.update(prefix, event=event(prefix))
    assert stack.notifyctl("redrive", prefix)[0] == 0
    stack.wait_for_status(prefix, "DONE")

    code, shown = stack.notifyctl("status", prefix)
    assert (code, shown["status"]) == (0, "DONE")
    assert told(shown) == [
        ("table", "received"),
        ("downstream", "ERROR failed permanently"),
        ("table", "put back"),
        ("table", "FAILED"),
        ("downstream", "ERROR failed permanently"),
        ("table", "put back"),
        ("table", "DONE"),
    ]
    failures = [happened["what"] for happened in shown["timeline"] if happened["from"] == "downstream"]
    assert all(what.endswith("rejected: the amount is not a positive decimal number (rejected)") for what in failures)
    afters = [happened["after_ms"] for happened in shown["timeline"]]
    assert afters[0] is None and all(after >= 0 for after in afters[1:])
    assert "orderId" not in json.dumps(shown)

    _, shown = stack.notifyctl("status", prefix, "--no-logs")
    assert {happened["from"] for happened in shown["timeline"]} == {"table"}


@pytest.fixture(scope="module")
def refused(stack):
    """A conflict and a malformed message that became dead letters, and a notification that has a name in common."""
    name = f"t-status-{stack.stack.port}"
    stack.send(batches.event(name), batches.event(f"{name}-2"))
    stack.wait_for_status(name, "DONE")
    conflict = batches.event(name).replace("19.99", "20.00")
    malformed = batches.event(f"{name}-malformed").replace("1.0", "0.3")
    sent = stack.send(conflict, malformed)
    stack.wait_for("both are dead letters", lambda: stack.dead_letters().keys() >= set(sent))
    return name, sent


def test_a_conflict_is_told_by_ingests_log_and_as_a_dead_letter_if_these_are_asked_for(stack, refused):
    name, (conflict, _) = refused
    code, shown = stack.notifyctl("status", name)
    assert (code, shown["status"]) == (0, "DONE")
    refusals = [happened["what"] for happened in shown["timeline"] if happened["from"] == "ingest"]
    # Where the machine is slow, an invocation is repeated, or ends before it logs.
    receives = {what.rsplit("(", 1)[1] for what in refusals}
    assert receives and receives <= {f"receive {count})" for count in range(1, 7)}
    assert all("conflict" in what or "different content" in what for what in refusals), refusals
    assert any("--dead-letters looks for this id among them" in remark for remark in shown["remarks"])

    _, shown = stack.notifyctl("status", name, "--dead-letters")
    letters = [happened["what"] for happened in shown["timeline"] if happened["from"] == "dead_letter"]
    assert len(letters) == 1 and conflict in letters[0]
    assert "now a dead letter, conflict: the table has a different event with this id (DONE)" in letters[0]
    assert conflict in stack.dead_letters(), "it is visible again"
    assert "20.00" not in json.dumps(shown)


def test_a_malformed_message_is_told_although_the_table_has_no_such_notification(stack, refused):
    name, (_, malformed) = refused
    code, shown = stack.notifyctl("status", f"{name}-malformed", "--dead-letters")
    assert (code, shown["status"]) == (1, None)
    assert told(shown)[0][0] == "dead_letter" and malformed in shown["timeline"][0]["what"]
    assert set(told(shown)[1:]) == {("ingest", "ERROR not accepted")}
    run = stack.stack.notifyctl("status", f"{name}-malformed", capture_output=True)
    assert run.returncode == 1 and "is not in the table" in run.stdout and "specversion" in run.stdout


def test_a_notification_does_not_have_the_lines_of_another_whose_id_begins_with_its_own(stack, refused):
    name, _ = refused
    _, shown = stack.notifyctl("status", f"{name}-2")
    assert told(shown) == [("table", "received"), ("table", "DONE")]


def test_without_the_permission_to_read_logs_the_rest_is_told(stack, refused):
    name, _ = refused
    iam = stack.stack.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "logs:FilterLogEvents", "Resource": "*"},
    ]
    role = f"operator-{name}"
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=policy(*statements))
    session = stack.stack.client("sts").assume_role(RoleArn=arn, RoleSessionName="operator")["Credentials"]
    environment = {
        **stack.stack.environment,
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    command = [NOTIFYCTL, "status", f"{name}-2"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "DONE" in run.stdout
    (unread,) = [line for line in run.stderr.splitlines() if "could not read the logs" in line]
    assert unread.startswith("could not read the logs of ingest, publisher and downstream: FilterLogEvents"), unread
    assert "AccessDenied" in unread


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
