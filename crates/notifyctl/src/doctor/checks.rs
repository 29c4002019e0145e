//! Every invariant of the template: what is off, why it matters, and how to fix it.

use super::deployed::{Deployed, Function, Mapping, Queue, Read, Schedule, Stage};
use super::permissions;
use notification::limits;
use serde_json::{Value, json};

/// A check, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    /// What should be so.
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    Finding(Finding),
    /// Why it could not be checked.
    NotChecked(String),
}

/// Something that is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What is so instead.
    pub(super) is: String,
    /// Why that matters.
    pub(super) why: &'static str,
    /// The command that fixes it, or what to do.
    pub(super) fix: String,
}

impl Check {
    pub(super) const fn kind(&self) -> &'static str {
        match self.outcome {
            Outcome::Good => "good",
            Outcome::Finding(_) => "finding",
            Outcome::NotChecked(_) => "not checked",
        }
    }

    pub(super) fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Good => json!({"check": self.name}),
            Outcome::Finding(Finding { is, why, fix }) => {
                json!({"check": self.name, "is": is, "why": why, "fix": fix})
            }
            Outcome::NotChecked(reason) => json!({"check": self.name, "reason": reason}),
        }
    }
}

/// What every notification that becomes INIT looks like in the table's stream.
const PUBLISHER_FILTER: &str = r#"{"eventName":["INSERT","MODIFY"],"dynamodb":{"NewImage":{"status":{"S":["INIT"]}}}}"#;

/// The indexes of the table, with their keys.
const INDEXES: &[(&str, [&str; 2])] =
    &[("pending", ["pending_shard", "pending_since"]), ("unresolved", ["unresolved_partition", "unresolved_since"])];

const DAY: u64 = 24 * 60 * 60;

/// Checks everything.
pub(super) fn checks(deployed: &Deployed) -> Vec<Check> {
    let mut checks = Checks(Vec::new());
    queues(deployed, &mut checks);
    retention(deployed, &mut checks);
    table(deployed, &mut checks);
    for stage in [&deployed.ingest, &deployed.publisher, &deployed.downstream] {
        function(deployed, stage, &mut checks);
        mapping(deployed, stage, &mut checks);
    }
    sweep(deployed, &mut checks);
    alarms(deployed, &mut checks);
    checks.0
}

struct Checks(Vec<Check>);

impl Checks {
    /// Adds a check of a part that may not have been read.
    fn add<T>(&mut self, name: impl Into<String>, part: Read<T>, check: impl FnOnce(T) -> Option<Finding>) {
        let outcome = match part {
            Ok(part) => check(part).map_or(Outcome::Good, Outcome::Finding),
            Err(reason) => Outcome::NotChecked(reason),
        };
        self.0.push(Check { name: name.into(), outcome });
    }
}

/// A part that was read, by reference.
fn part<T>(read: &Read<T>) -> Read<&T> {
    read.as_ref().map_err(Clone::clone)
}

fn both<A, B>(a: Read<A>, b: Read<B>) -> Read<(A, B)> {
    Ok((a?, b?))
}

fn unless(holds: bool, finding: impl FnOnce() -> Finding) -> Option<Finding> {
    (!holds).then(finding)
}

/// How to deploy the stack again. Without its environment, `sam deploy` would set the parameters of another one.
const REDEPLOY: &str =
    "sam build --config-env ENV && sam deploy --config-env ENV, with this stack's environment of samconfig.toml";

fn redeploy() -> String {
    format!("deploy the template again: {REDEPLOY}")
}

/// How to change a parameter for good.
fn set_parameters(parameters: &str) -> String {
    format!("set {parameters} in parameter_overrides of this stack in samconfig.toml, then run {REDEPLOY}")
}

fn set_queue(queue: &Queue, attribute: &str, value: &str) -> String {
    format!("aws sqs set-queue-attributes --queue-url {} --attributes '{{\"{attribute}\":\"{value}\"}}'", queue.url)
}

// ---- queues ------------------------------------------------------------------------------------------------------------

