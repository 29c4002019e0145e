//! What whole calls fail by.

use crate::items::{BEFORE, NOW, at, id, notification};
use crate::world::{name_of_this_run, sdk};
use aws::{DynamoTable, classify};
use aws_sdk_dynamodb::Client;
use notification::Change;
use notification::change::{After, Before, Commit};
use notification::ports::{DownstreamTable, NotCommitted, Orphan, PendingTable, SweepState, Table, TableReader};
use notification::report::Identifier;
use notification::{Effect, Failure, FailureKind, Status};

/// The one failure of an answer, whether it is the call's or its only entry's.
fn failure<T: std::fmt::Debug>(answers: Result<Vec<Result<T, Failure>>, Failure>) -> Failure {
    match answers {
        Ok(mut answers) => answers.remove(0).unwrap_err(),
        Err(failure) => failure,
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn without_its_table_every_call_fails_retryably_and_names_what_is_missing() {
    let table = DynamoTable::new(Client::new(&sdk().await), name_of_this_run());
    let (a, effect) = (id("a"), Effect::default());
    let sequence_number = Identifier::parse(Some("1")).unwrap();
    let change = Change { id: &a, from: Before::Status(Status::Init), to: After::Done(None) };
    let commit = Commit { id: &a, event: "{}", effect: &effect };
    let committed = match table.commit(&[commit], at(NOW)).await {
        Err(NotCommitted::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    };
    let failures = [
        failure(table.insert(&[&notification("a")], at(NOW)).await),
        failure(table.change(&[change], at(NOW)).await),
        failure(table.read(&[&a]).await),
        committed,
        table.keep(Orphan { shard: "s", sequence_number: &sequence_number, raw: b"" }, "", at(NOW)).await.unwrap_err(),
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

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_request_that_is_wrong_in_itself_fails_permanently() {
    let client = Client::new(&sdk().await);
    let call = client.execute_statement().statement("SELECT").send().await;
    let failure = classify::failure("ExecuteStatement", &call.unwrap_err());
    assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
}
