//! A write that took place and whose reply was lost: the SDK repeats it, and the repeat changes nothing.

use crate::items::{BEFORE, NOW, at, event, id, inserted, item, notification};
use crate::world::World;
use aws::DynamoTable;
use aws_sdk_dynamodb::config::ConfigBag;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodb::config::{Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::{Client, Config};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use notification::Change;
use notification::change::{After, Before, Commit};
use notification::ports::{DownstreamTable, Table, TableReader, Written};
use notification::{Effect, Put};
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes the first reply of a client a 503.
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

/// The world's table, by a client whose first reply is lost.
fn table(world: &World) -> DynamoTable {
    let config = Config::from(&world.sdk).to_builder().interceptor(FirstReplyLost::default()).build();
    DynamoTable::new(Client::from_conf(config), world.table_name.clone())
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn an_insert_is_repeated_as_a_duplicate_of_itself() {
    let world = World::new().await;
    let a = notification("a");
    let answers = table(&world).insert(&[&a], at(BEFORE)).await.unwrap();
    assert!(matches!(answers[..], [Ok(Insertion::Exists(_))]), "{answers:?}");
    assert_eq!(world.get("a").await, Some(inserted(&a)));
    assert_eq!(world.changes(["a"]).await[0].len(), 1);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_change_is_repeated_is_refused_and_recognises_its_own_result() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    for to in [After::Done(None), After::Failed("no"), After::InDoubt("who knows"), After::UnknownCall] {
        world.put([inserted(&notification("a"))]).await;
        let change = Change { id: &a, from: Before::Untouched(&event), to };
        let answers = table(&world).change(&[change], at(NOW)).await.unwrap();
        let [Ok(Changed::No(Some(stored)))] = &answers[..] else { panic!("{answers:?}") };
        assert!(change.has_made(stored, at(NOW)), "{stored:?}");
        assert!(!change.has_made(stored, at(BEFORE)) || matches!(to, After::UnknownCall), "{stored:?}");
    }
}

/// By its token, the repeat is the same transaction.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_transaction_is_repeated_under_its_token_and_succeeds_once() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let attributes = vec![("id", "a".to_owned())];
    let write = Put { table: world.effects.clone(), key: "id", attributes };
    let effect = Effect { outcome: None, writes: vec![write] };
    let commit = Commit { id: a.id(), event: a.event(), effect: &effect };
    assert_eq!(table(&world).commit(&[commit], at(NOW)).await, Ok(()));
    assert_eq!(world.effect("a").await, Some(item([("id", "a".to_owned())])));
    assert!(matches!(world.table.read(&[a.id()]).await.unwrap()[..], [Ok(Some(_))]));
    assert_eq!(world.changes(["a"]).await[0].len(), 2, "the put and one DONE");
}
