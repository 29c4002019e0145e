//! Logs and metrics of the functions: JSON lines on standard output, where Lambda collects them.

use crate::environment::Environment;
use metrics_cloudwatch_embedded::Collector;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Namespace of the metrics in CloudWatch.
pub const NAMESPACE: &str = "AtomicNotification";

/// The metrics of this process. They are written in the embedded metric format, one line for each invocation.
#[derive(Clone, Copy)]
pub struct Metrics(&'static Collector);

impl Metrics {
    /// Writes what was counted since the last call, if anything was.
    pub fn flush(&self) {
        // Completed work must not fail because standard output is closed.
        let _ = self.0.flush(std::io::stdout());
    }
}

/// The format and level of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogSettings {
    json: bool,
    level: LevelFilter,
}

impl LogSettings {
    /// `AWS_LAMBDA_LOG_FORMAT` (JSON in Lambda unless it says Text) and `AWS_LAMBDA_LOG_LEVEL` (INFO unless it says
    /// otherwise). <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html>
    fn from(environment: &Environment) -> Self {
        let json = match environment.get("AWS_LAMBDA_LOG_FORMAT") {
            Some(format) => format.eq_ignore_ascii_case("json"),
            None => environment.get("AWS_LAMBDA_FUNCTION_NAME").is_some(),
        };
        let level = match environment.get("AWS_LAMBDA_LOG_LEVEL") {
            // Lambda has FATAL too, Rust does not.
            Some(level) if level.eq_ignore_ascii_case("fatal") => Level::ERROR,
            // By its name: the parser takes numbers too.
            Some(level) if level.starts_with(char::is_alphabetic) => level.parse().unwrap_or(Level::INFO),
            _ => Level::INFO,
        };
        Self { json, level: level.into() }
    }
}

/// Sets up logs, metrics and the panic hook of a function. Call it once, first.
///
/// # Errors
/// If it was called before.
pub fn init(environment: &Environment) -> Result<Metrics, Box<dyn std::error::Error + Send + Sync>> {
    let settings = LogSettings::from(environment);
    // Below INFO, the Lambda runtime and the SDK log whole payloads and requests. So only our own crates, which log no payload,
    // log at these levels.
    let ours = ["actions::", "downstream", "ingest", "publisher"];
    let others = Targets::new().with_default(settings.level.min(LevelFilter::INFO));
    let filter = ours.into_iter().fold(others, |targets, ours| targets.with_target(ours, settings.level));
    let lines = if settings.json {
        fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(true).boxed()
    } else {
        fmt::layer().with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;

    // The message of a panic may quote the payload; its location cannot.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));

    let function = environment.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or("local").to_owned();
    // A property and not a dimension: a second set of dimensions would be a second set of metrics (docs/decisions/0046-version-as-property.md).
    let version = environment.get("AWS_LAMBDA_FUNCTION_VERSION").unwrap_or("local").to_owned();
    let collector = metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace(NAMESPACE)
        .with_dimension("FunctionName", function)
        .init()?;
    collector.set_property("FunctionVersion", version).set_property("ServiceVersion", env!("CARGO_PKG_VERSION"));
    Ok(Metrics(collector))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], json: bool, level: LevelFilter) {
        assert_eq!(
            LogSettings::from(&variables.iter().copied().collect()),
            LogSettings { json, level },
            "{variables:?}"
        );
    }

    #[test]
    fn lambdas_log_settings_are_applied() {
        let function = ("AWS_LAMBDA_FUNCTION_NAME", "ingest");
        check(&[], false, LevelFilter::INFO);
        check(&[function], true, LevelFilter::INFO);
        check(&[function, ("AWS_LAMBDA_LOG_FORMAT", "Text")], false, LevelFilter::INFO);
        check(&[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "DEBUG")], true, LevelFilter::DEBUG);
        check(&[("AWS_LAMBDA_LOG_LEVEL", "fatal")], false, LevelFilter::ERROR);
        check(&[("AWS_LAMBDA_LOG_LEVEL", "loud")], false, LevelFilter::INFO);
        check(&[("AWS_LAMBDA_LOG_LEVEL", "5")], false, LevelFilter::INFO);
        check(&[("AWS_LAMBDA_LOG_LEVEL", "warn")], false, LevelFilter::WARN);
    }
}
