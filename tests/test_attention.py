"""What needs attention: found by its reason, and repaired in bulk, at a rate, with an interruption."""

import collections
import json
import signal
import subprocess
import time

import pytest

from local.stack import NOTIFYCTL

TIME = "2026-01-01T00:00:{:02}.000Z"


def test_groups_and_list_show_what_needs_attention_by_its_reason(stack, prefix, event):
    for number in range(5):
        stack.put_unresolved(f"{prefix}-{number}", event(f"{prefix}-{number}"), prefix, TIME.format(number))
    stack.put_unresolved(
        f"{prefix}-doubt", event(f"{prefix}-doubt"), prefix, TIME.format(9), "IN_DOUBT", "claim_expired"
    )

    code, answer = stack.notifyctl("groups")
    assert code == 0 and answer["read_units"] > 0
    groups = {group["group"]: group for group in answer["groups"]}
    rejected = groups[f"FAILED/rejected/{prefix}"]
    assert (rejected["count"], rejected["stage"], rejected["example"]) == (5, "downstream", f"{prefix}-0")
    assert (rejected["first_seen"], rejected["last_seen"]) == (TIME.format(0), TIME.format(4))
    assert groups[f"IN_DOUBT/claim_expired/{prefix}"]["count"] == 1

    listed, after = [], []
    while after is not None:
        code, page = stack.notifyctl("list", "--type", prefix, "--limit", 4, *after)
        assert code == 0 and len(page["notifications"]) <= 4
        listed += [entry["id"] for entry in page["notifications"]]
        after = page["next"] and ["--after", page["next"]]
    assert listed == [f"{prefix}-{number}" for number in range(5)] + [f"{prefix}-doubt"]
    run = stack.stack.notifyctl("list", "--group", f"FAILED/rejected/{prefix}", "--ids", capture_output=True)
    assert run.stdout.split() == listed[:5]
    _, page = stack.notifyctl("list", "--type", prefix, "--reason-code", "claim_expired")
    assert [entry["id"] for entry in page["notifications"]] == listed[5:]

    run = stack.stack.notifyctl("resolve", "--done", "--group", f"IN_DOUBT/claim_expired/{prefix}", capture_output=True)
    assert run.returncode == 0 and "1 notification would be changed" in run.stdout
    assert stack.status(f"{prefix}-doubt") == "IN_DOUBT", "it was only counted"


def test_summary_and_watch_count_what_is_not_done_without_the_whole_table(stack, prefix, event):
    stack.put_unresolved(prefix, event(prefix), prefix, TIME.format(0))
    code, summary = stack.notifyctl("summary")
    assert code == 0 and summary["notifications"]["FAILED"] >= 1
    assert set(summary["notifications"]) == {"PENDING", "FAILED", "IN_DOUBT"} and summary["read_units"] < 100


def test_status_tells_what_happened_in_order(stack, prefix, event):
    stack.put_unresolved(prefix, event(prefix), prefix, TIME.format(0))
    assert stack.notifyctl("redrive", prefix)[0] == 0
    stack.wait_for_status(prefix, "DONE")
    _, shown = stack.notifyctl("status", prefix)
    told = [happened["what"].split(":")[0] for happened in shown["timeline"] if happened["from"] == "table"]
    assert told == ["received", "FAILED", "put back", "DONE"]
    assert "reason_code" not in shown, "the reason is that of an earlier run"


def decided(plan):
    """The ids in the results of a plan, with how often each is there."""
    lines = (json.loads(line) for line in plan.read_text().splitlines())
    return collections.Counter(line["decided"]["id"] for line in lines if "decided" in line)


def test_an_interrupted_redrive_of_a_group_of_1000_is_resumed_and_changes_each_once(stack, prefix, event, tmp_path):
    ids = [f"{prefix}-{number:04}" for number in range(1000)]
    for notification_id in ids:
        stack.put_unresolved(notification_id, event(notification_id), prefix, TIME.format(0))
    group, plan = f"FAILED/rejected/{prefix}", tmp_path / "plan.jsonl"
    redrive = [NOTIFYCTL, "--json", "redrive", "--yes", "--wait", "--rate", "200"]
    first = subprocess.Popen(
        [*redrive, "--group", group, "--plan", plan], env=stack.stack.environment, stdout=subprocess.PIPE
    )
    stack.wait_for("some are redriven", lambda: plan.exists() and len(decided(plan)) > 60)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    before = decided(plan)
    assert 60 < len(before) < 1000, "it was interrupted in between"
    time.sleep(1)
    assert decided(plan) == before, "nothing goes on afterwards"

    run = subprocess.run(
        [*redrive, "--resume", plan], env=stack.stack.environment, capture_output=True, text=True, timeout=300
    )
    answer = json.loads(run.stdout)
    assert answer["stopped"] is None
    assert answer["became"] == {"done": len(answer["notifications"]), "failed_again": 0, "pending": 0, "failing": 0}
    # One that was changed when the first command ended may be without its result: the second one finds it changed.
    assert answer["decided"]["errors"] == 0 and run.returncode == (1 if answer["decided"]["not_as_expected"] else 0)
    assert decided(plan) == collections.Counter(ids)
    for notification_id in ids:
        stack.wait_for_status(notification_id, "DONE")
        assert stack.entry(notification_id) is not None
    _, page = stack.notifyctl("list", "--group", group)
    assert page["notifications"] == []


def test_a_redrive_stops_when_most_fail_again(stack, prefix, event, tmp_path):
    for number in range(300):
        body = event(f"{prefix}-{number}").replace("19.99", "none")
        stack.put_unresolved(f"{prefix}-{number}", body, prefix, TIME.format(0))
    plan = tmp_path / "plan.jsonl"
    command = ["redrive", "--group", f"FAILED/rejected/{prefix}", "--yes", "--rate", 20, "--plan", plan]
    run = stack.stack.notifyctl("--json", *command, capture_output=True)
    answer = json.loads(run.stdout)
    assert run.returncode == 1 and answer["stopped"]["fail_again"]["failed"] >= 20
    assert "fail again; fix the cause" in run.stderr
    assert len(decided(plan)) < 300, "the rest was left alone"


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["redrive", "--group", "FAILED/rejected"], "STATUS/REASON_CODE/TYPE"),
        (["redrive", "--group", "IN_DOUBT/outcome_unknown/t"], "this changes only what is FAILED"),
        (["resolve", "--done", "--group", "PENDING/-/t"], "this changes only what is IN_DOUBT"),
        (["list", "--reason-code", "refused"], "receiver_unavailable"),
        (["groups", "--pending-for", "soon"], "a duration is a number and a unit"),
        (["list", "--after", "x"], "TIME,ID"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_what_is_right(stack, arguments, problem):
    code, error = stack.notifyctl(*arguments)
    assert code == 2 and problem in error
