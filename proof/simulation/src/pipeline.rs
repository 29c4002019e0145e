//! The deployment that is simulated: the real handlers.

use crate::action::SimulatedAction;
use crate::aws::lambda::Invocation;
use crate::aws::source::Function;
use crate::mutants;
use crate::ports::Ports;
use crate::run::{Deployment, Subject, Work};
use crate::template::Deployed;
use crate::world::{Wiring, World, lock};
use downstream::Downstream;
use ingest::Ingest;
use notification::ports::{DownstreamTable, PendingTable, Queue, Stream};
use notification::{Clock, Deadline};
use publisher::Publisher;
use publisher::sweep::Sweep;

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
        Wiring { reads_table_stream: true, hands_over: true, adapters: false, adapter_bug: None }
    }

    fn invoke(&self, invocation: Invocation, ports: Ports) -> Work {
        let backends = Backends { table: ports.clone(), queue: ports.clone(), stream: ports.clone() };
        Box::pin(handle(invocation, ports, backends))
    }

    fn check(&self, world: &World) -> Vec<String> {
        crate::checks::pipeline(world)
    }
}

/// What the functions of one invocation call.
pub(crate) struct Backends<T, Q, S> {
    pub(crate) table: T,
    pub(crate) queue: Q,
    pub(crate) stream: S,
}

/// Runs a function.
pub(crate) async fn handle<T: DownstreamTable + PendingTable, Q: Queue, S: Stream>(
    invocation: Invocation,
    ports: Ports,
    backends: Backends<T, Q, S>,
) -> Result<String, String> {
    let Invocation { task, function, payload, deadline } = invocation;
    let (guarantee, sweep_age, mutant) = {
        let world = lock(ports.world());
        let guarantee = world.running.get(&task).map_or(world.guarantee, |running| running.guarantee);
        (guarantee, world.deployed.sweep_age, world.mutant)
    };
    let deadline = mutants::deadline(mutant, Deadline::at(ports.deadline(deadline)));
    let read = |error: serde_json::Error| error.to_string();
    match function {
        Function::Ingest => {
            let ingest = Ingest::new(backends.table, backends.queue, ports);
            let envelope = serde_json::from_str(&payload).map_err(read)?;
            let response = ingest.handle(envelope, deadline).await.map_err(|error| error.to_string())?;
            serde_json::to_string(&response).map_err(read)
        }
        Function::Publisher => {
            let publisher = Publisher::new(backends.stream, ports);
            let sweep = Sweep::new(backends.table, sweep_age);
            let event = serde_json::from_str(&payload).map_err(read)?;
            let response =
                publisher::handle(&publisher, &sweep, event, deadline).await.map_err(|error| error.to_string())?;
            serde_json::to_string(&response).map_err(read)
        }
        Function::Downstream => {
            let (clock, began) = (ports.clone(), ports.now());
            let action = SimulatedAction::new(guarantee, ports.clone()).await?;
            let downstream = Downstream::new(backends.table, ports, action);
            let envelope = serde_json::from_str(&payload).map_err(read)?;
            let invocation = notification::Invocation { deadline, request_id: format!("request-{task}") };
            let response = downstream.handle(envelope, invocation).await.map_err(|error| error.to_string())?;
            let lasted = clock.now().duration_since(began);
            let is_late = lasted * 2 > deadline.time().duration_since(began);
            Ok(mutants::response(mutant, serde_json::to_string(&response).map_err(read)?, is_late))
        }
    }
}
