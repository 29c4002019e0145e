//! Whether the guarantee holds: what became of each notification that the page has sent to a local stack.

use super::Server;
use crate::error::Error;
use crate::stack::{Stack, items};
use crate::summary::queue;
use notification::{NotificationId, Status};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The notifications that the page has sent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    done: usize,
    /// Those that were not DONE when they were looked at last.
    others: BTreeSet<NotificationId>,
}

/// Not more than this number are watched at once; nothing is sent until some of them are DONE.
const WATCHED_MAX: usize = 10_000;

/// What became of all that were sent. `sent` is the sum of the others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Became {
    sent: usize,
    done: usize,
    /// INIT or CLAIMED.
    pending: usize,
    /// FAILED or IN_DOUBT.
    attention: usize,
    /// Not in the table yet: messages are in the queue, or are dead letters.
    queued: usize,
    /// Neither in the table nor can they be in a queue.
    lost: usize,
}

impl Kept {
    pub(crate) fn is_full(&self) -> bool {
        self.others.len() >= WATCHED_MAX
    }

    pub(crate) fn add(&mut self, sent: impl IntoIterator<Item = NotificationId>) {
        self.others.extend(sent);
    }

    /// Notes the statuses of those that were not DONE. `may_be_queued`: the queue or the dead-letter queue has messages.
    fn note(
        &mut self,
        looked_at: &[NotificationId],
        status: impl Fn(&NotificationId) -> Option<Status>,
        may_be_queued: bool,
    ) -> Became {
        let mut became = Became::default();
        for id in looked_at {
            match status(id) {
                Some(Status::Done) => self.done += usize::from(self.others.remove(id)),
                Some(Status::Init | Status::Claimed) => became.pending += 1,
                Some(Status::Failed | Status::InDoubt) => became.attention += 1,
                None if may_be_queued => became.queued += 1,
                None => became.lost += 1,
            }
        }
        let Became { pending, attention, queued, lost, .. } = became;
        Became { sent: self.done + pending + attention + queued + lost, done: self.done, ..became }
    }
}

/// Looks at those that were not DONE. A message that leaves the queue is then in the table or in the dead-letter queue, so the queue is
/// counted first and the dead-letter queue last.
pub(crate) async fn look(server: &Server) -> Result<Became, Error> {
    let Server { stack, kept, .. } = server;
    let looked_at: Vec<NotificationId> = kept.borrow().others.iter().cloned().collect();
    if looked_at.is_empty() {
        return Ok(kept.borrow_mut().note(&[], |_| None, false));
    }
    read(stack, kept, &looked_at).await
}

async fn read(stack: &Stack, kept: &RefCell<Kept>, looked_at: &[NotificationId]) -> Result<Became, Error> {
    let waiting = queue(stack, &stack.queue_url).await?;
    let found = items::read(stack, looked_at).await?;
    let dead = queue(stack, &stack.dead_letter_queue_url).await?;
    let status = |id: &NotificationId| found.get(id.as_str()).and_then(|item| item.status);
    Ok(kept.borrow_mut().note(looked_at, status, waiting.all() + dead.all() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NotificationId {
        NotificationId::parse(text).unwrap()
    }

    #[test]
    fn all_that_were_sent_are_accounted_for() {
        let mut kept = Kept::default();
        let ids = ["done", "init", "failed", "absent"].map(id);
        kept.add(ids.clone());
        let status = |id: &NotificationId| match id.as_str() {
            "done" => Some(Status::Done),
            "init" => Some(Status::Init),
            "failed" => Some(Status::Failed),
            _ => None,
        };
        let queued = kept.note(&ids, status, true);
        assert_eq!(queued, Became { sent: 4, done: 1, pending: 1, attention: 1, queued: 1, lost: 0 });
        let lost = kept.note(&ids[1..], status, false);
        assert_eq!(lost, Became { queued: 0, lost: 1, ..queued });
        // Looked at twice at once, by two pages: DONE is counted once.
        assert_eq!(kept.note(&ids, status, false).done, 1);
    }
}
