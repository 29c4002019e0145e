//! A backend that stores nothing. It answers as DynamoDB (JSON 1.0) and Kinesis (JSON 1.1) do, with a delay and failures if
//! asked to.

use crate::http::{Answer, Server};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

const THROTTLED: &str = "throttled on purpose";

/// How the backend behaves.
#[derive(Debug, Clone, Copy, Default, Serialize, clap::Args)]
pub(crate) struct Behaviour {
    /// Delay of each answer of the backend, in milliseconds
    #[arg(long = "latency", global = true, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,

    /// Percentage of calls that the backend throttles
    #[arg(long, global = true, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    throttled_calls: u8,

    /// Percentage of entries in a batch call that the backend throttles within a successful response; the straightforward
    /// functions make no such calls
    #[arg(long, global = true, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    throttled_entries: u8,
}

/// The requests that it got.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    /// Bytes of the requests: request line, headers and body.
    pub(crate) bytes: u64,
}

/// A running backend.
#[derive(Debug)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
    pub(crate) server: Server,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    counts: Mutex<Counts>,
    random: Mutex<fastrand::Rng>,
}

impl Backend {
    pub(crate) fn start(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        // The seed is fixed so that each round is throttled in the same way.
        let random = Mutex::new(fastrand::Rng::with_seed(1));
        let shared = Arc::new(Shared { behaviour, counts: Mutex::default(), random });
        let answering = Arc::clone(&shared);
        let server = Server::start(tls, move |request| Arc::clone(&answering).answer(request))?;
        Ok(Self { shared, server })
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let request_line = format!("{} {} HTTP/1.1\r\n\r\n", head.method, head.uri).len();
        let body = body.collect().await?.to_bytes();
        {
            let mut counts = lock(&self.counts);
            counts.calls += 1;
            counts.bytes += (request_line + headers + body.len()) as u64;
        }
        if self.behaviour.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.behaviour.latency_ms)).await;
        }
        let (status, answer) = if self.chance(self.behaviour.throttled_calls) {
            let kind = "ProvisionedThroughputExceededException";
            (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": THROTTLED}))
        } else {
            match answer(operation, &body, || self.chance(self.behaviour.throttled_entries)) {
                Some(answer) => (StatusCode::OK, answer),
                None => (StatusCode::BAD_REQUEST, json!({"__type": "ValidationException", "message": operation})),
            }
        };
        Ok(Response::builder().status(status).body(Full::from(answer.to_string()))?)
    }

    fn chance(&self, percent: u8) -> bool {
        percent > 0 && lock(&self.random).u8(0..100) < percent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer to a call; `None` if the call is unknown or cannot be parsed.
fn answer(operation: &str, body: &[u8], fails: impl FnMut() -> bool) -> Option<Value> {
    match operation {
        "BatchExecuteStatement" => {
            let failure = json!({"Error": {"Code": "ThrottlingError", "Message": THROTTLED}});
            let results = results(body, fails, &json!({"TableName": "notifications"}), &failure)?;
            Some(json!({ "Responses": results }))
        }
        "PutRecords" => {
            let number = "49590338271490256608559692538361571095921575989136580001";
            let put_record = json!({"SequenceNumber": number, "ShardId": "shardId-000000000000"});
            let failure = json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": THROTTLED});
            let results = results(body, fails, &put_record, &failure)?;
            let failed = results.iter().filter(|result| **result == failure).count();
            Some(json!({"FailedRecordCount": failed, "Records": results}))
        }
        "BatchGetItem" => got_items(body, fails),
        "PutItem" | "UpdateItem" | "TransactWriteItems" => Some(json!({})),
        _ => None,
    }
}

/// A result for each entry of a batch call.
fn results(body: &[u8], mut fails: impl FnMut() -> bool, success: &Value, failure: &Value) -> Option<Vec<Value>> {
    #[derive(Deserialize)]
    struct Call {
        #[serde(alias = "Records", alias = "Statements")]
        entries: Vec<IgnoredAny>,
    }
    let call: Call = serde_json::from_slice(body).ok()?;
    Some(call.entries.into_iter().map(|_| if fails() { failure.clone() } else { success.clone() }).collect())
}

/// The answer to a `BatchGetItem`: each item is INIT.
fn got_items(body: &[u8], mut fails: impl FnMut() -> bool) -> Option<Value> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Call {
        request_items: BTreeMap<String, Wanted>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wanted {
        keys: Vec<Map<String, Value>>,
    }
    let call: Call = serde_json::from_slice(body).ok()?;
    let (mut found, mut unprocessed) = (Map::new(), Map::new());
    for (table, wanted) in call.request_items {
        let (skipped, mut items): (Vec<_>, Vec<_>) = wanted.keys.into_iter().partition(|_| fails());
        for item in &mut items {
            item.insert("status".to_owned(), json!({"S": "INIT"}));
        }
        found.insert(table.clone(), json!(items));
        if !skipped.is_empty() {
            unprocessed.insert(table, json!({ "Keys": skipped }));
        }
    }
    Some(json!({"Responses": found, "UnprocessedKeys": unprocessed}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_as_many_results_as_its_call_has_entries() {
        let statements = json!({"Statements": [{"Statement": "a"}, {"Statement": "b"}]}).to_string();
        let answered = answer("BatchExecuteStatement", statements.as_bytes(), || false).unwrap();
        assert_eq!(answered["Responses"].as_array().unwrap().len(), 2);
        let records = json!({"StreamName": "s", "Records": [{"Data": ""}, {"Data": ""}, {"Data": ""}]}).to_string();
        let answered = answer("PutRecords", records.as_bytes(), || false).unwrap();
        assert_eq!((answered["Records"].as_array().unwrap().len(), &answered["FailedRecordCount"]), (3, &json!(0)));
        let keys = json!({"RequestItems": {"t": {"Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}]}}}).to_string();
        let answered = answer("BatchGetItem", keys.as_bytes(), || false).unwrap();
        assert_eq!(answered["Responses"]["t"][1], json!({"id": {"S": "b"}, "status": {"S": "INIT"}}));
    }

    #[test]
    fn entries_fail_within_an_answer_that_is_otherwise_successful() {
        let every_second = || {
            let mut number = 0;
            move || {
                number += 1;
                number % 2 == 0
            }
        };
        let statements = json!({"Statements": [1, 2, 3]}).to_string();
        let answered = answer("BatchExecuteStatement", statements.as_bytes(), every_second()).unwrap();
        assert!(answered["Responses"][0]["Error"].is_null());
        assert_eq!(answered["Responses"][1]["Error"]["Code"], "ThrottlingError");
        let records = json!({"Records": [1, 2, 3]}).to_string();
        let answered = answer("PutRecords", records.as_bytes(), every_second()).unwrap();
        assert_eq!(answered["FailedRecordCount"], 1);
        assert!(answered["Records"][1]["SequenceNumber"].is_null());
        let keys = json!({"RequestItems": {"t": {"Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}]}}}).to_string();
        let answered = answer("BatchGetItem", keys.as_bytes(), every_second()).unwrap();
        assert_eq!(answered["UnprocessedKeys"]["t"]["Keys"], json!([{"id": {"S": "b"}}]));
    }

    #[test]
    fn a_call_that_is_unknown_or_invalid_is_refused() {
        assert_eq!(answer("DeleteTable", b"{}", || false), None);
        assert_eq!(answer("PutRecords", b"{}", || false), None);
    }
}
