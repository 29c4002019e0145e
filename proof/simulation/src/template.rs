//! The settings of the deployment, read from `template.yaml`, so the simulation runs with what is deployed.

use event_source::settings::Settings;
use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The settings of the deployment that the simulation needs.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The queue's mapping.
    pub ingest: Settings,
    /// The mapping of the table's stream.
    pub publisher: Settings,
    /// The mapping of the Kinesis stream.
    pub downstream: Settings,
    /// The timeout of ingest.
    pub ingest_timeout: Duration,
    /// The timeout of publisher and downstream.
    pub stream_function_timeout: Duration,
    /// The queue's visibility timeout.
    pub visibility_timeout: Duration,
    /// How long the queue keeps messages.
    pub queue_retention: Duration,
    /// How long the dead-letter queue keeps messages.
    pub dead_letter_retention: Duration,
    /// Receives after which a message is a dead letter.
    pub max_receive_count: u32,
    /// How often the sweep runs.
    pub sweep_every: Duration,
    /// The age at which the sweep publishes a notification again.
    pub sweep_age: Duration,
    /// How long DONE items are kept.
    pub done_retention: Duration,
    /// How long Kinesis keeps records.
    pub kinesis_retention: Duration,
    /// The table of notifications, as `CreateTable` takes it.
    pub table: Value,
    /// The table of the included action `ledger`.
    pub ledger: Value,
    /// How long the table's stream keeps records: not a setting.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
    pub table_stream_retention: Duration,
}

/// The template cannot be read, or lacks a setting.
#[derive(Debug, thiserror::Error)]
#[error("template.yaml: {0}")]
pub struct WrongTemplate(String);

impl Deployed {
    /// Reads the project's template, with the defaults of its parameters.
    ///
    /// # Errors
    /// [`WrongTemplate`] says what is missing.
    pub fn read() -> Result<Self, WrongTemplate> {
        Self::parse(include_str!("../../../template.yaml"))
    }

    /// Reads a template.
    ///
    /// # Errors
    /// [`WrongTemplate`] says what is missing.
    pub fn parse(template: &str) -> Result<Self, WrongTemplate> {
        let wrong = |problem: &str| WrongTemplate(problem.to_owned());
        let documents = YamlOwned::load_from_str(template).map_err(|error| WrongTemplate(error.to_string()))?;
        let template = json(documents.first().ok_or_else(|| wrong("it is empty"))?);
        let resources = resolve(&template, &template["Resources"]);
        let at = |pointer: &str| {
            resources.pointer(pointer).cloned().ok_or_else(|| WrongTemplate(format!("{pointer} is missing")))
        };
        let number = |pointer: &str| number(pointer, &at(pointer)?);
        let seconds = |pointer: &str| number(pointer).map(Duration::from_secs);
        let stream = |pointer: &str| {
            Settings::of_stream(&at(pointer)?).map_err(|error| WrongTemplate(format!("{pointer}: {error}")))
        };
        Ok(Self {
            ingest: Settings::of_queue(&at("/Ingest/Properties/Events/Queue/Properties")?)
                .map_err(|error| WrongTemplate(error.to_string()))?,
            publisher: stream("/Publisher/Properties/Events/Table/Properties")?,
            downstream: stream("/Downstream/Properties/Events/Stream/Properties")?,
            ingest_timeout: seconds("/Ingest/Properties/Timeout")?,
            stream_function_timeout: seconds("/Downstream/Properties/Timeout")?,
            visibility_timeout: seconds("/Queue/Properties/VisibilityTimeout")?,
            queue_retention: seconds("/Queue/Properties/MessageRetentionPeriod")?,
            dead_letter_retention: seconds("/DeadLetterQueue/Properties/MessageRetentionPeriod")?,
            max_receive_count: number("/Queue/Properties/RedrivePolicy/maxReceiveCount")
                .and_then(|count| u32::try_from(count).map_err(|_| wrong("maxReceiveCount")))?,
            sweep_every: rate(&at("/Publisher/Properties/Events/Sweep/Properties/Schedule")?)
                .ok_or_else(|| wrong("the sweep's schedule is not a rate(…) in minutes"))?,
            sweep_age: seconds("/Publisher/Properties/Environment/Variables/SWEEP_AGE_SECONDS")?,
            done_retention: Duration::from_hours(
                24 * number("/Downstream/Properties/Environment/Variables/DONE_RETENTION_DAYS")?,
            ),
            kinesis_retention: Duration::from_hours(number("/Stream/Properties/RetentionPeriodHours")?),
            table: create_table(&at("/Table/Properties")?),
            ledger: create_table(&at("/LedgerTable/Properties")?),
            table_stream_retention: Duration::from_hours(24),
        })
    }
}

/// The properties of a table that `CreateTable` takes as well.
fn create_table(properties: &Value) -> Value {
    let names = ["AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "StreamSpecification"];
    let taken = names.into_iter().filter_map(|name| Some((name.to_owned(), properties.get(name)?.clone())));
    let mut table = Value::Object(taken.collect());
    if let Some(stream) = table.get_mut("StreamSpecification") {
        stream["StreamEnabled"] = json!(true);
    }
    table
}

/// A number, or text that is one.
fn number(pointer: &str, value: &Value) -> Result<u64, WrongTemplate> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_u64().or(text).ok_or_else(|| WrongTemplate(format!("{pointer} is not a number but {value}")))
}

