//! `notifyctl pause` and `notifyctl resume`: disable and enable the event source mapping of a stage.

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::after;
use aws::SystemClock;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sqs::types::QueueAttributeName;
use clap::{Args, ValueEnum};
use notification::{Clock, Timestamp, limits};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

const PAUSE_EXAMPLES: &str = "\
Examples:
  notifyctl pause downstream                               what would it mean?
  notifyctl pause downstream --yes                         the receiver is down for maintenance
  notifyctl resume downstream

Exit status: 0 paused, or shown; 2 the mapping could not be read or changed, or is not Disabled in time.";

const RESUME_EXAMPLES: &str = "\
Examples:
  notifyctl resume ingest
  notifyctl resume downstream --timeout 600

To continue an interrupted redrive, see `notifyctl redrive --resume FILE`.

Exit status: 0 it is Enabled; 2 the mapping could not be read or changed, or is not Enabled in time.";

/// Stop a stage: Lambda no longer reads its queue or stream (without --yes, show what that means)
///
/// Disables the stage's event source mapping. Batches that are being processed are finished. Everything else waits where it is;
/// the command says for how long, and what continues. Without --yes, nothing is changed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = PAUSE_EXAMPLES)]
pub(crate) struct PauseArgs {
    /// The stage
    stage: Stage,

    /// Pause the stage, instead of showing what that means
    #[arg(long)]
    yes: bool,

    /// Give up waiting for the mapping after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

/// Start a stage again, and wait until Lambda reads its queue or stream
///
/// Enables the stage's event source mapping. Lambda continues with the records that it had not read.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = RESUME_EXAMPLES)]
pub(crate) struct ResumeArgs {
    /// The stage
    stage: Stage,

    /// Give up waiting for the mapping after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

/// A function of the pipeline, with the event source mapping that invokes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// From the queue to the table
    Ingest,
    /// From the table's stream to Kinesis
    Publisher,
    /// From Kinesis to the action and DONE
    Downstream,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream => "downstream",
        }
    }

    fn function(self, stack: &Stack) -> &str {
        match self {
            Self::Ingest => &stack.functions.ingest,
            Self::Publisher => &stack.functions.publisher,
            Self::Downstream => &stack.functions.downstream,
        }
    }
}

