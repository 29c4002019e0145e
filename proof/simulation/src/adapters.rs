//! The real adapters and the real SDK in the simulation. Each invocation has SDK clients with the settings of the functions;
//! only their HTTP connector, their clock and their sleep are the world's. So statements, conditions, signatures,
//! serialisation, retries, backoff, time-outs and the error classifier are those that are deployed, and the world answers
//! HTTP requests in virtual time.
//!
//! | file | concern |
//! |---|---|
//! | `sdk` | the SDK's clients of one invocation |
//! | `request` | what a request is about |
//! | `wire` | requests in the world, and their faults |
//! | `cloud` | the model of AWS in the world: what requests change, handed to the streams |
//! | `oracle` | what must hold for every change of an item, whoever made it |
//! | [`bugs`] | bugs of adapters, put back by changing requests and answers on their way |

pub mod bugs;
mod cloud;
mod oracle;
mod request;
mod sdk;
mod wire;

use crate::aws::lambda::Invocation;
use crate::pipeline::{Backends, handle};
use crate::ports::Ports;
use crate::run::{Deployment, Subject, Work};
use crate::template::Deployed;
use crate::world::{Wiring, World};
pub use bugs::AdapterBug;
pub(crate) use cloud::Cloud;
use jiff::Timestamp;
use sdk::Sdk;

/// Ingest, publisher and downstream with the adapters of `crates/aws`.
#[derive(Debug)]
pub(crate) struct ThroughAdapters {
    /// The bug that is put back.
    pub(crate) bug: Option<AdapterBug>,
}

impl<'a> Subject<'a> {
    /// The real handlers with the real adapters, with these settings.
    #[must_use]
    pub fn through_adapters(deployed: &'a Deployed) -> Self {
        Self { deployment: &ThroughAdapters { bug: None }, ..Self::new(deployed) }
    }

    /// The same with a bug that is put back.
    #[must_use]
    pub fn with_adapter_bug(self, bug: AdapterBug) -> Self {
        Self { deployment: bug.deployment(), ..self }
    }
}

impl Deployment for ThroughAdapters {
    fn wiring(&self) -> Wiring {
        Wiring { reads_table_stream: true, hands_over: true, adapters: true, adapter_bug: self.bug }
    }

    fn invoke(&self, mut invocation: Invocation, ports: Ports) -> Work {
        // Lambda states a deadline in whole milliseconds, and the table keeps the times that follow from it as such:
        // https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
        invocation.deadline =
            Timestamp::from_millisecond(invocation.deadline.as_millisecond()).unwrap_or(invocation.deadline);
        let sdk = Sdk::of(&ports, invocation.task);
        let backends = Backends { table: sdk.table(), queue: sdk.queue(), stream: sdk.stream() };
        Box::pin(handle(invocation, ports, backends))
    }

    fn check(&self, world: &World) -> Vec<String> {
        crate::checks::pipeline(world)
    }
}
