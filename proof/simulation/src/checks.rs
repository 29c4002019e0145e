//! What must hold at the end of a run. The rules of every write and every acknowledgement are checked where they happen, in
//! `world`.

use crate::scenario::{SLOW_ACTION, named};
use crate::world::World;
use notification::testing::Item;
use notification::{Guarantee, Notification, Status, content};
use std::collections::{BTreeMap, HashSet};

/// What holds for every deployment: nothing that was accepted is lost.
pub(crate) fn at_the_end(world: &World) -> Vec<String> {
    let mut violations = Vec::new();
    if let Some(message) = world.upstream.queue.messages().next() {
        violations.push(format!("message {} is still in the queue", message.number));
    }
    violations
}

/// What the real pipeline promises.
pub(crate) fn pipeline(world: &World) -> Vec<String> {
    let mut violations = Vec::new();
    let items = world.every_item();
    let dead: HashSet<&str> = world.upstream.dead.messages().map(|message| message.body.as_str()).collect();

    for message in &world.scenario.messages {
        let is_dead = dead.contains(message.body.as_str());
        let item = items.get(message.id.as_str());
        let same = item.is_some_and(|item| content::same(&item.event, &message.body));
        let is_valid = Notification::parse(message.body.as_str()).is_ok();
        let is_accepted = is_valid && same;
        if !is_dead && !is_accepted {
            violations.push(format!("a message of {:?} is lost: neither accepted nor a dead letter", message.id));
        }
        if is_dead && same && world.scenario.is_healthy() {
            violations.push(format!("{} was accepted and is a dead letter, and nothing went wrong", message.id));
        }
    }
    for (id, item) in &items {
        violations.extend(item_is_settled(world, id, item));
        violations.extend(effect_is_as_promised(world, id, item));
        let done = world.done.get(*id).copied().unwrap_or(0);
        if done > 1 {
            violations.push(format!("{id} became DONE {done} times"));
        }
    }
    for id in world.effects.keys().filter(|id| !items.contains_key(id.as_str())) {
        violations.push(format!("the effect of {id} happened, and the table does not know it"));
    }
    let kept = items.keys().filter(|id| id.starts_with(notification::id::QUARANTINE_PREFIX)).count();
    if kept + world.kinesis.lost_foreign < world.foreign {
        violations.push(format!("{} orphans arrived, and only {kept} were quarantined", world.foreign));
    }
    if world.scenario.is_healthy() {
        violations.extend(healthy(world, &items));
    }
    violations
}

fn item_is_settled(world: &World, id: &str, item: &Item) -> Option<String> {
    let status = item.status;
    let is_foreign = id.starts_with(notification::id::QUARANTINE_PREFIX);
    let is_rejected = world.scenario.rejected.contains(id);
    match status {
        Status::Init | Status::Claimed => Some(format!("{id} is {status} for ever")),
        Status::Failed if !is_foreign && !is_rejected => {
            let reason = item.reason.as_deref().unwrap_or_default();
            Some(format!("{id} is FAILED, and nobody refused it: {reason}"))
        }
        Status::InDoubt if !matches!(world.scenario.guarantee, Guarantee::AtMostOnce { .. }) => {
            Some(format!("{id} is IN_DOUBT, which only an action at most once may be"))
        }
        Status::InDoubt if !world.doubtful.contains(id) && world.scenario.action_takes < SLOW_ACTION => {
            Some(format!("{id} is IN_DOUBT, and everybody could tell"))
        }
        Status::Done if is_rejected => Some(format!("{id} is DONE, and the business refused it")),
        _ => None,
    }
}

/// How often the effect of a notification happened.
pub(crate) fn effects(world: &World, id: &str) -> usize {
    match world.scenario.guarantee {
        Guarantee::Transactional => usize::from(world.table.others().contains_key(&format!("ledger/{id}"))),
        _ => world.effects.get(id).copied().unwrap_or(0),
    }
}

fn effect_is_as_promised(world: &World, id: &str, item: &Item) -> Option<String> {
    let (status, guarantee) = (item.status, world.scenario.guarantee);
    let effects = effects(world, id);
    let wrong = match (guarantee, status) {
        (Guarantee::Transactional | Guarantee::AtMostOnce { .. }, Status::Done) => effects != 1,
        (Guarantee::Transactional, _) | (_, Status::Failed) => effects != 0,
        (Guarantee::Idempotent { .. }, Status::Done) => effects == 0,
        (Guarantee::AtMostOnce { .. }, _) => effects > 1,
        (Guarantee::Idempotent { .. }, _) => false,
    };
    wrong.then(|| format!("{id} is {status} and its effect happened {effects} times, {}", named(guarantee)))
}

/// If nothing goes wrong, nothing is done twice and nothing needs the sweep.
fn healthy(world: &World, items: &BTreeMap<&str, &Item>) -> Vec<String> {
    let mut violations = Vec::new();
    for (id, item) in items {
        if id.starts_with(notification::id::QUARANTINE_PREFIX) {
            continue;
        }
        let published = world.kinesis.shards.count(id);
        if published != 1 {
            violations.push(format!("{id} was published {published} times, and nothing went wrong"));
        }
        let effects = world.effects.get(*id).copied().unwrap_or(0);
        if effects > 1 {
            violations.push(format!("the effect of {id} happened {effects} times, and nothing went wrong"));
        }
        if item.status == Status::InDoubt {
            violations.push(format!("{id} is IN_DOUBT, and nothing went wrong"));
        }
    }
    if world.seen.contains_key("the sweep publishes something again") {
        violations.push("the sweep was needed, and nothing went wrong".to_owned());
    }
    violations
}
