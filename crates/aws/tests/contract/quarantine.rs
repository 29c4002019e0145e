//! Kinesis records that belong to no notification.

use crate::items::{BEFORE, NOW, at, item};
use crate::world::{World, eventually};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::id::index_shard;
use notification::ports::{DownstreamTable, Orphan, PendingTable};
use notification::report::Identifier;
use notification::{Status, limits};

const ID: &str = "kinesis:shardId-000000000001:49";

/// How many FAILED items are in the index partition of [`ID`].
async fn unresolved(world: &World) -> usize {
    world.table.count_unresolved(Status::Failed, index_shard(ID), at(BEFORE), 10).await.unwrap().count
}

#[tokio::test]
async fn an_orphan_is_quarantined_once_as_failed_with_as_many_of_its_bytes_as_an_item_holds() {
    let sequence_number = Identifier::parse(Some("49")).unwrap();
    for raw in [vec![], vec![0, 0xFF, b'\''], vec![0xFF; 1024 * 1024]] {
        let world = World::new().await;
        let orphan = Orphan { shard: "shardId-000000000001", sequence_number: &sequence_number, raw: &raw };
        let reason = "é".repeat(limits::REASON_MAX_BYTES);
        assert_eq!(world.table.quarantine(orphan, &reason, at(BEFORE)).await, Ok(()));
        assert_eq!(world.table.quarantine(orphan, "another reason", at(NOW)).await, Ok(()), "a second time");

        let mut expected = item([
            ("id", ID.to_owned()),
            ("status", "FAILED".to_owned()),
            ("raw_bytes", raw.len().to_string()),
            ("reason", "é".repeat(limits::REASON_MAX_BYTES / 2)),
            ("reason_code", "orphan".to_owned()),
            ("failed_at", BEFORE.to_owned()),
            ("unresolved_partition", format!("FAILED#{}", index_shard(ID))),
            ("unresolved_since", BEFORE.to_owned()),
        ]);
        let kept = &raw[..raw.len().min(limits::RAW_KEPT_MAX_BYTES)];
        expected.insert("raw".to_owned(), AttributeValue::B(Blob::new(kept)));
        assert_eq!(world.get(ID).await, Some(expected.clone()));
        eventually(1, async || unresolved(&world).await).await;
        assert_eq!(world.changes([ID]).await, [[(None, Some(expected))]]);
    }
}
