"""Runs the contract suite of `crates/aws` on each available database engine; see the Makefile.

These are MiniStack and, if it and Java are installed, DynamoDB Local. With ENGINE=aws, it runs on AWS only.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

from local import screen
from local.stack import ROOT, START_TIMEOUT, STATE, Stack, aws_environment, stop_group

#: Where `make dynamodb-local` installs AWS's own engine.
DYNAMODB_LOCAL = STATE / "dynamodb-local"
LOGS = STATE / "contract"


def main():
    engine = os.environ.get("ENGINE", "")
    if engine not in ("", "aws"):
        screen.fail(f"ENGINE is {engine!r}; set it to aws, or leave it unset to run on the local engines")
    if engine:
        return aws()
    suite = build()
    failed = ministack(suite)
    obstacle = obstacle_to_dynamodb_local()
    if obstacle:
        screen.title(f"contract suite on DynamoDB Local: SKIPPED, {obstacle}")
    else:
        failed |= dynamodb_local(suite)
    return failed


def build():
    """Compiles the suite and returns its binary."""
    command = ["cargo", "test", "--workspace", "--locked", "--test", "contract", "--no-run"]
    built = subprocess.run([*command, "--message-format", "json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE)
    if built.returncode != 0:
        screen.fail("the contract suite does not compile; see cargo's errors above")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    artifacts = [message for message in messages if message["reason"] == "compiler-artifact"]
    (binary,) = [found["executable"] for found in artifacts if found["target"]["name"] == "contract"]
    return binary


def run(engine, suite, environment, *arguments):
    """Runs the suite on one engine, and returns its exit status.

    All names there begin with CONTRACT_PREFIX. Without it, the suite runs on the model of AWS.
    """
    screen.title(f"contract suite on {engine}")
    only = [os.environ["TEST"]] if os.environ.get("TEST") else []
    environment = {"CONTRACT_PREFIX": "contract-", **environment}
    return subprocess.run([suite, *only, *arguments], env=environment).returncode


# ---- MiniStack ------------------------------------------------------------------------------------------------------


def ministack(suite):
    stack = Stack.empty("contract")
    try:
        return run("MiniStack", suite, stack.environment)
    finally:
        stack.stop()


# ---- DynamoDB Local -------------------------------------------------------------------------------------------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/DynamoDBLocal.html

JAVA = ["java", "-Djava.library.path=DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar", "-inMemory", "-disableTelemetry"]

# It listens on every interface. So it runs in its own namespaces, which have only the loopback interface, and which end
# together with all processes in them. Users other than root need a user namespace as well.
NAMESPACES = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--pid", "--kill-child"]
LOOPBACK_UP = ["ip", "link", "set", "lo", "up"]


def obstacle_to_dynamodb_local():
    """Why DynamoDB Local cannot run here; None if it can."""
    if not shutil.which("java"):
        return "Java is not installed (Debian: default-jre-headless)"
    if not DYNAMODB_LOCAL.exists():
        return "it is not installed; `make dynamodb-local` installs it (50 MB)"
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*NAMESPACES, *LOOPBACK_UP], stderr=subprocess.DEVNULL).returncode == 0:
            return None
    return "it needs its own network namespace (install util-linux and iproute2; be root or allow user namespaces)"


def dynamodb_local(suite):
    environment = {**aws_environment("http://127.0.0.1:8000"), "TEST": os.environ.get("TEST", "")}
    command = [*NAMESPACES, sys.executable, "-m", "local.contract", suite]
    return subprocess.run(command, env=environment, cwd=ROOT).returncode


def within_namespaces(suite):
    """Starts DynamoDB Local and runs the suite on it."""
    subprocess.run(LOOPBACK_UP, check=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / "dynamodb-local.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            JAVA, cwd=DYNAMODB_LOCAL, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    try:
        with screen.step("start DynamoDB Local"):
            wait_until_it_answers(process, path)
        # It has no Kinesis.
        return run("DynamoDB Local", suite, dict(os.environ), "--skip", "kinesis_")
    finally:
        stop_group(process.pid)
        process.wait()


def wait_until_it_answers(process, log):
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"], timeout=2)
        except urllib.error.HTTPError:
            return  # it asks for credentials
        except OSError:
            time.sleep(0.1)
    screen.fail(f"DynamoDB Local does not answer; its output is in {log.relative_to(ROOT)}")


# ---- AWS ------------------------------------------------------------------------------------------------------------


def aws():
    """Runs the suite on AWS, only in the account that is named. Everything it creates is deleted afterwards."""
    wanted = os.environ.get("CONTRACT_AWS_ACCOUNT")
    if not wanted:
        screen.fail(
            "ENGINE=aws creates about eighty small tables and a Kinesis stream in your AWS account, and deletes them"
            " afterwards; name the account: CONTRACT_AWS_ACCOUNT=123456789012"
        )
    import boto3

    session = boto3.Session()
    account = session.client("sts").get_caller_identity()["Account"]
    if account != wanted:
        screen.fail(f"your credentials belong to the account {account}, but CONTRACT_AWS_ACCOUNT is {wanted}")
    keys = session.get_credentials().get_frozen_credentials()
    prefix = f"contract-{secrets.token_hex(4)}-"
    environment = {
        **os.environ,
        "AWS_REGION": session.region_name,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "CONTRACT_PREFIX": prefix,
    }
    if keys.token:
        environment["AWS_SESSION_TOKEN"] = keys.token
    suite = build()
    try:
        # Most of the time is spent waiting for tables.
        return run(f"AWS, account {account}, {session.region_name}", suite, environment, "--test-threads", "10")
    finally:
        with screen.step("delete what the suite has created"):
            delete(session, prefix)


def delete(session, prefix):
    """Deletes all streams and tables with this prefix: streams first, because they cost money by the hour."""
    dynamodb, kinesis = session.client("dynamodb"), session.client("kinesis")
    for page in kinesis.get_paginator("list_streams").paginate():
        for name in page["StreamNames"]:
            if name.startswith(prefix):
                delete_one(name, kinesis.delete_stream, StreamName=name)
    for page in dynamodb.get_paginator("list_tables").paginate():
        for name in page["TableNames"]:
            if name.startswith(prefix):
                delete_one(name, dynamodb.delete_table, TableName=name)


def delete_one(name, call, **arguments):
    """Deletes one resource, once its creation is complete. Reports it if that is not possible."""
    import botocore.exceptions

    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return call(**arguments)
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ResourceInUseException" or time.monotonic() > deadline:
                return screen.say(f"  {name} could not be deleted; delete it by hand: {error}")
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(within_namespaces(*sys.argv[1:]))
