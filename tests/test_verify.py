"""The monitor of the table's stream: its output, its metrics, its alarm and how it ends."""

import contextlib
import datetime
import json
import signal
import subprocess
import time

import pytest

from local.stack import NAME, NOTIFYCTL


@contextlib.contextmanager
def monitor(stack, out, *arguments):
    """Runs the monitor, with its standard output in a file."""
    command = [NOTIFYCTL, "--json", "verify", "--follow", *arguments]
    with out.open("w") as file:
        process = subprocess.Popen(command, env=stack.stack.environment, stdout=file)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def lines(out):
    """What the monitor has printed. A line that it is writing just now is left out."""
    return [json.loads(line) for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]


def problems(out, notification_id):
    return [line["problem"] for line in lines(out) if line.get("id") == notification_id]


def published(stack, metric):
    """The sum and the number of the values that the monitors of this table published; `None` if there are none."""
    now = datetime.datetime.now(datetime.UTC)
    answer = stack.stack.client("cloudwatch").get_metric_statistics(
        Namespace="AtomicNotification",
        MetricName=metric,
        Dimensions=[{"Name": "TableName", "Value": stack.table}],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now + datetime.timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum", "SampleCount"],
    )
    points = answer["Datapoints"]
    return (sum(point["Sum"] for point in points), sum(point["SampleCount"] for point in points)) if points else None


def alarm_state(stack):
    resource = stack.stack.client("cloudformation").describe_stack_resource(
        StackName=NAME, LogicalResourceId="ViolationsAlarm"
    )
    name = resource["StackResourceDetail"]["PhysicalResourceId"]
    return stack.stack.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"]


def test_a_change_that_breaks_a_rule_is_in_the_output_the_metrics_and_the_alarm(stack, prefix, event, tmp_path):
    out = tmp_path / "monitor"
    with monitor(stack, out, "--publish-metrics") as process:
        # It publishes when it has read every shard once.
        stack.wait_for("the monitor has begun", lambda: published(stack, "ChangesChecked"))
        assert process.poll() is None
        before = published(stack, "Violations")[0]
        stack.send(event(prefix), event(f"{prefix}-good"))
        for notification_id in (prefix, f"{prefix}-good"):
            stack.wait_for_status(notification_id, "DONE")
        stack.update(prefix, received_at="2026-01-01T00:00:00.000Z")
        stack.wait_for("the change is reported", lambda: problems(out, prefix))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
    assert problems(out, prefix) == ["it was changed from DONE to DONE, which is not an allowed transition"]
    assert problems(out, f"{prefix}-good") == []
    summary = lines(out)[-1]
    assert summary["violations"] >= 1 and summary["checked"] >= 5 and summary["gaps"] == 0
    # The last counts are published at the end, so they do not wait for the next minute.
    assert published(stack, "Violations")[0] == before + summary["violations"]
    assert published(stack, "ChangesChecked")[1] >= 2 and published(stack, "Gaps")[0] == 0
    assert alarm_state(stack) == "ALARM"


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_monitor_with_its_summary_and_without_metrics_it_writes_nothing(
    stack, prefix, event, tmp_path, ended_by
):
    stack.send(event(prefix))
    stack.wait_for_status(prefix, "DONE")
    before, out = published(stack, "ChangesChecked"), tmp_path / "monitor"
    with monitor(stack, out) as process:
        change = iter(range(1000))

        def change_is_reported():
            stack.update(prefix, received_at=f"2026-01-01T00:00:00.{next(change):03}Z")
            time.sleep(0.5)
            return problems(out, prefix)

        stack.wait_for("a change is reported", change_is_reported)
        process.send_signal(ended_by)
        assert process.wait(30) == 1
    assert lines(out)[-1]["violations"] >= 1
    assert published(stack, "ChangesChecked") == before
