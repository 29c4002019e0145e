//! Helpers for the tests of downstream: events, batches, and a run of the handler with its metrics.

#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "../../../notification/tests/telemetry/collect.rs"]
mod collect;

use collect::Telemetry;
use downstream::Downstream;
use notification::ports::DownstreamTable;
use notification::testing::{Memory, TestClock};
use notification::{Action, Deadline, Envelope, Invocation, Status, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// When each test begins, in milliseconds since the Unix epoch.
pub(crate) const START: i64 = 1_763_805_600_000;

/// A notification with this id.
pub(crate) fn event(id: &str) -> String {
    json!({"specversion": "1.0", "id": id, "source": "s", "type": "t"}).to_string()
}

/// A Kinesis record with these bytes.
pub(crate) fn record(sequence_number: usize, data: impl AsRef<[u8]>) -> Value {
    let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
    json!({
        "eventID": format!("shardId-0:{sequence_number}"),
        "kinesis": {"sequenceNumber": sequence_number.to_string(), "approximateArrivalTimestamp": 1.0, "data": data},
    })
}

/// A batch with a record for each id.
pub(crate) fn records<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    ids.into_iter().enumerate().map(|(n, id)| record(n, event(id))).collect()
}

/// The table with these notifications as INIT.
pub(crate) fn init<'a>(memory: Memory, ids: impl IntoIterator<Item = &'a str>) -> Memory {
    ids.into_iter().fold(memory, |memory, id| memory.with(id, Status::Init, &event(id)))
}

/// What one invocation reported, counted and logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handled {
    /// The reported sequence numbers.
    pub(crate) reported: Vec<String>,
    /// Its counters, without those that were not counted.
    pub(crate) counted: BTreeMap<String, u64>,
    /// Its latencies, by the names of their metrics.
    pub(crate) latencies: Vec<(String, u64)>,
    /// Its log lines.
    pub(crate) lines: Vec<String>,
}

impl Handled {
    pub(crate) fn count(&self, metric: &str) -> u64 {
        self.counted.get(metric).copied().unwrap_or(0)
    }
}

/// Handles a batch this many milliseconds after the start, with this many milliseconds left until the deadline.
pub(crate) async fn handle_for(
    table: impl DownstreamTable,
    action: impl Action,
    batch: &[Value],
    at_millis: i64,
    left_millis: i64,
) -> Handled {
    let telemetry = Telemetry::default();
    let _collecting = telemetry.collect();
    let envelope: Envelope = serde_json::from_str(&json!({"Records": batch}).to_string()).unwrap();
    let now = START + at_millis;
    let deadline = Deadline::at(Timestamp::from_millisecond(now + left_millis).unwrap());
    let request_id = format!("request-at-{at_millis}");
    let downstream = Downstream::new(table, TestClock::at_millis(now), action);
    let response = downstream.handle(envelope, Invocation { deadline, request_id }).await.unwrap();
    let is_latency = |(name, _): &(String, u64)| name.ends_with("ToDone");
    let (latencies, counted) = telemetry.metrics().into_iter().partition::<Vec<_>, _>(is_latency);
    Handled {
        reported: response.identifiers().map(str::to_owned).collect(),
        counted: counted.into_iter().collect(),
        latencies,
        lines: telemetry.lines(),
    }
}

/// Handles a batch at the start, with a minute left.
pub(crate) async fn handle(table: impl DownstreamTable, action: impl Action, batch: &[Value]) -> Handled {
    handle_for(table, action, batch, 0, 60_000).await
}

pub(crate) fn status(memory: &Memory, id: &str) -> Status {
    memory.item(id).unwrap().status
}
