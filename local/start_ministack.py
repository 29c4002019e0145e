"""Starts MiniStack, and corrects it where it differs from AWS in something that this service needs.

It also has it fail on request, as `faults.py` says.

If the environment variable IAM_CHECKS is set, each permission check of a role is written to that file, once.
MiniStack's own Python runs this. `tests/test_local_aws.py` fails when a newer MiniStack no longer needs a correction.
"""

import contextlib
import copy
import functools
import json
import os
import re
import sys
import time
from pathlib import Path

from faults import with_faults
from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import cloudwatch, cloudwatch_logs, dynamodb, dynamodb_streams, lambda_svc, sqs

#: Where the permission checks of roles are written, if at all.
CHECKS = os.environ.get("IAM_CHECKS")


def correct():
    """Wraps MiniStack's functions in corrected ones. Each takes the original as its first argument."""
    wrap(dynamodb, "_partiql_insert", with_stream_record, insert_key, "INSERT")
    wrap(dynamodb, "_partiql_update", with_stream_record, where_key, "MODIFY")
    wrap(dynamodb, "_partiql_delete", with_stream_record, where_key, "REMOVE")
    wrap(iam_actions, "extract_iam_action", action_of_one_message)
    wrap(iam_actions, "dynamodb_transaction_checks", checks_with_partiql)
    wrap(iam_actions, "dynamodb_service_context", context_with_leading_keys)
    wrap(iam_actions, "extract_resource_arn", resource_with_table_streams)
    wrap(app, "pin_request_origin", pin_request_origin_as_over_tls)
    wrap(lambda_svc, "_esm_response", mapping_as_documented)
    wrap(dynamodb, "_table_description", table_as_documented)
    wrap(cloudwatch_logs, "_compile_filter_pattern", pattern_as_documented)
    wrap(cloudwatch_logs, "_append_log_events", with_embedded_metrics)
    wrap(cloudwatch, "_get_metric_data", with_ages_of_messages)
    wrap(lambda_svc, "_execute_function_provided_warm", with_iterator_age)
    wrap(app, "app", with_faults)
    if CHECKS:
        checks = Path(CHECKS).open("w", buffering=1)  # noqa: SIM115, it stays open until the process ends
        wrap(iam_evaluator, "enforce", enforce_and_write_down, functools.lru_cache(maxsize=10_000)(checks.write))


def wrap(module, name, corrected, *arguments):
    setattr(module, name, functools.partial(corrected, getattr(module, name), *arguments))


# ---- change data capture: MiniStack writes no stream records for PartiQL ---------------------------------------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html


def with_stream_record(statement, key, change, table, parsed, *rest):
    """Executes a PartiQL statement. If it succeeds, its change is added to the table's stream."""
    partition, sort = key(table, parsed)
    before = item(table, partition, sort)
    answer = statement(table, parsed, *rest)
    after = item(table, partition, sort)
    if answer[0] == 200 and (before or after):
        dynamodb._emit_stream_event(table["TableName"], change, before, after)
    return answer


