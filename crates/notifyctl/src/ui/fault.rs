//! Faults of a local stack. Its AWS has them on request (`local/faults.py`), at a path of its endpoint.

use super::Server;
use super::answer::Answer;
use crate::stack::Stack;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Where a local AWS takes requests for faults.
const PATH: &str = "/_faults";

/// A fault ends after this time, whether or not it has happened as often as was asked for.
const SECONDS: u32 = 60;

/// How long it may take to ask.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// The function dies after its next call has taken effect, and before it has the answer.
    KillIngest,
    KillPublisher,
    KillDownstream,
    /// The next calls of functions take effect, and their replies are lost.
    LoseReplies,
    /// The next calls are throttled.
    Throttle,
    /// The next calls are answered with 500.
    FailCalls,
    /// Nobody can read the table's stream, and so publisher gets nothing.
    StopTableStream,
    StartTableStream,
    /// Nobody can read the data stream, and so downstream gets nothing.
    StopDataStream,
    StartDataStream,
}

/// What the page asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    fault: Fault,
}

impl Fault {
    /// The request to the local AWS.
    fn request(self, stack: &Stack) -> Value {
        let (kind, calls, function) = match self {
            Self::KillIngest => ("killed", 1, &*stack.functions.ingest),
            Self::KillPublisher => ("killed", 1, &*stack.functions.publisher),
            Self::KillDownstream => ("killed", 1, &*stack.functions.downstream),
            Self::LoseReplies => ("unanswered", 5, ""),
            Self::Throttle => ("throttled", 50, ""),
            Self::FailCalls => ("failed", 50, ""),
            // More reads than there are in this time.
            Self::StopTableStream => ("table_stream", 1_000, ""),
            Self::StopDataStream => ("data_stream", 1_000, ""),
            Self::StartTableStream => ("table_stream", 0, ""),
            Self::StartDataStream => ("data_stream", 0, ""),
        };
        json!({"kind": kind, "calls": calls, "seconds": SECONDS, "function": function})
    }
}

/// Asks for a fault.
pub(crate) async fn cause(server: &Server, wish: &Wish) -> Result<Answer, Answer> {
    if !server.stack.is_local {
        return Err(Answer::problem(StatusCode::FORBIDDEN, "faults are for local stacks only"));
    }
    let request = wish.fault.request(&server.stack).to_string();
    match call(&server.stack, Some(request)).await {
        Some(report) => Ok(Answer::json(&report)),
        None => Err(Answer::problem(
            StatusCode::BAD_GATEWAY,
            "this local AWS makes no faults; `make up` starts one that does",
        )),
    }
}

/// For each kind of fault how often it has happened, and what is left of what was asked for. `None`: this AWS makes no faults.
pub(crate) async fn report(stack: &Stack) -> Option<Value> {
    if stack.is_local { call(stack, None).await } else { None }
}

async fn call(stack: &Stack, request: Option<String>) -> Option<Value> {
    let url = format!("{}{PATH}", stack.config.endpoint_url()?.trim_end_matches('/'));
    let client = reqwest::Client::new();
    let call = match request {
        Some(request) => client.post(url).body(request),
        None => client.get(url),
    };
    let answer = call.timeout(TIMEOUT).send().await.ok()?.error_for_status().ok()?;
    serde_json::from_str(&answer.text().await.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stack;

    #[tokio::test]
    async fn every_fault_has_an_end_and_a_stream_is_started_by_asking_for_no_more() {
        let stack = stack().await;
        let names = [
            "kill_ingest",
            "kill_publisher",
            "kill_downstream",
            "lose_replies",
            "throttle",
            "fail_calls",
            "stop_table_stream",
            "stop_data_stream",
        ];
        let request =
            |name: &str| serde_json::from_value::<Wish>(json!({"fault": name})).unwrap().fault.request(&stack);
        for name in names {
            let request = request(name);
            assert!(request["calls"].as_u64() > Some(0) && request["seconds"] == SECONDS, "{name}: {request}");
        }
        assert_eq!(request("start_table_stream")["calls"], 0);
        assert_eq!(request("start_data_stream")["kind"], request("stop_data_stream")["kind"]);
    }

    #[tokio::test]
    async fn a_stack_on_aws_has_no_faults() {
        let on_aws = Stack { is_local: false, ..stack().await };
        assert_eq!(report(&on_aws).await, None);
    }
}
