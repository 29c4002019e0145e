"""The properties of the template that the service depends on."""

import json
import re

import pytest
import tomlkit
from samcli.yamlhelper import yaml_parse

from conftest import ROOT

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
LIMITS = (ROOT / "crates" / "notification" / "src" / "limits.rs").read_text()


def of_type(kind):
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def value(expression, **parameters):
    """The value of an expression of the template, with these parameters or their defaults. Attributes stay as is."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return expression
    ((function, arguments),) = expression.items()
    match function:
        case "Ref" if arguments in TEMPLATE["Parameters"]:
            result = str(parameters.get(arguments, TEMPLATE["Parameters"][arguments]["Default"]))
        case "Condition":
            result = value(TEMPLATE["Conditions"][arguments], **parameters)
        case "Fn::Equals":
            result = len({str(value(argument, **parameters)) for argument in arguments}) == 1
        case "Fn::Contains":
            result = value(arguments[1], **parameters) in arguments[0]
        case "Fn::Not":
            result = not value(arguments[0], **parameters)
        case "Fn::And":
            result = all(value(argument, **parameters) for argument in arguments)
        case "Fn::If":
            holds = value({"Condition": arguments[0]}, **parameters)
            result = value(arguments[1 if holds else 2], **parameters)
        case "Fn::FindInMap":
            result = TEMPLATE["Mappings"][arguments[0]][value(arguments[1], **parameters)][arguments[2]]
        case _:
            result = expression
    return result


def refusals(**parameters):
    """The assertions of the template's rules that these parameters violate."""
    return [
        assertion["AssertDescription"]
        for rule in TEMPLATE["Rules"].values()
        if value(rule["RuleCondition"], **parameters)
        for assertion in rule["Assertions"]
        if not value(assertion["Assert"], **parameters)
    ]


def deployments():
    """The parameters of each environment of samconfig.toml."""
    config = tomlkit.parse((ROOT / "samconfig.toml").read_text())
    return {
        name: dict(item.split("=", 1) for item in environment["deploy"]["parameters"]["parameter_overrides"])
        for name, environment in config.items()
        if name != "version"
    }


