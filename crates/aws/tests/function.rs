//! The process of a function: what it reads from its environment, what it tells Lambda, and what it writes to its log.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "process/lambda.rs"]
mod lambda;

use aws::{ConfigError, Function};
use aws_smithy_types::retry::RetryConfig;
use lambda::Process;
use notification::Invocation;
use serde_json::{Value, json};

/// The process that the tests start: it answers with what it knows, fails, or panics, as the event says.
#[test]
#[ignore = "the other tests start it as a process"]
fn process() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let function = Function::start().await?;
        let known = &function.clone();
        let handle = |event: Value, invocation: Invocation| async move {
            metrics::counter!("Handled").increment(3);
            tracing::info_span!("record", id = "rfd-1").in_scope(|| tracing::info!(reason = "it happens", "handled"));
            tracing::debug!(target: "ingest", "detail");
            tracing::debug!(target: "publisher::sweep", "detail");
            tracing::debug!(target: "downstream", "detail");
            tracing::debug!(target: "actions::webhook", "detail");
            tracing::debug!(target: "hyper", "detail");
            tracing::debug!(target: "aws_sdk_dynamodb", "detail");
            match event["then"].as_str() {
                Some("fail") => Err(ConfigError::wrong("NAME", "on purpose")),
                Some("panic") => panic!("quotes the payload"),
                _ => Ok(json!({
                    "event": event,
                    "deadline": invocation.deadline.time().to_string(),
                    "request": invocation.request_id,
                    "setting": known.environment().get("TABLE_NAME"),
                    "region": known.sdk().region().map(ToString::to_string),
                    "attempts": known.sdk().retry_config().map(RetryConfig::max_attempts),
                    "once": known.sdk_without_retries().retry_config().map(RetryConfig::max_attempts),
                })),
            }
        };
        function.serve(handle).await
    })
}

/// This process, as that one.
fn start() -> Process {
    let arguments = ["--exact", "process", "--ignored", "--nocapture", "--quiet"];
    Process::new(std::env::current_exe().unwrap()).arguments(&arguments).with("TABLE_NAME", "the-table")
}

fn no_call(operation: &str) -> Value {
    panic!("{operation}")
}

#[test]
fn a_handler_gets_its_event_deadline_and_request_id_and_its_answer_is_sent() {
    let invoked = start().invoke(&json!({"a": 1}), no_call);
    let expected = json!({
        "event": {"a": 1}, "deadline": "2100-01-01T00:00:00Z", "request": "the-request", "setting": "the-table",
        "region": "eu-central-1", "attempts": 3, "once": 1,
    });
    assert_eq!((invoked.kind.as_str(), invoked.answer), ("response", expected));
}

#[test]
fn the_metrics_of_an_invocation_are_one_line_in_the_embedded_format() {
    let invoked = start().invoke(&json!({}), no_call);
    assert_eq!(invoked.metric("Handled"), Some(3));
    let line = invoked.lines.iter().find(|line| line.get("_aws").is_some()).unwrap();
    assert_eq!(line["FunctionName"], "the-function");
    let version = (&line["FunctionVersion"], &line["ServiceVersion"]);
    assert_eq!(version, (&json!("1"), &json!(env!("CARGO_PKG_VERSION"))));
    let metrics = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(metrics["Dimensions"], json!([["FunctionName"]]), "the alarms are on this dimension alone");
    assert_eq!(
        (&metrics["Namespace"], &metrics["Metrics"][0]["Name"]),
        (&json!("AtomicNotification"), &json!("Handled"))
    );
}

#[test]
fn a_log_line_is_json_with_its_span_and_only_our_own_crates_log_below_info() {
    let lines = |level: &str| start().with("AWS_LAMBDA_LOG_LEVEL", level).invoke(&json!({}), no_call).lines;
    let with = |lines: &[Value], message: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["message"] == message).cloned().collect()
    };
    let info = lines("INFO");
    let handled = &with(&info, "handled")[0];
    assert_eq!((&handled["level"], &handled["reason"]), (&json!("INFO"), &json!("it happens")));
    let is_in_span = |span: &Value| (&span["name"], &span["id"]) == (&json!("record"), &json!("rfd-1"));
    assert!(handled["spans"].as_array().unwrap().iter().any(is_in_span), "{handled}");
    assert!(with(&info, "detail").is_empty());

    let debug = with(&lines("DEBUG"), "detail");
    let targets: Vec<_> = debug.iter().map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["ingest", "publisher::sweep", "downstream", "actions::webhook"]);
    assert!(with(&lines("ERROR"), "handled").is_empty());
}

#[test]
fn an_error_of_the_handler_is_sent_and_its_metrics_are_written() {
    let invoked = start().invoke(&json!({"then": "fail"}), no_call);
    assert_eq!(invoked.kind, "error");
    assert_eq!(invoked.answer["errorMessage"], "the environment variable NAME is invalid: on purpose");
    assert_eq!(invoked.metric("Handled"), Some(3));
}

#[test]
fn a_panic_is_logged_by_its_place_alone() {
    let invoked = start().invoke(&json!({"then": "panic"}), no_call);
    assert_eq!(invoked.kind, "error");
    let panicked: Vec<_> = invoked.lines.iter().filter(|line| line["message"] == "panicked").collect();
    let [line] = panicked[..] else { panic!("{:?}", invoked.lines) };
    assert!(line["place"].as_str().unwrap().contains("tests/function.rs:"), "{line}");
    assert!(!line.to_string().contains("quotes the payload"), "{line}");
}

#[test]
fn without_a_region_the_process_does_not_start() {
    let refusal = start().refusal_without("AWS_REGION");
    assert!(refusal.contains("the environment variable AWS_REGION is missing: the AWS region"), "{refusal}");
}
