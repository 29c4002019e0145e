//! The model of AWS in the world: a request changes it, and its changes are handed on to the streams, to the index (a little
//! later), and to the items that the checks of every run look at.

use super::bugs::AdapterBug;
use super::request::Request;
use crate::aws::source::Source;
use crate::rng;
use crate::scenario::Scenario;
use crate::template::Deployed;
use crate::world::World;
use aws_model::dynamodb::{Change, Choices, Image, TwiceInBatch, TwiceInTransaction, text};
use aws_model::{Aws, DynamoDb, EntryFaults, Response, sqs};
use event_source::record::TableChange;
use jiff::Timestamp;
use notification::Put;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The names of the resources.
pub(super) const NOTIFICATIONS: &str = "notifications";
pub(super) const LEDGER: &str = "ledger";
pub(super) const STREAM: &str = "stream";

/// The model of AWS in a world.
#[derive(Debug)]
pub(crate) struct Cloud {
    aws: Aws,
    bug: Option<AdapterBug>,
    /// The calls that took effect, by the SDK's id for each.
    pub(super) seen: BTreeSet<String>,
    /// The retentions of DONE items that invocations began with, in seconds: a deployment may change it.
    pub(super) retentions: BTreeSet<u64>,
}

impl Cloud {
    /// The resources of the template, with nothing in them. The seed decides what AWS's documentation leaves open.
    pub(crate) fn new(scenario: &Scenario, deployed: &Deployed, bug: Option<AdapterBug>) -> Self {
        let mut rng = rng::of(scenario.seed, "choices");
        let twice_in_batch = [TwiceInBatch::Executed, TwiceInBatch::RefusedTooLate];
        let twice_in_transaction = [TwiceInTransaction::Refused, TwiceInTransaction::Canceled];
        let choices = Choices {
            duplicate_item_is_returned: rng.bool(),
            old_item_is_returned: !scenario.hides_old_items,
            item_twice_in_batch: twice_in_batch[usize::from(rng.bool())],
            item_twice_in_transaction: twice_in_transaction[usize::from(rng.bool())],
        };
        let mut aws = Aws { dynamodb: DynamoDb::new(choices), ..Aws::default() };
        aws.dynamodb.let_indexes_lag();
        let mut create = |target: &str, body: Value| {
            let body = body.to_string();
            let request = aws_model::Request { target, body: body.as_bytes() };
            let answer = aws.handle(request, Timestamp::UNIX_EPOCH, &|_| None);
            assert_eq!(answer.status, 200, "{}", answer.body);
        };
        for (name, definition) in [(NOTIFICATIONS, &deployed.table), (LEDGER, &deployed.ledger)] {
            let mut definition = definition.clone();
            definition["TableName"] = json!(name);
            create("DynamoDB_20120810.CreateTable", definition);
        }
        create("Kinesis_20131202.CreateStream", json!({"StreamName": STREAM, "ShardCount": 1}));
        Self { aws, bug, seen: BTreeSet::new(), retentions: BTreeSet::new() }
    }

    /// What the bug makes of a request.
    pub(super) fn break_request(&self, request: &mut Request) {
        if let Some(bug) = self.bug {
            bug.break_request(request);
        }
    }

    /// What the bug makes of an answer.
    pub(super) fn break_answer(&self, request: &Request, answer: &mut Response) {
        if let Some(bug) = self.bug {
            bug.break_answer(request, answer);
        }
    }
}

impl World {
    /// Lets a request take effect, and answers it.
    pub(super) fn take_effect(&mut self, request: &Request, faults: EntryFaults<'_>) -> Response {
        let body = request.body.to_string();
        let sent = aws_model::Request { target: &request.target, body: body.as_bytes() };
        if request.called() == "SQS" {
            return sqs::handle(sent, faults, |handle, wait| {
                self.hide_message(handle, wait).map_err(|_| sqs::Unchanged::NotInFlight)
            });
        }
        let now = self.now;
        let Some(cloud) = &mut self.cloud else { return Response::error(500, "InternalServerError", "no model") };
        let answer = cloud.aws.handle(sent, now, faults);
        self.note_answer(request, &answer);
        self.hand_on();
        answer
    }

