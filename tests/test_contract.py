"""`make contract` uses AWS only in the account that is named, and leaves nothing there.

These tests do not run the contract suite itself; `make contract` does.
"""

import subprocess
import sys

from conftest import ROOT
from local import contract
from local.stack import aws_environment


def contract_on_aws(endpoint, **variables):
    """Runs `ENGINE=aws make contract` with an endpoint in place of AWS."""
    environment = {**aws_environment(endpoint), "ENGINE": "aws", **variables}
    return subprocess.run(
        [sys.executable, "-m", "local", "contract"], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_aws_is_not_used_unless_the_account_is_named():
    refused = contract_on_aws("http://127.0.0.1:9")
    assert refused.returncode == 2
    assert "CONTRACT_AWS_ACCOUNT=" in refused.stderr


def test_no_account_is_used_but_the_one_that_is_named(stack):
    refused = contract_on_aws(stack.stack.endpoint, CONTRACT_AWS_ACCOUNT="123456789012")
    assert refused.returncode == 2
    assert "your credentials belong to the account 000000000000" in refused.stderr


def test_everything_that_the_suite_created_is_deleted_and_nothing_else(stack, prefix):
    dynamodb, kinesis = stack.dynamodb, stack.kinesis
    ours, other = f"{prefix}-a", f"other-{prefix}"
    for name in (ours, other):
        dynamodb.create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )
        kinesis.create_stream(StreamName=name, ShardCount=1)
    contract.delete(stack.stack, f"{prefix}-")
    tables = {name for page in dynamodb.get_paginator("list_tables").paginate() for name in page["TableNames"]}
    streams = {name for page in kinesis.get_paginator("list_streams").paginate() for name in page["StreamNames"]}
    for left in (tables, streams):
        assert ours not in left and other in left
    dynamodb.delete_table(TableName=other)
    kinesis.delete_stream(StreamName=other)