fn queues(deployed: &Deployed, checks: &mut Checks) {
    let queue = part(&deployed.queue);
    let wired = both(queue.clone(), part(&deployed.dead_letter_queue));
    checks.add("the queue moves a message to the dead-letter queue after six receives", wired, |(queue, dead)| {
        let expected = (dead.arn.clone(), limits::MAX_RECEIVES);
        unless(queue.redrive.as_ref() == Some(&expected), || Finding {
            is: match &queue.redrive {
                None => "it moves no message".to_owned(),
                Some((arn, receives)) => format!("it moves a message to {arn} after {receives} receives"),
            },
            why: "ingest spreads six receives over an hour. With fewer, an outage makes good messages dead letters; with more, or \
                  without the queue, a message that is never accepted is received again and again until SQS deletes it",
            fix: set_queue(
                queue,
                "RedrivePolicy",
                &format!(r#"{{\"deadLetterTargetArn\":\"{}\",\"maxReceiveCount\":{}}}"#, expected.0, expected.1),
            ),
        })
    });
    let ingest = &deployed.ingest;
    let timing = both(queue, both(part(&ingest.function), one_mapping(ingest)));
    let name = "the visibility timeout is at least six times ingest's timeout, plus the batching window";
    checks.add(name, timing, |(queue, (function, mapping))| {
        let least = 6 * function.timeout + mapping.batching_window;
        unless(queue.visibility_timeout >= least, || Finding {
            is: format!("{} s; it must be at least {least} s", queue.visibility_timeout),
            why: "a message that becomes visible while ingest still has it is received twice, and uses up its six receives",
            fix: set_queue(queue, "VisibilityTimeout", &least.to_string()),
        })
    });
}

// ---- retention -----------------------------------------------------------------------------------------------------------

fn retention(deployed: &Deployed, checks: &mut Checks) {
    let queues = both(part(&deployed.queue), part(&deployed.dead_letter_queue));
    let name = "the dead-letter queue keeps messages for longer than the queue";
    checks.add(name, queues.clone(), |(queue, dead)| {
        unless(dead.retention > queue.retention, || Finding {
            is: format!("{} days, and {} days", dead.retention / DAY, queue.retention / DAY),
            why: "a message keeps its age when it moves there: it could be deleted at once, before anybody has seen it",
            fix: set_queue(dead, "MessageRetentionPeriod", &(u64::from(limits::SQS_RETENTION_DAYS) * DAY).to_string()),
        })
    });
    let all = both(queues, part(&deployed.stream));
    checks.add("DONE notifications outlive every redelivery", all, |((queue, dead), stream)| {
        let in_sqs = queue.retention.max(dead.retention);
        let streams = u64::from(limits::DYNAMODB_STREAM_RETENTION_DAYS) * DAY + stream.retention_hours * 3_600;
        let days = (2 * in_sqs + streams).div_ceil(DAY);
        unless(u64::from(deployed.done_retention_days) >= days, || Finding {
            is: format!("they are kept for {} days, and a message can be delivered for {days}", deployed.done_retention_days),
            why: "an id that is forgotten while its message is still on its way is accepted again: its effect happens twice",
            fix: set_parameters(&format!("DoneRetentionDays={days}")),
        })
    });
    for (name, queue) in [("publisher", &deployed.publisher_failures), ("downstream", &deployed.downstream_failures)] {
        checks.add(format!("{name}'s failure queue keeps messages for 14 days"), part(queue), |queue| {
            let expected = u64::from(limits::SQS_RETENTION_DAYS) * DAY;
            unless(queue.retention == expected, || Finding {
                is: format!("{} days", queue.retention / DAY),
                why: "the messages say which records Lambda gave up on",
                fix: set_queue(queue, "MessageRetentionPeriod", &expected.to_string()),
            })
        });
    }
}

// ---- the table -----------------------------------------------------------------------------------------------------------

fn table(deployed: &Deployed, checks: &mut Checks) {
    let read = part(&deployed.table);
    checks.add("the table's stream has new and old images", read.clone(), |table| {
        let is_right = table.stream_view_type.as_deref() == Some("NEW_AND_OLD_IMAGES")
            && table.stream_arn.as_ref() == Some(&deployed.table_stream_arn);
        unless(is_right, || Finding {
            is: match (&table.stream_arn, &table.stream_view_type) {
                (Some(arn), Some(view)) => format!("{view}, {arn}"),
                _ => "it has no stream".to_owned(),
            },
            why: "publisher finds in the new image what to publish, and audits compare both; a new stream has another ARN, \
                  which publisher's mapping does not read",
            fix: redeploy(),
        })
    });
    for (name, keys) in INDEXES {
        checks.add(format!("the table has the index {name}"), read.clone(), |table| {
            let found = table.indexes.iter().find(|index| index.name == *name);
            unless(found.is_some_and(|index| index.is_active && index.keys == *keys), || Finding {
                is: match found {
                    None => "there is no such index".to_owned(),
                    Some(index) if !index.is_active => "it is not ACTIVE".to_owned(),
                    Some(index) => format!("its keys are {}", index.keys.join(" and ")),
                },
                why: "the sweep finds what is pending, FAILED or IN_DOUBT by the indexes: without them, nothing that was lost on \
                      its way is published again, and no alarm says so",
                fix: redeploy(),
            })
        });
    }
    checks.add("DONE notifications expire by expires_at", part(&deployed.time_to_live), |attribute| {
        unless(attribute.as_deref() == Some("expires_at"), || Finding {
            is: attribute
                .as_ref()
                .map_or_else(|| "nothing expires".to_owned(), |name| format!("items expire by {name}")),
            why: "without it, the table grows for ever; by another attribute, items could expire that are not DONE",
            fix: format!(
                "aws dynamodb update-time-to-live --table-name {} --time-to-live-specification \
                 Enabled=true,AttributeName=expires_at",
                table_name(deployed)
            ),
        })
    });
    checks.add("the table has point-in-time recovery", part(&deployed.point_in_time_recovery), |enabled| {
        unless(*enabled, || Finding {
            is: "it is disabled".to_owned(),
            why: "the table is the source of truth; without it, what is deleted by mistake is gone",
            fix: format!(
                "aws dynamodb update-continuous-backups --table-name {} --point-in-time-recovery-specification \
                 PointInTimeRecoveryEnabled=true",
                table_name(deployed)
            ),
        })
    });
    if deployed.production {
        checks.add("the table is protected against deletion", read, |table| {
            unless(table.deletion_protection, || Finding {
                is: "it is not, and the stack is for production".to_owned(),
                why: "nothing that is promised holds once the table is lost",
                fix: format!("aws dynamodb update-table --table-name {} --deletion-protection-enabled", table.name),
            })
        });
    }
}

fn table_name(deployed: &Deployed) -> &str {
    deployed.table.as_ref().map_or("TABLE", |table| &table.name)
}

// ---- functions -----------------------------------------------------------------------------------------------------------

fn function(deployed: &Deployed, stage: &Stage, checks: &mut Checks) {
    let Stage { name, function_name, .. } = stage;
    let function = part(&stage.function);
    checks.add(format!("{name} has its environment"), both(function.clone(), expected_variables(deployed, stage)), |(function, expected)| {
        let wrong: Vec<String> = expected
            .into_iter()
            .filter(|(variable, value)| function.variables.get(*variable) != Some(value))
            .map(|(variable, value)| format!("{variable} should be {value}"))
            .collect();
        unless(wrong.is_empty(), || Finding {
            is: wrong.join(", "),
            why: "the function reads or writes another table, queue or stream than the rest of the stack, or cannot start",
            fix: redeploy(),
        })
    });
    if *name == "downstream" {
        checks.add("downstream has the time that a webhook call may take", function.clone(), |function| {
            let least = (limits::WEBHOOK_TIMEOUT + limits::ACT_BEFORE_DEADLINE).as_secs() + 1;
            let is_webhook = function.variables.get("ACTION").is_some_and(|action| action == "webhook");
            unless(!is_webhook || function.timeout > least, || Finding {
                is: format!("its timeout is {} s; it must be longer than {least} s", function.timeout),
                why: "a call starts only if all the time that it may take is left",
                fix: format!("aws lambda update-function-configuration --function-name {function_name} --timeout 60"),
            })
        });
    }
    checks.add(format!("{name} logs its metrics"), function.clone(), |function| {
        let Function { log_format, log_level, .. } = function;
        unless(log_format == "JSON" && ["TRACE", "DEBUG", "INFO"].contains(&log_level.as_str()), || Finding {
            is: format!("its log format is {log_format}, its log level {log_level}"),
            why: "the metrics are log lines without a level; Lambda drops them at higher levels, and with them the alarms",
            fix: format!(
                "aws lambda update-function-configuration --function-name {function_name} --logging-config \
                 LogFormat=JSON,ApplicationLogLevel=INFO,SystemLogLevel=WARN,LogGroup={}",
                function.log_group
            ),
        })
    });
    let logs = both(function, part(&stage.log_retention_days));
    checks.add(format!("{name}'s logs are deleted some day"), logs, |(function, days)| {
        unless(days.is_some(), || Finding {
            is: "they are kept for ever".to_owned(),
            why: "their storage costs more every month",
            fix: format!(
                "aws logs put-retention-policy --log-group-name {} --retention-in-days 30",
                function.log_group
            ),
        })
    });
    checks.add(format!("{name}'s role allows what it needs"), permissions::missing(deployed, stage), |missing| {
        unless(missing.is_empty(), || Finding {
            is: format!("it does not allow {}", missing.join(", ")),
            why: "what the function may not do fails, and is retried until Lambda or SQS gives up",
            fix: redeploy(),
        })
    });
}

/// The environment variables that a function needs. Those that only a parameter determines are not compared.
fn expected_variables(deployed: &Deployed, stage: &Stage) -> Read<Vec<(&'static str, String)>> {
    let table = ("TABLE_NAME", part(&deployed.table)?.name.clone());
    Ok(match stage.name {
        "ingest" => vec![table, ("QUEUE_URL", part(&deployed.queue)?.url.clone())],
        "publisher" => vec![table, ("STREAM_NAME", part(&deployed.stream)?.name.clone())],
        _ => vec![table, ("DONE_RETENTION_DAYS", deployed.done_retention_days.to_string())],
    })
}

// ---- event source mappings -----------------------------------------------------------------------------------------------

/// The one mapping of a stage.
fn one_mapping(stage: &Stage) -> Read<&Mapping> {
    match part(&stage.mappings)?.as_slice() {
        [mapping] => Ok(mapping),
        mappings => Err(format!("{} has {} event source mappings", stage.name, mappings.len())),
    }
}

fn mapping(deployed: &Deployed, stage: &Stage, checks: &mut Checks) {
    let (name, function_name) = (stage.name, &stage.function_name);
    let source = match name {
        "ingest" => part(&deployed.queue).map(|queue| queue.arn.clone()),
        "publisher" => Ok(deployed.table_stream_arn.clone()),
        _ => part(&deployed.stream).map(|stream| stream.arn.clone()),
    };
    checks.add(
        format!("{name} has one event source mapping"),
        both(part(&stage.mappings), source),
        |(mappings, source)| {
            // With enhanced fan-out, the source is a consumer of the stream, whose ARN begins with that of the stream.
            let is_right = |mapping: &Mapping| {
                mapping.source_arn == source || mapping.source_arn.starts_with(&format!("{source}/consumer/"))
            };
            unless(mappings.len() == 1 && mappings.iter().all(is_right), || Finding {
                is: match mappings.as_slice() {
                    [] => "it has none".to_owned(),
                    mappings => {
                        let sources: Vec<&str> = mappings.iter().map(|mapping| mapping.source_arn.as_str()).collect();
                        format!("it has {}, from {}", mappings.len(), sources.join(" and "))
                    }
                },
                why: "nothing else invokes the function with what waits there",
                fix: redeploy(),
            })
        },
    );
    let update = |mapping: &Mapping, setting: &str| {
        format!("aws lambda update-event-source-mapping --uuid {} {setting}", mapping.uuid)
    };
    let mapping = one_mapping(stage);
    checks.add(format!("{name}'s mapping is enabled"), mapping.clone(), |mapping| {
        unless(mapping.state == "Enabled", || Finding {
            is: mapping.state.clone(),
            why: "what waits is not processed, and is lost from the queue or stream at the end of its retention",
            fix: format!("notifyctl resume {name} --stack {}", stage.stack_name),
        })
    });
    checks.add(format!("{name} reports failed records one by one"), mapping.clone(), |mapping| {
        unless(mapping.reports_batch_item_failures, || Finding {
            is: "its mapping has no ReportBatchItemFailures".to_owned(),
            why: "Lambda takes a batch in which some records failed as a success, and deletes or passes them: they are lost",
            fix: update(mapping, "--function-response-types ReportBatchItemFailures"),
        })
    });
    checks.add(format!("{name}'s mapping has the right filters"), mapping.clone(), |mapping| {
        let expected: &[&str] = if name == "publisher" { &[PUBLISHER_FILTER] } else { &[] };
        let parsed = |filter: &str| serde_json::from_str::<Value>(filter).ok();
        let is_right = mapping.filters.iter().map(|filter| parsed(filter)).eq(expected.iter().map(|filter| parsed(filter)));
        unless(is_right, || Finding {
            is: if mapping.filters.is_empty() { "it has none".to_owned() } else { mapping.filters.join(" and ") },
            why: if name == "publisher" {
                "with a narrower filter, notifications are not published; with a wider one, publisher is invoked for every change"
            } else {
                "Lambda deletes or passes what a filter does not match: those notifications are lost"
            },
            fix: if name == "publisher" {
                let filters = json!({"Filters": [{"Pattern": PUBLISHER_FILTER}]});
                update(mapping, &format!("--filter-criteria '{filters}'"))
            } else {
                update(mapping, "--filter-criteria '{}'")
            },
        })
    });
    if name != "ingest" {
        stream_mapping(deployed, stage, checks, update);
    }
    if name == "publisher" {
        checks.add("a run of the sweep that fails is not repeated", part(&deployed.sweep_retries), |retries| {
            unless(*retries == 0, || Finding {
                is: format!("it is repeated {retries} times"),
                why: "the next run follows soon anyway, and two runs at once compete for the lease",
                fix: format!(
                    "aws lambda put-function-event-invoke-config --function-name {function_name} \
                     --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60"
                ),
            })
        });
    }
}

/// The checks of a mapping from a stream.
fn stream_mapping(deployed: &Deployed, stage: &Stage, checks: &mut Checks, update: impl Fn(&Mapping, &str) -> String) {
    let name = stage.name;
    let mapping = one_mapping(stage);
    let failures = if name == "publisher" { &deployed.publisher_failures } else { &deployed.downstream_failures };
    checks.add(format!("only their age ends the retries of {name}'s records"), mapping.clone(), |mapping| {
        unless(mapping.maximum_retry_attempts == -1, || Finding {
            is: format!("Lambda gives up after {} retries", mapping.maximum_retry_attempts),
            why: "nobody knows how fast Lambda retries, so a short outage could be enough to give up on everything",
            fix: update(mapping, "--maximum-retry-attempts -1"),
        })
    });
    checks.add(format!("a batch that kills {name} is split"), mapping.clone(), |mapping| {
        unless(mapping.bisects, || Finding {
            is: "it is not".to_owned(),
            why: "one record that kills the process would hold up all others of its batch until it is too old",
            fix: update(mapping, "--bisect-batch-on-function-error"),
        })
    });
    checks.add(
        format!("Lambda gives up on {name}'s records before the sweep publishes them again"),
        both(mapping.clone(), sweep_age(deployed)),
        |(mapping, sweep_age)| {
            let age = mapping.maximum_record_age;
            unless(u64::try_from(age).is_ok_and(|age| age < sweep_age), || Finding {
                is: if age < 0 {
                    "Lambda never gives up".to_owned()
                } else {
                    format!("after {age} s (MaximumRecordAge); the sweep publishes them after {sweep_age} s (SweepAge)")
                },
                why: "a sweep that publishes what Lambda still retries adds to the load: a backlog may never end",
                fix: set_parameters("MaximumRecordAge=2400 SweepAge=2700"),
            })
        },
    );
    checks.add(
        format!("Lambda reports the records of {name} that it gave up on"),
        both(mapping, part(failures)),
        |(mapping, queue)| {
            unless(mapping.on_failure_arn.as_ref() == Some(&queue.arn), || Finding {
                is: mapping.on_failure_arn.clone().unwrap_or_else(|| "there is no on-failure destination".to_owned()),
                why: "nothing says that records were given up; their alarm is not raised",
                fix: update(
                    mapping,
                    &format!(r#"--destination-config '{{"OnFailure":{{"Destination":"{}"}}}}'"#, queue.arn),
                ),
            })
        },
    );
}

/// The age at which the sweep publishes a notification again.
fn sweep_age(deployed: &Deployed) -> Read<u64> {
    let variables = &part(&deployed.publisher.function)?.variables;
    let age = variables.get("SWEEP_AGE_SECONDS").ok_or("publisher has no SWEEP_AGE_SECONDS")?;
    age.parse().map_err(|_| format!("publisher's SWEEP_AGE_SECONDS is {age}"))
}

// ---- the sweep -----------------------------------------------------------------------------------------------------------

fn sweep(deployed: &Deployed, checks: &mut Checks) {
    checks.add("the sweep runs every five minutes or more often", part(&deployed.sweep), |schedule| {
        let Schedule { rule, is_enabled, expression, .. } = schedule;
        let is_often = ["rate(1 minute)", "rate(2 minutes)", "rate(5 minutes)"].contains(&expression.as_str());
        unless(*is_enabled && is_often, || Finding {
            is: if *is_enabled { expression.clone() } else { "its schedule is disabled".to_owned() },
            why: "the sweep publishes again what was lost on its way, and counts what the alarms need",
            fix: if *is_enabled { redeploy() } else { format!("aws events enable-rule --name {rule}") },
        })
    });
    checks.add("the schedule of the sweep invokes publisher", part(&deployed.sweep), |schedule| {
        let is_sweep = |(arn, input): &(String, String)| {
            arn.ends_with(&format!(":function:{}", deployed.publisher.function_name))
                && serde_json::from_str::<Value>(input).ok() == Some(json!({"sweep": true}))
        };
        unless(schedule.targets.len() == 1 && schedule.targets.iter().all(is_sweep), || Finding {
            is: match schedule.targets.as_slice() {
                [] => "it invokes nothing".to_owned(),
                targets => {
                    targets.iter().map(|(arn, input)| format!("{arn} with {input}")).collect::<Vec<_>>().join(", ")
                }
            },
            why: "publisher recognises a run of the sweep by its input, {\"sweep\": true}",
            fix: redeploy(),
        })
    });
}

// ---- alarms --------------------------------------------------------------------------------------------------------------

fn alarms(deployed: &Deployed, checks: &mut Checks) {
    let alarms = part(&deployed.alarms);
    let names = |names: Vec<&str>| names.join(", ");
    checks.add(
        "every alarm of the stack exists",
        both(part(&deployed.missing_alarms), alarms.clone()),
        |(missing, alarms)| {
            unless(missing.is_empty() && !alarms.is_empty(), || Finding {
                is: if alarms.is_empty() {
                    "there are none".to_owned()
                } else {
                    format!("missing: {}", missing.join(", "))
                },
                why: "what it watches goes wrong unnoticed",
                fix: redeploy(),
            })
        },
    );
    checks.add("every alarm notifies somebody", alarms.clone(), |alarms| {
        let silent: Vec<&str> = alarms
            .iter()
            .filter(|alarm| !(alarm.notifies && alarm.actions_enabled))
            .map(|alarm| alarm.name.as_str())
            .collect();
        unless(silent.is_empty(), || Finding {
            is: format!("{} notify nobody: {}", silent.len(), names(silent.clone())),
            why: "an alarm that nobody hears changes nothing",
            fix: set_parameters("AlarmTopicArn=TOPIC_ARN"),
        })
    });
    for (state, name, why) in [
        ("ALARM", "no alarm is raised", "it needs the attention of an operator"),
        (
            "INSUFFICIENT_DATA",
            "every alarm has data",
            "in a new stack, wait for 15 minutes; after that, the sweep does not run, or cannot read an index",
        ),
    ] {
        checks.add(name, alarms.clone(), |alarms| {
            let found: Vec<&str> =
                alarms.iter().filter(|alarm| alarm.state == state).map(|alarm| alarm.name.as_str()).collect();
            unless(found.is_empty(), || Finding {
                is: format!("{state}: {}", names(found.clone())),
                why,
                fix: "docs/RUNBOOK.md has a section for each alarm".to_owned(),
            })
        });
    }
}

#[cfg(test)]
mod tests;
