//! What must hold at the end of a run. The rules of every write and every acknowledgement are checked where they happen, in
//! `world`.

use crate::judge;
use crate::scenario::{Repeats, named};
use crate::world::{Reason, World};
use notification::testing::Item;
use notification::{Guarantee, Status};
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
        let same = item.is_some_and(|item| judge::same(&item.event, &message.body));
        let is_accepted = same && world.reason_of(&message.body) != Reason::Malformed;
        if !is_dead && !is_accepted {
            violations.push(format!("a message of {:?} is lost: neither accepted nor a dead letter", message.id));
        }
        if is_dead && same && world.scenario.is_healthy() {
            violations.push(format!("{} was accepted and is a dead letter, and nothing went wrong", message.id));
        }
    }
    for (id, item) in &items {
        violations.extend(item_is_settled(world, id, item));
        violations.extend(event_is_accepted(world, id, item));
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
    violations.extend(world.unseen());
    violations.extend(world.letters_left());
    if world.scenario.is_healthy() {
        violations.extend(healthy(world, &items));
    }
    violations
}

fn item_is_settled(world: &World, id: &str, item: &Item) -> Option<String> {
    let status = item.status;
    let is_foreign = id.starts_with(notification::id::QUARANTINE_PREFIX);
    let is_refused = world.was_refused(id) || world.receiver.refused.contains(id);
    let is_exact = !world.scenario.has_changing_rules();
    match status {
        Status::Init | Status::Claimed => Some(format!("{id} is {status} for ever")),
        Status::Failed if !is_foreign && !is_refused => {
            let reason = item.reason.as_deref().unwrap_or_default();
            Some(format!("{id} is FAILED, and nobody refused it: {reason}"))
        }
        Status::InDoubt if world.guarantees.iter().all(|guarantee| *guarantee == Guarantee::Transactional) => {
            Some(format!("{id} is IN_DOUBT, which a transactional notification never is"))
        }
        Status::InDoubt if is_exact && !world.doubts.ids.contains(id) => {
            Some(format!("{id} is IN_DOUBT, and everybody could tell"))
        }
        Status::InDoubt
            if is_exact && matches!(world.scenario.guarantee, Guarantee::Idempotent { .. }) && !is_refused =>
        {
            Some(format!("{id} is IN_DOUBT, and the receiver refused no call of it"))
        }
        Status::Done if world.was_refused(id) => Some(format!("{id} is DONE, and the business refused it")),
        _ => None,
    }
}

/// Whatever arrives in Kinesis, a notification keeps an event that upstream sent.
fn event_is_accepted(world: &World, id: &str, item: &Item) -> Option<String> {
    let is_sent = world.scenario.messages.iter().any(|message| message.id == id && message.body == item.event);
    let is_orphan = id.starts_with(notification::id::QUARANTINE_PREFIX);
    (!is_sent && !is_orphan).then(|| format!("{id} has an event that nobody sent"))
}

/// How often the effect of a notification happened, in the table and outside.
pub(crate) fn effects(world: &World, id: &str) -> usize {
    committed(world, id) + world.effects.get(id).copied().unwrap_or(0)
}

/// How often the effect of a notification was committed together with DONE.
fn committed(world: &World, id: &str) -> usize {
    usize::from(world.table.others().contains_key(&format!("ledger/{id}")))
}

/// Whatever the guarantee was in the course of the run: an effect that happens at most once, or together with DONE, happens once in
/// all; calls of an idempotent action may come on top if the guarantee was changed while they ran.
fn effect_is_as_promised(world: &World, id: &str, item: &Item) -> Option<String> {
    let status = item.status;
    let (committed, all) = (committed(world, id), effects(world, id));
    let once = committed + world.effects_at_most_once.get(id).map_or(0, Vec::len);
    let may_repeat = world.guarantees.iter().any(|guarantee| matches!(guarantee, Guarantee::Idempotent { .. }))
        && world.scenario.receiver.repeats == Repeats::MadeAgain;
    // Only a receiver that refuses the repeat of a call that succeeded says no after an effect.
    let is_explained = world.scenario.receiver.repeats == Repeats::Refused
        && (world.doubts.not_noted.contains(id) || world.observed.late_effects.contains(id));
    let wrong = match status {
        Status::Done => all == 0 || (all > 1 && !may_repeat),
        Status::Failed => all != 0 && !is_explained,
        Status::Init | Status::Claimed | Status::InDoubt => committed != 0,
    };
    let guarantees: Vec<&str> = world.guarantees.iter().map(|guarantee| named(*guarantee)).collect();
    (wrong || once > 1)
        .then(|| format!("{id} is {status} and its effect happened {all} times, {}", guarantees.join(", then ")))
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
