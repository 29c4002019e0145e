//! A backend that stores nothing: answers of DynamoDB (JSON 1.0) and Kinesis (JSON 1.1) in the right shape, after a while
//! if so wished, some of them failures if so wished.

use crate::http::{self, Answer, Server, lock};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// How the backend behaves.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Behaviour {
    /// Milliseconds until an answer.
    pub(crate) latency_ms: u64,
    /// Percent of calls that are refused as a whole.
    pub(crate) throttled_calls: u8,
    /// Percent of entries that fail inside a 200.
    pub(crate) throttled_entries: u8,
}

/// What was asked of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) calls: BTreeMap<String, u64>,
    /// Bytes of the requests: request line, headers and body.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    in_flight: u64,
    pub(crate) most_in_flight: u64,
}

impl Counts {
    pub(crate) fn all_calls(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// A running backend.
#[derive(Debug)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    counts: Mutex<Counts>,
    random: Mutex<fastrand::Rng>,
}

impl Backend {
    pub(crate) fn start(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        // The same seed each time: every round meets the same throttling.
        let random = Mutex::new(fastrand::Rng::with_seed(1));
        let shared = Arc::new(Shared { behaviour, counts: Mutex::default(), random });
        let (connected, answering) = (Arc::clone(&shared), Arc::clone(&shared));
        let server = http::serve(
            tls,
            move || lock(&connected.counts).connections += 1,
            move |request| {
                let shared = Arc::clone(&answering);
                async move { shared.answer(request).await }
            },
        )?;
        Ok(Self { shared, server })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Ends it, and waits until all its connections are closed.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.shared.counts).clone()
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> hyper::Result<Answer> {
        let (head, body) = request.into_parts();
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let request_line = format!("{} {} HTTP/1.1\r\n\r\n", head.method, head.uri).len();
        let body = body.collect().await?.to_bytes();
        {
            let mut counts = lock(&self.counts);
            *counts.calls.entry(operation.clone()).or_default() += 1;
            counts.bytes += (request_line + headers + body.len()) as u64;
            counts.in_flight += 1;
            counts.most_in_flight = counts.most_in_flight.max(counts.in_flight);
        }
        if self.behaviour.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.behaviour.latency_ms)).await;
        }
        let (status, answer) = if self.chance(self.behaviour.throttled_calls) {
            let kind = "ProvisionedThroughputExceededException";
            (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": "throttled on purpose"}))
        } else {
            match answer(&operation, &body, || self.chance(self.behaviour.throttled_entries)) {
                Some(answer) => (StatusCode::OK, answer),
                None => (StatusCode::BAD_REQUEST, json!({"__type": "ValidationException", "message": operation})),
            }
        };
        lock(&self.counts).in_flight -= 1;
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = status;
        Ok(response)
    }

    fn chance(&self, percent: u8) -> bool {
        percent > 0 && lock(&self.random).u8(0..100) < percent
    }
}

/// The answer to a call; none where the call cannot be read.
fn answer(operation: &str, body: &[u8], mut fails: impl FnMut() -> bool) -> Option<Value> {
    match operation {
        "BatchExecuteStatement" => {
            #[derive(Deserialize)]
            #[serde(rename_all = "PascalCase")]
            struct Call {
                statements: Vec<IgnoredAny>,
            }
            let call: Call = serde_json::from_slice(body).ok()?;
            let error = || json!({"Code": "ThrottlingError", "Message": "throttled on purpose"});
            let response =
                |_| if fails() { json!({ "Error": error() }) } else { json!({"TableName": "notifications"}) };
            Some(json!({ "Responses": call.statements.into_iter().map(response).collect::<Vec<_>>() }))
        }
        "PutRecords" => {
            #[derive(Deserialize)]
            #[serde(rename_all = "PascalCase")]
            struct Call {
                records: Vec<IgnoredAny>,
            }
            let call: Call = serde_json::from_slice(body).ok()?;
            let mut failed = 0;
            let mut record = |_| {
                if fails() {
                    failed += 1;
                    let code = "ProvisionedThroughputExceededException";
                    return json!({"ErrorCode": code, "ErrorMessage": "throttled on purpose"});
                }
                put_record()
            };
            let records: Vec<_> = call.records.into_iter().map(&mut record).collect();
            Some(json!({"FailedRecordCount": failed, "Records": records}))
        }
        "BatchGetItem" => {
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
                let (skipped, items): (Vec<_>, Vec<_>) = wanted.keys.into_iter().partition(|_| fails());
                let item = |mut item: Map<String, Value>| {
                    item.insert("status".to_owned(), json!({"S": "INIT"}));
                    Value::Object(item)
                };
                found.insert(table.clone(), items.into_iter().map(item).collect());
                if !skipped.is_empty() {
                    unprocessed.insert(table, json!({ "Keys": skipped }));
                }
            }
            Some(json!({"Responses": found, "UnprocessedKeys": unprocessed}))
        }
        "PutItem" | "UpdateItem" | "TransactWriteItems" => Some(json!({})),
        _ => None,
    }
}

fn put_record() -> Value {
    json!({
        "SequenceNumber": "49590338271490256608559692538361571095921575989136580001",
        "ShardId": "shardId-000000000000",
    })
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
    fn entries_fail_inside_an_answer_that_is_otherwise_good() {
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
    fn a_call_that_is_unknown_or_cannot_be_read_is_refused() {
        assert_eq!(answer("DeleteTable", b"{}", || false), None);
        assert_eq!(answer("PutRecords", b"{}", || false), None);
    }
}
