"""Functions that die in the middle of their work lose nothing and double nothing."""

import functools
import time

COUNT = 600


def test_killing_every_function_again_and_again_loses_nothing_and_doubles_nothing(stack, prefix, tmp_path):
    sent = tmp_path / "sent.jsonl"
    code, result = stack.notifyctl("send", "--count", COUNT, "--duplicates", 10, "--prefix", prefix, "--save", sent)
    assert (code, result["sent"], result["distinct"]) == (0, COUNT * 11 // 10, COUNT)

    killed = dict.fromkeys(["ingest", "publisher", "downstream"], 0)
    end = time.monotonic() + 30
    while time.monotonic() < end and min(killed.values()) < 4:
        for binary in killed:
            killed[binary] += stack.stack.kill(binary)
        time.sleep(0.1)
    assert min(killed.values()) >= 1, f"each function must be killed: {killed}"

    stack.wait_for_status(f"{prefix}-{COUNT:06}", "DONE")

    audit = functools.partial(audit_without_problems, stack, sent)
    result = stack.wait_for("the audit finds nothing lost and nothing doubled", audit)
    assert result["done_once"] == COUNT
    assert result["duplicates_suppressed"] == COUNT // 10
    assert result["problems"] == [] and result["dead_lettered"] == {}


def audit_without_problems(stack, sent):
    code, result = stack.notifyctl("audit", sent)
    return result if code == 0 else None
