//! Each invariant, broken once.

use super::super::deployed::{Alarm, Grant, Index, Stream, Table};
use super::*;
use saphyr::{LoadableYamlNode, YamlOwned};

fn queue(name: &str, days: u64) -> Queue {
    Queue {
        url: format!("https://sqs/{name}"),
        arn: format!("arn:aws:sqs:r:1:{name}"),
        retention: days * DAY,
        visibility_timeout: 30,
        redrive: None,
    }
}

fn stage(name: &'static str, source_arn: &str, variables: &[(&str, &str)]) -> Stage {
    let is_stream = name != "ingest";
    let needed = match name {
        "ingest" => permissions::INGEST,
        "publisher" => permissions::PUBLISHER,
        _ => permissions::DOWNSTREAM,
    };
    Stage {
        name,
        stack_name: "s".to_owned(),
        function_name: format!("s-{name}"),
        function: Ok(Function {
            timeout: if is_stream { 60 } else { 30 },
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            log_group: format!("s-{name}-logs"),
            log_format: "JSON".to_owned(),
            log_level: "INFO".to_owned(),
        }),
        mappings: Ok(vec![Mapping {
            uuid: format!("uuid-{name}"),
            source_arn: source_arn.to_owned(),
            state: "Enabled".to_owned(),
            batching_window: u64::from(!is_stream),
            reports_batch_item_failures: true,
            filters: if name == "publisher" { vec![PUBLISHER_FILTER.to_owned()] } else { vec![] },
            maximum_record_age: if is_stream { 2_400 } else { -1 },
            maximum_retry_attempts: -1,
            bisects: is_stream,
            on_failure_arn: is_stream.then(|| format!("arn:aws:sqs:r:1:{name}-failures")),
        }]),
        log_retention_days: Ok(Some(30)),
        // All resources: `permissions` has the tests of single ones.
        grants: Ok(needed
            .iter()
            .map(|(action, _)| Grant { action: (*action).to_owned(), resource: "*".to_owned() })
            .collect()),
    }
}

