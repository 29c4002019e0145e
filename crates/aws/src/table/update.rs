//! One conditional change of an item, in two forms: as a PartiQL statement, and as an action of a transaction.

use super::item::{
    EARLIER_PUT_BACKS, FAILURES, LAST_FAILURE, PUT_BACK, UNKNOWN_CALL, number, shortened, since_attribute, text, time,
    times,
};
use aws_sdk_dynamodb::types::{self, AttributeValue, ReturnValuesOnConditionCheckFailure::AllOld};
use notification::change::{After, Before, Change, Claim, Run};
use notification::id::index_shard;
use notification::reason::{Note, Reason};
use notification::{Failure, NotificationId, Status, Timestamp};
use std::collections::HashMap;

/// The attributes that a notification has only while it is pending: the key of the index that the sweep reads.
const PENDING: [&str; 2] = ["pending_shard", "pending_since"];

/// The attributes that an item has only while it is FAILED or IN_DOUBT: the key of the index for alarms and operators.
const UNRESOLVED: [&str; 2] = ["unresolved_partition", "unresolved_since"];

/// The attributes that a notification has only while it is CLAIMED.
const CLAIM: [&str; 2] = ["owner", "lease_until"];

/// The attributes that an item must have or lack, and those that change.
#[derive(Debug)]
pub(super) struct Update {
    id: AttributeValue,
    expected: Vec<(&'static str, AttributeValue)>,
    absent: Vec<&'static str>,
    set: Vec<(&'static str, AttributeValue)>,
    removed: Vec<&'static str>,
}

impl Update {
    /// The update that makes a change. A DONE item expires after this many seconds.
    pub(super) fn of(change: &Change<'_>, at: Timestamp, done_retention_seconds: i64) -> Self {
        let (from, to) = (change.from(), change.to());
        let mut expected = Vec::with_capacity(3);
        expected.extend(from.status().map(|status| ("status", text(status.as_str()))));
        expected.extend(from.event().map(|event| ("event", text(event))));
        let mut absent = vec![];
        if let Before::Untouched(..) = from {
            absent.push(UNKNOWN_CALL);
        }
        if let Before::Untouched(_, run) | Before::Run(_, run) = from {
            match run {
                Run::Any => {}
                Run::First => absent.push(PUT_BACK),
                Run::PutBackAt(at) => expected.push((PUT_BACK, time(at))),
            }
        }
        if let Before::Since(status, since) = from {
            expected.extend(since_attribute(status).map(|attribute| (attribute, time(since))));
        }
        if let Before::Claim(claim) = from {
            expected.extend([("owner", text(&*claim.owner)), ("lease_until", time(claim.lease_until))]);
        }
        let mut removed = Vec::with_capacity(CLAIM.len() + PENDING.len());
        // Nothing changes from CLAIMED to CLAIMED.
        if from.status() == Some(Status::Claimed) {
            removed.extend(CLAIM);
        }
        if from.status().is_some_and(is_unresolved) && !is_unresolved(to.status()) {
            removed.extend(UNRESOLVED);
        }
        let mut set = Vec::with_capacity(5);
        set.push(("status", text(to.status().as_str())));
        match to {
            // An insert has its own statement.
            After::Inserted(_) => {}
            After::PutBack(earlier) => {
                set.extend(pending(change.id(), at));
                set.push((PUT_BACK, time(at)));
                if !earlier.is_empty() {
                    set.push((EARLIER_PUT_BACKS, times(earlier)));
                }
                // The operator knows what the calls did. A new run begins.
                removed.extend([UNKNOWN_CALL, "reason_code", LAST_FAILURE, FAILURES]);
            }
            After::UnknownCall(note) => {
                set.push((UNKNOWN_CALL, time(at)));
                set.extend(noted(note, at));
            }
            // After a released claim, the notification has been pending since the same time.
            After::Released(note) | After::Noted(note) => set.extend(noted(note, at)),
            After::Claimed(Claim { owner, lease_until }) => {
                set.extend([("owner", text(&**owner)), ("lease_until", time(*lease_until))]);
            }
            After::Done(outcome) => {
                set.extend([("done_at", time(at)), ("expires_at", number(&(at.as_second() + done_retention_seconds)))]);
                set.extend(outcome.map(|outcome| ("outcome", text(outcome.as_str()))));
                removed.extend(PENDING);
            }
            After::Failed(reason) | After::InDoubt(reason) => {
                let since = if to.status() == Status::Failed { "failed_at" } else { "in_doubt_at" };
                set.push((since, time(at)));
                set.extend(reason_attributes(reason));
                set.extend(unresolved(to.status(), change.id().as_str(), at));
                removed.extend(PENDING);
            }
        }
        Self { id: text(change.id().as_str()), expected, absent, set, removed }
    }

    /// As a PartiQL statement and its parameters.
    pub(super) fn statement(self, table_name: &str) -> (String, Vec<AttributeValue>) {
        // Long enough for the most frequent statements, so that the string does not grow.
        let mut statement = String::with_capacity(224 + table_name.len());
        statement.extend(["UPDATE \"", table_name, "\""]);
        for (name, _) in &self.set {
            statement.extend([" SET \"", name, "\" = ?"]);
        }
        for name in &self.removed {
            statement.extend([" REMOVE \"", name, "\""]);
        }
        statement.push_str(r#" WHERE "id" = ?"#);
        for (name, _) in &self.expected {
            statement.extend([" AND \"", name, "\" = ?"]);
        }
        for name in &self.absent {
            statement.extend([" AND \"", name, "\" IS MISSING"]);
        }
        let values = |pairs: Vec<(&'static str, AttributeValue)>| pairs.into_iter().map(|(_, value)| value);
        let parameters = values(self.set).chain([self.id]).chain(values(self.expected)).collect();
        (statement, parameters)
    }

    /// As an action of a transaction.
    pub(super) fn action(self, table_name: &str) -> Result<types::Update, Failure> {
        let value_count = self.set.len() + self.expected.len();
        let mut names = HashMap::with_capacity(value_count + self.removed.len());
        let mut values = HashMap::with_capacity(value_count);
        // Every name has a placeholder, because some of them are reserved words.
        let (mut set, mut expected) = (Vec::with_capacity(self.set.len()), Vec::with_capacity(self.expected.len()));
        for (kind, pairs, assigned) in [('n', self.set, &mut set), ('o', self.expected, &mut expected)] {
            for (name, value) in pairs {
                names.insert(format!("#{name}"), name.to_owned());
                values.insert(format!(":{kind}_{name}"), value);
                assigned.push(format!("#{name} = :{kind}_{name}"));
            }
        }
        let mut update = format!("SET {}", set.join(", "));
        let mut condition = expected.join(" AND ");
        for name in &self.absent {
            names.insert(format!("#{name}"), (*name).to_owned());
            condition.extend([" AND attribute_not_exists(#", name, ")"]);
        }
        for (place, name) in self.removed.iter().enumerate() {
            names.insert(format!("#{name}"), (*name).to_owned());
            update.extend([if place == 0 { " REMOVE #" } else { ", #" }, name]);
        }
        types::Update::builder()
            .table_name(table_name)
            .key("id", self.id)
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .map_err(|_| Failure::permanent("TransactWriteItems: an update lacks a part"))
    }
}

/// The attributes with a reason.
pub(super) fn reason_attributes(reason: Reason<'_>) -> [(&'static str, AttributeValue); 2] {
    [("reason", text(shortened(reason.text))), ("reason_code", text(reason.code.as_str()))]
}

/// The attributes with a note of a failure.
fn noted(note: Note<'_>, at: Timestamp) -> impl Iterator<Item = (&'static str, AttributeValue)> {
    let when = [(LAST_FAILURE, time(at)), (FAILURES, number(&note.failures))];
    reason_attributes(note.reason).into_iter().chain(when)
}

/// Whether an operator may have to look at an item with this status.
fn is_unresolved(status: Status) -> bool {
    matches!(status, Status::Failed | Status::InDoubt)
}

/// The attributes that put an item into the index of unresolved items.
pub(super) fn unresolved(status: Status, id: &str, since: Timestamp) -> [(&'static str, AttributeValue); 2] {
    let partition = unresolved_partition(status, index_shard(id));
    [("unresolved_partition", text(partition)), ("unresolved_since", time(since))]
}

/// The partition key of that index. Each status has partitions of its own: few items are IN_DOUBT, and many may be FAILED.
pub(super) fn unresolved_partition(status: Status, shard: u64) -> String {
    format!("{status}#{shard}")
}

/// The attributes that put a notification into the index of pending notifications.
pub(super) fn pending(id: &NotificationId, since: Timestamp) -> [(&'static str, AttributeValue); 2] {
    [("pending_shard", number(&id.pending_shard())), ("pending_since", time(since))]
}
