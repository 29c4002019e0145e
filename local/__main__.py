"""`python -m local build | contract | demo | up | down | env | invoke | aws-check`: see the Makefile."""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

from local import aws_check, contract, demo, screen
from local.invoke import invoke
from local.stack import STATE, Stack, aws_environment, build, stop_group

RUNNING = STATE / "stack.json"


def up():
    """Starts the local stack and leaves it running."""
    if running():
        screen.say("the local stack is already running; `make down` stops it")
        return 0
    build()
    stack = Stack.start("up", Action="ledger")
    try:
        note(stack)
    except BaseException:
        stack.stop()
        raise
    screen.say(f"""
The local stack is running at {stack.endpoint}. In a shell of its own, try:
  eval "$(make -s env)"
  notifyctl send --count 100
  notifyctl watch --expect 100
`make down` stops it.""")
    return 0


def note(stack):
    """Writes down what is running, for `down`, `env` and `invoke`."""
    state = {
        "pid": stack.process.pid,
        "poller": stack.poller.pid,
        "workdir": stack.workdir,
        "endpoint": stack.endpoint,
    }
    RUNNING.write_text(json.dumps(state))


def down():
    """Stops what `up` started."""
    state = running()
    if not state:
        screen.say("the local stack is not running")
        return 0
    with screen.step("stop the local stack"):
        stop_poller(state)
        stop_group(state["pid"])
        shutil.rmtree(state["workdir"], ignore_errors=True)
        RUNNING.unlink()
    return 0


def env():
    """Prints the environment of the local stack, for a shell to evaluate."""
    wanted = ("PATH", "NOTIFY_STACK")
    for name, value in aws_environment(endpoint()).items():
        if name.startswith("AWS_") or name in wanted:
            print(f"export {name}={shlex.quote(value)}")
    return 0


def invoke_function():
    """Invokes FUNCTION with EVENT by means of the tool WITH, and prints its answer."""
    print(invoke(endpoint(), *map(os.environ.get, ("FUNCTION", "EVENT", "WITH"))))
    return 0


def endpoint():
    """The endpoint of the local AWS."""
    state = running()
    if not state:
        screen.fail("the local stack is not running; `make up` starts it")
    return state["endpoint"]


def running():
    """What `up` wrote down, if MiniStack is still running."""
    if RUNNING.exists():
        state = json.loads(RUNNING.read_text())
        if is_still(state["pid"], b"ministack"):
            return state
        stop_poller(state)
        RUNNING.unlink()
    return None


def stop_poller(state):
    if is_still(state["poller"], b"esm-local"):
        stop_group(state["poller"])


def is_still(pid, program):
    """Whether the process still runs the program. Its id may have been reused."""
    try:
        return program in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


COMMANDS = {
    "build": build,
    "contract": contract.main,
    "demo": demo.main,
    "up": up,
    "down": down,
    "env": env,
    "invoke": invoke_function,
    "aws-check": aws_check.main,
}


def exit_on_signal(number, _frame):
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    # SIGTERM and a closed terminal have the effect of Ctrl-C: everything that was started is stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_on_signal)
    try:
        return COMMANDS[command]()
    except KeyboardInterrupt:
        screen.say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
