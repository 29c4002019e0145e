//! The ports of the real handlers: calls to a world in which each can fail.

use crate::aws::lambda::Task;
use crate::rng;
use crate::world::{Flight, Shared, World, lock};
use jiff::Timestamp;
use notification::testing::{Call, Calls, Refused};
use notification::{Clock, Failure};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The ports of one invocation.
#[derive(Clone)]
pub(crate) struct Ports {
    world: Shared,
    task: Task,
    /// The difference between its clock and the world's, in milliseconds.
    skew_millis: i64,
}

impl Ports {
    pub(crate) fn new(world: Shared, task: Task) -> Self {
        let (seed, most) = {
            let world = lock(&world);
            (world.scenario.seed, world.scenario.clock_skew_millis)
        };
        let skew_millis = rng::numbered(seed, "skew", task).i64(-most..=most);
        Self { world, task, skew_millis }
    }

    /// A time as this instance's clock has it. Lambda takes deadlines from the same clock.
    pub(crate) fn local(&self, time: Timestamp) -> Timestamp {
        time.saturating_add(jiff::SignedDuration::from_millis(self.skew_millis)).unwrap_or(Timestamp::MAX)
    }

    /// Counts a call or an action as in flight, until what is returned is dropped.
    pub(crate) fn in_flight(&self, flight: Flight) -> InFlight {
        lock(&self.world).begins(self.task, flight);
        InFlight { world: Arc::clone(&self.world), task: self.task, flight }
    }

    pub(crate) fn world(&self) -> &Shared {
        &self.world
    }
}

/// A call or an action in flight. It ends when its caller has the answer, or gives up.
pub(crate) struct InFlight {
    world: Shared,
    task: Task,
    flight: Flight,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.world).has_ended(self.task, self.flight);
    }
}

impl Calls for Ports {
    type Backend = World;

    async fn call<R: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnMut(&mut World, Refused<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let _in_flight = self.in_flight(Flight::Call);
        let (reply, answer) = oneshot::channel();
        lock(&self.world).call(self.task, call, effect, reply);
        match answer.await {
            Ok(answer) => answer,
            // The process is dead, or no reply will ever come.
            Err(_) => pending().await,
        }
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        let now = lock(&self.world).now;
        self.local(now)
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        lock(&self.world).after(duration, move |_| {
            // The sleeper may be gone.
            let _ = wake.send(());
        });
        drop(woken.await);
    }
}
