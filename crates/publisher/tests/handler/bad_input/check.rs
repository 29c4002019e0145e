//! The rules for any input of publisher. The property tests and the fuzz target share them.

use crate::members::text_at;
use crate::refusals::check_named;
use notification::report::{BatchResponse, MissingIdentifier};
use notification::testing::{Memory, TestClock};
use notification::{Deadline, Envelope, FailureKind, NotificationId, Timestamp};
use publisher::record::{Image, Record};
use publisher::sweep::Sweep;
use publisher::{InvocationError, Payload, Publisher, Response};
use serde_json::json;
use serde_json::value::RawValue;
use std::time::Duration;

/// Any record: if it has a sequence number, it is read with its event byte for byte, or refused by the rule that it breaks.
pub(crate) fn record(record: &RawValue) {
    let identifier = text_at(record.get(), &["dynamodb", "SequenceNumber"]).filter(|id| !id.is_empty());
    let Ok(read) = Record::read(record) else {
        assert_eq!(identifier, None);
        return;
    };
    assert!(!read.sequence_number.as_str().is_empty());
    assert!(identifier.is_none_or(|identifier| identifier == read.sequence_number.as_str()));
    let image = |name| text_at(record.get(), &["dynamodb", "NewImage", name, "S"]);
    match &read.image {
        Image::Init { id, event } => {
            assert!(image("id").is_none_or(|text| text == id.as_str()));
            assert!(!event.is_empty() && image("event").is_none_or(|text| text == *event));
        }
        Image::Other => {}
        Image::Unpublishable(failure) => {
            assert_eq!(failure.kind, FailureKind::Permanent);
            check_refusal(&failure.reason);
        }
    }
}

/// A refusal is a known text, and quotes nothing but the id.
fn check_refusal(reason: &str) {
    let of_an_id = reason.strip_prefix("the image of ").and_then(|rest| rest.strip_suffix(" has no event"));
    match of_an_id {
        Some(id) => assert!(NotificationId::parse(id).is_ok()),
        None if reason == "the image has no id" => {}
        None => check_named(reason),
    }
}

/// Any bytes as an invocation payload: nothing is reported, because bad records can never be published, and a good record
/// among the others is published.
pub(crate) fn invocation(bytes: &[u8]) {
    const GOOD: &str = "the-good-neighbour";
    let event = match serde_json::from_slice::<Payload>(bytes) {
        Ok(event) => event,
        // Invalid JSON is refused with the position of its first error.
        Err(refusal) => {
            let named = refusal.to_string() == InvocationError::UnknownPayload.to_string();
            assert!(named || !refusal.is_data(), "{refusal}");
            return;
        }
    };
    if let Ok(Response::Batch(response)) = handle(event).0 {
        assert_eq!(response, BatchResponse::default());
        let Ok(Envelope { records }) = serde_json::from_slice(bytes) else { return };
        if records.iter().any(|record| record.get().contains(GOOD)) {
            return;
        }
        let mut records: Vec<String> = records.iter().map(|record| record.get().to_owned()).collect();
        records.insert(records.len() / 2, init(GOOD, "its event"));
        let event = serde_json::from_str(&format!(r#"{{"Records":[{}]}}"#, records.join(","))).unwrap();
        let (_, memory) = handle(event);
        assert!(memory.records().contains(&(GOOD.to_owned(), "its event".to_owned())));
    }
}

fn handle(event: Payload) -> (Result<Response, InvocationError>, Memory) {
    let memory = Memory::default();
    let publisher = Publisher::new(&memory, TestClock::at_millis(0));
    let sweep = Sweep::new(&memory, Duration::ZERO);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(publisher::handle(&publisher, &sweep, event, Deadline::at(Timestamp::MAX)));
    if let Err(error) = &response {
        let known = [MissingIdentifier.to_string(), InvocationError::UnknownPayload.to_string()];
        assert!(known.contains(&error.to_string()), "{error}");
        assert!(memory.records().is_empty());
    }
    (response, memory)
}

fn init(id: &str, event: &str) -> String {
    let image = json!({"id": {"S": id}, "status": {"S": "INIT"}, "event": {"S": event}});
    json!({
        "eventID": "e", "eventName": "INSERT", "awsRegion": "eu-central-1",
        "dynamodb": {"SequenceNumber": "1", "SizeBytes": 1, "Keys": {"id": {"S": id}}, "NewImage": image},
    })
    .to_string()
}