    /// Checks that the model understands what the adapters send, and notes what it answers.
    fn note_answer(&mut self, request: &Request, answer: &Response) {
        if answer.body.contains("ValidationE") || answer.body.contains("SerializationE") {
            let operation = request.operation();
            self.violated(format!("the adapters send an invalid request: {operation}: {}", answer.body));
        }
        for (mark, note) in [
            ("DuplicateItem", "DynamoDB refuses an insert"),
            ("\"ConditionalCheckFailed\"", "DynamoDB refuses a change"),
            ("TransactionCanceledException", "a transaction is refused"),
            ("TransactionConflict", "transactions meet"),
            ("\"ErrorCode\"", "Kinesis refuses a record"),
        ] {
            if answer.body.contains(mark) {
                self.note(note);
            }
        }
        if request.operation() == "BatchGetItem" && !answer.body.contains("\"UnprocessedKeys\":{}") {
            self.note("DynamoDB leaves out a key");
        }
        if request.operation() == "UpdateItem" && answer.body.contains("ConditionalCheckFailedException") {
            self.note("a sweep leaves the work to another one");
        }
    }

    /// Hands on what changed.
    fn hand_on(&mut self) {
        let Some(cloud) = &mut self.cloud else { return };
        let changes = cloud.aws.dynamodb.take_changes();
        let records = cloud.aws.kinesis.take_records(STREAM);
        for Change { table, image } in changes {
            if table == LEDGER { self.ledger_changed(&image) } else { self.item_changed(image) }
        }
        for record in records {
            if self.kinesis.shards.count(&record.partition_key) > 0 {
                self.note("Kinesis has a notification twice");
            }
            self.put_record(&record.partition_key, &record.data);
        }
    }

    fn ledger_changed(&mut self, image: &Image) {
        let key = image.key.clone();
        if image.old.is_some() {
            self.violated(format!("the effect of {key} was overwritten"));
        }
        let event = image.new.as_ref().and_then(|entry| text(entry.get("event")?)).unwrap_or_default().to_owned();
        self.check_content(&key, &event);
        self.table.put(&Put { table: LEDGER.to_owned(), key: "id", attributes: vec![("id", key), ("event", event)] });
    }

    fn item_changed(&mut self, image: Image) {
        self.check_item(&image);
        self.check_rules(&image);
        let now = self.now;
        let is_removed = image.new.is_none();
        self.table_stream.shards.append(&image.key, now, |_, sequence_number| {
            let change = TableChange {
                event_id: sequence_number,
                event_name: match (&image.old, &image.new) {
                    (None, _) => "INSERT",
                    (Some(_), Some(_)) => "MODIFY",
                    (Some(_), None) => "REMOVE",
                },
                sequence_number,
                changed_at: now,
                keys: json!({"id": {"S": image.key}}),
                new_image: image.new.clone().map(Value::Object),
                old_image: image.old.clone().map(Value::Object),
                size_bytes: 1,
                view_type: "NEW_AND_OLD_IMAGES",
                is_expiry: is_removed,
                stream_arn: "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/s",
            };
            change.to_json()
        });
        let lag = Duration::from_millis(rng::numbered(self.scenario.seed, "lag", self.calls).u64(10..2_000));
        self.after(lag, move |world| {
            if let Some(cloud) = &mut world.cloud {
                cloud.aws.dynamodb.update_indexes(NOTIFICATIONS, &image.key);
            }
        });
        let expires_at = image.new.as_ref().and_then(|item| item.get("expires_at")?.get("N")?.as_str()?.parse().ok());
        let expires_at = expires_at.and_then(|seconds| Timestamp::from_second(seconds).ok());
        if let Some(at) = expires_at.filter(|_| self.scenario.runs_until_expiry) {
            self.at(at, World::let_items_expire);
        }
        self.look_at(Source::TableStream, now + Duration::from_millis(250));
        self.expect_sweep();
    }

    fn let_items_expire(&mut self) {
        let now = self.now;
        if let Some(cloud) = &mut self.cloud {
            cloud.aws.dynamodb.expire(NOTIFICATIONS, "expires_at", now);
        }
        self.hand_on();
    }
}