DEPLOYMENTS = deployments()
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
    # Only age bounds the retries, because nobody knows how long Lambda waits between two.
    assert properties["MaximumRetryAttempts"] == -1
    assert properties["MaximumRecordAgeInSeconds"] == {"Ref": "MaximumRecordAge"}
    assert properties["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


@pytest.mark.parametrize("source", STREAM_SOURCES)
def test_lambda_polls_the_streams_unless_their_mappings_are_disabled(source):
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
    """A limit of the domain crate, in seconds."""
    (text,) = re.findall(rf"pub const {limit}: Duration = Duration::from_secs\((\d+)\);", LIMITS)
    return int(text)


def test_a_webhook_delivery_has_the_time_that_it_may_take():
    needed = seconds_of("WEBHOOK_TIMEOUT") + seconds_of("ACT_BEFORE_DEADLINE")
    rule = TEMPLATE["Rules"]["WebhookNeedsTime"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Action"}, "webhook"]}
    ((allowed, timeout),) = [assertion["Assert"]["Fn::Contains"] for assertion in rule["Assertions"]]
    values = TEMPLATE["Parameters"]["StreamFunctionTimeout"]["AllowedValues"]
    assert timeout == {"Ref": "StreamFunctionTimeout"}
    # Reading, claiming and starting take another second.
    assert [int(value) for value in allowed] == [value for value in values if value > needed + 1]


@pytest.mark.parametrize("role", of_type("AWS::IAM::Role"))
def test_a_role_has_no_wildcard_action_and_no_wildcard_resource(role):
    for policy in RESOURCES[role]["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            granted = statement["Fn::If"][1] if "Fn::If" in statement else statement
            assert "*" not in str(granted["Action"])
            assert granted["Resource"] != "*"


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


@pytest.mark.parametrize("resource", ["Table", "LedgerTable", "DeadLetterQueue"])
def test_in_production_resources_that_hold_data_are_retained_except_on_create(resource):
    policies = RESOURCES[resource]["DeletionPolicy"], RESOURCES[resource]["UpdateReplacePolicy"]
    assert [value(policy, Production="true") for policy in policies] == ["RetainExceptOnCreate", "Retain"]
    assert [value(policy, Production="false") for policy in policies] == ["Delete", "Delete"]


@pytest.mark.parametrize("table", ["Table", "LedgerTable"])
def test_a_change_of_the_action_keeps_the_tables(table):
    assert "Condition" not in RESOURCES[table]


def test_the_table_is_protected_recoverable_encrypted_and_expires_done():
    properties = RESOURCES["Table"]["Properties"]
    assert properties["DeletionProtectionEnabled"] == {"Ref": "Production"}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


DAY = 24 * 3600


def test_a_message_has_at_least_seven_days_in_each_of_the_two_queues():
    retention = [RESOURCES[queue]["Properties"]["MessageRetentionPeriod"] for queue in ("Queue", "DeadLetterQueue")]
    assert retention == [7 * DAY, 14 * DAY]


@pytest.mark.parametrize("alarm, queue", [("QueueAgeAlarm", "Queue"), ("DeadLetterAgeAlarm", "DeadLetterQueue")])
def test_an_alarm_is_raised_days_before_a_message_expires(alarm, queue):
    properties = RESOURCES[alarm]["Properties"]
    assert (properties["MetricName"], properties["Statistic"]) == ("ApproximateAgeOfOldestMessage", "Maximum")
    assert properties["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": [queue, "QueueName"]}}]
    # A message has 7 days in each queue, and SQS counts from its arrival in this one.
    assert properties["Threshold"] + properties["Period"] * properties["EvaluationPeriods"] < 4 * DAY


def test_the_retention_of_done_outlives_every_redelivery():
    days = TEMPLATE["Parameters"]["DoneRetentionDays"]["MinValue"]
    kinesis_days = TEMPLATE["Parameters"]["KinesisRetentionHours"]["MaxValue"] / 24
    assert days >= 14 + 14 + 1 + kinesis_days


def test_the_sweep_runs_on_a_schedule_and_publishes_nothing_that_lambda_still_retries():
    sweep = FUNCTIONS["Publisher"]["Properties"]["Events"]["Sweep"]
    assert sweep["Type"] == "Schedule" and sweep["Properties"]["Input"] == '{"sweep": true}'
    assert TEMPLATE["Parameters"]["MaximumRecordAge"]["Default"] < TEMPLATE["Parameters"]["SweepAge"]["Default"]


def test_a_sweep_that_fails_is_not_retried_and_one_that_is_late_is_dropped():
    """The next one on the schedule does the same work."""
    assert FUNCTIONS["Publisher"]["Properties"]["EventInvokeConfig"] == {
        "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60,
    }


SWEEP_MINUTES = TEMPLATE["Parameters"]["SweepSchedule"]["AllowedValues"]


@pytest.mark.parametrize("minutes", SWEEP_MINUTES)
def test_the_sweep_runs_every_so_many_minutes(minutes):
    schedule = FUNCTIONS["Publisher"]["Properties"]["Events"]["Sweep"]["Properties"]["Schedule"]
    assert value(schedule, SweepSchedule=minutes) == f"rate({minutes} minute{'s' if minutes > 1 else ''})"


INDEXES = {index["IndexName"]: index for index in RESOURCES["Table"]["Properties"]["GlobalSecondaryIndexes"]}


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_holds_keys_and_what_operators_group_by(index):
    grouped_by = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["source", "type", "reason_code"]}
    assert INDEXES[index]["Projection"] == grouped_by


def test_the_index_of_unresolved_items_has_partitions_for_each_status_and_their_times():
    keys = [(key["AttributeName"], key["KeyType"]) for key in INDEXES["unresolved"]["KeySchema"]]
    assert keys == [("unresolved_partition", "HASH"), ("unresolved_since", "RANGE")]