/// A stack as the template deploys it.
fn deployed() -> Deployed {
    let stream_arn = "arn:aws:kinesis:r:1:stream/k";
    let table_stream_arn = "arn:aws:dynamodb:r:1:table/t/stream/1";
    let index = |(name, keys): &(&str, [&str; 2])| Index {
        name: (*name).to_owned(),
        keys: keys.map(str::to_owned).to_vec(),
        is_active: true,
    };
    let redrive = Some(("arn:aws:sqs:r:1:dead".to_owned(), 6));
    Deployed {
        production: true,
        done_retention_days: 36,
        table_stream_arn: table_stream_arn.to_owned(),
        queue: Ok(Queue { visibility_timeout: 190, redrive, ..queue("queue", 7) }),
        dead_letter_queue: Ok(queue("dead", 14)),
        publisher_failures: Ok(queue("publisher-failures", 14)),
        downstream_failures: Ok(queue("downstream-failures", 14)),
        table: Ok(Table {
            name: "t".to_owned(),
            arn: "arn:aws:dynamodb:r:1:table/t".to_owned(),
            stream_arn: Some(table_stream_arn.to_owned()),
            stream_view_type: Some("NEW_AND_OLD_IMAGES".to_owned()),
            indexes: INDEXES.iter().map(index).collect(),
            deletion_protection: true,
        }),
        time_to_live: Ok(Some("expires_at".to_owned())),
        point_in_time_recovery: Ok(true),
        stream: Ok(Stream { name: "k".to_owned(), arn: stream_arn.to_owned(), retention_hours: 168 }),
        ingest: stage("ingest", "arn:aws:sqs:r:1:queue", &[("TABLE_NAME", "t"), ("QUEUE_URL", "https://sqs/queue")]),
        publisher: stage(
            "publisher",
            table_stream_arn,
            &[("TABLE_NAME", "t"), ("STREAM_NAME", "k"), ("SWEEP_AGE_SECONDS", "2700")],
        ),
        downstream: stage(
            "downstream",
            stream_arn,
            &[("TABLE_NAME", "t"), ("DONE_RETENTION_DAYS", "36"), ("ACTION", "webhook")],
        ),
        sweep_retries: Ok(0),
        sweep: Ok(Schedule {
            rule: "s-sweep".to_owned(),
            is_enabled: true,
            expression: "rate(1 minute)".to_owned(),
            targets: vec![("arn:aws:lambda:r:1:function:s-publisher".to_owned(), r#"{"sweep": true}"#.to_owned())],
        }),
        alarms: Ok(vec![Alarm {
            name: "FailedAlarm".to_owned(),
            state: "OK".to_owned(),
            actions_enabled: true,
            notifies: true,
        }]),
        missing_alarms: Ok(vec![]),
    }
}

fn findings(deployed: &Deployed) -> Vec<(String, Finding)> {
    let found = checks(deployed).into_iter().filter_map(|check| match check.outcome {
        Outcome::Finding(finding) => Some((check.name, finding)),
        _ => None,
    });
    found.collect()
}

#[test]
fn a_stack_as_the_template_deploys_it_has_no_findings() {
    let checks = checks(&deployed());
    assert!(checks.iter().all(|check| check.outcome == Outcome::Good), "{checks:#?}");
    assert!(checks.len() >= 40, "{}", checks.len());
}

/// Breaks one thing. There must be a finding with this name and these words in what is so and in how to fix it.
fn broken(name: &str, is: &str, fix: &str, break_it: impl FnOnce(&mut Deployed)) {
    let mut deployed = deployed();
    break_it(&mut deployed);
    let found = findings(&deployed);
    let finding = found.iter().find(|(found, _)| found == name);
    let (_, finding) = finding.unwrap_or_else(|| panic!("not found: {name}; but {found:#?}"));
    assert!(finding.is.contains(is), "{name}: {}", finding.is);
    assert!(finding.fix.contains(fix), "{name}: {}", finding.fix);
    assert_eq!(found.len(), 1, "{found:#?}");
}

fn on<T>(read: &mut Read<T>, change: impl FnOnce(&mut T)) {
    change(read.as_mut().unwrap());
}

fn on_mapping(stage: &mut Stage, change: impl FnOnce(&mut Mapping)) {
    change(&mut stage.mappings.as_mut().unwrap()[0]);
}

#[test]
fn what_is_off_with_the_queues_is_found() {
    let six = "the queue moves a message to the dead-letter queue after six receives";
    broken(six, "after 3 receives", r#"\"maxReceiveCount\":6"#, |deployed| {
        on(&mut deployed.queue, |queue| queue.redrive.as_mut().unwrap().1 = 3);
    });
    broken(six, "it moves no message", r"arn:aws:sqs:r:1:dead", |deployed| {
        on(&mut deployed.queue, |queue| queue.redrive = None);
    });
    broken(six, "to another after", "set-queue-attributes", |deployed| {
        on(&mut deployed.queue, |queue| queue.redrive.as_mut().unwrap().0 = "another".to_owned());
    });
    let visibility = "the visibility timeout is at least six times ingest's timeout, plus the batching window";
    broken(visibility, "180 s; it must be at least 181 s", "\"VisibilityTimeout\":\"181\"", |deployed| {
        on(&mut deployed.queue, |queue| queue.visibility_timeout = 180);
    });
    broken(visibility, "at least 361 s", "361", |deployed| {
        on(&mut deployed.ingest.function, |function| function.timeout = 60);
    });
}

#[test]
fn what_is_off_with_retention_is_found() {
    let longer = "the dead-letter queue keeps messages for longer than the queue";
    broken(longer, "7 days, and 7 days", "1209600", |deployed| {
        on(&mut deployed.dead_letter_queue, |queue| queue.retention = 7 * DAY);
    });
    let outlive = "DONE notifications outlive every redelivery";
    broken(outlive, "kept for 35 days, and a message can be delivered for 36", "DoneRetentionDays=36", |deployed| {
        deployed.done_retention_days = 35;
        on(&mut deployed.downstream.function, |function| {
            _ = function.variables.insert("DONE_RETENTION_DAYS".into(), "35".into());
        });
    });
    broken(outlive, "delivered for 37", "DoneRetentionDays=37", |deployed| {
        on(&mut deployed.stream, |stream| stream.retention_hours = 192);
    });
    let failures = "downstream's failure queue keeps messages for 14 days";
    broken(failures, "4 days", "1209600", |deployed| {
        on(&mut deployed.downstream_failures, |queue| queue.retention = 4 * DAY);
    });
}

#[test]
fn what_is_off_with_the_table_is_found() {
    let stream = "the table's stream has new and old images";
    broken(stream, "KEYS_ONLY", "sam deploy", |deployed| {
        on(&mut deployed.table, |table| table.stream_view_type = Some("KEYS_ONLY".to_owned()));
    });
    broken(stream, "it has no stream", "sam deploy", |deployed| {
        on(&mut deployed.table, |table| table.stream_arn = None);
    });
    for (place, (name, _)) in INDEXES.iter().enumerate() {
        let index = format!("the table has the index {name}");
        broken(&index, "no such index", "sam deploy", |deployed| {
            on(&mut deployed.table, |table| _ = table.indexes.remove(place));
        });
        broken(&index, "not ACTIVE", "sam deploy", |deployed| {
            on(&mut deployed.table, |table| table.indexes[place].is_active = false);
        });
        broken(&index, "its keys are id", "sam deploy", |deployed| {
            on(&mut deployed.table, |table| table.indexes[place].keys = vec!["id".to_owned()]);
        });
    }
    let expire = "DONE notifications expire by expires_at";
    broken(expire, "nothing expires", "update-time-to-live --table-name t", |deployed| {
        deployed.time_to_live = Ok(None);
    });
    broken(expire, "by done_at", "expires_at", |deployed| deployed.time_to_live = Ok(Some("done_at".to_owned())));
    let recovery = "the table has point-in-time recovery";
    broken(recovery, "disabled", "update-continuous-backups", |deployed| deployed.point_in_time_recovery = Ok(false));
    let protected = "the table is protected against deletion";
    let unprotect = |deployed: &mut Deployed| on(&mut deployed.table, |table| table.deletion_protection = false);
    broken(protected, "for production", "--deletion-protection-enabled", unprotect);
    let mut development = Deployed { production: false, ..deployed() };
    unprotect(&mut development);
    assert_eq!(findings(&development), []);
}

#[test]
fn what_is_off_with_the_functions_is_found() {
    for (name, variable) in [
        ("ingest", "TABLE_NAME"),
        ("ingest", "QUEUE_URL"),
        ("publisher", "STREAM_NAME"),
        ("downstream", "DONE_RETENTION_DAYS"),
    ] {
        broken(&format!("{name} has its environment"), &format!("{variable} should be"), "sam deploy", |deployed| {
            on(&mut stage_of(deployed, name).function, |function| {
                _ = function.variables.insert(variable.into(), "x".into());
            });
        });
    }
    let time = "downstream has the time that a webhook call may take";
    broken(time, "23 s; it must be longer than 23 s", "--timeout", |deployed| {
        on(&mut deployed.downstream.function, |function| function.timeout = 23);
    });
    for name in ["ingest", "publisher", "downstream"] {
        broken(&format!("{name} logs its metrics"), "log level WARN", "ApplicationLogLevel=INFO", |deployed| {
            on(&mut stage_of(deployed, name).function, |function| function.log_level = "WARN".to_owned());
        });
        broken(&format!("{name}'s logs are deleted some day"), "for ever", "put-retention-policy", |deployed| {
            stage_of(deployed, name).log_retention_days = Ok(None);
        });
        broken(
            &format!("{name}'s role allows what it needs"),
            "BatchGetItem on arn:aws:dynamodb:r:1:table/t",
            "deploy",
            |deployed| {
                on(&mut stage_of(deployed, name).grants, |grants| {
                    grants.retain(|grant| grant.action != "dynamodb:BatchGetItem");
                });
            },
        );
    }
}

fn stage_of<'a>(deployed: &'a mut Deployed, name: &str) -> &'a mut Stage {
    match name {
        "ingest" => &mut deployed.ingest,
        "publisher" => &mut deployed.publisher,
        _ => &mut deployed.downstream,
    }
}

