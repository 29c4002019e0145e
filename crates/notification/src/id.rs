//! The notification id: the CloudEvents `id`, and the idempotency key of the whole pipeline.

use crate::limits;
use crate::text::has_forbidden;
use std::fmt;

/// Prefix of the ids of quarantined orphans (`kinesis:<shard>:<sequence number>`). No notification may have it, because it
/// could collide with such an item.
pub const QUARANTINE_PREFIX: &str = "kinesis:";

/// The id of the item that stores the state of the sweep. No notification may have it either.
pub const SWEEP_CURSOR_ID: &str = "sweep:cursor";

/// Prefixes that no notification id may have.
const RESERVED_PREFIXES: [&str; 2] = [QUARANTINE_PREFIX, "sweep:"];

/// A valid notification id: 1 to [`limits::ID_MAX_CHARS`] characters that CloudEvents allows, without a reserved prefix.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(Box<str>);

impl NotificationId {
    /// Checks `id`.
    ///
    /// # Errors
    /// An [`InvalidId`] that says which rule `id` breaks.
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        if id.is_empty() {
            return Err(InvalidId::Empty);
        }
        // Kinesis says "Unicode characters". A character beyond the basic plane may count as two there, so it does here.
        let chars = id.encode_utf16().count();
        if chars > limits::ID_MAX_CHARS {
            return Err(InvalidId::TooLong { chars });
        }
        if has_forbidden(id) {
            return Err(InvalidId::ForbiddenCharacter);
        }
        if RESERVED_PREFIXES.iter().any(|prefix| id.starts_with(prefix)) {
            return Err(InvalidId::ReservedPrefix);
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition of the index of pending notifications that contains this id: below [`limits::PENDING_SHARDS`].
    #[must_use]
    pub fn pending_shard(&self) -> u64 {
        index_shard(&self.0)
    }
}

/// The partition of the table's indexes that contains an item with this id: below [`limits::PENDING_SHARDS`]. It is stored, so
/// this hash must never change: FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[must_use]
pub fn index_shard(id: &str) -> u64 {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash % limits::PENDING_SHARDS
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotificationId({})", self.0)
    }
}

/// Which rule an id breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// CloudEvents: the id must be a non-empty string.
    #[error("the id is empty")]
    Empty,
    /// It is too long for a Kinesis partition key.
    #[error("the id has {chars} characters; at most {max} are allowed", max = limits::ID_MAX_CHARS)]
    TooLong {
        /// How many it has.
        chars: usize,
    },
    /// CloudEvents forbids these characters in strings.
    #[error("the id has a control character or a noncharacter")]
    ForbiddenCharacter,
    /// The id could collide with an item that is not a notification.
    #[error("the id begins with one of the reserved prefixes {RESERVED_PREFIXES:?}")]
    ReservedPrefix,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, expected: Option<&InvalidId>) {
        assert_eq!(NotificationId::parse(id).err().as_ref(), expected, "{id:?}");
    }

    #[test]
    fn an_id_has_1_to_256_allowed_characters_and_no_reserved_prefix() {
        check("rfd-000001", None);
        check("ü/日本 x", None);
        check(&"ü".repeat(256), None);
        check(&"😀".repeat(128), None);
        check(&"😀".repeat(129), Some(&InvalidId::TooLong { chars: 258 }));
        check(&"x".repeat(257), Some(&InvalidId::TooLong { chars: 257 }));
        check("", Some(&InvalidId::Empty));
        check("a\nb", Some(&InvalidId::ForbiddenCharacter));
        check("a\u{ffff}b", Some(&InvalidId::ForbiddenCharacter));
        check("kinesis:shardId-000000000000:1", Some(&InvalidId::ReservedPrefix));
        check(SWEEP_CURSOR_ID, Some(&InvalidId::ReservedPrefix));
    }

    #[test]
    fn an_id_is_displayed_as_it_is() {
        let id = NotificationId::parse("rfd-1").unwrap();
        assert_eq!(format!("{id} {id:?}"), "rfd-1 NotificationId(rfd-1)");
    }

    #[test]
    fn ids_spread_evenly_over_the_partitions_of_the_pending_index() {
        let mut counts = vec![0; usize::try_from(limits::PENDING_SHARDS).unwrap()];
        for n in 0..32_000 {
            let id = NotificationId::parse(&format!("rfd-{n:06}")).unwrap();
            counts[usize::try_from(id.pending_shard()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_partition_of_an_id_never_changes() {
        let shard = |id| NotificationId::parse(id).unwrap().pending_shard();
        assert_eq!((shard("a"), shard("rfd-000001")), (12, 17));
    }
}
