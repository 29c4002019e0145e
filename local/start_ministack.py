"""Starts MiniStack, completed where it differs from AWS in something that this service needs.

With the environment variable IAM_CHECKS, each permission check that is made for a role is written to that file, once.
Run by MiniStack's own Python. `tests/test_local_aws.py` fails as soon as a newer MiniStack needs one of these no longer.
"""

import copy
import functools
import json
import os
import sys

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, dynamodb_streams

#: Where the permission checks of roles are written down, if at all.
CHECKS = os.environ.get("IAM_CHECKS")


def complete():
    """Replaces MiniStack's functions by completed ones."""
    dynamodb._partiql_insert = with_stream_record(dynamodb._partiql_insert, insert_key, "INSERT")
    dynamodb._partiql_update = with_stream_record(dynamodb._partiql_update, where_key, "MODIFY")
    dynamodb._partiql_delete = with_stream_record(dynamodb._partiql_delete, where_key, "REMOVE")
    iam_actions.extract_iam_action = with_batches(iam_actions.extract_iam_action)
    iam_actions.dynamodb_transaction_checks = with_partiql(iam_actions.dynamodb_transaction_checks)
    iam_actions.dynamodb_service_context = with_leading_keys(iam_actions.dynamodb_service_context)
    iam_actions.extract_resource_arn = with_table_streams(iam_actions.extract_resource_arn)
    app.pin_request_origin = as_over_tls(app.pin_request_origin)
    if CHECKS:
        iam_evaluator.enforce = with_notes(iam_evaluator.enforce, open(CHECKS, "w", buffering=1))


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


# ---- permissions: IAM knows calls with several messages by what they do with each ------------------------------------
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html


def with_batches(extract_iam_action):
    """The action of a call, e.g. `sqs:SendMessage` for SendMessageBatch."""

    def action(service, *rest):
        found = extract_iam_action(service, *rest)
        return found.removesuffix("Batch") if service == "sqs" and found else found

    return action


# ---- permissions: IAM knows PartiQL by the kind of each statement, and MiniStack by the name of the call -------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html

ACTIONS = {"INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate", "DELETE": "PartiQLDelete", "SELECT": "PartiQLSelect"}


def with_partiql(transaction_checks):
    """The (action, table) pairs that a call is checked for, those of PartiQL statements included."""

    def checks(iam_action, body, region, account_id):
        if iam_action not in ("dynamodb:ExecuteStatement", "dynamodb:BatchExecuteStatement"):
            return transaction_checks(iam_action, body, region, account_id)
        found = {}
        for parsed in statements(json.loads(body)):
            table = iam_actions._dynamodb_table_arn(parsed["table"], region, account_id)
            found[f"dynamodb:{ACTIONS[parsed['op']]}", table] = None
        return list(found)

    return checks


def statements(request):
    """The PartiQL statements of a call; none where one cannot be parsed, because DynamoDB then refuses the call."""
    try:
        return [
            dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters") or [])
            for statement in request.get("Statements", [request])
        ]
    except ValueError:
        return []


# ---- conditions: MiniStack does not tell which items a call names ----------------------------------------------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html


def with_leading_keys(service_context):
    """The condition keys of a call to DynamoDB, with the partition keys of the items that it names."""

    def context(body):
        keys = sorted({key for key in leading_keys(json.loads(body)) if key})
        return {**service_context(body), **({"dynamodb:LeadingKeys": keys} if keys else {})}

    return context


def leading_keys(request):
    """The partition keys of items that are read by their keys or written."""
    for operation in (operation for item in request.get("TransactItems", []) for operation in item.values()):
        yield from leading_keys(operation)
    for name, wanted in request.get("RequestItems", {}).items():
        for key in wanted.get("Keys", []) if isinstance(wanted, dict) else []:
            yield from leading_keys({"TableName": name, "Key": key})
    if "Statement" in request or "Statements" in request:
        for parsed in statements(request):
            table = dynamodb._tables.get(parsed["table"])
            if table:
                yield (insert_key if parsed["op"] == "INSERT" else where_key)(table, parsed)[0]
    table = dynamodb._tables.get(request.get("TableName"))
    named = request.get("Key") or request.get("Item")
    if table and named:
        yield dynamodb._extract_key_val(named.get(table["pk_name"]))


# ---- resources: MiniStack does not tell which table's stream is read -------------------------------------------------
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html


def with_table_streams(extract_resource_arn):
    """The resource of a call, the streams of tables included."""

    def resource(service, method, path, headers, body, *rest):
        if service != "dynamodbstreams":
            return extract_resource_arn(service, method, path, headers, body, *rest)
        request = json.loads(body)
        iterator = dynamodb_streams._decode_iterator(request.get("ShardIterator", "")) or {}
        return request.get("StreamArn") or iterator.get("arn") or "*"

    return resource


# ---- transport: nothing is encrypted on this machine -----------------------------------------------------------------


def as_over_tls(pin_request_origin):
    """A call from this machine passes for one over TLS, which the queues' policies demand."""
    return lambda source_ip, _: pin_request_origin(source_ip, True)


# ---- notes -----------------------------------------------------------------------------------------------------------


def with_notes(enforce, file):
    """A check that, where it is made for a role, is written down: one JSON object a line, and each once."""
    write = functools.lru_cache(maxsize=10_000)(file.write)

    def check(access_key, action, service, region, resource_arn="*", service_context=None):
        denied = enforce(access_key, action, service, region, resource_arn, service_context)
        caller = iam_evaluator.caller_arn().split("/")
        if caller[0].endswith(":assumed-role"):
            conditions = {
                name: value for name, value in (service_context or {}).items()
                if name in ("dynamodb:LeadingKeys", "dynamodb:EnclosingOperation")
            }
            note = {"role": caller[1], "action": action, "resource": resource_arn, "allowed": not denied, **conditions}
            write(json.dumps(note) + "\n")
        return denied

    return check


if __name__ == "__main__":
    complete()
    sys.exit(app.main())
