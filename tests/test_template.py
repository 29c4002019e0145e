"""What the template promises, read from the template."""

import json
import re

import pytest
from samcli.yamlhelper import yaml_parse

from conftest import ROOT

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
LIMITS = (ROOT / "crates" / "notification" / "src" / "limits.rs").read_text()


def of_type(kind):
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


FUNCTIONS = of_type("AWS::Serverless::Function")
SOURCES = {
    f"{function}.{name}": source
    for function, resource in FUNCTIONS.items()
    for name, source in resource["Properties"]["Events"].items()
    if source["Type"] != "Schedule"
}
STREAM_SOURCES = [name for name, source in SOURCES.items() if source["Type"] != "SQS"]


@pytest.mark.parametrize("source", SOURCES)
def test_rule_9_every_event_source_reports_batch_item_failures(source):
    assert SOURCES[source]["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize("source", STREAM_SOURCES)
def test_stream_sources_begin_at_the_trim_horizon_bisect_and_give_up_into_a_queue_by_age_alone(source):
    properties = SOURCES[source]["Properties"]
    assert properties["StartingPosition"] == "TRIM_HORIZON"
    assert properties["BisectBatchOnFunctionError"] is True
    # Bounded by their age alone, however long Lambda waits between two retries.
    assert properties["MaximumRetryAttempts"] == -1
    assert properties["MaximumRecordAgeInSeconds"] == {"Ref": "MaximumRecordAge"}
    assert properties["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


@pytest.mark.parametrize("source", STREAM_SOURCES)
def test_lambda_polls_the_streams_unless_something_else_does(source):
    assert SOURCES[source]["Properties"]["Enabled"] == {"Fn::If": ["PollsStreams", True, False]}
    assert TEMPLATE["Conditions"]["PollsStreams"] == {"Fn::Equals": [{"Ref": "StreamMappings"}, "enabled"]}
    assert TEMPLATE["Parameters"]["StreamMappings"]["Default"] == "enabled"


def test_every_parameter_is_in_one_group_of_the_console():
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [parameter for group in groups for parameter in group["Parameters"]]
    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])


def test_a_message_is_received_six_times():
    assert RESOURCES["Queue"]["Properties"]["RedrivePolicy"]["maxReceiveCount"] == 6


def test_the_visibility_timeout_is_six_times_the_function_timeout_and_the_window():
    timeouts = TEMPLATE["Parameters"]["IngestTimeout"]["AllowedValues"]
    mapped = TEMPLATE["Mappings"]["VisibilityTimeout"]
    windows = TEMPLATE["Parameters"]["IngestBatchWindow"]["AllowedValues"]
    for timeout in timeouts:
        longest = 1 if timeout == 2 else max(windows)
        assert mapped[str(timeout)]["Seconds"] == 6 * timeout + longest


def seconds_of(limit):
    """A limit of the domain, in seconds."""
    (text,) = re.findall(rf"pub const {limit}: Duration = Duration::from_secs\((\d+)\);", LIMITS)
    return int(text)