pub(crate) async fn pause(stack: &Stack, args: &PauseArgs, json: bool) -> Result<ExitCode, Error> {
    let lambda = Client::new(&stack.config);
    let mapping = find(&lambda, args.stage.function(stack)).await?;
    let facts = facts(stack, &lambda, args.stage, &mapping).await?;
    let effects = effects(args.stage, &facts, SystemClock.now());
    let state = if args.yes {
        set(&lambda, &mapping, false, Duration::from_secs(args.timeout)).await?
    } else {
        mapping.state.clone().unwrap_or_default()
    };
    let name = args.stage.as_str();
    if json {
        output::json(&json!({
            "stage": name,
            "mapping": mapping.uuid,
            "state": state,
            "changed": mapping.state.as_ref() != Some(&state),
            "kept_for_seconds": facts.kept_for.as_secs(),
            "maximum_record_age_seconds": facts.maximum_record_age.map(|age| age.as_secs()),
            "sweep_age_seconds": facts.sweep_age.map(|age| age.as_secs()),
            "effects": effects,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!(
        "{name} of {} is {state} (mapping {})",
        stack.name,
        mapping.uuid.as_deref().unwrap_or_default()
    ));
    output::line(if args.yes { "While it is paused:" } else { "If it were paused:" });
    for effect in effects {
        output::line(format_args!("  - {effect}"));
    }
    if args.yes {
        output::line(format_args!("`notifyctl resume {name} --stack {}` starts it again", stack.name));
    } else {
        output::line(format_args!(
            "nothing was changed; `notifyctl pause {name} --yes --stack {}` pauses it",
            stack.name
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn resume(stack: &Stack, args: &ResumeArgs, json: bool) -> Result<ExitCode, Error> {
    let lambda = Client::new(&stack.config);
    let mapping = find(&lambda, args.stage.function(stack)).await?;
    let state = set(&lambda, &mapping, true, Duration::from_secs(args.timeout)).await?;
    let name = args.stage.as_str();
    if json {
        output::json(
            &json!({"stage": name, "mapping": mapping.uuid, "state": state, "changed": mapping.state.as_ref() != Some(&state)}),
        );
    } else {
        output::line(output::verdict(
            true,
            &format!("{name} of {} is {state}; `notifyctl summary` shows what waits", stack.name),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The one event source mapping of a function.
async fn find(lambda: &Client, function: &str) -> Result<EventSourceMappingConfiguration, Error> {
    one(mappings(lambda, function).await?, function)
}

fn one(
    mut mappings: Vec<EventSourceMappingConfiguration>,
    function: &str,
) -> Result<EventSourceMappingConfiguration, Error> {
    match (mappings.pop(), mappings.len()) {
        (Some(mapping), 0) => Ok(mapping),
        (None, _) => Err(Error::Failed(format!(
            "the function {function} has no event source mapping: deploy the template again, which creates it"
        ))),
        (Some(_), others) => Err(Error::Failed(format!(
            "the function {function} has {} event source mappings, and the template has one: see `aws lambda \
             list-event-source-mappings --function-name {function}`",
            others + 1
        ))),
    }
}

/// All event source mappings of a function.
pub(crate) async fn mappings(lambda: &Client, function: &str) -> Result<Vec<EventSourceMappingConfiguration>, Error> {
    let pages = lambda.list_event_source_mappings().function_name(function).into_paginator().items().send();
    pages.collect::<Result<_, _>>().await.map_err(Error::aws("ListEventSourceMappings"))
}

/// Enables or disables a mapping, and waits until it is so. Returns its state.
async fn set(
    lambda: &Client,
    mapping: &EventSourceMappingConfiguration,
    enabled: bool,
    timeout: Duration,
) -> Result<String, Error> {
    let wanted = if enabled { "Enabled" } else { "Disabled" };
    let uuid = mapping.uuid().unwrap_or_default();
    let mut state = mapping.state().unwrap_or_default().to_owned();
    if state != wanted {
        let update = lambda.update_event_source_mapping().uuid(uuid).enabled(enabled).send().await;
        state = update.map_err(Error::aws("UpdateEventSourceMapping"))?.state.unwrap_or_default();
    }
    let look = async || {
        SystemClock.sleep(limits::MAPPING_LOOK_EVERY).await;
        let read = lambda.get_event_source_mapping().uuid(uuid).send().await;
        Ok(read.map_err(Error::aws("GetEventSourceMapping"))?.state.unwrap_or_default())
    };
    wait(state, wanted, timeout, look).await
}

/// Looks at a state until it is the one that is wanted.
async fn wait(
    mut state: String,
    wanted: &str,
    timeout: Duration,
    look: impl AsyncFn() -> Result<String, Error>,
) -> Result<String, Error> {
    let bar = output::spinner("waiting");
    let deadline = after(SystemClock.now(), timeout);
    while state != wanted {
        if SystemClock.now() >= deadline {
            return Err(Error::Failed(format!(
                "the event source mapping is {state} and not yet {wanted}; run the command again to wait for longer"
            )));
        }
        bar.set_message(format!("{state} …"));
        bar.tick();
        state = look().await?;
    }
    bar.finish_and_clear();
    Ok(state)
}

/// What decides how long a stage may be paused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    /// How long the queue or the stream keeps what waits.
    kept_for: Duration,
    /// Lambda gives up on older records. `None`: it has no such limit, or the source is a queue.
    maximum_record_age: Option<Duration>,
    /// The sweep publishes what has been pending for longer. `None` if publisher has no such setting.
    sweep_age: Option<Duration>,
}

async fn facts(
    stack: &Stack,
    lambda: &Client,
    stage: Stage,
    mapping: &EventSourceMappingConfiguration,
) -> Result<Facts, Error> {
    let kept_for = match stage {
        Stage::Ingest => queue_retention(stack).await?,
        Stage::Publisher => Duration::from_hours(24 * u64::from(limits::DYNAMODB_STREAM_RETENTION_DAYS)),
        Stage::Downstream => kinesis_retention(stack).await?,
    };
    let publisher = lambda.get_function_configuration().function_name(&stack.functions.publisher).send().await;
    let publisher = publisher.map_err(Error::aws("GetFunctionConfiguration"))?;
    let variables = publisher.environment.and_then(|environment| environment.variables).unwrap_or_default();
    let age = mapping.maximum_record_age_in_seconds().and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Facts {
        kept_for,
        maximum_record_age: age.map(Duration::from_secs).filter(|_| stage != Stage::Ingest),
        sweep_age: variables.get("SWEEP_AGE_SECONDS").and_then(|age| age.parse().ok()).map(Duration::from_secs),
    })
}

async fn queue_retention(stack: &Stack) -> Result<Duration, Error> {
    let name = QueueAttributeName::MessageRetentionPeriod;
    let call = stack.sqs.get_queue_attributes().queue_url(&stack.queue_url).attribute_names(name.clone());
    let attributes = call.send().await.map_err(Error::aws("GetQueueAttributes"))?.attributes.unwrap_or_default();
    let seconds = attributes.get(&name).and_then(|seconds| seconds.parse().ok());
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| Error::Failed("SQS does not say how long the queue keeps messages".to_owned()))
}

async fn kinesis_retention(stack: &Stack) -> Result<Duration, Error> {
    let kinesis = aws_sdk_kinesis::Client::new(&stack.config);
    let call = kinesis.describe_stream_summary().stream_name(&stack.stream_name);
    let summary = call.send().await.map_err(Error::aws("DescribeStreamSummary"))?.stream_description_summary;
    let hours = summary.and_then(|summary| u64::try_from(summary.retention_period_hours()).ok());
    Ok(Duration::from_hours(hours.unwrap_or_default()))
}

/// What a pause means, in sentences.
fn effects(stage: Stage, facts: &Facts, now: Timestamp) -> Vec<String> {
    let kept = text(facts.kept_for);
    let until = after(now, facts.kept_for);
    let mut effects = vec![match stage {
        Stage::Ingest => format!(
            "messages wait in the queue for {kept}: SQS deletes one that is sent now at {until:.0}, older ones earlier. They are \
             then lost. QueueAgeAlarm is raised after an hour"
        ),
        Stage::Publisher => format!(
            "records wait in the table's stream for {kept}. No notification is lost: all of them are in the table as INIT"
        ),
        Stage::Downstream => {
            format!("records wait in Kinesis for {kept}. No notification is lost: all of them are in the table as INIT")
        }
    }];
    if stage == Stage::Ingest {
        effects
            .push("what is in the table already continues: publisher, downstream and the sweep still run".to_owned());
        return effects;
    }
    if let Some(age) = facts.maximum_record_age {
        let queue = if stage == Stage::Publisher { "PublisherFailuresAlarm" } else { "DownstreamFailuresAlarm" };
        effects.push(format!(
            "when the stage is resumed, Lambda gives up on records older than {} (MaximumRecordAge), which raises {queue}: \
             their notifications are left to the sweep",
            text(age)
        ));
    }
    if let Some(age) = facts.sweep_age {
        let age = text(age);
        effects.push(match stage {
            Stage::Publisher => format!(
                "the sweep is not paused: it publishes what has been pending for {age} (SweepAge), up to {} a second, so \
                 downstream still gets that",
                limits::SWEEP_PER_SECOND
            ),
            _ => format!(
                "the sweep is not paused: it publishes each notification again at the age of {age} (SweepAge) and at ages that \
                 double, at least every {}. The repeats wait in Kinesis, too, and find their work done",
                text(limits::SWEEP_AGAIN_WITHIN.max(facts.sweep_age.unwrap_or_default()))
            ),
        });
    }
    effects.push("OldestPendingAlarm is raised after an hour".to_owned());
    effects
}

/// A time in the largest unit that divides it: `7 days`, `40 minutes`, `90 seconds`.
fn text(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let largest =
        units.into_iter().find(|(unit, _)| seconds > *unit && seconds.is_multiple_of(*unit) || seconds == *unit);
    let (unit, name) = largest.unwrap_or((1, "second"));
    let number = seconds / unit;
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let minutes = Duration::from_mins;
        Facts { kept_for: minutes(24 * 60), maximum_record_age: Some(minutes(40)), sweep_age: Some(minutes(45)) }
    }

    fn mapping(state: &str) -> EventSourceMappingConfiguration {
        EventSourceMappingConfiguration::builder().uuid("u").state(state).build()
    }

    #[test]
    fn a_function_must_have_exactly_one_mapping() {
        let one = |states: &[&str]| {
            let found = one(states.iter().map(|state| mapping(state)).collect(), "f");
            found.map(|mapping| mapping.state.unwrap_or_default()).map_err(|error| error.to_string())
        };
        assert_eq!(one(&["Enabled"]), Ok("Enabled".to_owned()));
        assert!(one(&[]).unwrap_err().contains("has no event source mapping"));
        assert!(one(&["Enabled", "Disabled"]).unwrap_err().contains("has 2 event source mappings"));
    }

    #[tokio::test]
    async fn a_state_is_looked_at_until_it_is_the_one_that_is_wanted() {
        let states = std::cell::RefCell::new(vec!["Enabled", "Enabling", "Enabling"]);
        let look = async || Ok(states.borrow_mut().pop().unwrap_or_default().to_owned());
        let state = wait("Disabled".to_owned(), "Enabled", Duration::from_mins(5), look).await;
        assert_eq!(state.unwrap_or_default(), "Enabled");
        assert!(states.borrow().is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_with_an_error_that_says_the_state() {
        let look = async || Ok("Disabling".to_owned());
        let error = wait("Disabling".to_owned(), "Disabled", Duration::ZERO, look).await.unwrap_err().to_string();
        assert!(error.contains("is Disabling and not yet Disabled"), "{error}");
        let error =
            wait(String::new(), "Enabled", Duration::from_mins(5), async || Err(Error::Failed("no".into()))).await;
        assert_eq!(error.unwrap_err().to_string(), "no");
    }

    #[test]
    fn a_pause_of_ingest_loses_messages_at_the_end_of_the_queues_retention() {
        let facts = Facts { kept_for: Duration::from_hours(7 * 24), ..facts() };
        let effects = effects(Stage::Ingest, &facts, Timestamp::UNIX_EPOCH).join("\n");
        assert!(effects.contains("for 7 days: SQS deletes one that is sent now at 1970-01-08T00:00:00Z"), "{effects}");
        assert!(!effects.contains("MaximumRecordAge"), "{effects}");
    }

    #[test]
    fn a_pause_of_a_stream_names_what_lambda_gives_up_and_that_the_sweep_continues() {
        let of = |stage, facts: &Facts| effects(stage, facts, Timestamp::UNIX_EPOCH).join("\n");
        for (stage, alarm) in
            [(Stage::Publisher, "PublisherFailuresAlarm"), (Stage::Downstream, "DownstreamFailuresAlarm")]
        {
            let effects = of(stage, &facts());
            assert!(effects.contains("for 1 day") && effects.contains("older than 40 minutes"), "{effects}");
            assert!(effects.contains(alarm) && effects.contains("the sweep is not paused"), "{effects}");
            assert!(effects.contains("45 minutes (SweepAge)"), "{effects}");
        }
        assert!(of(Stage::Downstream, &facts()).contains("at least every 2 hours"));
        let unbounded = Facts { maximum_record_age: None, ..facts() };
        assert!(!of(Stage::Downstream, &unbounded).contains("gives up"));
    }

    #[test]
    fn times_are_in_the_largest_unit_that_divides_them() {
        for (seconds, expected) in [
            (604_800, "7 days"),
            (86_400, "1 day"),
            (7_200, "2 hours"),
            (2_400, "40 minutes"),
            (90, "90 seconds"),
            (0, "0 seconds"),
        ] {
            assert_eq!(text(Duration::from_secs(seconds)), expected);
        }
    }
}
