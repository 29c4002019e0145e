"""`notifyctl pause`, `resume`, `doctor` and `cost`."""

import json
import subprocess
import time

import pytest

from local.stack import NAME, NOTIFYCTL

#: What the tests' stack has not: MiniStack drops these settings, `esm-local` polls the streams in place of Lambda,
#: nobody is to be notified, and a SweepAge of a minute makes the tests fast.
LOCAL_FINDINGS = {
    "DONE notifications expire by expires_at",
    "the table has point-in-time recovery",
    "publisher's mapping is enabled",
    "downstream's mapping is enabled",
    "a run of the sweep that fails is not repeated",
    "Lambda gives up on publisher's records before the sweep publishes them again",
    "Lambda gives up on downstream's records before the sweep publishes them again",
    "every alarm notifies somebody",
}

#: What these find depends on what other tests have done to the stack.
OF_OTHER_TESTS = {"no alarm is raised", "every alarm has data"}


def test_a_pause_shows_what_it_means_and_changes_nothing_without_yes(stack):
    day = 86_400
    for stage, kept, record_age in (("ingest", 7 * day, None), ("publisher", day, 2_400), ("downstream", day, 2_400)):
        code, shown = stack.notifyctl("pause", stage)
        assert code == 0 and (shown["stage"], shown["changed"], shown["kept_for_seconds"]) == (stage, False, kept)
        assert shown["maximum_record_age_seconds"] == record_age
        assert shown["sweep_age_seconds"] == 60, "the setting of this stack"
    assert stack.notifyctl("pause", "ingest")[1]["state"] == "Enabled"


def test_a_paused_ingest_takes_no_message_until_it_is_resumed(stack, prefix, event):
    code, paused = stack.notifyctl("pause", "ingest", "--yes")
    try:
        assert code == 0 and (paused["state"], paused["changed"]) == ("Disabled", True)
        time.sleep(2)  # a poll that had begun ends
        stack.send(event(prefix))
        time.sleep(3)
        assert stack.item(prefix) is None
        code, found = stack.notifyctl("doctor")
        assert code == 1
        assert [f["fix"] for f in found["findings"] if f["check"] == "ingest's mapping is enabled"] == [
            f"notifyctl resume ingest --stack {NAME}"
        ]
    finally:
        code, resumed = stack.notifyctl("resume", "ingest")
    assert code == 0 and resumed["state"] == "Enabled"
    stack.wait_for_status(prefix, "DONE")


def findings(stack):
    code, result = stack.notifyctl("doctor")
    assert code == 1 and result["not_checked"] == [], result
    found = {finding["check"]: finding for finding in result["findings"]}
    return {check: finding for check, finding in found.items() if check not in OF_OTHER_TESTS}


def test_the_doctor_finds_nothing_that_the_local_stack_has_as_the_template_says(stack):
    found = findings(stack)
    assert found.keys() == LOCAL_FINDINGS
    assert all(finding["is"] and finding["why"] and finding["fix"] for finding in found.values())


def test_the_doctor_finds_what_was_changed(stack):
    sqs, events, iam = stack.sqs, stack.stack.client("events"), stack.stack.client("iam")
    rule = stack.sweep_rule()
    publisher = stack.stack.client("lambda").get_function_configuration(FunctionName=stack.outputs["PublisherFunction"])
    role = publisher["Role"].rsplit("/")[-1]
    policy = iam.get_role_policy(RoleName=role, PolicyName="publisher")["PolicyDocument"]
    narrow = {**policy, "Statement": [s for s in policy["Statement"] if s["Sid"] != "ReportDiscardedRecords"]}
    queue = {"QueueUrl": stack.outputs["PublisherFailuresUrl"]}
    try:
        sqs.set_queue_attributes(**queue, Attributes={"MessageRetentionPeriod": "345600"})
        events.disable_rule(Name=rule)
        iam.put_role_policy(RoleName=role, PolicyName="publisher", PolicyDocument=json.dumps(narrow))
        found = findings(stack)
    finally:
        sqs.set_queue_attributes(**queue, Attributes={"MessageRetentionPeriod": "1209600"})
        events.enable_rule(Name=rule)
        iam.put_role_policy(RoleName=role, PolicyName="publisher", PolicyDocument=json.dumps(policy))
    changed = {name: finding["is"] for name, finding in found.items() if name not in LOCAL_FINDINGS}
    assert changed.keys() == {
        "publisher's failure queue keeps messages for 14 days",
        "the sweep runs every five minutes or more often",
        "publisher's role allows what it needs",
    }
    assert "sqs:SendMessage on arn:aws:sqs:" in changed["publisher's role allows what it needs"]
    assert findings(stack).keys() == LOCAL_FINDINGS


def test_the_doctor_says_what_it_may_not_read(stack):
    """With the permissions of a function's role, which may read almost nothing."""
    outputs = stack.outputs
    environment = {**stack.stack.environment, **stack.stack.session(outputs["IngestFunction"])}
    run = subprocess.run([NOTIFYCTL, "doctor"], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, "it may not even read the outputs of the stack"
    assert "DescribeStacks" in run.stderr


def cost(*arguments):
    """Runs `notifyctl cost` without any settings of AWS."""
    run = subprocess.run([NOTIFYCTL, "--json", "cost", *map(str, arguments)], env={}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_cost_is_calculated_without_an_account_and_grows_with_rate_size_and_action():
    usual = cost("--rate", 100, "--size", 700)
    assert usual["usd"] == pytest.approx(sum(item["usd"] for item in usual["items"]))
    assert usual["notifications"] == 100 * 3_600 * 730
    for more in (["--rate", 200, "--size", 700], ["--rate", 100, "--size", 3_000],
                 ["--rate", 100, "--size", 700, "--action", "ledger"], ["--rate", 100, "--size", 700, "--batch", 10]):
        assert cost(*more)["usd"] > usual["usd"]
    assert 0 < cost("--rate", 0)["usd"] < 20