def insert_key(table, parsed):
    values = parsed.get("item", {})
    values = values["M"] if set(values) == {"M"} else values
    sort = dynamodb._extract_key_val(values.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
    return dynamodb._extract_key_val(values.get(table["pk_name"])), sort


def where_key(table, parsed):
    return dynamodb._partiql_key_target(table, parsed)[:2]


def item(table, partition, sort):
    return copy.deepcopy(table["items"].get(partition, {}).get(sort))


# ---- permissions: IAM checks a call with several messages for the action on one message ------------------------------
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html


def action_of_one_message(extract_iam_action, service, *rest):
    """The action that a call is checked for: `sqs:SendMessage` for SendMessageBatch."""
    action = extract_iam_action(service, *rest)
    return action.removesuffix("Batch") if service == "sqs" and action else action


# ---- permissions: IAM checks PartiQL by the kind of each statement, MiniStack by the name of the call ----------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html

ACTIONS = {"INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate", "DELETE": "PartiQLDelete", "SELECT": "PartiQLSelect"}


def checks_with_partiql(transaction_checks, iam_action, body, region, account_id):
    """The pairs of action and table that a call is checked for, including those of PartiQL statements."""
    if iam_action not in ("dynamodb:ExecuteStatement", "dynamodb:BatchExecuteStatement"):
        return transaction_checks(iam_action, body, region, account_id)
    checks = {}
    for parsed in statements(json.loads(body)):
        table = iam_actions._dynamodb_table_arn(parsed["table"], region, account_id)
        checks[f"dynamodb:{ACTIONS[parsed['op']]}", table] = None
    return list(checks)


def statements(request):
    """The PartiQL statements of a call; empty if one cannot be parsed, because DynamoDB then refuses the call."""
    try:
        return [
            dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters") or [])
            for statement in request.get("Statements", [request])
        ]
    except ValueError:
        return []


# ---- conditions: MiniStack does not provide the keys of the items that a call names ----------------------------------
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html


def context_with_leading_keys(service_context, body):
    """The condition keys of a call to DynamoDB, including the partition keys of the items that it names."""
    keys = sorted({key for key in leading_keys(json.loads(body)) if key})
    return {**service_context(body), **({"dynamodb:LeadingKeys": keys} if keys else {})}


def leading_keys(request):
    """The partition keys of the items that a call reads by key or writes."""
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


# ---- resources: MiniStack does not provide the ARN of the table stream that a call reads -----------------------------
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html


def resource_with_table_streams(extract_resource_arn, service, method, path, headers, body, *rest):
    """The resource of a call, which may be a table's stream."""
    if service != "dynamodbstreams":
        return extract_resource_arn(service, method, path, headers, body, *rest)
    request = json.loads(body)
    iterator = dynamodb_streams._decode_iterator(request.get("ShardIterator", "")) or {}
    return request.get("StreamArn") or iterator.get("arn") or "*"


# ---- transport: nothing is encrypted on this machine -----------------------------------------------------------------


def pin_request_origin_as_over_tls(pin_request_origin, source_ip, _):
    """Makes a call from this machine count as one over TLS, which the queues' policies demand."""
    return pin_request_origin(source_ip, True)


# ---- answers: MiniStack leaves template parameters as text, and calls each mapping of a template enabled -------------
# https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html


def mapping_as_documented(esm_response, esm):
    """An event source mapping as Lambda answers it. No property of one is a number in text."""
    state = {"State": "Enabled" if esm["Enabled"] else "Disabled"} if "Enabled" in esm else {}
    return with_numbers({**esm_response(esm), **state})


def with_numbers(value):
    if isinstance(value, dict):
        return {name: with_numbers(member) for name, member in value.items()}
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]+", value) else value


def table_as_documented(table_description, name):
    """The description of a table as DynamoDB answers it."""
    description = table_description(name)
    protected = str(description["DeletionProtectionEnabled"]).lower() == "true"
    indexes = [{"IndexStatus": "ACTIVE", **index} for index in description.get("GlobalSecondaryIndexes", [])]
    return {**description, "DeletionProtectionEnabled": protected, "GlobalSecondaryIndexes": indexes}


# ---- logs: MiniStack treats every line as a match for a JSON filter pattern -------------------------------------
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/matching-terms-json-log-events.html

#: A selector, such as `$.spans[1].id`, and the text that it selects, whose end may be `*`.
CONDITION = re.compile(r'\(\$((?:\.\w+|\[\d+\])+) = "([^"*]*)(\*?)"\)')


