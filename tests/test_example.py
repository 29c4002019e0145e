"""The example action: built by the same template with one line changed, and run."""

import os
import subprocess

from local import batches
from local.lambda_host import LambdaHost
from local.stack import ROOT, TOOLS, local_build_environment

BUILT = ROOT / ".local" / "example"


def test_an_action_of_your_own_is_one_line_in_the_template(stack, prefix):
    template = (ROOT / "template.yaml").read_text()
    assert template.count("{ Binary: downstream }") == 1
    changed = ROOT / "template.example.yaml"  # Beside the other, because paths in it are relative.
    changed.write_text(template.replace("{ Binary: downstream }", "{ Binary: approve }"))
    try:
        subprocess.run(
            [TOOLS / "sam", "build", "Downstream", "--template", changed, "--build-dir", BUILT],
            cwd=ROOT, env=local_build_environment(), check=True, capture_output=True,
        )
    finally:
        os.remove(changed)

    cheap, dear = f"{prefix}-cheap", f"{prefix}-dear"
    stack.lose_stream_record(cheap, batches.event(cheap), seconds_ago=0)
    stack.lose_stream_record(dear, batches.event(dear), seconds_ago=0)
    role = stack.stack.session(stack.outputs["DownstreamFunction"])
    variables = {"TABLE_NAME": stack.table, "REFUND_LIMIT": "19.99", **role}
    with LambdaHost(BUILT / "Downstream" / "bootstrap", forward=stack.stack.endpoint, **variables) as host:
        assert host.invoke(batches.kinesis_of(cheap)) == {"batchItemFailures": []}
    assert stack.status(cheap) == "DONE"
    assert stack.item(cheap)["outcome"] == {"S": '{"approved":true,"limit":"19.99"}'}
    with LambdaHost(BUILT / "Downstream" / "bootstrap", forward=stack.stack.endpoint, **{**variables, "REFUND_LIMIT": "5"}) as host:
        assert host.invoke(batches.kinesis_of(dear)) == {"batchItemFailures": []}
    assert stack.status(dear) == "FAILED"
    assert stack.item(dear)["reason"] == {"S": "rejected: the amount is above the limit"}
