"""The example action: built from the same template with one line changed, and run."""

import subprocess

from local import batches
from local.batches import NOTHING_FAILED
from local.lambda_host import LambdaHost
from local.stack import ROOT, TOOLS, local_build_environment

BUILT = ROOT / ".local" / "example"


def test_your_own_action_takes_one_changed_line_in_the_template(stack, prefix):
    template = (ROOT / "template.yaml").read_text()
    assert template.count("{ Binary: downstream }") == 1
    changed = ROOT / "template.example.yaml"  # next to the other, because its paths are relative
    changed.write_text(template.replace("{ Binary: downstream }", "{ Binary: approve }"))
    try:
        subprocess.run(
            [TOOLS / "sam", "build", "Downstream", "--template", changed, "--build-dir", BUILT],
            cwd=ROOT, env=local_build_environment(), check=True, capture_output=True,
        )
    finally:
        changed.unlink()

    approved, rejected = f"{prefix}-approved", f"{prefix}-rejected"
    settle(stack, approved, limit="19.99")
    assert stack.status(approved) == "DONE"
    assert stack.item(approved)["outcome"] == {"S": '{"approved":true,"limit":"19.99"}'}
    settle(stack, rejected, limit="5")
    assert stack.status(rejected) == "FAILED"
    assert stack.item(rejected)["reason"] == {"S": "rejected: the amount is above the limit"}


def settle(stack, notification_id, limit):
    """Lets the example settle a notification that asks for 19.99, with the role of the deployed function."""
    stack.lose_stream_record(notification_id, batches.event(notification_id), seconds_ago=0)
    role = stack.stack.session(stack.outputs["DownstreamFunction"])
    variables = {"TABLE_NAME": stack.table, "REFUND_LIMIT": limit, **role}
    with LambdaHost(BUILT / "Downstream" / "bootstrap", forward=stack.stack.endpoint, **variables) as host:
        assert host.invoke(batches.kinesis(notification_id)) == NOTHING_FAILED