def test_the_publisher_may_query_each_index_of_the_table():
    (policy,) = RESOURCES["PublisherRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    queried = [statement["Resource"]["Fn::Sub"] for statement in statements if statement["Action"] == "dynamodb:Query"]
    assert queried == [f"${{Table.Arn}}/index/{name}" for name in INDEXES]


@pytest.mark.parametrize(
    "alarm, metric", [("RecentlyFailedAlarm", "RecentlyFailed"), ("InDoubtItemsAlarm", "InDoubtItems")]
)
def test_an_alarm_follows_the_state_of_the_table(alarm, metric):
    properties = RESOURCES[alarm]["Properties"]
    assert (properties["MetricName"], properties["Statistic"], properties["Threshold"]) == (metric, "Maximum", 0)


@pytest.mark.parametrize("alarm", of_type("AWS::CloudWatch::Alarm"))
def test_a_new_stack_raises_no_alarm(alarm):
    assert RESOURCES[alarm]["Properties"]["TreatMissingData"] in ("notBreaching", "missing")


@pytest.mark.parametrize("alarm", ["OldestPendingAlarm", "RecentlyFailedAlarm", "InDoubtItemsAlarm"])
def test_the_topic_is_notified_if_the_sweep_no_longer_runs(alarm):
    properties = RESOURCES[alarm]["Properties"]
    assert properties["TreatMissingData"] == "missing"
    assert properties["InsufficientDataActions"] == properties["AlarmActions"]


@pytest.mark.parametrize(
    "alarm", ["OldestPendingAlarm", "UnpublishableAlarm", "RecentlyFailedAlarm", "InDoubtItemsAlarm"]
)
@pytest.mark.parametrize("minutes", SWEEP_MINUTES)
def test_an_alarm_on_a_metric_of_the_sweep_spans_three_runs_of_it(alarm, minutes):
    assert value(RESOURCES[alarm]["Properties"]["Period"], SweepSchedule=minutes) == 3 * minutes * 60


@pytest.mark.parametrize("minutes", SWEEP_MINUTES)
def test_a_recent_failure_is_counted_in_two_periods_of_its_alarm(minutes):
    (counted,) = re.findall(r"pub const RECENTLY_FAILED: Duration = Duration::from_mins\((\d+)\);", LIMITS)
    properties = RESOURCES["RecentlyFailedAlarm"]["Properties"]
    period = value(properties["Period"], SweepSchedule=minutes)
    assert int(counted) * 60 >= properties["EvaluationPeriods"] * period


def test_more_than_ten_messages_a_batch_are_refused_without_a_window():
    # https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
    for size in (11, 100, 1000, 10000):
        assert refusals(IngestBatchWindow=0, IngestBatchSize=size) == [
            "If IngestBatchWindow is 0, IngestBatchSize must be 10 or less."
        ]
        assert refusals(IngestBatchWindow=1, IngestBatchSize=size) == []
    for size in range(1, 11):
        assert refusals(IngestBatchWindow=0, IngestBatchSize=size) == []


def test_a_webhook_is_refused_without_its_url_its_secret_or_enough_time():
    webhook = {"Action": "webhook", "WebhookUrl": "https://example.com/", "WebhookSecretArn": "arn:aws:secretsmanager"}
    assert refusals(**webhook) == []
    for missing in ("WebhookUrl", "WebhookSecretArn"):
        assert refusals(**{**webhook, missing: ""}) == [f"The action webhook requires {missing}."]
    assert len(refusals(**webhook, StreamFunctionTimeout=10)) == 1


def test_the_webhook_url_is_not_shown_because_it_may_contain_a_token():
    assert TEMPLATE["Parameters"]["WebhookUrl"]["NoEcho"] is True


def statements(role, **parameters):
    """The statements of a role by their names."""
    (policy,) = RESOURCES[role]["Properties"]["Policies"]
    found = [value(statement, **parameters) for statement in policy["PolicyDocument"]["Statement"]]
    return {statement["Sid"]: statement for statement in found if statement != {"Ref": "AWS::NoValue"}}


def test_a_customer_managed_key_decrypts_the_webhooks_secret_and_nothing_else():
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    statement = statements("DownstreamRole", Action="webhook", WebhookSecretKeyArn=key)["DecryptSigningSecret"]
    assert (statement["Action"], value(statement["Resource"], WebhookSecretKeyArn=key)) == ("kms:Decrypt", key)
    service = {"Fn::Sub": "secretsmanager.${AWS::Region}.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"kms:ViaService": service}}
    assert "DecryptSigningSecret" not in statements("DownstreamRole", Action="webhook")
    assert "DecryptSigningSecret" not in statements("DownstreamRole", WebhookSecretKeyArn=key)


def test_enhanced_fan_out_reads_through_its_own_consumer():
    # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
    source = SOURCES["Downstream.Stream"]["Properties"]["Stream"]
    consumer = {"Fn::GetAtt": ["StreamConsumer", "ConsumerARN"]}
    assert value(source, EnhancedFanOut="true") == consumer
    assert value(source, EnhancedFanOut="false") == {"Fn::GetAtt": ["Stream", "Arn"]}
    assert RESOURCES["StreamConsumer"]["Condition"] == "FansOut"
    subscribe = statements("DownstreamRole", EnhancedFanOut="true")["SubscribeToStream"]
    assert set(subscribe["Action"]) == {"kinesis:SubscribeToShard", "kinesis:DescribeStreamConsumer"}
    assert subscribe["Resource"] == consumer
    assert "SubscribeToStream" not in statements("DownstreamRole")


def test_switching_to_provisioned_keeps_the_shards_of_a_new_on_demand_stream():
    # Kinesis refuses to reduce them to less than half.
    # https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateShardCount.html
    assert TEMPLATE["Parameters"]["KinesisShardCount"]["Default"] == 4


@pytest.mark.parametrize("environment", DEPLOYMENTS)
def test_an_environment_has_parameters_that_the_template_knows_and_allows(environment):
    parameters = DEPLOYMENTS[environment]
    assert parameters.keys() <= TEMPLATE["Parameters"].keys()
    assert refusals(**parameters) == []


def test_the_development_environment_fits_an_account_with_a_concurrency_of_ten():
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    parameters = DEPLOYMENTS["default"]
    assert parameters["KinesisStreamMode"] == "PROVISIONED"
    factor, new_table_shards, sweep = int(parameters["ParallelizationFactor"]), 4, 1
    streams = factor * (new_table_shards + int(parameters["KinesisShardCount"]))
    assert int(parameters["IngestMaximumConcurrency"]) + streams + sweep <= 10


def test_the_low_latency_environment_has_no_batch_window_and_uses_enhanced_fan_out():
    parameters = DEPLOYMENTS["low-latency"]
    assert (parameters["IngestBatchWindow"], parameters["EnhancedFanOut"]) == ("0", "true")


ALARMS = of_type("AWS::CloudWatch::Alarm")
RUNBOOK = (ROOT / "docs" / "RUNBOOK.md").read_text()
WIDGETS = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::ToJsonString"]["widgets"]
#: Of each metric on the dashboard: namespace, name, name and value of its dimension.
SHOWN = [tuple(map(str, metric[:4])) for widget in WIDGETS for metric in widget["properties"].get("metrics", [])]
#: What `notifyctl verify --follow` counts.
MONITORED = set(re.findall(r'datum\("(\w+)"', (ROOT / "crates/notifyctl/src/verify/metrics.rs").read_text()))
#: What the functions count. The names of some are chosen first, and counted in one place.
COUNTED = {
    name
    for function in ("ingest", "publisher", "downstream")
    for path in (ROOT / "crates" / function / "src").rglob("*.rs")
    for name in re.findall(r'(?:metrics::\w+!\(|=> )"([A-Z][a-z]\w*)"', path.read_text())
}


def test_the_dashboard_begins_with_the_state_of_every_alarm():
    assert WIDGETS[0]["type"] == "alarm" and WIDGETS[0]["y"] == 0
    assert WIDGETS[0]["properties"]["alarms"] == [{"Fn::GetAtt": [alarm, "Arn"]} for alarm in ALARMS]


def test_the_dashboard_shows_every_metric_that_an_alarm_is_on():
    on_alarms = {
        (properties["Namespace"], properties["MetricName"], dimension["Name"], str(dimension["Value"]))
        for properties in (alarm["Properties"] for alarm in ALARMS.values())
        for dimension in properties["Dimensions"]
    }
    assert on_alarms <= set(SHOWN)


def test_the_dashboard_shows_what_is_counted_and_nothing_that_is_not():
    own = {(name, dimension) for namespace, name, dimension, _ in SHOWN if namespace == "AtomicNotification"}
    assert own == {(name, "FunctionName") for name in COUNTED} | {(name, "TableName") for name in MONITORED}
    assert len(COUNTED) > 15 and len(MONITORED) == 3


def test_no_widget_of_the_dashboard_overlaps_another_or_leaves_the_page():
    cells = [
        (widget["x"] + right, widget["y"] + down)
        for widget in WIDGETS
        for right in range(widget["width"])
        for down in range(widget["height"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_the_runbook_has_a_section_for_every_alarm_and_every_alarm_names_its_section():
    assert sorted(re.findall(r"^## (\w+Alarm)$", RUNBOOK, re.MULTILINE)) == sorted(ALARMS)
    for alarm, resource in ALARMS.items():
        assert resource["Properties"]["AlarmDescription"].endswith(f"See docs/RUNBOOK.md#{alarm.lower()}.")


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_section_of_the_runbook_says_what_the_alarm_means_where_to_look_and_what_to_do(alarm):
    section = re.split(r"^## ", RUNBOOK.partition(f"## {alarm}\n")[2], flags=re.MULTILINE)[0]
    for heading in ("**Means.**", "**Look.**", "**Do.**", "**Seen locally.**"):
        assert section.count(heading) == 1, heading
    assert "```" in section
