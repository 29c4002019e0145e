//! The index of pending notifications, the index of unresolved items, and the item that stores the state of the sweep.

use super::DynamoTable;
use super::item::{number, text, time};
use super::update::unresolved_partition;
use crate::classify;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue, Select};
use notification::id::SWEEP_CURSOR_ID;
use notification::ports::{
    IndexKey, Pass, PendingKey, PendingPage, PendingTable, ShardState, SweepState, UnresolvedCount,
};
use notification::{Failure, NotificationId, Status, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// The names of the indexes in the template.
const PENDING: &str = "pending";
const UNRESOLVED: &str = "unresolved";

type Item = HashMap<String, AttributeValue>;

impl PendingTable for DynamoTable {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        let start: Option<Item> = after.map(|after| {
            let key =
                [("id", text(&*after.id)), ("pending_shard", number(&shard)), ("pending_since", text(&*after.since))];
            key.map(|(name, value)| (name.to_owned(), value)).into()
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table_name)
            .index_name(PENDING)
            .key_condition_expression("pending_shard = :shard AND pending_since <= :until")
            .expression_attribute_values(":shard", number(&shard))
            .expression_attribute_values(":until", time(until))
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify::failure("Query", &error))?;
        let mut page = PendingPage {
            next: answer.last_evaluated_key().and_then(|item| index_key(item, "id", "pending_since")),
            read_units: read_units(answer.consumed_capacity()),
            ..PendingPage::default()
        };
        // The index has an entry for each item with these attributes, whoever wrote it.
        for entry in answer.items().iter().filter_map(|item| index_key(item, "id", "pending_since")) {
            match pending_key(&entry) {
                Some(key) => page.keys.push(key),
                None => page.invalid.push(entry),
            }
        }
        Ok(page)
    }

    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        let answer = self
            .client
            .query()
            .table_name(&self.table_name)
            .index_name(UNRESOLVED)
            .select(Select::Count)
            .key_condition_expression("unresolved_partition = :partition AND unresolved_since >= :since")
            .expression_attribute_values(":partition", text(unresolved_partition(status, shard)))
            .expression_attribute_values(":since", time(since))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify::failure("Query", &error))?;
        Ok(UnresolvedCount {
            count: usize::try_from(answer.count()).unwrap_or_default(),
            more: answer.last_evaluated_key().is_some_and(|key| !key.is_empty()),
            read_units: read_units(answer.consumed_capacity()),
        })
    }

    /// One conditional write takes the lease and returns the state. If its reply is lost, the SDK's retry finds the lease taken:
    /// then this run does nothing, and the lease expires.
    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.table_name)
            .key("id", text(SWEEP_CURSOR_ID))
            .update_expression("SET lease_until = :until")
            .condition_expression("attribute_not_exists(lease_until) OR lease_until <= :now")
            .expression_attribute_values(":until", time(lease_until))
            .expression_attribute_values(":now", time(now))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.attributes().map(state).unwrap_or_default())),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(None),
            Err(error) => Err(classify::failure("UpdateItem", &error)),
        }
    }

    /// The saved item has no lease, also if it was saved before and the reply was lost.
    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table_name)
            .set_item(Some(item(state)))
            .condition_expression("attribute_not_exists(lease_until) OR lease_until = :until")
            .expression_attribute_values(":until", time(lease_until));
        match put.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                Err(Failure::permanent("another run has the sweep's lease"))
            }
            Err(error) => Err(classify::failure("PutItem", &error)),
        }
    }
}

/// The key of an entry of the index. Both attributes are keys of type string, so an entry has them.
fn index_key(item: &Item, id: &str, since: &str) -> Option<IndexKey> {
    let attribute = |name: &str| Some(item.get(name)?.as_s().ok()?.as_str().into());
    Some(IndexKey { id: attribute(id)?, since: attribute(since)? })
}

fn pending_key(key: &IndexKey) -> Option<PendingKey> {
    Some(PendingKey { id: NotificationId::parse(&key.id).ok()?, since: key.since.parse().ok()? })
}

fn read_units(consumed: Option<&ConsumedCapacity>) -> f64 {
    consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or_default()
}

