"""Starts MiniStack, completed where it differs from AWS in something that this service needs.

Run by MiniStack's own Python. `tests/test_local_aws.py` fails as soon as a newer MiniStack needs one of these no longer.
"""

import copy
import json
import sys

from ministack.app import main
from ministack.core import iam_actions
from ministack.services import dynamodb


def complete():
    """Replaces MiniStack's functions by completed ones."""
    dynamodb._partiql_insert = with_stream_record(dynamodb._partiql_insert, insert_key, "INSERT")
    dynamodb._partiql_update = with_stream_record(dynamodb._partiql_update, where_key, "MODIFY")
    dynamodb._partiql_delete = with_stream_record(dynamodb._partiql_delete, where_key, "REMOVE")
    iam_actions.dynamodb_transaction_checks = with_partiql(iam_actions.dynamodb_transaction_checks)


# ---- change data capture: MiniStack writes no stream records for PartiQL ---------------------------------------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html


def with_stream_record(statement, key, change):
    """A PartiQL statement that, where it succeeds, leaves a record in the table's stream."""

    def execute(table, parsed, *rest):
        partition, sort = key(table, parsed)
        before = item(table, partition, sort)
        answer = statement(table, parsed, *rest)
        after = item(table, partition, sort)
        if answer[0] == 200 and (before or after):
            dynamodb._emit_stream_event(table["TableName"], change, before, after)
        return answer

    return execute


def insert_key(table, parsed):
    values = parsed.get("item", {})
    values = values["M"] if set(values) == {"M"} else values
    sort = dynamodb._extract_key_val(values.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
    return dynamodb._extract_key_val(values.get(table["pk_name"])), sort


def where_key(table, parsed):
    return dynamodb._partiql_key_target(table, parsed)[:2]


def item(table, partition, sort):
    return copy.deepcopy(table["items"].get(partition, {}).get(sort))


# ---- permissions: IAM knows PartiQL by the kind of each statement, and MiniStack by the name of the call -------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html

ACTIONS = {"INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate", "DELETE": "PartiQLDelete", "SELECT": "PartiQLSelect"}


def with_partiql(transaction_checks):
    """The (action, table) pairs that a call is checked for, those of PartiQL statements included."""

    def checks(iam_action, body, region, account_id):
        if iam_action not in ("dynamodb:ExecuteStatement", "dynamodb:BatchExecuteStatement"):
            return transaction_checks(iam_action, body, region, account_id)
        request = json.loads(body)
        found = []
        for statement in request.get("Statements", [request]):
            parsed = dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters") or [])
            table = iam_actions._dynamodb_table_arn(parsed["table"], region, account_id)
            found.append((f"dynamodb:{ACTIONS[parsed['op']]}", table))
        return found

    return checks


if __name__ == "__main__":
    complete()
    sys.exit(main())