def pattern_as_documented(compile_filter_pattern, pattern):
    """A function that says whether a line matches a pattern. JSON ones must be like `{ (A = "a") || (B = "b*") }`."""
    if not pattern.startswith("{"):
        return compile_filter_pattern(pattern)
    conditions = pattern.removeprefix("{ ").removesuffix(" }").split(" || ")
    found = [CONDITION.fullmatch(condition) for condition in conditions]
    if not all(found):
        raise ValueError(f"this filter pattern is not emulated: {pattern}")
    return functools.partial(matches_any, [condition.groups() for condition in found])


def matches_any(conditions, line):
    try:
        fields = json.loads(line)
    except json.JSONDecodeError:
        return False
    return any(matches(selected(fields, selector), text, wildcard) for selector, text, wildcard in conditions)


def matches(value, text, wildcard):
    return isinstance(value, str) and (value.startswith(text) if wildcard else value == text)


def selected(value, selector):
    """What a selector selects; None if there is no such thing."""
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", selector):
        if name:
            value = value.get(name) if isinstance(value, dict) else None
        else:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
    return value


# ---- metrics: MiniStack makes none of what is logged in the embedded metric format -----------------------------------
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html


def with_embedded_metrics(append_log_events, stream, events):
    """Adds log events, and the metrics that they have in them."""
    append_log_events(stream, events)
    for event in events:
        # CloudWatch ignores what is not in this format.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if '"_aws"' in event["message"]:
                record_embedded_metrics(json.loads(event["message"]))


def record_embedded_metrics(line):
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            for names in directive["Dimensions"]:
                value = line[metric["Name"]]
                cloudwatch._store_datum(
                    directive["Namespace"],
                    metric["Name"],
                    {name: line[name] for name in names},
                    line["_aws"]["Timestamp"] / 1000,
                    metric.get("Unit", "None"),
                    None if isinstance(value, list) else value,
                    value if isinstance(value, list) else None,
                    None,
                    None,
                )


# ---- metrics: MiniStack has none of how old messages and records are -------------------------------------------------
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html


def with_ages_of_messages(get_metric_data, *arguments):
    """Answers with metrics, among them the age of the oldest message in each queue now."""
    now = time.time()
    for queue in list(sqs._queues.values()):
        age = now - min((message["sent_at"] for message in queue["messages"]), default=now)
        dimensions = {"QueueName": queue["name"]}
        cloudwatch.record_metric("AWS/SQS", "ApproximateAgeOfOldestMessage", int(age), "Seconds", dimensions)
    return get_metric_data(*arguments)


def with_iterator_age(execute, function, event, *rest):
    """Runs a function. If its event is a batch from a stream, the age of the last record becomes a metric."""
    record = (event.get("Records") or [{}])[-1] if isinstance(event, dict) else {}
    arrived = record.get("kinesis", {}).get("approximateArrivalTimestamp") or record.get("dynamodb", {}).get(
        "ApproximateCreationDateTime"
    )
    if arrived:
        age = max(0, time.time() - arrived) * 1000
        dimensions = {"FunctionName": (function.get("config") or function)["FunctionName"]}
        cloudwatch.record_metric("AWS/Lambda", "IteratorAge", age, "Milliseconds", dimensions)
    return execute(function, event, *rest)


# ---- notes -----------------------------------------------------------------------------------------------------------


def enforce_and_write_down(
    enforce, write, access_key, action, service, region, resource_arn="*", service_context=None
):
    """Checks a permission. A check of a role is written down as a line of JSON, unless that line is there already."""
    denied = enforce(access_key, action, service, region, resource_arn, service_context)
    caller = iam_evaluator.caller_arn().split("/")
    if caller[0].endswith(":assumed-role"):
        note = {"role": caller[1], "action": action, "resource": resource_arn, "allowed": not denied}
        for condition in ("dynamodb:LeadingKeys", "dynamodb:EnclosingOperation"):
            if condition in (service_context or {}):
                note[condition] = service_context[condition]
        write(json.dumps(note) + "\n")
    return denied


if __name__ == "__main__":
    correct()
    sys.exit(app.main())