/// The item that stores a state: a map from the number of each partition to its state.
fn item(state: &SweepState) -> Item {
    let mut shards = Item::new();
    for (number, shard) in &state.shards {
        let mut entry = Item::new();
        let mut set = |name: &str, value: AttributeValue| entry.insert(name.to_owned(), value);
        if let Some(until) = shard.published_until {
            set("published_until", time(until));
        }
        if let Some(Pass { began, after, all_published }) = &shard.unfinished {
            set("began", time(*began));
            set("all_published", AttributeValue::Bool(*all_published));
            if let Some(IndexKey { id, since }) = after {
                set("after_id", text(&**id));
                set("after_since", text(&**since));
            }
        }
        shards.insert(number.to_string(), AttributeValue::M(entry));
    }
    let attributes = [
        ("id", text(SWEEP_CURSOR_ID)),
        ("next_shard", number(&state.next_shard)),
        ("shards", AttributeValue::M(shards)),
    ];
    attributes.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The state that an item stores. If a part is missing, the sweep publishes more than necessary, never less.
fn state(item: &Item) -> SweepState {
    let mut state = SweepState {
        next_shard: item.get("next_shard").and_then(|next| next.as_n().ok()?.parse().ok()).unwrap_or_default(),
        shards: BTreeMap::new(),
    };
    for (number, entry) in item.get("shards").and_then(|shards| shards.as_m().ok()).into_iter().flatten() {
        if let (Ok(number), Ok(entry)) = (number.parse(), entry.as_m()) {
            let shard = ShardState { published_until: time_of(entry, "published_until"), unfinished: pass(entry) };
            state.shards.insert(number, shard);
        }
    }
    state
}

fn pass(entry: &Item) -> Option<Pass> {
    let all_published = *entry.get("all_published")?.as_bool().ok()?;
    Some(Pass { began: time_of(entry, "began")?, after: index_key(entry, "after_id", "after_since"), all_published })
}

fn time_of(entry: &Item, name: &str) -> Option<Timestamp> {
    entry.get(name)?.as_s().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
    use aws_sdk_dynamodb::operation::query::QueryOutput;
    use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_smithy_mocks::{Rule, mock, mock_client};

    const SINCE: &str = "2026-11-22T10:00:00.000Z";

    fn table(rule: &Rule) -> DynamoTable {
        DynamoTable::new(mock_client!(aws_sdk_dynamodb, [rule]), "t".to_owned())
    }

    fn entry(id: &str, since: &str) -> Item {
        let attributes = [("id", text(id)), ("pending_shard", number(&7)), ("pending_since", text(since))];
        attributes.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn index_key(id: &str, since: &str) -> IndexKey {
        IndexKey { id: id.into(), since: since.into() }
    }

    #[tokio::test]
    async fn a_page_separates_notifications_from_invalid_entries_and_has_the_key_of_the_next() {
        let rule = mock!(Client::query)
            .match_requests(|request| {
                request.index_name() == Some("pending")
                    && request.exclusive_start_key() == Some(&entry("kinesis:before", "0"))
                    && request.limit() == Some(3)
            })
            .then_output(|| {
                QueryOutput::builder()
                    .set_items(Some(vec![entry("kinesis:x", SINCE), entry("a", SINCE), entry("b", "2026")]))
                    .set_last_evaluated_key(Some(entry("b", "2026")))
                    .consumed_capacity(ConsumedCapacity::builder().capacity_units(2.5).build())
                    .build()
            });
        let table = table(&rule);
        let after = index_key("kinesis:before", "0");
        let page = table.pending(7, Timestamp::MAX, Some(&after), 3).await.unwrap();
        assert_eq!(page.keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(page.invalid, [index_key("kinesis:x", SINCE), index_key("b", "2026")]);
        assert_eq!(page.next, Some(index_key("b", "2026")));
        assert_eq!(page.read_units.to_string(), "2.5");
    }

    #[tokio::test]
    async fn a_page_of_invalid_entries_still_leads_to_the_next() {
        let rule = mock!(Client::query).then_output(|| {
            let last = entry("kinesis:x", SINCE);
            QueryOutput::builder().items(last.clone()).set_last_evaluated_key(Some(last)).build()
        });
        let table = table(&rule);
        let page = table.pending(7, Timestamp::MAX, None, 1).await.unwrap();
        assert!(page.keys.is_empty());
        assert_eq!(page.next, Some(index_key("kinesis:x", SINCE)));
        assert_eq!(rule.num_calls(), 1, "one query a page");
    }

    #[tokio::test]
    async fn unresolved_items_are_counted_by_status_partition_and_time_without_reading_them() {
        let rule = mock!(Client::query)
            .match_requests(|request| {
                let values = request.expression_attribute_values().unwrap();
                request.index_name() == Some("unresolved")
                    && request.select() == Some(&Select::Count)
                    && values[":partition"] == text("FAILED#7")
                    && values[":since"] == text("1970-01-01T00:00:00.000Z")
            })
            .then_output(|| QueryOutput::builder().count(5).set_last_evaluated_key(Some(entry("a", SINCE))).build());
        let table = table(&rule);
        let counted = table.count_unresolved(Status::Failed, 7, Timestamp::UNIX_EPOCH, 5).await.unwrap();
        assert_eq!((counted.count, counted.more), (5, true));
    }

    #[tokio::test]
    async fn the_sweeps_lease_is_taken_if_it_is_free_and_returns_the_state() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (now, until) = (at(SINCE), at("2026-11-22T10:01:10.000Z"));
        let rule = mock!(Client::update_item)
            .match_requests(|request| {
                let values = request.expression_attribute_values().unwrap();
                request.key().unwrap()["id"] == text("sweep:cursor")
                    && request.condition_expression()
                        == Some("attribute_not_exists(lease_until) OR lease_until <= :now")
                    && (&values[":now"], &values[":until"]) == (&text(SINCE), &text("2026-11-22T10:01:10.000Z"))
            })
            .sequence()
            .output(|| {
                let state = SweepState { next_shard: 7, ..SweepState::default() };
                UpdateItemOutput::builder().set_attributes(Some(item(&state))).build()
            })
            .error(|| {
                UpdateItemError::ConditionalCheckFailedException(ConditionalCheckFailedException::builder().build())
            })
            .build();
        let table = table(&rule);
        let begin = || table.begin_sweep(now, until);
        assert_eq!(begin().await.unwrap().unwrap().next_shard, 7);
        assert_eq!(begin().await.unwrap(), None, "another run has it");
    }

    #[tokio::test]
    async fn the_state_is_saved_only_under_its_own_lease_and_that_releases_the_lease() {
        let until: Timestamp = SINCE.parse().unwrap();
        let rule = mock!(Client::put_item)
            .match_requests(|request| {
                request.condition_expression() == Some("attribute_not_exists(lease_until) OR lease_until = :until")
                    && request.expression_attribute_values().unwrap()[":until"] == text(SINCE)
                    && !request.item().unwrap().contains_key("lease_until")
            })
            .sequence()
            .output(|| PutItemOutput::builder().build())
            .error(|| PutItemError::ConditionalCheckFailedException(ConditionalCheckFailedException::builder().build()))
            .build();
        let table = table(&rule);
        let end = || async { table.end_sweep(&SweepState::default(), until).await };
        assert_eq!(end().await, Ok(()));
        assert!(end().await.unwrap_err().reason.contains("another run"));
    }

    #[test]
    fn a_saved_state_is_read_back() {
        let began = Timestamp::from_millisecond(1_763_805_600_123).unwrap();
        let pass = |after| Some(Pass { began, after, all_published: false });
        let shards = BTreeMap::from([
            (0, ShardState { published_until: Some(began), unfinished: None }),
            (12, ShardState { published_until: None, unfinished: pass(Some(index_key("kinesis:x\n", "0"))) }),
            (31, ShardState { published_until: Some(began), unfinished: pass(None) }),
        ]);
        let saved = SweepState { next_shard: 12, shards };
        assert_eq!(state(&item(&saved)), saved);
        assert_eq!(item(&saved)["id"], text("sweep:cursor"));
    }

    #[test]
    fn an_item_that_something_else_wrote_is_read_as_far_as_possible() {
        assert_eq!(state(&Item::new()), SweepState::default());
        let shards = AttributeValue::M(HashMap::from([
            ("x".to_owned(), AttributeValue::M(Item::new())),
            ("3".to_owned(), AttributeValue::Bool(true)),
            ("4".to_owned(), AttributeValue::M(HashMap::from([("published_until".to_owned(), text("soon"))]))),
        ]));
        let read = state(&HashMap::from([("shards".to_owned(), shards), ("next_shard".to_owned(), text("4"))]));
        assert_eq!(read, SweepState { next_shard: 0, shards: BTreeMap::from([(4, ShardState::default())]) });
    }
}
