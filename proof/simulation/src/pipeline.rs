//! The deployment that is simulated: the real handlers.

use crate::aws::lambda::Invocation;
use crate::aws::source::Function;
use crate::mutants;
use crate::ports::Ports;
use crate::rng;
use crate::run::{Deployment, Subject, Work};
use crate::scenario::{SLOW_FOR, START};
use crate::template::Deployed;
use crate::world::{EFFECT, Flight, Wiring, World, lock};
use downstream::Downstream;
use ingest::Ingest;
use notification::ports::Table;
use notification::testing::{Call, Calls};
use notification::{Action, ActionError, Change, Clock, Deadline, Effect, Guarantee, Notification, Put};
use publisher::Publisher;
use publisher::sweep::Sweep;
use std::time::Duration;

/// Ingest, publisher and downstream as they are deployed.
#[derive(Debug)]
pub(crate) struct Pipeline;

impl<'a> Subject<'a> {
    /// The real handlers, with these settings.
    #[must_use]
    pub fn new(deployed: &'a Deployed) -> Self {
        Self { deployment: &Pipeline, deployed, mutant: None }
    }
}

impl Deployment for Pipeline {
    fn wiring(&self) -> Wiring {
        Wiring { reads_table_stream: true, hands_over: true }
    }

    fn invoke(&self, invocation: Invocation, ports: Ports) -> Work {
        Box::pin(handle(invocation, ports))
    }

    fn check(&self, world: &World) -> Vec<String> {
        crate::checks::pipeline(world)
    }
}

async fn handle(invocation: Invocation, ports: Ports) -> Result<String, String> {
    let Invocation { task, function, payload, deadline } = invocation;
    let (guarantee, sweep_age, mutant) = {
        let world = lock(ports.world());
        (world.scenario.guarantee, world.deployed.sweep_age, world.mutant)
    };
    let deadline = mutants::deadline(mutant, Deadline::at(ports.local(deadline)));
    let read = |error: serde_json::Error| error.to_string();
    match function {
        Function::Ingest => {
            let ingest = Ingest::new(ports.clone(), ports.clone(), ports);
            let envelope = serde_json::from_str(&payload).map_err(read)?;
            let response = ingest.handle(envelope, deadline).await.map_err(|error| error.to_string())?;
            serde_json::to_string(&response).map_err(read)
        }
        Function::Publisher => {
            let publisher = Publisher::new(ports.clone(), ports.clone());
            let sweep = Sweep::new(ports, sweep_age);
            let event = serde_json::from_str(&payload).map_err(read)?;
            let response =
                publisher::handle(&publisher, &sweep, event, deadline).await.map_err(|error| error.to_string())?;
            serde_json::to_string(&response).map_err(read)
        }
        Function::Downstream => {
            let (clock, began) = (ports.clone(), ports.now());
            let action = SimulatedAction { ports: ports.clone(), guarantee };
            let downstream = Downstream::new(ports.clone(), ports, action);
            let envelope = serde_json::from_str(&payload).map_err(read)?;
            let invocation = notification::Invocation { deadline, request_id: format!("request-{task}") };
            let response = downstream.handle(envelope, invocation).await.map_err(|error| error.to_string())?;
            let lasted = clock.now().duration_since(began);
            let is_late = lasted * 2 > deadline.time().duration_since(began);
            Ok(mutants::response(mutant, serde_json::to_string(&response).map_err(read)?, is_late))
        }
    }
}

/// Puts an entry into a second table, or calls a receiver.
struct SimulatedAction {
    ports: Ports,
    guarantee: Guarantee,
}

impl Action for SimulatedAction {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let _in_flight = self.ports.in_flight(Flight::Action);
        let id = notification.id().to_string();
        let (rejected, mutant, takes) = {
            let world = lock(self.ports.world());
            let most = u64::try_from(world.scenario.action_takes.as_millis()).unwrap_or(0);
            // Calls that take longer than an invocation come to an end.
            let most = if world.now > START + SLOW_FOR { most.min(1_000) } else { most };
            let takes = rng::of(world.scenario.seed, &id).u64(0..=most);
            (world.scenario.rejected.contains(&id), world.mutant, Duration::from_millis(takes))
        };
        if rejected {
            return Err(mutants::rejection(mutant, "the business refuses it".to_owned()));
        }
        if self.guarantee == Guarantee::Transactional {
            let event = notification.event().to_owned();
            let attributes = vec![("id", id.clone()), ("event", event)];
            let entry = Put { table: "ledger".to_owned(), key: "id", attributes };
            if !mutants::splits_transactions(mutant) {
                return Ok(Effect { outcome: None, writes: vec![entry] });
            }
            let write = Call::new("write the effect of", [&id]);
            let replaces = self.ports.call(write, move |world, _| Ok(world.table.put(&entry))).await;
            if replaces.map_err(|failure| mutants::action_error(mutant, failure))? {
                return Err(ActionError::Rejected("an item of the effect exists already".to_owned()));
            }
            return Ok(Effect::default());
        }
        if mutants::writes_done_first(mutant) {
            let done = Change::done(notification.id(), notification.event(), None);
            drop(self.ports.write(&[done], self.ports.now()).await);
        }
        if takes > self.guarantee.timeout() && mutants::has_timeout(mutant) {
            self.ports.sleep(self.guarantee.timeout()).await;
            return Err(ActionError::MayHaveHappened("no answer in time".to_owned()));
        }
        self.ports.sleep(takes).await;
        let event = notification.event().to_owned();
        let called = self.ports.call(Call::new(EFFECT, [&id]), move |world, _| {
            world.check_content(&id, &event);
            *world.effects.entry(id.clone()).or_default() += 1;
            Ok(())
        });
        called.await.map_err(|failure| mutants::action_error(mutant, failure))?;
        Ok(Effect::default())
    }
}