#[test]
fn what_is_off_with_the_mappings_is_found() {
    for name in ["ingest", "publisher", "downstream"] {
        let of = |text: &str| text.replace("{}", name);
        let on_it =
            |change: fn(&mut Mapping)| move |deployed: &mut Deployed| on_mapping(stage_of(deployed, name), change);
        broken(
            &of("{} has one event source mapping"),
            "from other",
            "deploy",
            on_it(|it| it.source_arn = "other".into()),
        );
        broken(
            &of("{}'s mapping is enabled"),
            "Disabled",
            &of("notifyctl resume {} --stack s"),
            on_it(|it| it.state = "Disabled".into()),
        );
        broken(
            &of("{} reports failed records one by one"),
            "no ReportBatchItemFailures",
            &of("--uuid uuid-{} --function-response-types ReportBatchItemFailures"),
            on_it(|it| it.reports_batch_item_failures = false),
        );
        broken(
            &of("{}'s mapping has the right filters"),
            "{\"a\":[1]}",
            "--filter-criteria",
            on_it(|it| it.filters = vec![r#"{"a":[1]}"#.into()]),
        );
    }
    for name in ["publisher", "downstream"] {
        let of = |text: &str| text.replace("{}", name);
        let on_it =
            |change: fn(&mut Mapping)| move |deployed: &mut Deployed| on_mapping(stage_of(deployed, name), change);
        broken(
            &of("only their age ends the retries of {}'s records"),
            "after 6 retries",
            "--maximum-retry-attempts -1",
            on_it(|it| it.maximum_retry_attempts = 6),
        );
        broken(&of("a batch that kills {} is split"), "not", "--bisect", on_it(|it| it.bisects = false));
        let age = of("Lambda gives up on {}'s records before the sweep publishes them again");
        broken(&age, "after 2700 s", "MaximumRecordAge=2400 SweepAge=2700", on_it(|it| it.maximum_record_age = 2_700));
        broken(&age, "never", "MaximumRecordAge=2400 SweepAge=2700", on_it(|it| it.maximum_record_age = -1));
        let report = of("Lambda reports the records of {} that it gave up on");
        broken(&report, "no on-failure destination", &of("1:{}-failures"), on_it(|it| it.on_failure_arn = None));
    }
    broken("publisher's mapping has the right filters", "it has none", "--filter-criteria", |deployed| {
        on_mapping(&mut deployed.publisher, |mapping| mapping.filters.clear());
    });
}

#[test]
fn a_stage_without_its_mapping_is_found_and_what_depends_on_it_is_not_checked() {
    let mut deployed = deployed();
    deployed.downstream.mappings = Ok(vec![]);
    let found = findings(&deployed);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].0.as_str(), found[0].1.is.as_str()),
        ("downstream has one event source mapping", "it has none")
    );
    let not_checked =
        |check: &Check| check.outcome == Outcome::NotChecked("downstream has 0 event source mappings".to_owned());
    assert_eq!(checks(&deployed).into_iter().filter(not_checked).count(), 7);
}