def test_a_webhook_delivery_has_the_time_that_it_may_take():
    needed = seconds_of("WEBHOOK_TIMEOUT") + seconds_of("ACT_BEFORE_DEADLINE")
    rule = TEMPLATE["Rules"]["WebhookNeedsTime"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Action"}, "webhook"]}
    ((allowed, timeout),) = [assertion["Assert"]["Fn::Contains"] for assertion in rule["Assertions"]]
    values = TEMPLATE["Parameters"]["StreamFunctionTimeout"]["AllowedValues"]
    assert timeout == {"Ref": "StreamFunctionTimeout"}
    # A second for reading, claiming and starting.
    assert [int(value) for value in allowed] == [value for value in values if value > needed + 1]


@pytest.mark.parametrize("role", of_type("AWS::IAM::Role"))
def test_a_role_has_no_wildcard_action_and_no_wildcard_resource(role):
    for policy in RESOURCES[role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            statement = statement["Fn::If"][1] if "Fn::If" in statement else statement
            assert "*" not in str(statement["Action"])
            assert statement["Resource"] != "*"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_a_role_and_a_log_group_of_its_own(function):
    properties = FUNCTIONS[function]["Properties"]
    assert properties["Role"] == {"Fn::GetAtt": [f"{function}Role", "Arn"]}
    assert properties["LoggingConfig"]["LogGroup"] == {"Ref": f"{function}Logs"}
    assert "RetentionInDays" in RESOURCES[f"{function}Logs"]["Properties"]


def test_rule_8_the_publishers_source_filters_for_what_became_init():
    (filtered,) = SOURCES["Publisher.Table"]["Properties"]["FilterCriteria"]["Filters"]
    pattern = {"eventName": ["INSERT", "MODIFY"], "dynamodb": {"NewImage": {"status": {"S": ["INIT"]}}}}
    assert json.loads(filtered["Pattern"]) == pattern


def test_the_table_is_protected_recoverable_encrypted_and_forgets_done():
    table = RESOURCES["Table"]
    properties = table["Properties"]
    assert table["DeletionPolicy"] == {"Fn::If": ["IsProduction", "Retain", "Delete"]}
    assert properties["DeletionProtectionEnabled"] == {"Ref": "Production"}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_dead_letters_outlive_the_queue_that_they_come_from():
    retention = lambda queue: RESOURCES[queue]["Properties"]["MessageRetentionPeriod"]  # noqa: E731
    assert retention("Queue") < retention("DeadLetterQueue") == 14 * 24 * 3600


def test_the_retention_of_done_outlives_every_redelivery():
    days = TEMPLATE["Parameters"]["DoneRetentionDays"]["MinValue"]
    kinesis_days = TEMPLATE["Parameters"]["KinesisRetentionHours"]["MaxValue"] / 24
    assert days >= 14 + 14 + 1 + kinesis_days


def test_the_sweep_runs_on_a_schedule_and_publishes_nothing_that_lambda_still_retries():
    sweep = FUNCTIONS["Publisher"]["Properties"]["Events"]["Sweep"]
    assert sweep["Type"] == "Schedule" and sweep["Properties"]["Input"] == '{"sweep": true}'
    assert TEMPLATE["Parameters"]["MaximumRecordAge"]["Default"] < TEMPLATE["Parameters"]["SweepAge"]["Default"]


def test_a_sweep_that_fails_is_not_repeated_and_one_that_is_late_is_dropped():
    """Lambda would invoke it twice more; the next one on the schedule does the same."""
    assert FUNCTIONS["Publisher"]["Properties"]["EventInvokeConfig"] == {
        "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60,
    }


INDEXES = {index["IndexName"]: index for index in RESOURCES["Table"]["Properties"]["GlobalSecondaryIndexes"]}


def test_the_index_of_pending_notifications_holds_keys_only():
    assert INDEXES["pending"]["Projection"] == {"ProjectionType": "KEYS_ONLY"}


def test_the_index_of_unresolved_items_has_partitions_for_each_status_and_their_times():
    keys = [(key["AttributeName"], key["KeyType"]) for key in INDEXES["unresolved"]["KeySchema"]]
    assert keys == [("unresolved_partition", "HASH"), ("unresolved_since", "RANGE")]
    assert INDEXES["unresolved"]["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["status"]}


def test_the_publisher_may_query_each_index_of_the_table():
    (policy,) = RESOURCES["PublisherRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    queried = [statement["Resource"]["Fn::Sub"] for statement in statements if statement["Action"] == "dynamodb:Query"]
    assert queried == [f"${{Table.Arn}}/index/{name}" for name in INDEXES]


@pytest.mark.parametrize(
    "alarm, metric", [("RecentlyFailedAlarm", "RecentlyFailed"), ("InDoubtItemsAlarm", "InDoubtItems")]
)
def test_an_alarm_follows_the_state_of_the_table_and_is_raised_where_nobody_counts(alarm, metric):
    properties = RESOURCES[alarm]["Properties"]
    assert (properties["MetricName"], properties["Statistic"], properties["Threshold"]) == (metric, "Maximum", 0)
    assert properties["TreatMissingData"] == "breaching"


@pytest.mark.parametrize(
    "alarm", ["OldestPendingAlarm", "UnpublishableAlarm", "RecentlyFailedAlarm", "InDoubtItemsAlarm"]
)
def test_an_alarm_on_a_metric_of_the_sweep_spans_three_runs_of_it(alarm):
    assert TEMPLATE["Parameters"]["SweepSchedule"]["Default"] == "rate(1 minute)"
    assert RESOURCES[alarm]["Properties"]["Period"] >= 3 * 60