/// `rate(1 minute)` or `rate(5 minutes)`. <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html>
fn rate(schedule: &Value) -> Option<Duration> {
    let (minutes, _) = schedule.as_str()?.strip_prefix("rate(")?.split_once(" minute")?;
    Some(Duration::from_mins(minutes.parse().ok()?))
}

/// YAML as JSON. CloudFormation's short forms become the long ones: `!Ref X` is `{"Ref": "X"}`.
fn json(yaml: &YamlOwned) -> Value {
    match yaml {
        YamlOwned::Value(ScalarOwned::Boolean(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::Integer(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::FloatingPoint(value)) => json!(value.into_inner()),
        YamlOwned::Value(ScalarOwned::String(value)) | YamlOwned::Representation(value, ..) => json!(value),
        YamlOwned::Sequence(values) => values.iter().map(json).collect(),
        YamlOwned::Mapping(entries) => {
            Value::Object(entries.iter().map(|(name, value)| (text(&json(name)), json(value))).collect())
        }
        YamlOwned::Tagged(tag, value) => {
            let name = match tag.suffix.trim_start_matches('!') {
                name @ ("Ref" | "Condition") => name.to_owned(),
                name => format!("Fn::{name}"),
            };
            json!({ name: json(value) })
        }
        _ => Value::Null,
    }
}

/// Resolves references to parameters with their defaults. Values that are known only after deployment, such as ARNs, stay as
/// they are.
fn resolve(template: &Value, value: &Value) -> Value {
    match value {
        Value::Object(object) if object.len() == 1 => {
            let Some((name, argument)) = object.iter().next() else { return value.clone() };
            let argument = resolve(template, argument);
            let part = |place: usize| argument.get(place).cloned().unwrap_or_default();
            match name.as_str() {
                "Ref" => {
                    let default = &template["Parameters"][text(&argument)]["Default"];
                    // CloudFormation converts text to a number where a property is one.
                    let number = default.as_str().and_then(|text| text.parse::<u64>().ok());
                    match default {
                        Value::Null => json!(format!("{argument}")),
                        default => number.map_or_else(|| default.clone(), Value::from),
                    }
                }
                "Fn::If" => {
                    let condition = &template["Conditions"][part(0).as_str().unwrap_or_default()];
                    let chosen = if holds(template, condition) { part(1) } else { part(2) };
                    if chosen == json!("\"AWS::NoValue\"") { Value::Null } else { chosen }
                }
                "Fn::FindInMap" => {
                    let key = |place: usize| text(&part(place));
                    template["Mappings"][key(0)][key(1)][key(2)].clone()
                }
                "Fn::GetAtt" | "Fn::Sub" => json!(text(&argument)),
                _ => json!({ name: argument }),
            }
        }
        Value::Object(object) => {
            let resolved = object.iter().map(|(name, value)| (name.clone(), resolve(template, value)));
            Value::Object(resolved.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        Value::Array(values) => values.iter().map(|value| resolve(template, value)).collect(),
        other => other.clone(),
    }
}

fn holds(template: &Value, condition: &Value) -> bool {
    let argument = |name: &str| condition.get(name).map(|argument| resolve(template, argument));
    if let Some(Value::Array(values)) = argument("Fn::Equals") {
        return values.first().map(text) == values.get(1).map(text);
    }
    let negated = condition.get("Fn::Not").and_then(|argument| argument.get(0));
    negated.is_some_and(|negated| !holds(template, negated))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_source::settings::StartingPosition;
    use notification::limits;

    #[test]
    fn the_simulated_settings_are_those_of_the_template() {
        let deployed = Deployed::read().unwrap();
        assert_eq!((deployed.ingest.batch_size, deployed.ingest.maximum_concurrency), (1000, Some(50)));
        assert_eq!(deployed.max_receive_count, limits::MAX_RECEIVES);
        assert_eq!(deployed.visibility_timeout, Duration::from_secs(190));
        assert!(deployed.publisher.filter.is_some() && deployed.downstream.filter.is_none());
        for settings in [&deployed.publisher, &deployed.downstream] {
            assert_eq!(settings.starting_position, StartingPosition::TrimHorizon);
            assert_eq!(settings.maximum_retry_attempts, None);
            assert_eq!(settings.parallelization_factor, 2);
            assert_eq!(settings.maximum_record_age, Some(Duration::from_mins(40)));
            assert!(settings.bisect_batch_on_function_error && settings.reports_batch_item_failures);
        }
        assert_eq!((deployed.sweep_every, deployed.sweep_age), (Duration::from_mins(1), limits::SWEEP_AGE_DEFAULT));
        assert_eq!(deployed.done_retention, Duration::from_hours(90 * 24));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Deployed::parse("Resources: {}").unwrap_err().to_string();
        assert!(error.contains("/Ingest/Properties/Events/Queue/Properties is missing"), "{error}");
    }
}
