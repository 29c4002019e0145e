//! Batches of records as each event source sends them.

use crate::subject::Function;
use event_source::payload;
use event_source::record::{KinesisRecord, QueueMessage, TableChange};
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

/// When all notifications were sent: 2025-11-22T10:00:00.123Z.
const SENT_AT: Timestamp = Timestamp::constant(1_763_805_600, 123_000_000);

/// When all of them were inserted. DynamoDB tells whole seconds.
const INSERTED_AT: Timestamp = Timestamp::constant(1_763_805_601, 0);

/// A batch for a function, as the JSON that it is invoked with.
pub(crate) fn batch(function: Function, size: usize) -> Vec<u8> {
    let record = match function {
        Function::Ingest => message,
        Function::Publisher => change,
        Function::Downstream | Function::Ledger => kinesis_record,
    };
    let records: Vec<Box<RawValue>> = (0..size).map(record).collect();
    payload(records.iter().map(|record| &**record)).into_bytes()
}

fn id(number: usize) -> String {
    format!("rfd-{number:06}")
}

/// The event of one notification: CloudEvents JSON.
fn event(number: usize) -> String {
    json!({
        "specversion": "1.0",
        "id": id(number),
        "source": "urn:example:orders",
        "type": "com.example.refund.requested",
        "time": "2026-11-22T10:00:00Z",
        "data": {"orderId": "42", "amount": "19.99", "currency": "EUR"},
    })
    .to_string()
}

fn message(number: usize) -> Box<RawValue> {
    QueueMessage {
        message_id: &format!("059f36b4-87a3-44ab-83d2-{number:012}"),
        receipt_handle: "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        body: &event(number),
        md5_of_body: "e4e68fb7bd0e697a0ae8f1bb342846b3",
        receive_count: 1,
        sent_at: SENT_AT,
        queue_arn: "arn:aws:sqs:us-east-1:123456789012:notifications",
    }
    .to_json()
}

fn change(number: usize) -> Box<RawValue> {
    let item = json!({
        "id": {"S": id(number)},
        "status": {"S": "INIT"},
        "event": {"S": event(number)},
        "source": {"S": "urn:example:orders"},
        "type": {"S": "com.example.refund.requested"},
        "received_at": {"S": "2026-11-22T10:00:01.000Z"},
        "pending_shard": {"N": "7"},
        "pending_since": {"S": "2026-11-22T10:00:01.000Z"},
    });
    TableChange {
        event_id: &format!("{number:032}"),
        event_name: "INSERT",
        sequence_number: &sequence_number(number),
        changed_at: INSERTED_AT,
        keys: json!({"id": {"S": id(number)}}),
        new_image: Some(item),
        old_image: None,
        size_bytes: 512,
        view_type: "NEW_AND_OLD_IMAGES",
        is_expiry: false,
        stream_arn: "arn:aws:dynamodb:us-east-1:123456789012:table/notifications/stream/2026-11-22T09:00:00.000",
    }
    .to_json()
}

fn kinesis_record(number: usize) -> Box<RawValue> {
    KinesisRecord {
        shard: "shardId-000000000000",
        sequence_number: &sequence_number(number),
        partition_key: &id(number),
        data: event(number).as_bytes(),
        arrived_at: SENT_AT,
        role_arn: "arn:aws:iam::123456789012:role/downstream",
        stream_arn: "arn:aws:kinesis:us-east-1:123456789012:stream/notifications",
    }
    .to_json()
}

fn sequence_number(number: usize) -> String {
    format!("49590338271490256608559692538361571095921575989{number:09}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use notification::{Envelope, limits};

    fn records(function: Function) -> Envelope {
        serde_json::from_slice(&batch(function, 3)).unwrap()
    }

    #[test]
    fn each_function_reads_each_of_its_records_as_a_notification_of_its_own() {
        let of_ingest: Vec<_> = records(Function::Ingest)
            .records
            .iter()
            .map(|record| ingest::message::Message::read(record).unwrap().notification.unwrap().id().to_string())
            .collect();
        let of_publisher: Vec<_> = records(Function::Publisher)
            .records
            .iter()
            .map(|record| match publisher::record::Record::read(record).unwrap().image {
                publisher::record::Image::Init { id, .. } => id.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        let of_downstream: Vec<_> = records(Function::Downstream)
            .records
            .iter()
            .map(|record| match downstream::record::Record::read(record).unwrap().content {
                downstream::record::Content::Notification(notification) => notification.id().to_string(),
                malformed @ downstream::record::Content::Malformed { .. } => panic!("{malformed:?}"),
            })
            .collect();
        for ids in [of_ingest, of_publisher, of_downstream] {
            assert_eq!(ids, ["rfd-000000", "rfd-000001", "rfd-000002"]);
        }
    }

    #[test]
    fn rule_11_the_largest_batch_fits_into_an_invocation() {
        for function in Function::ALL {
            let largest = function.batches().iter().max().copied().unwrap();
            assert!(batch(function, largest).len() <= limits::LAMBDA_PAYLOAD_MAX_BYTES, "{function:?}");
        }
    }
}
