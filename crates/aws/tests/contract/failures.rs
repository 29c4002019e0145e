//! Failures of whole calls.

use crate::items::{BEFORE, NOW, at, id, notification};
use crate::world::{name_of_this_run, sdk};
use aws::{DynamoTable, classify};
use aws_sdk_dynamodb::Client;
use notification::change::Commit;
use notification::ports::{Answers, DownstreamTable, Orphan, PendingTable, SweepState, Table, TableReader};
use notification::report::Identifier;
use notification::{Change, Failure, FailureKind, Status};
use std::fmt::Debug;

/// The failure of a whole call, or of its only entry.
fn failure<T: Debug>(answers: Answers<T>) -> Failure {
    match answers {
        Ok(mut answers) => answers.remove(0).unwrap_err(),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn without_its_table_every_call_fails_retryably_and_names_the_missing_resource() {
    let table = DynamoTable::new(Client::new(&sdk().await), name_of_this_run());
    let (a, new) = (id("a"), notification("a"));
    let sequence_number = Identifier::parse(Some("1")).unwrap();
    let orphan = Orphan { shard: "s", sequence_number: &sequence_number, raw: b"" };
    let done = Change::done(&a, "{}", None);
    let failures = [
        failure(table.write(&[Change::insert(&new)], at(NOW)).await),
        failure(table.write(&[done], at(NOW)).await),
        failure(table.read(&[&a]).await),
        table.commit(&[Commit { change: done, puts: &[] }], at(NOW)).await.unwrap_err(),
        table.quarantine(orphan, "", at(NOW)).await.unwrap_err(),
        table.pending(0, at(NOW), None, 1).await.unwrap_err(),
        table.count_unresolved(Status::Failed, 0, at(NOW), 1).await.unwrap_err(),
        table.begin_sweep(at(BEFORE), at(NOW)).await.unwrap_err(),
        table.end_sweep(&SweepState::default(), at(NOW)).await.unwrap_err(),
    ];
    for failure in failures {
        assert_eq!(failure.kind, FailureKind::Retryable, "{failure}");
        assert!(failure.reason.contains("ResourceNotFound"), "{failure}");
    }
}

#[tokio::test]
async fn an_invalid_request_fails_permanently() {
    let client = Client::new(&sdk().await);
    let call = client.execute_statement().statement("SELECT").send().await;
    let failure = classify::failure("ExecuteStatement", &call.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
}