#[test]
fn enhanced_fan_out_reads_a_consumer_of_the_stream() {
    let mut deployed = deployed();
    on_mapping(&mut deployed.downstream, |mapping| mapping.source_arn += "/consumer/downstream:1");
    assert_eq!(findings(&deployed), []);
}

#[test]
fn what_is_off_with_the_sweep_is_found() {
    broken("a run of the sweep that fails is not repeated", "2 times", "--maximum-retry-attempts 0", |deployed| {
        deployed.sweep_retries = Ok(2);
    });
    let runs = "the sweep runs every five minutes or more often";
    broken(runs, "disabled", "aws events enable-rule --name s-sweep", |deployed| {
        on(&mut deployed.sweep, |it| it.is_enabled = false);
    });
    broken(runs, "rate(1 hour)", "deploy", |deployed| {
        on(&mut deployed.sweep, |it| it.expression = "rate(1 hour)".into());
    });
    let invokes = "the schedule of the sweep invokes publisher";
    broken(invokes, "nothing", "deploy", |deployed| on(&mut deployed.sweep, |it| it.targets.clear()));
    broken(invokes, "with {}", "deploy", |deployed| on(&mut deployed.sweep, |it| it.targets[0].1 = "{}".into()));
}

#[test]
fn what_is_off_with_the_alarms_is_found() {
    broken("every alarm of the stack exists", "missing: InDoubtAlarm", "deploy", |deployed| {
        deployed.missing_alarms = Ok(vec!["InDoubtAlarm".to_owned()]);
    });
    let notifies = "every alarm notifies somebody";
    broken(notifies, "1 notify nobody: FailedAlarm", "AlarmTopicArn", |deployed| {
        on(&mut deployed.alarms, |it| it[0].notifies = false);
    });
    broken(notifies, "nobody", "AlarmTopicArn", |deployed| {
        on(&mut deployed.alarms, |it| it[0].actions_enabled = false);
    });
    broken("no alarm is raised", "ALARM: FailedAlarm", "RUNBOOK", |deployed| {
        on(&mut deployed.alarms, |it| it[0].state = "ALARM".into());
    });
    broken("every alarm has data", "INSUFFICIENT_DATA: FailedAlarm", "RUNBOOK", |deployed| {
        on(&mut deployed.alarms, |it| it[0].state = "INSUFFICIENT_DATA".into());
    });
}

