//! A write whose reply is lost: the SDK repeats it, and the repeat changes nothing.

use crate::items::{BEFORE, COMMITTED, NOW, at, event, id, inserted, item, notification};
use crate::world::World;
use aws::DynamoTable;
use aws_sdk_dynamodb::config::ConfigBag;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodb::config::{Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::{Client, Config};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use notification::change::{After, Commit, Run};
use notification::ports::{DownstreamTable, Table, TableReader, Written};
use notification::testing::{NOTE, REJECTED};
use notification::{Change, Claim};
use std::sync::atomic::{AtomicU32, Ordering};

/// Replaces the first reply to a client with a 503.
#[derive(Debug, Default)]
struct FirstReplyLost(AtomicU32);

impl Intercept for FirstReplyLost {
    fn name(&self) -> &'static str {
        "FirstReplyLost"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            *context.response_mut() = HttpResponse::new(503.try_into()?, SdkBody::empty());
        }
        Ok(())
    }
}

/// The world's table, with a client whose first reply is lost.
fn table(world: &World) -> DynamoTable {
    let config = Config::from(&world.sdk).to_builder().interceptor(FirstReplyLost::default()).build();
    DynamoTable::new(Client::from_conf(config), world.table_name.clone())
}

#[tokio::test]
async fn the_repeat_of_an_insert_is_refused_as_a_duplicate() {
    let world = World::new().await;
    let a = notification("a");
    let answers = table(&world).write(&[Change::insert(&a)], at(BEFORE)).await.unwrap();
    assert!(matches!(answers[..], [Ok(Written::Refused(_) | Written::RefusedUnseen)]), "{answers:?}");
    assert_eq!(world.get("a").await, Some(inserted(&a)));
    assert_eq!(world.changes(["a"]).await[0].len(), 1);
}

#[tokio::test]
async fn the_repeat_of_a_change_is_refused_and_recognises_its_own_result() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    let claim = Claim { owner: "me".into(), lease_until: at(NOW) };
    let changes = [
        Change::done(&a, &event, None),
        Change::fail(&a, &event, Run::Any, REJECTED),
        Change::doubt(&a, &event, REJECTED),
        Change::claim(&a, &event, &claim),
    ];
    for change in changes {
        world.put([inserted(&notification("a"))]).await;
        let answers = table(&world).write(&[change], at(NOW)).await.unwrap();
        let [Ok(Written::Refused(stored))] = &answers[..] else { panic!("{answers:?}") };
        assert!(change.has_made(stored, at(NOW)), "{stored:?}");
        // A claim is recognised by its owner and lease, the other changes by their time.
        assert!(!change.has_made(stored, at(BEFORE)) || matches!(change.to(), After::Claimed(_)), "{stored:?}");
    }
}

#[tokio::test]
async fn the_repeat_of_a_note_of_an_unknown_call_is_made_and_changes_nothing() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    world.put([inserted(&notification("a"))]).await;
    let note = Change::note_unknown_call(&a, &event, NOTE);
    assert_eq!(table(&world).write(&[note], at(NOW)).await.unwrap(), [Ok(Written::Yes)]);
    let stored = world.table.read(&[&a]).await.unwrap().remove(0).unwrap().unwrap();
    assert!(note.has_made(&stored, at(NOW)), "{stored:?}");
    assert_eq!(world.changes(["a"]).await[0].len(), 2, "the put and one note");
}

/// The repeat carries the same token, so it is the same transaction.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
#[tokio::test]
async fn the_repeat_of_a_transaction_has_its_token_and_succeeds_without_another_write() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let puts = [world.new_effect(vec![("id", "a".to_owned())])];
    let commit = Commit { change: Change::done(a.id(), a.event(), None), puts: &puts };
    assert_eq!(table(&world).commit(&[commit], at(NOW)).await, Ok(vec![COMMITTED]));
    assert_eq!(world.effect("a").await, Some(item([("id", "a".to_owned())])));
    assert!(matches!(world.table.read(&[a.id()]).await.unwrap()[..], [Ok(Some(_))]));
    assert_eq!(world.changes(["a"]).await[0].len(), 2, "the put and one DONE");
}
