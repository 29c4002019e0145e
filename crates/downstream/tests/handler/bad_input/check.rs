//! The rules for any input of downstream. The property tests and the fuzz target share them.

use crate::members::text_at;
use crate::refusals::check_named;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use downstream::Downstream;
use downstream::record::{Content, Record};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::testing::{Memory, TestClock};
use notification::{Deadline, Envelope, FailureKind, Invocation, NotificationId, Status, Timestamp};
use serde_json::json;
use serde_json::value::RawValue;

/// Any record: if it has a sequence number, it is read with its data byte for byte, and with its notification or the rule that
/// it breaks.
pub(crate) fn record(record: &RawValue) {
    let identifier = text_at(record.get(), &["kinesis", "sequenceNumber"]).filter(|id| !id.is_empty());
    let Ok(read) = Record::read(record) else {
        assert_eq!(identifier, None);
        return;
    };
    assert!(!read.sequence_number.as_str().is_empty());
    assert!(identifier.is_none_or(|identifier| identifier == read.sequence_number.as_str()));
    let data = text_at(record.get(), &["kinesis", "data"]).and_then(|data| STANDARD.decode(data).ok());
    // Members without names are read in their order; Kinesis sends none such.
    let value = serde_json::from_str::<serde_json::Value>(record.get());
    let has_no_names = value.is_ok_and(|record| record["kinesis"].is_array());
    assert!(has_no_names || data.is_some_and(|data| data == read.bytes()) || read.bytes() == record.get().as_bytes());
    match &read.content {
        Content::Notification(notification) => assert_eq!(notification.event().as_bytes(), read.bytes()),
        Content::Malformed { id, failure, .. } => {
            assert_eq!(failure.kind, FailureKind::Permanent);
            check_named(&failure.reason);
            assert!(id.as_ref().is_none_or(|id| NotificationId::parse(id.as_str()).is_ok()));
        }
    }
}

/// Any bytes as the data of a record: they are a notification, or are quarantined for an operator.
pub(crate) fn data(bytes: &[u8]) {
    let record = with_data("1", bytes);
    self::record(&record);
    assert_eq!(Record::read(&record).unwrap().bytes(), bytes);
}

/// Any batch: nothing is reported, because poison is quarantined and passed, and a good record among the others is DONE.
pub(crate) fn batch(mut envelope: Envelope) {
    const GOOD: &str = "the-good-neighbour";
    let poison: Result<Vec<Record>, _> = envelope.records.iter().map(|record| Record::read(record)).collect();
    if poison.iter().flatten().any(|record| record.id().is_some_and(|id| id.as_str() == GOOD)) {
        return;
    }
    let event = json!({"specversion": "1.0", "id": GOOD, "source": "s", "type": "t"}).to_string();
    let place = envelope.records.len() / 2;
    envelope.records.insert(place, with_data("1", event.as_bytes()));

    let memory = Memory::default().with(GOOD, Status::Init, &event);
    let downstream = Downstream::new(&memory, TestClock::at_millis(0), notification::MarkDone);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let invocation = Invocation { deadline: Deadline::at(Timestamp::MAX), request_id: "r".to_owned() };
    match (runtime.block_on(downstream.handle(envelope, invocation)), poison) {
        (Ok(response), Ok(poison)) => {
            assert_eq!(response, BatchResponse::default());
            assert!(memory.item(GOOD).is_some_and(|item| item.status == Status::Done));
            // The table has none of the others, so all are quarantined: one for each id, and each one without an id.
            for record in poison.iter().filter(|record| record.id().is_none()) {
                let item = memory.item(&format!("kinesis:{}:{}", record.shard, record.sequence_number.as_str()));
                assert!(item.is_some_and(|item| item.status == Status::Failed));
            }
            assert!(poison.is_empty() || memory.items().len() > 1);
        }
        (Err(MissingIdentifier), Err(MissingIdentifier)) => assert_eq!(memory.items().len(), 1),
        (response, poison) => panic!("{response:?} to {poison:?}"),
    }
}

fn with_data(sequence_number: &str, data: &[u8]) -> Box<RawValue> {
    let kinesis = json!({
        "sequenceNumber": sequence_number, "partitionKey": "k", "approximateArrivalTimestamp": 1.5,
        "data": STANDARD.encode(data),
    });
    let event_id = format!("shardId-000000000001:{sequence_number}");
    RawValue::from_string(json!({"eventID": event_id, "kinesis": kinesis}).to_string()).unwrap()
}
