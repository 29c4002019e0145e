//! At-most-once actions: a claim first, then the call, then DONE if the claim is still its own. Where nobody can tell
//! whether the call happened, the notification becomes IN_DOUBT and is never run again by itself.

use crate::idempotent::next;
use crate::record::{Content, Record};
use crate::settle::settled_before;
use crate::{Downstream, Invocation, Result, Settled};
use notification::ports::{After, Before, Change, Claim, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Effect, Failure, FailureKind, NotificationId, Status, limits};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn at_most_once(&self, records: &[&Record], invocation: Invocation<'_>) -> Vec<Result> {
        let claim = Claim {
            // Lambda may use a request id again for a repeat; with the time, no two invocations have the same owner.
            owner: format!("{}:{}", invocation.request_id, self.clock.now().as_nanosecond()).into(),
            lease_until: invocation.deadline.later(limits::LEASE_BEYOND_DEADLINE),
        };
        // A few at a time: what is claimed and not begun when the process dies is in doubt.
        let mut results = Vec::with_capacity(records.len());
        for batch in records.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
            results.extend(self.claim_and_act(batch, &claim, invocation.deadline).await);
        }
        results
    }

    async fn claim_and_act(&self, records: &[&Record], claim: &Claim, deadline: Deadline) -> Vec<Result> {
        let claimed = self.claim_all(records, claim, deadline).await;
        let mine: Vec<&Record> = records
            .iter()
            .zip(&claimed)
            .filter(|(_, claimed)| matches!(claimed, Ok(None)))
            .map(|(record, _)| *record)
            .collect();
        let acted = self.act_all(&mine, deadline).await;
        let mut settled = self.settle_mine(&mine, &acted, claim, deadline).await.into_iter();
        let result = |claimed| match claimed? {
            None => next(&mut settled),
            Some(settled) => Ok(settled),
        };
        claimed.into_iter().map(result).collect()
    }

    /// Claims notifications. `None`: it is ours. `Some`: it needs no call.
    async fn claim_all(&self, records: &[&Record], claim: &Claim, deadline: Deadline) -> Vec<Result<Option<Settled>>> {
        let ids: Vec<Result<&NotificationId>> = records
            .iter()
            .map(|record| match &record.content {
                Content::Notification(notification) => Ok(notification.id()),
                Content::Malformed { failure, .. } => Err(failure.clone()),
            })
            .collect();
        let changes: Vec<Change<'_>> = ids
            .iter()
            .flatten()
            .map(|id| Change { id, from: Before::Status(Status::Init), to: After::Claimed(claim) })
            .collect();
        let mut claimed = self.change_all(&changes, deadline.earlier(limits::ACT_BEFORE_DEADLINE)).await.into_iter();
        let mut results = Vec::with_capacity(records.len());
        for id in ids {
            let result = match id {
                Err(failure) => Err(failure),
                Ok(id) => match next(&mut claimed) {
                    Err(failure) => Err(failure),
                    Ok(None) => Ok(None),
                    Ok(Some(stored)) => self.not_claimed(id, &stored, claim, deadline).await,
                },
            };
            results.push(result);
        }
        results
    }

    /// What it means that a notification could not be claimed.
    async fn not_claimed(
        &self,
        id: &NotificationId,
        stored: &Stored,
        claim: &Claim,
        deadline: Deadline,
    ) -> Result<Option<Settled>> {
        match &stored.claim {
            // The reply to our own claim was lost, and no call was made since.
            Some(theirs) if theirs == claim => Ok(None),
            Some(theirs) if stored.status == Some(Status::Claimed) && theirs.lease_until <= self.clock.now() => {
                let reason = "its claim lapsed: the worker that had it ended during the call, or before or after it";
                let change = Change { id, from: Before::Claim(theirs), to: After::InDoubt(reason) };
                match next(&mut self.change_all(&[change], deadline).await.into_iter())? {
                    None => {
                        tracing::error!(%id, owner = &*theirs.owner, reason, "IN_DOUBT: an operator must resolve it");
                        Ok(Some(Settled::InDoubt))
                    }
                    Some(stored) => settled_before(&stored).map(Some),
                }
            }
            Some(theirs) if stored.status == Some(Status::Claimed) => {
                let until = theirs.lease_until;
                Err(Failure::retryable(format!("another worker has it, until {until:.3} at the latest")))
            }
            _ => settled_before(stored).map(Some),
        }
    }

    /// Settles what was claimed, by what the call came to: each only if the claim is still ours.
    async fn settle_mine(
        &self,
        records: &[&Record],
        acted: &[Result<Effect>],
        claim: &Claim,
        deadline: Deadline,
    ) -> Vec<Result> {
        let changes: Vec<Change<'_>> = records
            .iter()
            .zip(acted)
            .filter_map(|(record, acted)| {
                Some(Change { id: record.content.id()?, from: Before::Claim(claim), to: after(acted) })
            })
            .collect();
        let changed = self.change_all(&changes, deadline).await;
        let result = |((record, acted), changed): ((&&Record, &Result<Effect>), Result<Option<Stored>>)| {
            // Where the reply to our own write was lost, its repeat finds the notification as we left it.
            let ours = |stored: &Stored| stored.claim.is_none() && stored.status == Some(after(acted).status());
            if let Some(stored) = changed?.filter(|stored| !ours(stored)) {
                // Fenced: the claim is no longer ours.
                let status = stored.status.map_or("unknown", Status::as_str);
                if !matches!(after(acted), After::Init) {
                    record.span().in_scope(|| {
                        tracing::error!(
                            status,
                            "the call ended after its claim had lapsed; an operator must resolve it"
                        );
                    });
                }
                // Where it is pending still, somebody else has it: this record comes again, to see what becomes of it.
                return settled_before(&stored).map(|_| Settled::InDoubt);
            }
            match (after(acted).status(), acted) {
                (Status::Failed, Err(failure)) => {
                    record
                        .span()
                        .in_scope(|| tracing::error!(reason = %failure, "failed for good; the notification is FAILED"));
                    Ok(Settled::Failed)
                }
                (Status::InDoubt, Err(failure)) => {
                    record
                        .span()
                        .in_scope(|| tracing::error!(reason = %failure, "IN_DOUBT: an operator must resolve it"));
                    Ok(Settled::InDoubt)
                }
                (_, Err(failure)) => Err(failure.clone()),
                (_, Ok(_)) => Ok(Settled::Done),
            }
        };
        records.iter().zip(acted).zip(changed).map(result).collect()
    }
}

/// What a claimed notification becomes, by what its call came to.
fn after(acted: &Result<Effect>) -> After<'_> {
    match acted {
        Ok(effect) => After::Done(effect.outcome.as_ref()),
        Err(failure) => match failure.kind {
            FailureKind::Permanent => After::Failed(&failure.reason),
            // It surely did not happen: the claim is given back, and the record comes again.
            FailureKind::Retryable => After::Init,
            FailureKind::MayHaveHappened => After::InDoubt(&failure.reason),
        },
    }
}
