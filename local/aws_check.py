"""`make aws-check STACK=name`: tries the service in an AWS account, in a stack of its own that it deletes afterwards.

The environment determines the account and the region, as for the AWS CLI. With AWS_ENDPOINT_URL, it can be a local AWS.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.parse

import boto3
import botocore.exceptions

from local import demo, screen
from local.demo import COUNT, DUPLICATES_PERCENT
from local.stack import NOTIFYCTL, ROOT, STATE, TOOLS, build_notifyctl, overrides, run

LATENCY_COUNT = 200
LATENCY_RATE = 20

#: Messages sent: notifications, duplicates, a conflict, a malformed message, and those of the latency measurement.
MESSAGES = COUNT * (100 + DUPLICATES_PERCENT) // 100 + 2 + LATENCY_COUNT

#: How long the check usually takes from the deployment on, in seconds.
USUAL_SECONDS = 20 * 60

# Seconds. Generous: these only end what hangs.
DEPLOY_TIMEOUT = 1800
WATCH_TIMEOUT = 1200

FOLDER = STATE / "aws-check"
BUILD = FOLDER / "build"

#: Without --config-file, SAM looks for its configuration next to the built template.
CONFIG = ["--config-file", ROOT / "samconfig.toml", "--config-env", "check"]


def main():
    name = os.environ.get("STACK", "")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9-]{0,127}", name):
        screen.fail("STACK must name the stack to create and delete, as in: make aws-check STACK=notifications-check")
    if os.environ.get("CI") and not is_on_this_machine(os.environ.get("AWS_ENDPOINT_URL", "")):
        screen.fail("CI is set; the check costs money, so it runs on AWS only when a person starts it")
    check = Check(name)
    account = check.account()
    if check.status():
        screen.fail(f"the stack {name} exists already; the check deletes its stack, so choose another name")
    ask(account, check)
    try:
        check.deploy()
        check.use()
    finally:
        check.delete()
    return 0


def is_on_this_machine(endpoint):
    return urllib.parse.urlsplit(endpoint).hostname in ("127.0.0.1", "localhost", "::1")


def ask(account, check):
    """Continues only if a person types yes, or YES=1 is set."""
    estimate = sum(cost for *_, cost in bill(USUAL_SECONDS, alarms()))
    minutes = USUAL_SECONDS // 60
    screen.say(f"""
  account   {account}
  region    {check.region}
  stack     {check.name}: will be created, receive {MESSAGES:,} messages, and be deleted; takes about {minutes} minutes
  cost      at most ${estimate:.2f} for {minutes} minutes, at the prices of {PRICES_OF}
