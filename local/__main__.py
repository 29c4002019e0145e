"""`python -m local build | demo | up | down | env | measure`: see the Makefile."""

import argparse
import json
import shlex
import shutil
import signal
import sys

from local import demo, measure, screen
from local.stack import STATE, Stack, aws_environment, build, group_is_alive, stop_group

RUNNING = STATE / "stack.json"


def up():
    """Leaves the local stack running."""
    if running():
        screen.say("the local stack runs already; `make down` stops it")
        return 0
    build()
    stack = Stack.start("up")
    outputs = stack.outputs()
    state = {
        "pid": stack.process.pid,
        "workdir": stack.workdir,
        "endpoint": stack.endpoint,
        # As the functions have them, to run one of them by hand.
        "variables": {"TABLE_NAME": outputs["TableName"], "STREAM_NAME": outputs["StreamName"], "TABLE_WRITES": "single"},
    }
    RUNNING.write_text(json.dumps(state))
    screen.say(f"""
The local stack runs at {stack.endpoint}. Try:
  eval "$(make -s env)"
  notifyctl send --count 100
  notifyctl watch
`make down` stops it.""")
    return 0


def down():
    """Stops what `up` started."""
    state = running()
    if not state:
        screen.say("the local stack does not run")
        return 0
    with screen.step("stop the local stack"):
        stop_group(state["pid"])
        shutil.rmtree(state["workdir"], ignore_errors=True)
        RUNNING.unlink()
    return 0


def env():
    """Prints the environment of the running stack, for a shell."""
    state = running()
    if not state:
        screen.fail("the local stack does not run; `make up` starts it")
    wanted = ("PATH", "NOTIFY_STACK")
    ours = {n: v for n, v in aws_environment(state["endpoint"]).items() if n.startswith("AWS_") or n in wanted}
    for name, value in {**ours, **state["variables"]}.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def running():
    """What `up` noted, if it is alive."""
    if RUNNING.exists():
        state = json.loads(RUNNING.read_text())
        if group_is_alive(state["pid"]):
            return state
        RUNNING.unlink()
    return None


COMMANDS = {"build": build, "demo": demo.main, "up": up, "down": down, "env": env, "measure": measure.main}


def main():
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    # A polite end is the same as Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return COMMANDS[command]()
    except KeyboardInterrupt:
        screen.say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
