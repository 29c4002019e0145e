//! The rules for any input of ingest. The property tests and the fuzz target share them.

use crate::members::text_at;
use crate::refusals::check_named;
use ingest::Ingest;
use ingest::message::Message;
use notification::report::MissingIdentifier;
use notification::testing::{Memory, TestClock};
use notification::{Deadline, Envelope, FailureKind, Status, Timestamp};
use serde_json::json;
use serde_json::value::RawValue;

/// Any record: if it has a `messageId`, it is read with its body byte for byte, or refused by the rule that it breaks.
pub(crate) fn record(record: &RawValue) {
    let identifier = text_at(record.get(), &["messageId"]).filter(|id| !id.is_empty());
    let Ok(message) = Message::read(record) else {
        assert_eq!(identifier, None);
        return;
    };
    assert!(!message.message_id.as_str().is_empty());
    assert!(identifier.is_none_or(|identifier| identifier == message.message_id.as_str()));
    match &message.notification {
        Ok(notification) => {
            assert!(text_at(record.get(), &["body"]).is_none_or(|body| body == notification.event()));
        }
        Err(failure) => {
            assert_eq!(failure.kind, FailureKind::Permanent);
            check_named(&failure.reason);
        }
    }
}

/// Any text as the body of a message.
pub(crate) fn body(text: &str) {
    record(&raw(&json!({"messageId": "m", "body": text}).to_string()));
}

/// Any batch: every reported message was in it, and a good message among the others is in the table afterwards.
pub(crate) fn batch(mut envelope: Envelope) {
    const GOOD: &str = "the-good-neighbour";
    if envelope.records.iter().any(|record| record.get().contains(GOOD)) {
        return;
    }
    let event = json!({"specversion": "1.0", "id": GOOD, "source": "s", "type": "t"}).to_string();
    let place = envelope.records.len() / 2;
    envelope.records.insert(place, raw(&json!({"messageId": GOOD, "body": event}).to_string()));
    let identifiers: Result<Vec<_>, _> =
        envelope.records.iter().map(|record| Message::read(record).map(|message| message.message_id)).collect();

    let memory = Memory::default();
    let ingest = Ingest::new(&memory, &memory, TestClock::at_millis(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match (runtime.block_on(ingest.handle(envelope, Deadline::at(Timestamp::MAX))), identifiers) {
        (Ok(response), Ok(identifiers)) => {
            assert!(response.identifiers().all(|id| identifiers.iter().any(|known| known.as_str() == id)));
            assert!(response.identifiers().all(|id| id != GOOD));
            assert!(memory.item(GOOD).is_some_and(|item| item.status == Status::Init && item.event == event));
        }
        (Err(MissingIdentifier), Err(MissingIdentifier)) => assert!(memory.items().is_empty()),
        (response, identifiers) => panic!("{response:?} to {identifiers:?}"),
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}