""")
    if os.environ.get("YES") == "1":
        return
    if not sys.stdin.isatty():
        screen.fail("there is no terminal to confirm in; use one, or set YES=1")
    if input('  Type "yes" to continue: ').strip() != "yes":
        screen.fail("nothing was done")


class Check:
    """The stack, from before it exists until after it is deleted."""

    def __init__(self, name):
        self.name = name
        self.region = os.environ.get("AWS_REGION") or boto3.Session().region_name
        if not self.region:
            screen.fail("no AWS region; set AWS_REGION")
        self.environment = {
            **os.environ,
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "NOTIFY_STACK": name,
            "SAM_CLI_TELEMETRY": "0",
        }
        # cargo and SAM use one target directory.
        self.environment.pop("CARGO_TARGET_DIR", None)
        self.cloudformation = boto3.client("cloudformation", region_name=self.region)
        self.started = None

    def account(self):
        try:
            return boto3.client("sts", region_name=self.region).get_caller_identity()["Account"]
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            screen.fail(f"AWS cannot be accessed: {error}")

    def status(self):
        """The status of the stack; None if there is none."""
        try:
            return self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]
        except botocore.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def deploy(self):
        screen.title("1. Build: notifyctl, and the functions as for AWS (this takes minutes the first time)")
        build_notifyctl()
        parameters = ["--parameter-overrides", *overrides("check")]
        command = ["sam", "build", *CONFIG, "--build-dir", BUILD, *parameters]
        run("sam build", command, self.environment, FOLDER, DEPLOY_TIMEOUT)
        screen.title(f"2. Deploy: the stack {self.name}")
        if self.status():
            screen.fail(f"somebody else has created a stack {self.name} in the meantime; it was left alone")
        self.started = time.monotonic()
        template = ["--template-file", BUILD / "template.yaml"]
        names = ["--stack-name", self.name, "--s3-prefix", self.name]
        command = ["sam", "deploy", *CONFIG, *template, *names, *parameters]
        run("sam deploy", command, self.environment, FOLDER, DEPLOY_TIMEOUT)

    def use(self):
        sent = FOLDER / "sent.jsonl"
        sent.unlink(missing_ok=True)
        screen.title(f"3. Send: {COUNT:,} notifications, {DUPLICATES_PERCENT} % twice; a conflict; a malformed message")
        self.must("send", "--count", COUNT, "--duplicates", DUPLICATES_PERCENT, "--prefix", demo.PREFIX, "--save", sent)
        demo.send_bad(self, sent)
        screen.title("4. Watch: until all is settled (a refused message is received six times: one to three minutes)")
        self.must("watch", "--expect", COUNT, "--timeout", WATCH_TIMEOUT)
        screen.title("5. Audit: what was sent, against the table, its stream and the dead-letter queue")
        demo.audit(self, sent)
        screen.title(f"6. Latency: {LATENCY_COUNT} more notifications, {LATENCY_RATE} a second")
        self.must("latency", "--count", LATENCY_COUNT, "--rate", LATENCY_RATE)

    def notifyctl(self, *arguments, **options):
        """Runs notifyctl against this stack."""
        return subprocess.run([NOTIFYCTL, *map(str, arguments)], env=self.environment, text=True, **options)

    def must(self, *arguments):
        if self.notifyctl(*arguments).returncode:
            screen.fail(f"notifyctl {arguments[0]} failed; its message is above")

    def delete(self):
        """Deletes the stack in whatever state it is, and reports what is left of it and what it cost."""
        if self.started is None:
            return
        screen.title(f"7. Delete: the stack {self.name}")
        try:
            if self.status():
                names = ["--stack-name", self.name, "--s3-prefix", self.name, "--region", self.region]
                command = ["sam", "delete", *names, "--no-prompts"]
                run("sam delete", command, self.environment, FOLDER, DEPLOY_TIMEOUT)
        finally:
            self.report_what_is_left()
            report_cost(time.monotonic() - self.started)

    def report_what_is_left(self):
        status = self.status()
        if not status:
            screen.say("  nothing of the stack is left (SAM keeps its bucket in the stack aws-sam-cli-managed-default)")
            return
        screen.say(f"  the stack {self.name} is {status}, and COSTS MONEY until it is deleted. It still has:")
        for page in self.cloudformation.get_paginator("list_stack_resources").paginate(StackName=self.name):
            for resource in page["StackResourceSummaries"]:
                if resource["ResourceStatus"] != "DELETE_COMPLETE":
                    columns = ("ResourceType", "PhysicalResourceId", "ResourceStatus", "ResourceStatusReason")
                    screen.say("    " + " ".join(resource.get(column, "") for column in columns))
        screen.say(f"  to delete it: sam delete --stack-name {self.name} --region {self.region}")


# ---- what it costs ---------------------------------------------------------------------------------------------------

#: Prices in US dollars, which `notifyctl cost` uses as well. Other regions differ. Check them on AWS's pages, which the
#: list names, before you rely on them.
PRICE_LIST = json.loads((ROOT / "crates" / "notifyctl" / "src" / "prices.json").read_text())
PRICES_OF = f"{PRICE_LIST['region']} in {PRICE_LIST['date']}"
PRICES = {price["item"]: price["usd"] / price["per"] for price in PRICE_LIST["prices"]}


def bill(seconds, alarm_count):
    """The items of the bill: name, quantity, and cost in dollars.

    Messages, alarms and hours are counted. The other quantities are upper bounds, so the true bill is lower.
    """
    hours = math.ceil(seconds / 3600)  # each begun hour counts
    invocations = 3 * MESSAGES + seconds  # as if nothing were batched, and one a second for retries and the sweep
    quantities = {
        "Kinesis shard-hours": hours,
        "Kinesis PUT payload units": MESSAGES,
        # The put: 1, and 1 for the index. DONE and the ledger entry in a transaction: 2 each, and 2 for the index.
        "DynamoDB write units": 8 * MESSAGES,
        # `notifyctl watch` reads the table every second. Ten items of up to 800 bytes are one unit.
        "DynamoDB read units": seconds * MESSAGES / 10,
        # Each message is sent, received and deleted by itself. Lambda and `notifyctl watch` poll 5 times a second each.
        "SQS requests": 3 * MESSAGES + 10 * seconds,
        "Lambda requests": invocations,
        "Lambda GB-seconds": invocations * 0.1 * 0.5,  # 100 ms at 512 MB
        "CloudWatch alarm-hours": alarm_count * hours,
        "CloudWatch metric-hours": 23 * hours,
        "CloudWatch dashboard-hours": hours,
        "CloudWatch Logs GB": invocations * 2e3 / 1e9,  # 2 kB each
    }
    return [(item, quantity, quantity * PRICES[item]) for item, quantity in quantities.items()]


def alarms():
    """The number of alarms in the template."""
    return (ROOT / "template.yaml").read_text().count("Type: AWS::CloudWatch::Alarm")


def report_cost(seconds):
    screen.title(f"8. Cost: upper bounds for {seconds / 60:.0f} minutes, at the prices of {PRICES_OF}")
    items = bill(seconds, alarms())
    for item, quantity, cost in items:
        print(f" {item:<28}{quantity:>14,.3f}   ${cost:.4f}")
    print(f" {'total':<28}{'':>14}   ${sum(cost for *_, cost in items):.4f}", flush=True)