#[test]
fn what_cannot_be_read_is_not_checked_and_is_no_finding() {
    let mut deployed = deployed();
    deployed.alarms = Err("DescribeAlarms: AccessDenied".to_owned());
    deployed.publisher.grants = Err("GetRolePolicy: AccessDenied".to_owned());
    assert_eq!(findings(&deployed), []);
    let not_checked = |reason: &str| {
        let is_it = |check: &Check| check.outcome == Outcome::NotChecked(reason.to_owned());
        checks(&deployed).into_iter().filter(is_it).count()
    };
    assert_eq!((not_checked("DescribeAlarms: AccessDenied"), not_checked("GetRolePolicy: AccessDenied")), (4, 1));
}

#[test]
fn the_expected_settings_are_those_of_the_template() {
    let template = YamlOwned::load_from_str(include_str!("../../../../../template.yaml")).unwrap();
    let get = |yaml: &YamlOwned, path: &[&str]| {
        path.iter()
            .fold(yaml.clone(), |yaml, name| yaml.as_mapping_get(name).unwrap_or_else(|| panic!("{name}")).clone())
    };
    let text = |yaml: &YamlOwned, name: &str| get(yaml, &[name]).as_str().unwrap().to_owned();
    let resources = get(&template[0], &["Resources"]);
    let indexes = get(&resources, &["Table", "Properties", "GlobalSecondaryIndexes"]);
    let indexes: Vec<(String, Vec<String>)> = indexes
        .as_sequence()
        .unwrap()
        .iter()
        .map(|index| {
            let keys = get(index, &["KeySchema"]);
            (
                text(index, "IndexName"),
                keys.as_sequence().unwrap().iter().map(|key| text(key, "AttributeName")).collect(),
            )
        })
        .collect();
    let expected: Vec<(String, Vec<String>)> =
        INDEXES.iter().map(|(name, keys)| ((*name).to_owned(), keys.map(str::to_owned).to_vec())).collect();
    assert_eq!(indexes, expected);
    let filters =
        get(&resources, &["Publisher", "Properties", "Events", "Table", "Properties", "FilterCriteria", "Filters"]);
    assert_eq!(text(&filters.as_sequence().unwrap()[0], "Pattern"), PUBLISHER_FILTER);
}
